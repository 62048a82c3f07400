"""Leaking siblings of the hard variants: one condition of a joint rule is broken, and the server learns something."""

from __future__ import annotations

from typing import Any

from protocols.broken.fault import R64, SHARING, TINY_CASE, draw, hand_over, owned
from protocols.broken.secure import IN_RANGE, variant
from protocols.entry import Case, Entry, Secret
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT

NEAR: list[Entry] = []


@variant(SHARING, owned(2, 2), NEAR)
async def overlapping_slices(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Two slices of one draw with an entry in common."""
    r = draw(p, "r", Spec(spec.ring, (3,)))
    first, second = (r[:2], r[1:]) if r is not None else (None, None)
    return [await hand_over(p, "x", x, first, spec), await hand_over(p, "y", y, second, spec)]


@variant(SHARING, owned(2, 1, ring=Ring(32)), NEAR)
async def overlapping_fields(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Two bit fields of one draw with a bit in common."""
    l = spec.ring.l
    r = draw(p, "r", Spec(Ring(2 * l - 1), spec.shape))
    low, high = (r.field(0, l), r.field(l - 1, l)) if r is not None else (None, None)
    return [await hand_over(p, "x", x, low, spec), await hand_over(p, "y", y, high, spec)]


@variant(SHARING, owned(2, 1), NEAR)
async def field_beyond_the_top(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """The second field reaches beyond the draw: its top bit is zero."""
    l = spec.ring.l
    bit = Spec(Z2, spec.shape)
    r = draw(p, "r", spec)
    low, high = (r.bit(0), (r >> 1).cast(Ring(l))) if r is not None else (None, None)
    small = y.bit(0) if y is not None else None
    return [await hand_over(p, "x", x, high, spec), await hand_over(p, "y", small, low, bit)]


@variant(SHARING, owned(2, 1), NEAR)
async def even_determinant(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Masks r + s and r - s: the low bits of their sum cancel."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    first, second = (r + s, r - s) if r is not None and s is not None else (None, None)
    return [await hand_over(p, "x", x, first, spec), await hand_over(p, "y", y, second, spec)]


@variant(SHARING, owned(2, 1), NEAR)
async def even_secret_factor(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """r (1 + y) is even for half of all y."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    mask = r * (1 + y) if r is not None else None
    return [await hand_over(p, "x", x, mask, spec), await hand_over(p, "y", y, s, spec)]


@variant(SHARING, owned(2, 1), NEAR)
async def masked_for_one_value(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """The mask is there only if y is 1."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    mask = r * y.bit(0).equals(1).cast(spec.ring) if r is not None else None
    return [await hand_over(p, "x", x, mask, spec), await hand_over(p, "y", y, s, spec)]


@variant(SHARING, owned(2, 1), NEAR)
async def factor_from_the_mask(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """r (1 + r) is always even."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    mask = r * (1 + r) if r is not None else None
    return [await hand_over(p, "x", x, mask, spec), await hand_over(p, "y", y, s, spec)]


@variant(SHARING, owned(2, 1), NEAR)
async def same_mask_in_either_order(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Both masks are chosen by the same bit, and then they are the same one."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    mask = r + x.bit(0).cast(spec.ring) * (s - r) if r is not None and s is not None else None
    return [await hand_over(p, "x", x, mask, spec), await hand_over(p, "y", y, mask, spec)]


@variant(SHARING, owned(1, 1, small=Ring(3)), NEAR)
async def halved_mask(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """r - (r >> 1) takes every value of the lower half, and one more, twice."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r - (r >> 1) if r is not None else None, spec)


@variant(SHARING, owned(2, 1), NEAR)
async def mask_times_a_word(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """r y is one-to-one in r for some y only."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    mask = r * y if r is not None else None
    return [await hand_over(p, "x", x, mask, spec), await hand_over(p, "y", y, s, spec)]


def _short(name: str, word: Ring, n: int, wide: Ring, mask: int) -> Case:
    return Case(name, (Secret(word, (n,), CLIENT),), {"spec": Spec(wide, (n,)), "mask": mask})


@variant(IN_RANGE, (_short("large", Ring(16), 3, R64, 56), _short(TINY_CASE, Z2, 1, Ring(3), 2)), NEAR)
async def mask_too_short(p: Party, x: Any, *, spec: Spec, mask: int) -> RingArray:
    """Room of 2^40 for each entry, but there are three."""
    r = draw(p, "r", Spec(Ring(mask), spec.shape))
    wide, ours = (r.cast(spec.ring), x.cast(spec.ring)) if r is not None else (None, None)
    return await hand_over(p, "x", ours, wide, spec)


@variant(IN_RANGE, (_short("large", Ring(16), 1, R64, 62), _short(TINY_CASE, Z2, 1, Ring(3), 2)), NEAR)
async def short_mask_of_a_mask(p: Party, x: Any, *, spec: Spec, mask: int) -> RingArray:
    """What a short mask hides is no mask for a word of the whole ring: the top bit of that is seen."""
    r = draw(p, "r", Spec(Ring(mask), spec.shape))
    ours = x.cast(spec.ring) << (spec.ring.l - 1) if x is not None else None
    hidden = x.cast(spec.ring) + r.cast(spec.ring) if r is not None else None
    return await hand_over(p, "x", ours, hidden, spec)
