"""Faults around oblivious transfer: correlations, pads and triples used twice, choices and tables in clear."""

from __future__ import annotations

from typing import Any

from protocols import functionalities as F
from protocols.broken.fault import PITFALL, R2, R64, SHARING, TINY_CASE, Fault, draw, planted, tell
from protocols.convert import b2a, bit_times
from protocols.entry import Case, Secret
from protocols.ot.chosen import bit_triples, choose, correlate
from sim.functionality import Functionality
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec, stack
from sim.role import CLIENT, SERVER

TRANSFERS: list[Fault] = []


def _bits(*shape: int) -> Secret:
    return Secret(Z2, shape)


_AND = (
    Case("large", (_bits(4), _bits(4, 1), _bits(4), _bits(4, 1))),
    Case(TINY_CASE, (_bits(1), _bits(1, 1), _bits(1), _bits(1, 1))),
)


@planted(TRANSFERS, "one bit triple serves two conjunctions", 12, F.CONJUNCTIONS, _AND, client=True, server=True)
async def triple_reused(p: Party, *groups: RingArray) -> list[RingArray]:
    """x xor a and x' xor a are both opened."""
    a, b, c = await bit_triples(p, shape=groups[1].shape[:-1], right=1)
    results = []
    for i, (x, y) in enumerate(((groups[0], groups[1]), (groups[2], groups[3]))):
        wide = a.reshape(*y.shape)
        eps = (x ^ a) ^ await p.swap(f"eps{i}", x ^ a)
        delta = (y ^ b) ^ await p.swap(f"delta{i}", y ^ b)
        eps = eps.reshape(*y.shape)
        z = c ^ (eps & b) ^ (delta & wide)
        results.append(z ^ (eps & delta) if p.role is CLIENT else z)
    return results


def _chosen(words: int) -> tuple[Case, ...]:
    def case(name: str, ring: Ring, n: int) -> Case:
        secrets = (Secret(Z2, (n,), CLIENT), *(Secret(ring, (n,), SERVER),) * words)
        return Case(name, secrets, {"spec": Spec(ring, (n,))})

    return case("large", R64, 3), case(TINY_CASE, R2, 1)


@planted(
    TRANSFERS,
    "a second product is corrected from the first one's correlation",
    12,
    F.SHARED_BIT_PRODUCTS,
    _chosen(2),
    client=True,
)
async def correlation_reused(p: Party, bit: Any, x: Any, y: Any, *, spec: Spec) -> list[RingArray]:
    """The server sends y - x for the client to turn r + b x into r + b y."""
    first = await bit_times(p, CLIENT, bit, x, spec)
    gap = await tell(p, "correction", y - x if y is not None else None, spec, SERVER)
    return [first, first + bit.cast(spec.ring) * gap if bit is not None else first]


@planted(TRANSFERS, "the pad of an OT masks another word as well", 12, F.SHARED_BIT_PRODUCTS, _chosen(1), client=True)
async def pad_reused(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """r is the server's share of b x, and the mask of an unneeded copy of x: with b = 0 the client knows r."""
    share = await correlate(p, CLIENT, bit, x, shape=spec.shape, ring=spec.ring)
    await tell(p, "backup", x + share if x is not None else None, spec, SERVER)
    return share if p.role is CLIENT else -share


@planted(
    TRANSFERS,
    "the choice bit is sent without the random choice that hides it",
    12,
    F.SHARED_BIT_PRODUCTS,
    _chosen(1),
    server=True,
)
async def choice_in_clear(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """A precomputed OT whose correction e = b xor u lacks u: the server answers b directly."""
    known = await tell(p, "choice", bit, Spec(Z2, spec.shape))
    r = draw(p, "r", spec, SERVER)
    answer = known.cast(spec.ring) * x - r if r is not None else None
    got = await tell(p, "answer", answer, spec, SERVER)
    return got if r is None else r


@planted(
    TRANSFERS,
    "both messages are sent, and the client keeps one",
    PITFALL,
    F.SHARED_BIT_PRODUCTS,
    _chosen(1),
    client=True,
)
async def table_in_clear(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """The table (-r, x - r): its difference is x."""
    r = draw(p, "r", spec, SERVER)
    table = await tell(
        p, "table", stack(-r, x - r) if r is not None else None, Spec(spec.ring, (2, *spec.shape)), SERVER
    )
    if bit is None:
        return r if r is not None else table[0]
    share: RingArray = table[0] + bit.cast(spec.ring) * (table[1] - table[0])
    return share


_TABLE = (
    Case("large", (Secret(Z2, (3, 2), CLIENT), Secret(Z2, (3, 4), SERVER)), {"n": 3}),
    Case(TINY_CASE, (Secret(Z2, (1, 2), CLIENT), Secret(Z2, (1, 4), SERVER)), {"n": 1}),
)


def _looked_up(index: Any, table: Any, *, n: int) -> Any:
    return F.LOOK_UP.compute((index * [1, 2]).sum(-1), table[..., None])[..., 0]


LOOK_UP = Functionality("look-up by the digits of an index", _looked_up)


@planted(TRANSFERS, "pads of a 1-of-4 OT are sums of raw correlated keys", 13, LOOK_UP, _TABLE, client=True)
async def raw_key_pads(p: Party, index: Any, table: Any, *, n: int) -> RingArray:
    """pad_i = q_0 + i_0 D_0 + q_1 + i_1 D_1: the four pads sum to zero, so the sum of the messages is open."""
    deltas = [draw(p, f"d{j}", Spec(Z2, (n,)), SERVER) for j in range(2)]
    keys = []
    for j, delta in enumerate(deltas):
        bit = index[:, j] if index is not None else None
        keys.append(await correlate(p, CLIENT, bit, delta, shape=(n,), ring=Z2))
    base, spec = keys[0] ^ keys[1], Spec(Z2, (n, 4))
    r = draw(p, "r", Spec(Z2, (n, 1)), SERVER)
    rows = None
    if r is not None and deltas[0] is not None and deltas[1] is not None:
        pads = stack(base, base ^ deltas[0], base ^ deltas[1], base ^ deltas[0] ^ deltas[1], axis=1)
        rows = table ^ r.broadcast(n, 4) ^ pads
    sent = await tell(p, "rows", rows, spec, SERVER)
    if r is not None:
        return r[:, 0]
    digits = index[:, 0], index[:, 1]
    hits = stack(
        *((digits[0] ^ ~p.const(Z2, i & 1, (n,))) & (digits[1] ^ ~p.const(Z2, i >> 1, (n,))) for i in range(4)), axis=1
    )
    return (sent & hits).sum(1) ^ base


@planted(
    TRANSFERS, "two look-ups of one table share one sender's mask", 11, F.SHARED_BIT_PRODUCTS, _chosen(1), client=True
)
async def ot_sender_mask_reused(p: Party, bit: Any, x: Any, *, spec: Spec) -> RingArray:
    """The server rebuilds its random output into a fixed r for both calls, to save a share."""
    r = draw(p, "r", spec, SERVER)
    opened = []
    for word in ("first", "second"):
        share = await correlate(
            p,
            CLIENT,
            bit if word == "first" else (~bit if bit is not None else None),
            x,
            shape=spec.shape,
            ring=spec.ring,
        )
        fix = await tell(p, word, -r - share if r is not None else None, spec, SERVER)
        opened.append(share + fix)
    return opened[0] if p.role is CLIENT else (r if r is not None else opened[0])


_TO_WORD = (Case("large", (_bits(3),), {"ring": R64}), Case(TINY_CASE, (_bits(1),), {"ring": R2}))


@planted(TRANSFERS, "the sender's bit is sent along as a hint", PITFALL, F.BOOLEAN_TO_ARITHMETIC, _TO_WORD, client=True)
async def hint_sent(p: Party, b: RingArray, *, ring: Ring) -> RingArray:
    """A share of the bit in another message than its own."""
    share = await b2a(p, b, ring=ring)
    await tell(p, "parity", share.bit(0), b.spec, SERVER)
    return share


@planted(TRANSFERS, "look-up in a table whose rows are masked by one bit", 11, LOOK_UP, _TABLE, client=True)
async def table_mask_shared(p: Party, index: Any, table: Any, *, n: int) -> RingArray:
    """The masked table is sent whole: differences of rows are open."""
    r = draw(p, "r", Spec(Z2, (n, 1)), SERVER)
    await tell(p, "table", table ^ r.broadcast(n, 4) if r is not None else None, Spec(Z2, (n, 4)), SERVER)
    number = (index[:, 0].cast(Ring(2)) + (index[:, 1].cast(Ring(2)) << 1)) if index is not None else None
    rows = (table ^ r.broadcast(n, 4)).reshape(n, 4, 1) if r is not None else None
    share = (await choose(p, CLIENT, number, rows, shape=(n,), n_choices=4, width=1))[:, 0]
    return share if r is None else share ^ r[:, 0]


def _shared_words() -> tuple[Case, ...]:
    return Case("large", (Secret(R64, (3,)),)), Case(TINY_CASE, (Secret(R2, (1,)),))


@planted(
    TRANSFERS, "shares are refreshed by a word the peer already holds", PITFALL, SHARING, _shared_words(), server=True
)
async def refresh_in_clear(p: Party, x: RingArray) -> RingArray:
    """The client moves its whole share to the server to get a fresh one back."""
    moved = await tell(p, "share", x, x.spec)
    fresh = await tell(p, "fresh", draw(p, "r", x.spec, SERVER), x.spec, SERVER)
    return fresh if p.role is CLIENT else x + moved - fresh
