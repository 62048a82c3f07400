"""Records: what crosses the socket between two processes, one after the other in each direction.

A record is a header of 20 bytes (length of the sealed body, tag of the session, place in its direction) and the sealed
body. The header is in clear, so that every fault has a name: a record of another session, one that comes again, one
that is missing. It is bound to the body by the codec: whoever changes it is found out all the same.
"""

from __future__ import annotations

import struct
from typing import Protocol

HEADER = struct.Struct("<I8sQ")
TAG_BYTES = 8


class RemoteError(RuntimeError):
    """The conversation with the other process cannot go on."""


class OversizedRecord(RemoteError):
    """The peer announces more than anything that may come now."""


class ForeignRecord(RemoteError):
    """A record of another session, or under another key."""


class RepeatedRecord(RemoteError):
    """A record came a second time."""


class MissingRecord(RemoteError):
    """A record was left out, or another one overtook it."""


class AlteredRecord(RemoteError):
    """A record is not what its sender sealed."""


class Codec(Protocol):
    """Seals the records of one session in one direction and opens those of the other.

    session: 32 bytes, the same at both ends, of no other session. overhead: bytes that sealing adds. `unseal` raises
    AlteredRecord unless header, place and body are what the peer sealed.
    """

    session: bytes
    overhead: int

    def seal(self, header: bytes, seq: int, body: bytes) -> bytes: ...
    def unseal(self, header: bytes, seq: int, sealed: bytes) -> bytes: ...


class Outgoing:
    """The records of one direction, at the sender."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._next = 0

    def pack(self, body: bytes) -> bytes:
        """The next record."""
        seq = self._next
        self._next += 1
        header = HEADER.pack(len(body) + self._codec.overhead, self._codec.session[:TAG_BYTES], seq)
        return header + self._codec.seal(header, seq, body)


class Incoming:
    """The records of one direction, at the receiver: in order, each once, and none from elsewhere."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._next = 0

    def size(self, header: bytes, limit: int) -> int:
        """Bytes that follow a header, before any memory is taken for them; at most `limit` without the overhead.

        Raises ForeignRecord, RepeatedRecord, MissingRecord, OversizedRecord.
        """
        nbytes, tag, seq = HEADER.unpack(header)
        if tag != self._codec.session[:TAG_BYTES]:
            raise ForeignRecord(
                f"record {self._next}: expected one of this session, got one of another: a replay, or another key file"
            )
        if seq < self._next:
            raise RepeatedRecord(f"expected record {self._next}, got record {seq} a second time; start again")
        if seq > self._next:
            raise MissingRecord(f"expected record {self._next}, got record {seq}: some are missing; start again")
        if nbytes > limit + self._codec.overhead:
            raise OversizedRecord(
                f"record {seq}: expected at most {limit + self._codec.overhead:,} bytes, {nbytes:,} are announced"
            )
        return int(nbytes)

    def unpack(self, header: bytes, sealed: bytes) -> bytes:
        """The body of the next record. Raises AlteredRecord."""
        body = self._codec.unseal(header, self._next, sealed)
        self._next += 1
        return body
