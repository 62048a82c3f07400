"""`secmoe prove P --map` and `--graph FILE`: where the messages of a protocol come from, and what hides them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proofs.certificate import trace_case
from proofs.provenance import OPEN, MapRow, Provenance, dot, svg
from protocols.entry import Case, Entry
from secmoe.exit import FAILED, SUCCESS
from sim.role import CLIENT, Role
from transcripts.place import new_place
from transcripts.show import open_console

DRAWINGS = {".svg": svg, ".dot": dot}


class BadGraph(ValueError):
    """A drawing that cannot be made."""


def provenances(rows: list[tuple[Entry, Case]]) -> list[tuple[str, Role, Provenance]]:
    """Of every case and corrupted party: the run, as that party sees it."""
    found = []
    for entry, case in rows:
        run = trace_case(entry, case)
        found += [(f"{entry.name} ({case.name})", role, Provenance(run, role)) for role in Role]
    return found


def print_map(rows: list[tuple[Entry, Case]], as_json: bool) -> int:
    """Everything a corrupted party receives, with the masks that hide it. Exit 1 where something is open."""
    found = provenances(rows)
    maps = [(name, role, provenance.rows(), provenance.lints()) for name, role, provenance in found]
    if as_json:
        print(json.dumps([_json(*each) for each in maps]))
    else:
        console = open_console()
        for name, role, entries, lints in maps:
            _print(console, name, role, entries)
            for lint in lints:
                console.print(Text(f"  note: {lint.kind}: {lint.label} ({lint.line}): {lint.detail}"), soft_wrap=True)
    return FAILED if any(row.status == OPEN for _, _, entries, _ in maps for row in entries) else SUCCESS


def _print(console: Console, name: str, role: Role, rows: list[MapRow]) -> None:
    console.print(Text(f"{name}, corrupted {role.value}: what it receives", style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("message", "bytes", "status", "hidden by", "drawn at", "used at"):
        table.add_column(title, justify="right" if title == "bytes" else "left", overflow="fold")
    for row in rows:
        masks = [f"{m.owner}: {m.label}" for m in row.masks]
        drawn = sorted({m.line for m in row.masks})
        used = sorted({line for m in row.masks for line in m.consumers})
        cells = ("\n".join(masks[:3]) + _more(masks), "\n".join(drawn[:3]), "\n".join(used[:4]))
        table.add_row(Text(row.label), f"{row.nbytes:,}", Text(row.status), *(Text(cell) for cell in cells))
    console.print(table)


def _more(masks: list[str]) -> str:
    return f"\nand {len(masks) - 3} more" if len(masks) > 3 else ""


def _json(name: str, role: Role, rows: list[MapRow], lints: list[Any]) -> dict[str, Any]:
    def entry(row: MapRow) -> dict[str, Any]:
        masks = [{**vars(m), "consumers": list(m.consumers)} for m in row.masks]
        return {**vars(row), "masks": masks}

    return {
        "protocol": name,
        "corrupted": role.value,
        "messages": [entry(row) for row in rows],
        "lints": [vars(lint) for lint in lints],
    }


def write_graph(rows: list[tuple[Entry, Case]], options: argparse.Namespace) -> int:
    """Draw what a message is computed from: of the first case, `--message` or the first that the party receives."""
    path = new_place(options.graph, tuple(DRAWINGS), "graph", "drawing", BadGraph)
    entry, case = rows[0]
    role = Role(options.corrupted) if options.corrupted else CLIENT
    provenance = Provenance(trace_case(entry, case), role)
    if not provenance.view:
        raise BadGraph(f"{entry.name}: the {role.value} receives nothing; draw what its peer receives: --corrupted")
    label = options.message or provenance.view[0].label
    graph = provenance.graph(label)
    path.write_text(DRAWINGS[path.suffix](graph), encoding="utf-8")
    told = {"graph": str(path), "protocol": entry.name, "case": case.name, "corrupted": role.value, "message": label}
    if options.json:
        print(json.dumps({**told, "nodes": len(graph), "edges": graph.number_of_edges()}))
    else:
        what = f"{entry.name} ({case.name}), {label} as the {role.value} receives it"
        open_console().print(Text(f"{what}: {len(graph)} operations drawn in {path}"), soft_wrap=True)
    return SUCCESS
