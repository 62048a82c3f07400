"""Prices of whole models: their parts, their sums, and public facts about their shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.blocks import BlockPlan, block, decoder_block
from protocols.feed_forward import FeedForwardPlan, feed_forward
from protocols.generation import next_token
from protocols.he.packing import ShapeDoesNotFit, key_set
from protocols.he.params import PARAM_SETS
from protocols.model.checkpoint.layouts import CheckpointConfig, Fields
from protocols.model.config import ConfigError
from protocols.model.tables import SILU_MINIMAX
from protocols.norms import rms_norm
from protocols.ot.service import provision_cost
from protocols.pricing.configured import shape_from_config
from protocols.pricing.operators import DENSE, OPERATORS, SHARED, Operators
from protocols.pricing.priced import Priced
from protocols.pricing.published import EXPERTS
from protocols.pricing.shapes import SHAPES, SPARSE, ModelShape
from secmoe.priced_models import sparse_protocols
from sim.shapes import blank

P64S = PARAM_SETS["P64s"]
PROTOCOLS = sparse_protocols()
# As published, by number of experts.
SIZES = {
    "switch-base": (128, 7.4e9),
    "moe-small": (8, 124e6),
    "mixtral-8x7b": (8, 46.7e9),
    "olmoe": (64, 6.9e9),
    "deepseekmoe": (64, 16.4e9),
}


def priced(shape: ModelShape, n: int = 8, protocol: str = "secmoe") -> Priced:
    return Priced(Operators(shape, n, P64S, PROTOCOLS[protocol]))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_have_the_published_size(name: str) -> None:
    E, parameters = SIZES[name]
    assert SHAPES[name].with_experts(E).parameters == pytest.approx(parameters, rel=0.01)


def test_an_encoder_block_costs_what_its_protocol_declares() -> None:
    shape = replace(SHAPES["switch-base"], encoder=(SPARSE,), decoder=())
    plan = BlockPlan.switch(P64S, 768, 3072, 8, 12, 8)
    x = blank(plan.states)
    want = block.declared(x, None, None, plan=plan) + rms_norm.declared(x, **plan.norm)
    operators = priced(shape).operators
    assert operators.cost == want and dict(operators.cost.work.counts) == dict(want.work.counts)
    assert set(plan.plans) <= set(operators.plans)


def test_a_decoder_block_costs_what_its_protocol_declares() -> None:
    """Behind an encoder, with the head."""
    shape = replace(SHAPES["switch-base"], encoder=(SPARSE,), decoder=(SPARSE,))
    own, plan = (BlockPlan.switch(P64S, 768, 3072, 8, 12, 4, memory) for memory in (0, 4))
    x = blank(own.states)
    operators = priced(shape, 4).operators
    want = block.declared(x, None, None, plan=own) + rms_norm.declared(x, **own.norm)
    want += decoder_block.declared(x, x, None, None, None, plan=plan)
    want += next_token.declared(x, None, None, plan=operators.head)
    assert operators.cost == want


def test_a_mixtral_block_costs_what_its_protocol_declares() -> None:
    shape = replace(SHAPES["mixtral-8x7b"], decoder=(SPARSE,))
    plan = BlockPlan.mixtral(P64S, 4096, 14336, 8, 32, 8, 2)
    x, operators = blank(plan.states), priced(shape, 2).operators
    want = block.declared(x, None, None, plan=plan) + next_token.declared(x, None, None, plan=operators.head)
    assert operators.cost == want


@pytest.mark.parametrize(
    ("name", "protocol"), sorted({(name, "secmoe") for name in SHAPES} | {("moe-small", name) for name in PROTOCOLS})
)
def test_rows_add_up_to_the_query(name: str, protocol: str) -> None:
    one = priced(SHAPES[name], 8, protocol)
    online = one.online
    for groups in (one.by_operator, one.by_layer):
        assert sum(group.nbytes for group in groups) == online.nbytes
        assert sum(group.extension for group in groups) == one.pool.nbytes
        assert sum(group.total(lambda cost: cost.messages) for group in groups) == online.messages - one.pool.messages
        for figure in ("cot_client", "cot_server"):
            assert sum(group.total(lambda c, f=figure: getattr(c, f)) for group in groups) == getattr(online, figure)
    work: dict[str, int] = {}
    for row in one.rows:
        assert min(row.row.cost.row()) >= 0 and row.extension >= 0
        for kernel, count in row.row.cost.work.counts.items():
            work[kernel] = work.get(kernel, 0) + count
    assert {k: v for k, v in work.items() if v} == dict(one.operators.cost.work.counts)
    found = {row.row.operator for row in one.rows}
    assert [group.name for group in one.by_operator] == [name for name in OPERATORS if name in found]
    assert online == one.pool + one.operators.cost
    amounts = {"cot.client": online.cot_client, "cot.server": online.cot_server}
    assert one.pool == provision_cost(amounts)
    sets = {P64S, one.operators.sparse.params}
    assert {keys.params for keys in one.keys} == sets and one.setup_nbytes > one.keys_nbytes
    for keys in one.keys:
        assert keys == key_set(keys.params, (p for p in one.operators.plans if p.params == keys.params))


def test_traffic_does_not_grow_with_the_experts() -> None:
    """Selection and experts by the one-hot's conversion alone, 64 bits for each expert; the query by 1.05."""
    runs = [priced(SHAPES["switch-base"].with_experts(E)) for E in EXPERTS]
    (first, *_, last) = (
        group.total(lambda cost: cost.nbytes)
        for run in runs
        for group in run.by_operator
        if group.name == "selection and experts"
    )
    layers, tokens = 12, 8
    assert last - first == layers * tokens * (EXPERTS[-1] - EXPERTS[0]) * 64 // 8
    assert runs[-1].online.nbytes <= 1.05 * runs[0].online.nbytes


def test_dense_blocks_and_shared_experts_cost_what_their_protocol_declares() -> None:
    shape = replace(SHAPES["deepseekmoe"], decoder=(96, SPARSE), shared=64)
    operators = priced(shape, 2).operators
    rows = {(row.layer, row.operator): row.cost for row in operators.rows}
    for where, width in ((("decoder 0", DENSE), 96), (("decoder 1", SHARED), 64)):
        plan = FeedForwardPlan(P64S, 2, 2048, width, True, SILU_MINIMAX)
        assert rows[where] == feed_forward.declared(operators.states, None, plan=plan)
        assert set(plan.plans) <= set(operators.plans)


SWITCH_FIELDS: Fields = {
    "model_type": "switch_transformers", "d_model": 768, "d_ff": 3072, "num_experts": 8, "dense_act_fn": "relu",
    "layer_norm_epsilon": 1e-6, "expert_capacity": 64, "num_layers": 12, "num_decoder_layers": 12,
    "encoder_sparse_step": 2, "decoder_sparse_step": 2, "num_heads": 12, "d_kv": 64, "vocab_size": 32128,
}  # fmt: skip
MIXTRAL_FIELDS: Fields = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_local_experts": 8,
    "num_experts_per_tok": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "rope_theta": 1e6,
}  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), [("switch-base", SWITCH_FIELDS), ("mixtral-8x7b", MIXTRAL_FIELDS)])
def test_the_configuration_of_a_checkpoint_is_its_published_shape(name: str, fields: Fields) -> None:
    want, got = SHAPES[name], shape_from_config(fields)
    assert replace(got, name=want.name, source=want.source, experts=want.experts) == want


@pytest.mark.parametrize(
    ("fields", "change", "told"),
    [
        (SWITCH_FIELDS, {"d_kv": 32}, "heads of 768 / 12 words, got 32"),
        (SWITCH_FIELDS, {"num_heads": 0}, "num_heads"),
        (MIXTRAL_FIELDS, {"head_dim": 64}, "got 64"),
        (MIXTRAL_FIELDS, {"rope_theta": "1e6"}, "rope_theta"),
        (MIXTRAL_FIELDS, {"model_type": "bert"}, "model_type"),
    ],
)
def test_a_configuration_that_is_not_built_is_refused(fields: Fields, change: dict[str, object], told: str) -> None:
    with pytest.raises(CheckpointConfig, match=told):
        shape_from_config({**fields, **change})


def test_what_no_parameter_set_holds_is_refused() -> None:
    with pytest.raises(ShapeDoesNotFit, match="take a set with Galois keys"):
        _ = Priced(Operators(SHAPES["switch-base"], 1, PARAM_SETS["P64tiny"], PROTOCOLS["secmoe"])).online
    with pytest.raises(ConfigError):
        SHAPES["olmoe"].with_experts(4)
