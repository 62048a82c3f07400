"""Frames: what a record carries. The terms of the session, a message, the end, or an error's name.

The first byte says which. A message: length of its header (2 bytes, little-endian), the header as JSON (label, depth,
kind, dtype, shape), the bytes of its content as in a transcript.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from sim.message import Message
from sim.remote.records import RemoteError
from sim.wire import WireMismatch, describe, spec_to_json

MESSAGE, DONE, ABORT, TERMS = b"M", b"D", b"A", b"T"
SMALLEST_LIMIT = 64  # what a DONE or an ABORT may take

_NAME = re.compile(r"[A-Za-z]{1,40}")


class UnreadableFrame(RemoteError):
    """A frame that holds nothing of what may come now."""


class UnexpectedMessage(RemoteError):
    """A message that the protocol text does not send now, or not in this form."""


class PeerFailed(RemoteError):
    """The peer ended the session with an error."""


@dataclass(frozen=True)
class Done:
    """The peer has all it needs; nothing follows."""


def message_frame(message: Message) -> bytes:
    """A message with its content. Raises WireMismatch for one without: the sealed box of an ideal functionality."""
    if message.payload is None:
        raise WireMismatch(f"{message.label!r}: ideal functionalities have no bytes to send; run real protocols here")
    head = _head(message)
    return b"".join((MESSAGE, len(head).to_bytes(2, "little"), head, message.payload))


def message_limit(message: Message) -> int:
    """Exact size of the frame of a message known by its header alone."""
    return 3 + len(_head(message)) + message.nbytes


def abort_frame(error: BaseException) -> bytes:
    """The name of an error's class: it says nothing of any value."""
    return ABORT + type(error).__name__[:40].encode("ascii", "replace")


def opened(body: bytes) -> tuple[bytes, bytes]:
    """Kind and rest of a frame. Raises PeerFailed for an error's name."""
    kind, rest = body[:1], body[1:]
    if kind == ABORT:
        name = rest.decode("ascii", "replace")
        told = name if _NAME.fullmatch(name) else "an error without a name"
        raise PeerFailed(f"the peer ended the session with {told}; see what it says")
    return kind, rest


def read_frame(body: bytes, expected: dict[str, Message]) -> Message | Done:
    """The message with its content, one of `expected` by label (headers from the shapes interpretation), or Done.

    Raises UnexpectedMessage, UnreadableFrame, and PeerFailed for an error's name.
    """
    kind, rest = opened(body)
    if kind == DONE and not rest:
        return Done()
    if kind != MESSAGE:
        raise UnreadableFrame("expected a message or the end of the session, got something else; the peer is not ours")
    size = int.from_bytes(rest[:2], "little")
    head, payload = rest[2 : 2 + size], rest[2 + size :]
    wanted = expected.get(_label(head))
    if wanted is None:
        raise UnexpectedMessage(f"the protocol text sends no {_label(head)[:200]!r} now, or sent it before")
    if head != _head(wanted) or len(payload) != wanted.nbytes:
        told = f"{describe(wanted.spec)} at depth {wanted.depth}"
        raise UnexpectedMessage(f"expected {told} under {wanted.label!r}, got another header or {len(payload):,} bytes")
    return Message(wanted.sender, wanted.label, wanted.scope, wanted.depth, wanted.spec, payload)


def _head(message: Message) -> bytes:
    values = {"label": message.label, "depth": message.depth, **spec_to_json(message.spec)}
    return json.dumps(values, separators=(",", ":")).encode()


def _label(head: bytes) -> str:
    try:
        label = json.loads(head)["label"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableFrame("expected the header of a message as JSON, got something else") from error
    if not isinstance(label, str):
        raise UnreadableFrame("expected a text as label, got something else")
    return label
