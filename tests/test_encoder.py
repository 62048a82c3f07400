"""Attention, embedding and the whole encoder against the independent fixed-point oracle, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.attention import attention
from protocols.attention_plan import AttentionPlan, AttentionWeights, HeadCount
from protocols.embedding import ROWS, EmbeddingPlan, EmbeddingWeights, UnknownInput, embed
from protocols.encoder import CLASS, LOGITS, EncoderPlan, EncoderWeights, UnknownAnswer, encoder, query_epsilon
from protocols.he.noise import EpsilonExhausted
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.model import encoder as oracle
from protocols.model.config import ModelConfig, MoeConfig
from protocols.model.fixed_point import FixedPoint, Words, quantise
from protocols.model.folded import BlockWords, ClientWords, EncoderWords, client_words, fold
from protocols.model.tables import GELU_MINIMAX
from protocols.ot.service import OtService
from secmoe.whole import ModelRun, answer_of, arrays_of
from sim.concrete import from_words, to_words
from sim.message import Message
from sim.ring import Ring
from sim.role import CLIENT, SERVER
from sim.world import Session
from tests.harness import session
from tests.test_model_architecture import random_model

TINY = PARAM_SETS["P64tiny"]
FP = FixedPoint(64, 18)
R64 = Ring(64)
seeds = st.integers(0, 2**32 - 1)


def tiny_model(seed: int, gated: bool = True, k: int = 1) -> Any:
    """A random text model whose residual stream is small."""
    model = random_model(seed, gated, k)
    scaled = {name: value / 4 if "norm" not in name else 1 + value / 8 for name, value in model.parameters.items()}
    return replace(model, parameters=scaled)


def tokens_of(model: Any, real: list[int], padded: int) -> Any:
    ids = np.array([1 + t % (model.config.vocabulary - 1) for t in real] + [0] * padded, dtype=np.int64)
    return ids[: model.config.max_tokens]


# -- the oracle -------------------------------------------------------------------------------------------------------
@given(seed=seeds, real=st.lists(st.integers(0, 100), min_size=1, max_size=4), padded=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_padding_changes_no_bit_of_the_oracle(seed: int, real: list[int], padded: int) -> None:
    model = tiny_model(seed)
    words = fold(model, FP)
    short, long = (client_words(model.config, tokens_of(model, real, n), FP) for n in (0, padded))
    left, right = (oracle.encoder(given, words, model.config, FP) for given in (short, long))
    assert np.array_equal(left.logits, right.logits) and left.label == right.label
    assert np.array_equal(left.stream, right.stream[:, : len(real)])


def attended(mask: Words, causal: bool = False, seed: int = 0, bias: Words | None = None) -> tuple[Words, ...]:
    rng = np.random.default_rng(seed)
    n, d, heads = len(mask), 6, 3
    x, stacked, merging = (quantise(rng.normal(size=shape), FP) for shape in ((n, d), (3 * d, d), (d, d)))
    none = np.zeros(0, np.uint64)
    block = BlockWords(none, stacked, merging, none, None)  # type: ignore[arg-type]  # no sparse layer here
    return oracle.attention(x, mask, block, heads, FP, causal, bias), x, stacked, merging


def test_causal_attention_does_not_see_what_follows() -> None:
    whole, x, *_ = attended(np.zeros(5, np.uint64), causal=True)
    masked, again, *_ = attended(np.array([0, 0, 0, FP.word(-1024 << 18), FP.word(-1024 << 18)], np.uint64))
    assert np.array_equal(x, again)
    assert np.array_equal(whole[2], masked[2])  # the third token sees the first three in both
    assert not np.array_equal(whole[0], masked[0])


@pytest.mark.parametrize("weight", [0.0, 1e-3])
def test_a_norm_without_weight_is_refused(weight: float) -> None:
    model = tiny_model(0)
    model.parameters["final_norm.weight"][2] = weight
    with pytest.raises(ValueError, match=r"final_norm.weight: expected absolute values from 0.00390625"):
        fold(model, FP)


# -- protocols against the oracle, in a hybrid world -------------------------------------------------------------------
def shared(words: Words, seed: int) -> tuple[Any, Any]:
    mine = from_words(R64, np.random.default_rng(seed + 1).integers(0, 2**64 - 1, words.shape, np.uint64))
    return mine, from_words(R64, words) - mine


def prepared(plan: Any, plans: Any) -> Any:
    return session(plans, True).services[1].prepare  # type: ignore[attr-defined]  # the ideal engine


@given(seed=seeds, n=st.integers(2, 4), causal=st.booleans(), biased=st.booleans(), hidden=st.booleans())
@settings(max_examples=8, deadline=None)
@pytest.mark.slow
def test_attention_is_the_oracles(seed: int, n: int, causal: bool, biased: bool, hidden: bool) -> None:
    plan = AttentionPlan(TINY, n, 6, 3, causal, biased)
    mask = np.zeros(n, np.uint64)
    mask[-1] = FP.word(-1024 << 18) if hidden else 0
    bias = quantise(np.random.default_rng(seed).normal(size=(3, n, n)), FP) if biased else None
    want, x, stacked, merging = attended(mask, causal, seed, bias)
    matrices = [FP.signed(w) for w in (stacked, merging, *([] if bias is None else [bias]))]
    weights = AttentionWeights.prepare(prepared(plan, plan.plans), plan, matrices)
    ours, theirs = shared(x, seed)
    run = session(plan.plans, True).run(
        attention, [ours, from_words(R64, mask), None], [theirs, None, weights], plan=plan
    )
    assert np.array_equal(to_words(run.outputs[CLIENT] + run.outputs[SERVER]), want)


def plan_of(config: ModelConfig, n: int, answer: str) -> EncoderPlan:
    activation = GELU_MINIMAX if config.activation == "gelu" else config.activation
    run = ModelRun.of(config, n, answer, TINY, "gelu-minimax", "reassociated")
    assert run.plan.activation == activation
    return run.plan


def inputs_of(plan: EncoderPlan, given: ClientWords, words: EncoderWords, prepare: Any) -> tuple[list[Any], list[Any]]:
    signed = [FP.signed(x) for x in words.named(plan.tokens).values()]
    client = [from_words(R64, x) for x in (given.features, given.mask, given.pooling)]
    return [*client, None], [None, None, None, EncoderWeights.prepare(prepare, plan, signed)]


@given(
    seed=seeds,
    real=st.lists(st.integers(0, 100), min_size=1, max_size=2),
    padded=st.integers(0, 1),
    kind=st.sampled_from([(True, 1), (False, 2)]),
    answer=st.sampled_from([CLASS, LOGITS]),
)
@settings(max_examples=3, deadline=None)
@pytest.mark.slow
def test_the_encoder_is_the_oracles(
    seed: int, real: list[int], padded: int, kind: tuple[bool, int], answer: str
) -> None:
    model = tiny_model(seed, *kind)
    tokens = tokens_of(model, real, padded)
    given, words = client_words(model.config, tokens, FP), fold(model, FP)
    plan = plan_of(model.config, len(tokens), answer)
    inputs = inputs_of(plan, given, words, prepared(plan, plan.plans))
    run = session(plan.plans, True).run(encoder, *inputs, plan=plan)
    trace = oracle.encoder(given, words, model.config, FP)
    assert not to_words(run.outputs[SERVER]).any()
    told = answer_of(run)
    if answer == LOGITS:
        assert np.array_equal(told, trace.logits)
    assert (
        ModelRun.of(model.config, len(tokens), answer, TINY, "gelu-minimax", "reassociated").label(told) == trace.label
    )


def test_a_public_table_is_looked_up_without_a_message() -> None:
    plan = EmbeddingPlan(TINY, 2, 3, 3, ROWS)
    rows, position = quantise(np.ones((2, 3)), FP), np.arange(6).reshape(2, 3)
    weights = EmbeddingWeights.prepare(lambda _, w: from_words(R64, w), plan, [position])
    run = session().run(embed, [from_words(R64, rows), None], [None, weights], plan=plan)
    assert run.messages == ()
    total = to_words(run.outputs[CLIENT] + run.outputs[SERVER])
    assert np.array_equal(total, rows + position.astype(np.uint64))
    assert np.array_equal(to_words(run.outputs[CLIENT]), rows)


# -- the session's budget ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_query_is_charged_what_was_admitted_and_refused_before_its_first_response() -> None:
    model = tiny_model(3, gated=False)
    given, words = client_words(model.config, tokens_of(model, [1], 0), FP), fold(model, FP)
    plan = plan_of(model.config, 1, CLASS)
    service = HeService(plan.plans)
    inputs = inputs_of(plan, given, words, service.prepare)
    cost = query_epsilon(inputs[1][3], plan)
    live = Session((OtService(), service))
    live.run(encoder, *inputs, plan=plan)
    assert live.endpoints[SERVER].states["he"].budget.total == pytest.approx(cost, rel=1e-12)
    sent: list[Message] = []
    poor = Session((OtService(), HeService(plan.plans, cost * 0.99)), on_send=sent.append)
    before = len(sent)
    with pytest.raises(EpsilonExhausted):
        poor.run(encoder, *inputs, plan=plan)
    assert not any(m.label.endswith("h2a/ct") for m in sent[before:])


# -- plans -------------------------------------------------------------------------------------------------------------
def test_plans_that_are_not_built_are_refused() -> None:
    shape = MoeConfig(4, 8, 3)
    with pytest.raises(HeadCount, match="expected heads to divide d = 4, got 3"):
        AttentionPlan(TINY, 2, 4, 3)
    with pytest.raises(UnknownInput, match="got 'ids'"):
        EmbeddingPlan(TINY, 2, 5, 4, "ids")
    with pytest.raises(UnknownInput, match="of width d = 4, got 'rows' of width 5"):
        EmbeddingPlan(TINY, 2, 5, 4, ROWS)
    with pytest.raises(UnknownAnswer, match="expected one of logits, class"):
        EncoderPlan(shape, 2, 5, 1, 2, 3, TINY, GELU_MINIMAX, "one-hot", "words")


def test_the_parties_arrays_hold_their_own_alone() -> None:
    model = tiny_model(1)
    tokens = tokens_of(model, [4, 5], 1)
    run = ModelRun.of(model.config, 3, CLASS, TINY, "gelu-minimax", "reassociated")
    arrays = arrays_of(run, client_words(model.config, tokens, FP), fold(model, FP))
    assert list(arrays[CLIENT]) == ["features", "mask", "pooling"]
    assert arrays[CLIENT]["features"].argmax(axis=1).tolist() == tokens.tolist()
    assert arrays[SERVER]["position"].shape == (3, model.config.d)
    assert not set(arrays[CLIENT]) & set(arrays[SERVER])
