"""Contracts on words: comparisons, truncations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proofs.hybrid import Demand
from protocols import locate
from protocols.truncate import FAITHFUL
from sim.ring import Ring, RingArray, stack


def non_negative(x: RingArray) -> RingArray:
    """The bit [x >= 0] over Z_2 of words that are read as signed; of x's shape."""
    return ~x.bit(x.ring.l - 1)


def below(y: RingArray, x: RingArray) -> RingArray:
    """The bit [y < x] over Z_2 of unsigned words of one ring and shape."""
    l = x.ring.l
    if l < 64:
        wide = Ring(l + 1)
        return (y.cast(wide) - x.cast(wide)).bit(l)
    high, low = ((y.field(at, 32), x.field(at, 32)) for at in (32, 0))
    return below(*high) ^ (same(*high) & below(*low))


def same(y: RingArray, x: RingArray) -> RingArray:
    """The bit [y = x] over Z_2 of words of one ring and shape."""
    return (y - x).equals(0)


def floor_shift(x: RingArray, f: int, into: Ring | None = None) -> RingArray:
    """floor(x / 2^f), x read as signed, 0 <= f < l; over x's ring, or over `into`."""
    l, result = x.ring.l, into or x.ring
    return x if f == 0 and result.l == l else ((x + (1 << (l - 1))) >> f).cast(result) - (1 << (l - 1 - f))


def times(bit: RingArray, x: RingArray) -> RingArray:
    """bit * x over x's ring; bit: over Z_2, of x's shape."""
    return bit.cast(x.ring) * x


def times_row(bit: RingArray, x: RingArray) -> RingArray:
    """A bit times every word of its row: bit (...), x (..., *row)."""
    return times(bit.reshape(*bit.shape, *(1,) * (x.ndim - bit.ndim)).broadcast(*x.shape), x)


def spread(x: RingArray, shape: tuple[int, ...]) -> RingArray:
    return x.reshape(1, *x.shape).broadcast(*shape)


def less_than(x: RingArray, y: RingArray, *, need_equal: bool = False, **_: Any) -> RingArray:
    wide = spread(x, y.shape)
    return stack(below(y, wide), same(y, wide)) if need_equal else below(y, wide)


def greater_than(x: RingArray, *, thresholds: Sequence[int], **_: Any) -> RingArray:
    return stack(*(non_negative(x - (t + 1)) for t in thresholds))


def comparable(x: RingArray, *, thresholds: Sequence[int], **_: Any) -> list[Demand]:
    half = 1 << (x.ring.l - 1)
    low, high = max(-half, max(thresholds) + 1 - half), min(half - 1, min(thresholds) + half)
    return [Demand("differences to the thresholds do not wrap", x, low, high)]


def located_range(x: RingArray, *, thresholds: Sequence[int], **_: Any) -> list[Demand]:
    return [Demand("differences to the thresholds' window do not wrap", x, *locate.comparable(x.ring, thresholds))]


def conjoin(*groups: RingArray) -> list[RingArray]:
    pairs = zip(groups[0::2], groups[1::2], strict=True)
    return [left.reshape(*left.shape, 1).broadcast(*right.shape) & right for left, right in pairs]


def truncate(x: RingArray, *, f: int, mode: str = FAITHFUL, into: Ring | None = None, **_: Any) -> RingArray:
    if mode != FAITHFUL:
        raise ValueError("one-ulp truncation is specified on shares: it is no contract")
    return floor_shift(x, f, into)


def one_ulp(client: RingArray, server: RingArray, *, f: int, **_: Any) -> RingArray:
    """Floor less the carry of the shares' low bits; the client's share is offset by 2^(l-1), a multiple of 2^f."""
    wide = Ring(f + 1)
    carry = (client.field(0, f).cast(wide) + server.field(0, f).cast(wide)).bit(f)
    return floor_shift(client + server, f) - carry.cast(client.ring)


def sign_known(x: RingArray, *, negative: bool = False, **_: Any) -> list[Demand]:
    half = 1 << (x.ring.l - 1)
    return [Demand("the sign is the declared one", x, *((-half, -1) if negative else (0, half - 1)))]


def below_quarter(x: RingArray, **_: Any) -> list[Demand]:
    """What `truncate_bounded` demands of a product."""
    quarter = 1 << (x.ring.l - 2)
    return [Demand("below a quarter of the ring", x, -quarter, quarter - 1)]
