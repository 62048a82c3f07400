"""Whole sessions beside an audit: at the default parameter set, what they tell, what their leaks do to a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from protocols.broken import FAULTS
from protocols.catalog import CATALOG
from protocols.he.packing import SelectPlan
from protocols.he.params import PARAM_SETS
from secmoe.cli import main
from secmoe.examining import DEFAULT_SET, Examination, examined, lines, moved, with_session
from transcripts.finding import exact, statistical
from transcripts.sessions import LATTICE, PARAMETERS, REUSE, Services, examine
from transcripts.targets import Target
from transcripts.verdicts import INCONCLUSIVE, LEAK, NO_LEAK, Verdict

TARGET = Target("linear", "8 to 5")


def examination(*hits: str) -> Examination:
    a_part = exact("a-part", "the a-part is known", 6, list(hits), "others")
    law = statistical("noise law", "noise is not uniform", 0, 1.0, "all", "little")
    reuse = exact("repeated blocks", "a block comes twice", 9, [], "values")
    return Examination(TARGET, "P64s", {LATTICE: [a_part, law], REUSE: [reuse], PARAMETERS: []})


def test_a_session_says_what_ran_on_how_much_and_what_did_not() -> None:
    quiet, loud = examination(), examination("r1/ct[0]")
    assert quiet.responses == 6 and quiet.untested == ["noise law"]
    assert quiet.ran == {LATTICE: ["a-part"], REUSE: ["repeated blocks"]}
    told = "a real session at P64s, 2 + 2 runs, 6 responses, 2 tests (lattice: a-part; reuse: repeated blocks; too few"
    assert str(quiet) == f"{NO_LEAK}: {told} values for noise law)"
    assert str(loud).startswith(f"{LEAK}: {told}") and not quiet.leaks and len(loud.leaks) == 1
    assert json.loads(json.dumps(loud.to_json()))["findings"][0]["where"] == "r1/ct[0]"
    assert len(list(lines({TARGET: quiet}))) == 1 and "r1/ct[0]" in list(lines({TARGET: loud}))[1]


def test_a_leak_of_the_session_is_a_leak_of_the_verdict() -> None:
    sampler: Any = SimpleNamespace(target=TARGET)
    clean = Verdict(NO_LEAK, sampler, "weights", 1, 1e-3, 0.5)
    assert with_session(clean, None) is clean and with_session(clean, examination()) is clean
    turned = with_session(clean, examination("r1/ct[0]", "r2/ct[0]"))
    assert turned.kind == LEAK and turned.leak is not None
    assert turned.leak.label == "r1/ct[0]" and turned.leak.feature == "lattice: the a-part is known"
    unsure = Verdict(INCONCLUSIVE, sampler, "weights", 1, 1e-3, 0.5)
    assert with_session(unsure, examination("r1/ct[0]")) is unsure


@pytest.mark.parametrize("entry", [e for e in CATALOG if any(c.plans for c in e.cases)], ids=lambda e: e.name)
def test_every_homomorphic_row_can_be_moved_to_the_default_set(entry: Any) -> None:
    for case in (case for case in entry.cases if case.plans):
        there = moved(case, PARAM_SETS[DEFAULT_SET])
        assert {plan.params.name for plan in there.plans} == {DEFAULT_SET}
        public = there.public.get("plan")
        if hasattr(public, "plans"):
            assert public.plans in (there.plans, ())  # a public table makes no product
        elif public is not None:
            assert (public,) == there.plans
        else:
            assert (there.public["up"], there.public["down"]) == there.plans
        selections = [plan for plan in there.plans if isinstance(plan, SelectPlan)]
        assert len({plan.operand("t") for plan in selections}) <= 1  # one upload serves them all


def test_weights_are_prepared_for_the_plan_that_serves_them() -> None:
    _, case = TARGET.resolve()
    there = moved(case, PARAM_SETS[DEFAULT_SET])
    assert there.prepare is not None and there.secrets == case.secrets
    matrix = np.zeros((5, 8), np.int64)
    plan, given = there.prepare(lambda plan, given: (plan, given), [matrix])
    assert plan == there.plans[0] and given is matrix


@pytest.mark.slow
def test_a_session_at_the_default_set_is_quiet_and_sees_a_missing_encryption_of_zero() -> None:
    found = examined(TARGET, "1", own_set=False)
    assert found is not None and found.params == DEFAULT_SET and not found.leaks and found.responses > 0
    assert examined(Target("mux", "64"), "1", own_set=False) is None
    fault = next(f for f in FAULTS if f.name == "zero_omitted")
    services: Services | None = fault.services
    assert services is not None
    case = moved(fault.entry.cases[0], PARAM_SETS[DEFAULT_SET])
    seen = examine(fault.entry, case, 2, "1", services, others=1)
    leaking = Examination(TARGET, DEFAULT_SET, seen).leaks
    assert {"a-part", "a-part law"} <= {finding.analyser for _, finding in leaking}


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "case"), [("crossing", "two of 2 by 3"), ("row_squares", "2 rows of 4")])
def test_a_session_without_weights(protocol: str, case: str) -> None:
    found = examined(Target(protocol, case), "words of both parties", False)
    assert found is not None and not found.leaks and found.params == DEFAULT_SET


@pytest.mark.slow
@pytest.mark.parametrize(("target", "responses"), [("one-hot", 2), ("rows", 0), ("two heads", 4)])
def test_a_session_of_a_block_with_words_that_the_server_adds(target: str, responses: int) -> None:
    """A public table leaves a plan without any product; products of several tokens have their outputs out of order."""
    found = examined(Target("attention" if target == "two heads" else "embed", target), "1", own_set=False)
    assert found is not None and not found.leaks and found.responses == responses


@pytest.mark.slow
def test_the_command_examines_a_session_beside_real_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secmoe.auditing.examined", lambda target, seed, own: examination("r1/ct[0]"))
    arguments = ["audit", "linear", "--runs", "80", "--no-power", "--workers", "1", "--json"]
    assert main(arguments) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sessions"][str(TARGET)]["responses"] == examination().responses
    (kept, *_) = [json.loads(path.read_text())["result"] for path in Path("runs/checked").glob("*-audit-*")]
    assert kept["session"]["params"] == "P64s"
    assert main([*arguments, "--model", "hybrid"]) == 1  # too few runs; and no session beside ideal encryption
    assert json.loads(capsys.readouterr().out)["sessions"] == {}
