"""Faults in control flow: branches on secrets (refused in every interpretation), and secret-dependent schedules.

A schedule fault looks at the words of a concrete array and lets lengths, counts, depths or early exits follow them. Its
messages may be masked perfectly: what leaks is which of them there are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.broken.fault import (
    BRANCH,
    PITFALL,
    R2,
    R64,
    SCHEDULE,
    SHARING,
    TINY_CASE,
    Fault,
    draw,
    owned,
    peek,
    planted,
    shared,
    tell,
)
from protocols.entry import Case, Secret
from protocols.products import square
from sim.functionality import Functionality
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT, SERVER

CONTROL: list[Fault] = []
branches = partial(planted, CONTROL, client=True, server=True, kind=BRANCH, symbolic=False)
schedules = partial(planted, CONTROL, server=True, kind=SCHEDULE, symbolic=False)


@branches("a squaring is skipped where the share is zero", 8, F.SQUARE, shared((1,)))
async def branch_on_truth(p: Party, x: RingArray) -> RingArray:
    """`if x`."""
    return await square(p, x) if x else x


@branches("a share is compared with a constant by ==", 8, F.SQUARE, shared((1,)))
async def branch_on_equality(p: Party, x: RingArray) -> RingArray:
    """`x == 0`."""
    return x if x == 0 else await square(p, x)


@branches("a table is indexed by a share", 8, SHARING, shared((1,)))
async def branch_on_index(p: Party, x: RingArray) -> RingArray:
    """`table[x]`."""
    return [x, x, x, x][x]


@branches("a loop runs as often as a share says", 8, SHARING, shared((1,)))
async def branch_on_length(p: Party, x: RingArray) -> RingArray:
    """`range(int(x))`."""
    for _ in range(int(x)):
        x = x + 0
    return x


@branches("membership in an array decides", 8, SHARING, shared((1,)))
async def branch_on_membership(p: Party, x: RingArray) -> RingArray:
    """`0 in x`."""
    return x + 0 if 0 in x else x


def _lookup(index: Any, table: Any, *, n: int, ring: Ring) -> Any:
    return table[index.astype(np.int64) % n]


ROW = Functionality("row of the server's table", _lookup)
_ROWS = (
    Case("large", (Secret(R2, (1,), CLIENT), Secret(R64, (4,), SERVER)), {"n": 4, "ring": R64}),
    Case(TINY_CASE, (Secret(Z2, (1,), CLIENT), Secret(Z2, (2,), SERVER)), {"n": 2, "ring": Z2}),
)


@schedules("the table is walked until the client has its row", 8, ROW, _ROWS)
async def early_exit(p: Party, index: Any, table: Any, *, n: int, ring: Ring) -> RingArray:
    """Every row is masked afresh; the number of rows is the index."""
    spec = Spec(ring, (1,))
    wanted = p.local(lambda: int(peek(index)[0]) % n) if index is not None else 0
    for i in range(n):
        r = draw(p, f"r{i}", spec, SERVER)
        got = await tell(p, f"row{i}", table[i : i + 1] - r if r is not None else None, spec, SERVER)
        more = await tell(
            p, f"more{i}", p.const(Z2, int(i != (wanted or 0)), (1,)) if index is not None else None, Spec(Z2, (1,))
        )
        if not p.local(lambda go=more: int(peek(go)[0])):
            return got if r is None else r
    return p.const(ring, 0, (1,))


def _selected(t: Any, v: Any, **_: Any) -> Any:
    return (t * v).sum(-1, keepdims=True)


SELECTION = Functionality("sum of the selected values", _selected)
_ROUTE = (
    Case("large", (Secret(Z2, (4,), CLIENT), Secret(R64, (4,), SERVER)), {"spec": Spec(R64, (1,))}),
    Case(TINY_CASE, (Secret(Z2, (2,), CLIENT), Secret(Z2, (2,), SERVER)), {"spec": Spec(Z2, (1,))}),
)


@schedules("only the selected experts answer", 8, SELECTION, _ROUTE)
async def route_dependent_work(p: Party, t: Any, v: Any, *, spec: Spec) -> RingArray:
    """The client asks expert by expert; the answers are masked, their number is not."""
    asked = await tell(p, "asked", t, t.spec if t is not None else Spec(Z2, v.shape))
    total = p.const(spec.ring, 0, spec.shape)
    active = p.local(peek, asked)
    for i in range(asked.size) if active is None else np.flatnonzero(active).tolist():
        r = draw(p, f"r{i}", spec, SERVER)
        answer = await tell(p, f"answer{i}", v[i : i + 1] - r if r is not None else None, spec, SERVER)
        total = total + (answer if r is None else r)
    return total


@schedules("zero entries are left out of the message", 8, SHARING, owned(1, 2))
async def sparse_message(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """A variable-length encoding: where the entries are is sent, then as many masked words."""
    places = await tell(p, "places", ~x.equals(0) if x is not None else None, Spec(Z2, spec.shape))
    at = p.local(lambda: np.flatnonzero(peek(places)).tolist())
    at = list(range(spec.size)) if at is None else at
    r = draw(p, "r", spec)
    if r is None:
        words = [await p.recv(f"word{j}", Spec(spec.ring, ())) for j in range(len(at))]
        return _spread(p, words, at, spec)
    for j, i in enumerate(at):
        p.send(f"word{j}", x[i] - r[j])
    return _spread(p, [r[j] for j in range(len(at))], at, spec)


def _spread(p: Party, words: list[RingArray], at: list[int], spec: Spec) -> RingArray:
    total = p.const(spec.ring, 0, spec.shape)
    for word, i in zip(words, at, strict=True):
        here = p.const(spec.ring, np.arange(spec.size) == i)
        total = total + here * word.reshape(1).broadcast(*spec.shape)
    return total


@schedules("a word is sent before or after the peer's, as its lowest bit says", 8, SHARING, owned(1, 1))
async def secret_order(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """Labels and sizes never change; the causal order does."""
    r = draw(p, "r", spec)
    if r is None:
        p.send("ping", p.const(Z2, 0, (1,)))
        got: RingArray = await p.recv("x", spec)
        return got
    late = p.local(lambda: int(peek(x)[0]) & 1)
    if not late:
        p.send("x", x - r)
    await p.recv("ping", Spec(Z2, (1,)))
    if late:
        p.send("x", x - r)
    return r


@schedules("a padding message is sent for odd words only", PITFALL, SHARING, owned(1, 1))
async def secret_count(p: Party, x: Any, *, spec: Spec) -> RingArray:
    """The second message says that there is one; its content is fresh noise."""
    r, noise = draw(p, "r", spec), draw(p, "noise", Spec(Z2, (1,)))
    if r is not None and noise is not None:
        odd = p.local(lambda: int(peek(x)[0]) & 1)
        p.send("x", x - r)
        p.send("more", p.const(Z2, int(bool(odd)), (1,)))
        if odd:
            p.send("padding", noise)
        return r
    got: RingArray = await p.recv("x", spec)
    more = await p.recv("more", Spec(Z2, (1,)))
    if p.local(lambda: int(peek(more)[0])):
        await p.recv("padding", Spec(Z2, (1,)))
    return got
