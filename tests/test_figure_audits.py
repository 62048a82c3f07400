"""The figure of audits: kept command by command, resumed, merged with rows of before, and told in the tool's words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.catalog import CATALOG
from secmoe.checked import VERDICTS
from secmoe.figures import __main__ as command
from secmoe.figures.apart import aparts, joined
from secmoe.figures.audits import CAMPAIGNS, COMMANDS, NAME, audits_section, read_audit
from secmoe.figures.kept import FOLDER, Figure, read_figures
from secmoe.options import command_line
from transcripts.verdicts import DECLARED, INCONCLUSIVE, NO_LEAK

DOCS = Path(__file__).parents[1] / "docs"
FIRST, SECOND = COMMANDS[:2]
LEAKY = {"label": "reveal", "feature": "bit 3", "comparison": "A-B", "effect": 1.5}


def verdict(kind: str = NO_LEAK, **others: Any) -> dict[str, Any]:
    """What `secmoe audit --json` prints of one experiment, in part."""
    told = {"verdict": kind, "protocol": "p", "case": "c", "corrupted": "client", "secret": "1 weight", "advice": ""}
    told |= {"model": "hybrid", "runs": 2000, "words": {"looked_at": 7, "of": 7}, "detectable_sd": 0.2, "power": None}
    return {**told, "null_alarm": False, "leak": None, "line": "left out", **others}


def printed(*verdicts: dict[str, Any], sessions: dict[str, Any] | None = None) -> str:
    told = {"family": 1234, "level": 1e-3, "null": {"alarms": 0, "audits": len(verdicts)}, "verdicts": verdicts}
    return json.dumps({**told, "sessions": sessions or {}, "without_secret": []})


def measured(of: str, *verdicts: dict[str, Any], made: str = "2026-01-01 00:00", **others: Any) -> Figure:
    return Figure(NAME, (of,), "a machine", made, 0.5, (read_audit(printed(*verdicts, **others)),))


def page(figure: Figure | None) -> str:
    return "\n\n".join(audits_section(figure))


# -- which audits --------------------------------------------------------------------------------------------------
def test_every_command_is_one_that_the_tool_takes() -> None:
    names = {entry.name for entry in CATALOG}
    for text in COMMANDS:
        options = command_line().parse_args(text.split()[1:])
        assert options.protocol in names and options.runs % 4 == 0
    assert len(set(COMMANDS)) == 2 * len(CAMPAIGNS)


def test_what_is_kept_was_run_by_a_command_of_now() -> None:
    """Verdict, protocol, model and number of runs are those of the command they stand under."""
    for audit in aparts(read_figures(DOCS / FOLDER)[NAME]):
        assert audit.command in COMMANDS
        options = command_line().parse_args(audit.command.split()[1:])
        for row in audit.found["verdicts"]:
            told = (row["protocol"], row["model"], row["runs"])
            assert told == (options.protocol, options.model, options.runs) and row["verdict"] in VERDICTS
            assert (row["power"] is None) >= options.no_power


# -- merging -------------------------------------------------------------------------------------------------------
def test_a_measured_command_replaces_its_own_part_only() -> None:
    one = joined(None, measured(SECOND, verdict()), "old", COMMANDS)
    both = joined(one, measured(FIRST, verdict(DECLARED)), "new", COMMANDS)
    assert both.commands == (FIRST, SECOND) and [audit.source for audit in aparts(both)] == ["new", "old"]
    again = joined(both, measured(SECOND, verdict(INCONCLUSIVE), made="2026-02-01 00:00"), "newer", COMMANDS)
    first, second = aparts(again)
    assert first == aparts(both)[0] and again.made == second.made == "2026-02-01 00:00"
    assert second.found["verdicts"][0]["verdict"] == INCONCLUSIVE and second.source == "newer"


def test_a_command_of_before_leaves_nothing() -> None:
    old = joined(None, measured("secmoe audit gone", verdict()), "old", ("secmoe audit gone",))
    assert joined(old, measured(FIRST, verdict()), "new", COMMANDS).commands == (FIRST,)


# -- the program ---------------------------------------------------------------------------------------------------
def run_with(
    monkeypatch: pytest.MonkeyPatch, folder: Path, status: int, *words: str, text: str = printed(verdict())
) -> list[list[str]]:
    """Runs the program with an audit that prints one verdict, or this text; the commands it was asked for."""
    asked = []

    def run(arguments: Sequence[Any], **_: Any) -> subprocess.CompletedProcess[bytes]:
        asked.append([str(word) for word in arguments[1:]])
        return subprocess.CompletedProcess(arguments, status, text.encode())

    (folder / FOLDER).mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["figures", *words, "--into", str(folder / FOLDER)])
    command.main()
    return asked


@pytest.mark.parametrize("status", [0, 1])
def test_each_audit_is_kept_as_it_ends(status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also one whose verdict is a leak; with a file from which it resumes."""
    asked = run_with(monkeypatch, tmp_path, status, NAME, "--only", "look_up")
    own = [text for text in COMMANDS if " look_up " in text]
    quiet = ["--json", "--workers", "1", "--store", str(tmp_path / "runs" / "audits.sqlite")]
    assert asked == [[*text.split()[1:], *quiet] for text in own]
    assert read_figures(tmp_path / FOLDER)[NAME].commands == tuple(own)
    (real,) = run_with(monkeypatch, tmp_path, status, NAME, "--only", "scatter", "real")
    assert "real" in real and len(read_figures(tmp_path / FOLDER)[NAME].commands) == 3


def test_an_audit_that_failed_ends_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected status 0, got 2"):
        run_with(monkeypatch, tmp_path, 2, NAME)
    with pytest.raises(SystemExit, match="expected figures, got b'LEAK: it branches'"):
        run_with(monkeypatch, tmp_path, 1, NAME, text="LEAK: it branches")
    assert read_figures(tmp_path / FOLDER) == {}


@pytest.mark.parametrize("words", [("capacity", "--only", "real"), (NAME, "--only", "nothing"), ("--only", "real")])
def test_only_is_for_commands_that_are_kept_apart(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_with(monkeypatch, tmp_path, 0, *words)
    assert "--only" in capsys.readouterr().err.splitlines()[-1]


# -- the page ------------------------------------------------------------------------------------------------------
def test_the_table_has_the_words_of_the_tool() -> None:
    power, part = {"found": 6, "planted": 7}, {"looked_at": 1000, "of": 2000}
    figure = joined(
        None,
        measured(FIRST, verdict(DECLARED, leak=LEAKY), verdict(INCONCLUSIVE, power=power, words=part, advice="more")),
        "0123456789abcdef",
        COMMANDS,
    )
    text = page(figure)
    shown = "| p: c | client | 1 weight | hybrid | 2,000 |"
    assert f"{shown} LEAK (DECLARED) | every word | 0.2 | not measured | quiet | reveal, bit 3: effect 1.5 |" in text
    assert f"{shown} INCONCLUSIVE | 1,000 of 2,000 | 0.2 | 6 of 7 | quiet | more |" in text
    assert "no proof" in text and "whole session" not in text
    assert text.endswith(
        f"- By `{FIRST}`; 2026-01-01 00:00 UTC, a machine, load 0.5, source 0123456789ab. One family of 1,234 tests at "
        "level 0.001; 0 of 2 audits of a class against itself raised an alarm."
    )


def test_an_alarm_and_real_sessions_are_told() -> None:
    sessions = {"p: c": {"line": "NO LEAK FOUND: a real session", "findings": []}}
    text = page(joined(None, measured(SECOND, verdict(null_alarm=True), sessions=sessions), "0", COMMANDS))
    assert "| ALARM |" in text and "| p: c | NO LEAK FOUND: a real session |" in text


def test_what_was_not_audited_says_so() -> None:
    assert page(None) == "Not measured yet: `python -m secmoe.figures audits`."
    figure = measured(FIRST, verdict())
    assert SECOND not in page(joined(None, figure, "0", COMMANDS))
    assert page(joined(None, replace(figure, load=None), "0", COMMANDS)).count("load") == 0
