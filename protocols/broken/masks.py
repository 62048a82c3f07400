"""Faults in masks: the client shares its words with the server by one message, and the mask does not hide them."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.broken.fault import PITFALL, SHARING, Fault, draw, hand_over, owned, planted, tell
from sim.functionality import Functionality
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec, concat, stack
from sim.role import CLIENT, SERVER

MASKS: list[Fault] = []


@planted(MASKS, "one mask hides two words", 11, SHARING, owned(2, 1), server=True)
async def mask_reused(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """x - r and y - r: their difference is y - x."""
    r = draw(p, "r", spec)
    return [await hand_over(p, "x", x, r, spec), await hand_over(p, "y", y, r, spec)]


@planted(MASKS, "the mask is a public constant", 5, SHARING, owned(1, 2), server=True)
async def mask_constant(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """x - 1."""
    return await hand_over(p, "x", x, p.const(spec.ring, 1, spec.shape), spec)


@planted(MASKS, "the mask comes from a generator with the default seed", 5, SHARING, owned(1, 2), server=True)
async def mask_default_seed(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Anyone can run the generator."""
    words = np.random.default_rng(42).integers(0, spec.ring.mask, spec.shape, np.uint64, endpoint=True)
    return await hand_over(p, "x", x, p.const(spec.ring, words), spec)


@planted(MASKS, "the mask is drawn one bit too short and extended with a zero", 10, SHARING, owned(1, 2), server=True)
async def mask_short(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The top bit is hidden by a carry at most."""
    r = draw(p, "r", Spec(Ring(spec.ring.l - 1), spec.shape))
    return await hand_over(p, "x", x, r.cast(spec.ring) if r is not None else None, spec)


@planted(MASKS, "the mask is multiplied by an even constant", PITFALL, SHARING, owned(1, 2), server=True)
async def mask_even(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The lowest bit is never hidden."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r * 2 if r is not None else None, spec)


@planted(MASKS, "the mask is shifted right: its top bit is zero", 14, SHARING, owned(1, 2), server=True)
async def mask_shifted(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """A sampler that drops a bit."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r >> 1 if r is not None else None, spec)


@planted(MASKS, "bits are masked with r and a constant", PITFALL, SHARING, owned(1, 4, ring=Z2, small=Z2), server=True)
async def mask_anded(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Where the constant is 0 nothing is hidden."""
    r = draw(p, "r", spec)
    pattern = p.const(Z2, [1, 0, 1, 1])
    return await hand_over(p, "x", x, r & pattern if r is not None else None, spec)


@planted(MASKS, "mask bits are products of two uniform bits", 14, SHARING, owned(1, 2, ring=Z2, small=Z2), server=True)
async def mask_biased(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Three mask bits in four are zero."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    return await hand_over(p, "x", x, r & s if r is not None and s is not None else None, spec)


@planted(MASKS, "the word is blinded by a factor instead of a summand", PITFALL, SHARING, owned(1, 1), server=True)
async def mask_factor(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """r x is zero whenever x is, and at least as even as x."""
    r = draw(p, "r", spec)
    if r is not None:
        blinded: RingArray = r * x
        p.send("x", blinded)
        share: RingArray = x - blinded
        return share
    got: RingArray = await p.recv("x", spec)
    return got


@planted(MASKS, "the mask is the square of a uniform word", 14, SHARING, owned(1, 1), server=True)
async def mask_squared(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Few words are squares."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r * r if r is not None else None, spec)


def _word_and_bits(x: Any, *, spec: Spec) -> list[Any]:
    return [x, np.stack([x >> np.int64(i) & np.int64(1) for i in range(spec.ring.l)])]


WORD_AND_BITS = Functionality("arithmetic and Boolean shares of one word", _word_and_bits)


@planted(
    MASKS, "one mask is subtracted from a word and xored to its bits", PITFALL, WORD_AND_BITS, owned(1, 1), server=True
)
async def mask_two_groups(p: Party, x: Any, *, spec: Spec) -> list[RingArray]:
    """x - r and x xor r agree in every bit above which nothing was borrowed."""
    r = draw(p, "r", spec)
    bits = Spec(Z2, (spec.ring.l, *spec.shape))

    def spread(v: RingArray | None) -> RingArray | None:
        return stack(*(v.bit(i) for i in range(spec.ring.l))) if v is not None else None

    return [await hand_over(p, "word", x, r, spec), await hand_over(p, "bits", spread(x), spread(r), bits)]


@planted(MASKS, "one mask is broadcast over a row", 11, SHARING, owned(1, 2, 2, tiny=(1, 2)), server=True)
async def mask_broadcast(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Differences along the row are visible."""
    r = draw(p, "r", Spec(spec.ring, (spec.shape[0], 1)))
    return await hand_over(p, "x", x, r.broadcast(*spec.shape) if r is not None else None, spec)


@planted(MASKS, "two halves are masked by copies of one draw", 11, SHARING, owned(1, 2), server=True)
async def mask_duplicated(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """concat(r, r)."""
    r = draw(p, "r", Spec(spec.ring, (spec.shape[0] // 2,)))
    return await hand_over(p, "x", x, concat(r, r) if r is not None else None, spec)


@planted(MASKS, "only the first half of the entries is masked", 3, SHARING, owned(1, 2), server=True)
async def mask_partial(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The second half is in clear."""
    r = draw(p, "r", Spec(spec.ring, (spec.shape[0] // 2,)))
    return await hand_over(p, "x", x, concat(r, r.const(0, r.shape)) if r is not None else None, spec)


@planted(MASKS, "two masks are overlapping slices of one draw", 12, SHARING, owned(2, 2), server=True)
async def mask_overlapping(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Entry 1 of the first mask is entry 0 of the second."""
    r = draw(p, "r", Spec(spec.ring, (spec.shape[0] + 1,)))
    first, second = (r[:-1], r[1:]) if r is not None else (None, None)
    return [await hand_over(p, "x", x, first, spec), await hand_over(p, "y", y, second, spec)]


@planted(MASKS, "the third of three masks is minus the sum of the others", PITFALL, SHARING, owned(3, 1), server=True)
async def mask_zero_sum(p: Party, x: Any, y: Any, z: Any, *, spec: Spec) -> list[RingArray]:
    """Every pair is hidden; the sum of the three is not."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    last = -(r + s) if r is not None and s is not None else None
    words = zip("xyz", (x, y, z), (r, s, last), strict=True)
    return [await hand_over(p, name, v, mask, spec) for name, v, mask in words]


@planted(MASKS, "masks r + s and r - s: even determinant", PITFALL, SHARING, owned(2, 1), server=True)
async def mask_even_determinant(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Each is uniform; the lowest bit of their sum is not random."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    plus, minus = (r + s, r - s) if r is not None and s is not None else (None, None)
    return [await hand_over(p, "x", x, plus, spec), await hand_over(p, "y", y, minus, spec)]


@planted(MASKS, "the second mask is an odd multiple of the first", 11, SHARING, owned(2, 1), server=True)
async def mask_multiple(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """3 (x - r) - (y - 3 r) = 3 x - y."""
    r = draw(p, "r", spec)
    return [await hand_over(p, "x", x, r, spec), await hand_over(p, "y", y, r * 3 if r is not None else None, spec)]


@planted(
    MASKS,
    "the mask of the top bit is the lowest bit of the mask of the word",
    11,
    WORD_AND_BITS,
    owned(1, 1),
    server=True,
)
async def mask_narrowed(p: Party, x: Any, *, spec: Spec) -> list[RingArray]:
    """All other bits have masks of their own; the lowest and the top one are compared."""
    r, fresh = draw(p, "r", spec), draw(p, "bits", Spec(Z2, (spec.ring.l - 1, *spec.shape)))
    ours = stack(*(x.bit(i) for i in range(spec.ring.l))) if x is not None else None
    masks = concat(fresh, stack(r.bit(0))) if r is not None and fresh is not None else None
    bits = Spec(Z2, (spec.ring.l, *spec.shape))
    return [await hand_over(p, "word", x, r, spec), await hand_over(p, "bits", ours, masks, bits)]


@planted(MASKS, "the mask is sent later, as a check", PITFALL, SHARING, owned(1, 2), server=True)
async def mask_revealed(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """x - r, then r."""
    r = draw(p, "r", spec)
    share = await hand_over(p, "x", x, r, spec)
    await tell(p, "check", r, spec)
    return share


@planted(MASKS, "the mask comes from the peer: a common seed", PITFALL, SHARING, owned(1, 2), server=True)
async def mask_from_peer(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The server knows the mask of what it receives."""
    r = await tell(p, "seed", draw(p, "r", spec, SERVER), spec, SERVER)
    if p.role is CLIENT:
        return await hand_over(p, "x", x, r, spec)
    got: RingArray = await p.recv("x", spec)
    return got


@planted(MASKS, "the mask is added to itself", PITFALL, SHARING, owned(1, 2), server=True)
async def mask_doubled(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """r + r is even."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r + r if r is not None else None, spec)


@planted(MASKS, "the mask is shifted left", PITFALL, SHARING, owned(1, 2), server=True)
async def mask_shifted_left(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The lowest bit of r << 1 is zero."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r << 1 if r is not None else None, spec)


@planted(
    MASKS,
    "mask bits are comparisons of uniform words with zero",
    14,
    SHARING,
    owned(1, 2, ring=Z2, small=Z2),
    server=True,
)
async def mask_compared(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """[r = 0] is rarely one."""
    r = draw(p, "r", Spec(Ring(2), spec.shape))
    return await hand_over(p, "x", x, r.equals(0) if r is not None else None, spec)


@planted(MASKS, "masks are spread by a singular public matrix", 11, SHARING, owned(1, 1, 2), server=True)
async def mask_singular(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Both entries of r M are r_0 + r_1."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r @ r.const([[1, 1], [1, 1]]) if r is not None else None, spec)


@planted(MASKS, "half of the mask is sent later", PITFALL, SHARING, owned(1, 2), server=True)
async def mask_half_revealed(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The mask is a join of two draws, one of which is opened."""
    half = Spec(spec.ring, (spec.shape[0] // 2,))
    r, s = draw(p, "r", half), draw(p, "s", half)
    share = await hand_over(p, "x", x, concat(r, s) if r is not None and s is not None else None, spec)
    await tell(p, "check", s, half)
    return share


@planted(MASKS, "the mask has a hole: its middle entry is zero", 3, SHARING, owned(1, 3), server=True)
async def mask_holed(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """A join of two draws around a constant."""
    one = Spec(spec.ring, (1,))
    r, s = draw(p, "r", one), draw(p, "s", one)
    mask = concat(r, r.const(0, (1,)), s) if r is not None and s is not None else None
    return await hand_over(p, "x", x, mask, spec)
