"""Ordinary runs: one after the other in one session, with everything that the corrupted party holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from protocols.entry import Case, Entry
from protocols.he.ideal import IdealHeService
from protocols.he.interface import Plan, a2h
from protocols.he.service import HeService
from protocols.ot.ideal import IdealOtService
from protocols.ot.service import OtService
from sim.concrete import from_words
from sim.message import Message
from sim.ring import Ring, RingArray
from sim.role import SERVER, Role
from sim.tape import Tape
from sim.wire import Blob
from sim.world import Execution, Service, Session
from transcripts.classes import FIRST, Inputs, arguments, choose_classes, draw_inputs, generator
from transcripts.targets import Target
from transcripts.views import Kind, Layout, Raw, bare, layout_of, leaves, raw_view

Model = Literal["real", "hybrid"]
REAL: Model = "real"
HYBRID: Model = "hybrid"
BUDGET = 2.0**-16  # of a block's session: it answers far more often than one that is meant to protect weights
LONG_DRAW = 1024  # bytes of the longest draw that counts as one of the text, not of a kernel below an interface


def services_of(plans: Sequence[Plan], model: Model) -> tuple[Service, ...]:
    if model == HYBRID:
        return (IdealOtService(), IdealHeService(plans)) if plans else (IdealOtService(),)
    return (OtService(), HeService(plans, BUDGET)) if plans else (OtService(),)


class Results:
    """Collects what every scope that a party enters returns to it: functions of its view, which it does hold.

    They spare the statistics from finding out for themselves what the party computes (a comparison bit from a dozen
    transfers). Give it to a session as `on_result`; `taken` empties it.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self._found: list[tuple[str, RingArray]] = []

    def __call__(self, role: Role, scope: str, result: Any) -> None:
        path, slash, last = bare(scope).rpartition("/")
        name, _, number = last.partition(".")
        sealed = name == a2h.name and role is SERVER  # ciphertexts, of which an ideal engine shows the content
        if role is self.role and not sealed:
            label = f"{path}{slash}{name}#{number or 1}"
            self._found += [(f"{label}.{i + 1}" if i else label, x) for i, x in enumerate(leaves(result))]

    def taken(self) -> list[tuple[str, RingArray]]:
        """(label, array) of everything since the last call, in the order in which scopes ended."""
        found, self._found = self._found, []
        return found


class _Recording(Tape):
    """A tape that keeps what it gave; stands in for a party's tape once its session is set up."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape.key, tape.owner)
        self.draws = tape.draws
        self.taken: list[tuple[str, bytes]] = []

    def bytes(self, label: str, n: int) -> bytes:
        data = super().bytes(label, n)
        self.taken.append((label, data))
        return data


@dataclass(frozen=True)
class Run:
    """One run. own: its inputs by name. drawn: what the corrupted party took from its tape. results: see `Results`."""

    execution: Execution
    role: Role
    own: list[tuple[str, RingArray]]
    drawn: list[tuple[str, bytes]]
    results: list[tuple[str, RingArray]]

    def view(self) -> Raw:
        """The view of the corrupted party."""
        given: list[tuple[Kind, str, Any]] = [("input", label, x) for label, x in self.own]
        given += [("draw", bare(label), _as_words(data)) for label, data in self.drawn if _of_the_text(label, data)]
        given += [("result", label, x) for label, x in self.results]
        return raw_view(self.execution, self.role, given)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, without second copies of their payloads."""
        return tuple(_lean(m) for m in self.execution.messages)


def runs(entry: Entry, case: Case, inputs: Inputs, tape: bytes, model: Model, role: Role) -> Iterator[Run]:
    """Run the protocol once per input, in one session with these tapes."""
    services = services_of(case.plans, model)
    results = Results(role)
    session = Session(services, seed=tape, hybrid=model == HYBRID, on_result=results)
    results.taken()  # of the set-up
    recording = _Recording(session.endpoints[role].tape)
    session.endpoints[role].tape = recording
    engine: Any = services[-1]
    for run in range(inputs.count):
        recording.taken = []
        recording.draws.clear()  # labels carry the number of the run: none comes twice
        client, server, own = arguments(case, inputs, from_words, getattr(engine, "prepare", None), run)
        execution = session.run(entry.proto, client, server, **case.public)
        yield Run(execution, role, own[role], recording.taken, results.taken())


def _of_the_text(label: str, data: bytes) -> bool:
    return len(data) <= LONG_DRAW and not bare(label).startswith("pool/")


def _as_words(data: bytes) -> Any:
    """A tape does not know the ring of what was drawn: whole words where they fit, else bytes."""
    if len(data) % 8 == 0:
        return from_words(Ring(64), np.frombuffer(data, "<u8").astype(np.uint64))
    return data


def _lean(message: Message) -> Message:
    """The message without its second copy of the payload."""
    content = message.content
    if isinstance(content, Blob) and isinstance(content.data, bytes):
        return Message(message.sender, message.label, message.scope, message.depth, message.spec, message.payload)
    return message


@cache
def reference(target: Target, role: Role, model: Model) -> Layout:
    """The layout of one run of class `first`, the same in every block."""
    entry, case = target.resolve()
    classes = choose_classes(entry, case, role, "reference")
    inputs = draw_inputs(case, classes, [FIRST], role, generator("reference"))
    (run,) = runs(entry, case, inputs, b"reference", model, role)
    return layout_of(run.view())
