"""`secmoe catalog`: every protocol with its functionality, declared leakage, source, price and status."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from protocols.catalog import CATALOG
from protocols.entry import Entry
from secmoe.exit import SUCCESS
from transcripts.show import open_console


def catalog(options: argparse.Namespace) -> int:
    """Rounds and bytes are those of the row's first example case."""
    rows = [entry_row(entry) for entry in CATALOG]
    if options.json:
        print(json.dumps(rows))
        return SUCCESS
    table = Table(box=None, pad_edge=False)
    for title in ("protocol", "functionality", "leaks", "source", "example", "rounds", "bytes", "status"):
        justify: JustifyMethod = "right" if title in ("rounds", "bytes") else "left"
        narrow = title in ("protocol", "rounds", "bytes", "status")
        table.add_column(title, justify=justify, no_wrap=narrow, overflow="fold")
    for row in rows:
        leaks = "; ".join(f"{who}: {', '.join(what)}" for who, what in row["declared_leakage"].items() if what)
        cells = (row["name"], row["functionality"], leaks or "-", row["source"] or "-", row["example"])
        table.add_row(*(Text(cell) for cell in cells), str(row["rounds"]), f"{row['bytes']:,}", row["status"])
    open_console().print(table)
    return SUCCESS


def entry_row(entry: Entry) -> dict[str, Any]:
    """One catalog row as JSON values."""
    example, cost = entry.example()
    return {
        "name": entry.name,
        "functionality": entry.realises.name,
        "declared_leakage": {"client": list(entry.realises.leaks_client), "server": list(entry.realises.leaks_server)},
        "leaks_route": entry.realises.leaks_route,
        "source": entry.proto.cites,
        "example": example,
        "rounds": cost.rounds,
        "bytes": cost.nbytes,
        "messages": cost.messages,
        "cots": {"client": cost.cot_client, "server": cost.cot_server},
        "status": entry.status,
    }
