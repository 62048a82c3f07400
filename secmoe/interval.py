"""What one-ulp truncation may do to a layer: the fixed-point oracle over intervals.

In one-ulp mode a truncation gives the floor or the floor less one, as a function of the shares. Which of the two is
unknown to anyone, so the exact value of the output is not defined; its interval is. This module carries [lo, hi]
through every step of the layer. Near ties of the router may fall either way, so each route that the errors allow has
intervals of its own. Numpy integers only: like the oracle, it imports no protocol and no kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, Words
from protocols.model.oracle import EXP_CLIP, EXP_SQUARINGS, RECIPROCAL_START, reciprocal_steps
from protocols.model.tables import Table

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """Elementwise bounds on signed values, both inclusive."""

    lo: Ints
    hi: Ints

    @classmethod
    def of(cls, value: Ints) -> Interval:
        return cls(value, value)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.lo + other.lo, self.hi + other.hi)

    def plus(self, constant: int) -> Interval:
        return Interval(self.lo + constant, self.hi + constant)

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)

    def __mul__(self, other: Interval) -> Interval:
        ends = np.stack([self.lo * other.lo, self.lo * other.hi, self.hi * other.lo, self.hi * other.hi])
        return Interval(ends.min(0), ends.max(0))

    def times(self, factor: int | Ints) -> Interval:
        """By a public factor."""
        ends = np.stack([self.lo * factor, self.hi * factor])
        return Interval(ends.min(0), ends.max(0))

    def trunc(self, bits: int) -> Interval:
        """One-ulp truncation: the floor, or the floor less one."""
        return Interval((self.lo >> np.int64(bits)) - 1, self.hi >> np.int64(bits))

    def at_least(self, low: int) -> Interval:
        """max(self, low)."""
        return Interval(np.maximum(self.lo, low), np.maximum(self.hi, low))

    def at_most(self, high: int) -> Interval:
        """min(self, high)."""
        return Interval(np.minimum(self.lo, high), np.minimum(self.hi, high))

    def sum(self, axis: int) -> Interval:
        return Interval(self.lo.sum(axis), self.hi.sum(axis))

    def hull(self, other: Interval, where: NDArray[np.bool_]) -> Interval:
        """The union with another interval, at the places given."""
        lo, hi = np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi)
        return Interval(np.where(where, lo, self.lo), np.where(where, hi, self.hi))


@dataclass(frozen=True)
class OneUlpBound:
    """For each token, the intervals [d] of its output under every route that one-ulp errors allow."""

    tokens: tuple[tuple[Interval, ...], ...]
    fp: FixedPoint

    def admits(self, output: Words) -> bool:
        """Whether every token's output lies inside one of its intervals."""
        signed = self.fp.signed(output)
        return all(
            any(bool(((i.lo <= row) & (row <= i.hi)).all()) for i in intervals)
            for row, intervals in zip(signed, self.tokens, strict=True)
        )

    @property
    def width(self) -> int:
        """The widest interval, in ulp."""
        return max(int((i.hi - i.lo).max()) for intervals in self.tokens for i in intervals)


def one_ulp_bound(
    x: Words, residual: Words, weights: MoeWeights, config: MoeConfig, fp: FixedPoint, table: Table | None
) -> OneUlpBound:
    """Bounds on the output of the layer in one-ulp mode. Arguments as `oracle.sparse_moe_layer`."""
    matrices = [None if m is None else fp.signed(m) for m in (weights.router, weights.w1, weights.v, weights.w2)]
    router, w1, v, w2 = matrices
    assert router is not None and w1 is not None and w2 is not None
    tokens = []
    for state, rest in zip(fp.signed(x), fp.signed(residual), strict=True):
        logits = Interval.of(router @ state).trunc(fp.s)
        found = []
        for route in _routes(logits, config.k):
            p = _probabilities(logits, route, config, fp)
            mixed = Interval.of(np.zeros_like(rest))
            for slot, expert in enumerate(route):
                y = _expert(state, w1[expert], None if v is None else v[expert], w2[expert], fp, table)
                mixed = mixed + y * Interval(p.lo[slot : slot + 1], p.hi[slot : slot + 1])
            found.append(mixed.trunc(fp.s) + Interval.of(rest))
        tokens.append(tuple(found))
    return OneUlpBound(tuple(tokens), fp)


def _routes(logits: Interval, k: int, taken: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every sequence of k winners that values inside the intervals allow; ties go to the lower index."""
    if k == 0:
        yield taken
        return
    rest = [i for i in range(len(logits.lo)) if i not in taken]
    for i in rest:
        beaten = (logits.hi[i] >= logits.lo[j] + (1 if j < i else 0) for j in rest if j != i)
        if all(beaten):
            yield from _routes(logits, k - 1, (*taken, i))


def _exponential(z: Interval, fp: FixedPoint) -> Interval:
    F, floor = fp.guard, EXP_CLIP << fp.s
    clipped = z.at_least(floor)
    shift = EXP_SQUARINGS - (F - fp.s)
    u = clipped.trunc(shift) if shift >= 0 else clipped.times(1 << -shift)
    v = (u + (u * u).trunc(F + 1)).plus(1 << F)
    for _ in range(EXP_SQUARINGS):
        v = (v * v).trunc(F)
    lo = np.where(z.lo > floor, v.lo, np.minimum(v.lo, 0))
    return Interval(lo, np.where(z.hi > floor, v.hi, 0))


def _reciprocal(D: Interval, terms: int, fp: FixedPoint) -> Interval:
    F, J = fp.guard, reciprocal_steps(terms)
    steps = np.int64(1) << np.arange(F + 1, F + J + 1, dtype=np.int64)
    low, high = (int((bound >= steps).sum()) for bound in (D.lo, D.hi))
    results = [_goldschmidt(D, 1 << (J - passed), F, J) for passed in range(low, high + 1)]
    lo, hi = np.stack([r.lo for r in results]), np.stack([r.hi for r in results])
    return Interval(lo.min(0), hi.max(0))


def _goldschmidt(D: Interval, factor: int, F: int, J: int) -> Interval:
    one = 1 << F
    c = D.times(factor).trunc(J + 1)
    w = (-c.times(2)).plus(round(RECIPROCAL_START * 2.0**F))
    e = (-(c * w).trunc(F)).plus(one)
    w = (w * e.plus(one)).trunc(F)
    e = (e * e).trunc(F)
    w = (w * e.plus(one)).trunc(F)
    return w.times(factor).trunc(J + 1)


def _probabilities(logits: Interval, route: tuple[int, ...], config: MoeConfig, fp: FixedPoint) -> Interval:
    """The k selected probabilities at scale s. The first winner's exponent is zero, no other is above it."""
    top = route[0]
    z = (logits + -Interval(logits.lo[top : top + 1], logits.hi[top : top + 1])).at_most(0)
    z.lo[top] = z.hi[top] = 0
    e = _exponential(z, fp)
    chosen = Interval(e.lo[list(route)], e.hi[list(route)])
    summed = chosen if config.renormalise else e
    r = _reciprocal(summed.sum(0), len(summed.lo), fp)
    if config.k == 1:
        return Interval(np.atleast_1d(r.lo), np.atleast_1d(r.hi)).trunc(fp.guard - fp.s)
    return (chosen * r).trunc(2 * fp.guard - fp.s)


def _expert(state: Ints, w1: Ints, v: Ints | None, w2: Ints, fp: FixedPoint, table: Table | None) -> Interval:
    h = Interval.of(w1 @ state).trunc(fp.s)
    g = h.at_least(0) if table is None else _piecewise(h, table, fp)
    if v is not None:
        g = (g * Interval.of(v @ state).trunc(fp.s)).trunc(fp.s)
    up: Ints = np.maximum(w2, 0)
    down: Ints = np.minimum(w2, 0)
    lo: Ints = up @ g.lo + down @ g.hi
    hi: Ints = up @ g.hi + down @ g.lo
    return Interval(lo, hi).trunc(fp.s)


def _piecewise(x: Interval, table: Table, fp: FixedPoint) -> Interval:
    breakpoints, rows = table.words(fp.s)
    first, last = (np.searchsorted(breakpoints, bound, side="left") for bound in (x.lo, x.hi))
    powers = [Interval.of(np.full_like(x.lo, 1 << fp.s)), x]
    while len(powers) <= table.degree:
        powers.append((powers[-1] * x).trunc(fp.s))
    found: Interval | None = None
    for segment, row in enumerate(rows):
        y = Interval.of(np.zeros_like(x.lo))
        for coefficient, power in zip(row, powers, strict=True):
            y = y + power.times(coefficient)
        here = (first <= segment) & (segment <= last)
        empty = Interval(np.full_like(x.lo, np.iinfo(np.int64).max), np.full_like(x.lo, np.iinfo(np.int64).min))
        found = (found or empty).hull(y.trunc(fp.s), here)
    assert found is not None
    return found
