"""The command `secmoe attack`: bad input, exit status, figures, picture and page."""

from __future__ import annotations

import base64
import hashlib
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from secmoe.attacking import to_json
from secmoe.cli import main
from tests.test_page import Elements, policy_of
from transcripts.attack import Answered, Score
from transcripts.attack_page import attack_page
from transcripts.attack_plot import plot
from transcripts.attack_runs import Choice, Plan, Report, Row
from transcripts.ordinary import HYBRID


def small_report(model: str = "digits") -> Report:
    leak, chance = Score(450, 500), Score(50, 500)
    rows = [
        Row(name, q, HYBRID, Answered(chance if name == "secmoe" else leak, (("sum a + b, bits", 4),)), "", True)
        for name in ("plaintext-routing", "secmoe", "planted")
        for q in ("label", "token")
    ]
    controls = {"label": chance, "token": chance}
    return Report(
        Plan(model, 120, 600, 500, 0, "1"), Choice(1, (chance, leak)), 0, controls, dict(controls), tuple(rows)
    )


@pytest.mark.parametrize("model", ["digits", '<script>alert("&")</script>'])
def test_the_plot_is_one_document_with_every_figure(model: str) -> None:
    root = ElementTree.fromstring(plot(small_report(model)))
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert len(titles) == 10 and sum("0.900" in title for title in titles) == 4
    assert model in (root.get("aria-label") or "") and not list(root.iter(f"{space}script"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs", "10"], "--runs: expected at least 40, got 10"),
        (["--runs", "1198"], "--runs: expected at most 1197"),
        (["--real", "241"], "--real: expected at most 240"),
        (["--html", "page.txt"], "expected a file name that ends in .html"),
        (["--plot", "picture.png"], "expected a file name that ends in .svg"),
        (["--plot", "/nowhere/at/all/a.svg"], "there is no folder"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize("holds", [True, False])
def test_the_exit_status_says_whether_it_came_as_claimed(
    holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = small_report()
    said = replace(said, rows=(replace(said.rows[0], holds=holds), *said.rows[1:]))
    monkeypatch.setattr("secmoe.attacking.run", lambda plan, bench: said)
    page = tmp_path / "a.html"
    files = ["--plot", str(tmp_path / "a.svg"), "--html", str(page)]
    assert main(["attack", "--workers", "1", *files]) == (0 if holds else 1)
    assert ("NOT AS CLAIMED" in capsys.readouterr().out) == (not holds) and (tmp_path / "a.svg").is_file()
    assert ("NOT AS CLAIMED" in page.read_text()) == (not holds)
    assert "secmoe attack --model digits --runs 480 --real 15 --seed 1" in page.read_text()
    assert main(["attack", "--workers", "1", "--json"]) == (0 if holds else 1)
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] == holds and len(told["rows"]) == 6 and told["rows"][0]["model"] == HYBRID
    assert told["chosen_on"]["items"] == 120 and told["scored_on"] == {
        "items": 500,
        "drawn_from": 600,
        "unseen_by_the_model": 0,
    }


def test_the_page_is_the_table_and_the_picture_under_a_strict_policy() -> None:
    said = small_report("<script>alert(1)</script>")
    told = {**to_json(small_report()), "model": said.plan.model}
    elements = Elements(attack_page(said, told, "secmoe attack", {"installed": "0" * 64, "version": "0"}))
    digest = base64.b64encode(hashlib.sha256(elements.inline["style"][0].encode()).digest()).decode()
    assert policy_of(elements)["default-src"] == ["'none'"] and policy_of(elements)["style-src"] == [
        f"'sha256-{digest}'"
    ]
    assert len(elements.inline["style"]) == 1 and len(elements.inline["script"]) == 2
    for _, attributes in elements.tags:
        assert not attributes.keys() & {"src", "href", "style", "action", "srcset", "data"}
        assert not [name for name in attributes if name.startswith("on")]
    assert sum(tag == "svg" for tag, _ in elements.tags) == 1
    assert sum(a.get("scope") == "row" for _, a in elements.tags) == 6 + 4
    assert elements.text.count("0.900") >= 4 and said.plan.model in elements.text
