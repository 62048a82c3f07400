"""The ledger of bounds as a whole: everything shipped holds, and nothing shipped is left out."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from proofs.limits import Bound, limits
from proofs.limits.ledger import MODEL_NORMS, SOFTMAX_ERRORS
from protocols.he.params import PARAM_SETS
from protocols.model.store import known_models
from protocols.model.tables import TABLES
from secmoe.cli import main

NORMALISING = 2 * 2 + 2 * len(MODEL_NORMS) + len(SOFTMAX_ERRORS)
SHAPES = 4 + len(known_models())  # published and of the shipped models


def check(rows: list[Bound]) -> None:
    broken = [row for row in rows if not row.holds]
    assert not broken, broken
    assert all(row.statement and row.method and row.subject for row in rows)
    assert len({(row.name, row.subject) for row in rows}) == len(rows)


@pytest.mark.slow
def test_the_quick_ledger_holds_and_is_complete_and_the_command_tells_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.perf_counter()
    rows = list(limits(quick=True))
    monkeypatch.setattr("secmoe.proving.limits", lambda: iter(rows))
    assert main(["prove", "--bounds", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["bounds"]
    assert [(one["verdict"], one["statement"]) for one in told] == [(row.verdict, row.statement) for row in rows]
    check(rows)
    counts = Counter(row.name for row in rows)
    refused = counts["shape"]
    assert refused == 2 * 3  # P64tiny and P32tiny hold the published shape with two experts only
    for name in ("plaintext modulus", "decryption", "flooding"):
        assert counts[name] == SHAPES * len(PARAM_SETS) - refused + len(known_models())  # whole ones at one set
    assert counts["security"] == len(PARAM_SETS) and counts["session"] == 1
    assert counts["range"] == 2 * (2 * len(known_models()) + 8)
    assert counts["approximation"] == 2 * 4 + NORMALISING + 2 * len(TABLES) and counts["truncation"] == 2
    assert sum(row.seconds for row in rows) <= time.perf_counter() - start
    for row in rows:
        if row.name == "decryption":
            assert float(row.verdict.removeprefix("BOUNDED(2^-").removesuffix(")")) > 80, row


@pytest.mark.nightly  # the quick one, and what tests/test_limits_approximation.py has row by row
def test_the_whole_ledger_holds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(limits())
    check(rows)
    assert main(["prove", "--bounds", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["bounds"]) == len(rows)
    assert Counter(row.name for row in rows)["approximation"] == 2 * 4 + NORMALISING + 4 * len(TABLES)
