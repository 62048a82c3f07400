"""Decryption, flooding and the plaintext modulus of every product of a whole shipped model, at its longest input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

from proofs.limits.plans import Use, decryption, flooding, plaintext_modulus, squared_norm
from proofs.limits.row import Bound
from protocols.embedding import ONE_HOT, VALUES
from protocols.encoder import EncoderPlan
from protocols.he.matrices import above
from protocols.he.own import own_norm
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.hidden import RELU
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint, Words
from protocols.model.folded import fold
from protocols.model.store import known_models, load_model

DEFAULT = "P64s"


def model_plan(params: ParamSet, name: str) -> EncoderPlan:
    """The whole model at its longest input; the activation makes no product."""
    config = load_model(name).config
    shape = MoeConfig(config.d, config.f, config.E, config.k, config.gated, "relu", config.renormalise)
    text = config.task == "text"
    features, inputs = (config.vocabulary, ONE_HOT) if text else (config.patch**2, VALUES)
    sizes = (config.max_tokens, features, config.layers, config.heads, len(config.classes))
    return EncoderPlan(shape, *sizes, params, RELU, inputs)


@cache
def model_uses(params: ParamSet, name: str) -> tuple[Use, ...]:
    """Every plan of one query with the folded weights that it meets; the largest of all blocks."""
    plan, fp = model_plan(params, name), FixedPoint(params.ring_bits, params.frac_bits)
    words = fold(load_model(name), fp)

    def use(at: LinearPlan | SelectPlan, rows: int, matrices: list[Words]) -> Use:
        return Use(at, rows, max(squared_norm(at, fp.signed(x)) for x in matrices))

    each, blocks = plan.layer.rows, words.blocks
    found = [use(plan.embedding.product, 1, [words.table])]
    for _ in blocks:
        found += [use(plan.layer.up, each, [above(block.moe.w1, block.moe.v) for block in blocks])]
        found += [
            use(plan.layer.down, each, [block.moe.w2 for block in blocks]),
            use(plan.layer.router, 1, [block.moe.router for block in blocks]),
            use(plan.attention.stacked, 1, [block.stacked for block in blocks]),
            use(plan.attention.merging, 1, [block.merging for block in blocks]),
            *(Use(at, rows, Fraction(own_norm(at))) for at, rows in (*plan.attention.answers, *plan.layer.combining)),
        ]
    return (*found, use(plan.head, 1, [words.head]))


def model_rows() -> Iterator[Bound]:
    """Three rows for each shipped model, at the default parameter set."""
    params = PARAM_SETS[DEFAULT]
    for name in known_models():
        plan, used = model_plan(params, name), list(model_uses(params, name))
        for row in (plaintext_modulus, decryption, flooding):
            bound, _ = row(f"{params.name}, {name}, whole, {plan.tokens} tokens", used)
            yield replace(bound, statement=bound.statement.replace("of up to 8 tokens", f"of {plan.tokens} tokens"))
