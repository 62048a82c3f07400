"""`secmoe inspect` and `secmoe catalog`: what they show is what is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from protocols.catalog import CATALOG
from secmoe.cli import main
from sim.concrete import to_words
from sim.role import CLIENT, Role
from sim.wire import decode
from sim.world import Execution
from tests.small_runs import keep_small
from transcripts.costs import cost_by_scope, fold
from transcripts.record import Recorder
from transcripts.show import hexdump
from transcripts.store import Transcript


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "x.secmoe"
    keep_small(path)
    return path


def show(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def test_summary(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = show(capsys, "inspect", kept)
    facts = json.loads(show(capsys, "inspect", kept, "--json"))
    with Transcript(kept) as transcript:
        for value in (transcript.seal.hex(), transcript.chain.hex(), "SEEDED", 'protocol="twice"'):
            assert value in text
        assert (facts["seal"], facts["digest"], facts["seeded"]) == (
            transcript.seal.hex(),
            transcript.chain.hex(),
            True,
        )
        assert [phase["phase"] for phase in facts["phases"]] == ["setup", "r1"]
        for phase in facts["phases"]:
            sent = transcript.phase(phase["phase"])
            assert phase["client_to_server"] == sum(h.nbytes for h in sent if h.sender is CLIENT)
            assert (phase["messages"], phase["rounds"]) == (len(sent), max(h.depth for h in sent))
    assert "messages" not in facts


def test_a_strangers_public_values_cannot_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.secmoe"
    public = {"name": "\x1b[2J\ndigest forged", "ke\x1by\n": ["\u202e", {"b\x07": 1}]}
    with Recorder(path, public, seeded=False) as recorder:
        recorder.seal()
    text = show(capsys, "inspect", path)
    assert text.replace("\n", "").isprintable() and text.isascii()
    assert sum(line.startswith("digest") for line in text.splitlines()) == 1
    assert json.loads(show(capsys, "inspect", path, "--json"))["public"] == public


@pytest.mark.parametrize("where", ["phase", "scope"])
def test_a_strangers_phases_and_scopes_are_printable(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.secmoe"
    phase, scope = ("r\x1b", "r") if where == "phase" else ("r", "r/\x1b")
    with Recorder(path, {}, seeded=False) as recorder:
        recorder.add(Execution({}, (), {(CLIENT, scope): 1.0}, {}, {}, phase))
        recorder.seal()
    assert main(["inspect", str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "expected a printable name" in told.err and told.err[:-1].isprintable()


def test_costs_by_scope_add_up(kept: Path) -> None:
    with Transcript(kept) as transcript:
        headers = transcript.headers
        cpu = {key: s for phase in transcript.phases for key, s in phase.cpu_by_scope.items()}
        rows = {row.scope: row for row in cost_by_scope(headers, cpu)}
        assert [s for s in rows if "pool" not in s] == ["setup", "setup/greeting", "r1", "r1/twice", "r1/twice/masked"]
        assert rows["r1/twice/masked"].calls == 2
        assert rows["setup"].nbytes + rows["r1"].nbytes == sum(h.nbytes for h in headers)
        assert rows["setup"].messages + rows["r1"].messages == len(headers)
        assert rows["r1"].rounds == max(h.depth for h in headers if h.phase == "r1")
        for role in Role:
            measured = sum(s for (who, scope), s in cpu.items() if who is role and scope.startswith("r1"))
            assert rows["r1"].cpu[role] == pytest.approx(measured)
        (one,) = [r for r in cost_by_scope(headers, cpu, under="r1/twice/masked.2") if r.scope == "r1/twice/masked"]
        assert one.calls == 1 and 0 < one.nbytes < rows["r1/twice/masked"].nbytes


def test_fold() -> None:
    assert fold("r1/a.2/b.13/c") == "r1/a/b/c"
    assert fold("r1/a.b/c2") == "r1/a.b/c2"


def test_lists(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*options: str) -> list[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = json.loads(show(capsys, "inspect", kept, "--json", *options))["messages"]
        return list(found)

    with Transcript(kept) as transcript:
        everything = [(h.seq, h.label) for h in transcript.headers]
    assert [(m["seq"], m["label"]) for m in listed("--list")] == everything
    clients_view = listed("--view", "client")
    assert {m["sender"] for m in clients_view} == {"server"}
    assert len(clients_view) + len(listed("--view", "server")) == len(everything)
    both = listed("--scope", "r1/twice/masked")
    assert len(both) == len(listed("--scope", "r1/twice/masked.2")) + len([m for m in both if "/masked/" in m["label"]])
    text = show(capsys, "inspect", kept, "--list")
    assert all(label in text for _, label in everything)


def test_one_message(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Transcript(kept) as transcript:
        for header in transcript.headers:
            message = transcript.message(header)
            assert message.payload is not None
            told = json.loads(show(capsys, "inspect", kept, "--message", header.seq, "--json"))
            text = show(capsys, "inspect", kept, "--message", header.seq)
            assert bytes.fromhex(told["hex"]) == message.payload
            assert header.label in text and header.digest.hex() in text
            assert hexdump(message.payload)[0] in text
            if header.phase == "setup":
                assert told["words"] is None and told["kind"] == "greeting"
            else:
                words = to_words(decode(message.payload, header.spec)).reshape(-1)  # type: ignore[arg-type]  # a ring
                assert told["words"] == words.tolist()
                assert f"{words[0]:#x}" in text


def test_hexdump() -> None:
    lines = hexdump(bytes(range(0x41, 0x41 + 18)))
    assert lines[0] == "000000  41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP"
    assert lines[1] == f"000010  51 52{' ' * 42}  QR"


def test_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(show(capsys, "catalog", "--json"))
    text = show(capsys, "catalog")
    assert "…" not in text  # folded, not cut
    words = {word for row in rows for word in (row["name"], row["status"], f"{row['bytes']:,}")}
    assert words <= set(text.split())
    assert [row["name"] for row in rows] == [entry.name for entry in CATALOG]
    for row, entry in zip(rows, CATALOG, strict=True):
        assert row["functionality"] == entry.realises.name
        assert row["declared_leakage"]["client"] == list(entry.realises.leaks_client)
        assert row["status"] == entry.status and row["name"] in text
        assert row["rounds"] >= 0 and row["bytes"] >= 0 and row["source"] == entry.proto.cites
