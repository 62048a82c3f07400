"""Costs of protocols side by side, from closed forms: at any size, without running anything."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from sim.cost import Cost

TITLES = ("bytes to server", "bytes to client", "messages", "rounds", "COTs")


def cost_table(rows: Mapping[str, Cost]) -> str:
    """A table of costs by name, as text. COTs: correlated transfers of both directions, whose own traffic (0.7 to 15
    bits each, by the extension used) is not in the bytes."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for title in TITLES:
        table.add_column(title, justify="right")
    for name, cost in rows.items():
        figures = (cost.c2s, cost.s2c, cost.messages, cost.rounds, cost.cot_client + cost.cot_server)
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    console = Console(width=120, color_system=None)
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines())
