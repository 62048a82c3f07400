"""The side-by-side script's own arithmetic: depth from a trace, rows, their table. Its runs need SPU."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocols.compare import drelu
from protocols.ot.lpn import B12
from secmoe.figures.kept import FOLDER, read_figure
from secmoe.figures.side_by_side import OWN, PEER, table
from sim.cost import Cost
from sim.ring import Spec
from sim.shapes import blank
from tools.side_by_side.depth import chain

ROOT = Path(__file__).resolve().parent.parent
ROWS = read_figure(ROOT / "docs" / FOLDER / "side-by-side.json").results[0]
FIELDS = {"operation", "form", "shape", "framework", "cpu_s", "wall_s", "bytes", "depth", "error"}
REFILLS = {"least_bytes", "runs", "refills"}  # of SPU's rows, and of ours beside the width of digits


def line(key: str, value: str = "") -> str:
    return f"[2026-01-01 00:00:00.000] [trace] [info] [logging.cc:40] [spu link] key=root:{key}, tag=t, value={value}"


def test_a_chain_goes_back_and_forth() -> None:
    there, back = line("P2P-1:0->1", "aa"), line("P2P-1:1->0", "bb")
    received, answered = line("P2P-1:0->1"), line("P2P-1:1->0")
    assert chain([]) == 0 and chain([there]) == 1
    assert chain([there, received, back, answered]) == 2
    assert chain([there, back]) == 1  # neither waited for the other
    assert chain([answered, there, received, back, line("P2P-2:0->1", "cc")]) == 3  # rank 0 had to wait for the answer


def test_a_swap_is_one_step_of_both() -> None:
    swap = [line("1:ALLGATHER", "aa"), line("1:ALLGATHER", "bb")]
    assert chain(swap) == 1 and chain(swap[:1]) == 0
    assert chain([*swap, line("P2P-1:0->1", "cc")]) == 2


def test_rows_are_complete_and_exact() -> None:
    for row in ROWS:
        assert row.keys() - REFILLS - {"digits"} == FIELDS and row["framework"] in (OWN, PEER)
        assert row["framework"] == OWN or row.keys() >= REFILLS
        assert row["cpu_s"] > 0 and row["bytes"] > 0 and 0 <= row["error"] < 2**-4
    ours = {(row["operation"], row["shape"]) for row in ROWS if row["framework"] == OWN}
    assert ours == {(row["operation"], row["shape"]) for row in ROWS if row["framework"] == PEER}


def row(framework: str, cpu: float, depth: int, **more: int) -> dict[str, object]:
    of = {"operation": "product", "shape": "1", "framework": framework, "form": "", "error": 0.0}
    return {**of, "cpu_s": cpu, "wall_s": 1.0, "bytes": 4_000_000, "depth": depth, **more}


def test_a_ratio_is_spus_figure_over_ours() -> None:
    spu = row(PEER, 6.0, 9, least_bytes=3_000_000, runs=7, refills=2)
    (line,) = table([spu, row(OWN, 2.0, 4)]).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:5] == ["6", "2", "3"] and cells[-2:] == ["9", "4"]
    assert cells[8:13] == ["4", "3", "7, 2", "4", "1"]
    told = table([spu, row(OWN, 2.0, 4, digits=2)])
    assert told.endswith("Ours with digits of 2 bits.")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our worker's module, which finds its own as the script starts it."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("side_by_side.own_worker")


@given(n=st.integers(1, 10 * B12.net), start=st.integers(0, 3 * B12.net))
@example(n=1, start=B12.reserve)
@example(n=B12.net, start=0)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_our_pools_leave_the_next_reserve_and_make_no_iteration_too_many(own: Any, n: int, start: int) -> None:
    plan = own._plan(n, start)
    assert plan.left >= B12.reserve and set(plan.iterations) <= {B12}
    assert plan.soft == (max(B12.reserve - start, 0) if plan.iterations else 0)
    assert not plan.iterations or plan.left - B12.net < B12.reserve


def test_our_bytes_are_shared_by_the_ots_that_are_taken(own: Any) -> None:
    cost = Cost(c2s=100, s2c=10, cot_client=B12.net, cot_server=2 * B12.net)
    assert own.amortised(cost) == pytest.approx(110 + 3 * B12.nbytes)
    words = blank(Spec(own.RING, (own.LARGE,)))
    sent = {w: own.amortised(drelu.declared(words, w=w)) for w in own.WIDTHS}
    assert own.best_digits() in sent and sent[own.best_digits()] == min(sent.values())


@pytest.mark.slow
def test_our_worker_measures_a_case(own: Any) -> None:
    """Exact by its own comparison; its bytes are the closed form's."""
    case = own.CASES[4]
    row = own.measured(case, 2)
    cost = own.argmax.declared(blank(Spec(own.RING, case.sizes)), w=2)
    assert row["bytes"] == pytest.approx(own.amortised(cost)) and row["least_bytes"] == cost.nbytes
    assert (row["depth"], row["refills"], row["digits"]) == (cost.rounds, 0, 2) and row["cpu_s"] > 0
