"""A user's module as `secmoe check` meets it: one sound protocol, and one for each thing that a check has to notice."""

from __future__ import annotations

import random

import numpy as np

from secmoe.api import (
    DECLARED,
    Z2,
    Case,
    Cost,
    Entry,
    Functionality,
    Party,
    Ring,
    RingArray,
    Secret,
    Spec,
    blank,
    drelu,
    mul,
    mux,
    non_negative,
    protocol,
    public_share,
    reveal,
    times,
    to_words,
)

CONSTANT = 7
MAXIMUM = Functionality("maximum", lambda x, y: np.maximum(x, y))
SQUARE = Functionality("square", lambda x: x * x)
VALUE = Functionality("value", lambda x: x, leaks_client=("the value",), leaks_server=("the value",))
SAME = Functionality("the same value", lambda x: x)


def maximum_cost(x: RingArray, y: RingArray) -> Cost:
    return drelu.declared(x) + mux.declared(blank(Spec(Z2, x.shape)), x)


@protocol(realises=MAXIMUM, cost=maximum_cost)
async def maximum(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """Sound."""
    return y + await mux(p, await drelu(p, x - y), x - y)


def contract(x: RingArray, y: RingArray) -> RingArray:
    return y + times(non_negative(x - y), x - y)


WORD = Secret(Ring(64), (2,), None, -(1 << 62), (1 << 62) - 1)
entry = Entry(maximum, (Case("64 bits", (WORD, WORD)),), contract=contract)


@protocol(realises=MAXIMUM, cost=maximum_cost)
async def hasty(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """Opens the comparison bit, and is still priced as if it did not."""
    larger = await reveal(p, await drelu(p, x - y))
    return y + larger.cast(x.ring) * (x - y)


hasty_entry = Entry(hasty, entry.cases, contract=contract)


@protocol(realises=SQUARE)
async def off_by_one(p: Party, x: RingArray) -> RingArray:
    """Wrong; no entry, no closed form."""
    return await mul(p, x, x) + public_share(p, x.const(1, x.shape))


@protocol(realises=SAME)
async def tossing(p: Party, x: RingArray) -> RingArray:
    """Wrong for half of the client's tapes."""
    coin = p.draw("coin", Z2, x.shape)
    return public_share(p, coin.cast(x.ring)) + x


@protocol(realises=Functionality("sum", lambda x, y: x + y))
async def mux_(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """Named like a protocol of the catalog, which is no reason to prove that one."""
    return x + y


mux_.name = "mux"


@protocol(realises=SAME)
async def noisy(p: Party, x: RingArray) -> RingArray:
    """Masks with randomness that is not from its tape."""
    await p.swap("noise", x.const(random.getrandbits(60), x.shape))
    return x


BOARD: dict[object, RingArray] = {}


@protocol(realises=SAME)
async def peeking(p: Party, x: RingArray) -> RingArray:
    """Sends its peer's share, which it reads from an object that both can reach: no leak, as the peer has it."""
    BOARD[p.role, p.backend.name] = x
    await p.swap("ready", p.const(Z2, 0, (1,)))
    await p.swap("stolen", BOARD.get((p.role.peer, p.backend.name), x))
    return x


@protocol(realises=SAME)
async def branching(p: Party, x: RingArray) -> RingArray:
    return x if x.bit(0) else x + 0


@protocol(realises=SAME)
async def looking(p: Party, x: RingArray) -> RingArray:
    """Looks at the words."""
    if p.backend.name != "shapes":
        to_words(x)
    return x


@protocol(realises=SAME)
async def raising(p: Party, x: RingArray) -> RingArray:
    return x[7]


@protocol(realises=VALUE)
async def opening(p: Party, x: RingArray) -> RingArray:
    """Says what it opens."""
    return public_share(p, await reveal(p, x))


opening_entry = Entry(opening, (Case("64 bits", (Secret(Ring(64), (2,)),)),), DECLARED)
also_opening = Entry(opening, (Case("8 bits", (Secret(Ring(8), (2,)),)),), DECLARED)


@protocol(realises=SAME)
async def needs_more(p: Party, x: RingArray, *, steps: int) -> RingArray:
    return x + steps - steps


no_case = Entry(needs_more, ())


@protocol(realises=SAME)
async def of_private_words(p: Party, x: RingArray | None) -> RingArray:
    return p.const(Ring(64), 0, (2,))


@protocol(realises=Functionality("rows", lambda x, *, ring: x))
async def guessed(p: Party, x: RingArray, *, ring: Ring, rounds: int = 1) -> RingArray:
    return x
