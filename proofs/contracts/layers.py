"""Contracts with weights: products, the selected expert, the layer; and the look-up of oblivious transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from proofs.contracts.hidden import hidden, hidden_range
from proofs.contracts.routing import probabilities, top_k
from proofs.contracts.words import below_quarter, floor_shift
from proofs.hybrid import Demand
from protocols.expert_weights import ExpertWeights
from protocols.hidden import Arithmetic
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
    n, k, _ = t.shape
    a, stacked = public["arithmetic"], public["up"].stacked
    return floor_shift(_selected(t, x, weights, stacked, public["activation"], a)[1], a.s).reshape(n, k, -1)


def _selected(
    t: RingArray, x: RingArray, weights: Sequence[Any], stacked: int, activation: Any, a: Arithmetic
) -> tuple[list[RingArray], RingArray]:
    """The first products, and the second ones, none of them floored."""
    *first, w2 = matrices(weights, stacked)
    n, k, E = t.shape
    rows, states = t.reshape(n * k, E), stack(*(x[i // k] for i in range(n * k)))
    products = [selected(rows, states, w) for w in first]
    return products, selected(rows, hidden(products, activation, a), w2)


def selected_range(t: RingArray, x: RingArray, *weights: Any, **public: Any) -> list[Demand]:
    """What the activation demands, and that every product stays below a quarter of the ring."""
    activation, a = public["activation"], public["arithmetic"]
    products, y = _selected(t, x, weights, public["up"].stacked, activation, a)
    return hidden_range(products, activation, a) + below_quarter(y)


def mixture(
    x: RingArray, residual: RingArray, router: RingArray, plan: Any, experts: Callable[[RingArray], RingArray]
) -> RingArray:
    """residual + sum_j p_j y_j, with y (n, k, d) what `experts` makes of the one-hot rows (n, k, E)."""
    p, hot = _routed(x, router, plan)
    return residual + floor_shift(_mixed(p, experts(hot)), plan.arithmetic.s)


def mixture_range(
    x: RingArray, router: RingArray, plan: Any, experts: Callable[[RingArray], RingArray]
) -> list[Demand]:
    """That the router's products and the weighted sum stay below a quarter of the ring."""
    p, hot = _routed(x, router, plan)
    return below_quarter(linear(x, router)) + below_quarter(_mixed(p, experts(hot)))


def _routed(x: RingArray, router: RingArray, plan: Any) -> tuple[RingArray, RingArray]:
    """Probabilities (n, k) and one-hot rows (n, k, E)."""
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    logits = floor_shift(linear(x, router), a.s)
    winners, hot = top_k(logits, k=shape.k, l=l)
    return probabilities(logits, winners, s=a.s, l=l, renormalise=shape.renormalise), hot


def _mixed(p: RingArray, y: RingArray) -> RingArray:
    """The weighted sum of the experts' outputs, not floored."""
    return (p.reshape(*p.shape, 1).broadcast(*y.shape) * y).sum(1)


def moe(x: RingArray, residual: RingArray, router: RingArray, *weights: RingArray, plan: Any) -> RingArray:
    return mixture(x, residual, router, plan, _experts(x, weights, plan))


def _experts(x: RingArray, weights: Sequence[RingArray], plan: Any) -> Callable[[RingArray], RingArray]:
    public = _public(plan)
    return lambda hot: select_then_compute(hot.cast(x.ring), x, *weights, **public)


def _public(plan: Any) -> dict[str, Any]:
    """What `select_then_compute` is told of a layer's plan."""
    return {"up": plan.up, "arithmetic": plan.arithmetic, "activation": plan.activation}


def moe_range(
    x: RingArray, residual: RingArray, router: RingArray, *weights: RingArray, plan: Any
) -> list[Demand]:
    """What the activation demands, and that every product stays below a quarter of the ring."""
    _, hot = _routed(x, router, plan)
    inner = selected_range(hot.cast(x.ring), x, *weights, **_public(plan))
    return inner + mixture_range(x, router, plan, _experts(x, weights, plan))


def choose(index: RingArray, table: RingArray, *, n_choices: int, **_: Any) -> RingArray:
    rows = []
    for i in range(n_choices):
        row = table[..., i, :]
        rows.append(index.equals(i).reshape(*index.shape, 1).broadcast(*row.shape) & row)
    return reduce(lambda a, b: a ^ b, rows)
