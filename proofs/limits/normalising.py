"""Errors of the reciprocal square root, of norms and of softmax; and what their contracts take as premises.

The quartic is evaluated on every normalised word, in both modes of truncation. The rest is exact arithmetic on public
numbers: the multiples of all octaves, and the Cauchy-Schwarz inequality for a row times its factor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.limits import enclosure
from proofs.limits.approximation import CHUNK
from proofs.limits.reference import EXP, SCALE, Ints, Reference
from proofs.limits.row import Bound, decided, decimal, sqrt_up
from protocols import functionalities as G
from protocols.cleartext import norms as F
from protocols.cleartext.norms import NormRange
from protocols.truncate import FAITHFUL

FLOAT = Fraction(1, 1 << 51)  # relative, above that of two float64 products of exact factors
WORDS = "every normalised word; exact integers, compared in float64 with its rounding added"


def quartic(c: Ints, bits: int, slip: int) -> tuple[Ints, Ints]:
    """Bounds on the polynomial at words c of [1/2, 1), when each floor (that of c too) may be up to `slip` less.
    slip 0: both are the value."""
    one, (k0, k1, k2, k3, k4) = np.int64(bits), (np.int64(k) for k in F.rsqrt_words(bits))
    least = c - slip
    squares = ((least * least) >> one) - slip, (c * c) >> one
    inner = (
        ((k4 * squares[0] + k3 * c + (k2 << one)) >> one) - slip,
        (k4 * squares[1] + k3 * least + (k2 << one)) >> one,
    )
    low = ((inner[0] * squares[0] + k1 * c + (k0 << one)) >> one) - slip
    return np.asarray(low), np.asarray((inner[1] * squares[1] + k1 * least + (k0 << one)) >> one)


def quartic_error(bits: int, mode: str) -> tuple[Fraction, Fraction]:
    """The largest shortfall and excess, relative, of the polynomial against 1/sqrt of all reals that a word stands for.

    A word c stands for [c, c + 1) at `bits` fractional bits: y is below 1/sqrt most where the real is c, and above it
    most where that is c + 1.
    """
    slip, unit = 0 if mode == FAITHFUL else 1, float(1 << (3 * bits))
    least, most = float("inf"), 0.0
    for start in range(1 << (bits - 1), 1 << bits, CHUNK):
        c = np.arange(start, min(start + CHUNK, 1 << bits), dtype=np.int64)
        low, high = (y.astype(np.float64) for y in quartic(c, bits, slip))
        least = min(least, float((low * low * c).min()) / unit)
        most = max(most, float((high * high * (c + 1)).max()) / unit)
    below = 1 - _root_down(Fraction(least) * (1 - FLOAT))
    return below, sqrt_up(Fraction(most) * (1 + FLOAT)) - 1


def _root_down(value: Fraction) -> Fraction:
    """A lower bound on the square root of a positive number, within 2^-19 / value of it."""
    return value / sqrt_up(value)


def inverse_root(bits: int, mode: str, stated: Fraction) -> Bound:
    """The quartic, in one octave."""
    start = time.perf_counter()
    below, above = quartic_error(bits, mode)
    largest = max(below, above)
    return Bound(
        "approximation", f"rsqrt, {bits} bits, {mode}", decided(largest <= stated),
        f"|y sqrt(c) - 1| <= {decimal(largest)} for every c in [1/2, 1) at {bits} fractional bits and every real that "
        f"it stands for, stated {decimal(stated)}", WORDS, time.perf_counter() - start,
        ("float64 products are rounded to the nearest",),
    )  # fmt: skip


def factor_error(r: NormRange, quartic: Fraction) -> Fraction:
    """Relative error of the factor in all octaves: the quartic's, the multiple's rounding, the last floor (one more in
    the one-ulp mode). The factor is at least (1 - quartic) times the multiple, less 2."""
    least = min(F.rsqrt_multiples(r.unit, r.low, r.high, r.factor))
    return quartic + Fraction(1, least) * (1 + quartic) + Fraction(2, least)


@dataclass(frozen=True)
class Norm:
    """A norm to bound: rows of d words below 2^reach, with a mean or without."""

    subject: str
    d: int
    reach: int
    eps: float
    centred: bool


def norm(shape: Norm, s: int, l: int, quartic: Fraction, stated: Fraction) -> Bound:
    """The error of a norm's factor, and the ranges that its correctness theorem takes as premises."""
    start, d, reach = time.perf_counter(), shape.d, shape.reach
    r = NormRange.of(d, s, reach, shape.eps, centred=shape.centred)
    error = factor_error(r, quartic)
    # The mean is off by at most 1/2 for its floor and d 2^(reach + s) / 2^(m + 1) for 1/d, in words: 3/4.
    slip = Fraction(1, 2) + Fraction(d << (reach + s), 2 << r.mean) if shape.centred else Fraction(0)
    squares = d * ((1 << (reach + s)) - 1) ** 2 + d * slip**2 + r.offset
    largest = 2 ** (2 * (r.factor + r.s)) * d * (1 + error) ** 2  # square of a row times its factor
    fits = squares < 1 << r.high and largest < 1 << (2 * (r.product - 2)) and slip <= Fraction(3, 4)
    room = not shape.centred or d << (reach + s) < 1 << (l - 2)
    return Bound(
        "approximation", f"norm of {shape.subject}, l={l}, s={s}", decided(fits and room and error <= stated),
        f"|f sqrt(mean of squares + eps) - 1| <= {decimal(error)} for the factor f of every row of {d} words below "
        f"2^{reach}, eps = {shape.eps}, stated {decimal(stated)}; sum of squares < 2^{r.high}; a row times its factor "
        f"< 2^{r.product - 2} in its ring of {r.product} bits", "all octaves; Cauchy-Schwarz; exact integers",
        time.perf_counter() - start,
    )  # fmt: skip


def softmax(s: int, l: int, terms: int, inverse: Fraction, stated: Fraction) -> Bound:
    """Softmax of up to `terms` words, faithful mode, absolute error of each entry; inverse: the reciprocal's error.

    With e = E + h the exponentials, D their sum, p = e_i r: |p - E_i / sum E| <= |h_i| / D + sum |h| / (D sum E) +
    inverse + 2^-s. For any a0 in [0, 1): sum |h| <= S (sum E)^2 for all rows if (terms - 1) (|h| - 2 S (1 + a0) E) is
    at most S (1 - a0^2) for every word, since (1 + a)^2 >= (1 + a0)^2 + 2 (1 + a0) (a - a0) for a = sum E - 1.
    """
    start, scale, ulp = time.perf_counter(), G.guard_bits(s, l), Fraction(1, 1 << s)
    gaps, exact, error = _exponentials(s, l)
    clipped = enclosure.exp(Fraction(G.EXP_FLOOR))[1]
    unit = 1 << SCALE
    worst = max(Fraction(int(gaps.max()) + error, unit), clipped)
    all_off = (terms - 1) * worst  # D is at least sum E less this, and both are at least 1
    spare = stated - worst - inverse - ulp
    S = spare * (1 - all_off)
    good = (
        spare > 0
        and 0 <= all_off < 1
        and any(_certified(S, Fraction(k, 20), terms, gaps, exact, error, clipped) for k in range(20))
    )
    most, least = int(G.exp_fixed(np.zeros(1, dtype=np.int64), s=s, l=l)[0]), 1 << scale
    return Bound(
        "approximation", f"softmax of {terms}, l={l}, s={s}, {FAITHFUL}", decided(good and most == least),
        f"|p - softmax| <= {decimal(stated)} for every row of up to {terms} words; exponentials up to 1, one of them "
        f"1, so their sum is in [1, {terms}] and each times its reciprocal below {decimal(1 + inverse)}",
        "every word of the exponential; a certificate for the sum of a row", time.perf_counter() - start,
    )  # fmt: skip


def _exponentials(s: int, l: int) -> tuple[Ints, Ints, int]:
    """Of every word above the clip: the distance of its exponential from the real one, the real one, at SCALE bits; and
    the error of both."""
    reference, scale = Reference(EXP, s, G.EXP_FLOOR, 0), G.guard_bits(s, l)
    gaps, reals = [], []
    for first in range((G.EXP_FLOOR << s) + 1, 1, CHUNK):
        z = np.arange(first, min(first + CHUNK, 1), dtype=np.int64)
        exact = reference.values(z)
        gaps.append(np.abs((G.exp_fixed(z, s=s, l=l) << np.int64(SCALE - scale)) - exact))
        reals.append(exact)
    return np.concatenate(gaps), np.concatenate(reals), reference.error


def _certified(S: Fraction, a0: Fraction, terms: int, gaps: Ints, exact: Ints, error: int, clipped: Fraction) -> bool:
    slope = int(2 * S * (1 + a0) * 2**16)
    most = int((((gaps + error) << np.int64(16)) - slope * (exact - error)).max())
    return (terms - 1) * max(Fraction(most, 1 << (SCALE + 16)), clipped, Fraction(0)) <= S * (1 - a0**2)
