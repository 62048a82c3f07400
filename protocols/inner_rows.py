"""The public numbers that let the inner rows of a piecewise polynomial be computed in a narrow ring.

A table whose outer rows are a constant and x itself (or two constants) differs from them between its first and last
breakpoint only, and there it is bounded: by the breakpoints, the rows, and the fractional bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from protocols.locate import window_bits
from protocols.model.tables import Table
from sim.ring import Ring

Range = tuple[int, int]


@dataclass(frozen=True)
class InnerRows:
    """What is left of a table between its first and last breakpoint, and the rings that hold it.

    rows: coefficients of every inner row, less the first row's constant; where both outer rows are constants and they
    differ, the last row's constant follows as one more row. base: the first row's constant. linear: the last row is x.
    powers: bits of the ring of the products that make x^2 and higher powers; centres: what is added to each of them, a
    multiple of 2^s, so that every x between the breakpoints gives a signed word of that ring. sums: bits of the ring in
    which a row's value at 2 s fractional bits, plus `lift`, a multiple of 2^s, is not negative.
    """

    rows: tuple[tuple[int, ...], ...]
    base: int
    linear: bool
    powers: int
    centres: tuple[int, ...]
    sums: int
    lift: int
    window: int

    def fits(self, ring: Ring) -> bool:
        """Whether words of that ring hold all of it."""
        return max(self.powers, self.sums, self.window + 2) <= ring.l


@lru_cache(maxsize=64)
def inner_rows(table: Table, s: int) -> InnerRows | None:
    """Of a table at s fractional bits; None where its outer rows are not of this kind, or it has no inner ones.

    Bounds are those of interval arithmetic, and hold as well for powers that are one ulp low.
    """
    breakpoints, (first, *inner, last) = table.words(s)
    linear = any(last[1:])
    plain = last[1:] == (1 << s, *(0 for _ in last[2:])) and last[0] == first[0] and breakpoints[-1] >= -1
    if not inner or any(first[1:]) or (linear and not plain):
        return None
    rows = [(row[0] - first[0], *row[1:]) for row in inner]
    edges = list(pairwise(breakpoints))
    products = _products((breakpoints[0] + 1, breakpoints[-1]), table.degree, s)
    floors = [low >> s << s for low, _ in products]
    powers = max((max(s + 2, (high - floor).bit_length()) for (_, high), floor in zip(products, floors, strict=True)),
                 default=0)  # fmt: skip
    centres = tuple(-floor - (1 << (powers - 1)) for floor in floors)
    # A power is bounded by its ring alone: where x is outside the breakpoints, it may be any word of it.
    wide = [((-(1 << (powers - 1)) - c >> s) - 1, (1 << (powers - 1)) - 1 - c >> s) for c in centres]
    values = [
        _sum([(row[0] << s,) * 2, *(_scaled(r, c) for r, c in zip([(low + 1, high), *wide], row[1:], strict=True))])
        for row, (low, high) in zip(rows, edges, strict=True)
    ]
    if not linear and last[0] != first[0]:
        rows.append((last[0] - first[0], *(0 for _ in last[1:])))
        values.append((rows[-1][0] << s,) * 2)
    low, high = min(0, *(a for a, _ in values)), max(0, *(b for _, b in values))
    lift = -(low >> s << s)
    sums = max(powers, s + 3, (high + lift).bit_length() + 1)
    return InnerRows(tuple(rows), first[0], linear, powers, centres, sums, lift, window_bits(breakpoints))


def _products(x: Range, degree: int, s: int) -> list[Range]:
    """x^2, x^3, .. before their floors, x in a range and each power floored, or an ulp lower."""
    found: list[Range] = []
    for exponent in range(2, degree + 1):
        if exponent == 2:
            found.append((0 if x[0] <= 0 <= x[1] else min(a * a for a in x), max(a * a for a in x)))
        else:
            power = (found[-1][0] >> s) - 1, found[-1][1] >> s
            ends = [a * b for a in x for b in power]
            found.append((min(ends), max(ends)))
    return found


def _scaled(x: Range, c: int) -> Range:
    return (c * x[0], c * x[1]) if c >= 0 else (c * x[1], c * x[0])


def _sum(parts: list[Range]) -> Range:
    return sum(low for low, _ in parts), sum(high for _, high in parts)
