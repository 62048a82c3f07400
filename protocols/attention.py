"""Multi-head attention with the server's projections: scores, softmax and weighted sums on shares.

Of a stream to itself or to another one; keys and values may have fewer heads than queries; positions may turn queries
and keys (rotary) or add to the scores (the server's table).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.cleartext.attention import ATTENTION, CROSS_ATTENTION, rotation
from protocols.compare import DIGIT
from protocols.crossing import CrossingPlan, product, product_cost
from protocols.he.interface import Addend
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.linear import linear
from protocols.matmul import swapped
from protocols.sharing import own_share, prepared_share
from protocols.softmax import softmax
from protocols.truncate import truncate
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, concat, stack
from sim.role import CLIENT, SERVER
from sim.shapes import blank

TURN_ROOM = 10  # bits of the ring above a turned product: its sign, the root of 2, and values below 2^8
FEWEST_TURN_BITS = 8


class HeadCount(ValueError):
    """Heads that do not divide the width, or groups that do not divide the heads."""


class RotaryRange(ValueError):
    """Rotary positions that a plan has no room for, or that its attention cannot have."""


@dataclass(frozen=True)
class AttentionPlan:
    """All public parameters of one attention block: n tokens of width d, `heads` heads of d / heads words each.

    causal: token i attends to tokens 0 .. i. biased: the server adds a private table (heads, n, keys) to the scores,
    such as a relative position bias. w: digit width of the comparisons. groups: heads of keys and values, each of them
    for heads / groups heads of queries (0: one for each) [GQA]. memory: keys and values are those of another stream, of
    so many tokens (0: of the stream itself). rotary: the base of rotary positions, such as 1e6 (0: none) [RoFormer].
    """

    params: ParamSet
    n: int
    d: int
    heads: int
    causal: bool = False
    biased: bool = False
    w: int = DIGIT
    groups: int = 0
    memory: int = 0
    rotary: float = 0.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.d % self.heads:
            raise HeadCount(f"attention: expected heads to divide d = {self.d}, got {self.heads}: change one of them")
        if self.groups < 0 or self.heads % self.key_heads:
            raise HeadCount(
                f"attention: expected groups to divide the {self.heads} heads, got {self.groups}: change one of them"
            )
        if self.memory and (self.causal or self.rotary):
            raise RotaryRange("attention to another stream: expected neither a causal mask nor rotary positions")
        if self.rotary and (self.width % 2 or self.turn < FEWEST_TURN_BITS or self.rotary < 1):
            raise RotaryRange(
                f"rotary positions: expected a base from 1, an even number of words in a head and room for "
                f"{FEWEST_TURN_BITS} bits of a cosine, got base {self.rotary}, {self.width} words and {self.turn} bits "
                f"with {self.params.name}: change the heads or take a wider ring"
            )

    @property
    def width(self) -> int:
        """Words in a head."""
        return self.d // self.heads

    @property
    def key_heads(self) -> int:
        return self.groups or self.heads

    @property
    def keys(self) -> int:
        """Tokens that are attended to."""
        return self.memory or self.n

    @property
    def turn(self) -> int:
        """Fractional bits of the public cosines and sines; 0 without rotary positions.

        Queries and keys are turned before they are floored, at 2 s bits: there is room for values below 2^8.
        """
        s, l = self.params.frac_bits, self.params.ring_bits
        return min(s, l - 2 * s - TURN_ROOM) if self.rotary else 0

    @cached_property
    def stacked(self) -> LinearPlan:
        """Queries, keys and values in one product; queries alone where the keys are another stream's."""
        further = 0 if self.memory else 2 * self.key_heads * self.width
        return LinearPlan.fewest_bytes(self.params, self.n, self.d, self.d + further)

    @cached_property
    def remembered(self) -> LinearPlan:
        """Keys and values of another stream."""
        return LinearPlan.fewest_bytes(self.params, self.memory, self.d, 2 * self.key_heads * self.width)

    @cached_property
    def merging(self) -> LinearPlan:
        """The output projection."""
        return LinearPlan.fewest_bytes(self.params, self.n, self.d, self.d)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        """Those with weights, then the others."""
        weighted = self.stacked, self.merging, *([self.remembered] if self.memory else [])
        return *weighted, *(plan for plan, _ in self.answers)

    @property
    def together(self) -> int:
        """Queries that share a head of keys."""
        return self.heads // self.key_heads * self.n

    @cached_property
    def scoring(self) -> CrossingPlan:
        """Queries times keys."""
        return CrossingPlan(self.params, self.key_heads, self.together, self.width, self.keys)

    @cached_property
    def mixing(self) -> CrossingPlan:
        """Shares of attention times values."""
        return CrossingPlan(self.params, self.key_heads, self.together, self.keys, self.width)

    @cached_property
    def answers(self) -> list[tuple[LinearPlan, int]]:
        """Responses beside those of the projections: (plan, rows)."""
        return [answer for part in (self.scoring, self.mixing) if part.pays for answer in part.answers]

    @property
    def states(self) -> Spec:
        """Of the tokens: ring and shape (n, d)."""
        return Spec(Ring(self.params.ring_bits), (self.n, self.d))

    @property
    def others(self) -> Spec:
        """Of the other stream: ring and shape (memory, d)."""
        return Spec(self.states.ring, (self.memory, self.d))

    @property
    def scores(self) -> Spec:
        """Of the scores: ring and shape (heads, n, keys)."""
        return Spec(self.states.ring, (self.heads, self.n, self.keys))

    @property
    def bias(self) -> Addend:
        """What the server's engine makes of the table of a biased block."""
        return Addend(self.params, self.scores.shape)

    @property
    def allowed(self) -> tuple[tuple[bool, ...], ...] | None:
        """Which token attends to which; None for all to all."""
        return tuple(tuple(j <= i for j in range(self.n)) for i in range(self.n)) if self.causal else None


@dataclass(frozen=True)
class AttentionWeights:
    """The server's side, prepared by its engine. stacked: rows of queries, keys, values, (d + 2 groups d / heads, d),
    the queries' scaled by 1 / sqrt(d / heads) where the model scales its scores; merging: (d, d); bias: the table of a
    biased block, at s bits, else None; remembered: rows of keys and values of another stream, else None, and then
    stacked has the queries' alone."""

    stacked: Any
    merging: Any
    bias: RingArray | None = None
    remembered: Any = None

    @classmethod
    def prepare(
        cls, prepare: Callable[[Any, Any], Any], plan: AttentionPlan, weights: Sequence[Any]
    ) -> AttentionWeights:
        """weights: stacked, merging, the bias of a biased block, the rows for another stream; signed integers at s
        bits."""
        rest = iter(weights)
        stacked, merging = prepare(plan.stacked, next(rest)), prepare(plan.merging, next(rest))
        bias = prepare(plan.bias, next(rest)) if plan.biased else None
        return cls(stacked, merging, bias, prepare(plan.remembered, next(rest)) if plan.memory else None)

    @property
    def responses(self) -> list[tuple[Any, int]]:
        """What an engine answers: (prepared weights, rows)."""
        return [(w, 1) for w in (self.stacked, self.merging, self.remembered) if w is not None]


def _core_cost(plan: AttentionPlan) -> Cost:
    """Of everything between the projections, and the output projection."""
    s, l, w = plan.params.frac_bits, plan.params.ring_bits, plan.w
    ring, groups, m, e = plan.scores.ring, plan.key_heads, plan.keys, plan.width
    query, value = blank(Spec(ring, (groups, plan.together, e))), blank(Spec(ring, (groups, m, e)))
    scores, states = blank(plan.scores), blank(plan.states)
    cost = product_cost(query, swapped(value), plan.scoring) + truncate.declared(scores, f=s, w=w)
    cost += softmax.declared(scores, s=s, l=l, allowed=plan.allowed, w=w)
    mixed = product_cost(scores.reshape(groups, plan.together, m), value, plan.mixing)
    cost += mixed + truncate.declared(query, f=s, w=w)
    return cost + linear.declared(states, None, plan=plan.merging) + truncate.declared(states, f=s, w=w)


def _projected_cost(x: RingArray, product: LinearPlan, plan: AttentionPlan) -> Cost:
    out = blank(Spec(x.ring, product.outputs))
    return linear.declared(x, None, plan=product) + truncate.declared(
        out, f=plan.params.frac_bits + plan.turn, w=plan.w
    )


def _attention_cost(x: RingArray, mask: object, weights: object, *, plan: AttentionPlan) -> Cost:
    return _projected_cost(x, plan.stacked, plan) + _core_cost(plan)


@protocol(realises=ATTENTION, cites="[Iron]", cost=_attention_cost)
async def attention(
    p: Party, x: RingArray, mask: RingArray | None, weights: AttentionWeights | None, *, plan: AttentionPlan
) -> RingArray:
    """Attention(x) = concat_h(softmax(Q_h K_h^T + mask + bias_h) V_h) W^T, without the residual.

    x: shared (n, d) at s fractional bits over Z_{2^l}; mask: the client's (n,), what is added to all scores of a token
    as a key, at s bits (None at the server); weights: the server's, prepared (None at the client). Returns (n, d). All
    products are floored to s bits once, exactly: bit for bit ATTENTION, for scores below 2^(l-3). Scores stay shared:
    neither party learns which token attends to which, nor any maximum or sum of a row.

    Rotary positions cost no message: shares of queries and keys are turned by public cosines and sines between their
    product and its floor, and values are shifted to the same scale.
    """
    products = await linear(p, x, None if weights is None else weights.stacked, plan=plan.stacked)
    if plan.turn:
        products = _turned(products, plan)
    stacked = await truncate(p, products, f=plan.params.frac_bits + plan.turn, w=plan.w)
    rest = stacked[:, plan.d :].reshape(plan.n, 2, plan.key_heads, plan.width).transpose(1, 2, 0, 3)
    return await _core(p, stacked[:, : plan.d], rest[0], rest[1], mask, weights, plan)


def _cross_attention_cost(
    x: RingArray, memory: RingArray, mask: object, weights: object, *, plan: AttentionPlan
) -> Cost:
    queries, rest = _projected_cost(x, plan.stacked, plan), _projected_cost(memory, plan.remembered, plan)
    return (queries | rest) + _core_cost(plan)


@protocol(realises=CROSS_ATTENTION, cites="[Iron]", cost=_cross_attention_cost)
async def cross_attention(
    p: Party,
    x: RingArray,
    memory: RingArray,
    mask: RingArray | None,
    weights: AttentionWeights | None,
    *,
    plan: AttentionPlan,
) -> RingArray:
    """As `attention`, with the keys and values of another stream: x asks, memory answers.

    x: shared (n, d), memory: shared (plan.memory, d), both at s fractional bits over Z_{2^l}; mask: the client's
    (plan.memory,), for the memory's tokens (None at the server). Returns (n, d), bit for bit CROSS_ATTENTION.
    """
    query, rest = await p.gather(
        p.scoped("queries", _projected, x, None if weights is None else weights.stacked, plan.stacked, plan),
        p.scoped("memory", _projected, memory, None if weights is None else weights.remembered, plan.remembered, plan),
    )
    parts = rest.reshape(plan.memory, 2, plan.key_heads, plan.width).transpose(1, 2, 0, 3)
    return await _core(p, query, parts[0], parts[1], mask, weights, plan)


async def _projected(p: Party, x: RingArray, weights: Any, product: LinearPlan, plan: AttentionPlan) -> RingArray:
    return await truncate(p, await linear(p, x, weights, plan=product), f=plan.params.frac_bits, w=plan.w)


def _turned(products: RingArray, plan: AttentionPlan) -> RingArray:
    """Queries and keys turned by their positions, values shifted: all at `turn` further fractional bits. Words i and
    i + half of a head are a pair; it turns by position * base^(-i / half)."""
    n, e = plan.n, plan.width
    turning, half = plan.heads + plan.key_heads, e // 2
    pairs = products[:, : turning * e].reshape(n, turning, 2, half)
    shape = (n, turning, half)
    cos, sin = (
        products.const(words, (n, half)).reshape(n, 1, half).broadcast(*shape)
        for words in rotation(n, half, plan.rotary, plan.turn)
    )
    a, b = pairs[:, :, 0], pairs[:, :, 1]
    turned = stack(a * cos - b * sin, b * cos + a * sin, axis=2).reshape(n, turning * e)
    return concat(turned, products[:, turning * e :] << plan.turn, axis=1)


async def _core(
    p: Party,
    query: RingArray,
    key: RingArray,
    value: RingArray,
    mask: RingArray | None,
    weights: AttentionWeights | None,
    plan: AttentionPlan,
) -> RingArray:
    """query: (n, d); key, value: (key heads, keys, words). Queries that share a head of keys are rows of a product."""
    s, l, n, m = plan.params.frac_bits, plan.params.ring_bits, plan.n, plan.keys

    async def floor(v: RingArray) -> RingArray:
        return await truncate(p, v, f=s, w=plan.w)

    query = query.reshape(n, plan.heads, plan.width).transpose(1, 0, 2).reshape(plan.key_heads, -1, plan.width)
    scores = (await floor(await product(p, query, swapped(key), plan.scoring))).reshape(*plan.scores.shape)
    keys = own_share(p, CLIENT, mask, Spec(scores.ring, (m,)))
    scores = scores + keys.reshape(1, 1, m).broadcast(*scores.shape)
    if plan.biased:
        scores = scores + prepared_share(p, SERVER, None if weights is None else weights.bias, plan.scores)
    shares = await softmax(p, scores, s=s, l=l, allowed=plan.allowed, w=plan.w)
    mixed = await floor(await product(p, shares.reshape(plan.key_heads, -1, m), value, plan.mixing))
    joined = mixed.reshape(plan.heads, n, plan.width).transpose(1, 0, 2).reshape(n, plan.d)
    return await floor(await linear(p, joined, None if weights is None else weights.merging, plan=plan.merging))
