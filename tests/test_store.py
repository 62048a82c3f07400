"""A transcript gives back what was recorded, and refuses everything else with what and where."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.message import Message, chain
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec, is_padded
from sim.world import Execution
from tests.small_runs import keep_small, run_small
from transcripts import layout
from transcripts.layout import (
    AlteredTranscript,
    ForeignFile,
    MissingTranscript,
    NewerSchema,
    TranscriptError,
    TruncatedTranscript,
    UnsealedTranscript,
)
from transcripts.record import Recorder
from transcripts.store import Transcript


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "small.secmoe"
    keep_small(path, runs=2)
    return path


def reseal(path: Path, *statements: str) -> None:
    """Change a transcript through SQLite, as an editor would; the seal is left as it was."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@st.composite
def messages(draw: st.DrawFn) -> list[Message]:
    """Messages of one phase under distinct labels: ring arrays of any width and blobs, with and without content."""
    labels = draw(st.lists(st.tuples(st.sampled_from(Role), st.sampled_from("abcdef")), unique=True, max_size=8))
    made = []
    for role, word in labels:
        spec: Spec | BlobSpec
        if draw(st.booleans()):
            spec = Spec(Ring(draw(st.integers(1, 64))), tuple(draw(st.lists(st.integers(0, 4), max_size=3))))
        else:
            spec = BlobSpec(draw(st.sampled_from(["key", "ciphertext"])), draw(st.integers(0, 40)))
        payload = draw(st.none() | st.binary(min_size=spec.nbytes, max_size=spec.nbytes))
        if payload and isinstance(spec, Spec) and not is_padded(payload, spec):
            payload = payload[:-1] + b"\0"
        made.append(Message(role, f"r1/p/{word}", "r1/p", draw(st.integers(1, 4)), spec, payload))
    return made


@given(messages(), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, sent: list[Message], public: dict[str, object], seeded: bool) -> None:
    path = tmp_path / "x.secmoe"
    path.unlink(missing_ok=True)
    ordered = tuple(sorted(sent, key=lambda m: m.order))
    cpu = {(CLIENT, "r1/p"): 0.25, (SERVER, ""): 0.5}
    execution = Execution({}, ordered, cpu, {(SERVER, 1): 0.75}, {"cot.client": 3}, "r1")
    with Recorder(path, public, seeded=seeded) as recorder:
        recorder.add(execution)
        seal = recorder.seal()
    with Transcript(path) as transcript:
        assert tuple(transcript.messages()) == ordered
        assert transcript.chain.hex() == execution.digest
        assert (transcript.public, transcript.seeded, transcript.seal) == (public, seeded, seal)
        (phase,) = transcript.phases
        assert phase.cpu_by_scope == {(CLIENT, "r1/p"): 0.25, (SERVER, "r1"): 0.5}
        assert (phase.cpu_by_depth, phase.reserved) == ({(SERVER, 1): 0.75}, {"cot.client": 3})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_phases_and_digest(kept: Path) -> None:
    import numpy as np

    _, executions = run_small({CLIENT: np.arange(5), SERVER: np.arange(5) * 700}, runs=2)
    with Transcript(kept) as transcript:
        assert [phase.name for phase in transcript.phases] == ["setup", "r1", "r2"]
        for execution in executions:
            assert tuple(transcript.messages(execution.prefix)) == execution.messages
            assert chain(transcript.messages(execution.prefix)).hex() == execution.digest
        assert [h.seq for h in transcript.headers] == list(range(len(transcript.headers)))


def test_the_same_seed_gives_the_same_digest_and_fresh_runs_do_not(tmp_path: Path) -> None:
    digests = [
        keep_small(tmp_path / f"{name}.secmoe", seed=seed).chain
        for name, seed in (("a", b"1"), ("b", b"1"), ("c", b"2"), ("d", None), ("e", None))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_layout_of_the_file(kept: Path) -> None:
    with sqlite3.connect(kept) as connection:
        pragma = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "journal_mode")}
        assert pragma == {"page_size": 16384, "journal_mode": "delete"}
        strict = connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall()
        assert {name for name, is_strict in strict if is_strict} == {"run", "message", "payload"}
    connection.close()


@pytest.mark.slow
@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_is_refused_or_touches_no_content(kept: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Slack between SQLite's cells belongs to no value; everything that can be read is guarded."""
    with Transcript(kept) as transcript:
        before = [*transcript.messages()], transcript.public, transcript.seal, transcript.created
    content = bytearray(kept.read_bytes())
    filled = [i for i, byte in enumerate(content) if byte]
    content[data.draw(st.sampled_from(filled))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.secmoe"
    path.write_bytes(content)
    try:
        with Transcript(path) as transcript:
            assert ([*transcript.messages()], transcript.public, transcript.seal, transcript.created) == before
    except TranscriptError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("seq", [0, 3, 11])
def test_an_altered_payload_is_named(kept: Path, tmp_path: Path, seq: int) -> None:
    path = Path(shutil.copy(kept, tmp_path))
    with Transcript(kept) as transcript:
        header = transcript.headers[seq]
        content = transcript.message(header).payload
    assert content is not None
    altered = bytes([content[0] ^ 1]) + content[1:]
    reseal(path, f"UPDATE payload SET content = X'{altered.hex()}' WHERE id = {header.payload}")
    with pytest.raises(AlteredTranscript, match=rf"message {seq} \({header.label}\)"):
        Transcript(path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM message WHERE seq = 4", "message 4 is missing"),
        ("DELETE FROM message WHERE seq = (SELECT max(seq) FROM message)", "messages up to the sealed chain"),
        ("UPDATE message SET depth = depth + 1 WHERE seq = 2", "message 2 .*digest"),
        ("UPDATE message SET label = 'r1/twice/other', scope = 'r1/twice' WHERE seq = 5", "message 5"),
        ("UPDATE message SET scope = 'r1' WHERE seq = 5", "message 5: .*inside its scope"),
        ("UPDATE message SET shape = '[-5]' WHERE seq = 5", "message 5 .*shape"),
        ("UPDATE message SET nbytes = 3 WHERE seq = 5", "message 5 .*3 bytes recorded"),
        ("UPDATE message SET chain = zeroblob(32) WHERE seq = 7", "message 7 .*chain is broken"),
        ("UPDATE message SET payload = NULL WHERE seq = 2", "message 2 .*digest"),
        ("DELETE FROM payload WHERE id = 1", "expected 40 bytes of content, got 0"),
        ("INSERT INTO payload (content) VALUES (X'00')", "do not belong together"),
        ("UPDATE run SET public = '{}'", "public parameters"),
        ("UPDATE run SET seeded = 0", "public parameters"),
        ("UPDATE run SET created = 'now'", "measured times"),
        ("UPDATE run SET measured = '{}'", "measured times"),
        ("DELETE FROM run", "expected one row in table run, got 0"),
        ("CREATE VIEW extra AS SELECT 1", "definition of table 'extra'"),
        ("CREATE TRIGGER extra AFTER INSERT ON run BEGIN SELECT 1; END", "definition of table 'extra'"),
        ("CREATE INDEX extra ON message (label)", "definition of table 'extra'"),
        ("ALTER TABLE message ADD COLUMN more TEXT", "definition of table 'message'"),
        ("PRAGMA user_version = 0", "expected schema 1"),
    ],
)
def test_an_edited_file_is_refused(kept: Path, tmp_path: Path, statement: str, message: str) -> None:
    path = Path(shutil.copy(kept, tmp_path))
    reseal(path, statement)
    with pytest.raises(AlteredTranscript, match=message):
        Transcript(path)


@pytest.mark.parametrize("keep", [0, 1, 16, 60, 99, 100, 16384, 20000, -1])
def test_a_truncated_file_is_refused(kept: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.secmoe"
    path.write_bytes(kept.read_bytes()[:keep])
    with pytest.raises((TruncatedTranscript, ForeignFile)) as caught:
        Transcript(path)
    assert keep <= 1 or caught.type is TruncatedTranscript


def test_a_lengthened_file_is_refused(kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.secmoe"
    path.write_bytes(kept.read_bytes() + b"\0")
    with pytest.raises(TruncatedTranscript, match=r"expected [0-9]+ bytes, got"):
        Transcript(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, database, folder = tmp_path / "text", tmp_path / "database", tmp_path / "folder"
    text.write_text("no transcript at all, " * 20)
    reseal(database, "CREATE TABLE message (seq INTEGER)")
    folder.mkdir()
    with pytest.raises(ForeignFile, match="another kind"):
        Transcript(text)
    with pytest.raises(ForeignFile, match="another SQLite database"):
        Transcript(database)
    with pytest.raises(ForeignFile, match="not a regular file"):
        Transcript(folder)
    with pytest.raises(MissingTranscript, match="no such file"):
        Transcript(tmp_path / "nothing")


def test_a_newer_schema_is_refused(kept: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(kept, tmp_path))
    reseal(path, f"PRAGMA user_version = {layout.SCHEMA_VERSION + 1}")
    with pytest.raises(NewerSchema, match="update secmoe"):
        Transcript(path)


def test_an_unsealed_recording_is_refused(tmp_path: Path) -> None:
    with Recorder(tmp_path / "x.secmoe", {}, seeded=False):
        (recording,) = tmp_path.glob(".*.recording")
        with pytest.raises(UnsealedTranscript, match="never sealed"):
            Transcript(recording)


def test_opening_writes_nothing(kept: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(kept, tmp_path))
    path.chmod(0o444)
    before = path.read_bytes()
    with Transcript(path) as transcript:
        list(transcript.messages())
        with pytest.raises(sqlite3.OperationalError):
            transcript._connection.execute("DELETE FROM message")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
