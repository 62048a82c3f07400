"""Errors of the fixed-point activations, exponential and reciprocal: on every word, against exact references.

What is evaluated is the ideal functionality that the protocols are proved to equal bit for bit in the faithful mode. In
the one-ulp mode each floor may be one less, and both ends are evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np

from proofs.limits import enclosure
from proofs.limits.reference import EXP, FUNCTIONS, SCALE, Ints, Reference
from proofs.limits.row import Bound, decided, decimal
from protocols import functionalities as F
from protocols.model.tables import Table
from protocols.truncate import FAITHFUL, MODES, ONE_ULP

SPAN = 8
CHUNK = 1 << 16
EXHAUSTIVE = "every word of the range, exact integers; reference: Taylor blocks from rational enclosures"
CLASSES = "every word, as classes of one normalised operand; exact integers"


@dataclass(frozen=True)
class Widest:
    """The largest absolute error found: at most `high`, at least `low`, at the real number `where`."""

    high: Fraction
    low: Fraction
    where: Fraction


@cache
def _reference(function: str, s: int) -> Reference:
    return Reference(FUNCTIONS[function], s, -SPAN, SPAN)


def _widest(evaluate: Callable[[Ints], list[Ints]], reference: Reference, low: int, high: int, bits: int) -> Widest:
    """Over the words [low, high]: the values at `bits` fractional bits that `evaluate` may give, against the
    reference."""
    most, where = -1, low
    for start in range(low, high + 1, CHUNK):
        x = np.arange(start, min(start + CHUNK, high + 1), dtype=np.int64)
        exact = reference.values(x)
        for values in evaluate(x):
            gap = np.abs((values << np.int64(SCALE - bits)) - exact)
            at = int(gap.argmax())
            if int(gap[at]) > most:
                most, where = int(gap[at]), start + at
    unit = 1 << SCALE
    return Widest(Fraction(most + reference.error, unit), Fraction(max(0, most - reference.error), unit),
                  Fraction(where, 1 << reference.s))


def _rows(x: Ints, breakpoints: tuple[int, ...], rows: tuple[tuple[int, ...], ...], s: int, mode: str) -> list[Ints]:
    """The values that a table may give at words x: one in the faithful mode, all ends in the one-ulp mode."""
    if mode == FAITHFUL:
        return [F.piecewise_fixed(x, breakpoints=breakpoints, rows=rows, s=s, l=64)]
    segment = np.searchsorted(np.asarray(breakpoints), x)
    table = np.asarray(rows, dtype=np.int64)
    square = (x * x) >> np.int64(s)
    found = []
    for lower, last in product((0, 1), repeat=2):
        total = (table[segment, 0] << np.int64(s)) + table[segment, 1] * x + table[segment, 2] * (square - lower)
        found.append((total >> np.int64(s)) - last)
    return found


def _saturates(table: Table, s: int) -> bool:
    """Whether the outer rows are zero and the identity (a constant one for a sigmoid), and the rest quadratic inside
    [-SPAN, SPAN]."""
    breakpoints, rows = table.words(s)
    one = 1 << s
    last = (one, 0, 0) if table.function == "sigmoid" else (0, one, 0)
    inside = -SPAN * one <= breakpoints[0] and breakpoints[-1] <= SPAN * one
    return rows[0] == (0, 0, 0) and rows[-1] == last and inside


def activation(table: Table, s: int, l: int, mode: str, stated: Fraction) -> Bound:
    """The table against its function on every word: exhaustively inside [-8, 8], by the saturated rows outside."""
    start = time.perf_counter()
    breakpoints, rows = table.words(s)
    function = FUNCTIONS[table.function]
    reference = _reference(table.function, s)
    found = _widest(lambda x: _rows(x, breakpoints, rows, s, mode), reference, -SPAN << s, SPAN << s, s)
    outside = function.tail + (Fraction(2, 1 << s) if mode == ONE_ULP else 0)
    largest = max(found.high, outside)
    good = _saturates(table, s) and largest <= stated
    statement = (
        f"|table - {table.function}| <= {decimal(largest)}, stated {decimal(stated)}; reached at x = "
        f"{float(found.where):.6f} to {decimal(found.high - found.low, 2)}; |x| > {SPAN}: outer rows exact to "
        f"{decimal(outside, 2)}, for |x| < 2^{l - 1 - 2 * s}"
    )
    return Bound("approximation", f"{table.name}, l={l}, s={s}, {mode}", decided(good), statement, EXHAUSTIVE,
                 time.perf_counter() - start)


def _exp_low(x: Ints, s: int, l: int) -> Ints:
    """The lowest value that the exponential may take in the one-ulp mode: every floor one less."""
    scale = F.guard_bits(s, l)
    shift = F.EXP_SQUARINGS - (scale - s)
    u = (x >> np.int64(shift)) - 1 if shift > 0 else x << np.int64(-shift)
    v: Ints = np.int64(1 << scale) + u + ((u * u) >> np.int64(scale + 1)) - 1
    for _ in range(F.EXP_SQUARINGS):
        v = np.maximum(v, 0)
        v = ((v * v) >> np.int64(scale)) - 1
    return v


def exponential(s: int, l: int, mode: str, stated: Fraction) -> Bound:
    """The exponential on every word z <= 0."""
    start = time.perf_counter()
    floor, scale = F.EXP_FLOOR << s, F.guard_bits(s, l)

    def evaluate(z: Ints) -> list[Ints]:
        values = [F.exp_fixed(z, s=s, l=l)]
        return values if mode == FAITHFUL else [*values, _exp_low(z, s, l)]

    found = _widest(evaluate, Reference(EXP, s, F.EXP_FLOOR, 0), floor + 1, 0, scale)
    clipped = enclosure.exp(Fraction(F.EXP_FLOOR))[1]
    largest = max(found.high, clipped)
    statement = (
        f"|exp_fixed - exp| <= {decimal(largest)} for every z <= 0, stated {decimal(stated)}; reached at z = "
        f"{float(found.where):.6f}; below the clip at {F.EXP_FLOOR} the value is 0 and the error < {decimal(clipped)}"
    )
    return Bound("approximation", f"exp, l={l}, s={s}, {mode}", decided(largest <= stated), statement, EXHAUSTIVE,
                 time.perf_counter() - start)


def reciprocal(s: int, l: int, spread: int, mode: str, stated: Fraction) -> Bound:
    """The reciprocal of every denominator up to 2^spread, relative.

    A denominator with leading bit j acts through c = D >> (j + 1) alone; within a class the error is largest at an end.
    One-ulp mode: every floor may be one less, by interval arithmetic on c; the denominator may then be short of 1, by
    the error of the largest exponential.
    """
    start = time.perf_counter()
    scale, slip = F.guard_bits(s, l), 0 if mode == FAITHFUL else 1
    one = 1 << scale
    least = int(_exp_low(np.zeros(1, dtype=np.int64), s, l)[0]) if slip else one
    unit, most, where = 1 << (2 * scale), 0, one
    for low in range(least >> 1, one, CHUNK):
        c = np.arange(low, min(low + CHUNK, one), dtype=np.int64)
        guesses = goldschmidt(c, scale, slip)
        for j in range(spread):
            first = c << np.int64(j + 1)
            last = first + ((1 << (j + 1)) - 1)
            least_products = ((guesses[0] >> np.int64(j + 1)) - slip) * first
            most_products = (guesses[1] >> np.int64(j + 1)) * last
            below, above = int(least_products.argmin()), int(most_products.argmax())
            most, where = max((most, where), (unit - int(least_products[below]), int(first[below])),
                              (int(most_products[above]) - unit, int(last[above])))
    # 2^spread itself: leading bit `spread`.
    for guess, less in zip(goldschmidt(np.array([one >> 1]), scale, slip), (slip, 0), strict=True):
        gap = abs((((int(guess[0]) >> (spread + 1)) - less) << (scale + spread)) - unit)
        most, where = max((most, where), (gap, 1 << (scale + spread)))
    largest = Fraction(most, 1 << (2 * scale))
    statement = (
        f"|D r - 1| <= {decimal(largest)} for every D in [{float(Fraction(least, one)):.5g}, 2^{spread}] at {scale} "
        f"fractional bits, stated {decimal(stated)}; largest at D = {float(Fraction(where, one)):.6f}"
    )
    return Bound("approximation", f"reciprocal, l={l}, s={s}, {mode}", decided(largest <= stated), statement,
                 CLASSES, time.perf_counter() - start)


def goldschmidt(c: Ints, scale: int, slip: int) -> tuple[Ints, Ints]:
    """Bounds on the normalised reciprocal of c in [1/2, 1), when each floor (that of c too) may be up to `slip` less.
    slip 0: both are the value."""
    bits, one = np.int64(scale), np.int64(1 << scale)
    c_low = c - slip
    w_low, w_high = F.reciprocal_start(scale) - 2 * c, F.reciprocal_start(scale) - 2 * c_low
    e_low, e_high = one - ((c * w_high) >> bits), one - (((c_low * w_low) >> bits) - slip)
    w_low, w_high = ((w_low * (one + e_low)) >> bits) - slip, (w_high * (one + e_high)) >> bits
    squares = e_low * e_low, e_high * e_high
    smaller = np.where((e_low <= 0) & (e_high >= 0), np.int64(0), np.minimum(*squares))
    e_low, e_high = (smaller >> bits) - slip, np.maximum(*squares) >> bits
    return np.asarray(((w_low * (one + e_low)) >> bits) - slip), np.asarray((w_high * (one + e_high)) >> bits)


def truncation(l: int = 8) -> Iterator[Bound]:
    """Both modes on every pair of shares of a small ring: the exact floor, and the floor less the carry of the
    shares."""
    words = np.arange(1 << l, dtype=np.int64)
    client, server = (side.reshape(-1) for side in np.meshgrid(words, words, indexing="ij"))
    value = F.wrap(client + server, l)
    for mode in MODES:
        start, errors = time.perf_counter(), set[int]()
        for f in range(1, l - 1):
            shifted = (client + (1 << (l - 1))) & np.int64((1 << l) - 1)
            wrapped = (shifted + server) >> np.int64(l)
            low = np.int64((1 << f) - 1)
            carry = ((shifted & low) + (server & low)) >> np.int64(f)
            y = (shifted >> np.int64(f)) + (server >> np.int64(f)) - (wrapped << np.int64(l - f)) - (1 << (l - 1 - f))
            y = y + carry if mode == FAITHFUL else y
            errors |= {int(e) for e in np.unique(y - (value >> np.int64(f)))}
        wanted = {0} if mode == FAITHFUL else {-1, 0}
        rule = "floor(x / 2^f) exactly" if mode == FAITHFUL else "floor(x / 2^f) or one ulp less"
        yield Bound(
            "truncation", f"{mode}, any x", decided(errors == wanted),
            f"{rule}: errors {sorted(errors)} ulp; the carry that the one-ulp mode leaves out is one bit, at any l",
            f"every pair of shares at l = {l}, every f; at 64 bits by the correctness theorem",
            time.perf_counter() - start,
        )
