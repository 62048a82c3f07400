"""A party's messages are a function of its own tape, its own inputs and what it received: nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from sim.concrete import CONCRETE, from_words
from sim.functionality import Functionality
from sim.message import Message, chain
from sim.party import Party, protocol
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.tape import derive_key
from sim.world import Session
from tests.harness import HEAVY, row_marks
from tests.isolation import ROWS, SEED, alone, together, two_processes

IDS = [f"{entry.name}: {case.name}" for entry, case in ROWS]
BY_NIGHT = HEAVY - {"moe_layer"}  # what these are made of has rows of its own
NUMBERED = [
    pytest.param(i, id=IDS[i], marks=row_marks(entry, case) if by_day else pytest.mark.nightly)
    for i, (entry, case) in enumerate(ROWS)
    for by_day in [case is entry.cases[0] and entry.name not in BY_NIGHT]
]


@cache
def record(row: int) -> tuple[Message, ...]:
    return tuple(together(*ROWS[row]))


@pytest.mark.parametrize("row", NUMBERED)
def test_each_party_alone_sends_the_same_bytes(row: int) -> None:
    entry, case = ROWS[row]
    for role in Role:
        mine = [m for m in record(row) if m.sender is role]
        assert chain(alone(entry, case, role, record(row))) == chain(mine)


# That a party alone sends what it sends beside its peer is shown above; here it is for what two processes share with
# nobody. Each kind of transfer and of encryption once, and a layer made of most of them.
KINDS = (
    *("choose", "correlate", "correlate_wide", "correlate_ragged", "bit_triples"),
    *("linear", "embed", "crossing", "select_product", "moe_layer"),
)
FIRST = [i for i, (entry, case) in enumerate(ROWS) if case is entry.cases[0] and entry.name in KINDS]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(FIRST, id="of each kind", marks=pytest.mark.slow),
        pytest.param(range(len(ROWS)), id="all", marks=pytest.mark.nightly),
    ],
)
def test_two_processes_send_the_same_bytes(rows: Sequence[int]) -> None:
    for row, messages in zip(rows, two_processes(rows), strict=True):
        assert chain(messages) == chain(record(row)), IDS[row]


@pytest.mark.parametrize("row", FIRST[::5])
def test_seeded_runs_repeat_and_unseeded_runs_differ(row: int) -> None:
    entry, case = ROWS[row]
    assert chain(together(entry, case)) == chain(record(row))
    fresh = [Session(()) for _ in range(2)]
    assert fresh[0].endpoints[CLIENT].tape.key != fresh[1].endpoints[CLIENT].tape.key


BOARD: dict[Role, RingArray] = {}  # an object that both parties' code can reach: what isolation must detect


@protocol(realises=Functionality("nothing", lambda x: x))
async def peeking(p: Party, x: RingArray | None) -> RingArray:
    """A faulty protocol: the client sends its peer's input, read through shared memory."""
    if x is not None and x.backend is CONCRETE:
        BOARD[p.role] = x
    if p.role is SERVER:
        p.send("ready", p.const(Ring(8), 0, (2,)))
        got: RingArray = await p.recv("x", p.const(Ring(8), 0, (2,)).spec)
        return got
    await p.recv("ready", p.const(Ring(8), 0, (2,)).spec)
    stolen = BOARD[SERVER] if p.backend is CONCRETE else p.const(Ring(8), 0, (2,))
    p.send("x", stolen)
    return stolen


def test_reading_the_peers_object_is_detected() -> None:
    x: Any = from_words(Ring(8), [5, 6])
    sent = Session(seed=SEED).run(peeking, [x], [x]).messages
    peer = {m.label: m for m in sent if m.sender is SERVER}
    session = Session(roles=[CLIENT], keys={CLIENT: derive_key(SEED, "client")}, sources={SERVER: peer.get})
    BOARD[SERVER] = from_words(Ring(8), [0, 0])  # alone, the client's code sees no object of this run's server
    mine = session.run(peeking, [x], [blank(x.spec)]).messages
    assert chain(mine) != chain(m for m in sent if m.sender is CLIENT)
