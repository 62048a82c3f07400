"""ReLU, the exponential of non-positive numbers and the reciprocal, on shares of fixed-point numbers."""

from __future__ import annotations

from protocols import functionalities as F
from protocols.compare import DIGIT, drelu, greater_than
from protocols.convert import mux
from protocols.products import mul, square
from protocols.sharing import plus
from protocols.truncate import FAITHFUL, truncate_known_sign
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.shapes import blank


def _relu_cost(x: RingArray, *, w: int = DIGIT) -> Cost:
    return drelu.declared(x, w=w) + mux.declared(x, x)


@protocol(realises=F.RELU, cites="[CrypTFlow2]", cost=_relu_cost)
async def relu(p: Party, x: RingArray, *, w: int = DIGIT) -> RingArray:
    """max(x, 0) of a signed x over Z_{2^l}. Exact."""
    return await mux(p, await drelu(p, x, w=w), x)


def product_ring(scale: int) -> Ring:
    """The narrowest ring for products that are below 8 in size, at 2 `scale` fractional bits, signs included."""
    return Ring(2 * scale + 4)


def _exp_cost(x: RingArray, *, s: int, l: int, mode: str = FAITHFUL, w: int = DIGIT, into: Ring | None = None) -> Cost:
    scale = F.guard_bits(s, l)
    shift = F.EXP_SQUARINGS - (scale - s)
    v, result = (blank(Spec(ring, x.shape)) for ring in (product_ring(scale), into or x.ring))
    cost = greater_than.declared(x, thresholds=[0], w=w) + mux.declared(x, x)
    if v.ring.l > x.ring.l:
        cost += truncate_known_sign.declared(x, f=0, into=v.ring)
    if shift > 0:
        cost += truncate_known_sign.declared(v, f=shift, mode=mode, w=w)
    cost += square.declared(v) + truncate_known_sign.declared(v, f=scale + 1, mode=mode, w=w)
    step = square.declared(v) + truncate_known_sign.declared(v, f=scale, mode=mode, w=w)
    last = square.declared(v) + truncate_known_sign.declared(v, f=scale, mode=mode, w=w, into=result.ring)
    return cost + step.repeat(F.EXP_SQUARINGS - 1) + last + mux.declared(result, result)


@protocol(realises=F.EXPONENTIAL, cites="[SecMoE]", cost=_exp_cost)
async def exp(
    p: Party, x: RingArray, *, s: int, l: int, mode: str = FAITHFUL, w: int = DIGIT, into: Ring | None = None
) -> RingArray:
    """exp(x), -2^(k-2) < x <= 0 over Z_{2^k}, s fractional bits; the result has F = min(s + 6, (l - 4) // 2) of them.

    x clipped at -13, then (1 + u + u^2 / 2)^64 with u = x / 64 by six squarings; zero where clipped. Faithful mode:
    every floor is exact. Error against the real exponential: see F.exp_fixed and its tests. All products are of
    numbers up to 1, in the ring of 2F + 4 bits. into: the ring of the result, as wide as that or wider (default: x's).
    """
    scale = F.guard_bits(s, l)
    floor, narrow, result = F.EXP_FLOOR << s, product_ring(scale), into or x.ring
    inside = (await greater_than(p, x, thresholds=[floor], w=w))[0]
    above = await mux(p, inside, plus(p, x, -floor))  # clipped x, minus the floor: never negative
    if narrow.l > x.ring.l:
        above = await truncate_known_sign(p, above, f=0, into=narrow)
    above = above.cast(narrow)
    shift = F.EXP_SQUARINGS - (scale - s)
    if shift > 0:  # never below 0: there are at most as many guard bits as squarings
        above = await truncate_known_sign(p, above, f=shift, mode=mode, w=w)
    u = plus(p, above, floor >> shift)
    half_square = await truncate_known_sign(p, await square(p, u), f=scale + 1, mode=mode, w=w)
    v = plus(p, u + half_square, 1 << scale)
    for rest in reversed(range(F.EXP_SQUARINGS)):
        ring = narrow if rest else result
        v = await truncate_known_sign(p, await square(p, v), f=scale, mode=mode, w=w, into=ring)
    return await mux(p, inside, v)


def _reciprocal_cost(x: RingArray, *, scale: int, spread: int, mode: str = FAITHFUL, w: int = DIGIT) -> Cost:
    wide = blank(Spec(x.ring, (spread, *x.shape)))
    bits = blank(Spec(x.ring, (spread, *x.shape)))
    step = truncate_known_sign.declared(x, f=scale, mode=mode, w=w)
    rescale = mux.declared(bits, wide) + truncate_known_sign.declared(x, f=spread + 1, mode=mode, w=w)
    cost = greater_than.declared(x, thresholds=[0] * spread, w=w) + rescale
    cost += mul.declared(x, x) + step
    cost += (mul.declared(x, x) + step) | (square.declared(x) + step)
    return cost + mul.declared(x, x) + step + rescale


@protocol(realises=F.RECIPROCAL, cites="[SIRNN]", cost=_reciprocal_cost)
async def reciprocal(
    p: Party, x: RingArray, *, scale: int, spread: int, mode: str = FAITHFUL, w: int = DIGIT
) -> RingArray:
    """1/x at `scale` fractional bits for x in [1, 2^spread] (as reals at that scale); 2 scale + 2 < l.

    Normalised to [1/2, 1) by comparisons with the powers of two and local multiples under multiplexers, first guess
    2.9142 - 2c, two Goldschmidt steps: relative error at most 5.5e-5 plus the floors.
    """
    above = await greater_than(p, x, thresholds=[(1 << (scale + i)) - 1 for i in range(1, spread + 1)], w=w)

    async def descend(v: RingArray) -> RingArray:
        """v 2^(spread - j), where j of the bits are set: the scaling of the leading bit, or its undoing."""
        parts = stack(*(v << (spread - i) for i in range(1, spread + 1)))
        return (v << spread) - (await mux(p, above, parts)).sum(0)

    async def shrink(v: RingArray, f: int) -> RingArray:
        return await truncate_known_sign(p, v, f=f, mode=mode, w=w)

    one = 1 << scale
    c = await shrink(await descend(x), spread + 1)
    guess = plus(p, -(c << 1), F.reciprocal_start(scale))
    error = plus(p, -(await shrink(await mul(p, c, guess), scale)), one)

    first, second = p.child("first"), p.child("second")

    async def improved() -> RingArray:
        product = await mul(first, guess, plus(p, error, one))
        return await truncate_known_sign(first, product, f=scale, mode=mode, w=w)

    async def squared() -> RingArray:
        return await truncate_known_sign(second, await square(second, error), f=scale, mode=mode, w=w)

    guess, error = await p.gather(improved(), squared())
    guess = await shrink(await mul(p, guess, plus(p, error, one)), scale)
    return await shrink(await descend(guess), spread + 1)
