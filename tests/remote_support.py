"""Two parties over a socket in one process, and a man in the middle who does one thing to one record."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from protocols.entry import Case, Entry
from protocols.ot.aes import TweakableHash, derive
from protocols.ot.service import OtService, OtState, Pool
from protocols.ot.softspoken import BASE_OTS, LeafStreams, base_choices, grow_punctured, grow_trees
from sim.message import Message
from sim.party import Party, ProtocolDecl
from sim.remote.channel import Channel
from sim.remote.cipher import PresharedKey
from sim.remote.handshake import HELLO, agree_keys
from sim.remote.party import RemoteParty
from sim.remote.records import HEADER, AlteredRecord
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES, blank
from sim.tape import derive_key
from sim.world import Service, Session
from tests.harness import services
from tests.isolation import arguments

KEY = PresharedKey(bytes(range(32)))
SEED = b"remote"


class Plain:
    """No cipher: a checksum over session, header and body. For tests of the framing alone; nothing shipped has it."""

    overhead = 16

    def __init__(self, session: bytes = bytes(32)) -> None:
        self.session = session

    def seal(self, header: bytes, seq: int, body: bytes) -> bytes:
        return body + self._sum(header, body)

    def unseal(self, header: bytes, seq: int, sealed: bytes) -> bytes:
        body, told = sealed[:-16], sealed[-16:]
        if self._sum(header, body) != told:
            raise AlteredRecord(f"record {seq}: the checksum does not match")
        return body

    def _sum(self, header: bytes, body: bytes) -> bytes:
        return hashlib.blake2b(self.session + header + body, digest_size=16).digest()


class DealtBaseOts:
    """Real oblivious transfer after the base OTs, which are dealt: two thirds of a small session's time."""

    name = "ot"

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._keys = {role: rng.integers(0, 256, (BASE_OTS, 2, 16), np.uint8) for role in Role}
        self._deltas = {role: rng.bytes(16) for role in Role}
        self.provision = OtService().provision

    async def setup(self, p: Party) -> OtState:
        return OtState({receiver: p.local(self._pool, p.role, receiver) for receiver in (CLIENT, SERVER)})

    def _pool(self, role: Role, receiver: Role) -> Pool:
        prg, pads = (TweakableHash(derive(b"dealt".ljust(32), receiver.value, word)) for word in ("trees", "pads"))
        leaves, sums = grow_trees(prg, self._keys[receiver])
        if role is receiver:
            return Pool(pads, LeafStreams(prg, leaves, None), None)
        delta = self._deltas[receiver]
        chosen = self._keys[receiver][np.arange(BASE_OTS), base_choices(delta)]
        return Pool(pads, LeafStreams(prg, grow_punctured(prg, delta, chosen, sums), delta), delta)


@dataclass
class Work:
    """What both parties run: a protocol on inputs, in a session with services."""

    proto: ProtocolDecl[Any]
    services: Sequence[Service]
    inputs: dict[Role, list[Any]]
    public: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shadow = Session(self.services, seed=b"", backend=SHAPES)
        self.shadow.forecast(self.proto, *self.inputs.values(), **self.public)  # priced before threads share it

    @classmethod
    def of_case(cls, entry: Entry, case: Case) -> Work:
        client, server = arguments(case)
        return cls(entry.proto, services(case.plans), {CLIENT: client, SERVER: server}, case.public)

    def absent(self, role: Role) -> list[Any]:
        return [blank(v.spec) if isinstance(v, RingArray) else v for v in self.inputs[role]]


@dataclass
class End:
    """How one party's conversation ended."""

    party: RemoteParty | None = None
    output: Any = None
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return "finished" if self.error is None else type(self.error).__name__

    @property
    def messages(self) -> list[Message]:
        assert self.party is not None
        return [message for phase in self.party.phases for message in phase.messages]


def one_end(work: Work, role: Role, sock: socket.socket, timeout: float, codec: Plain | None) -> End:
    """One party from hello to goodbye; `codec` in place of the key agreement."""
    end, begun = End(), time.monotonic()
    channel = Channel(sock, timeout)
    try:
        if codec is None:
            agree_keys(channel, role, KEY)
        else:
            channel.secure(codec)
        end.party = RemoteParty(channel, role, work.services, key=derive_key(SEED, role.value), shadow=work.shadow)
        mine, theirs = work.inputs[role], work.absent(role.peer)
        with end.party as party:
            pair = (mine, theirs) if role is CLIENT else (theirs, mine)
            output = party.run(work.proto, *pair, **work.public).outputs[role]
            party.finish()
        end.output = output
    except Exception as error:
        end.error = error
    finally:
        channel.close()
    end.seconds = time.monotonic() - begun
    return end


Relay = Callable[[socket.socket, socket.socket], None]


def converse(
    work: Work, timeout: float = 30.0, codec: Plain | None = None, relay: Relay | None = None
) -> dict[Role, End]:
    """Both parties, each in a thread of its own; with `relay` between them, which owns its two sockets."""
    ends = dict(zip((CLIENT, SERVER), socket.socketpair(), strict=True))
    middle = None
    if relay is not None:
        near, ends[SERVER] = ends[SERVER], None  # type: ignore[assignment]  # filled in the next line
        far, ends[SERVER] = socket.socketpair()
        middle = threading.Thread(target=relay, args=(near, far), daemon=True)
        middle.start()
    with ThreadPoolExecutor(2) as pool:
        futures = {role: pool.submit(one_end, work, role, sock, timeout, codec) for role, sock in ends.items()}
        found = {role: future.result() for role, future in futures.items()}
    if middle is not None:
        middle.join(timeout=60)
        assert not middle.is_alive()
    return found


FAULTS = ("drop", "duplicate", "reorder", "truncate", "flip", "replay", "delay", "die")


@dataclass
class Meddler:
    """Relays records both ways; does `fault` to record `place` of what `sender` sends.

    foreign: a record of another session, for replay. hello: bytes before the first record in each direction.
    hold: seconds that a delay lasts.
    """

    sender: Role
    place: int
    fault: str
    foreign: bytes = b""
    hello: int = HELLO.size
    hold: float = 1.0
    happened: bool = False

    def __call__(self, near: socket.socket, far: socket.socket) -> None:
        ways = [threading.Thread(target=self._way, args=way) for way in ((CLIENT, near, far), (SERVER, far, near))]
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        near.close()
        far.close()

    def _way(self, sender: Role, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError, EOFError):
            sink.sendall(_exactly(source, self.hello))
            seq, held = 0, b""
            while True:
                record = read_record(source)
                if sender is self.sender and seq == self.place:
                    self.happened = True
                    record, held = self._meddle(record, source, sink)
                elif held:
                    record, held = record + held, b""
                sink.sendall(record)
                seq += 1
        for sock, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with suppress(OSError):
                sock.shutdown(how)

    def _meddle(self, record: bytes, source: socket.socket, sink: socket.socket) -> tuple[bytes, bytes]:
        """What goes on instead of the record, and what is held back until the next one."""
        if self.fault == "drop":
            return b"", b""
        if self.fault == "duplicate":
            return record + record, b""
        if self.fault == "reorder":
            return b"", record
        if self.fault == "truncate":
            return record[:-1], b""
        if self.fault == "flip":
            at = HEADER.size + (len(record) - HEADER.size) // 2
            return record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :], b""
        if self.fault == "replay":
            return self.foreign, b""
        if self.fault == "delay":
            time.sleep(self.hold)
            return record, b""
        for sock in (source, sink):
            sock.shutdown(socket.SHUT_RDWR)
        raise EOFError


def read_record(source: socket.socket) -> bytes:
    """One whole record. Raises EOFError at the end."""
    header = _exactly(source, HEADER.size)
    return header + _exactly(source, HEADER.unpack(header)[0])


def _exactly(source: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        part = source.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data
