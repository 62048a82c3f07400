"""Figures of hours, command by command: what each printed is dated and kept beside that of the others, as it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from secmoe.figures.kept import Figure

SHOWN = 12  # digits of a source's digest


@dataclass(frozen=True)
class Apart:
    """One command's part of a figure. source: digest of the program that ran (`secmoe report` shows it too)."""

    command: str
    machine: str
    made: str
    load: float | None
    source: str
    found: Any

    @property
    def told(self) -> str:
        """Where it comes from, one line."""
        figure = Figure("", (self.command,), self.machine, self.made, self.load, ())
        return f"{figure.told[:-1]}, source {self.source[:SHOWN]}."


def aparts(figure: Figure) -> list[Apart]:
    """The parts of a figure that `joined` made."""
    return [Apart(command, **result) for command, result in zip(figure.commands, figure.results, strict=True)]


def joined(kept: Figure | None, measured: Figure, source: str, order: Sequence[str]) -> Figure:
    """The kept parts with those of a figure just measured, in the order of the recipe's commands; of a command that is
    no longer one of them nothing stays. Machine, time and load are those of the last."""
    parts = {} if kept is None else dict(zip(kept.commands, kept.results, strict=True))
    for command, found in zip(measured.commands, measured.results, strict=True):
        part = asdict(Apart(command, measured.machine, measured.made, measured.load, source, found))
        del part["command"]
        parts[command] = part
    commands = tuple(command for command in order if command in parts)
    return replace(measured, commands=commands, results=tuple(parts[command] for command in commands))
