"""The hidden units of an expert, from products that are not floored yet: floor, activation and gate.

A floor just before a ReLU shares its comparison; a floor just before a table of polynomials need not leave the ring of
its own bits, so that no comparison of the high bits is made for it at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols import functionalities as F
from protocols.boolean import blank_group, conjoin
from protocols.compare import DIGIT, less_than
from protocols.convert import b2a, bit_times, mux
from protocols.look_up import look_up
from protocols.model.tables import Approximation, LookUp, Table
from protocols.ot.chosen import correlate
from protocols.polynomial import CHEAPEST, narrow_rows, piecewise
from protocols.products import mul
from protocols.sharing import invert
from protocols.truncate import FAITHFUL, truncate_bounded
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT
from sim.shapes import blank

RELU = "relu"


@dataclass(frozen=True)
class Arithmetic:
    """Public parameters of the share-level part: s fractional bits, truncation mode, digit width, polynomial form."""

    s: int
    mode: str = FAITHFUL
    w: int = DIGIT
    form: str = CHEAPEST


def _wide(x: RingArray, k: int) -> RingArray:
    """k copies of x, (k, *x.shape)."""
    return x.reshape(1, *x.shape).broadcast(k, *x.shape)


def _rectify_cost(x: RingArray, keep: RingArray | None = None, *, f: int, w: int = DIGIT) -> Cost:
    l, bit = x.ring.l, blank(Spec(Ring(1), x.shape))
    high = less_than.declared(None, None, shape=x.shape, bits=l - 1 - f, w=w, need_equal=True)
    low = less_than.declared(None, None, shape=x.shape, bits=f, w=w)
    tops = correlate.declared(CLIENT, None, None, shape=x.shape, ring=Ring(f))
    k = 1 if keep is None else keep.shape[0]
    kept = FREE if keep is None else conjoin.declared(*blank_group(x.shape, k))
    chosen = blank(Spec(Ring(1), (k, *x.shape))), blank(Spec(x.ring, (k, *x.shape)))
    compared = (high | low | tops) + conjoin.declared(*blank_group(x.shape, 1))
    return compared + (b2a.declared(bit, ring=x.ring) | kept) + mux.declared(*chosen)


@protocol(realises=F.RECTIFIED_FLOOR, cites="[CrypTFlow2, SIRNN]", cost=_rectify_cost)
async def rectify(
    p: Party, x: RingArray, keep: RingArray | None = None, *, f: int, w: int = DIGIT
) -> RingArray:
    """max(floor(x / 2^f), 0) of a signed x over Z_{2^l}, 1 <= f < l - 1. Exact for every x.

    One comparison serves both: the sign is the carry into the top bit, and the carry of the low f bits is a node of the
    same digit tree. Where x is not negative its sign is known, so the wrap of the shares is a product of their top bits
    (as in truncate_known_sign); where it is negative the result is zero anyway. keep: Boolean (k, *x.shape): then
    (k, *x.shape), zero where its bit is zero, by one AND more per bit.
    """
    l, client = x.ring.l, p.role is CLIENT
    low_ring, top = Ring(l - 1), x.bit(l - 1)
    mine = x.cast(low_ring) if client else x.const(-1, x.shape).cast(low_ring) - x.cast(low_ring)

    def part(at: int, width: int) -> tuple[RingArray | None, RingArray | None]:
        field = mine.field(at, width)
        return (field, None) if client else (None, field.reshape(1, *x.shape))

    wide = Ring(f)
    high, low, both = await p.gather(
        less_than(p, *part(f, l - 1 - f), shape=x.shape, bits=l - 1 - f, w=w, need_equal=True),
        less_than(p, *part(0, f), shape=x.shape, bits=f, w=w),
        bit_times(p, CLIENT, top if client else None, None if client else top.cast(wide), Spec(wide, x.shape)),
    )
    (passed,) = await conjoin(p, high[1][0], low[0].reshape(*x.shape, 1))
    positive = invert(p, top ^ high[0][0] ^ passed[..., 0])
    carry, bits = await p.gather(b2a(p, low[0], ring=x.ring), _kept(p.child("kept"), positive, keep))
    wrap = (top.cast(wide) - both).cast(x.ring) << (l - f)
    chosen = await mux(p, bits, _wide((x >> f) - wrap + carry, bits.shape[0]))
    return chosen if keep is not None else chosen[0]


async def _kept(p: Party, positive: RingArray, keep: RingArray | None) -> RingArray:
    """positive, (1, *S), or the AND with every row of keep, (k, *S)."""
    if keep is None:
        return positive.reshape(1, *positive.shape)
    nd = len(positive.shape)
    (kept,) = await conjoin(p, positive, keep.transpose(*range(1, nd + 1), 0))
    return kept.transpose(nd, *range(nd))


def each_matrix(products: RingArray, matrices: int) -> RingArray:
    """Products (*S, matrices f) with matrices above each other, as (matrices, *S, f)."""
    *lead, width = products.shape
    parts = products.reshape(*lead, matrices, width // matrices)
    return parts.transpose(len(lead), *range(len(lead)), len(lead) + 1)


def _floored(ring: Ring, activation: Approximation, a: Arithmetic) -> Ring:
    """The ring of the activation's input: that of a floor of s bits, where the table's rows fit there."""
    short = Ring(ring.l - a.s)
    narrow = isinstance(activation, Table) and narrow_rows(activation, a.s, a.form, short) is not None
    return short if narrow else ring


def _activated_cost(x: RingArray, activation: Approximation | str, a: Arithmetic) -> Cost:
    if not isinstance(activation, Table | LookUp):
        return rectify.declared(x, f=a.s, w=a.w)
    h = blank(Spec(_floored(x.ring, activation, a), x.shape))
    cost = truncate_bounded.declared(x, f=a.s, mode=a.mode, w=a.w, into=h.ring)
    if isinstance(activation, LookUp):
        return cost + look_up.declared(h, table=activation, s=a.s, w=a.w)
    return cost + piecewise.declared(h, table=activation, s=a.s, form=a.form, mode=a.mode, w=a.w, into=x.ring)


async def _activated(p: Party, x: RingArray, activation: Approximation | str, a: Arithmetic) -> RingArray:
    """The activation of floor(x / 2^s): Protocol 2 for a table of polynomials, a look-up, else ReLU."""
    if not isinstance(activation, Table | LookUp):
        return await rectify(p, x, f=a.s, w=a.w)
    h = await truncate_bounded(p, x, f=a.s, mode=a.mode, w=a.w, into=_floored(x.ring, activation, a))
    if isinstance(activation, LookUp):
        return await look_up(p, h, table=activation, s=a.s, w=a.w)
    return await piecewise(p, h, table=activation, s=a.s, form=a.form, mode=a.mode, w=a.w, into=x.ring)


def hidden_cost(products: RingArray, keep: RingArray | None, *, activation: Approximation | str, a: Arithmetic) -> Cost:
    """Closed form of `hidden_units`."""
    h, gated = blank(Spec(products.ring, products.shape[1:])), products.shape[0] == 2
    if activation == RELU and not gated:
        return rectify.declared(h, keep, f=a.s, w=a.w)
    cost = _activated_cost(h, activation, a)
    if gated:
        floor = truncate_bounded.declared(h, f=a.s, mode=a.mode, w=a.w)
        cost = (cost | floor) + mul.declared(h, h) + floor
    return cost if keep is None else cost + mux.declared(keep, blank(Spec(h.ring, keep.shape)))


async def hidden_units(
    p: Party, products: RingArray, keep: RingArray | None, *, activation: Approximation | str, a: Arithmetic
) -> RingArray:
    """act(W1 x) * (V x), or act(W1 x), at s fractional bits. products: (2 or 1, *S), W1 x and V x not yet floored.

    V x, the gate's product, and W1 x but for ReLU are below 2^(l-2) in size: see `truncate_bounded`. keep: Boolean
    (k, *S): k copies, zero where the bit is zero. Returns S, or (k, *S).
    """
    gated = products.shape[0] == 2
    if activation == RELU and not gated:
        return await rectify(p, products[0], keep, f=a.s, w=a.w)
    branches = [_activated(p.child("activation"), products[0], activation, a)]
    if gated:
        branches.append(truncate_bounded(p, products[1], f=a.s, mode=a.mode, w=a.w))
    g, *v = await p.gather(*branches)
    if gated:
        g = await truncate_bounded(p, await mul(p, g, v[0]), f=a.s, mode=a.mode, w=a.w)
    return g if keep is None else await mux(p, keep, _wide(g, keep.shape[0]))
