"""Rational enclosures of exp, pi and the normal distribution: every pair (low, high) holds the exact value.

Positive series in integers at scale 2^-PRECISION: each term is rounded down, and a floor's unit is carried on by the
factors of later terms, which add up to e^x at most; the rest of the series is bounded by a geometric one.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import isqrt

PRECISION = 160
ONE = 1 << PRECISION
Pair = tuple[Fraction, Fraction]
LARGEST = 16


class EnclosureRange(ValueError):
    """An argument beyond the range of the series."""


def _check(x: Fraction) -> None:
    if abs(x) > LARGEST:
        raise EnclosureRange(f"enclosure: expected |x| <= {LARGEST}, came {float(x)}: saturate before")


@cache
def exp(x: Fraction) -> Pair:
    """e^x for |x| <= LARGEST."""
    _check(x)
    size, total, term, k = abs(x), ONE, ONE, 0
    while term or k < 2 * LARGEST:  # from there on each term is at most half of the one before
        k += 1
        term = term * size.numerator // (size.denominator * k)
        total += term
    slack = (k + 3) ** 2 * 3 ** -(-size.numerator // size.denominator)  # 3 > e
    low, high = Fraction(total, ONE), Fraction(total + slack, ONE)
    return (low, high) if x >= 0 else (1 / high, 1 / low)


def _inverse_arctan(n: int) -> Pair:
    """arctan(1 / n), n >= 2: the alternating series stops within its next term."""
    total, k = 0, 0
    while (term := ONE // n ** (2 * k + 1) // (2 * k + 1)) > 0:
        total += -term if k % 2 else term
        k += 1
    return Fraction(total - k - 1, ONE), Fraction(total + k + 1, ONE)


@cache
def pi() -> Pair:
    """pi = 16 arctan(1/5) - 4 arctan(1/239), Machin's formula."""
    first, second = _inverse_arctan(5), _inverse_arctan(239)
    return 16 * first[0] - 4 * second[1], 16 * first[1] - 4 * second[0]


@cache
def _root_two_pi() -> Pair:
    low, high = (isqrt(int(2 * end * ONE * ONE)) for end in pi())
    return Fraction(low, ONE), Fraction(high + 1, ONE)


@cache
def density(x: Fraction) -> Pair:
    """The standard normal density, x^2 / 2 <= 2 LARGEST."""
    half = exp(-x * x / 4)
    low, high = _root_two_pi()
    return half[0] ** 2 / high, half[1] ** 2 / low


@cache
def normal(x: Fraction) -> Pair:
    """The standard normal distribution: 1/2 + density(x) sum x^(2n+1) / (1 3 5 .. (2n+1)) for x >= 0."""
    if x < 0:
        low, high = normal(-x)
        return 1 - high, 1 - low
    scaled = x.numerator * ONE // x.denominator
    total, term, n, square = scaled, scaled, 0, x * x
    while term or 2 * n + 3 < 2 * square:  # from there on each term is at most half of the one before
        n += 1
        term = term * square.numerator // (square.denominator * (2 * n + 1))
        total += term
    # Here the factors of later terms add up to e^(x^2 / 2) at most.
    slack = Fraction((n + 3) ** 2, ONE) * exp(square / 4)[1] ** 2
    low, high = Fraction(total, ONE), Fraction(total, ONE) + slack
    mean = density(x)
    return Fraction(1, 2) + mean[0] * low, Fraction(1, 2) + mean[1] * high
