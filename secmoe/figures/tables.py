"""The tables of the README, each made from a figure between two marks; nothing between them is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from secmoe.figures.attack import attack_table, evaluation_table
from secmoe.figures.console import console_block
from secmoe.figures.kept import Figure
from secmoe.figures.markdown import markdown_table
from secmoe.figures.side_by_side import table as side_by_side_table

MARK = re.compile(r"<!-- table (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
MEGA, GIBI = 1e6, 2**30
Row = Mapping[str, Any]


class UnknownTable(ValueError):
    """A mark of a table that nothing makes."""


def rendered(text: str, figures: Mapping[str, Figure]) -> str:
    """The text with every marked table made anew; one whose figure is not there says so. UnknownTable."""

    def made(mark: re.Match[str]) -> str:
        name = mark["name"]
        if name not in TABLES:
            raise UnknownTable(f"table {name!r}: expected one of {', '.join(TABLES)}; correct the mark")
        told = f"Not measured yet: `python -m secmoe.figures {name}`."
        if name in figures:
            told = f"{TABLES[name](figures[name])}\n\n{figures[name].told}"
        return f"<!-- table {name} -->\n{told}\n<!-- end -->"

    return MARK.sub(made, text)


def _real(columns: Mapping[str, Callable[[Row], str]]) -> Callable[[Figure], str]:
    """A table of real runs: what is run, CPU, bytes and rounds, then more columns."""

    def table(figure: Figure) -> str:
        head = ["d, f, experts, tokens", "CPU s, both parties", "of it server", "MB, both directions"]
        head += ["of it OT", "rounds", *columns]
        rows = figure.results[0]["rows"]
        return markdown_table(
            head,
            [
                [
                    row["name"],
                    f"{row['cpu_s']:.2f}",
                    f"{row['of_it_server_s']:.2f}",
                    f"{row['bytes'] / MEGA:.2f}",
                    f"{row['of_it_ot'] / MEGA:.2f}",
                    f"{row['rounds']:,}",
                    *(column(row) for column in columns.values()),
                ]
                for row in rows
            ],
        )

    return table


def _gibibytes(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else f"{row[name] / GIBI:.1f} GiB"


NETWORKS: Mapping[str, Callable[[Row], str]] = {
    "s on LAN": lambda row: f"{row['lan_s']:.2f}",
    "s on WAN": lambda row: f"{row['wan_s']:.2f}",
}
PEAK: Mapping[str, Callable[[Row], str]] = {"peak memory, both parties": _gibibytes("peak_bytes")}
MAPPED = {**PEAK, "of it in no file": _gibibytes("anonymous_bytes")}


def _extension(figure: Figure) -> str:
    rows = figure.results[0]["rows"]
    cells = [[row["name"], f"{row['cots_per_s'] / 1e6:.1f}", f"{8 * row['bytes_per_cot']:.2f}"] for row in rows]
    return markdown_table(["correlated OTs", "million per CPU s, both parties", "bits each"], cells)


def _kernels(figure: Figure) -> str:
    """The transform beside SEAL's, and comparisons by the width of their digits."""
    cells = []
    for row in figure.results[0]["rows"]:
        if "seal_us" in row:
            name = f"transform, N = {row['n']:,}, a prime"
            cells.append([name, f"{row['own_us']:.1f} us; SEAL {row['seal_us']:.0f} us: {row['ratio']:.1f} times"])
        elif "w" in row:
            bits = f"{row['bits_in_session']:.0f} bits each in a session, {row['bits_alone']:.0f} in one of its own"
            cells.append([f"sign of 65,536 words of 64 bits, {row['w']}-bit digits", bits])
    return markdown_table(["kernel", "measured"], cells)


def _models(figure: Figure) -> str:
    head = ["model", "tokens", "parameters", "CPU s", "of it server", "MB"]
    head += ["set-up MB", "rounds with set-up", "s on LAN with set-up"]
    rows = []
    for run in figure.results:
        cpu, sent = run["cpu_s"], run["bytes"]
        rows.append(
            [
                run["model"],
                str(run["tokens"]),
                run["params"],
                f"{cpu['client'] + cpu['server']:.1f}",
                f"{cpu['server']:.1f}",
                f"{sent['online'] / MEGA:.1f}",
                f"{sent['setup'] / MEGA:.1f}",
                f"{run['rounds']:,}",
                f"{run['lan_s']:.1f}",
            ]
        )
    return markdown_table(head, rows)


def _capacity(figure: Figure) -> str:
    factors = [name.removeprefix("dropped_capacity_") for name in figure.results[0] if name.startswith("dropped_")]
    head = ["model", "accuracy, nothing dropped", *(f"capacity {factor}: accuracy, dropped" for factor in factors)]
    rows = []
    for command, found in zip(figure.commands, figure.results, strict=True):
        cells = (f"{found[f'{what}_capacity_{factor}']:.1%}" for factor in factors for what in ("accuracy", "dropped"))
        pairs = [f"{accuracy}, {dropped}" for accuracy, dropped in zip(cells, cells, strict=True)]
        rows.append([command.split()[-2], f"{found['accuracy_undropped']:.1%}", *pairs])
    return markdown_table(head, rows)


TABLES: Mapping[str, Callable[[Figure], str]] = MappingProxyType(
    {
        "run": lambda figure: console_block("make run", figure.results[0]["lines"]),
        "layers": _real(NETWORKS),
        "blocks": _real(PEAK),
        "experts": _real(MAPPED),
        "extension": _extension,
        "kernels": _kernels,
        "models": _models,
        "evaluate": evaluation_table,
        "capacity": _capacity,
        "attack": attack_table,
        "side-by-side": lambda figure: side_by_side_table(figure.results[0]),
    }
)
