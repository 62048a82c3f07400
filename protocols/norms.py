"""Reciprocal square root, layer norm and root mean square norm on shares, without weights.

The gain and bias of a norm belong to the server: a model folds them into the matrix that follows, W diag(gamma) and
W beta. Everything that is per row (mean, 1/sqrt) is done once for all its words; a word costs one square, in a ring
just wide enough for the sum of squares, and one product with its row's factor, whose bits choose whole rows of words;
or both under encryption (`protocols.row_products`), where rows are wide.
"""

from __future__ import annotations

from itertools import pairwise

from protocols.cleartext import norms as F
from protocols.cleartext.norms import NormRange
from protocols.compare import DIGIT, greater_than
from protocols.convert import mux
from protocols.matmul import matmul
from protocols.nonlinear import product_ring
from protocols.products import mul, square
from protocols.row_products import RowPlan, row_squares, scaled, scaled_cost
from protocols.sharing import plus
from protocols.truncate import FAITHFUL, truncate_bounded, truncate_known_sign
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.shapes import blank


async def floor_into(
    p: Party, x: RingArray, *, f: int, ring: Ring, centre: bool = False, mode: str = FAITHFUL, w: int = DIGIT
) -> RingArray:
    """floor(x / 2^f) in any ring, for 0 <= x < 2^(l-1), or |x| < 2^(l-2) where centred; f = 0 only to widen."""
    if f == 0 and ring.l <= x.ring.l:
        return x.cast(ring)
    floor = truncate_bounded if centre else truncate_known_sign
    return await floor(p, x, f=f, mode=mode, w=w, into=ring)


def floor_into_cost(x: RingArray, *, f: int, ring: Ring, mode: str, w: int) -> Cost:
    """Of `floor_into`, centred or not."""
    if f == 0 and ring.l <= x.ring.l:
        return FREE
    return truncate_known_sign.declared(x, f=f, mode=mode, w=w, into=ring)


def _over(x: RingArray, ring: Ring) -> RingArray:
    """Of the same shape, without content."""
    return blank(Spec(ring, x.shape))


def _rsqrt_cost(
    x: RingArray, *, unit: int, low: int, high: int, bits: int, scale: int, mode: str = FAITHFUL, w: int = DIGIT
) -> Cost:
    c, y = (_over(x, ring) for ring in (product_ring(bits), Ring(F.rsqrt_ring(unit, low, bits, scale))))
    steps, public = high - low - 1, {"mode": mode, "w": w}
    cost = FREE
    if steps:
        wide = blank(Spec(x.ring, (steps, *x.shape)))
        cost += greater_than.declared(x, thresholds=[0] * steps, w=w) + mux.declared(wide, wide)
    cost += floor_into_cost(x, f=high - bits, ring=c.ring, mode=mode, w=w)
    step = truncate_known_sign.declared(c, f=bits, **public)
    cost += square.declared(c) + step + step + mul.declared(c, c)
    cost += floor_into_cost(c, f=bits, ring=y.ring, mode=mode, w=w)
    if steps:
        wide = blank(Spec(y.ring, (steps, *x.shape)))
        cost += mux.declared(wide, wide)
    return cost + truncate_known_sign.declared(y, f=bits, **public)


@protocol(realises=F.RSQRT, cites="[SIRNN]", cost=_rsqrt_cost)
async def rsqrt(
    p: Party,
    x: RingArray,
    *,
    unit: int,
    low: int,
    high: int,
    bits: int,
    scale: int,
    mode: str = FAITHFUL,
    w: int = DIGIT,
) -> RingArray:
    """1/sqrt(x / unit) at `scale` fractional bits, for an integer x in [2^low, 2^high) over Z_{2^l}, high < l.

    The leading bit by comparisons with powers of two, then c in [1/2, 1) at `bits` fractional bits by local multiples
    under multiplexers; a quartic in c by one square and one product (a quadratic with a Newton step takes two of each);
    then the multiple sqrt(unit / 2^k) of the leading bit, odd or even, under the same bits. Relative error with all
    floors, on every word: below 7.6e-5 for bits = 24, 9.7e-5 for 18. Returns shares over the ring of F.rsqrt_ring bits.
    """
    narrow, result = product_ring(bits), Ring(F.rsqrt_ring(unit, low, bits, scale))
    steps = range(1, high - low)
    above = await greater_than(p, x, thresholds=[(1 << (low + i)) - 1 for i in steps], w=w) if steps else None

    async def under(v: list[RingArray]) -> RingArray:
        """v[j], where j of the bits are set."""
        if above is None:
            return v[0]
        return v[0] + (await mux(p, above, stack(*(after - before for before, after in pairwise(v))))).sum(0)

    public = {"mode": mode, "w": w}
    aligned = await under([x << (high - 1 - low - i) for i in range(high - low)])
    c = await floor_into(p, aligned, f=high - bits, ring=narrow, mode=mode, w=w)
    k0, k1, k2, k3, k4 = F.rsqrt_words(bits)
    c2 = await truncate_known_sign(p, await square(p, c), f=bits, **public)
    inner = await truncate_known_sign(p, plus(p, c2 * k4 + c * k3, k2 << bits), f=bits, **public)
    value = plus(p, await mul(p, inner, c2) + c * k1, (k0 + (2 << bits)) << bits)  # lifted by 2: positive term by term
    y = plus(p, await floor_into(p, value, f=bits, ring=result, mode=mode, w=w), -(2 << bits))
    multiples = F.rsqrt_multiples(unit, low, high, scale)
    root = await under([y * m for m in multiples])
    return await floor_into(p, root, f=bits, ring=result, centre=True, mode=mode, w=w)


def _norm_cost(x: RingArray, r: NormRange, mode: str, w: int, plan: RowPlan | None, *, mean: bool) -> Cost:
    row, cost = blank(Spec(x.ring, x.shape[:1])), FREE
    if mean:
        cost += floor_into_cost(row, f=0, ring=Ring(max(r.average, x.ring.l)), mode=mode, w=w)
        cost += floor_into_cost(_over(row, Ring(r.average)), f=r.mean, ring=x.ring, mode=mode, w=w)
    cost += floor_into_cost(x, f=0, ring=Ring(max(r.square, r.product, x.ring.l)), mode=mode, w=w)
    under_he = plan is not None and plan.squares
    cost += row_squares.declared(x, plan=plan) if under_he else square.declared(_over(x, Ring(r.square)))
    cost += rsqrt.declared(_over(row, Ring(r.square)), **_rsqrt_public(r), mode=mode, w=w)
    factor, words = (blank(Spec(Ring(r.product), (x.shape[0], 1, m))) for m in (1, x.shape[1]))
    cost += scaled_cost(plan) if plan is not None and plan.scaling else matmul.declared(factor, words)
    return cost + floor_into_cost(_over(x, Ring(r.product)), f=r.factor, ring=x.ring, mode=mode, w=w)


def _rsqrt_public(r: NormRange) -> dict[str, int]:
    return {"unit": r.unit, "low": r.low, "high": r.high, "bits": r.mantissa, "scale": r.factor}


async def _scaled(p: Party, v: RingArray, r: NormRange, mode: str, w: int, plan: RowPlan | None) -> RingArray:
    """v / sqrt(mean of squares + epsilon), row by row."""
    n, d = v.shape
    ring = v.ring
    v = await floor_into(p, v, f=0, ring=Ring(max(r.square, r.product, ring.l)), centre=True, mode=mode, w=w)
    if plan is not None and plan.squares:
        total = (await row_squares(p, v, plan=plan)).cast(Ring(r.square))
    else:
        total = (await square(p, v.cast(Ring(r.square)))).sum(1)
    factor = await rsqrt(p, plus(p, total, r.offset), **_rsqrt_public(r), mode=mode, w=w)
    words = Ring(r.product)
    if plan is not None and plan.scaling:
        y = await scaled(p, factor.cast(words), v, plan=plan)
    else:
        y = await matmul(p, factor.cast(words).reshape(n, 1, 1), v.cast(words).reshape(n, 1, d))
    return await floor_into(p, y.reshape(n, d), f=r.factor, ring=ring, centre=True, mode=mode, w=w)


def _layer_norm_cost(
    x: RingArray, *, s: int, reach: int, eps: float, mode: str = FAITHFUL, w: int = DIGIT, plan: RowPlan | None = None
) -> Cost:
    return _norm_cost(x, NormRange.of(x.shape[1], s, reach, eps, centred=True), mode, w, plan, mean=True)


@protocol(realises=F.LAYER_NORM, cites="[SIRNN]", cost=_layer_norm_cost)
async def layer_norm(
    p: Party,
    x: RingArray,
    *,
    s: int,
    reach: int,
    eps: float,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    plan: RowPlan | None = None,
) -> RingArray:
    """(x - mean) / sqrt(variance + eps) of each row, without gain and bias. x: (n, d) at s fractional bits.

    Range: |x| < 2^reach as a real number; a sum of d such words is below 2^(l-2). The mean is the sum times 2^m / d,
    rounded, over 2^m, to the nearest: right to 3/4 ulp. The factor has a relative error below 9.5e-5 at s = 18 (1.5e-3
    at 12), the result is floored: an ulp. plan: which products of words are computed under encryption (None: none).
    Returns (n, d) over the same ring, s bits, at most sqrt(d) in size. Raises NormWidths.
    """
    r = NormRange.of(x.shape[1], s, reach, eps, centred=True)
    total = x.sum(1)
    wide = await floor_into(p, total, f=0, ring=Ring(max(r.average, x.ring.l)), centre=True, mode=mode, w=w)
    raised = plus(p, wide.cast(Ring(r.average)) * F.inverse_word(r), 1 << (r.mean - 1))
    mean = await floor_into(p, raised, f=r.mean, ring=x.ring, centre=True, mode=mode, w=w)
    return await _scaled(p, x - mean.reshape(-1, 1).broadcast(*x.shape), r, mode, w, plan)


def _rms_norm_cost(
    x: RingArray, *, s: int, reach: int, eps: float, mode: str = FAITHFUL, w: int = DIGIT, plan: RowPlan | None = None
) -> Cost:
    return _norm_cost(x, NormRange.of(x.shape[1], s, reach, eps, centred=False), mode, w, plan, mean=False)


@protocol(realises=F.RMS_NORM, cites="[SIRNN]", cost=_rms_norm_cost)
async def rms_norm(
    p: Party,
    x: RingArray,
    *,
    s: int,
    reach: int,
    eps: float,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    plan: RowPlan | None = None,
) -> RingArray:
    """x / sqrt(mean of squares + eps) of each row, without gain. As `layer_norm`, without its mean."""
    return await _scaled(p, x, NormRange.of(x.shape[1], s, reach, eps, centred=False), mode, w, plan)
