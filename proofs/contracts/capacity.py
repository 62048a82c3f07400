"""Contract of the balanced layer: a circuit of its own says which row is whose; experts are those of any layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proofs.contracts.hidden import hidden
from proofs.contracts.layers import linear
from proofs.contracts.routing import probabilities, top_k
from proofs.contracts.words import below_quarter, floor_shift, times, times_row
from proofs.hybrid import Demand
from sim.ring import RingArray, stack


def places_of(hot: RingArray, plan: Any) -> RingArray:
    """(E, t, n): the bits that say which token an expert's row holds; hot: (n, k, E) bits."""
    n, comes = hot.shape[0], hot.sum(1).transpose()
    arrivals = comes.cast(plan.keys)
    keys = stack(*(arrivals[:, i] * (n - i) for i in range(n)), axis=1)
    _, first = top_k(keys, k=plan.capacity, l=plan.keys.l)
    E, t = comes.shape[0], plan.capacity
    return first & comes.reshape(E, 1, n).broadcast(E, t, n)


def _experts(rows: RingArray, *matrices: RingArray, plan: Any) -> RingArray:
    """Every expert on its own rows, (E, t, d)."""
    *first, w2 = matrices
    s, found = plan.arithmetic.s, []
    for e in range(rows.shape[0]):
        g = hidden([linear(rows[e], w[e]) for w in first], plan.activation, plan.arithmetic)
        found.append(floor_shift(linear(g, w2[e]), s))
    return stack(*found)


def balanced_moe(x: RingArray, residual: RingArray, router: RingArray, *experts: RingArray, plan: Any) -> RingArray:
    return residual + floor_shift(_mixed(x, router, experts, plan), plan.arithmetic.s)


def balanced_range(
    x: RingArray, residual: RingArray, router: RingArray, *experts: RingArray, plan: Any
) -> list[Demand]:
    """That the router's products and the weighted sum stay below a quarter of the ring."""
    return below_quarter(linear(x, router)) + below_quarter(_mixed(x, router, experts, plan))


def _mixed(x: RingArray, router: RingArray, experts: Sequence[RingArray], plan: Any) -> RingArray:
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    logits = floor_shift(linear(x, router), a.s)
    winners, hot = top_k(logits, k=shape.k, l=l)
    p = probabilities(logits, winners, s=a.s, l=l, renormalise=shape.renormalise)
    scale = times(hot, p.reshape(*p.shape, 1).broadcast(*hot.shape)).sum(1)
    places = places_of(hot, plan)
    (E, t, n), d = places.shape, x.shape[1]
    rows = times_row(places, x.reshape(1, 1, n, d).broadcast(E, t, n, d)).sum(2)
    y = _experts(rows, *experts, plan=plan)
    of_rows = times(places, scale.transpose().reshape(E, 1, n).broadcast(E, t, n)).sum(2)
    scaled = of_rows.reshape(E, t, 1).broadcast(E, t, d) * y
    return times_row(places, scaled.reshape(E, t, 1, d).broadcast(E, t, n, d)).sum(0).sum(0)
