"""Contracts of routing: the k largest, one-hot rows, probabilities."""

from __future__ import annotations

from functools import reduce
from typing import Any

from proofs.contracts.functions import exp, reciprocal
from proofs.contracts.words import (
    floor_shift,
    non_negative,
    same,
    times,
)
from proofs.hybrid import Demand
from protocols import functionalities as F
from protocols.routing import spread_of
from sim.ring import Z2, RingArray, concat, stack

Run = tuple[RingArray, list[RingArray]]  # the maximum of a run of neighbours, and which of them it is


def merge(left: Run, right: Run) -> Run:
    """The maximum of two neighbouring runs; a tie keeps the left one."""
    difference = left[0] - right[0]
    keep = non_negative(difference)
    rows = [keep & hot for hot in left[1]] + [~keep & hot for hot in right[1]]
    return right[0] + times(keep, difference), rows


def _tournament(values: RingArray) -> Run:
    one = values.const(0, values.shape).cast(Z2) ^ 1
    runs: list[Run] = [(values[:, i], [one[:, i]]) for i in range(values.shape[1])]
    while len(runs) > 1:
        odd = [runs[-1]] if len(runs) % 2 else []
        runs = [merge(runs[i], runs[i + 1]) for i in range(0, len(runs) - 1, 2)] + odd
    return runs[0]


def top_k(values: RingArray, *, k: int, l: int, **_: Any) -> tuple[RingArray, RingArray]:
    rest, winners, hots = values, [], []
    for _selection in range(k):
        winner, rows = _tournament(rest)
        hot = stack(*rows, axis=1)
        winners.append(winner)
        hots.append(hot)
        rest = rest + times(hot, -rest - (1 << (l - 2)))
    return stack(*winners, axis=1), stack(*hots, axis=1)


def rankable(values: RingArray, *, l: int, **_: Any) -> list[Demand]:
    return [Demand("differences do not wrap", values, -(1 << (l - 2)), (1 << (l - 2)) - 1)]


def one_hot(index: RingArray, *, E: int) -> RingArray:
    bits = index.shape[1]
    rows = []
    for e in range(E):
        digits = [index[:, j] if e >> j & 1 else ~index[:, j] for j in range(bits)]
        rows.append(reduce(lambda a, b: a & b, digits))
    return stack(*rows, axis=1)


def probabilities(logits: RingArray, winners: RingArray, *, s: int, l: int, renormalise: bool, **_: Any) -> RingArray:
    batch, k = winners.shape
    if k == 1 and renormalise:
        return logits.const(1 << s, (batch, 1))
    scale, top = F.guard_bits(s, l), winners[:, :1]
    chosen = exp(winners - top.broadcast(*winners.shape), s=s, l=l)
    counted = chosen if renormalise else exp(logits - top.broadcast(*logits.shape), s=s, l=l)
    inverse = reciprocal(counted.sum(1), scale=scale, spread=spread_of(counted.shape[1])).reshape(batch, 1)
    if k == 1:
        return floor_shift(inverse, scale - s)
    return floor_shift(chosen * inverse.broadcast(batch, k), 2 * scale - s)


def ranked(logits: RingArray, winners: RingArray, *, l: int, **_: Any) -> list[Demand]:
    """The first winner is a largest logit, the others are not above it; differences fit the exponential."""
    both = concat(logits, winners, axis=1)
    top = winners[:, :1]
    apart = top.broadcast(*both.shape) - both
    hits = same(logits, top.broadcast(*logits.shape))
    misses = [~hits[:, i] for i in range(hits.shape[1])]
    return [
        Demand("the first winner is the largest", apart, 0, (1 << (l - 2)) - 1),
        Demand("the first winner is one of the logits", ~reduce(lambda a, b: a & b, misses), 1, 1),
    ]
