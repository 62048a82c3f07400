"""Activations by look-up: a public table at a shared index, and y = max(x, 0) - T(|x|) for functions of that form.

GeLU and SiLU differ from ReLU by an even function that vanishes far from zero, so one table of |x| on a short range
serves both signs. [SIRNN]
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols import functionalities as F
from protocols.compare import DIGIT, drelu, greater_than, less_than
from protocols.convert import b2a, mux
from protocols.model.tables import LookUp
from protocols.ot.chosen import choose
from protocols.truncate import low_carry, truncate_known_sign
from sim.cost import Cost, together
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.role import CLIENT, SERVER
from sim.shapes import blank


def _bits_at_cost(x: RingArray, *, f: int, ring: Ring, w: int = DIGIT) -> Cost:
    bit = blank(Spec(Ring(1), x.shape))
    return less_than.declared(None, None, shape=x.shape, bits=f, w=w) + b2a.declared(bit, ring=ring)


@protocol(realises=F.BITS_AT, cites="[SIRNN]", cost=_bits_at_cost)
async def bits_at(p: Party, x: RingArray, *, f: int, ring: Ring, w: int = DIGIT) -> RingArray:
    """The bits of x from bit f on, as a shared word over `ring`: floor(x / 2^f) mod 2^m. x: over Z_{2^l}, f + m <= l.
    Exact: the shares' own bits, and the carry of the bits below."""
    return x.field(f, ring.l) + await low_carry(p, x, f=f, w=w, ring=ring)


def _table_at_cost(index: RingArray, *, entries: Sequence[int], ring: Ring) -> Cost:
    bit, l = blank(Spec(Ring(1), index.shape)), ring.l
    choice = choose.declared(CLIENT, None, None, shape=index.shape, n_choices=len(entries), width=l)
    return choice + together(*(b2a.declared(bit, ring=Ring(l - i)) for i in range(l)))


@protocol(realises=F.TABLE, cites="[SIRNN]", cost=_table_at_cost)
async def table_at(p: Party, index: RingArray, *, entries: Sequence[int], ring: Ring) -> RingArray:
    """entries[index] over `ring`, for an additively shared index over Z_{2^w} and 2^w public entries, w from 1 to 8.

    The server turns the table by its own share, and the client's share of the index chooses: Boolean shares of the
    entry's bits, each made arithmetic in the ring that it counts in. 4 flights.
    """
    n, table = len(entries), None
    if p.role is SERVER:
        hot = stack(*(index.equals(i) for i in range(n)), axis=-1).cast(ring).reshape(-1, n)
        turned = hot @ p.const(ring, [[entries[(i + j) % n] for j in range(n)] for i in range(n)])
        table = stack(*(turned.reshape(*index.shape, n).bit(i) for i in range(ring.l)), axis=-1)
    own = index if table is None else None
    chosen = await choose(p, CLIENT, own, table, shape=index.shape, n_choices=n, width=ring.l)
    bits = await p.gather(*(b2a(p, chosen[..., i], ring=Ring(ring.l - i)) for i in range(ring.l)))
    return stack(*(bit.cast(ring) << i for i, bit in enumerate(bits))).sum(0)


def _look_up_cost(x: RingArray, *, table: LookUp, s: int, w: int = DIGIT) -> Cost:
    bit, narrow = blank(Spec(Ring(1), x.shape)), blank(Spec(Ring(table.width(s)), x.shape))
    index = blank(Spec(Ring(table.index_bits), x.shape))
    cost = drelu.declared(x, w=w) + mux.declared(bit, x)
    entry = bits_at.declared(x, f=table.shift(s), ring=index.ring, w=w)
    entry += table_at.declared(index, entries=table.words(s), ring=narrow.ring)
    cost += greater_than.declared(x, thresholds=[table.edge(s)], w=w) | entry
    return cost + mux.declared(bit, narrow) + truncate_known_sign.declared(narrow, f=0, into=x.ring)


@protocol(realises=F.LOOKED_UP, cites="[SIRNN, Iron]", cost=_look_up_cost)
async def look_up(p: Party, x: RingArray, *, table: LookUp, s: int, w: int = DIGIT) -> RingArray:
    """max(x, 0) - T(|x|) at s fractional bits, T the table's entry for the leading bits of |x|, zero from its edge on.

    x: shared over Z_{2^l}, |x| < 2^(l-2). Exact: bit for bit F.LOOKED_UP, whose distance from the function is the
    table's max_error.
    """
    positive = await mux(p, await drelu(p, x, w=w), x)
    size = (positive << 1) - x
    above, entry = await p.gather(
        greater_than(p, size, thresholds=[table.edge(s)], w=w), p.scoped("entry", _entry, size, table, s, w)
    )
    inside = entry - await mux(p, above[0], entry)
    return positive - await truncate_known_sign(p, inside, f=0, into=x.ring)


async def _entry(p: Party, size: RingArray, table: LookUp, s: int, w: int) -> RingArray:
    """The table at the leading bits of size modulo the table's range."""
    index = await bits_at(p, size, f=table.shift(s), ring=Ring(table.index_bits), w=w)
    return await table_at(p, index, entries=table.words(s), ring=Ring(table.width(s)))
