"""A greedy step against the independent oracle, and a whole decoder made of its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.blocks import BlockPlan, BlockWeights, block
from protocols.embedding import ONE_HOT, ROWS, EmbeddingPlan, EmbeddingWeights, embed
from protocols.generation import NextTokenPlan, next_token
from protocols.model.blocks import fold_block, greedy, sparse_block
from protocols.model.fixed_point import dequantise, quantise
from protocols.model.floating_blocks import float_block, rms
from sim.concrete import from_words, to_words
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Z2, RingArray, Spec
from sim.role import CLIENT, SERVER
from sim.world import Execution
from tests.harness import session
from tests.test_blocks import FP, R64, TINY, prepare_of, random_block, seeds, shared


def told(run: Execution, plan: NextTokenPlan) -> int:
    """The client's token; the server has zeros."""
    assert not to_words(run.outputs[SERVER]).any()
    digits = to_words(run.outputs[CLIENT])
    assert run.outputs[CLIENT].spec == plan.digits
    return int((digits[0].astype(np.int64) << np.arange(digits.shape[1])).sum())


def one_hot(at: int, n: int) -> RingArray:
    return from_words(Z2, (np.arange(n) == at).astype(np.uint64))


@given(seed=seeds, n=st.integers(1, 4), vocabulary=st.integers(2, 9), tie=st.booleans(), at=st.integers(0, 3))
@settings(max_examples=6, deadline=None)
@pytest.mark.slow
def test_the_next_token_is_the_oracles(seed: int, n: int, vocabulary: int, tie: bool, at: int) -> None:
    rng = np.random.default_rng(seed)
    plan = NextTokenPlan(TINY, n, 6, vocabulary)
    x, head = quantise(rng.normal(size=(n, 6)), FP), quantise(rng.normal(size=(vocabulary, 6)), FP)
    if tie:
        head[:] = head[0]
    at %= n
    weights = prepare_of(plan.plans)(plan.head, FP.signed(head))
    ours, theirs = shared(x, seed)
    run = session(plan.plans, True).run(next_token, [ours, one_hot(at, n), None], [theirs, None, weights], plan=plan)
    want = greedy(x[at : at + 1], head, plan.epsilon, FP)[1][0]
    assert told(run, plan) == want
    assert not tie or want == 0


# -- a decoder ---------------------------------------------------------------------------------------------------------
N, VOCABULARY = 3, 7
BLOCK = BlockPlan.mixtral(TINY, 8, 16, 4, 4, 2, N)
NEXT = NextTokenPlan(TINY, N, 8, VOCABULARY, epsilon=1e-5)
TOKEN = Functionality("next token of a decoder", lambda: None, leaks_client=("the token",))


@protocol(realises=TOKEN)
async def decoder(p: Party, features: Any, mask: Any, last: Any, weights: Any, *, inputs: EmbeddingPlan) -> RingArray:
    """Embedding, a Mixtral block and a greedy step."""
    first, held, head = (None, None, None) if weights is None else weights
    stream = await block(p, await embed(p, features, first, plan=inputs), mask, held, plan=BLOCK)
    return await next_token(p, stream, last, head, plan=NEXT)


@pytest.mark.parametrize(("kind", "start"), [(ONE_HOT, [4]), (ROWS, [4, 2])])
@pytest.mark.slow
def test_a_decoder_writes_on_as_the_oracle_and_the_float_model_do(kind: str, start: list[int]) -> None:
    """Greedily, up to three tokens, from the client's ids; with a private table, and with a public one."""
    inputs = EmbeddingPlan(TINY, N, VOCABULARY if kind == ONE_HOT else 8, 8, kind)
    rng = np.random.default_rng(3)
    table, head = rng.normal(size=(VOCABULARY, 8)), rng.normal(size=(VOCABULARY, 8))
    parameters, form = random_block(BLOCK, 1)
    words, rows, head_words = fold_block(parameters, form, FP), quantise(table, FP), quantise(head, FP)
    plans = (*inputs.plans, *BLOCK.plans, *NEXT.plans)
    prepare, zero = prepare_of(plans), np.zeros((N, 8), np.int64)
    weights = (
        EmbeddingWeights.prepare(prepare, inputs, [*([FP.signed(rows.T)] if kind == ONE_HOT else []), zero]),
        BlockWeights.prepare(prepare, BLOCK, [FP.signed(w) for w in words.listed()]),
        prepare(NEXT.head, FP.signed(head_words)),
    )
    ids, mask = list(start), np.zeros(N, np.uint64)
    while len(ids) < N:
        padded = [*ids, *[0] * (N - len(ids))]
        features = np.eye(VOCABULARY, dtype=np.uint64)[padded] if kind == ONE_HOT else rows[padded]
        client = [from_words(R64, features), from_words(R64, mask), one_hot(len(ids) - 1, N), None]
        run = session(plans, True).run(decoder, client, [None, None, None, weights], inputs=inputs)
        stream = sparse_block(rows[padded], mask, words, BLOCK.shape, form, FP).output
        logits, index = greedy(stream[len(ids) - 1 : len(ids)], head_words, NEXT.epsilon, FP)
        # Without padding: a causal block does not see it.
        near = float_block(table[ids], np.zeros(len(ids)), parameters, BLOCK.shape, form).output
        real = rms(near[-1:], NEXT.epsilon) @ head.T
        assert np.abs(dequantise(logits, FP) - real).max() < 0.05 < np.diff(np.sort(real[0]))[-1]
        assert told(run, NEXT) == int(index[0]) == int(real.argmax())
        ids.append(int(index[0]))
    assert len(set(ids)) > 1


def test_digits_of_small_vocabularies() -> None:
    assert NextTokenPlan(TINY, 1, 4, 2).digits == Spec(Z2, (1, 1))
    assert NextTokenPlan(TINY, 1, 4, 5).digits == Spec(Z2, (1, 3))
