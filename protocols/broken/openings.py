"""Faults in openings: values, shares, comparison bits, selectors or loads that are opened, or opened badly masked."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.broken.fault import PITFALL, R64, TINY_CASE, Fault, draw, planted, shared, tell
from protocols.compare import drelu
from protocols.convert import b2a
from protocols.entry import Case, Secret
from protocols.products import mul
from protocols.sharing import own_share, public_share, reveal
from sim.functionality import Functionality
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT, SERVER

OPENINGS: list[Fault] = []


@planted(
    OPENINGS,
    "the factor is opened to be squared in the clear",
    PITFALL,
    F.SQUARE,
    shared((2,)),
    client=True,
    server=True,
)
async def square_by_opening(p: Party, x: RingArray) -> RingArray:
    """Correct, and public."""
    value = await reveal(p, x)
    return public_share(p, value * value)


@planted(OPENINGS, "the client sends its own share along", PITFALL, F.PRODUCT, shared((1,), (1,)), server=True)
async def share_echoed(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """The server holds the other share."""
    await tell(p, "log", x, x.spec)
    return await mul(p, x, y)


@planted(
    OPENINGS, "output shares are sent to the peer unrefreshed", PITFALL, F.PRODUCT, shared((1,), (1,)), client=True
)
async def output_sent(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """The server's share of the result completes the client's."""
    product = await mul(p, x, y)
    whole = await tell(p, "result", product, product.spec, SERVER)
    return product + whole if p.role is CLIENT else product - whole


def _pair_maximum(x: Any) -> Any:
    return np.where(x[..., 0] >= x[..., 1], x[..., 0], x[..., 1])


MAXIMUM = Functionality("maximum of two", _pair_maximum)
_PAIRS = (
    Case("large", (Secret(R64, (2, 2), None, -(1 << 61), 1 << 61),)),
    Case(TINY_CASE, (Secret(Ring(2), (1, 2), None, 0, 1),)),
)


@planted(
    OPENINGS, "the comparison bit is opened, the winner picked locally", 7, MAXIMUM, _PAIRS, client=True, server=True
)
async def comparison_opened(p: Party, x: RingArray) -> RingArray:
    """The order of the scores is the route."""
    keep = await reveal(p, await drelu(p, x[:, 0] - x[:, 1]))
    bit = keep.cast(x.ring)
    return x[:, 1] + bit * (x[:, 0] - x[:, 1])


@planted(OPENINGS, "the comparison bit is sent to one side only", 7, MAXIMUM, _PAIRS, server=True)
async def comparison_told(p: Party, x: RingArray) -> RingArray:
    """The client sends its share of the bit; the server, which then knows it, shares the choice back."""
    ring = x.ring
    keep = await drelu(p, x[:, 0] - x[:, 1])
    theirs = await tell(p, "bit", keep, keep.spec)
    known = (keep ^ theirs).cast(ring) if p.role is SERVER else None
    gap = x[:, 0] - x[:, 1]
    return x[:, 1] + await mul(p, own_share(p, SERVER, known, gap.spec), gap)


@planted(OPENINGS, "whether two scores tie is opened", 7, MAXIMUM, _PAIRS, client=True, server=True)
async def tie_opened(p: Party, x: RingArray) -> RingArray:
    """A tie rule that asks first: both orders are compared, and the conjunction is public."""
    gap = x[:, 0] - x[:, 1]
    first, second = await p.gather(drelu(p, gap), drelu(p, -gap))
    await reveal(p, first ^ second)  # 0 where both hold: a tie
    bit = await b2a(p, first, ring=x.ring)
    return x[:, 1] + await mul(p, bit, gap)


def _dot(t: Any, v: Any) -> Any:
    return (t * v).sum(-1)


SELECTION = Functionality("selected value", _dot)


@planted(
    OPENINGS,
    "the one-hot route is opened to both",
    6,
    SELECTION,
    shared((2, 3), (2, 3), tiny=((1, 2), (1, 2))),
    client=True,
    server=True,
)
async def route_opened(p: Party, t: RingArray, v: RingArray) -> RingArray:
    """Plaintext routing."""
    return (await reveal(p, t) * v).sum(-1)


@planted(
    OPENINGS, "the server learns the route", 6, SELECTION, shared((2, 3), (2, 3), tiny=((1, 1), (1, 1))), server=True
)
async def route_to_server(p: Party, t: RingArray, v: RingArray) -> RingArray:
    """The client sends its share of the selector in clear; the server goes on with the whole of it."""
    theirs = await tell(p, "selector", t, t.spec)
    whole = t + theirs if p.role is SERVER else None
    return (await mul(p, own_share(p, SERVER, whole, t.spec), v)).sum(-1)


def _dispatched(hot: Any) -> Any:
    return hot


DISPATCH = Functionality("dispatch with capacity", _dispatched)
_HOT = (Case("large", (Secret(Z2, (4, 3)),)), Case(TINY_CASE, (Secret(Z2, (2, 1)),)))


@planted(
    OPENINGS, "the load of each expert is opened to enforce a capacity", 9, DISPATCH, _HOT, client=True, server=True
)
async def load_opened(p: Party, hot: RingArray) -> RingArray:
    """With a capacity of all tokens nothing is dropped; the load is public all the same."""
    counts = (await b2a(p, hot, ring=Ring(4 if hot.shape[0] > 2 else 2))).sum(0)
    await reveal(p, counts)
    return hot


_RANGE = (
    Case("large", (Secret(R64, (2,), None, 0, (1 << 40) - 1),), {"f": 18, "room": 40}),
    Case(TINY_CASE, (Secret(Ring(4), (1,), None, 0, 3),), {"f": 1, "room": 1}),
)


@planted(
    OPENINGS,
    "x is opened to the server under a truncation mask that is too short",
    10,
    F.FLOOR_SHIFT,
    _RANGE,
    server=True,
)
async def truncation_mask_short(p: Party, x: RingArray, *, f: int, room: int) -> RingArray:
    """The mask is a multiple of 2^f below 2^(f + room): the low bits are open, the high ones nearly."""
    short = draw(p, "r", Spec(Ring(room), x.shape))
    r = short.cast(x.ring) << f if short is not None else None
    opened = await tell(p, "masked", x + r if r is not None else None, x.spec)
    return -(r >> f) if r is not None else (x + opened) >> f


@planted(OPENINGS, "x is opened to the server under a fixed truncation mask", 10, F.FLOOR_SHIFT, _RANGE, server=True)
async def truncation_mask_fixed(p: Party, x: RingArray, *, f: int, room: int) -> RingArray:
    """The same mask in every run."""
    r = x.const(1 << f, x.shape)
    opened = await tell(p, "masked", x + r if p.role is CLIENT else None, x.spec)
    return -(r >> f) if p.role is CLIENT else (x + opened) >> f


def _is_zero(x: Any) -> Any:
    return (x == 0).astype(np.int64)


ZERO = Functionality("is zero", _is_zero)


@planted(
    OPENINGS,
    "the product with a random odd word is opened to test for zero",
    PITFALL,
    ZERO,
    shared((1,)),
    client=True,
    server=True,
)
async def zero_test_by_factor(p: Party, x: RingArray) -> RingArray:
    """r x has as many trailing zeros as x, and the client knows r."""
    r = draw(p, "r", Spec(Ring(x.ring.l - 1), x.shape))
    odd = (r.cast(x.ring) << 1) + 1 if r is not None else None
    product = await reveal(p, await mul(p, x, own_share(p, CLIENT, odd, x.spec)))
    return public_share(p, product.equals(0))


_BITS = (Case("large", (Secret(Z2, (3,)),), {"ring": R64}), Case(TINY_CASE, (Secret(Z2, (1,)),), {"ring": Ring(2)}))


@planted(
    OPENINGS,
    "a shared bit is opened to be converted",
    PITFALL,
    F.BOOLEAN_TO_ARITHMETIC,
    _BITS,
    client=True,
    server=True,
)
async def bit_opened(p: Party, b: RingArray, *, ring: Ring) -> RingArray:
    """Arithmetic shares of a public bit."""
    return public_share(p, (await reveal(p, b)).cast(ring))


@planted(
    OPENINGS,
    "a bit is opened under a mask that is handed over to be removed",
    PITFALL,
    F.BOOLEAN_TO_ARITHMETIC,
    _BITS,
    server=True,
)
async def bit_mask_told(p: Party, b: RingArray, *, ring: Ring) -> RingArray:
    """The server gets the client's share xor r, and r."""
    r = draw(p, "r", b.spec)
    mixed = await tell(p, "masked", b ^ r if r is not None else None, b.spec)
    mask = await tell(p, "mask", r, b.spec)
    whole = (b ^ mixed ^ mask).cast(ring)
    return whole if p.role is SERVER else whole.const(0, whole.shape)
