"""Contracts of the protocols that evaluate every expert: the layer of `layers.moe`, its selection moved behind them.

The functionality is the same one; that the sum over experts behind a one-hot row is the selected expert is what random
lanes hold the two forms together by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proofs.contracts.hidden import hidden
from proofs.contracts.layers import linear, mixture, mixture_range, selected
from proofs.contracts.words import floor_shift, spread, times
from proofs.hybrid import Contract
from sim.ring import RingArray, stack


def feed_forward(x: RingArray, *weights: RingArray, plan: Any) -> RingArray:
    """weights: W1, W2, or W1, V, W2."""
    *first, w2 = weights
    a = plan.arithmetic
    return floor_shift(linear(hidden([linear(x, w) for w in first], plan.activation, a), w2), a.s)


Every = Callable[[RingArray], RingArray]  # one-hot rows (n, k, E) -> the selected experts' outputs (n, k, d)


def layer(every: Callable[[RingArray, Sequence[RingArray], Any], Every]) -> Contract:
    """A sparse layer around `every(states, experts, plan)`; experts: W1, W2, or W1, V, W2, each (E, rows, columns)."""

    def compute(x: RingArray, residual: RingArray, router: RingArray, *experts: RingArray, plan: Any) -> RingArray:
        return mixture(x, residual, router, plan, every(x, experts, plan))

    return Contract(compute, lambda x, _, router, *own, plan: mixture_range(x, router, plan, every(x, own, plan)))


def evaluate_all(x: RingArray, experts: Sequence[RingArray], plan: Any) -> Every:
    *first, w2 = experts
    s, E = plan.arithmetic.s, w2.shape[0]

    def every(hot: RingArray) -> RingArray:
        g = hidden([stack(*(linear(x, w[e]) for e in range(E))) for w in first], plan.activation, plan.arithmetic)
        y = stack(*(linear(g[e], w2[e]) for e in range(E)), axis=1)
        n, k, d = *hot.shape[:2], y.shape[2]
        wide = (n, k, E, d)
        picked = times(hot.reshape(n, k, E, 1).broadcast(*wide), y.reshape(n, 1, E, d).broadcast(*wide))
        return floor_shift(picked.sum(2), s)

    return every


def evaluate_concatenated(x: RingArray, experts: Sequence[RingArray], plan: Any) -> Every:
    """The one-hot masks the hidden words instead of the outputs."""
    *first, w2 = experts
    s, (E, d, f) = plan.arithmetic.s, w2.shape

    def every(hot: RingArray) -> RingArray:
        n, k, _ = hot.shape
        g = hidden([linear(x, w.reshape(E * f, -1)) for w in first], plan.activation, plan.arithmetic)
        keep = hot.transpose(1, 0, 2).reshape(k, n, E, 1).broadcast(k, n, E, f).reshape(k, n, E * f)
        masked = times(keep, spread(g, keep.shape))
        y = linear(masked.reshape(k * n, E * f), w2.transpose(1, 0, 2).reshape(d, E * f)).reshape(k, n, d)
        return floor_shift(y, s).transpose(1, 0, 2)

    return every


def scatter(x: RingArray, experts: Sequence[RingArray], plan: Any) -> Every:
    """The layer itself, its hidden words as `hidden` has them."""
    *first, w2 = experts
    s = plan.arithmetic.s

    def every(hot: RingArray) -> RingArray:
        n, k, E = hot.shape
        rows, states = hot.cast(x.ring).reshape(n * k, E), stack(*(x[i // k] for i in range(n * k)))
        g = hidden([selected(rows, states, w) for w in first], plan.activation, plan.arithmetic)
        return floor_shift(selected(rows, g, w2), s).reshape(n, k, -1)

    return every
