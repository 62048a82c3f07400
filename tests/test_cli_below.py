"""Faults below the interfaces from the command line's side: exit status, the lines, the JSON."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest

from protocols.broken import FAULTS
from secmoe.below import audit_below, fault_below
from secmoe.cli import main
from transcripts.finding import LEAK, NO_LEAK


def _options(as_json: bool, runs: int = 2) -> Namespace:
    return Namespace(runs=runs, seed=1, json=as_json)


def test_only_faults_below_the_interfaces_are_taken() -> None:
    assert fault_below(None) is None and fault_below("linear") is None
    assert fault_below("broken.mask_reused") is None and fault_below("broken.nothing") is None
    found = fault_below("broken.zero_omitted")
    assert found is not None and found.name == "zero_omitted"


def test_a_leak_is_told_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    fault = fault_below("broken.special_prime_uncounted")
    assert fault is not None and audit_below(fault, _options(False)) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("LEAK: broken.special_prime_uncounted") and "at most 218" in shown and "server" in shown


def test_the_json_has_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    fault = fault_below("broken.secret_binary")
    assert fault is not None and audit_below(fault, _options(True, runs=1)) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == LEAK and told["runs"] == 1
    verdicts = {row["analyser"]: row["verdict"] for row in told["findings"]}
    assert verdicts["secret law"] == LEAK and verdicts["parameters"] == NO_LEAK
    assert all(row["not_shown"] for row in told["findings"])


def test_a_text_is_no_fault_below_the_interfaces() -> None:
    fault = next(f for f in FAULTS if f.name == "mask_reused")
    with pytest.raises(TypeError, match="services of its own"):
        audit_below(fault, _options(False))


@pytest.mark.slow
def test_the_command_takes_such_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "broken.test_set_in_use", "--runs", "80", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == LEAK
    assert [r["analyser"] for r in told["findings"] if r["verdict"] == LEAK] == ["parameters"]
