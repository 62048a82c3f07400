"""The side-by-side script's own arithmetic: depth from a trace, rows, and the README's table. Its runs need SPU."""

from __future__ import annotations

import json
from pathlib import Path

from tools.side_by_side.depth import chain
from tools.side_by_side.table import OWN, PEER, table

ROOT = Path(__file__).resolve().parent.parent
ROWS = json.loads((ROOT / "docs" / "side_by_side.json").read_text())
FIELDS = {"operation", "form", "shape", "framework", "cpu_s", "wall_s", "bytes", "depth", "error"}


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
        assert row.keys() == FIELDS and row["framework"] in (OWN, PEER)
        assert row["cpu_s"] > 0 and row["bytes"] > 0 and 0 <= row["error"] < 2**-4
    ours = {(row["operation"], row["shape"]) for row in ROWS if row["framework"] == OWN}
    assert ours == {(row["operation"], row["shape"]) for row in ROWS if row["framework"] == PEER}


def test_the_table_of_the_readme_is_of_these_rows() -> None:
    assert table(ROWS) in (ROOT / "README.md").read_text()


def test_a_ratio_is_spus_figure_over_ours() -> None:
    def row(framework: str, cpu: float, depth: int) -> dict[str, object]:
        of = {"operation": "product", "shape": "1", "framework": framework, "form": "", "error": 0.0}
        return {**of, "cpu_s": cpu, "wall_s": 1.0, "bytes": 4_000_000, "depth": depth}

    (cells,) = (text.split(" | ") for text in table([row(PEER, 6.0, 9), row(OWN, 2.0, 4)]).splitlines()[2:])
    assert cells[2:5] == ["6", "2", "3"] and cells[8:10] == ["4", "4"] and cells[-2:] == ["9", "4 |"]
