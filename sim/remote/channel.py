"""One end of a socket between two processes: whole records, time limits, a writer that cannot block its party.

What a party sends goes into a queue that a thread empties; its party never waits for the peer to read. Two large sends
at once therefore cannot block each other. The queue is bounded by what the protocol text sends, which is known before
the run and is kept for the record in any case. What comes in is read when the party waits for it, up to a size limit
that the caller gives, within the time limit.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress

from sim.remote.records import HEADER, Codec, Incoming, Outgoing, OversizedRecord, RemoteError

CHUNK = 1 << 20
MOST_BYTES = (1 << 31) - 256  # of one record: what the cipher takes at once
FAREWELL = 1.0  # seconds that the last records have to leave when a session ends in an error


class PeerClosed(RemoteError):
    """The peer ended the connection between two records."""


class TruncatedRecord(RemoteError):
    """The connection ended inside a record."""


class PeerSilent(RemoteError):
    """The peer sent nothing, or took nothing, within the time limit."""


class Channel:
    """One end. timeout: seconds that the peer may take for anything awaited. The channel owns the socket.

    Records need a codec: see `secure`. Before, `put` and `get` move plain bytes for the key agreement.
    """

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):  # the peer may be gone already: that is found out where it is read from
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        # Two handles: each direction has time limits of its own.
        self._reading, self._writing = sock, sock.dup()
        self._writing.settimeout(timeout)
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="secmoe writer", daemon=True)
        self._fault: Exception | None = None
        self._incoming: Incoming | None = None
        self.sent = self.received = 0

    # -- plain bytes, before there is a key ------------------------------------------------------------------------
    def put(self, data: bytes) -> None:
        """Send bytes as they are. Raises PeerClosed, PeerSilent."""
        try:
            self._writing.sendall(data)
        except OSError as error:
            raise self._named(error, "its hello") from error
        self.sent += len(data)

    def get(self, n: int, what: str) -> bytes:
        """Exactly n bytes. Raises PeerClosed, PeerSilent, TruncatedRecord."""
        return self._read(n, time.monotonic() + self.timeout, what, whole=True)

    # -- records -----------------------------------------------------------------------------------------------------
    def secure(self, codec: Codec) -> None:
        """From here on everything is a record of this codec."""
        self._outgoing, self._incoming = Outgoing(codec), Incoming(codec)
        self._writer.start()

    def send(self, body: bytes) -> None:
        """Queue a record; never blocks. A writer that failed shows at the next `receive`. Raises OversizedRecord."""
        if len(body) > MOST_BYTES:
            raise OversizedRecord(f"expected a message of at most {MOST_BYTES:,} bytes, got {len(body):,}")
        self._queue.put(body)

    def receive(self, limit: int, what: str) -> bytes:
        """The next record's body, at most `limit` bytes. what: said in errors, what is awaited.

        Raises PeerSilent, PeerClosed, TruncatedRecord, and what `Incoming` raises.
        """
        if self._incoming is None:
            raise RemoteError("records need a codec; call secure first")
        deadline = time.monotonic() + self.timeout
        header = self._read(HEADER.size, deadline, what, whole=True)
        sealed = self._read(self._incoming.size(header, limit), deadline, what, whole=False)
        return self._incoming.unpack(header, sealed)

    def close(self, last: bytes | None = None) -> None:
        """Send what is queued, then `last`, and end the connection; within the time limit. Idempotent.

        With `last` the session ends in an error, and the peer gets a moment only to take it.
        """
        if self._writer.is_alive():
            if last is not None:
                self._queue.put(last)
            self._queue.put(None)
            self._writer.join(self.timeout if last is None else min(self.timeout, FAREWELL))
        for sock in (self._writing, self._reading):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self._writer.is_alive():  # woken by the shutdown
            self._writer.join()
        self._writing.close()
        self._reading.close()

    def _write(self) -> None:
        try:
            while (body := self._queue.get()) is not None:
                record = self._outgoing.pack(body)
                self._writing.settimeout(self.timeout)
                self._writing.sendall(record)
                self.sent += len(record)
        except Exception as error:  # raised where the party next waits
            self._fault = error
            with suppress(OSError):
                self._reading.shutdown(socket.SHUT_RDWR)  # wakes a party that waits for an answer

    def _read(self, n: int, deadline: float, what: str, *, whole: bool) -> bytes:
        data = bytearray()
        while len(data) < n:
            try:
                self._reading.settimeout(max(deadline - time.monotonic(), 1e-3))
                part = self._reading.recv(min(n - len(data), CHUNK))
            except OSError as error:
                raise self._named(error, what) from error
            if not part and self._fault is not None:
                raise self._named(self._fault, what)
            if not part and whole and not data:
                raise PeerClosed(f"the peer ended the connection instead of sending {what}; see what it says")
            if not part:
                raise TruncatedRecord(f"the connection ended inside {what}: {len(data):,} of {n:,} bytes came")
            if time.monotonic() > deadline:
                raise self._silent(what)
            data += part
        self.received += n
        return bytes(data)

    def _silent(self, what: str) -> PeerSilent:
        return PeerSilent(f"expected {what} within {self.timeout:g} s, the peer did not answer; is it still there?")

    def _named(self, error: Exception, what: str) -> RemoteError:
        if isinstance(error, TimeoutError):
            return self._silent(what)
        return PeerClosed(f"the connection broke while waiting for {what} ({error}); see what the peer says")
