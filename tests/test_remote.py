"""Records, cipher, handshake, channel and frames of two processes, each alone; then whole conversations."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nacl.bindings
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.catalog import CATALOG
from sim.concrete import from_words, to_words
from sim.message import Message
from sim.party import ProtocolDecl
from sim.remote.channel import Channel, PeerClosed, PeerSilent, TruncatedRecord
from sim.remote.cipher import Ephemeral, KeyFileError, PresharedKey, Sealed, WeakPoint
from sim.remote.frames import (
    DONE,
    Done,
    PeerFailed,
    UnexpectedMessage,
    UnreadableFrame,
    abort_frame,
    message_frame,
    message_limit,
    read_frame,
)
from sim.remote.handshake import (
    HELLO,
    MAGIC,
    VERSION,
    ForeignPeer,
    Terms,
    TermsMismatch,
    UnreadableTerms,
    agree_keys,
    answer_terms,
    flat,
    offer_terms,
)
from sim.remote.party import Link, RemoteParty
from sim.remote.records import (
    HEADER,
    AlteredRecord,
    ForeignRecord,
    Incoming,
    MissingRecord,
    Outgoing,
    OversizedRecord,
    RemoteError,
    RepeatedRecord,
)
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.tape import derive_key
from sim.wire import BlobSpec, WireMismatch
from sim.world import Session
from tests.harness import HEAVY, row_marks
from tests.remote_support import KEY, SEED, Plain, Work, converse, one_end
from tests.small_runs import RING, masked, services, twice

OTHER_KEY = PresharedKey(bytes(32))


def codecs(client: PresharedKey = KEY, server: PresharedKey = KEY) -> tuple[Sealed, Sealed]:
    """Both ends of one session."""
    mine, theirs = Ephemeral(), Ephemeral()
    hellos = mine.public + theirs.public
    return (
        client.agree(CLIENT, mine, theirs.public, hellos),
        server.agree(SERVER, theirs, mine.public, hellos),
    )


def channels(timeout: float = 5.0, secured: bool = True) -> tuple[Channel, Channel]:
    ends = tuple(Channel(sock, timeout) for sock in socket.socketpair())
    if secured:
        for channel, codec in zip(ends, codecs(), strict=True):
            channel.secure(codec)
    return ends[0], ends[1]


def both(client: Callable[[], Any], server: Callable[[], Any]) -> list[Any]:
    """Run both at once; each result, or the exception."""

    def caught(body: Callable[[], Any]) -> Any:
        try:
            return body()
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(caught, (client, server)))


# -- records and cipher --------------------------------------------------------------------------------------------
Change = tuple[str, int, int]
CHANGES = st.tuples(
    st.sampled_from(["drop", "double", "swap", "flip", "cut", "foreign", "reflect"]),
    st.integers(0, 5),
    st.integers(0, 1 << 16),
)


@settings(max_examples=150)
@given(bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=6), change=CHANGES)
def test_what_is_delivered_is_a_prefix_of_what_was_sent(bodies: list[bytes], change: Change) -> None:
    ours, theirs = codecs()
    out = Outgoing(ours)
    records = [out.pack(body) for body in bodies]
    what, place, where = change
    place %= len(records)
    stranger, own = Outgoing(codecs()[0]), Outgoing(theirs)
    replayed = [(stranger.pack(body), own.pack(body)) for body in bodies][place]
    changed = list(records)
    if what == "drop":
        del changed[place]
    elif what == "double":
        changed.insert(place, records[place])
    elif what == "swap":
        changed[place : place + 2] = reversed(changed[place : place + 2])
    elif what == "flip":
        at = where % (8 * len(records[place]))
        flipped = bytearray(records[place])
        flipped[at // 8] ^= 1 << at % 8
        changed[place] = bytes(flipped)
    elif what == "cut":
        changed[place] = records[place][: where % len(records[place])]
    else:
        changed[place] = replayed[what == "reflect"]
    incoming, received, stream = Incoming(theirs), [], b"".join(changed)
    error: RemoteError | None = None
    try:
        while len(stream) >= HEADER.size:
            size = incoming.size(stream[: HEADER.size], 40)
            record, stream = stream[: HEADER.size + size], stream[HEADER.size + size :]
            if len(record) < HEADER.size + size:
                stream = record
                break
            received.append(incoming.unpack(record[: HEADER.size], record[HEADER.size :]))
    except RemoteError as fault:
        error = fault
    assert received == bodies[: len(received)]
    # nothing is lost without a trace, but whole records at the end: that is what the last frame of a session is for
    cut_short = b"".join(changed) == b"".join(records[: len(received)])
    assert error is not None or stream or received == bodies or cut_short


def test_a_record_out_of_its_place_is_refused_by_name() -> None:
    ours, theirs = codecs()
    out, other = Outgoing(ours), Outgoing(codecs()[0])
    first, second, third = (out.pack(b"%d" % i) for i in range(3))
    incoming = Incoming(theirs)

    def take(record: bytes) -> bytes:
        return incoming.unpack(record[: HEADER.size], record[HEADER.size :][: incoming.size(record[: HEADER.size], 8)])

    assert take(first) == b"0"
    for record, error in (
        (first, RepeatedRecord),
        (third, MissingRecord),
        (other.pack(b"1"), ForeignRecord),
        (second[:-1] + bytes([second[-1] ^ 1]), AlteredRecord),
        (HEADER.pack(1 << 31, ours.session[:8], 1), OversizedRecord),
        (Outgoing(theirs).pack(b"1"), RepeatedRecord),
    ):
        with pytest.raises(error):
            take(record)
    assert take(second) == b"1"


def test_the_same_keys_come_out_of_other_libraries() -> None:
    mine, theirs = Ephemeral(), Ephemeral()
    hellos = b"both hellos"
    shared = nacl.bindings.crypto_scalarmult(mine.key.private_bytes_raw(), theirs.public)
    extracted = hmac.digest(bytes(range(32)), shared, "sha256")
    info, keys, block = b"secmoe wire 1" + hashlib.sha256(hellos).digest(), b"", b""
    for i in (1, 2, 3):
        block = hmac.digest(extracted, block + info + bytes([i]), "sha256")
        keys += block
    codec = KEY.agree(CLIENT, mine, theirs.public, hellos)
    assert codec.session == keys[64:]
    for seq in (0, 1, 1 << 40):
        header = HEADER.pack(5, codec.session[:8], seq)
        nonce = bytes(4) + seq.to_bytes(8, "little")
        encrypt = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt
        assert codec.seal(header, seq, b"hello") == encrypt(b"hello", header, nonce, keys[:32])
        assert codec.unseal(header, seq, encrypt(b"back", header, nonce, keys[32:64])) == b"back"


def test_each_session_has_its_own_keys_and_each_direction_too() -> None:
    first, second = codecs(), codecs()
    assert first[0].session == first[1].session != second[0].session
    assert first[0].seal(b"", 0, b"same") != first[1].seal(b"", 0, b"same")
    client, server = codecs(KEY, OTHER_KEY)
    assert client.session != server.session
    with pytest.raises(AlteredRecord):
        server.unseal(b"", 0, client.seal(b"", 0, b"x"))


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little")])
def test_a_point_of_small_order_is_refused(point: bytes) -> None:
    with pytest.raises(WeakPoint):
        KEY.agree(CLIENT, Ephemeral(), point, b"")


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    key = PresharedKey.create(path)
    assert path.stat().st_mode & 0o777 == 0o600 and len(path.read_bytes()) == 32
    client, server = codecs(key, PresharedKey.read(path))
    assert server.unseal(b"", 0, client.seal(b"", 0, b"x")) == b"x"
    with pytest.raises(KeyFileError, match="never overwritten"):
        PresharedKey.create(path)
    PresharedKey.create(tmp_path / "b.key")
    assert path.read_bytes() != (tmp_path / "b.key").read_bytes()
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="others can read"):
        PresharedKey.read(path)
    for content in (b"", bytes(31), bytes(33)):
        short = tmp_path / "short.key"
        short.write_bytes(content)
        short.chmod(0o600)
        with pytest.raises(KeyFileError, match="expected 32 bytes"):
            PresharedKey.read(short)
    with pytest.raises(KeyFileError, match="No such file"):
        PresharedKey.read(tmp_path / "none.key")
    with pytest.raises(KeyFileError, match="regular"):
        PresharedKey.read(tmp_path)
    with pytest.raises(KeyFileError, match="cannot be made"):
        PresharedKey.create(tmp_path / "nowhere" / "a.key")


# -- handshake -------------------------------------------------------------------------------------------------------
def meet(mine: Terms, theirs: Terms, keys: tuple[PresharedKey, PresharedKey] = (KEY, KEY)) -> list[Any]:
    client, server = channels(secured=False)

    def offer() -> None:
        agree_keys(client, CLIENT, keys[0])
        offer_terms(client, mine)

    def answer() -> Terms:
        try:
            agree_keys(server, SERVER, keys[1])
            return answer_terms(server, lambda _: theirs)
        finally:
            server.close()

    try:
        return both(offer, answer)
    finally:
        client.close()


TERMS: Terms = {"model": "sms", "layer": 0, "shape.d": 32}


def test_equal_terms_meet() -> None:
    assert meet(TERMS, dict(TERMS)) == [None, TERMS]


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({**TERMS, "layer": 1}, "layer: the client has 0, the server 1;"),
        ({**TERMS, "model": "digits"}, "model: the client has 'sms', the server 'digits';"),
        ({"model": "sms", "layer": 0}, "shape.d: the client has 32, the server nothing;"),
        ({**TERMS, "extra": 1}, "extra: the client has nothing, the server 1;"),
    ],
)
def test_the_first_term_that_differs_is_named_at_both_ends(server: Terms, told: str) -> None:
    for error in meet(TERMS, server):
        assert isinstance(error, TermsMismatch) and str(error).startswith(told)


def test_another_key_file_is_refused_at_both_ends() -> None:
    client, server = meet(TERMS, TERMS, (KEY, OTHER_KEY))
    assert isinstance(server, ForeignRecord) and "another key file" in str(server)
    assert isinstance(client, RemoteError)


def test_strangers_and_other_versions_are_refused() -> None:
    for hello, error, told in (
        (b"GET / HTTP/1.1\r\n" + bytes(HELLO.size), ForeignPeer, "something else"),
        (HELLO.pack(MAGIC, VERSION + 1, bytes(32), bytes(16)), TermsMismatch, "the client has 2, the server 1"),
        (HELLO.pack(MAGIC, VERSION, bytes(32), bytes(16)), WeakPoint, "small order"),
        (HELLO.pack(MAGIC, VERSION, bytes(32), bytes(16))[:-1], TruncatedRecord, "57 of 58"),
        (b"", PeerClosed, "ended the connection"),
    ):
        near, far = socket.socketpair()
        far.sendall(hello)
        far.shutdown(socket.SHUT_WR)
        channel = Channel(near, 5.0)
        with pytest.raises(error, match=told):
            agree_keys(channel, SERVER, KEY)
        channel.close()
        far.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=300), inner, max_size=140),
    max_leaves=8,
)


@settings(max_examples=100)
@given(content=st.binary(max_size=200) | JSON.map(lambda value: b"T" + json.dumps(value).encode()))
def test_terms_that_do_not_read_end_in_a_named_error(content: bytes) -> None:
    client, server = channels()
    client.send(content)
    try:
        terms = answer_terms(server, lambda theirs: theirs)
        assert all(type(value) in (str, int) for value in terms.values())
    except (UnreadableTerms, PeerFailed, OversizedRecord):
        pass
    finally:
        client.close(b"")
        server.close(b"")


def test_nested_values_become_flat_terms() -> None:
    assert flat({"a": {"b": 1, "c": {"d": "x"}}, "e": True, "f": [1, 2]}) == {
        "a.b": 1, "a.c.d": "x", "e": "true", "f": "[1, 2]",
    }  # fmt: skip


# -- channel ---------------------------------------------------------------------------------------------------------
def test_two_large_sends_at_once_do_not_block() -> None:
    size = 1 << 24  # far beyond what a socket buffers
    client, server = channels(timeout=30.0)

    def end(channel: Channel, content: bytes) -> bytes:
        channel.send(content * size)
        return channel.receive(size, "all of it")[:1]

    assert both(lambda: end(client, b"c"), lambda: end(server, b"s")) == [b"s", b"c"]
    client.close()
    server.close()


def test_memory_follows_what_may_come_not_what_is_announced() -> None:
    client, server = channels()
    client.close()
    raw, far = socket.socketpair()
    channel = Channel(raw, 1.0)
    codec = codecs()[1]
    channel.secure(codec)
    far.sendall(HEADER.pack((1 << 32) - 1, codec.session[:8], 0))
    tracemalloc.start()
    with pytest.raises(OversizedRecord, match="at most 1,016 bytes, 4,294,967,295"):
        channel.receive(1000, "a message")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    for each in (channel, server):
        each.close(b"")
    far.close()


def test_a_trickle_does_not_prolong_the_time_limit() -> None:
    near, far = socket.socketpair()
    channel, stop = Channel(near, 0.3), threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            far.sendall(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(PeerSilent, match=r"within 0\.3 s"):
        channel.get(10_000, "a message")
    assert time.monotonic() - begun < 5
    stop.set()
    thread.join()
    channel.close()
    far.close()


def test_a_peer_that_takes_nothing_is_found_out() -> None:
    client, server = channels(timeout=0.3)
    client.send(bytes(1 << 24))
    with pytest.raises(RemoteError):
        client.receive(10, "an answer")
    begun = time.monotonic()
    client.close()
    assert time.monotonic() - begun < 5
    server.close()


def test_the_end_of_a_connection_has_two_names() -> None:
    for sent, error in ((b"", PeerClosed), (HEADER.pack(50, bytes(8), 0), TruncatedRecord), (b"12", TruncatedRecord)):
        near, far = socket.socketpair()
        channel = Channel(near, 5.0)
        channel.secure(Plain())
        far.sendall(sent)
        far.close()
        with pytest.raises(error):
            channel.receive(100, "a message")
        channel.close()


def test_closing_delivers_what_was_sent_and_leaves_nothing_open() -> None:
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    client, server = channels()
    client.send(b"last words")
    client.close()
    client.close()
    assert server.receive(100, "them") == b"last words"
    with pytest.raises(PeerClosed):
        server.receive(100, "more")
    server.close()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (before, threads)


# -- frames ----------------------------------------------------------------------------------------------------------
SPECS = st.builds(Spec, st.integers(1, 64).map(Ring), st.lists(st.integers(0, 3), max_size=3).map(tuple)) | st.builds(
    BlobSpec, st.text(max_size=8), st.integers(0, 40)
)
LABELS = st.text(max_size=30)


@settings(max_examples=150)
@given(label=LABELS, spec=SPECS, depth=st.integers(0, 1 << 40), data=st.data())
def test_a_message_survives_its_frame(label: str, spec: Any, depth: int, data: st.DataObject) -> None:
    payload = data.draw(st.binary(min_size=spec.nbytes, max_size=spec.nbytes))
    message = Message(CLIENT, label, "s", depth, spec, payload)
    header = Message(CLIENT, label, "s", depth, spec, None)
    frame = message_frame(message)
    assert len(frame) == message_limit(header)
    assert read_frame(frame, {label: header}) == message
    with pytest.raises(UnexpectedMessage):
        read_frame(frame, {label: Message(CLIENT, label, "s", depth + 1, spec, None)})
    with pytest.raises(UnexpectedMessage):
        read_frame(frame + b"x", {label: header})
    with pytest.raises(UnexpectedMessage):
        read_frame(frame, {})


@given(body=(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"M" + rest)).filter(lambda b: b != DONE))
def test_any_other_frame_ends_in_a_named_error(body: bytes) -> None:
    with pytest.raises((UnexpectedMessage, UnreadableFrame, PeerFailed)):
        read_frame(body, {})


def test_the_end_is_a_frame_of_its_own() -> None:
    assert read_frame(DONE, {}) == Done()


def test_an_error_travels_by_name_alone() -> None:
    frame = abort_frame(ValueError("the secret 1234"))
    assert frame == b"AValueError"
    with pytest.raises(PeerFailed, match="ended the session with ValueError;"):
        read_frame(frame, {})
    with pytest.raises(PeerFailed, match="an error without a name"):
        read_frame(b"A\x1b[31m", {})


def test_ideal_functionalities_do_not_travel() -> None:
    with pytest.raises(WireMismatch, match="run real protocols"):
        message_frame(Message(CLIENT, "a/b", "a", 1, BlobSpec("ct", 8), None))


# -- conversations ---------------------------------------------------------------------------------------------------
def small(proto: ProtocolDecl[Any] = twice) -> Work:
    words = {CLIENT: np.arange(5, dtype=np.uint64), SERVER: np.arange(5, dtype=np.uint64) * 700}
    return Work(proto, services(), {role: [from_words(RING, words[role])] for role in Role})


def together(work: Work) -> tuple[list[Message], dict[Role, Any]]:
    """Both parties in one process, with the same tape keys."""
    session = Session(work.services, keys={role: derive_key(SEED, role.value) for role in Role})
    execution = session.run(work.proto, work.inputs[CLIENT], work.inputs[SERVER], **work.public)
    return [*session.setup.messages, *execution.messages], execution.outputs


@pytest.fixture(params=["sealed", "plain"])
def codec(request: pytest.FixtureRequest) -> Iterator[Plain | None]:
    yield None if request.param == "sealed" else Plain()


def test_both_ends_record_the_run_of_one_process(codec: Plain | None) -> None:
    work = small()
    expected, outputs = together(work)
    for role, end in converse(work, codec=codec).items():
        assert end.error is None
        assert end.messages == expected
        assert [m.payload for m in end.messages] == [m.payload for m in expected]
        assert (to_words(end.output) == to_words(outputs[role])).all()


# Marks of their own: what the protocols whose runs take seconds are made of has rows here, and a layer has one.
MARKS: dict[str, Any] = {"mul": (), "linear": (), **dict.fromkeys(HEAVY - {"moe_layer"}, pytest.mark.nightly)}
ROWS = [
    pytest.param(entry, entry.cases[0], id=entry.name, marks=MARKS.get(entry.name, row_marks(entry, entry.cases[0])))
    for entry in CATALOG
    if entry.cases
]


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), ROWS)
def test_every_protocol_over_a_socket_sends_the_same_bytes(entry: Any, case: Any) -> None:
    work = Work.of_case(entry, case)
    expected, _ = together(work)
    for end in converse(work).values():
        assert end.error is None
        assert [(m.order, m.payload) for m in end.messages] == [(m.order, m.payload) for m in expected]


def test_texts_that_differ_are_named_at_both_ends() -> None:
    ours, theirs = small(twice), small(masked)
    sockets = socket.socketpair()
    ends = both(
        lambda: one_end(ours, CLIENT, sockets[0], 5.0, None), lambda: one_end(theirs, SERVER, sockets[1], 5.0, None)
    )
    names = {end.name for end in ends}
    assert names & {"UnexpectedMessage", "OversizedRecord"}
    assert names <= {"UnexpectedMessage", "OversizedRecord", "PeerFailed", "PeerClosed"}


def test_a_party_whose_peer_never_finishes_gets_no_output() -> None:
    work = small()
    near, far = socket.socketpair()

    def deserter() -> None:
        channel = Channel(near, 5.0)
        agree_keys(channel, CLIENT, KEY)
        with RemoteParty(channel, CLIENT, work.services, key=derive_key(SEED, "client")) as party:
            party.run(work.proto, work.inputs[CLIENT], work.absent(SERVER))  # and leaves without `finish`

    _, end = both(deserter, lambda: one_end(work, SERVER, far, 5.0, None))
    assert end.name == "PeerClosed" and end.output is None


def test_a_peer_that_ends_before_it_sent_everything_is_refused() -> None:
    header = Message(SERVER, "r1/a/b", "r1/a", 1, BlobSpec("x", 2), None)
    whole = Message(SERVER, "r1/a/b", "r1/a", 1, BlobSpec("x", 2), b"12")
    for frames, call in (
        ([DONE], Link.wait),
        ([DONE], Link.finish),
        ([message_frame(whole)], Link.finish),
        ([message_frame(whole), DONE], lambda link: link.wait() and link.finish()),
    ):
        client, server = channels()
        link = Link(client, CLIENT)
        link.expect([header])
        for frame in frames:
            server.send(frame)
        with pytest.raises((UnexpectedMessage, OversizedRecord)):
            call(link)
        server.close(b"")
        client.close(b"")
