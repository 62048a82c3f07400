"""Contracts of the hidden units: the floor with ReLU, the look-up, and activation and gate of unfloored products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proofs.contracts.functions import piecewise, piecewise_range
from proofs.contracts.words import below_quarter, floor_shift, greater_than, non_negative, spread, times
from proofs.hybrid import Demand
from protocols.hidden import RELU, Arithmetic
from protocols.model.tables import LookUp, Table
from protocols.polynomial import narrow_rows
from sim.ring import Ring, RingArray, stack


def rectified(x: RingArray, keep: RingArray | None = None, *, f: int, **_: Any) -> RingArray:
    y = times(non_negative(x), floor_shift(x, f))
    return y if keep is None else times(keep, spread(y, keep.shape))


def table_at(index: RingArray, *, entries: Sequence[int], ring: Ring) -> RingArray:
    hits = [index.equals(i).cast(ring) * entry for i, entry in enumerate(entries)]
    return stack(*hits).sum(0)


def look_up(x: RingArray, *, table: LookUp, s: int, **_: Any) -> RingArray:
    positive = times(non_negative(x), x)
    size, narrow = (positive << 1) - x, Ring(table.width(s))
    entry = table_at(size.field(table.shift(s), table.index_bits), entries=table.words(s), ring=narrow)
    above = greater_than(size, thresholds=[table.edge(s)])[0]
    return positive - (entry - times(above, entry)).cast(x.ring)


def look_up_range(x: RingArray, **_: Any) -> list[Demand]:
    bound = (1 << (x.ring.l - 2)) - 1
    return [Demand("the size and its distance to the edge do not wrap", x, -bound, bound)]


def _floored(h: RingArray, activation: Table | LookUp, a: Arithmetic) -> RingArray:
    """floor(h / 2^s), over the ring of its own bits where the table's rows fit there."""
    short = Ring(h.ring.l - a.s)
    narrow = isinstance(activation, Table) and narrow_rows(activation, a.s, a.form, short) is not None
    return floor_shift(h, a.s, short if narrow else h.ring)


def hidden(products: Sequence[RingArray], activation: Any, a: Arithmetic) -> RingArray:
    """act(h) * v of W1 x and V x, or act(h) of W1 x alone, none of them floored."""
    h, *gate = products
    if activation == RELU:
        g = rectified(h, f=a.s)
    elif isinstance(activation, LookUp):
        g = look_up(_floored(h, activation, a), table=activation, s=a.s)
    else:
        g = piecewise(_floored(h, activation, a), table=activation, s=a.s, form=a.form, into=h.ring)
    for v in gate:
        g = floor_shift(g * floor_shift(v, a.s), a.s)
    return g


def hidden_range(products: Sequence[RingArray], activation: Any, a: Arithmetic) -> list[Demand]:
    """What the activation demands of W1 x, and the floors of W1 x, V x and the gate."""
    h, *gate = products
    demands: list[Demand] = []
    if activation != RELU:
        demands += below_quarter(h)
        if isinstance(activation, LookUp):
            demands += look_up_range(_floored(h, activation, a))
        else:
            demands += piecewise_range(_floored(h, activation, a), table=activation, s=a.s, form=a.form)
    for v in gate:
        demands += below_quarter(v) + below_quarter(hidden([h], activation, a) * floor_shift(v, a.s))
    return demands
