"""Ideal functionalities of norms, softmax and maxima, in plain numpy integers; see `protocols.functionalities`.

The public widths of a norm are here as well: they are part of what is computed, not of how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from protocols.functionalities import Ints, exp_fixed, guard_bits, reciprocal_fixed
from sim.functionality import Functionality

# 1/sqrt(c) on [1/2, 1), lowest degree first: the quartic of the least relative error, 7.402e-5.
RSQRT_COEFFICIENTS = (2.9302435534, -5.4763159279, 6.8049571762, -4.4086451113, 1.1498343242)
GUARD = 6  # bits beyond s that a norm's factor has
Mask = Sequence[Sequence[bool]]


class NormWidths(ValueError):
    """A norm whose numbers do not fit into 64 bits, or whose epsilon is no word."""


class MaskShape(ValueError):
    """A public mask that does not match its array, or that leaves a row without an entry."""


@dataclass(frozen=True)
class NormRange:
    """Public widths, in bits, of a norm of rows of d words at s fractional bits, below 2^reach in size.

    T = sum of squares + d epsilon is an integer at 2 s fractional bits in [2^low, 2^high). mantissa: of the normalised
    T. factor: fractional bits of 1/sqrt(T / d). mean: bits of the reciprocal of d. Rings: square of T, average of the
    mean, product of a row times its factor.
    """

    d: int
    s: int
    low: int
    high: int
    offset: int
    mean: int

    @classmethod
    def of(cls, d: int, s: int, reach: int, eps: float, *, centred: bool) -> NormRange:
        """centred: with a mean, whose ring must fit as well. Raises NormWidths."""
        epsilon = round(Fraction(eps) * 4**s)
        if epsilon < 1 or d < 2 or s < GUARD:
            raise NormWidths(
                f"norm: expected 2 words or more, {GUARD} fractional bits or more and epsilon of at least 2^-{2 * s}, "
                f"got d = {d}, s = {s}, epsilon = {eps}"
            )
        offset = d * epsilon
        high = (d * 4 ** (reach + s) + offset).bit_length()
        found = cls(d, s, offset.bit_length() - 1, high, offset, reach + s + (d - 1).bit_length() + 1)
        result = rsqrt_ring(found.unit, found.low, found.mantissa, found.factor)
        widest = max(found.square, found.product, result, found.average if centred else 0)
        if widest > 64:
            raise NormWidths(
                f"norm of {d} words below 2^{reach} at {s} fractional bits, epsilon {eps}: expected rings of at most "
                f"64 bits, needs {widest}; declare a smaller reach or a larger epsilon"
            )
        return found

    @property
    def mantissa(self) -> int:
        return self.s + GUARD

    @property
    def factor(self) -> int:
        return self.s + GUARD

    @property
    def unit(self) -> int:
        """What stands for 1 in T: d at 2 s fractional bits."""
        return self.d << (2 * self.s)

    @property
    def square(self) -> int:
        return self.high + 1

    @property
    def average(self) -> int:
        return 2 * self.mean + 3 - (self.d - 1).bit_length()

    @property
    def product(self) -> int:
        """A normalised row is at most sqrt(d), and an error of the factor, in size; of either sign."""
        return self.s + self.factor + ((self.d + self.d // 256).bit_length() + 1) // 2 + 2


def rsqrt_words(bits: int) -> tuple[int, ...]:
    """The coefficients at so many fractional bits, lowest degree first."""
    return tuple(round(c * 2.0**bits) for c in RSQRT_COEFFICIENTS)


def rsqrt_multiples(unit: int, low: int, high: int, scale: int) -> tuple[int, ...]:
    """For each leading bit k from low to high - 1: sqrt(unit / 2^(k+1)) at `scale` fractional bits, rounded."""
    return tuple((math.isqrt((unit << (2 * scale + 2)) >> (k + 1)) + 1) >> 1 for k in range(low, high))


def rsqrt_ring(unit: int, low: int, bits: int, scale: int) -> int:
    """Bits of the ring of the result: room for the polynomial, below 6, times the greatest multiple."""
    return bits + rsqrt_multiples(unit, low, low + 1, scale)[0].bit_length() + 5


def rsqrt_fixed(x: Ints, *, unit: int, low: int, high: int, bits: int, scale: int, **_: Any) -> Ints:
    """1/sqrt(x / unit) at `scale` fractional bits, for integers x in [2^low, 2^high).

    x = c 2^(k+1) with c in [1/2, 1) at `bits` fractional bits, floored; the quartic as (k4 c2 + k3 c + k2) c2 + k1 c
    + k0 with c2 = c^2, floored at each product; times sqrt(unit / 2^(k+1)), floored.
    """
    k = np.int64(low) + sum((x >= np.int64(1 << i)).astype(np.int64) for i in range(low + 1, high))
    one, k0, k1, k2, k3, k4 = np.int64(bits), *(np.int64(v) for v in rsqrt_words(bits))
    c = (x << (high - 1 - k)) >> np.int64(high - bits)
    c2 = (c * c) >> one
    inner = (k4 * c2 + k3 * c + (k2 << one)) >> one
    y = (inner * c2 + k1 * c + (k0 << one)) >> one
    return np.asarray((y * np.array(rsqrt_multiples(unit, low, high, scale), dtype=np.int64)[k - low]) >> one)


def inverse_word(r: NormRange) -> int:
    """1 / d at the fractional bits of the mean, rounded."""
    return round(Fraction(1 << r.mean, r.d))


def _centred(x: Ints, r: NormRange) -> Ints:
    """Less the mean: the sum times 1 / d, rounded to the nearest."""
    raised = x.sum(-1, keepdims=True) * np.int64(inverse_word(r)) + np.int64(1 << (r.mean - 1))
    return np.asarray(x - (raised >> np.int64(r.mean)))


def _scaled(v: Ints, r: NormRange) -> Ints:
    T = (v * v).sum(-1) + np.int64(r.offset)
    factor = rsqrt_fixed(T, unit=r.unit, low=r.low, high=r.high, bits=r.mantissa, scale=r.factor)
    return np.asarray((v * factor[..., None]) >> np.int64(r.factor))


def layer_norm_fixed(x: Ints, *, s: int, reach: int, eps: float, **_: Any) -> Ints:
    r = NormRange.of(x.shape[-1], s, reach, eps, centred=True)
    return _scaled(_centred(x, r), r)


def rms_norm_fixed(x: Ints, *, s: int, reach: int, eps: float, **_: Any) -> Ints:
    return _scaled(x, NormRange.of(x.shape[-1], s, reach, eps, centred=False))


def allowed_rows(shape: tuple[int, ...], allowed: Mask | None) -> list[list[int]]:
    """Which columns each row of the last two axes has; without a mask, all of them in each row of all axes but the
    last, told once. Raises MaskShape."""
    if allowed is None:
        return [list(range(shape[-1]))]
    rows = [[j for j, here in enumerate(row) if here] for row in allowed]
    if len(shape) < 2 or (len(rows), {len(row) for row in allowed}) != (shape[-2], {shape[-1]}) or not all(rows):
        raise MaskShape(f"mask: expected {shape[-2:]} booleans with one true in each row, got {len(rows)} rows")
    return rows


def spread_of(rows: list[list[int]]) -> int:
    """Bits by which a sum of exponentials over a row, one of them 1, may exceed 1."""
    return max(1, (max(map(len, rows)) - 1).bit_length())


def softmax_fixed(x: Ints, *, s: int, l: int, allowed: Mask | None = None, **_: Any) -> Ints:
    """exp(x - max) / sum over the allowed entries of each row, floored to s fractional bits; 0 elsewhere."""
    rows = allowed_rows(x.shape, allowed)
    scale = guard_bits(s, l)
    here = np.zeros((len(rows), x.shape[-1]), dtype=bool)
    for i, row in enumerate(rows):
        here[i, row] = True
    mask = np.broadcast_to(here if allowed is not None else here[0], x.shape)
    top = np.where(mask, x, np.iinfo(np.int64).min).max(-1, keepdims=True)
    e = np.where(mask, exp_fixed(np.where(mask, x - top, 0), s=s, l=l), 0)
    r = reciprocal_fixed(e.sum(-1, keepdims=True), scale=scale, spread=spread_of(rows))
    return np.asarray((e * r) >> np.int64(2 * scale - s))


def _maximum(x: Ints, **_: Any) -> Ints:
    return np.asarray(x.max(-1))


def _argmax(x: Ints, **_: Any) -> Ints:
    """Binary digits of the lowest index of the maximum, lowest first."""
    index = np.argmax(x, axis=-1)
    return np.asarray((index[..., None] >> np.arange((x.shape[-1] - 1).bit_length())) & 1).astype(np.int64)


def _sums_of_squares(x: Ints, **_: Any) -> Ints:
    return np.asarray((x * x).sum(1))


MAXIMUM = Functionality("maximum", _maximum)
ARGMAX = Functionality("index of the maximum", _argmax)
SOFTMAX = Functionality("softmax", softmax_fixed)
SUMS_OF_SQUARES = Functionality("sum of squares of each row", _sums_of_squares)
RSQRT = Functionality("reciprocal square root", rsqrt_fixed)
LAYER_NORM = Functionality("layer norm", layer_norm_fixed)
RMS_NORM = Functionality("root mean square norm", rms_norm_fixed)
