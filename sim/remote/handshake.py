"""How two processes meet: a hello each, keys, then the terms of the session, which must be equal.

Hello (58 bytes): magic, version of this wire, X25519 public key, nonce. The first records carry each end's terms, a
flat JSON object of public values: program, model, shapes, parameters. The client's come first; so the server tells its
own only to someone who holds the key. The first field that differs ends the session at both ends, with both values.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

from sim.remote.channel import Channel
from sim.remote.cipher import POINT_BYTES, Ephemeral, PresharedKey
from sim.remote.frames import TERMS, opened
from sim.remote.records import Codec
from sim.role import CLIENT, SERVER, Role

MAGIC = b"secmoe\r\n"
VERSION = 1
HELLO = struct.Struct(f"<8sH{POINT_BYTES}s16s")
MOST_BYTES = 1 << 14
MOST_FIELDS = 128
MOST_CHARACTERS = 256

Scalar = str | int
Terms = Mapping[str, Scalar]


class ForeignPeer(ValueError):
    """Something else than this program is at the other end."""


class TermsMismatch(ValueError):
    """The two ends were started with different parameters."""


class UnreadableTerms(ValueError):
    """The peer's terms are no flat object of public values."""


def agree_keys(channel: Channel, role: Role, key: PresharedKey) -> Codec:
    """Exchange hellos, derive the session's keys, secure the channel. The client speaks first.

    Raises ForeignPeer, TermsMismatch for another version, WeakPoint, and what the channel raises.
    """
    own = Ephemeral()
    mine = HELLO.pack(MAGIC, VERSION, own.public, os.urandom(16))
    if role is CLIENT:
        channel.put(mine)
    theirs = channel.get(HELLO.size, f"the hello of the {role.peer.value}")
    magic, version, point, _ = HELLO.unpack(theirs)
    if magic != MAGIC:
        raise ForeignPeer(f"expected the hello of a {role.peer.value}, got something else; is this the right port?")
    if role is SERVER:
        channel.put(mine)
    if version != VERSION:
        raise _differ("wire version", role, VERSION, version)
    codec = key.agree(role, own, point, mine + theirs if role is CLIENT else theirs + mine)
    channel.secure(codec)
    return codec


def offer_terms(channel: Channel, mine: Terms) -> None:
    """The client's part: send its terms, hold the server's against them. Raises TermsMismatch, UnreadableTerms,
    and PeerFailed where the server refuses."""
    channel.send(_encode(mine))
    theirs = _decode(channel.receive(MOST_BYTES, "the server's terms"))
    _compare(CLIENT, mine, theirs)


def answer_terms(channel: Channel, terms: Callable[[Terms], Terms]) -> Terms:
    """The server's part: read the client's terms; `terms` gives its own for them. Returns the agreed ones.

    Raises TermsMismatch, after the server's terms were sent, so that the client can name the field as well;
    UnreadableTerms, and what `terms` raises.
    """
    theirs = _decode(channel.receive(MOST_BYTES, "the client's terms"))
    mine = terms(theirs)
    channel.send(_encode(mine))
    _compare(SERVER, mine, theirs)
    return mine


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Nested public values as terms: `shape.d` and so on; what is no text and no whole number becomes JSON."""
    terms: dict[str, Scalar] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            terms |= flat(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, str | int) and not isinstance(value, bool)
            terms[prefix + name] = value if plain else json.dumps(value)
    return terms


def _compare(role: Role, mine: Terms, theirs: Terms) -> None:
    for name in [*mine, *(name for name in theirs if name not in mine)]:
        if mine.get(name) != theirs.get(name):
            raise _differ(name, role, mine.get(name), theirs.get(name))


def _differ(name: str, role: Role, mine: Scalar | None, theirs: Scalar | None) -> TermsMismatch:
    ours, others = ("nothing" if value is None else repr(value) for value in (mine, theirs))
    client, server = (ours, others) if role is CLIENT else (others, ours)
    return TermsMismatch(f"{name}: the client has {client}, the server {server}; start both with the same")


def _encode(terms: Terms) -> bytes:
    return TERMS + json.dumps(dict(terms)).encode()


def _decode(body: bytes) -> Terms:
    kind, data = opened(body)
    if kind != TERMS:
        raise UnreadableTerms("expected the terms of a session, got something else; the peer is not ours")
    try:
        terms = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableTerms(f"expected the terms of a session as JSON, got {len(data)} other bytes") from error
    if not isinstance(terms, dict) or len(terms) > MOST_FIELDS:
        raise UnreadableTerms(f"expected at most {MOST_FIELDS} terms in one JSON object; the peer is not ours")
    for name, value in terms.items():
        short = len(name) <= MOST_CHARACTERS and len(str(value)) <= MOST_CHARACTERS
        if type(value) not in (str, int) or not short:
            told = f"expected texts and whole numbers of at most {MOST_CHARACTERS} characters"
            raise UnreadableTerms(f"terms: {told}, got something else under {name[:MOST_CHARACTERS]!r}")
    return terms
