"""A figure: what some commands printed, with the machine and the time, as a file of JSON beside the page it is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secmoe.result_file import write_whole

Json = dict[str, Any]
FIELDS = ("commands", "machine", "made", "load", "results")
FOLDER = "figures"


class BadFigure(ValueError):
    """A file that holds no figure."""


@dataclass(frozen=True)
class Figure:
    """commands: as one types them. made: when, UTC. load: processes that wanted a processor as they began, None where
    that was not noted. results: what each command printed, one JSON value each."""

    name: str
    commands: tuple[str, ...]
    machine: str
    made: str
    load: float | None
    results: tuple[Any, ...]

    @property
    def told(self) -> str:
        """Where it comes from, one line."""
        commands = ", ".join(f"`{command}`" for command in self.commands)
        load = "" if self.load is None else f", load {self.load:.1f}"
        return f"By {commands}; {self.made} UTC, {self.machine}{load}."

    def write(self, folder: Path) -> Path:
        """Replaces the file of the same name."""
        path = folder / f"{self.name}.json"
        fields = {name: getattr(self, name) for name in FIELDS}
        write_whole(path, json.dumps(fields, indent=1) + "\n")
        return path


def read_figure(path: Path) -> Figure:
    """Inverse of `Figure.write`. BadFigure."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict) or fields.keys() != set(FIELDS):
            raise BadFigure(f"{path}: expected exactly {', '.join(FIELDS)}: run make reproduce")
        commands, results = tuple(map(str, fields["commands"])), tuple(fields["results"])
        machine, made = str(fields["machine"]), str(fields["made"])
        load = None if fields["load"] is None else float(fields["load"])
    except (OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, BadFigure):
            raise
        raise BadFigure(f"{path}: expected a figure: {error!r:.80}: run make reproduce") from error
    return Figure(path.stem, commands, machine, made, load, results)


def read_figures(folder: Path) -> dict[str, Figure]:
    """All of a folder by name; none where there is no folder. BadFigure."""
    return {path.stem: read_figure(path) for path in sorted(folder.glob("*.json"))}
