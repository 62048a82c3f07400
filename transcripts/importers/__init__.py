"""Foreign frameworks' traces as transcripts, so that their runs can be inspected, compared and audited structurally.

An `Importer` turns trace files into `ForeignMessage`s; `keep` records these. A trace knows less than a run of this
program: bytes may be cut, directions unknown, causal order partial. What is missing is said in the public parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sim.message import Message
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec
from sim.world import Execution
from transcripts.layout import IMPORTED, digest_of
from transcripts.record import Recorder, checked_output

PHASE = "r1"
CHUNK = 1 << 20


class UnfitMessage(ValueError):
    """An importer gave a message that no transcript can hold."""


class TraceUnreadable(ValueError):
    """A trace is no regular file."""


@dataclass(frozen=True)
class ForeignMessage:
    """One message of a foreign trace.

    label: path of at least one scope and a word, printable, `/` between them, no other message of the sender has it.
    depth: causal depth, from 1, as far as the trace tells. kind: what the framework calls this message. nbytes: length
    in bytes. content: these bytes; fewer, where the trace has only the beginning. whole: False where nbytes is a lower
    bound. certain: False where it may not have crossed the wire.
    """

    sender: Role
    label: str
    depth: int
    kind: str
    nbytes: int
    content: bytes
    whole: bool = True
    certain: bool = True


class Importer(Protocol):
    """Reads one kind of trace."""

    @property
    def framework(self) -> str:
        """The name of the framework and of its trace."""

    def public(self) -> Mapping[str, Any]:
        """What it was told, and what its depths mean; JSON values, for the public parameters."""

    def messages(self, paths: Sequence[Path]) -> Iterable[ForeignMessage]:
        """The messages in any order. Raises a ValueError of its own, with file and line, on a trace that it refuses."""


@dataclass(frozen=True)
class Imported:
    """What was recorded. nbytes: bytes each way. cut: messages of which the trace has the beginning only, or whose
    length is a lower bound. uncertain: messages that may not have crossed the wire."""

    path: Path
    seal: bytes
    messages: int
    nbytes: Mapping[Role, int]
    rounds: int
    cut: int
    uncertain: int
    public: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Stable keys of `secmoe import --json`."""
        return {
            "transcript": str(self.path),
            "seal": self.seal.hex(),
            "messages": self.messages,
            "client_to_server": self.nbytes[CLIENT],
            "server_to_client": self.nbytes[SERVER],
            "rounds": self.rounds,
            "cut": self.cut,
            "uncertain": self.uncertain,
            "public": dict(self.public),
        }


def keep(importer: Importer, paths: Sequence[Path], out: Path) -> Imported:
    """Import trace files into the new transcript `out`.

    A message whose content is not complete is recorded by header and length; `known` in the public parameters is the
    BLAKE2b-256 digest over label and known bytes of all of these. Raises what the importer raises, UnfitMessage,
    TraceUnreadable, and OutputError before anything is read where the place cannot be used.
    """
    checked_output(out)
    for path in paths:
        _require_file(path)
    found = sorted(_checked(importer.messages(paths)), key=lambda m: (m.depth, m.sender.value, m.label))
    partial = [m for m in found if len(m.content) < m.nbytes]
    cut = sum(not m.whole or len(m.content) < m.nbytes for m in found)
    uncertain = sum(not m.certain for m in found)
    files = [_file(path) for path in paths]
    public: dict[str, Any] = {IMPORTED: importer.framework, "files": files, **importer.public()}
    public |= {"cut": cut, "uncertain": uncertain}
    if partial:
        fields = [part for m in partial for part in (m.sender.value.encode(), m.label.encode(), m.content)]
        public["known"] = digest_of(fields).hex()
    sent = tuple(_message(m) for m in found)
    with Recorder(out, public, seeded=False) as recorder:
        recorder.add(Execution({}, sent, {}, {}, {}, PHASE))
        seal = recorder.seal()
    nbytes = {role: sum(m.nbytes for m in sent if m.sender is role) for role in Role}
    rounds = max((m.depth for m in sent), default=0)
    return Imported(out, seal, len(sent), nbytes, rounds, cut, uncertain, public)


def _require_file(path: Path) -> None:
    if not path.is_file():
        fault = "that is not a regular file" if path.exists() else "there is no such file"
        raise TraceUnreadable(f"{path}: expected a trace file, {fault}")


def _file(path: Path) -> dict[str, Any]:
    """Name, size and digest of a trace file."""
    digest, size = hashlib.blake2b(digest_size=32), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"name": path.name, "bytes": size, "blake2b": digest.hexdigest()}


def _checked(messages: Iterable[ForeignMessage]) -> Iterator[ForeignMessage]:
    seen: set[tuple[Role, str]] = set()
    for m in messages:
        parts = m.label.split("/")
        if len(parts) < 2 or not all(parts) or not (m.label + m.kind).isprintable() or not m.kind:
            raise UnfitMessage(f"expected a printable label SCOPE/WORD and kind, got {m.label!r} and {m.kind!r}")
        if (m.sender, m.label) in seen:
            raise UnfitMessage(f"{m.label}: expected one message of the {m.sender.value} under a label, got two")
        if m.depth < 1 or len(m.content) > m.nbytes:
            raise UnfitMessage(
                f"{m.label}: expected a depth from 1 and at most {m.nbytes} bytes, got {m.depth} and {len(m.content)}"
            )
        seen.add((m.sender, m.label))
        yield m


def _message(m: ForeignMessage) -> Message:
    label = f"{PHASE}/{m.label}"
    payload = m.content if len(m.content) == m.nbytes else None
    return Message(m.sender, label, label.rpartition("/")[0], m.depth, BlobSpec(m.kind, m.nbytes), payload)
