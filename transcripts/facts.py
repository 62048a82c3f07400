"""What a transcript says, as JSON values: summary, cost by scope, message list, one message.

`Selection` is the part of a transcript that is looked at: all of it, a scope, or the view of one party. Everything that
is shown, in a terminal, as JSON, through SQL or as a page, goes through it, so that a view shows only what that party
receives: no message that it sent, no time that was measured, no digest over more than its own messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from sim.concrete import to_words
from sim.network import NETWORKS
from sim.ring import Spec
from sim.role import CLIENT, SERVER, Role
from sim.wire import decode, spec_to_json
from transcripts.costs import ScopeCost, cost_by_scope, fold, inside, virtual_time
from transcripts.layout import link
from transcripts.phases import Phase
from transcripts.store import Header, Transcript

UNFINISHED = "unfinished"  # the public parameter of a session that ended in an error: which, and what was awaited
RECEIVED = ("client_to_server", "server_to_client", "messages", "rounds")  # the figures of a view: all but times


class NoSuchMessage(ValueError):
    """The transcript has no message of this number, or not in the part that is looked at."""


class NoSuchScope(ValueError):
    """The transcript has no message in this scope."""


class Reader(Protocol):
    """Tells what the bytes of a message are, beyond its header; None where it does not know."""

    def __call__(self, header: Header, content: bytes) -> Mapping[str, Any] | None: ...


class Selection:
    """The part of a transcript that is looked at.

    scope: only messages inside this scope; one call (`r1/moe/top_k.2`) or, without its number, all of them. view: only
    what this party receives. Raises NoSuchScope where that leaves nothing of a scope.
    """

    def __init__(self, transcript: Transcript, scope: str = "", view: Role | None = None) -> None:
        self.transcript, self.scope, self.view = transcript, scope, view
        seen = [h for h in transcript.headers if view is None or h.sender is not view]
        self.headers = tuple(h for h in seen if inside(h.scope, scope) or inside(fold(h.scope), scope))
        if scope and not self.headers:
            known = ", ".join(sorted({fold(h.scope).split("/")[0] for h in seen}))
            raise NoSuchScope(f"{transcript.path}: expected a scope with messages, got {scope!r}; see those in {known}")

    def numbered(self, seq: int) -> Header:
        """The header of message `seq`; raises NoSuchMessage unless it is in the selection."""
        everything = self.transcript.headers
        if not 0 <= seq < len(everything):
            known = f"a message from 0 to {len(everything) - 1}" if everything else "no message: the run has none"
            raise NoSuchMessage(f"{self.transcript.path}: expected {known}, got {seq}")
        if everything[seq] not in self._chosen:
            part = " ".join(filter(None, (self.scope, self.view and f"the view of the {self.view.value}")))
            raise NoSuchMessage(f"{self.transcript.path}: message {seq} is not in {part}; --list shows those that are")
        return everything[seq]

    @cached_property
    def _chosen(self) -> frozenset[Header]:
        return frozenset(self.headers)

    @property
    def digest(self) -> bytes:
        """The running chain over the digests of the selected messages alone."""
        state = bytes(32)
        for header in self.headers:
            state = link(state, header.digest)
        return state

    def costs(self, levels: int) -> list[ScopeCost]:
        """Cost by scope, over all phases, `levels` below the selected scope. A view has no CPU times."""
        cpu = {key: s for phase in self.transcript.phases for key, s in phase.cpu_by_scope.items()}
        return cost_by_scope(self.headers, {} if self.view else cpu, under=self.scope, levels=levels)

    def costs_json(self, levels: int) -> list[dict[str, Any]]:
        """`costs` as JSON values."""
        rows = [cost.to_json() for cost in self.costs(levels)]
        return [{key: row[key] for key in ("scope", "calls", *RECEIVED)} for row in rows] if self.view else rows


def summary(selection: Selection) -> dict[str, Any]:
    """The run in figures, phase by phase; of a view, its messages only. Times of a network are virtual seconds."""
    transcript, view = selection.transcript, selection.view
    told: dict[str, Any] = {
        "transcript": str(transcript.path),
        "created": transcript.created,
        "seeded": transcript.seeded,
        "public": transcript.public,
        "unfinished": transcript.public.get(UNFINISHED),
    }
    if view is None:
        told |= {"digest": transcript.chain.hex(), "seal": transcript.seal.hex()}
    else:
        told |= {"view": view.value, "view_digest": Selection(transcript, view=view).digest.hex()}
    return told | {"phases": [_phase(transcript, phase, view) for phase in transcript.phases]}


def _phase(transcript: Transcript, phase: Phase, view: Role | None) -> dict[str, Any]:
    sent = [h for h in transcript.phase(phase.name) if view is None or h.sender is not view]
    told: dict[str, Any] = {
        "phase": phase.name,
        "client_to_server": sum(h.nbytes for h in sent if h.sender is CLIENT),
        "server_to_client": sum(h.nbytes for h in sent if h.sender is SERVER),
        "messages": len(sent),
        "rounds": max((h.depth for h in sent), default=0) if view is None else len({h.depth for h in sent}),
    }
    if view is None:
        told |= {
            "cpu_s": {r.value: sum(s for (who, _), s in phase.cpu_by_depth.items() if who is r) for r in Role},
            "network_s": {name: virtual_time(sent, phase.cpu_by_depth, net) for name, net in NETWORKS.items()},
            "reserved": dict(phase.reserved),
        }
    return told


def public_line(public: Mapping[str, Any]) -> str:
    """Public values on one line. They may be a stranger's text: ASCII JSON can neither forge lines nor drive a
    terminal."""
    return "  ".join(f"{json.dumps(key)[1:-1]}={json.dumps(v, sort_keys=True)}" for key, v in sorted(public.items()))


def row(header: Header) -> dict[str, Any]:
    """One message of a list."""
    return {
        "seq": header.seq,
        "phase": header.phase,
        "depth": header.depth,
        "sender": header.sender.value,
        "label": header.label,
        **spec_to_json(header.spec),
        "nbytes": header.nbytes,
        "digest": header.digest.hex(),
    }


def detail(selection: Selection, seq: int, read: Reader | None = None) -> dict[str, Any]:
    """One message with its content: `words` (unsigned) of a ring array, `hex` of the bytes, `content` what `read` makes
    of them, and the chain up to it, which a view lacks. Raises NoSuchMessage."""
    header = selection.numbered(seq)
    payload = selection.transcript.message(header).payload
    words = content = None
    if isinstance(header.spec, Spec) and payload is not None:
        words = to_words(decode(payload, header.spec)).reshape(-1).tolist()
    elif payload is not None and read is not None:
        content = read(header, payload)
    told = {**row(header), "words": words, "content": content, "hex": None if payload is None else payload.hex()}
    return told if selection.view else {**told, "chain": header.chain.hex()}
