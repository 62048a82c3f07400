"""Recording is all or nothing, never overwrites, and keeps the private sides apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import transcripts.record
from sim.message import Message
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec
from sim.world import Execution
from tests.small_runs import keep_small, private_sides, run_small
from transcripts.private import (
    MAGIC,
    PrivateExists,
    PrivateFileError,
    PrivateSide,
    private_path,
    read_private,
    write_private,
)
from transcripts.record import OutputError, Recorder, RecorderMisuse
from transcripts.store import Transcript

WORDS = {CLIENT: np.arange(5), SERVER: np.arange(5) * 700}


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    session, _ = run_small(WORDS)
    with pytest.raises(KeyboardInterrupt), Recorder(tmp_path / "x.secmoe", {}, seeded=True) as recorder:
        recorder.add(session.setup)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failed_seal_leaves_nothing(tmp_path: Path) -> None:
    session, _ = run_small(WORDS)
    sides = private_sides(session, WORDS)
    with pytest.raises(PrivateExists), Recorder(tmp_path / "x.secmoe", {}, seeded=True) as recorder:
        recorder.add(session.setup)
        (tmp_path / "x.server").write_text("in the way")
        recorder.seal(sides)
    assert [p.name for p in tmp_path.iterdir()] == ["x.server"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    with pytest.raises(OutputError, match="never overwritten"), Recorder(path, {}, seeded=True) as recorder:
        path.write_text("mine")
        recorder.seal()
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["x.secmoe"]


def test_two_recordings_of_one_name(tmp_path: Path) -> None:
    with Recorder(tmp_path / "x.secmoe", {}, seeded=True) as first:
        with pytest.raises(OutputError, match="another run records here"):
            Recorder(tmp_path / "x.secmoe", {}, seeded=True)
        first.seal()
    assert [p.name for p in tmp_path.iterdir()] == ["x.secmoe"]


@pytest.mark.parametrize("name", ["x", "x.db", ".secmoe", "missing/x.secmoe"])
def test_unusable_places(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"expected|no folder"):
        Recorder(tmp_path / name, {}, seeded=True)
    assert list(tmp_path.iterdir()) == []


def test_a_private_side_in_the_way_is_found_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "x.server").write_text("in the way")
    with pytest.raises(PrivateExists):
        Recorder(tmp_path / "x.secmoe", {}, seeded=True, private=tuple(Role))
    assert [p.name for p in tmp_path.iterdir()] == ["x.server"]


@pytest.mark.parametrize("stage", ["add", "seal"])
def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """SQLite is held to few pages; the private sides meet a disk that takes nothing."""
    session, _ = run_small(WORDS)

    def full(path: Path, *rest: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    refused = pytest.raises(OutputError, match=r"cannot be written \(.*(full|space)")
    with refused as raised, Recorder(tmp_path / "x.secmoe", {}, seeded=True) as recorder:
        if stage == "add":
            recorder._connection.execute("PRAGMA max_page_count = 1")
            big = Message(CLIENT, "r1/x", "r1", 1, BlobSpec("x", 1 << 20), bytes(1 << 20))
            recorder.add(Execution({}, (big,), {}, {}, {}, "r1"))
        else:
            recorder.add(session.setup)
            monkeypatch.setattr(transcripts.record, "write_private", full)
            recorder.seal(private_sides(session, WORDS))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_forged_private_header_is_refused(tmp_path: Path) -> None:
    """The digest of a private side is not keyed: whatever it guards must still read or be refused."""
    good = {"role": "server", "seal": "00", "key": "00" * 32, "draws": {}, "arrays": [["x", "<u8", [1]]]}
    for changed in (
        {"arrays": [["x", "|O", [1]]]},
        {"arrays": [["x", "<u8", [1 << 40]]]},
        {"arrays": [["x", "<u8", ["a"]]]},
        {"arrays": 7},
        {"key": "zz"},
        {"role": None},
    ):
        forge(tmp_path / "x.server", json.dumps({**good, **changed}).encode())
        with pytest.raises(PrivateFileError):
            read_private(tmp_path / "x.server", SERVER, b"\0")
    for header in (b"[" * 100_000, b"[]", b"{}", b"\xff"):
        forge(tmp_path / "x.server", header)
        with pytest.raises(PrivateFileError):
            read_private(tmp_path / "x.server", SERVER, b"\0")


def forge(path: Path, header: bytes) -> None:
    body = MAGIC + len(header).to_bytes(8, "little") + header + bytes(8)
    path.write_bytes(body + hashlib.blake2b(body, digest_size=32).digest())


def test_misuse(tmp_path: Path) -> None:
    session, _ = run_small(WORDS)
    with Recorder(tmp_path / "x.secmoe", {}, seeded=True) as recorder:
        recorder.add(session.setup)
        with pytest.raises(RecorderMisuse):
            recorder.add(session.setup)
        recorder.seal()
        with pytest.raises(RecorderMisuse):
            recorder.seal()
        with pytest.raises(RecorderMisuse):
            recorder.add(session.setup)


def test_private_sides_are_apart_and_0600(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.client", "x.secmoe", "x.server"]
    wire = path.read_bytes()
    with Transcript(path) as transcript:
        seal = transcript.seal
    for role in Role:
        own = private_path(path, role)
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
        side = read_private(own, role, seal)
        assert np.array_equal(side.arrays["x"], WORDS[role].astype(np.uint64))
        assert side.draws and all(n > 0 for n in side.draws.values())
        assert side.key not in wire and side.key.hex().encode() not in wire


def test_nothing_private_without_asking(tmp_path: Path) -> None:
    keep_small(tmp_path / "x.secmoe", private=False)
    assert [p.name for p in tmp_path.iterdir()] == ["x.secmoe"]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_private_round_trip_and_any_flip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.uint64, np.int64, np.float64, np.uint8]))
    shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=3)))
    array = np.frombuffer(data.draw(st.binary(min_size=8 * 27, max_size=8 * 27)), dtype)[: int(np.prod(shape))]
    key = data.draw(st.binary(min_size=32, max_size=32))
    side = PrivateSide(SERVER, key, {"w": array.reshape(shape), "none": np.zeros(0)}, {"a/b": 7})
    path = tmp_path_factory.mktemp("private") / "x.server"
    write_private(path, side, b"s" * 32)
    found = read_private(path, SERVER, b"s" * 32)
    assert (found.role, found.key, found.draws) == (side.role, key, {"a/b": 7})
    assert found.arrays["w"].dtype == dtype and found.arrays["w"].shape == shape
    assert found.arrays["w"].tobytes() == array.tobytes()
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(PrivateFileError):
        read_private(path, SERVER, b"s" * 32)


def test_private_side_of_another_run_or_party(tmp_path: Path) -> None:
    side = PrivateSide(SERVER, bytes(32), {}, {})
    path = write_private(tmp_path / "x.server", side, b"1" * 32)
    with pytest.raises(PrivateFileError, match="seal"):
        read_private(path, SERVER, b"2" * 32)
    with pytest.raises(PrivateFileError, match="expected the client"):
        read_private(path, CLIENT, b"1" * 32)
    with pytest.raises(PrivateFileError, match="--record-private"):
        read_private(tmp_path / "x.client", CLIENT, b"1" * 32)
    with pytest.raises(PrivateFileError, match="array 'w'"):
        write_private(tmp_path / "y.server", PrivateSide(SERVER, bytes(32), {"w": np.zeros(1, complex)}, {}), b"")
    with pytest.raises(PrivateFileError, match="tape key"):
        write_private(tmp_path / "y.server", PrivateSide(SERVER, b"", {}, {}), b"")
    assert [p.name for p in tmp_path.iterdir()] == ["x.server"]


def test_public_parameters_are_json(tmp_path: Path) -> None:
    for public in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises((ValueError, TypeError)):
            Recorder(tmp_path / "x.secmoe", public, seeded=False)
    assert list(tmp_path.iterdir()) == []
    assert json.loads(json.dumps({"x": 1})) == {"x": 1}
