"""The exact activations and the exponential on every word of a range, in integers with a proved error.

Blocks of width 2^-5 carry a Taylor polynomial of degree 4 about their centre, its coefficients rounded from rational
enclosures; a word's offset is an exact integer. What is missing is the remainder of order 5, bounded for the whole
range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from proofs.limits import enclosure
from proofs.limits.enclosure import Pair
from proofs.limits.row import sqrt_up

Ints = NDArray[np.int64]
Polynomial = tuple[int, ...]

SCALE = 40  # the values carry so many fractional bits
BLOCK = 5
DEGREE = 4
ROUNDING = DEGREE + 4  # units: one for each coefficient and each floor, the lower ones shrunk by the offset


@dataclass(frozen=True)
class Function:
    """A real function with what the reference needs of it.

    derivatives: enclosures of the value and of the first DEGREE derivatives at a point. fifth: a bound on the absolute
    fifth derivative over the range in use. tail: an upper bound on the distance from the saturated row for |x| >= 8.
    """

    name: str
    derivatives: Callable[[Fraction], list[Pair]]
    fifth: Fraction
    tail: Fraction


def _scaled(factor: Fraction, pair: Pair) -> Pair:
    low, high = factor * pair[0], factor * pair[1]
    return (low, high) if factor >= 0 else (high, low)


def _plus(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], a[1] + b[1]


def at(polynomial: Polynomial, x: Fraction) -> Fraction:
    """A polynomial's value, low degree first."""
    total = Fraction(0)
    for coefficient in reversed(polynomial):
        total = total * x + coefficient
    return total


def derivative(polynomial: Polynomial) -> Polynomial:
    """The derivative, low degree first."""
    return tuple(k * c for k, c in enumerate(polynomial))[1:] or (0,)


def times(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product, low degree first."""
    out = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] += x * y
    return tuple(out)


@cache
def hermite(order: int) -> Polynomial:
    """p with gelu^(order)(x) = density(x) p(x), order >= 2: p_2 = 2 - x^2, p_(n+1) = p_n' - x p_n."""
    if order == 2:
        return 2, 0, -1
    p = hermite(order - 1)
    slope, shifted = derivative(p), (0, *p)
    return tuple((slope[i] if i < len(slope) else 0) - c for i, c in enumerate(shifted))


def _gelu(x: Fraction) -> list[Pair]:
    value, mean = enclosure.normal(x), enclosure.density(x)
    found = [_scaled(x, value), _plus(value, _scaled(x, mean))]
    return found + [_scaled(at(hermite(k), x), mean) for k in range(2, DEGREE + 1)]


def _gelu_fifth() -> Fraction:
    """|density(x) p(x)| <= sum |p_k| max density(x) |x|^k, where (density(x) |x|^k)^2 <= (k / e)^k / (2 pi)."""
    e, pi = enclosure.exp(Fraction(1))[0], enclosure.pi()[0]
    return sum((abs(c) * sqrt_up((k / e) ** k / (2 * pi)) for k, c in enumerate(hermite(5))), Fraction(0))


@cache
def logistic(order: int) -> Polynomial:
    """q with sigmoid^(order) = q(sigmoid): q_0 = v, q_(n+1) = q_n'(v) v (1 - v)."""
    return (0, 1) if order == 0 else times(derivative(logistic(order - 1)), (0, 1, -1))


def _sigmoids(x: Fraction) -> list[Pair]:
    low, high = enclosure.exp(-x)
    value, spread = 1 / (1 + low), 1 / (1 + low) - 1 / (1 + high)
    slopes = [4 ** len(logistic(k)) for k in range(DEGREE + 1)]  # above sum k |q_k|, the slope of q on [0, 1]
    middles = [at(logistic(k), value) for k in range(DEGREE + 1)]
    return [(m - slope * spread, m + slope * spread) for m, slope in zip(middles, slopes, strict=True)]


def _silu(x: Fraction) -> list[Pair]:
    """(x v)^(k) = x v^(k) + k v^(k-1)."""
    v = _sigmoids(x)
    return [_scaled(x, v[0])] + [_plus(_scaled(x, v[k]), _scaled(Fraction(k), v[k - 1])) for k in range(1, DEGREE + 1)]


EIGHT = Fraction(8)
GELU = Function("gelu", _gelu, _gelu_fifth(), enclosure.density(EIGHT)[1])  # x Q(x) < density(x), falling
# With u = v (1 - v) <= 1/4: |q_5| = u |1 - 30 u + 120 u^2| <= 1/4 and |q_4| = u |1 - 2v| |1 - 12 u| <= 1/2.
SIGMOID = Function("sigmoid", _sigmoids, Fraction(1, 4), enclosure.exp(-EIGHT)[1])
SILU = Function("silu", _silu, (EIGHT + 1) / 4 + Fraction(5, 2), 8 * enclosure.exp(-EIGHT)[1])  # x e^-x falls
EXP = Function("exp", lambda x: [enclosure.exp(x)] * (DEGREE + 1), Fraction(2), Fraction(0))
FUNCTIONS = {f.name: f for f in (GELU, SIGMOID, SILU)}


class Reference:
    """A function on the words of [low, high] at s fractional bits: `values` within `error` units of 2^-SCALE."""

    def __init__(self, function: Function, s: int, low: int, high: int) -> None:
        if s < BLOCK + 1:
            raise ValueError(f"reference: expected more than {BLOCK} fractional bits, came {s}")
        self.s, self.first = s, low << BLOCK
        unit, factorial = 1 << SCALE, 1
        table = np.zeros((DEGREE + 1, ((high - low) << BLOCK) + 1), dtype=np.int64)
        centres = [Fraction(i, 1 << BLOCK) for i in range(low << BLOCK, (high << BLOCK) + 1)]
        found = [function.derivatives(x) for x in centres]
        for k in range(DEGREE + 1):
            factorial *= max(1, k)
            for j, pairs in enumerate(found):
                if pairs[k][1] - pairs[k][0] > Fraction(1, unit):
                    raise ArithmeticError(f"enclosure of {function.name} at {centres[j]} is wider than 2^-{SCALE}")
                table[k, j] = round(pairs[k][0] * unit / factorial)
        self.table = table
        remainder = function.fifth / 120 * Fraction(1, 1 << (BLOCK + 1)) ** (DEGREE + 1) * unit
        self.error = ROUNDING + -(-remainder.numerator // remainder.denominator)

    def values(self, x: Ints) -> Ints:
        """The function at words x, at SCALE fractional bits."""
        width = self.s - BLOCK
        block = (x + (1 << (width - 1))) >> np.int64(width)
        offset = x - (block << np.int64(width))
        block -= self.first
        total: Ints = self.table[DEGREE][block]
        for k in reversed(range(DEGREE)):
            total *= offset
            total >>= np.int64(self.s)
            total += self.table[k][block]
        return total
