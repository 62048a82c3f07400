"""Contracts of functions: exponential, reciprocal, piecewise polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from proofs.contracts.words import (
    floor_shift,
    greater_than,
    located_range,
    non_negative,
    times,
)
from proofs.hybrid import Demand
from protocols import functionalities as F
from protocols.inner_rows import InnerRows
from protocols.model.tables import Table
from protocols.nonlinear import product_ring
from protocols.polynomial import CHEAPEST, narrow_rows
from sim.ring import Ring, RingArray, stack


def exp(x: RingArray, *, s: int, l: int, into: Ring | None = None, **_: Any) -> RingArray:
    scale, floor = F.guard_bits(s, l), F.EXP_FLOOR << s
    inside = non_negative(x - (floor + 1))
    above, narrow = times(inside, x - floor), product_ring(scale)
    above = floor_shift(above, 0, narrow) if narrow.l > x.ring.l else above.cast(narrow)
    shift = F.EXP_SQUARINGS - (scale - s)
    u = floor_shift(above, shift) + (floor >> shift)
    v = u + floor_shift(u * u, scale + 1) + (1 << scale)
    for _round in range(F.EXP_SQUARINGS - 1):
        v = floor_shift(v * v, scale)
    return times(inside, floor_shift(v * v, scale, into or x.ring))


def exp_range(x: RingArray, **_: Any) -> list[Demand]:
    return [Demand("not positive, above -2^(l-2)", x, 1 - (1 << (x.ring.l - 2)), 0)]


def _above(x: RingArray, scale: int, spread: int) -> RingArray:
    return greater_than(x, thresholds=[(1 << (scale + i)) - 1 for i in range(1, spread + 1)])


def _descend(v: RingArray, above: RingArray, spread: int) -> RingArray:
    parts = stack(*(v << (spread - i) for i in range(1, spread + 1)))
    return (v << spread) - times(above, parts).sum(0)


def reciprocal(x: RingArray, *, scale: int, spread: int, **_: Any) -> RingArray:
    above, one = _above(x, scale, spread), 1 << scale
    c = floor_shift(_descend(x, above, spread), spread + 1)
    w = -(c << 1) + F.reciprocal_start(scale)
    e = -floor_shift(c * w, scale) + one
    w = floor_shift(w * (e + one), scale)
    e = floor_shift(e * e, scale)
    w = floor_shift(w * (e + one), scale)
    return floor_shift(_descend(w, above, spread), spread + 1)


def reciprocal_range(x: RingArray, *, scale: int, spread: int, **_: Any) -> list[Demand]:
    return [Demand("between 1 and 2^spread", x, 1 << scale, 1 << (scale + spread))]


def _value(row: Sequence[int], powers: Sequence[RingArray], s: int) -> RingArray:
    """A public polynomial of x, x^2, .. at 2 s fractional bits."""
    y = powers[0].const(row[0] << s, powers[0].shape)
    for c, power in zip(row[1:], powers, strict=True):
        y = y + power * c
    return y


def piecewise(
    x: RingArray, *, table: Table, s: int, form: str = CHEAPEST, into: Ring | None = None, **_: Any
) -> RingArray:
    """The selected row, telescoped: row 0, and at each breakpoint below x the step to the next row.

    In narrow rings: the inner row, zero outside the breakpoints, beside the first row, a constant, or the last one.
    """
    breakpoints, rows = table.words(s)
    narrow = narrow_rows(table, s, form, x.ring)
    if narrow is not None:
        return _inner_and_outer(x, breakpoints, rows, narrow, s, into or x.ring)
    powers = [x]
    while len(powers) < table.degree:
        powers.append(floor_shift(powers[-1] * x, s))
    values = [_value(row, powers, s) for row in rows]
    above = greater_than(x, thresholds=breakpoints)
    total = values[0]
    for j, (before, after) in enumerate(pairwise(values)):
        total = total + times(above[j], after - before)
    return floor_shift(total, s)


def _inner_and_outer(
    x: RingArray, breakpoints: Sequence[int], rows: Sequence[Sequence[int]], narrow: InnerRows, s: int, into: Ring
) -> RingArray:
    ring = Ring(narrow.sums)
    powers = [x.cast(ring)]
    for centre in narrow.centres:
        product = (powers[-1] * x.cast(ring)).cast(Ring(narrow.powers))
        powers.append(floor_shift(product + centre, s, ring) - (centre >> s))
    above = greater_than(x, thresholds=breakpoints)
    total = x.const(0, x.shape).cast(ring)
    for j, row in enumerate(rows[1:-1]):
        inner = [row[0] - rows[0][0], *row[1:]]
        total = total + times(above[j] ^ above[j + 1], _value(inner, powers, s))
    last = above[len(breakpoints) - 1]
    y = x.const(rows[0][0], x.shape).cast(into)
    if any(rows[-1][1:]):
        y = y + floor_shift(times(last, x), 0, into)
    else:
        total = total + times(last, total.const((rows[-1][0] - rows[0][0]) << s, x.shape))
    return y + floor_shift(total + narrow.lift, s, into) - (narrow.lift >> s)


def piecewise_range(x: RingArray, *, table: Table, s: int, form: str = CHEAPEST, **_: Any) -> list[Demand]:
    if narrow_rows(table, s, form, x.ring) is not None:
        return located_range(x, thresholds=table.words(s)[0])
    bound = (1 << ((x.ring.l - 2) // 2)) - 1
    return [Demand("the square does not wrap", x, -bound, bound)]
