"""Keys, tapes, inputs and weights: not in what is shown of an object, not in an error, not in a transcript."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.catalog import CATALOG
from protocols.model.config import MoeWeights
from protocols.ot.aes import TweakableHash
from protocols.ot.service import CotSlice
from sim.concrete import from_words, to_words
from sim.message import Message
from sim.remote.cipher import PresharedKey
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape, derive_key
from sim.wire import Blob, BlobSpec
from sim.world import Session
from tests.remote_support import SEED, Plain, Work, converse
from tests.small_runs import RING, keep_small
from transcripts.private import PrivateSide
from transcripts.record import Recorder

SECRET = bytes(range(200, 232))
WORDS = np.frombuffer(SECRET, np.uint64)


def forms(secret: bytes) -> list[str]:
    """How bytes or words could be printed: hexadecimal, as a Python literal, as numbers."""
    words = np.frombuffer(secret[: len(secret) // 8 * 8], np.uint64)
    numbers = [str(int(word)) for word in words] + [hex(int(word))[2:] for word in words]
    return [secret.hex(), repr(secret)[2:-1], repr(list(secret))[1:-1], *numbers]


def shows(text: str, secret: bytes) -> bool:
    return any(form in text for form in forms(secret))


def objects(session: Session) -> Iterator[Any]:
    """A session and everything that hangs on its parties, down to plain values."""
    todo, seen = [session, *session.endpoints.values()], set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | bytes | str | int | float | np.ndarray | RingArray):
            continue
        seen.add(id(thing))
        yield thing
        inner = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
        if isinstance(thing, dict):
            inner = list(thing.values())
        elif isinstance(thing, list | tuple):
            inner = list(thing)
        todo += [v for v in inner if type(v).__module__.split(".")[0] in ("sim", "protocols", "builtins")]


def test_these_forms_are_found() -> None:
    assert all(shows(text, SECRET) for text in (str(SECRET), SECRET.hex(), str(list(SECRET)), str(WORDS.tolist())))
    assert not shows(str(bytes(32)), SECRET)


@pytest.mark.parametrize(
    "thing",
    [
        PresharedKey(SECRET),
        Tape(SECRET, "client"),
        PrivateSide(CLIENT, SECRET, {"x": WORDS}, {"a": 1}),
        from_words(RING, WORDS % 4096),
        MoeWeights(WORDS, WORDS, None, WORDS),
        CotSlice(TweakableHash(bytes(16)), 0, WORDS, WORDS.view(np.uint8), WORDS),
        Blob(BlobSpec("ct", 32), SECRET),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_holds_a_secret_does_not_show_it(thing: Any) -> None:
    assert not shows(f"{thing!r} {thing}", SECRET)


@pytest.mark.parametrize("name", ["mul", "linear"])
def test_no_object_of_a_session_shows_a_key_or_an_input(name: str) -> None:
    entry = next(entry for entry in CATALOG if entry.name == name)
    work = Work.of_case(entry, entry.cases[0])
    session = Session(work.services, keys={role: derive_key(SEED, role.value) for role in Role})
    execution = session.run(work.proto, work.inputs[CLIENT], work.inputs[SERVER], **work.public)
    secrets = [derive_key(SEED, role.value) for role in Role]
    for role in Role:
        arrays = [v for v in [*work.inputs[role], execution.outputs[role]] if isinstance(v, RingArray)]
        secrets += [to_words(array).astype(np.uint64).tobytes()[:16] for array in arrays]
    delta = next(pool.delta for pool in session.endpoints[SERVER].states["ot"].pools.values() if pool.delta is not None)
    secrets.append(delta.tobytes())
    found = list(objects(session))
    assert len(found) > 15
    shown = [repr(thing) for thing in found]
    assert not [text[:80] for text in shown for secret in secrets if shows(text, secret)]
    assert not any(shows(repr([work.inputs, execution.outputs, execution.draws]), secret) for secret in secrets)


def test_a_session_logs_nothing() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        converse(small())
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(logging.WARNING)
    assert stream.getvalue() == ""


def small() -> Work:
    entry = next(entry for entry in CATALOG if entry.name == "mul")
    return Work.of_case(entry, entry.cases[0])


class Deviating(Plain):
    """A peer that changes one byte of one message before it sums it up."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at, self._count = at, 0

    def seal(self, header: bytes, seq: int, body: bytes) -> bytes:
        self._count += 1
        if self._count == self._at and len(body) > 60:
            body = body[:-30] + bytes([body[-30] ^ 0x5A]) + body[-29:]
        return super().seal(header, seq, body)


@pytest.mark.parametrize("at", range(1, 8))
def test_no_error_shows_a_secret(at: int) -> None:
    work = small()
    ends = converse(work, timeout=10.0, codec=Deviating(at))
    secrets = [derive_key(SEED, role.value) for role in Role]
    secrets += [to_words(v).astype(np.uint64).tobytes()[:16] for role in Role for v in work.inputs[role]]
    for end in ends.values():
        told = repr(end.error) + " ".join(getattr(end.error, "__notes__", []))
        assert not any(shows(told, secret) for secret in secrets)


def contents(paths: Sequence[Path]) -> bytes:
    return b"".join(path.read_bytes() for path in paths)


def test_a_transcript_of_fresh_keys_holds_no_key_and_no_input(tmp_path: Path) -> None:
    entry = next(entry for entry in CATALOG if entry.name == "linear")
    work = Work.of_case(entry, entry.cases[0])
    session = Session(work.services)
    execution = session.run(work.proto, work.inputs[CLIENT], work.inputs[SERVER], **work.public)
    path = tmp_path / "run.secmoe"
    with Recorder(path, {"protocol": "linear"}, seeded=False) as recorder:
        recorder.add(session.setup)
        recorder.add(execution)
        recorder.seal()
    assert sorted(tmp_path.iterdir()) == [path]
    whole = path.read_bytes()
    for role in Role:
        assert session.endpoints[role].tape.key not in whole
        for value in work.inputs[role]:
            if isinstance(value, RingArray):
                assert to_words(value).astype("<u8").tobytes()[:16] not in whole
    sent = max((m.payload or b"" for m in execution.messages), key=len)
    assert sent[:4000] in whole  # the scan would have found it


def test_a_private_side_is_where_it_was_asked_for(tmp_path: Path) -> None:
    keep_small(tmp_path / "a.secmoe", seed=None, private=False)
    keep_small(tmp_path / "b.secmoe", seed=b"seed", private=True)
    key = derive_key(b"seed", "client")
    assert not [path for path in tmp_path.iterdir() if path.stem == "a" and path.suffix != ".secmoe"]
    assert key not in (tmp_path / "b.secmoe").read_bytes()
    assert key.hex().encode() in (tmp_path / "b.client").read_bytes()


def test_a_message_is_the_wire_and_nothing_else() -> None:
    fields = set(Message.__dataclass_fields__)
    assert fields == {"sender", "label", "scope", "depth", "spec", "payload", "content"}
