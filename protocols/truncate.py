"""Division by 2^f on shares: exact floor (faithful), or one-ulp with its error rule at share level.

With x' = x + 2^(l-1) >= 0, x' = x'_C + x'_S - wrap 2^l, and
    floor(x / 2^f) = (x'_C >> f) + (x'_S >> f) + carry - wrap 2^(l-f) - 2^(l-1-f),
where carry says that the low f bits of the shares overflow. The faithful mode computes both bits; the one-ulp mode
leaves carry out: its error is -carry, a function of the shares and never of anything else (floor or floor - 1 ulp).
For a known sign the wrap follows from the two top bits; a word below a quarter of the ring, lifted by that quarter, has
a known sign.
"""

from __future__ import annotations

from protocols import functionalities as F
from protocols.boolean import blank_group, conjoin
from protocols.compare import DIGIT, less_than
from protocols.convert import b2a, bit_times
from protocols.ot.chosen import correlate
from protocols.sharing import plus
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT
from sim.shapes import blank

FAITHFUL = "faithful"
ONE_ULP = "one-ulp"
MODES = (FAITHFUL, ONE_ULP)


class TruncationMode(ValueError):
    """An unknown truncation mode."""


def _check(x: Ring, f: int, mode: str, least: int = 1) -> None:
    if mode not in MODES:
        raise TruncationMode(f"truncation mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if not least <= f < x.l - 1:
        raise ValueError(f"truncation by f bits in {x}: expected {least} <= f < {x.l - 1}, got {f}")


def _truncate_cost(
    x: RingArray, *, f: int, mode: str = FAITHFUL, w: int = DIGIT, into: Ring | None = None
) -> Cost:
    l, bit, result = x.ring.l, blank(Spec(Ring(1), x.shape)), into or x.ring
    if result.l <= l - f:
        low = less_than.declared(None, None, shape=x.shape, bits=f, w=w) + b2a.declared(bit, ring=result)
        return FREE if mode == ONE_ULP else low
    to_wrap = b2a.declared(bit, ring=Ring(f + result.l - l))
    if mode == ONE_ULP:
        return less_than.declared(None, None, shape=x.shape, bits=l, w=w) + to_wrap
    high = less_than.declared(None, None, shape=x.shape, bits=l - f, w=w, need_equal=True)
    low = less_than.declared(None, None, shape=x.shape, bits=f, w=w)
    join = conjoin.declared(*blank_group(x.shape, 1))
    return (high | low) + join + (to_wrap | b2a.declared(bit, ring=result))


@protocol(realises=F.FLOOR_SHIFT, cites="[SIRNN]", cost=_truncate_cost)
async def truncate(
    p: Party, x: RingArray, *, f: int, mode: str = FAITHFUL, w: int = DIGIT, into: Ring | None = None
) -> RingArray:
    """floor(x / 2^f) of a signed x over Z_{2^l}, any x. Faithful: exact. One-ulp: exact minus the share carry.

    Faithful comes at one l-bit comparison: the carry of the low f bits is a node of the same digit tree. into: the ring
    of the result, of m bits (default: x's). Where m <= l - f the wrap of the shares falls out of it: what is left is
    the f-bit comparison, and nothing at all in one-ulp mode; m = l - f still holds every floor with its sign. For words
    without a known bound, as products with values of the client's; others take `truncate_bounded`.
    """
    _check(x.ring, f, mode)
    l, result = x.ring.l, into or x.ring
    if result.l <= l - f:
        return await _without_wrap(p, x, f, mode, w, result)
    wide = Ring(f + result.l - l)
    shifted = plus(p, x, 1 << (l - 1))
    client = p.role is CLIENT
    room = None if client else shifted.const(-1, shifted.shape) - shifted
    if mode == ONE_ULP:
        overflow = await less_than(p, shifted if client else None, _fold(room), shape=x.shape, bits=l, w=w)
        wrap = await b2a(p, overflow[0], ring=wide)
        return _assemble(p, shifted, None, wrap, f, offset=True)
    high, low = await p.gather(
        less_than(
            p,
            shifted.field(f, l - f) if client else None,
            _fold(room.field(f, l - f)) if room is not None else None,
            shape=x.shape,
            bits=l - f,
            w=w,
            need_equal=True,
        ),
        less_than(
            p,
            shifted.field(0, f) if client else None,
            _fold(room.field(0, f)) if room is not None else None,
            shape=x.shape,
            bits=f,
            w=w,
        ),
    )
    carry = low[0]
    (passed,) = await conjoin(p, high[1][0], carry.reshape(*carry.shape, 1))
    wrap, carry = await p.gather(b2a(p, high[0][0] ^ passed[..., 0], ring=wide), b2a(p, carry, ring=result))
    return _assemble(p, shifted, carry, wrap, f, offset=True)


async def _without_wrap(p: Party, x: RingArray, f: int, mode: str, w: int, result: Ring) -> RingArray:
    """The floor in a ring of l - f bits or fewer, where no wrap of the shares is seen."""
    y = x.field(f, result.l)
    return y if mode == ONE_ULP else y + await low_carry(p, x, f=f, w=w, ring=result)


def _fold(y: RingArray | None) -> RingArray | None:
    return None if y is None else y.reshape(1, *y.shape)


def _assemble(
    p: Party, shifted: RingArray, carry: RingArray | None, wrap: RingArray, f: int, *, offset: bool
) -> RingArray:
    """The floor in the ring of the wrap's owner: wrap is over Z_{2^(m - l + f)} for a result over Z_{2^m}."""
    l = shifted.ring.l
    into = Ring(wrap.ring.l + l - f)
    y = (shifted >> f).cast(into) - (wrap.cast(into) << (l - f))
    if carry is not None:
        y = y + carry
    return plus(p, y, -(1 << (l - 1 - f))) if offset else y


def _known_sign_cost(
    x: RingArray,
    *,
    f: int,
    negative: bool = False,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    into: Ring | None = None,
) -> Cost:
    result = into or x.ring
    if result.l <= x.ring.l - f:
        return _truncate_cost(x, f=f, mode=mode, w=w, into=result)
    wrap = correlate.declared(CLIENT, None, None, shape=x.shape, ring=Ring(f + result.l - x.ring.l))
    if mode == ONE_ULP or f == 0:
        return wrap
    bit = blank(Spec(Ring(1), x.shape))
    return wrap | (less_than.declared(None, None, shape=x.shape, bits=f, w=w) + b2a.declared(bit, ring=result))


@protocol(realises=F.FLOOR_SHIFT, cites="[SIRNN]", cost=_known_sign_cost)
async def truncate_known_sign(
    p: Party,
    x: RingArray,
    *,
    f: int,
    negative: bool = False,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    into: Ring | None = None,
) -> RingArray:
    """floor(x / 2^f) for 0 <= x < 2^(l-1), or with negative=True for -2^(l-1) <= x < 0.

    The shares wrap exactly when one of their top bits is set: one correlated OT of f bits, 2 flights; the faithful mode
    adds the f-bit comparison for the carry. Outside the range the result is undefined (but still a sharing).
    into: the ring of the result, of m bits (default: x's): the OT then has m - l + f, and none is needed where
    m <= l - f; f may be 0 where m > l.
    """
    l, result = x.ring.l, into or x.ring
    _check(x.ring, f, mode, least=1 if result.l <= l else 0)
    if result.l <= l - f:
        return await _without_wrap(p, x, f, mode, w, result)
    wide = Ring(f + result.l - l)
    shifted = plus(p, x, 1 << (l - 1)) if negative else x
    client = p.role is CLIENT
    top = shifted.bit(l - 1)
    product = bit_times(p, CLIENT, top if client else None, None if client else top.cast(wide), Spec(wide, x.shape))
    if mode == ONE_ULP or f == 0:
        wrap = top.cast(wide) - await product
        return _assemble(p, shifted, None, wrap, f, offset=negative)
    both, carry = await p.gather(product, low_carry(p.child("carry"), shifted, f=f, w=w, ring=result))
    return _assemble(p, shifted, carry, top.cast(wide) - both, f, offset=negative)


def _bounded_cost(
    x: RingArray, *, f: int, mode: str = FAITHFUL, w: int = DIGIT, into: Ring | None = None
) -> Cost:
    return _known_sign_cost(x, f=f, mode=mode, w=w, into=into)


@protocol(realises=F.FLOOR_SHIFT, cites="[SIRNN]", cost=_bounded_cost)
async def truncate_bounded(
    p: Party, x: RingArray, *, f: int, mode: str = FAITHFUL, w: int = DIGIT, into: Ring | None = None
) -> RingArray:
    """floor(x / 2^f) of a signed x over Z_{2^l} with -2^(l-2) <= x < 2^(l-2), at the price of `truncate_known_sign`.

    A third of the bytes of `truncate` at l = 64 and f = 18, for half its range: a product of fixed-point words that is
    known to stay below a quarter of the ring. Who calls it has to know that; outside the range the result is undefined
    (but still a sharing). mode, w, into: as for `truncate_known_sign`.
    """
    quarter = 1 << (x.ring.l - 2)
    y = await truncate_known_sign(p, plus(p, x, quarter), f=f, mode=mode, w=w, into=into)
    return plus(p, y, -(quarter >> f))


async def low_carry(p: Party, x: RingArray, *, f: int, w: int, ring: Ring) -> RingArray:
    """Arithmetic shares over `ring` of [the low f bits of the two shares overflow 2^f]."""
    client = p.role is CLIENT
    low = x.field(0, f)
    room = None if client else low.const(-1, low.shape) - low
    carry = await less_than(p, low if client else None, _fold(room), shape=x.shape, bits=f, w=w)
    return await b2a(p, carry[0], ring=ring)
