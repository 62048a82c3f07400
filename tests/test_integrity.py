"""Damage is refused with what and where, or has touched no logical byte; whatever the damage, no command crashes."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secmoe.cli import main
from tests.small_runs import keep_small
from transcripts.layout import (
    AlteredTranscript,
    TranscriptError,
    TruncatedTranscript,
    checksum_of,
    seal_of,
    to_json,
)
from transcripts.store import Transcript

FLIPS, CUTS = 1000, 200
QUICK = 100  # flips in `make check`
COMMANDS = (
    ["inspect", "{}", "--json", "--list"],
    ["inspect", "{}"],
    ["inspect", "{}", "--message", "3"],
    ["inspect", "{}", "--sql", "SELECT * FROM message JOIN payload ON payload.id = payload"],
    ["inspect", "{}", "--view", "client", "--sql", "SELECT * FROM message"],
    ["diff", "{}", "{}"],
    ["replay", "{}"],
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "small.secmoe"
    keep_small(path, runs=2, private=False)
    return path


def logical(path: Path) -> dict[str, Any]:
    """Everything that a file says. Raises TranscriptError."""
    with Transcript(path) as transcript:
        return {
            "headers": transcript.headers,
            "contents": [message.payload for message in transcript.messages()],
            "public": transcript.public,
            "phases": transcript.phases,
            "sealed": (transcript.seal, transcript.chain, transcript.seeded),
            "created": transcript.created,
        }


def flips(data: bytes, count: int) -> list[tuple[int, int]]:
    """Places and masks: half of them anywhere in the file, half where it is not zero."""
    rng = random.Random(4)
    filled = [at for at, byte in enumerate(data) if byte]
    return [(rng.choice(filled) if i % 2 else rng.randrange(len(data)), rng.randrange(1, 256)) for i in range(count)]


def one_line(error: str, path: Path) -> None:
    """A refusal names the file, what is wrong and what to do, on one line."""
    assert error.count("\n") <= 1 and str(path) in error and len(error) < 500 and "Traceback" not in error


def refused_or_equal(kept: Path, path: Path) -> bool:
    """True where a damaged copy is refused; else it must say what the original says."""
    try:
        found = logical(path)
    except TranscriptError as error:
        one_line(str(error), path)
        return True
    assert found == logical(kept)
    return False


@pytest.mark.parametrize("count", [QUICK, pytest.param(FLIPS, marks=pytest.mark.slow)])
def test_flipped_bytes(kept: Path, tmp_path: Path, count: int) -> None:
    data = kept.read_bytes()
    refused = 0
    for i, (at, mask) in enumerate(flips(data, count)):
        path = tmp_path / f"{i}.secmoe"
        path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
        refused += refused_or_equal(kept, path)
        path.unlink()
    assert refused > count // 3  # content is a part of the file: the rest is free space


def test_every_byte_of_content_counts(kept: Path, tmp_path: Path) -> None:
    """A flip inside a stored payload is named with its message."""
    data = kept.read_bytes()
    with Transcript(kept) as transcript:
        long = [h for h in transcript.headers if h.nbytes >= 8]  # long enough to be found in the file
        found = [(h, data.find(transcript.message(h).payload or b"none")) for h in long]
    assert len(found) > 3
    for header, start in found:
        path = tmp_path / f"{header.seq}.secmoe"
        path.write_bytes(data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
        with pytest.raises(AlteredTranscript, match=rf"message {header.seq} \({header.label}\)"):
            logical(path)


@pytest.mark.parametrize("count", [20, pytest.param(CUTS, marks=pytest.mark.slow)])
def test_truncations(kept: Path, tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    data, rng = kept.read_bytes(), random.Random(5)
    for keep in [rng.randrange(2, len(data)) for _ in range(count)]:
        path = tmp_path / f"{keep}.secmoe"
        path.write_bytes(data[:keep])
        with pytest.raises(TruncatedTranscript) as raised:
            logical(path)
        one_line(str(raised.value), path)
        assert str(keep) in str(raised.value).replace(path.name, "")
        refused_by_command(["inspect", "{}"], path, capsys)


@pytest.mark.parametrize("count", [3, pytest.param(FLIPS // 20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(c[:3:2]) for c in COMMANDS])
def test_commands_refuse_damage_in_one_line(
    kept: Path, tmp_path: Path, command: Sequence[str], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = kept.read_bytes()
    for i, (at, mask) in enumerate(flips(data, count)):
        path = tmp_path / f"{i}.secmoe"
        path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
        if refused_or_equal(kept, path):
            refused_by_command(command, path, capsys)
        elif command[0] != "replay":  # without private sides a replay is refused for another reason
            assert main([word.format(path) for word in command]) == 0
            assert capsys.readouterr().err == ""
        path.unlink()


def forged(kept: Path, path: Path, **columns: str) -> Path:
    """A copy with other values in table run, sealed afresh: what a stranger can make, the seal being unkeyed."""
    path.write_bytes(kept.read_bytes())
    with sqlite3.connect(path) as connection:
        names = ("created", "public", "phases", "measured", "seeded", "messages", "chain")
        row = dict(zip(names, connection.execute(f"SELECT {', '.join(names)} FROM run").fetchone(), strict=True))
        row |= columns
        seal = seal_of(row["public"], row["phases"], bool(row["seeded"]), row["messages"], row["chain"])
        row |= {"seal": seal, "checksum": checksum_of(seal, row["created"], row["measured"])}
        assignments = ", ".join(f"{name} = ?" for name in row)
        connection.execute(f"UPDATE run SET {assignments}", tuple(row.values()))
    connection.close()
    return path


PHASES = [{"name": name, "reserved": {}} for name in ("setup", "r1", "r2")]
MEASURED = {name: {"cpu_by_scope": [], "cpu_by_depth": []} for name in ("setup", "r1", "r2")}


def with_phase(**values: Any) -> dict[str, str]:
    return {"phases": to_json([PHASES[0] | values, *PHASES[1:]]), "measured": to_json(MEASURED)}


def with_measured(**values: Any) -> dict[str, str]:
    return {"phases": to_json(PHASES), "measured": to_json(MEASURED | {"r1": MEASURED["r1"] | values})}


FORGERIES: dict[str, dict[str, str]] = {
    "no object": {"public": "[1]"},
    "infinity": {"public": '{"a":1e999}'},
    "nan": {"public": '{"a":NaN}'},
    "spaces": {"public": '{"a": 1}'},
    "twice": {"public": '{"a":1,"a":2}'},
    "deep": {"public": '{"a":' + "[" * 900 + "]" * 900 + "}"},
    "deeper": {"public": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"},
    "long number": {"public": '{"a":' + "1" * 5000 + "}"},
    "reserved text": with_phase(reserved={"cot": "many"}),
    "reserved list": with_phase(reserved=[1]),
    "reserved name": with_phase(reserved={"a\x1b": 1}),
    "phase number": with_phase(name=7),
    "phases object": {"phases": '{"a":1}'},
    "seconds text": with_measured(cpu_by_depth=[["client", 1, "long"]]),
    "seconds negative": with_measured(cpu_by_scope=[["client", "r1", -1.0]]),
    "seconds huge": with_measured(cpu_by_scope=[["client", "r1", 10**400]]),
    "depth text": with_measured(cpu_by_depth=[["client", "deep", 1.0]]),
    "scope number": with_measured(cpu_by_scope=[["client", 5, 1.0]]),
    "party": with_measured(cpu_by_scope=[["nobody", "r1", 1.0]]),
    "row": with_measured(cpu_by_scope=[["client"]]),
    "measured list": {"measured": "[]"},
    "created": {"created": "a\nb"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_values_are_refused_too(
    kept: Path, tmp_path: Path, forgery: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = forged(kept, tmp_path / "x.secmoe", **FORGERIES[forgery])
    with pytest.raises(AlteredTranscript, match="in table run"):
        logical(path)
    for command in COMMANDS[:2]:
        refused_by_command(command, path, capsys)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@pytest.mark.slow
@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_public_values_can_be_shown(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: Any
) -> None:
    """Whatever a stranger sealed as parameters: it is shown, or refused in one line."""
    keys = ("protocol", "shape", "params", "tokens", "model", "layer", "activation", "order", "truncation")
    public = {key: value for key in keys} | {"protocol": "secmoe"}
    path, page = forged(kept, tmp_path / "x.secmoe", public=to_json(public)), tmp_path / "x.html"
    page.unlink(missing_ok=True)
    for extra in ([], ["--json"], ["--message", "0"], ["--html", str(page)], ["--sql", "SELECT * FROM run"]):
        assert main(["inspect", str(path), *extra]) == 0
        assert capsys.readouterr().err == ""
    assert main(["replay", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_refusal_is_short_whatever_the_file_says(kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    path.write_bytes(kept.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE message SET scope = ?, label = ?", ("r1/" + "x" * 10_000, "y" * 10_000))
    connection.close()
    with pytest.raises(AlteredTranscript) as raised:
        logical(path)
    one_line(str(raised.value), path)


def refused_by_command(command: Sequence[str], path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.format(path) for word in command]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("secmoe: ") and told.err.endswith("\n")
    one_line(told.err, path)


def test_a_newer_file_is_refused_by_every_command(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / "x.secmoe", kept.read_bytes()
    path.write_bytes(data[:60] + (2).to_bytes(4, "big") + data[64:])
    for command in COMMANDS:
        refused_by_command(command, path, capsys)


@pytest.mark.parametrize("noise", [b"", b"\0" * 5000, bytes(range(256)) * 40, b"SQLite format 3\0" + b"\xff" * 20000])
def test_files_that_are_no_transcripts(tmp_path: Path, noise: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.secmoe"
    path.write_bytes(noise)
    for command in COMMANDS:
        refused_by_command(command, path, capsys)
