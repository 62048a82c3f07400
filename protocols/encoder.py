"""A whole Mixture-of-Experts encoder as one protocol: from the client's tokens to the answer, which only it learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from protocols.attention import attention
from protocols.attention_plan import AttentionPlan, AttentionWeights
from protocols.cleartext.encoder import ENCODER
from protocols.compare import DIGIT
from protocols.embedding import EmbeddingPlan, EmbeddingWeights, embed
from protocols.expert_weights import Prepare
from protocols.he.interface import Addend, Engine
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import ParamSet
from protocols.he.service import query_cost
from protocols.layer_plan import REASSOCIATED, LayerPlan, LayerWeights
from protocols.linear import linear
from protocols.matmul import cross_matmul, local_product
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import Table
from protocols.moe import moe_layer
from protocols.norms import layer_norm
from protocols.polynomial import CHEAPEST
from protocols.sharing import own_share, prepared_share, reveal_to
from protocols.softmax import argmax
from protocols.truncate import truncate
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import blank

LOGITS = "logits"
CLASS = "class"
ANSWERS = (LOGITS, CLASS)


class UnknownAnswer(ValueError):
    """An output mode that is not built."""


@dataclass(frozen=True)
class EncoderPlan:
    """All public parameters of a whole model: n tokens, padding included, of `features` words each (see EmbeddingPlan
    for `inputs`); `layers` blocks of attention with `heads` heads and of the sparse layer of `shape`; `classes` logits.

    answer: what the client learns, "logits" or the index of the first largest one, "class". reach: the residual stream
    stays below 2^reach in absolute value; beyond, the norms are wrong. epsilon: of the norms.
    """

    shape: MoeConfig
    tokens: int
    features: int
    layers: int
    heads: int
    classes: int
    params: ParamSet
    activation: Table | str
    inputs: str
    answer: str = CLASS
    order: str = REASSOCIATED
    w: int = DIGIT
    form: str = CHEAPEST
    reach: int = 6
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.answer not in ANSWERS:
            raise UnknownAnswer(f"answer: expected one of {', '.join(ANSWERS)}, got {self.answer!r}")

    @cached_property
    def embedding(self) -> EmbeddingPlan:
        return EmbeddingPlan(self.params, self.tokens, self.features, self.shape.d, self.inputs)

    @cached_property
    def attention(self) -> AttentionPlan:
        return AttentionPlan(self.params, self.tokens, self.shape.d, self.heads, w=self.w)

    @cached_property
    def layer(self) -> LayerPlan:
        return LayerPlan(self.shape, self.tokens, self.params, self.activation, self.order, w=self.w, form=self.form)

    @cached_property
    def head(self) -> LinearPlan:
        return LinearPlan(self.params, 1, self.shape.d, self.classes)

    @property
    def plans(self) -> tuple[LinearPlan | SelectPlan, ...]:
        """Those with weights, then the others."""
        stacked, merging, *others = self.attention.plans
        combining = [plan for plan, _ in self.layer.combining]
        return *self.embedding.plans, stacked, merging, *self.layer.matrices, self.head, *others, *combining

    @property
    def states(self) -> Spec:
        """Of the residual stream: ring and shape (n, d)."""
        return Spec(Ring(self.params.ring_bits), (self.tokens, self.shape.d))

    def addend(self, *shape: int) -> Addend:
        """What the server's engine makes of words that it adds to its share."""
        return Addend(self.params, shape)


@dataclass(frozen=True)
class BlockWeights:
    """One block, prepared: what is added to the two norms, (d,) each, at s bits, and the weights that read them."""

    shift1: RingArray
    attention: AttentionWeights
    shift2: RingArray
    moe: LayerWeights


@dataclass(frozen=True)
class EncoderWeights:
    """The server's side, prepared by its engine. head: (classes, d); bias: (classes,) at s bits."""

    embedding: EmbeddingWeights
    blocks: tuple[BlockWeights, ...]
    head: Any
    bias: RingArray

    @classmethod
    def prepare(cls, prepare: Prepare, plan: EncoderPlan, weights: Sequence[Any]) -> EncoderWeights:
        """weights: table (unless public), positions; per block shift, stacked, merging, shift, router and experts;
        head, bias; signed integers at s bits. Raises what the engine raises on weights that it does not admit."""
        rest = iter(weights)
        embedding = EmbeddingWeights.prepare(prepare, plan.embedding, list(islice(rest, 1 + len(plan.embedding.plans))))
        blocks = tuple(_prepared_block(prepare, plan, rest) for _ in range(plan.layers))
        head, bias = rest
        return cls(embedding, blocks, prepare(plan.head, head), prepare(plan.addend(plan.classes), bias))

    def responses(self, plan: EncoderPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        found = [*self.embedding.responses, (self.head, 1)]
        for block in self.blocks:
            layer = block.moe.responses(plan.layer)
            found += [*block.attention.responses, *plan.attention.answers, *layer]
        return found


def _prepared_block(prepare: Prepare, plan: EncoderPlan, rest: Iterator[Any]) -> BlockWeights:
    row, (shift1, stacked, merging, shift2, router, w1) = plan.addend(plan.shape.d), islice(rest, 6)
    gate = next(rest) if plan.shape.gated else None
    return BlockWeights(
        prepare(row, shift1),
        AttentionWeights.prepare(prepare, plan.attention, [stacked, merging]),
        prepare(row, shift2),
        LayerWeights.prepare(prepare, plan.layer, MoeWeights(router, w1, gate, next(rest))),
    )


def query_epsilon(weights: EncoderWeights, plan: EncoderPlan) -> float:
    """Statistical distance that one query costs: all responses of the whole model. For BFV weights."""
    return query_cost(weights.responses(plan))


def _norm_public(plan: EncoderPlan) -> dict[str, Any]:
    return {"s": plan.params.frac_bits, "reach": plan.reach, "eps": plan.epsilon, "w": plan.w}


def _encoder_cost(features: object, mask: object, pooling: object, weights: object, *, plan: EncoderPlan) -> Cost:
    ring, s = plan.states.ring, plan.params.frac_bits
    states, one = blank(plan.states), blank(Spec(ring, (1, plan.shape.d)))
    norm = layer_norm.declared(states, **_norm_public(plan))
    block = norm + attention.declared(states, None, None, plan=plan.attention)
    block += norm + moe_layer.declared(states, states, None, plan=plan.layer)
    cost = embed.declared(None, None, plan=plan.embedding) + block.repeat(plan.layers) + norm
    row = Spec(ring, (1, plan.tokens))
    cost += cross_matmul.declared(None, None, receiver=CLIENT, left=row, right=plan.states)
    cost += truncate.declared(one, f=s, w=plan.w) + linear.declared(one, None, plan=plan.head)
    logits = blank(Spec(ring, (1, plan.classes)))
    cost += truncate.declared(logits, f=s, w=plan.w)
    if plan.answer == LOGITS:
        return cost + reveal_to.declared(CLIENT, logits)
    digits = blank(Spec(Ring(1), (1, max(1, (plan.classes - 1).bit_length()))))
    return cost + argmax.declared(logits, w=plan.w) + reveal_to.declared(CLIENT, digits)


@protocol(realises=ENCODER, cites="[SecMoE]", cost=_encoder_cost)
async def encoder(
    p: Party,
    features: RingArray | None,
    mask: RingArray | None,
    pooling: RingArray | None,
    weights: EncoderWeights | None,
    *,
    plan: EncoderPlan,
) -> RingArray:
    """The answer of the whole model at the client, and zeros at the server (which is a sharing of it).

    The client's (None at the server), over Z_{2^l}: features (n, features); mask (n,), what is added to all scores of a
    token as a key; pooling (n,), its share of the mean: padding has a mask far below zero and no share, so that the
    number of real tokens is hidden among n. weights: the server's, prepared (None at the client). Answer: logits
    (1, classes) at s bits, or the Boolean digits (1, ceil(log2 classes)) of the class, lowest first. Bit for bit the
    fixed-point oracle. Nothing else is opened.
    """
    if weights is not None:
        p.local(_admit, p.service("he"), weights, plan)  # the whole query, before its first response
    stream = await embed(p, features, None if weights is None else weights.embedding, plan=plan.embedding)
    for i in range(plan.layers):
        stream = await p.scoped(f"layer{i}", _block, stream, mask, None if weights is None else weights.blocks[i], plan)
    pooled = await p.scoped("pool", _pooled, stream, pooling, plan)
    logits = await linear(p, pooled, None if weights is None else weights.head, plan=plan.head)
    logits = await truncate(p, logits, f=plan.params.frac_bits, w=plan.w)
    bias = prepared_share(p, SERVER, None if weights is None else weights.bias, Spec(logits.ring, (plan.classes,)))
    logits = logits + bias.reshape(*logits.shape)
    if plan.answer == LOGITS:
        return await reveal_to(p, CLIENT, logits)
    return await reveal_to(p, CLIENT, await argmax(p, logits, w=plan.w))


def _admit(he: Engine, weights: EncoderWeights, plan: EncoderPlan) -> None:
    he.admit(weights.responses(plan))


async def _block(
    p: Party, stream: RingArray, mask: RingArray | None, weights: BlockWeights | None, plan: EncoderPlan
) -> RingArray:
    """x <- x + Attention(LN(x)); x <- x + MoE(LN(x))."""
    x = await _norm(p, stream, None if weights is None else weights.shift1, plan)
    stream = stream + await attention(p, x, mask, None if weights is None else weights.attention, plan=plan.attention)
    x = await _norm(p, stream, None if weights is None else weights.shift2, plan)
    return await moe_layer(p, x, stream, None if weights is None else weights.moe, plan=plan.layer)


async def _norm(p: Party, x: RingArray, shift: RingArray | None, plan: EncoderPlan) -> RingArray:
    """The norm, plus the server's shift of every column."""
    normed = await layer_norm(p, x, **_norm_public(plan))
    row = prepared_share(p, SERVER, shift, Spec(x.ring, x.shape[1:]))
    return normed + row.reshape(1, *row.shape).broadcast(*x.shape)


async def _pooled(p: Party, stream: RingArray, pooling: RingArray | None, plan: EncoderPlan) -> RingArray:
    """(1, d): the mean over real tokens of the final norm. The client's shares of the mean times its own share are its
    own business; times the server's share, one cross term."""
    states = await layer_norm(p, stream, **_norm_public(plan))
    row = Spec(stream.ring, (1, plan.tokens))
    mine = own_share(p, CLIENT, None if pooling is None else pooling.reshape(*row.shape), row)
    client = p.role is CLIENT
    crossed = await cross_matmul(
        p, mine if client else None, None if client else states, receiver=CLIENT, left=row, right=states.spec
    )
    return await truncate(p, local_product(mine, states) + crossed, f=plan.params.frac_bits, w=plan.w)
