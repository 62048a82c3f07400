"""Golden digests: what a seeded run of a protocol puts on the wire, scope by scope, in a few bytes each.

Size, rounds and content have a digest of their own, so that a change says what kind of change it is. A scope's digests
cover the messages directly in it, and rounds are counted from its first message: a change in one scope moves neither
size nor rounds of another. Content of what comes later does move with it, so the first scope that moved is the cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.message import Message
from sim.wire import describe
from transcripts.layout import digest_of

DIGEST_BYTES = 8
KINDS = ("size", "rounds", "content")


@dataclass(frozen=True)
class Scope:
    """The golden row of one scope. size: labels, senders, types and lengths; rounds: relative depths; content: bytes,
    each as a digest (hexadecimal)."""

    messages: int
    nbytes: int
    size: str
    rounds: str
    content: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Moved:
    """A scope whose row is not the golden one. what: `new`, `gone`, or which of size, rounds and content changed."""

    scope: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.scope}: {', '.join(self.what)}"


def digests(messages: Iterable[Message]) -> dict[str, Scope]:
    """The golden rows of an execution, scopes in the order in which they first talk."""
    found: dict[str, list[Message]] = {}
    for message in messages:
        found.setdefault(message.scope, []).append(message)
    return {scope: _scope(sent) for scope, sent in found.items()}


def moved(golden: Mapping[str, Scope], found: Mapping[str, Scope]) -> list[Moved]:
    """The scopes that moved, the earliest first."""
    changes = [Moved(scope, ("gone",)) for scope in golden if scope not in found]
    for scope, row in found.items():
        before = golden.get(scope)
        what = KINDS if before is None else tuple(k for k in KINDS if getattr(row, k) != getattr(before, k))
        if what:
            changes.append(Moved(scope, what if before is not None else ("new",)))
    return changes


def to_golden(rows: Mapping[str, Scope]) -> dict[str, Any]:
    """JSON values, one object per scope; the order is kept."""
    return {scope: row.to_json() for scope, row in rows.items()}


def from_golden(values: Mapping[str, Any]) -> dict[str, Scope]:
    """Inverse of `to_golden`."""
    return {scope: Scope(**row) for scope, row in values.items()}


def _scope(sent: list[Message]) -> Scope:
    first = sent[0].depth
    return Scope(
        len(sent),
        sum(m.nbytes for m in sent),
        _digest(f"{m.sender.value} {m.label} {describe(m.spec)}".encode() for m in sent),
        _digest(str(m.depth - first).encode() for m in sent),
        _digest(m.payload or b"" for m in sent),
    )


def _digest(fields: Iterable[bytes]) -> str:
    return digest_of(fields)[:DIGEST_BYTES].hex()
