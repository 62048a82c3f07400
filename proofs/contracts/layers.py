"""Contracts with weights: products, the selected expert, the layer; and the look-up of oblivious transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from proofs.contracts.hidden import hidden, hidden_range
from proofs.contracts.routing import probabilities, top_k
from proofs.contracts.words import (
    floor_shift,
)
from proofs.hybrid import Demand
from protocols.select import ExpertWeights
from sim.ring import RingArray, stack


def linear(x: RingArray, weights: RingArray, **_: Any) -> RingArray:
    return x @ weights.transpose()


def selected(t: RingArray, x: RingArray, weights: RingArray) -> RingArray:
    """Row by row the sum over experts of t_e (W_e x)."""
    E, f, d = weights.shape
    rows = []
    for i in range(t.shape[0]):
        each = (weights.reshape(E * f, d) @ x[i].reshape(d, 1)).reshape(E, f)
        rows.append((t[i].reshape(1, E) @ each).reshape(f))
    return stack(*rows)


def select_product(t: RingArray, x: RingArray, weights: RingArray, **_: Any) -> RingArray:
    return selected(t, x, weights)


def matrices(weights: Sequence[Any], stacked: int) -> list[RingArray]:
    """Of an expert, W1 and W2, or W1, V and W2; weights: they, or the protocol's record, so many of them stacked."""
    if not isinstance(weights[0], ExpertWeights):
        return list(weights)
    first, f = weights[0].w1, weights[0].w1.shape[1] // stacked
    return [*(first[:, i * f : (i + 1) * f] for i in range(stacked)), weights[0].w2]


def select_then_compute(t: RingArray, x: RingArray, *weights: Any, **public: Any) -> RingArray:
    """weights: W1, W2, or W1, V, W2; or the protocol's record of them."""
    w1, *gate, w2 = matrices(weights, public["up"].stacked)
    a, activation = public["arithmetic"], public["activation"]
    n, k, E = t.shape
    rows = t.reshape(n * k, E)
    states = stack(*(x[i // k] for i in range(n * k)))
    g = hidden([selected(rows, states, w) for w in (w1, *gate)], activation, a)
    return floor_shift(selected(rows, g, w2), a.s).reshape(n, k, -1)


def selected_range(t: RingArray, x: RingArray, *weights: Any, **public: Any) -> list[Demand]:
    w1 = matrices(weights, public["up"].stacked)[0]
    n, k, E = t.shape
    states = stack(*(x[i // k] for i in range(n * k)))
    return hidden_range(selected(t.reshape(n * k, E), states, w1), public["activation"], public["arithmetic"])


def mixture(
    x: RingArray, residual: RingArray, router: RingArray, plan: Any, experts: Callable[[RingArray], RingArray]
) -> RingArray:
    """residual + sum_j p_j y_j, with y (n, k, d) what `experts` makes of the one-hot rows (n, k, E)."""
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    logits = floor_shift(linear(x, router), a.s)
    winners, hot = top_k(logits, k=shape.k, l=l)
    p = probabilities(logits, winners, s=a.s, l=l, renormalise=shape.renormalise)
    y = experts(hot)
    mixed = (p.reshape(*p.shape, 1).broadcast(*y.shape) * y).sum(1)
    return residual + floor_shift(mixed, a.s)


def moe(x: RingArray, residual: RingArray, router: RingArray, *weights: RingArray, plan: Any) -> RingArray:
    def experts(hot: RingArray) -> RingArray:
        return select_then_compute(
            hot.cast(x.ring), x, *weights, up=plan.up, arithmetic=plan.arithmetic, activation=plan.activation
        )

    return mixture(x, residual, router, plan, experts)


def choose(index: RingArray, table: RingArray, *, n_choices: int, **_: Any) -> RingArray:
    rows = []
    for i in range(n_choices):
        row = table[..., i, :]
        rows.append(index.equals(i).reshape(*index.shape, 1).broadcast(*row.shape) & row)
    return reduce(lambda a, b: a ^ b, rows)
