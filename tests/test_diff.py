"""`secmoe diff` sees every difference of structure, names its scope, and says that other content means nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secmoe.cli import main
from sim.message import Message
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER
from sim.wire import BlobSpec
from sim.world import Execution
from tests.small_runs import keep_small, run_small
from transcripts.diff import FRESH, Comparison, compare
from transcripts.record import Recorder
from transcripts.store import Transcript

_, (SETUP, RUN) = run_small({CLIENT: np.arange(5), SERVER: np.arange(5) * 700})


def keep(path: Path, messages: list[Message], public: dict[str, Any] | None = None) -> Path:
    """A kept run of these messages, after the small set-up."""
    path.unlink(missing_ok=True)
    with Recorder(path, public or {"n": 5}, seeded=False) as recorder:
        recorder.add(SETUP)
        ordered = tuple(sorted(messages, key=lambda m: m.order))
        recorder.add(Execution({}, ordered, {}, {}, {}, "r1"))
        recorder.seal()
    return path


def compared(left: Path, right: Path) -> Comparison:
    with Transcript(left) as a, Transcript(right) as b:
        return compare(a, b)


def test_two_fresh_runs_are_equal_and_differ_in_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        keep_small(tmp_path / f"{name}.secmoe", seed=None, private=False)
    paths = [str(tmp_path / f"{name}.secmoe") for name in "ab"]
    found = compared(*map(Path, paths))
    assert found.equal and found.public == [] and found.odd == [] and found.differing > 0
    assert main(["diff", *paths]) == 0
    told = capsys.readouterr().out
    assert "EQUAL" in told and FRESH in told.replace("\n", " ")
    assert main(["diff", *paths, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["structurally_equal"] and facts["changes"] == [] and "means nothing" in facts["content"]["note"]


def test_one_seed_twice_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.secmoe" for name in "ab"]
    for path in paths:
        keep_small(path, private=False)
    found = compared(*paths)
    assert found.equal and found.differing == 0
    assert found.odd == [m.label for m in (*SETUP.messages, *RUN.messages) if m.nbytes >= 16]
    assert main(["diff", *map(str, paths)]) == 0
    told = capsys.readouterr().out
    assert "randomness used twice" in told and FRESH not in told


CHANGES: dict[str, Callable[[Message], list[Message]]] = {
    "missing": lambda m: [],
    "added": lambda m: [m, replace(m, label=f"{m.label}2")],
    "size": lambda m: [replace(m, spec=Spec(Ring(3), (4,)), payload=bytes(2))],
    "kind": lambda m: [replace(m, spec=BlobSpec("blob", m.nbytes))],
    "later": lambda m: [replace(m, depth=m.depth + 100)],
    "renamed": lambda m: [replace(m, label=f"{m.label}x")],
    "sender": lambda m: [replace(m, sender=m.sender.peer, label=f"{m.label}x")],
}
KINDS = {
    "missing": {"missing"},
    "added": {"added"},
    "size": {"size"},
    "kind": {"size"},
    "later": {"order", "depth", "rounds"},
    "renamed": {"missing", "added"},
    "sender": {"missing", "added"},
}


@pytest.mark.slow
@given(st.sampled_from(RUN.messages), st.sampled_from(sorted(CHANGES)))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_change_is_seen_in_its_scope(tmp_path: Path, message: Message, change: str) -> None:
    others = [m for m in RUN.messages if m is not message]
    left = keep(tmp_path / "a.secmoe", list(RUN.messages))
    right = keep(tmp_path / "b.secmoe", others + CHANGES[change](message))
    found = compared(left, right)
    kinds = {c.kind for c in found.changes}
    assert not found.equal and KINDS[change] & kinds
    assert any(c.scope == message.scope for c in found.changes)
    if change != "later":
        assert kinds <= KINDS[change] | {"rounds", "order"}
    assert len(compared(right, left).changes) == len(found.changes)
    assert main(["diff", str(left), str(right)]) == 1


def test_two_calls_one_after_the_other_instead_of_side_by_side(tmp_path: Path) -> None:
    """No message changes but its depth: the scope around both calls takes more rounds."""
    late = [replace(m, depth=m.depth + 50) if "/masked.2/" in m.label else m for m in RUN.messages]
    found = compared(keep(tmp_path / "a.secmoe", list(RUN.messages)), keep(tmp_path / "b.secmoe", late))
    assert {c.scope for c in found.changes if c.kind == "rounds"} == {"r1", "r1/twice"}


def test_a_shift_that_changes_no_number_of_rounds(tmp_path: Path) -> None:
    late = [replace(m, depth=m.depth + 1) for m in RUN.messages]
    found = compared(keep(tmp_path / "a.secmoe", list(RUN.messages)), keep(tmp_path / "b.secmoe", late))
    assert [c.kind for c in found.changes] == ["depth"]


def test_public_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = keep(tmp_path / "a.secmoe", list(RUN.messages), {"n": 5, "shape": {"d": 1, "E": 2}, "t": True})
    right = keep(tmp_path / "b.secmoe", list(RUN.messages), {"n": 5, "shape": {"d": 1, "E": 3}, "t": 1, "\x1b": [1]})
    found = compared(left, right)
    assert found.equal
    assert found.public == [("\x1b", None, [1]), ("shape.E", 2, 3), ("t", True, 1)]
    assert main(["diff", str(left), str(right)]) == 0
    told = capsys.readouterr().out
    assert "shape.E: 2 | 3" in told.replace('"', "") and "\x1b" not in told


def test_many_changes_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = keep(tmp_path / "a.secmoe", list(RUN.messages)), keep(tmp_path / "b.secmoe", [])
    assert main(["diff", str(left), str(right)]) == 1
    told = capsys.readouterr().out
    assert f"DIFFERENT: {len(RUN.messages)} differences" in told and "more; --json gives all" in told
    assert main(["diff", str(left), str(right), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["changes"]) == len(RUN.messages)


def test_bad_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = keep(tmp_path / "a.secmoe", list(RUN.messages))
    (tmp_path / "text.secmoe").write_text("no transcript")
    for right in ("text.secmoe", "nothing.secmoe"):
        assert main(["diff", str(left), str(tmp_path / right)]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1
