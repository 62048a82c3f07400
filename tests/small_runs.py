"""A small recorded session for the tests of transcripts: a service with a set-up, and a protocol over several rings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim.concrete import from_words
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.wire import Blob, BlobSpec
from sim.world import Execution, Service, Session
from transcripts.private import PrivateSide
from transcripts.record import Recorder
from transcripts.replay import Repeat, Start

RING = Ring(12)
ADDED = Functionality("added", lambda x, y: x + y)


class Greeting:
    """Set-up: each party sends the other 40 bytes of its tape; the state is what it received."""

    name = "greeting"

    async def setup(self, p: Party) -> Any:
        spec = BlobSpec("greeting", 40)
        p.send("hello", Blob(spec, p.draw_bytes("hello", 40)))
        return (await p.recv("hello", spec)).data

    async def provision(self, p: Party, state: Any, amounts: Mapping[str, int]) -> None:
        return None


@protocol(realises=ADDED)
async def masked(p: Party, x: RingArray, rounds: int = 2) -> RingArray:
    """Sends x under fresh masks, bits of it in Z_2, and answers in turn; the words of x + masks come back."""
    for i in range(rounds):
        mask = p.draw(f"mask{i}", x.ring, x.shape)
        x = x + mask - await p.swap(f"word{i}", x + mask)
    p.send("bits", x.bit(0))
    return x + (await p.recv("bits", blank_spec(x))).cast(x.ring)


@protocol(realises=ADDED)
async def twice(p: Party, x: RingArray) -> RingArray:
    """Two copies side by side."""
    a, b = await p.gather(masked(p, x), masked(p, x + 1, rounds=1))
    total: RingArray = a + b
    return total


def blank_spec(x: RingArray) -> Any:
    return blank(x.spec).bit(0).spec


def services() -> Sequence[Service]:
    return (Greeting(),)


def run_small(
    words: Mapping[Role, Any], seed: bytes | None = b"seed", runs: int = 1
) -> tuple[Session, list[Execution]]:
    """A session, its set-up and `runs` runs of `twice`."""
    session = Session(services(), seed=seed)
    inputs = [[from_words(RING, words[role])] for role in (CLIENT, SERVER)]
    return session, [session.setup, *(session.run(twice, *inputs) for _ in range(runs))]


def keep_small(path: Path, seed: bytes | None = b"seed", runs: int = 1, private: bool = True) -> Recorder:
    """Record such a session on fixed inputs, with its private sides."""
    words = {CLIENT: np.arange(5), SERVER: np.arange(5) * 700}
    session, executions = run_small(words, seed, runs)
    with Recorder(path, {"protocol": "twice", "runs": runs, "n": 5}, seeded=seed is not None) as recorder:
        for execution in executions:
            recorder.add(execution)
        recorder.seal(private_sides(session, words) if private else ())
    return recorder


def private_sides(session: Session, words: Mapping[Role, Any]) -> list[PrivateSide]:
    return [
        PrivateSide(role, endpoint.tape.key, {"x": words[role].astype(np.uint64)}, dict(endpoint.tape.draws))
        for role, endpoint in session.endpoints.items()
    ]


def rebuild_small(public: Mapping[str, object]) -> Repeat:
    """What `transcripts.replay` needs: how to repeat the recorded runs with one party alone."""

    def repeat(start: Start, side: PrivateSide) -> None:
        session = start(services())
        own = from_words(RING, side.arrays["x"])
        inputs: dict[Role, list[RingArray]] = {side.role: [own], side.role.peer: [blank(own.spec)]}
        for _ in range(int(str(public["runs"]))):
            session.run(twice, inputs[CLIENT], inputs[SERVER])

    return repeat
