"""Rows of whole blocks and models: embedding, attention, blocks, encoder, the next token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from protocols.attention import attention, cross_attention
from protocols.attention_plan import AttentionPlan, AttentionWeights
from protocols.blocks import BlockPlan, BlockWeights, block, decoder_block
from protocols.catalog.examples import R64, owned, word
from protocols.catalog.layers import TINY, matrix, state
from protocols.crossing import CrossingPlan, crossing
from protocols.embedding import ONE_HOT, ROWS, VALUES, EmbeddingPlan, EmbeddingWeights, embed
from protocols.encoder import CLASS, LOGITS, EncoderPlan, EncoderWeights, encoder
from protocols.entry import DECLARED, Case, Entry, Secret, Values
from protocols.generation import NextTokenPlan, next_token
from protocols.model.config import MoeConfig
from protocols.model.tables import GELU_MINIMAX
from sim.ring import Z2
from sim.role import CLIENT


def _small(*shape: int, bits: int = 18) -> Secret:
    """Words of the client's below 2^bits in size."""
    return Secret(R64, shape, CLIENT, -(1 << bits), 1 << bits)


def _embedding_case(inputs: str, n: int, features: int, d: int) -> Case:
    plan = EmbeddingPlan(TINY, n, features, d, inputs)
    table = () if inputs == ROWS else (matrix(d, features),)
    secrets = (owned(CLIENT, R64, n, features), *table, matrix(n, d))
    return Case(
        inputs,
        secrets,
        {"plan": plan},
        plans=(plan.product,),
        prepare=lambda p, w: EmbeddingWeights.prepare(p, plan, w),
    )


def _crossing_case(name: str, plan: CrossingPlan) -> Case:
    secrets = (Secret(R64, (plan.rows, plan.n, plan.m)), Secret(R64, (plan.rows, plan.m, plan.r)))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans)


def _attention_weights(plan: AttentionPlan, bound: int = 1 << 20) -> tuple[Secret, ...]:
    d, pairs = plan.d, 2 * plan.key_heads * plan.width
    bias = [plan.scores.shape] if plan.biased else []
    shapes = [(d if plan.memory else d + pairs, d), (d, d), *bias, *([(pairs, d)] if plan.memory else [])]
    return tuple(matrix(*shape, bound=bound) for shape in shapes)


def _attention_case(name: str, plan: AttentionPlan) -> Case:
    streams = (state(plan.n, plan.d), *([state(plan.memory, plan.d)] if plan.memory else []))
    secrets = (*streams, _small(plan.keys, bits=28), *_attention_weights(plan))
    return Case(
        name, secrets, {"plan": plan}, plans=plan.plans, prepare=lambda p, w: AttentionWeights.prepare(p, plan, w)
    )


def encoder_case(name: str, plan: EncoderPlan) -> Case:
    """A call of a whole model. Weights up to 1/4: the residual stream stays within its reach."""
    n, d, f, E = plan.tokens, plan.shape.d, plan.shape.f, plan.shape.E
    experts = ((E, f, d), (E, f, d), (E, d, f)) if plan.shape.gated else ((E, f, d), (E, d, f))
    block = ((d,), (3 * d, d), (d, d), (d,), (E, d), *experts)
    table = () if plan.inputs == ROWS else ((d, plan.features),)
    weights = (*table, (n, d), *block * plan.layers, (plan.classes, d), (plan.classes,))
    secrets = (
        *(_small(n, plan.features, bits=0 if plan.inputs == ONE_HOT else 18), _small(n, bits=28), _small(n)),
        *(matrix(*shape, bound=1 << 16) for shape in weights),
    )
    return Case(
        name, secrets, {"plan": plan}, plans=plan.plans, prepare=lambda p, w: EncoderWeights.prepare(p, plan, w)
    )


# At so small a reach and so large an epsilon a norm has few octaves, and what it demands of them is proved.
_REACH, _EPSILON = 1, 2.0**-4


def _block_case(name: str, plan: BlockPlan) -> Case:
    """States up to 1/2, weights of attention up to 1/8: the residual stream stays within its reach, below 2."""
    plan = replace(plan, reach=_REACH, epsilon=_EPSILON)
    d, f, E, half, eighth = plan.shape.d, plan.shape.f, plan.shape.E, 1 << 17, 1 << 15
    experts = ((E, f, d), (E, f, d), (E, d, f)) if plan.shape.gated else ((E, f, d), (E, d, f))
    lengths = (plan.tokens, *([plan.memory] if plan.memory else []))
    secrets = (
        *(word(n, d, low=-half, high=half) for n in lengths),
        *(_small(n, bits=28) for n in lengths),
        *_attention_weights(plan.attention, eighth),
        *(_attention_weights(plan.cross, eighth) if plan.memory else ()),
        *(matrix(*shape, bound=1 << 18) for shape in ((E, d), *experts)),
    )
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=lambda p, w: BlockWeights.prepare(p, plan, w))


def _one_hot_last(values: Values) -> Values:
    """The client's bits become one-hot: of the last one set, or of the first token."""
    x, last, head = values
    at = int(np.flatnonzero(last)[-1]) if last.any() else 0
    return [x, (np.arange(last.size) == at).astype(np.int64), head]


def _next_token_case(name: str, plan: NextTokenPlan) -> Case:
    plan = replace(plan, reach=_REACH, epsilon=_EPSILON)
    secrets = (
        word(plan.n, plan.d, low=-(1 << 18), high=1 << 18),
        Secret(Z2, (plan.n,), CLIENT),
        matrix(plan.vocabulary, plan.d),
    )
    return Case(name, secrets, {"plan": plan}, (), _one_hot_last, plan.plans, lambda p, w: p(plan.head, w[0]))


_GATED = MoeConfig(d=4, f=8, E=3, gated=True, activation="gelu")
_RELU = MoeConfig(d=4, f=8, E=3, gated=False, activation="relu")
MODELS: tuple[Entry, ...] = (
    Entry(
        embed,
        (
            _embedding_case(ONE_HOT, 2, 8, 3),
            _embedding_case(VALUES, 2, 3, 4),
            _embedding_case(ROWS, 2, 3, 3),
        ),
    ),
    Entry(
        crossing,
        (
            _crossing_case("two of 2 by 3", CrossingPlan(TINY, 2, 2, 3, 2)),
            _crossing_case("row by matrix", CrossingPlan(TINY, 1, 1, 2, 3)),
        ),
    ),
    Entry(
        attention,
        (
            _attention_case("two heads", AttentionPlan(TINY, 3, 4, 2)),
            _attention_case("causal, biased", AttentionPlan(TINY, 3, 2, 1, causal=True, biased=True)),
            _attention_case("rotary, grouped", AttentionPlan(TINY, 2, 4, 2, causal=True, groups=1, rotary=1e4)),
        ),
    ),
    Entry(
        block,
        (
            _block_case("Switch encoder", BlockPlan.switch(TINY, 4, 8, 3, 2, 2)),
            _block_case("Mixtral decoder", BlockPlan.mixtral(TINY, 4, 8, 3, 2, 1, 2)),
        ),
    ),
    Entry(decoder_block, (_block_case("Switch decoder", BlockPlan.switch(TINY, 4, 8, 3, 2, 2, memory=3)),)),
    Entry(next_token, (_next_token_case("5 tokens known", NextTokenPlan(TINY, 3, 4, 5)),), DECLARED),
    Entry(cross_attention, (_attention_case("grouped", AttentionPlan(TINY, 2, 4, 2, groups=1, memory=3)),)),
    Entry(
        encoder,
        (
            encoder_case("class", EncoderPlan(_GATED, 2, 5, 1, 2, 3, TINY, GELU_MINIMAX, ONE_HOT, CLASS)),
            encoder_case("logits", EncoderPlan(_RELU, 2, 4, 1, 1, 2, TINY, "relu", VALUES, LOGITS)),
        ),
        DECLARED,
    ),
)
