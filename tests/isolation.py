"""Three ways to run one protocol: both parties in one process, each alone against the record, two processes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from sim.message import Message
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.tape import derive_key
from sim.world import Session
from tests.harness import adjusted, inputs, services

SEED = b"isolation"
ROWS = [(entry, case) for entry in CATALOG for case in entry.cases]


def arguments(case: Case) -> tuple[list[Any], list[Any]]:
    """Fixed inputs of a case: pseudorandom values of its declared ranges, and pseudorandom shares."""
    rng = np.random.Generator(np.random.Philox(7))
    values = []
    for secret in case.secrets:
        low, high = secret.range
        values.append(rng.integers(low, high, size=secret.shape, dtype=np.int64, endpoint=True))
    masks = [rng.integers(0, s.ring.mask, size=s.shape, dtype=np.uint64, endpoint=True) for s in case.secrets]
    return inputs(case, adjusted(case, values), masks)


def together(entry: Entry, case: Case) -> list[Message]:
    """Set-up and run of both parties in one process."""
    session = Session(services(case.plans), seed=SEED)
    client, server = arguments(case)
    execution = session.run(entry.proto, client, server, **case.public)
    return [*session.setup.messages, *execution.messages]


def alone(entry: Entry, case: Case, role: Role, record: Sequence[Message]) -> list[Message]:
    """One party, with only its own key and inputs, against its peer's recorded messages."""
    peer = {m.label: m for m in record if m.sender is not role}
    return _one_party(entry, case, role, peer.get, None, None)


def _one_party(
    entry: Entry,
    case: Case,
    role: Role,
    source: Callable[[str], Message | None],
    wait: Callable[[], bool] | None,
    on_send: Callable[[Message], None] | None,
) -> list[Message]:
    session = Session(
        services(case.plans),
        roles=[role],
        keys={role: derive_key(SEED, role.value)},
        sources={role.peer: source},
        wait=wait,
        on_send=on_send,
    )
    mine, theirs = arguments(case) if role is CLIENT else reversed(arguments(case))
    absent = [blank(v.spec) if isinstance(v, RingArray) else v for v in theirs]  # shapes are public
    both = (mine, absent) if role is CLIENT else (absent, mine)
    execution = session.run(entry.proto, *both, **case.public)
    return [*session.setup.messages, *execution.messages]


class Pipe:
    """A party's end of a pipe: a reader thread drains it, so that two large sends cannot block each other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._arrived: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._messages: dict[str, Message] = {}
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        try:
            while True:
                self._arrived.put(self._connection.recv())
        except EOFError:
            self._arrived.put(None)

    def source(self, label: str) -> Message | None:
        return self._messages.pop(label, None)

    def wait(self) -> bool:
        message = self._arrived.get(timeout=120)
        if message is not None:
            self._messages[message.label] = message
        return message is not None

    def send(self, message: Message) -> None:
        self._connection.send(message)


def serve(rows: Sequence[int], role: Role, connection: Connection, report: Connection) -> None:
    """Process body: run these catalog rows as one party, then report the messages sent, row by row."""
    pipe = Pipe(connection)
    for row in rows:
        report.send(_one_party(*ROWS[row], role, pipe.source, pipe.wait, pipe.send))


def two_processes(rows: Sequence[int]) -> list[list[Message]]:
    """The messages of each row, from two operating-system processes joined by one pipe."""
    context = get_context("spawn")
    ends = context.Pipe()
    reports, processes = [], []
    for role, end in zip((CLIENT, SERVER), ends, strict=True):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=serve, args=(rows, role, end, theirs), daemon=True)
        process.start()
        end.close()
        theirs.close()
        reports.append(mine)
        processes.append(process)
    sent = [[report.recv() for report in reports] for _ in rows]
    for process in processes:
        process.join(timeout=60)
    return [[*client, *server] for client, server in sent]
