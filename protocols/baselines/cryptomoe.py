"""CryptoMoE's balanced layer: every expert evaluates the same public number of rows, whoever comes to it. [CryptoMoE]

An expert has a capacity of t = ceil(n k / E times a public factor) rows. Tokens come in their order; those beyond the
capacity are dropped (their residual alone passes), rows beyond the tokens are zeros. All of it happens on shares: what
both parties see depends on n, k, E and the factor only. It changes the function, so it has its own functionality.

1. dispatch bits: whether token i comes to expert e is a column of the one-hot rows. top_k with k = t over keys n - i
   (0 where the token does not come), in a ring of a few bits, gives every row's token in the order of arrival; and with
   the first bits, so that a row that nobody takes is empty.
2. dispatch: a row is the sum over tokens of dispatch bit times state: one correlated OT each way per bit.
3. every expert evaluates its t rows as plain linear layers.
4. combine: rows are scaled by the probability of their token, then the transposed dispatch bits bring them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from protocols.baselines.every_expert import EveryExpert, EveryExpertPlan, every_expert, every_expert_cost
from protocols.boolean import conjoin
from protocols.cleartext.capacity import BALANCED_MOE
from protocols.convert import b2a, mux_rows
from protocols.crossing import CrossingPlan, product, product_cost
from protocols.model.config import balanced_capacity
from protocols.moe import route, route_cost
from protocols.routing import probabilities, top_k
from protocols.truncate import truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.shapes import blank


@dataclass(frozen=True)
class BalancedPlan(EveryExpertPlan):
    """The public parameters of a balanced layer. factor: capacity over the mean number of rows per expert."""

    factor: Fraction = Fraction(1)

    @property
    def capacity(self) -> int:
        """t: rows of an expert. No token comes to one twice."""
        return balanced_capacity(self.tokens, self.shape.k, self.shape.E, self.factor)

    @property
    def keys(self) -> Ring:
        """Where the order of arrival is compared: 0 .. n, inside the range of `top_k`."""
        return Ring(self.tokens.bit_length() + 2)

    @property
    def height(self) -> int:
        return self.capacity

    @property
    def uploads(self) -> int:
        """Every expert has rows of its own."""
        return self.shape.E

    @cached_property
    def combination(self) -> CrossingPlan:
        """Every row's probability times its expert's output."""
        return CrossingPlan(self.params, self.shape.E * self.capacity, 1, 1, self.shape.d)


@dataclass(frozen=True)
class RoomierPlan(BalancedPlan):
    """Half as much capacity again."""

    factor: Fraction = Fraction(3, 2)


@dataclass(frozen=True)
class DoublePlan(BalancedPlan):
    """Twice the capacity."""

    factor: Fraction = Fraction(2)


def _balanced_cost(x: RingArray, residual: RingArray, weights: object, *, plan: BalancedPlan) -> Cost:
    shape, a, n, t, l = plan.shape, plan.arithmetic, plan.tokens, plan.capacity, plan.params.ring_bits
    d, E, k, ring, bit = shape.d, shape.E, shape.k, plan.ring, Ring(1)

    def words(*sizes: int) -> RingArray:
        return blank(Spec(ring, sizes))

    def bits(*sizes: int) -> RingArray:
        return blank(Spec(bit, sizes))

    logits = words(n, E)
    experts = b2a.declared(bits(E, n), ring=plan.keys)
    experts += top_k.declared(blank(Spec(plan.keys, (E, n))), k=t, l=plan.keys.l, w=a.w)
    experts += conjoin.declared(bits(E, n), bits(E, n, t)) + mux_rows.declared(bits(E, t, n), words(E, t, n, d))
    experts += every_expert_cost(plan) + truncate_bounded.declared(words(E, t, d), f=a.s, mode=a.mode, w=a.w)
    probability = probabilities.declared(
        logits, words(n, k), s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w
    )
    probability += mux_rows.declared(bits(n, k, E), words(n, k, E))
    cost = route_cost(plan) + (probability | experts) + mux_rows.declared(bits(E, t, n), words(E, t, n))
    cost += product_cost(words(E * t, 1, 1), words(E * t, 1, d), plan.combination)
    return cost + mux_rows.declared(bits(E, t, n), words(E, t, n, d)) + truncate_bounded.declared(x, f=a.s, w=a.w)


@protocol(realises=BALANCED_MOE, cites="[CryptoMoE]", cost=_balanced_cost)
async def cryptomoe(
    p: Party, x: RingArray, residual: RingArray, weights: EveryExpert | None, *, plan: BalancedPlan
) -> RingArray:
    """residual + sum over the selected experts that have room of p_j expert_j(x). Neither party learns route or load.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}, the tokens in order of arrival. weights: the server's,
    prepared (None at the client). Returns (n, d), bit for bit BALANCED_MOE: the words of `moe_layer` where nothing is
    dropped.
    """
    a = plan.arithmetic
    logits, winners, hot = await route(p, x, weights, plan)
    scale, (places, y) = await p.gather(
        p.scoped("scale", _scales, logits, winners, hot, plan), p.scoped("experts", _experts, hot, x, weights, plan)
    )
    E, t, n = places.shape
    of_rows = (await mux_rows(p, places, scale.transpose().reshape(E, 1, n).broadcast(E, t, n))).sum(2)
    scaled = await product(p, of_rows.reshape(E * t, 1, 1), y.reshape(E * t, 1, -1), plan.combination)
    spread = scaled.reshape(E, t, 1, -1).broadcast(E, t, n, y.shape[2])
    mixed = (await mux_rows(p, places, spread)).sum(0).sum(0)
    return residual + await truncate_bounded(p, mixed, f=a.s, w=a.w)


async def _scales(p: Party, logits: RingArray, winners: RingArray, hot: RingArray, plan: BalancedPlan) -> RingArray:
    """The probability of every expert that a token takes, 0 of the others: (n, E)."""
    a, l = plan.arithmetic, plan.params.ring_bits
    prob = await probabilities(
        p, logits, winners, s=a.s, l=l, renormalise=plan.shape.renormalise, mode=a.mode, w=a.w
    )
    return (await mux_rows(p, hot, prob.reshape(*prob.shape, 1).broadcast(*hot.shape))).sum(1)


async def _places(p: Party, hot: RingArray, plan: BalancedPlan) -> RingArray:
    """Boolean (E, t, n): the token of every row, nobody's where the row is empty. hot: (n, k, E)."""
    n = hot.shape[0]
    comes = hot.sum(1).transpose()
    arrivals = await b2a(p, comes, ring=plan.keys)
    keys = stack(*(arrivals[:, i] * (n - i) for i in range(n)), axis=1)
    _, first = await top_k(p, keys, k=plan.capacity, l=plan.keys.l, w=plan.w)
    (places,) = await conjoin(p, comes, first.transpose(0, 2, 1))
    return places.transpose(0, 2, 1)


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: EveryExpert | None, plan: BalancedPlan
) -> tuple[RingArray, RingArray]:
    """The places of the tokens, (E, t, n), and every expert's outputs, (E, t, d)."""
    a, (n, d) = plan.arithmetic, x.shape
    places = await _places(p, hot, plan)
    E, t, _ = places.shape
    rows = (await mux_rows(p, places, x.reshape(1, 1, n, d).broadcast(E, t, n, d))).sum(2)
    y = await every_expert(p, rows, weights, plan)
    return places, await truncate_bounded(p, y, f=a.s, mode=a.mode, w=a.w)
