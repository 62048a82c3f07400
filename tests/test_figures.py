"""The figures of README and docs: every table is made from what a command printed, and its exact parts hold now."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.encoder import encoder
from protocols.he.params import PARAM_SETS
from protocols.layer_plan import REASSOCIATED
from protocols.model.store import load_model
from protocols.model.tables import DEFAULT_TABLES
from secmoe import extension_benchmark
from secmoe.benchmarks import SUBJECTS, whole
from secmoe.figures import kept, tables
from secmoe.figures.console import console_block
from secmoe.figures.kept import BadFigure, Figure, read_figure, read_figures
from secmoe.figures.recipes import RECIPES
from secmoe.figures.tables import MARK, UnknownTable, rendered
from secmoe.large_benchmarks import EXTENSION, TABLES, measured
from secmoe.mapped_benchmark import Mapped
from secmoe.reproducing import pages
from secmoe.whole import ModelRun
from sim.cost import Cost
from sim.shapes import SHAPES
from sim.world import Session

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FIGURES = read_figures(DOCS / kept.FOLDER)
README = (ROOT / "README.md").read_text(encoding="utf-8")
AGAIN = "run make reproduce"
RENDER = "run secmoe reproduce docs --readme README.md"
FALSE = '{"commands": 1, "machine": "", "made": "", "load": 0, "results": 1}'
ONE = Figure("layers", ("secmoe bench",), "a machine", "2026-01-01 00:00", 0.5, ({"rows": []},))


def test_no_table_of_the_readme_is_typed() -> None:
    assert rendered(README, FIGURES) == README, RENDER
    assert sorted(mark["name"] for mark in MARK.finditer(README)) == sorted(tables.TABLES)


@pytest.mark.slow
def test_the_pages_are_what_the_command_writes() -> None:
    for name, text in pages(DOCS).items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, RENDER


# -- exact parts ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in TABLES if name in FIGURES])
def test_bytes_and_rounds_are_those_of_now(name: str) -> None:
    rows = FIGURES[name].results[0]["rows"]
    assert [row["name"] for row in rows] == [item.name for item in TABLES[name]], AGAIN
    for row, item in zip(rows, TABLES[name], strict=True):
        assert (row["bytes"], row["rounds"]) == (item.cost.nbytes, item.cost.rounds), f"{item.name}: {AGAIN}"


def test_bytes_of_the_runs_beside_predictions_are_those_of_now() -> None:
    rows = FIGURES["bench"].results[0]["runs"]
    assert [(row["name"], row["bytes"]) for row in rows] == [(s.name, s.cost.nbytes) for s in SUBJECTS], AGAIN


def model_cost(told: dict[str, Any]) -> tuple[Cost, Cost]:
    """Of a run of a whole model that `secmoe run --json` tells of: online and set-up."""
    config, params = load_model(told["model"]).config, PARAM_SETS[told["params"]]
    activation = DEFAULT_TABLES["gelu"].name
    run = ModelRun.of(config, told["tokens"], told["answer"], params, activation, REASSOCIATED)
    online = whole(encoder.declared(None, None, None, None, plan=run.plan))
    return online, Session(run.services(), backend=SHAPES).setup.cost


@pytest.mark.parametrize("told", FIGURES["models"].results, ids=FIGURES["models"].commands)
def test_whole_models_cost_what_they_cost_now(told: dict[str, Any]) -> None:
    (online, setup), sent = model_cost(told), told["bytes"]
    assert (sent["online"], sent["setup"]) == (online.nbytes, setup.nbytes), AGAIN
    assert told["rounds"] == online.rounds + setup.rounds, AGAIN


def test_the_run_that_is_shown_is_one_of_the_models() -> None:
    """The same command: its phases are the row's."""
    assert FIGURES["run"].commands[0] == FIGURES["models"].commands[0]
    lines, told = FIGURES["run"].results[0]["lines"], FIGURES["models"].results[0]
    (online,) = (line.split() for line in lines if line.startswith("online "))
    assert [int(word.replace(",", "")) for word in online[1:3]] == [
        told["bytes"]["client_to_server"] - setup_of(lines, 1),
        told["bytes"]["server_to_client"] - setup_of(lines, 2),
    ], AGAIN


def setup_of(lines: list[str], column: int) -> int:
    (found,) = (line.split() for line in lines if line.startswith("set-up "))
    return int(found[column].replace(",", ""))


def test_bits_of_an_extension_are_those_of_now() -> None:
    rows = FIGURES[EXTENSION].results[0]["rows"]
    assert {row["name"]: row["bytes_per_cot"] for row in rows} == extension_benchmark.nbytes(), AGAIN


# -- what would be noticed -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in tables.TABLES if name in FIGURES])
def test_a_typed_figure_is_noticed(name: str) -> None:
    start = README.index(f"<!-- table {name} -->")
    at = next(m.start() for m in re.finditer(r"\d", README[start:])) + start
    typed = f"{README[:at]}{(int(README[at]) + 1) % 10}{README[at + 1 :]}"
    assert rendered(typed, FIGURES) == README != typed


def test_another_number_of_bytes_is_another_table() -> None:
    figure = FIGURES["layers"]
    rows = [dict(row) for row in figure.results[0]["rows"]]
    rows[0]["bytes"] += 10_000
    assert rendered(README, {**FIGURES, "layers": replace(figure, results=({"rows": rows},))}) != README


def test_marks_without_a_table_are_refused() -> None:
    with pytest.raises(UnknownTable, match="table 'nothing': expected one of run, "):
        rendered("<!-- table nothing -->\n<!-- end -->", FIGURES)


def test_what_was_not_measured_says_so() -> None:
    told = "Not measured yet: `python -m secmoe.figures layers`."
    assert rendered("a\n<!-- table layers -->\n| 1 |\n<!-- end -->\nb", {}) == (
        f"a\n<!-- table layers -->\n{told}\n<!-- end -->\nb"
    )


def test_a_figure_is_kept_whole(tmp_path: Path) -> None:
    assert read_figure(ONE.write(tmp_path)) == ONE and read_figures(tmp_path) == {"layers": ONE}
    assert ONE.told == "By `secmoe bench`; 2026-01-01 00:00 UTC, a machine, load 0.5."
    assert replace(ONE, load=None).told.endswith("a machine.")


@pytest.mark.parametrize("text", ["{", "[]", "{}", FALSE])
def test_what_is_no_figure_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(BadFigure, match="run make reproduce"):
        read_figure(path)


@pytest.mark.slow
def test_a_mapped_layer_is_the_layer() -> None:
    """The weights of a file: the same words and bytes; memory is told."""
    row = measured(Mapped(16, 24, 4, 1))
    assert (row["bytes"], row["rounds"]) == (Mapped(16, 24, 4, 1).cost.nbytes, Mapped(16, 24, 4, 1).cost.rounds)
    assert row["cpu_s"] > row["of_it_server_s"] > 0 and row["of_it_ot"] < row["bytes"]


@pytest.mark.slow
def test_an_extension_is_held_against_its_functionality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension_benchmark, "TURNS", 1)
    rows = extension_benchmark.extension_rows()
    assert [row["name"] for row in rows] == ["SoftSpoken", "Ferret b10", "Ferret b11", "Ferret b12"]
    assert all(row["cots_per_s"] > 0 for row in rows)


def test_a_wrong_extension_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = extension_benchmark.extend_receiver

    def faulty(streams: Any, n: int) -> Any:
        d, choices, keys = whole(streams, n)
        return d, choices ^ 1, keys

    monkeypatch.setattr(extension_benchmark, "extend_receiver", faulty)
    with pytest.raises(extension_benchmark.WrongCots, match="not the functionality's"):
        extension_benchmark.extension_rows()


def test_recipes_make_the_figures_that_are_shown() -> None:
    assert set(RECIPES) | {"side-by-side", "kernels"} == set(tables.TABLES) | {"bench", "audits"}


# -- a run as a console shows it -----------------------------------------------------------------------------------
LINES = """\
CLASS spam, epsilon 2^-50.432
scope      calls  c->s bytes  s->c bytes  messages  rounds  client s  server s
attention      2       1,000           1         2       3     0.250    11.000
moe_layer      2          10           1         2       3     0.250     0.001
embed          1           7           1         2       3     0.250     0.001
truncate       1           7           1         2       3     0.250     0.001

scope           calls  c->s bytes  s->c bytes  messages  rounds  client s  server s
r1                  1           7           1         2       3     0.250     0.001
  encoder           1           7           1         2       3     0.250     0.001
    layer0          1           7           1         2       3     0.250     0.001
      attention     1           7           1         2       3     0.250     0.001
        mul         1           7           1         2       3     0.250     0.001
    layer1          1           7           1         2       3     0.250     0.001
"""
SHOWN = """\
```
$ make run
CLASS spam, epsilon 2^-50.432
scope      calls  c->s bytes  s->c bytes  messages  rounds  client s  server s
attention      2       1,000           1         2       3       ...       ...
moe_layer      2          10           1         2       3       ...       ...
...

scope           calls  c->s bytes  s->c bytes  messages  rounds  client s  server s
r1                  1           7           1         2       3       ...       ...
  encoder           1           7           1         2       3       ...       ...
    layer0          1           7           1         2       3       ...       ...
      attention     1           7           1         2       3       ...       ...
        ...
```"""


def test_a_run_is_shown_without_times_and_most_scopes() -> None:
    assert console_block("make run", LINES.splitlines()) == SHOWN
    assert "..." in console_block("x", ["digest " + "0" * 64])
