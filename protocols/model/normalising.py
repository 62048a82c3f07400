"""The exact fixed-point oracle of softmax, norms and argmax: what the faithful protocols must equal bit for bit.

As `protocols.model.oracle`, it imports no protocol and nothing of the simulator. What is one number per row is computed
in Python integers, without a word length. Scale s unless said; F is the guard scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from protocols.model.fixed_point import FixedPoint, Words
from protocols.model.oracle import exponential, maximum, reciprocal

# 1/sqrt(c) for 1/2 <= c < 1, from the constant to c^4.
QUARTIC = ("2.9302435534", "-5.4763159279", "6.8049571762", "-4.4086451113", "1.1498343242")
EXTRA = 6  # fractional bits of a norm's factor beyond s


class EmptyRow(ValueError):
    """A row of which the mask allows nothing."""


def softmax(x: Words, fp: FixedPoint, allowed: Sequence[Sequence[bool]] | None = None) -> Words:
    """exp(x - max) / sum over the last axis; `allowed` [n, m] for x [..., n, m]: the others are left out and give 0.

    EmptyRow. The reciprocal is that of the longest row's number of terms, in all rows.
    """
    *batch, m = x.shape
    mask = np.ones((1, m), dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)
    terms = mask.sum(axis=1)
    if not terms.all():
        raise EmptyRow("softmax: expected a mask with an entry in every row: let each row see itself")
    flat = x.reshape(-1, len(mask), m)
    out = np.zeros_like(flat)
    for i, row in enumerate(mask):
        values = flat[:, i, row]
        top = values[np.arange(len(values)), maximum(values, fp)]
        e = exponential(fp.wrap(values - top[:, None]), fp)
        r = reciprocal(fp.wrap(e.sum(axis=1, dtype=np.uint64)), int(terms.max()), fp)
        out[:, i, row] = (e * r[:, None]) >> np.uint64(2 * fp.guard - fp.s)
    return out.reshape(*batch, m)


def argmax(x: Words, fp: FixedPoint) -> NDArray[np.int64]:
    """Index [n] of the first largest value of each row [n, E]."""
    return maximum(x, fp)


def inverse_root(T: int, unit: int, s: int) -> int:
    """1/sqrt(T / unit) at s + 6 fractional bits. T = c 2^k with 1/2 <= c < 1, c floored to s + 6 bits; the quartic as
    ((q4 c^2 + q3 c + q2) c^2 + q1 c + q0), each product floored; times sqrt(unit / 2^k), rounded; floored."""
    bits, k = s + EXTRA, T.bit_length()
    c = (T << bits) >> k
    q = [round(float(v) * 2.0**bits) for v in QUARTIC]
    square = c * c >> bits
    y = (((q[4] * square + q[3] * c + (q[2] << bits)) >> bits) * square + q[1] * c + (q[0] << bits)) >> bits
    multiple = (isqrt((unit << 2 * bits + 2) >> k) + 1) // 2
    return y * multiple >> bits


def _normed(rows: list[list[int]], eps: float, fp: FixedPoint) -> Words:
    """v / sqrt(mean of squares + eps), the quotient floored to s bits."""
    d, bits = len(rows[0]), fp.s + EXTRA
    epsilon = d * round(Fraction(eps) * 4**fp.s)
    out = []
    for row in rows:
        factor = inverse_root(sum(v * v for v in row) + epsilon, d << 2 * fp.s, fp.s)
        out.append([fp.word(v * factor >> bits) for v in row])
    return np.array(out, dtype=np.uint64)


def rms_norm(x: Words, eps: float, fp: FixedPoint) -> Words:
    """Rows [n, d] over the root of their mean square, without gain."""
    return _normed(fp.signed(x).tolist(), eps, fp)


def layer_norm(x: Words, reach: int, eps: float, fp: FixedPoint) -> Words:
    """Rows [n, d] less their mean, over the root of their variance, without gain and bias; |x| < 2^reach as reals.

    The mean is the sum times 1/d at m = reach + s + ceil(log2 d) + 1 fractional bits, to the nearest word.
    """
    d = x.shape[1]
    m = reach + fp.s + (d - 1).bit_length() + 1
    share = round(Fraction(2**m, d))
    rows = fp.signed(x).tolist()
    return _normed([[v - ((2 * sum(row) * share + 2**m) >> m + 1) for v in row] for row in rows], eps, fp)
