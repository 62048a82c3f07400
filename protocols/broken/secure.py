"""Hard variants: correct and private, though a careless rule takes them for leaks. None may be refused silently.

`HARD` is perfectly private; `BOUNDED` up to a statistical distance that its proof must name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.broken.fault import R2, R64, SHARING, TINY_CASE, Text, draw, hand_over, owned, tell
from protocols.convert import bit_times
from protocols.entry import Case, Entry, Secret
from protocols.functionalities import SHARED_BIT_PRODUCTS
from protocols.ot.chosen import bit_triples, correlate
from sim.functionality import Functionality
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Z2, Ring, RingArray, Spec, concat, stack
from sim.role import CLIENT, SERVER

HARD: list[Entry] = []
BOUNDED: list[Entry] = []


def variant(
    claims: Functionality, cases: tuple[Case, ...], into: list[Entry] = HARD
) -> Callable[[Text], ProtocolDecl[Any]]:
    """Declare a protocol text and list it."""

    def declare(run: Text) -> ProtocolDecl[Any]:
        proto: ProtocolDecl[Any] = protocol(realises=claims)(run)
        into.append(Entry(proto, cases))
        return proto

    return declare


@variant(SHARING, owned(2, 1))
async def triangular_masks(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Masks r and r + s: r is used twice, s frees it."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    both = r + s if r is not None and s is not None else None
    return [await hand_over(p, "x", x, r, spec), await hand_over(p, "y", y, both, spec)]


@variant(SHARING, owned(3, 1))
async def long_triangle(p: Party, x: Any, y: Any, z: Any, *, spec: Spec) -> list[RingArray]:
    """Masks r, r + s, r - s + 3 t: to be freed from the last to the first."""
    r, s, t = (draw(p, word, spec) for word in "rst")
    second = r + s if r is not None and s is not None else None
    third = r - s + t * 3 if r is not None and s is not None and t is not None else None
    masks = zip("xyz", (x, y, z), (r, second, third), strict=True)
    return [await hand_over(p, name, v, mask, spec) for name, v, mask in masks]


@variant(SHARING, owned(1, 2))
async def odd_multiple(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """5 r is as uniform as r."""
    r = draw(p, "r", spec)
    return await hand_over(p, "x", x, r * 5 if r is not None else None, spec)


@variant(SHARING, owned(1, 2))
async def mask_minus_value(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """-(r - x), through two negations."""
    r = draw(p, "r", spec)
    negated = -r if r is not None else None
    return await hand_over(p, "x", x, -negated if negated is not None else None, spec)


@variant(SHARING, owned(1, 2))
async def one_mask_opened(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Two masks, one of them sent afterwards: the other one is enough."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    share = await hand_over(p, "x", x, r + s if r is not None and s is not None else None, spec)
    await tell(p, "s", s, spec)
    return share


@variant(SHARING, owned(1, 2))
async def joined_masks(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Two draws joined, reversed and reshaped into one mask."""
    half = Spec(spec.ring, (spec.shape[0] // 2,))
    r, s = draw(p, "r", half), draw(p, "s", half)
    mask = (
        concat(s, r)[::-1].reshape(1, -1).transpose().reshape(*spec.shape) if r is not None and s is not None else None
    )
    return await hand_over(p, "x", x, mask, spec)


@variant(SHARING, owned(1, 1))
async def summed_masks(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The mask is the sum of an array along an axis."""
    r = draw(p, "r", Spec(spec.ring, (3, *spec.shape)))
    return await hand_over(p, "x", x, r.sum(0) if r is not None else None, spec)


@variant(SHARING, owned(1, 2))
async def low_bits_of_wide_mask(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """A draw in a wider ring (or two halves of a word), reduced."""
    wide = Ring(min(64, 2 * spec.ring.l))
    r = draw(p, "r", Spec(wide, spec.shape))
    return await hand_over(p, "x", x, r.cast(spec.ring) if r is not None else None, spec)


@variant(SHARING, owned(1, 1))
async def remasked(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The share travels back and forth, each time under a new mask of its holder."""
    share = await hand_over(p, "x", x, draw(p, "r", spec), spec)
    for i in range(3):
        sender = (SERVER, CLIENT)[i % 2]
        mask = draw(p, f"r{i}", spec, sender)
        moved = await tell(p, f"move{i}", share - mask if mask is not None else None, spec, sender)
        share = mask if mask is not None else share + moved
    return share


@variant(SHARING, owned(2, 1))
async def disjoint_slices(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Two masks are disjoint slices of one draw."""
    r = draw(p, "r", Spec(spec.ring, (2 * spec.shape[0],)))
    n = spec.shape[0]
    first, second = (r[:n], r[n:]) if r is not None else (None, None)
    return [await hand_over(p, "x", x, first, spec), await hand_over(p, "y", y, second, spec)]


@variant(SHARING, owned(2, 1, ring=Ring(32)))
async def disjoint_fields(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Two masks are disjoint bit fields of one draw."""
    l = spec.ring.l
    r = draw(p, "r", Spec(Ring(2 * l), spec.shape))
    low, high = (r.field(0, l), r.field(l, l)) if r is not None else (None, None)
    return [await hand_over(p, "x", x, low, spec), await hand_over(p, "y", y, high, spec)]


@variant(SHARING, owned(2, 1))
async def odd_determinant(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Masks r + s and r + 2 s: no mask is alone anywhere, the determinant is 1."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    first, second = (r + s, r + s * 2) if r is not None and s is not None else (None, None)
    return [await hand_over(p, "x", x, first, spec), await hand_over(p, "y", y, second, spec)]


@variant(SHARING, owned(2, 1))
async def odd_secret_factor(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """r (1 + 2 y) is uniform for every y, and y is hidden by a mask of its own."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    mask = r * (1 + y * 2) if r is not None else None
    return [await hand_over(p, "x", x, mask, spec), await hand_over(p, "y", y, s, spec)]


@variant(SHARING, owned(1, 1, small=Ring(3)))
async def spread_mask(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The mask is r with its lower half added again, further up: one-to-one in r, by no rule of factors."""
    r, l = draw(p, "r", spec), spec.ring.l
    mask = r + ((r << (l - l // 2)) >> 1) if r is not None else None
    return await hand_over(p, "x", x, mask, spec)


@variant(SHARING, owned(2, 1))
async def masks_in_secret_order(p: Party, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """Two masks, the first of them for x or for y, as the low bit of x says."""
    r, s = draw(p, "r", spec), draw(p, "s", spec)
    first = second = None
    if r is not None and s is not None:
        swap = x.bit(0).cast(spec.ring) * (s - r)
        first, second = r + swap, s - swap
    return [await hand_over(p, "x", x, first, spec), await hand_over(p, "y", y, second, spec)]


def _narrow(name: str, secret: Secret, wide: Ring, mask: int) -> Case:
    return Case(name, (secret,), {"spec": Spec(wide, secret.shape), "mask": mask})


def _extended(x: Any, *, spec: Spec, mask: int) -> Any:
    return x.cast(spec.ring)


IN_RANGE = Functionality("sharing of a small word in a wide ring", _extended)


@variant(
    IN_RANGE,
    (
        _narrow("large", Secret(Ring(16), (3,), CLIENT), R64, 60),
        _narrow(TINY_CASE, Secret(Z2, (1,), CLIENT), Ring(3), 2),
    ),
    BOUNDED,
)
async def short_mask(p: Party, x: Any, *, spec: Spec, mask: int) -> RingArray:
    """A word of 16 bits under a mask of 60 in a ring of 64: what shows at the ends has a probability below 2^-42."""
    r = draw(p, "r", Spec(Ring(mask), spec.shape))
    wide, ours = (r.cast(spec.ring), x.cast(spec.ring)) if r is not None else (None, None)
    return await hand_over(p, "x", ours, wide, spec)


@variant(
    IN_RANGE,
    (
        _narrow("large", Secret(R64, (2,), CLIENT, -1000, 1000), R64, 56),
        _narrow(TINY_CASE, Secret(Ring(3), (1,), CLIENT, -1, 1), Ring(3), 2),
    ),
    BOUNDED,
)
async def mask_for_a_range(p: Party, x: Any, *, spec: Spec, mask: int) -> RingArray:
    """A signed word that is small by a premise on the inputs, under a mask of 56 bits."""
    r = draw(p, "r", Spec(Ring(mask), spec.shape))
    return await hand_over(p, "x", x, r.cast(spec.ring) if r is not None else None, spec)


def _bit_and_word(name: str, ring: Ring, n: int) -> Case:
    return Case(name, (Secret(Z2, (n,), CLIENT), Secret(ring, (n,), CLIENT)), {"spec": Spec(ring, (n,))})


@variant(SHARING, (_bit_and_word("large", R64, 3), _bit_and_word(TINY_CASE, R2, 1)))
async def selected_mask(p: Party, b: Any, x: Any, *, spec: Spec) -> list[RingArray]:
    """The mask is one of two draws, chosen by a secret bit, which has a mask of its own."""
    bits = Spec(Z2, spec.shape)
    r, s, m = draw(p, "r", spec), draw(p, "s", spec), draw(p, "m", bits)
    mask = r + b.cast(spec.ring) * (s - r) if r is not None and s is not None else None
    return [await hand_over(p, "b", b, m, bits), await hand_over(p, "x", x, mask, spec)]


def _transfer(name: str, ring: Ring, n: int) -> Case:
    return Case(name, (Secret(Z2, (n,), CLIENT), Secret(ring, (n,), SERVER)), {"spec": Spec(ring, (n,))})


_BIT_TIMES = (_transfer("large", R64, 3), _transfer(TINY_CASE, R2, 1))


@variant(SHARED_BIT_PRODUCTS, _BIT_TIMES)
async def corrected_transfer(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """The server moves its share to a mask of its own choice by sending the difference."""
    share = await bit_times(p, CLIENT, bit, x, spec)
    r = draw(p, "r", spec, SERVER)
    fix = await tell(p, "fix", share - r if r is not None else None, spec, SERVER)
    return share + fix if r is None else r


@variant(SHARED_BIT_PRODUCTS, _BIT_TIMES)
async def precomputed_transfer(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """A random OT beforehand; then the choice is sent as b xor u, and both messages under the two random pads."""
    bits = Spec(Z2, spec.shape)
    u, delta = draw(p, "u", bits), draw(p, "delta", spec, SERVER)
    key = await correlate(p, CLIENT, u, delta, shape=spec.shape, ring=spec.ring)
    e = await tell(p, "e", bit ^ u if u is not None else None, bits)
    r = draw(p, "r", spec, SERVER)
    table = None
    if r is not None and delta is not None:
        flip = e.cast(spec.ring)
        table = stack(key + flip * delta - r, key + (1 - flip) * delta + x - r)
    sent = await tell(p, "table", table, Spec(spec.ring, (2, *spec.shape)), SERVER)
    if r is not None:
        return r
    share: RingArray = sent[0] + bit.cast(spec.ring) * (sent[1] - sent[0]) - key
    return share


@variant(SHARED_BIT_PRODUCTS, (_transfer("large", Z2, 3), _transfer(TINY_CASE, Z2, 1)))
async def product_by_triple(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """Beaver's product of two private bits, both openings in one message."""
    n = spec.shape[0]
    a, b, c = await bit_triples(p, shape=(n,), right=1)
    zero = p.const(Z2, 0, (n,))
    ours = concat((bit if bit is not None else zero) ^ a, (x if x is not None else zero) ^ b[:, 0])
    opened = ours ^ await p.swap("both", ours)
    eps, delta = opened[:n], opened[n:]
    share = c[:, 0] ^ (eps & b[:, 0]) ^ (delta & a)
    return share ^ (eps & delta) if p.role is CLIENT else share
