"""Multi-head self-attention with the server's projections: scores, softmax and weighted sums on shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.cleartext.attention import ATTENTION
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
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import blank


class HeadCount(ValueError):
    """Heads that do not divide the width."""


@dataclass(frozen=True)
class AttentionPlan:
    """All public parameters of one attention block: n tokens of width d, `heads` heads of d / heads words each.

    causal: token i attends to tokens 0 .. i. biased: the server adds a private table (heads, n, n) to the scores, such
    as a relative position bias. w: digit width of the comparisons.
    """

    params: ParamSet
    n: int
    d: int
    heads: int
    causal: bool = False
    biased: bool = False
    w: int = DIGIT

    def __post_init__(self) -> None:
        if self.heads < 1 or self.d % self.heads:
            raise HeadCount(f"attention: expected heads to divide d = {self.d}, got {self.heads}: change one of them")

    @cached_property
    def stacked(self) -> LinearPlan:
        """Queries, keys and values in one product."""
        return LinearPlan.fewest_bytes(self.params, self.n, self.d, 3 * self.d)

    @cached_property
    def merging(self) -> LinearPlan:
        """The output projection."""
        return LinearPlan.fewest_bytes(self.params, self.n, self.d, self.d)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        """Those with weights, then the others."""
        return self.stacked, self.merging, *(plan for plan, _ in self.answers)

    @cached_property
    def scoring(self) -> CrossingPlan:
        """Queries times keys."""
        return CrossingPlan(self.params, self.heads, self.n, self.d // self.heads, self.n)

    @cached_property
    def mixing(self) -> CrossingPlan:
        """Shares of attention times values."""
        return CrossingPlan(self.params, self.heads, self.n, self.n, self.d // self.heads)

    @cached_property
    def answers(self) -> list[tuple[LinearPlan, int]]:
        """Responses beside those of the projections: (plan, rows)."""
        return [answer for part in (self.scoring, self.mixing) if part.pays for answer in part.answers]

    @property
    def scores(self) -> Spec:
        """Of the scores: ring and shape (heads, n, n)."""
        return Spec(Ring(self.params.ring_bits), (self.heads, self.n, self.n))

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
    """The server's side, prepared by its engine. stacked: rows of queries, keys, values, (3 d, d), the queries' scaled
    by 1 / sqrt(d / heads); merging: (d, d); bias: the table of a biased block, at s bits, else None."""

    stacked: Any
    merging: Any
    bias: RingArray | None = None

    @classmethod
    def prepare(
        cls, prepare: Callable[[Any, Any], Any], plan: AttentionPlan, weights: Sequence[Any]
    ) -> AttentionWeights:
        """weights: stacked, merging, and the bias of a biased block; signed integers at s bits."""
        stacked, merging, *bias = weights
        table = prepare(plan.bias, bias[0]) if bias else None
        return cls(prepare(plan.stacked, stacked), prepare(plan.merging, merging), table)

    @property
    def responses(self) -> list[tuple[Any, int]]:
        """What an engine answers: (prepared weights, rows)."""
        return [(self.stacked, 1), (self.merging, 1)]


def _attention_cost(x: RingArray, mask: object, weights: object, *, plan: AttentionPlan) -> Cost:
    s, l, w = plan.params.frac_bits, plan.params.ring_bits, plan.w
    ring, (heads, n, _), e = plan.scores.ring, plan.scores.shape, plan.d // plan.heads
    stacked, part = blank(Spec(ring, (n, 3 * plan.d))), blank(Spec(ring, (heads, n, e)))
    scores = blank(plan.scores)
    cost = linear.declared(x, None, plan=plan.stacked) + truncate.declared(stacked, f=s, w=w)
    cost += product_cost(part, swapped(part), plan.scoring) + truncate.declared(scores, f=s, w=w)
    cost += softmax.declared(scores, s=s, l=l, allowed=plan.allowed, w=w)
    cost += product_cost(scores, part, plan.mixing) + truncate.declared(part, f=s, w=w)
    return cost + linear.declared(x, None, plan=plan.merging) + truncate.declared(x, f=s, w=w)


@protocol(realises=ATTENTION, cites="[Iron]", cost=_attention_cost)
async def attention(
    p: Party, x: RingArray, mask: RingArray | None, weights: AttentionWeights | None, *, plan: AttentionPlan
) -> RingArray:
    """Attention(x) = concat_h(softmax(Q_h K_h^T + mask + bias_h) V_h) W^T, without the residual.

    x: shared (n, d) at s fractional bits over Z_{2^l}; mask: the client's (n,), what is added to all scores of a token
    as a key, at s bits (None at the server); weights: the server's, prepared (None at the client). Returns (n, d). All
    products are floored to s bits once, exactly: bit for bit ATTENTION, for scores below 2^(l-3). Scores stay shared:
    neither party learns which token attends to which, nor any maximum or sum of a row.
    """
    s, l = plan.params.frac_bits, plan.params.ring_bits

    async def floor(v: RingArray) -> RingArray:
        return await truncate(p, v, f=s, w=plan.w)

    stacked = await floor(await linear(p, x, None if weights is None else weights.stacked, plan=plan.stacked))
    parts = stacked.reshape(plan.n, 3, plan.heads, plan.d // plan.heads).transpose(1, 2, 0, 3)
    query, key, value = (parts[i] for i in range(3))
    scores = await floor(await product(p, query, swapped(key), plan.scoring))
    keys = own_share(p, CLIENT, mask, Spec(scores.ring, (plan.n,)))
    scores = scores + keys.reshape(1, 1, plan.n).broadcast(*scores.shape)
    if plan.biased:
        scores = scores + prepared_share(p, SERVER, None if weights is None else weights.bias, plan.scores)
    shares = await softmax(p, scores, s=s, l=l, allowed=plan.allowed, w=plan.w)
    mixed = await floor(await product(p, shares, value, plan.mixing))
    joined = mixed.transpose(1, 0, 2).reshape(plan.n, plan.d)
    return await floor(await linear(p, joined, None if weights is None else weights.merging, plan=plan.merging))
