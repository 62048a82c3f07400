"""Replay: re-execute each party ALONE against its peer's recorded messages, and compare every byte it sends.

The party gets its own private side and nothing else: no object of its peer exists in the replay. What it receives is
taken from the transcript; what it sends must be what the transcript holds. So a replay confirms both that the record is
the run, and that neither party used anything but its inputs, its tape and the wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sim.concrete import to_words
from sim.driver import Source
from sim.message import Message
from sim.ring import Spec
from sim.role import Role
from sim.wire import AnySpec, WireMismatch, decode, describe
from sim.world import Service, Session
from transcripts.layout import IMPORTED, is_imported
from transcripts.private import PrivateSide, private_path, read_private
from transcripts.store import Header, Transcript


class Diverged(RuntimeError):
    """A party sends something else than what was recorded; ends its replay."""


class NothingToReplay(ValueError):
    """A transcript that no program of ours has written."""


class Start(Protocol):
    """Opens the session of the party under replay, alone, wired to the transcript."""

    def __call__(self, services: Sequence[Service]) -> Session: ...


# Repeats the recorded runs of one party: `repeat(start, side)` calls start(services) once and then session.run(...)
# once per recorded run, with the party's own inputs from its private side. `rebuild(public)` gives it for the public
# parameters of a transcript, and refuses those it does not understand.
Repeat = Callable[[Start, PrivateSide], None]
Rebuild = Callable[[Mapping[str, object]], Repeat]


@dataclass(frozen=True)
class Difference:
    """Where a replay leaves the record. seq: place of the recorded message, or -1 where there is none."""

    role: Role
    seq: int
    label: str
    expected: str
    got: str

    def __str__(self) -> str:
        where = f"message {self.seq}, " if self.seq >= 0 else ""
        return f"{self.role.value}: {where}{self.label}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class PartyReplay:
    """Outcome for one party: what it sent again, byte for byte, up to the first difference."""

    role: Role
    messages: int
    nbytes: int
    difference: Difference | None


@dataclass(frozen=True)
class ReplayReport:
    """Outcome of a replay."""

    parties: tuple[PartyReplay, ...]

    @property
    def confirmed(self) -> bool:
        return self.first is None

    @property
    def first(self) -> Difference | None:
        """The difference at the earliest recorded message: an altered message itself before what follows from it."""
        found = [p.difference for p in self.parties if p.difference is not None]
        return min(found, key=lambda d: (d.seq < 0, d.seq), default=None)


def replay(transcript: Transcript, rebuild: Rebuild, roles: Sequence[Role] = tuple(Role)) -> ReplayReport:
    """Replay each party of `roles` alone. Raises NothingToReplay for an imported trace, PrivateFileError when a private
    side is missing or foreign, and what `rebuild` raises on parameters that it cannot use."""
    if is_imported(transcript.public):
        framework = json.dumps(transcript.public[IMPORTED])
        raise NothingToReplay(
            f"{transcript.path}: expected a run of this program, got the trace of another one ({framework}), which "
            "is not here to be run again; look at it with secmoe inspect, compare two traces with secmoe diff"
        )
    sides = [read_private(private_path(transcript.path, role), role, transcript.seal) for role in roles]
    repeat = rebuild(transcript.public)
    return ReplayReport(tuple(_replay_party(transcript, repeat, side) for side in sides))


def _replay_party(transcript: Transcript, repeat: Repeat, side: PrivateSide) -> PartyReplay:
    record = _Record(transcript, side.role)
    sessions: list[Session] = []

    def start(services: Sequence[Service]) -> Session:
        session = Session(
            services,
            roles=(side.role,),
            keys={side.role: side.key},
            sources={side.role.peer: record.source},
            on_send=record.compare,
        )
        sessions.append(session)
        return session

    difference = None
    try:
        repeat(start, side)
        difference = record.rest() or _draws(side, sessions)
    except (ValueError, TypeError, LookupError, RuntimeError) as error:  # Diverged, or what followed from it
        reason = f"{type(error).__name__}: {error}"
        difference = record.difference or Difference(
            side.role, record.latest, "re-execution", "to run to its end", reason
        )
    return PartyReplay(side.role, record.confirmed, record.nbytes, difference)


class _Record:
    """The transcript as one party meets it: its own messages to reproduce, its peer's to receive."""

    def __init__(self, transcript: Transcript, role: Role) -> None:
        self._transcript, self._role = transcript, role
        self._own = {h.label: h for h in transcript.headers if h.sender is role}
        self._peer = {h.label: h for h in transcript.headers if h.sender is not role}
        self.confirmed = self.nbytes = 0
        self.latest = -1
        self.difference: Difference | None = None

    @property
    def source(self) -> Source:
        return self._receive

    def _receive(self, label: str) -> Message | None:
        header = self._peer.pop(label, None)
        if header is None:
            return None
        self.latest = max(self.latest, header.seq)
        return self._transcript.message(header)

    def compare(self, message: Message) -> None:
        """Called for every message the party sends; raises Diverged at the first that was not recorded so."""
        header = self._own.pop(message.label, None)
        if header is None:
            self._diverge(-1, message.label, "no such message", describe(message.spec))
        elif (header.spec, header.depth) != (message.spec, message.depth):
            expected = f"{describe(header.spec)} at depth {header.depth}"
            self._diverge(header.seq, message.label, expected, f"{describe(message.spec)} at depth {message.depth}")
        else:
            recorded = self._transcript.message(header).payload
            if recorded != message.payload:
                expected, got = _first_difference(header.spec, recorded or b"", message.payload or b"")
                self._diverge(header.seq, message.label, expected, got)
            self.confirmed += 1
            self.nbytes += message.nbytes

    def rest(self) -> Difference | None:
        """The first recorded message that the party did not send, or did not receive."""
        left: list[Header] = sorted([*self._own.values(), *self._peer.values()], key=lambda h: h.seq)
        if not left:
            return None
        what = "sent" if left[0].sender is self._role else "received"
        return Difference(self._role, left[0].seq, left[0].label, describe(left[0].spec), f"the end: it was not {what}")

    def _diverge(self, seq: int, label: str, expected: str, got: str) -> None:
        self.difference = Difference(self._role, seq, label, expected, got)
        raise Diverged(str(self.difference))


def _draws(side: PrivateSide, sessions: Sequence[Session]) -> Difference | None:
    """The ledger of draws must be the recorded one."""
    drawn = dict(sessions[0].endpoints[side.role].tape.draws) if sessions else {}
    for label in sorted(drawn.keys() | side.draws.keys()):
        if drawn.get(label) != side.draws.get(label):
            expected, got = (f"{n} bytes drawn" if n else "no draw" for n in (side.draws.get(label), drawn.get(label)))
            return Difference(side.role, -1, label, expected, got)
    return None


def _first_difference(spec: AnySpec, expected: bytes, got: bytes) -> tuple[str, str]:
    """The first differing element of a ring array, or the first differing byte."""
    if isinstance(spec, Spec):
        with suppress(WireMismatch):  # an altered message may not decode
            recorded, sent = (to_words(decode(data, spec)).reshape(-1) for data in (expected, got))
            at = int((recorded != sent).argmax())
            return f"{recorded[at]:#x} at element {at}", f"{sent[at]:#x}"
    at = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    return f"{expected[at : at + 8].hex() or 'the end'} at byte {at}", got[at : at + 8].hex() or "the end"
