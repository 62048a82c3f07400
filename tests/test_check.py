"""`secmoe check`: for every check a protocol that it must refuse, and one that nothing refuses."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry, Secret
from secmoe.checking import CHECKS, RUNS, Checked, UnknownCheck, check, outcomes, page, subject_of
from secmoe.checks.outcome import HOLDING, Outcome
from secmoe.checks.tiny import LONGEST, WIDTHS, instances, shrunk
from secmoe.cli import main
from secmoe.declared import GUESSED_RING, declaration, imported, target
from secmoe.options import command_line
from sim.ring import Ring
from tests import own_protocols

MODULE = own_protocols.__name__
COLUMNS = list(CHECKS)
SLOW = ("isolation", "audit, hybrid", "audit, real")

DECLARED = ("DECLARED", "DECLARED", "LEAK (DECLARED)", "LISTED")
# Verdicts in the order of the columns; "-" is not looked at here.
MATRIX: dict[str, tuple[str, ...]] = {
    "maximum": ("TESTED",) * 4 + ("PROVED",) * 4 + ("NO LEAK FOUND",) * 2,
    "hasty": ("TESTED", "FAILED", "TESTED", "TESTED", "LEAK", "PROVED", "LEAK", "LEAK", "LEAK", "LEAK"),
    "off_by_one": ("FAILED", "TESTED", "-", "TESTED", "LISTED", "REFUTED", "PROVED", "PROVED", "-", "-"),
    "noisy": ("TESTED", "TESTED", "FAILED", "FAILED", "PROVED", "PROVED", "PROVED", "PROVED", "-", "LISTED"),
    "peeking": ("TESTED", "TESTED", "FAILED", "TESTED", "PROVED", "PROVED", "PROVED", "PROVED", "-", "LISTED"),
    "branching": ("FAILED", "BRANCH", "-", "BRANCH", "BRANCH", "BRANCH", "BRANCH", "BRANCH", "BRANCH", "BRANCH"),
    "looking": ("TESTED", "TESTED", "-", "TESTED", "LISTED", "FAILED", "SCHEDULE", "SCHEDULE", "-", "LISTED"),
    "raising": ("FAILED", "FAILED", "-", "FAILED", "LISTED", "FAILED", "FAILED", "FAILED", "FAILED", "FAILED"),
    "opening_entry": ("TESTED", "TESTED", "-", "TESTED", "DECLARED", "PROVED", *DECLARED),
}


def _marks(name: str, column: str) -> list[Any]:
    """Isolation takes two processes, each of which loads everything: by day what only isolation sees. A whole table
    below has the slow cells of what holds."""
    if (column == "isolation" and name != "peeking") or (column in SLOW and name == "maximum"):
        return [pytest.mark.nightly]
    return [pytest.mark.slow] if column in SLOW else []


CELLS = [
    pytest.param(name, column, verdict, id=f"{name}: {column}", marks=_marks(name, column))
    for name, row in MATRIX.items()
    for column, verdict in zip(COLUMNS, row, strict=True)
    if verdict != "-"
]


def outcome(name: str, column: str, runs: int = 400) -> Outcome:
    (found,) = outcomes(subject_of(f"{MODULE}:{name}", runs), [column])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "column", "verdict"), CELLS)
def test_matrix(name: str, column: str, verdict: str) -> None:
    found = outcome(name, column)
    assert (found.check, found.verdict) == (column, verdict), str(found)
    assert found.holds == (verdict in HOLDING)
    assert found.about
    if not found.holds:
        assert found.detail and found.advice
    if verdict == "LISTED":
        assert found.detail


def test_every_column_refuses_something() -> None:
    for i, column in enumerate(COLUMNS):
        assert any(row[i] not in (*HOLDING, "-") for row in MATRIX.values()), column


def test_a_failure_names_the_line_of_the_user_s_own_file() -> None:
    text = Path(own_protocols.__file__).read_text(encoding="utf-8").splitlines()
    line = next(i for i, code in enumerate(text, start=1) if "return x[7]" in code)
    for column in ("property", "cost", "private against client"):
        assert f"{own_protocols.__file__}:{line}: IndexError" in outcome("raising", column).detail


def test_a_falsified_example_is_small_and_says_what_was_expected() -> None:
    detail = outcome("off_by_one", "property").detail
    got = re.search(r"expected \[(-?\d+), (-?\d+)\], got \[(-?\d+), (-?\d+)\]", detail)
    assert got is not None, detail
    want, also, one, other = (int(v) for v in got.groups())
    assert (one - want, other - also) == (1, 1)
    assert "client's share" in detail


def test_what_fails_for_some_tapes_only_fails() -> None:
    found = outcome("tossing", "property")
    assert found.verdict == "FAILED" and "output 0: expected" in found.detail


def test_a_name_of_the_catalog_proves_nothing() -> None:
    assert outcome("mux_", "correct").verdict == "PROVED"


@pytest.mark.parametrize("name", ["branching", "looking"])
def test_a_refused_control_flow_has_its_line(name: str) -> None:
    assert f"{own_protocols.__file__}:" in outcome(name, "private against client").detail


def test_a_leak_names_message_line_and_secrets() -> None:
    detail = outcome("hasty", "private against server").detail
    assert "hasty/reveal/share" in detail and "protocols.sharing:" in detail and "probability" in detail


def test_a_wrong_price_names_the_figures() -> None:
    detail = outcome("hasty", "cost").detail
    assert re.search(r"messages: declared \d+, priced \d+", detail)


# -- what is asked for ------------------------------------------------------------------------------------------------
BAD = [
    (MODULE, "expected MODULE:PROTOCOL"),
    (f"{MODULE}:", "expected MODULE:PROTOCOL"),
    (f"{MODULE}:a b", "expected MODULE:PROTOCOL"),
    ("../x:y", "expected MODULE:PROTOCOL"),
    ("no_such_package.module:x", "there is no module no_such_package"),
    ("tests.no_such_module:x", "there is no module tests.no_such_module"),
    (f"{MODULE}:nothing", "nothing of this name; it has maximum, entry, hasty"),
    (f"{MODULE}:CONSTANT", "an object of type int"),
    (f"{MODULE}:opening", "several entries; name one of"),
    (f"{MODULE}:no_case", "its entry has no case"),
    (f"{MODULE}:of_private_words", "nothing says what 'x' is"),
]


@pytest.mark.parametrize(("what", "told"), BAD)
def test_bad_input_is_one_line(what: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", what]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and told in err, err


BROKEN_MODULES = [
    ("syntax_of_mine", "x = (", "syntax_of_mine.py:1: SyntaxError"),
    ("raises_of_mine", "\nraise KeyError('no key')", "raises_of_mine.py:2: KeyError: 'no key'"),
    ("exits_of_mine", "import sys\nsys.exit(3)", "exits_of_mine.py:2: SystemExit: 3"),
    ("imports_of_mine", "import no_such_thing", "imports_of_mine.py:1: ModuleNotFoundError"),
    ("names_of_mine", "from secmoe.api import no_such_name", "names_of_mine.py:1: ImportError"),
]


@pytest.mark.parametrize(("name", "text", "told"), BROKEN_MODULES)
def test_a_module_that_does_not_import(
    name: str, text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text(text)
    assert main(["check", f"{name}:x"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and told in err, err


def test_what_a_module_prints_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "chatty_of_mine.py").write_text("print('hello')")
    imported("chatty_of_mine")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize("runs", [0, 79])
def test_too_few_runs(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{MODULE}:maximum", "--runs", str(runs)]) == 2
    assert "expected at least 80" in capsys.readouterr().err


def test_without_hypothesis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "secmoe.checks.tested", raising=False)
    monkeypatch.delattr("secmoe.checks.tested", raising=False)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert main(["check", f"{MODULE}:maximum"]) == 2
    assert "needs hypothesis; install the extra" in capsys.readouterr().err


def test_the_default_of_the_option_is_that_of_the_function() -> None:
    assert command_line().parse_args(["check", "m:p"]).runs == RUNS


def test_an_unknown_check() -> None:
    with pytest.raises(UnknownCheck, match="property"):
        list(outcomes(subject_of(f"{MODULE}:maximum"), ["magic"]))


def test_an_entry_is_found_by_its_protocol() -> None:
    assert declaration(f"{MODULE}:maximum") is declaration(f"{MODULE}:entry") is own_protocols.entry
    case = own_protocols.entry.cases[0]
    assert target(f"{MODULE}:maximum", case).resolve() == (own_protocols.entry, case)


def test_a_protocol_of_the_catalog_has_its_row() -> None:
    assert declaration("protocols.convert:mux") is next(row for row in CATALOG if row.name == "mux")


def test_an_entry_is_guessed_from_the_signature() -> None:
    (case,) = declaration(f"{MODULE}:guessed").cases
    assert [s.ring for s in case.secrets] == [GUESSED_RING] and case.public == {"ring": GUESSED_RING}


# -- the table --------------------------------------------------------------------------------------------------------
def fake(verdict: str) -> Checked:
    rows = (Outcome("cost", "TESTED", "wire"), Outcome("correct", verdict, "<script>", "a & b", "next step", 1.5))
    return Checked("m:p", "f", rows)


@pytest.mark.parametrize(("verdict", "status"), [("PROVED", 0), ("LISTED", 0), ("LEAK", 1), ("LEAK (DECLARED)", 1)])
def test_exit_status_json_and_page(
    verdict: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secmoe.checking.check", lambda *_: fake(verdict))
    place = tmp_path / "table.html"
    assert main(["check", "m:p", "--json", "--html", str(place)]) == status
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"protocol", "functionality", "holds", "seconds", "checks"}
    assert set(told["checks"][1]) == {"check", "verdict", "about", "detail", "advice", "seconds", "holds"}
    assert (told["holds"], told["checks"][1]["verdict"]) == (status == 0, verdict)
    text = place.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text and "a &amp; b" in text and verdict in text and "script-src &#39;sha256-" in text
    assert f'class="verdict {"bad" if status else "good"}"' in text
    assert main(["check", "m:p", "--html", str(place)]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_the_table_says_what_fails_and_what_was_not_run() -> None:
    assert fake("LEAK").line == "m:p: 1 of 2 checks hold; NOT: correct"
    assert fake("LISTED").line == "m:p: 1 of 2 checks hold; listed, not run: correct"
    text = str(fake("LEAK"))
    assert "a & b" in text and "next: next step" in text and page(fake("LEAK")).count("<tr>") == 3


@pytest.mark.slow
def test_a_whole_table_in_a_minute() -> None:
    """Of computing: what else the machine does is not counted."""
    begun, before = list[str](), os.times()
    checked = check(f"{MODULE}:maximum", told=begun.append)
    assert checked.holds and [o.check for o in checked.outcomes] == COLUMNS == begun
    assert [o.verdict for o in checked.outcomes] == list(MATRIX["maximum"])
    assert sum(os.times()[:4]) - sum(before[:4]) < 60 and checked.seconds > 0


# -- tiny instances ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", [e for e in CATALOG if e.cases and not e.cases[0].plans], ids=lambda e: e.name)
def test_shrunk_cases_are_small(row: Entry) -> None:
    for width in WIDTHS:
        for longest in LONGEST:
            case = shrunk(row.cases[0], width, longest)
            for secret, was in zip(case.secrets, row.cases[0].secrets, strict=True):
                assert secret.ring.l == min(was.ring.l, width) and len(secret.shape) == len(was.shape)
                assert all(n <= longest for n in secret.shape)
                low, high = secret.range
                assert low <= high
                assert secret.ring.l == 1 or -secret.ring.modulus // 2 <= low
                assert secret.ring.l == 1 or high < secret.ring.modulus // 2


def test_public_arguments_shrink_with_the_secrets() -> None:
    public: dict[str, Any] = {"ring": Ring(64), "l": 64, "shape": (3, 4), "k": 64, "name": "x"}
    case = shrunk(Case("c", (Secret(Ring(64), (3, 4), None, -(1 << 61), 1 << 61),), public), 3, 2)
    assert case.public == {"ring": Ring(3), "l": 3, "shape": (1, 2), "k": 64, "name": "x"}
    assert case.secrets[0].range == (-1, 1)


def test_an_entry_s_own_tiny_calls_come_first() -> None:
    mine = Case("mine", (Secret(Ring(2), (1,)),))
    assert list(instances(Entry(own_protocols.maximum, own_protocols.entry.cases, tiny=(mine,)))) == [mine]
