"""Contracts of maxima, softmax and norms.

Some premises are no ranges of inputs. That no entry is above its row's maximum is the lemma of tournaments; the others,
on the sum of exponentials, an exponential times its reciprocal, the sum of squares and a row times its factor, hold of
all inputs in range by the bounds of `proofs.limits.normalising`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from proofs.contracts.functions import exp, reciprocal
from proofs.contracts.routing import Run, merge
from proofs.contracts.words import floor_shift, greater_than, non_negative, times
from proofs.hybrid import Demand
from protocols import functionalities as G
from protocols.cleartext import norms as F
from protocols.cleartext.norms import NormRange
from protocols.nonlinear import product_ring
from sim.ring import Ring, RingArray, stack


def _highest(values: list[RingArray]) -> RingArray:
    """By the tournament of neighbours, the odd one out waiting behind."""
    runs: list[Run] = [(value, []) for value in values]
    while len(runs) > 1:
        odd = [runs[-1]] if len(runs) % 2 else []
        runs = [merge(runs[i], runs[i + 1]) for i in range(0, len(runs) - 1, 2)] + odd
    return runs[0][0]


def maximum(x: RingArray, **_: Any) -> RingArray:
    return _highest([x[..., j] for j in range(x.shape[-1])])


def argmax(x: RingArray, **_: Any) -> RingArray:
    """Digit by digit: which of two neighbours won, and the lower digits of the winner."""
    runs: list[Run] = [(x[:, j], []) for j in range(x.shape[1])]
    zero = x[:, 0].const(0, x.shape[:1]).bit(0)
    while len(runs) > 1:
        after: list[Run] = []
        for (left, low), (right, high) in zip(runs[0::2], runs[1::2], strict=False):
            keep = non_negative(left - right)
            lower = [b ^ (keep & (a ^ b)) for a, b in zip(low, high, strict=True)]
            after.append((right + times(keep, left - right), [*lower, ~keep]))
        if len(runs) % 2:
            after.append((runs[-1][0], [*runs[-1][1], zero]))
        runs = after
    return stack(*runs[0][1], axis=1)


def comparable(x: RingArray, **_: Any) -> list[Demand]:
    quarter = 1 << (x.ring.l - 2)
    return [Demand("differences do not wrap", x, -quarter, quarter - 1)]


def moved(x: RingArray, f: int, ring: Ring) -> RingArray:
    """floor(x / 2^f) in another ring."""
    return x.cast(ring) if f == 0 and ring.l <= x.ring.l else floor_shift(x, f, ring)


# -- softmax ----------------------------------------------------------------------------------------------------------
Rows = list[tuple[list[int], RingArray]]  # positions in the flat axis, entries (batch, length)


def _rows(x: RingArray, allowed: F.Mask | None) -> tuple[Rows, int]:
    rows, m = F.allowed_rows(x.shape, allowed), x.shape[-1]
    every = x.reshape(-1, len(rows) * m)
    places = [[i * m + j for j in row] for i, row in enumerate(rows)]
    return [(at, stack(*(every[:, j] for j in at), axis=1)) for at in places], F.spread_of(rows)


def _products(row: RingArray, s: int, l: int, spread: int) -> tuple[RingArray, RingArray, RingArray]:
    """What is exponentiated, the sum of exponentials, and each of them times its reciprocal."""
    apart, scale = row - maximum(row).reshape(-1, 1).broadcast(*row.shape), G.guard_bits(s, l)
    e = exp(apart, s=s, l=l, into=product_ring(scale))
    r = reciprocal(e.sum(1), scale=scale, spread=spread).reshape(-1, 1).broadcast(*e.shape)
    return apart, e.sum(1), e * r


def softmax(
    x: RingArray, *, s: int, l: int, allowed: F.Mask | None = None, into: Ring | None = None, **_: Any
) -> RingArray:
    rows, spread = _rows(x, allowed)
    columns: dict[int, RingArray] = {}
    for at, row in rows:
        y = moved(_products(row, s, l, spread)[2], 2 * G.guard_bits(s, l) - s, into or x.ring)
        columns |= {place: y[:, j] for j, place in enumerate(at)}
    first = next(iter(columns.values()))
    nothing = first.const(0, first.shape)
    width = x.shape[-1] * len(rows)
    return stack(*(columns.get(j, nothing) for j in range(width)), axis=1).reshape(*x.shape)


def softmax_range(x: RingArray, *, s: int, l: int, allowed: F.Mask | None = None, **_: Any) -> list[Demand]:
    eighth, scale = 1 << (x.ring.l - 3), G.guard_bits(s, l)
    rows, spread = _rows(x, allowed)
    demands = [Demand("in range", x, -eighth, eighth - 1)]
    for _at, row in rows:
        apart, total, product = _products(row, s, l, spread)
        demands += [
            Demand("not above the maximum of the row", apart, 1 - 2 * eighth, 0),
            Demand("sum of exponentials, one of them 1", total, 1 << scale, 1 << (scale + spread)),
            Demand("an exponential times the reciprocal of the sum", product, 0, (2 << (2 * scale)) - 1),
        ]
    return demands


# -- norms ------------------------------------------------------------------------------------------------------------
def rsqrt(x: RingArray, *, unit: int, low: int, high: int, bits: int, scale: int, **_: Any) -> RingArray:
    narrow, result = product_ring(bits), Ring(F.rsqrt_ring(unit, low, bits, scale))
    steps = range(1, high - low)
    above = greater_than(x, thresholds=[(1 << (low + i)) - 1 for i in steps]) if steps else None

    def under(v: list[RingArray]) -> RingArray:
        if above is None:
            return v[0]
        return v[0] + times(above, stack(*(after - before for before, after in pairwise(v)))).sum(0)

    c = moved(under([x << (high - 1 - low - i) for i in range(high - low)]), high - bits, narrow)
    k0, k1, k2, k3, k4 = F.rsqrt_words(bits)
    c2 = floor_shift(c * c, bits)
    inner = floor_shift(c2 * k4 + c * k3 + (k2 << bits), bits)
    y = moved(inner * c2 + c * k1 + ((k0 + (2 << bits)) << bits), bits, result) - (2 << bits)
    return moved(under([y * m for m in F.rsqrt_multiples(unit, low, high, scale)]), bits, result)


def rsqrt_range(x: RingArray, *, low: int, high: int, **_: Any) -> list[Demand]:
    return [Demand("in the declared octaves", x, 1 << low, (1 << high) - 1)]


def _centred(x: RingArray, r: NormRange) -> RingArray:
    wide = moved(x.sum(1), 0, Ring(max(r.average, x.ring.l))).cast(Ring(r.average))
    mean = moved(wide * F.inverse_word(r) + (1 << (r.mean - 1)), r.mean, x.ring)
    return x - mean.reshape(-1, 1).broadcast(*x.shape)


def _factored(v: RingArray, r: NormRange) -> tuple[RingArray, RingArray]:
    """T of each row, and the row times its factor."""
    wide = moved(v, 0, Ring(max(r.square, r.product, v.ring.l)))
    short = wide.cast(Ring(r.square))
    T = (short * short).sum(1) + r.offset
    factor = rsqrt(T, unit=r.unit, low=r.low, high=r.high, bits=r.mantissa, scale=r.factor).cast(Ring(r.product))
    return T, factor.reshape(-1, 1).broadcast(*v.shape) * wide.cast(Ring(r.product))


def _norm(v: RingArray, r: NormRange) -> RingArray:
    return moved(_factored(v, r)[1], r.factor, v.ring)


def _range(x: RingArray, v: RingArray, r: NormRange, reach: int) -> list[Demand]:
    T, product = _factored(v, r)
    size, quarter = (1 << (reach + r.s)) - 1, 1 << (r.product - 2)
    return [
        Demand("below 2^reach", x, -size, size),
        Demand("sum of squares of the row", T, r.offset, (1 << r.high) - 1),
        Demand("the row times its factor, at most the root of its length", product, -quarter, quarter - 1),
    ]


def layer_norm(x: RingArray, *, s: int, reach: int, eps: float, **_: Any) -> RingArray:
    r = NormRange.of(x.shape[1], s, reach, eps, centred=True)
    return _norm(_centred(x, r), r)


def layer_norm_range(x: RingArray, *, s: int, reach: int, eps: float, **_: Any) -> list[Demand]:
    r = NormRange.of(x.shape[1], s, reach, eps, centred=True)
    return _range(x, _centred(x, r), r, reach)


def rms_norm(x: RingArray, *, s: int, reach: int, eps: float, **_: Any) -> RingArray:
    return _norm(x, NormRange.of(x.shape[1], s, reach, eps, centred=False))


def rms_norm_range(x: RingArray, *, s: int, reach: int, eps: float, **_: Any) -> list[Demand]:
    return _range(x, x, NormRange.of(x.shape[1], s, reach, eps, centred=False), reach)
