"""What a run of a whole model prints, as a document shows it: without times, and without most of the scopes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Calls, bytes each way, messages, rounds, seconds of both parties.
ROW = re.compile(r"(?P<indent> *)(?P<name>\S+) +(?:[\d,]+ +){5}\d+\.\d{3} +\d+\.\d{3}$")
SECONDS = re.compile(r"(?<![\d.^-])\d[\d,]*\.\d{3}(?!\d)")
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
STEP = 2  # blanks of indentation for each level of scopes
OPERATORS = 2  # of the first table, this many rows
PATHS = ("setup", "r1", "r1/pool", "r1/encoder", "r1/encoder/embed", "r1/encoder/layer0")
CHILDREN_OF = "r1/encoder/layer0"


def console_block(command: str, lines: Sequence[str]) -> str:
    """Markdown: a block with the command and what it printed; `...` stands for what is left out."""
    return "\n".join(["```", f"$ {command}", *_shown(lines), "```"])


def _shown(lines: Sequence[str]) -> Iterator[str]:
    path: list[str] = []
    tables, rows, leaving = 0, 0, False
    for line in lines:
        if line.startswith("scope "):
            tables, rows = tables + 1, 0
        row = ROW.match(line)
        if row is None:
            leaving = False
            yield DIGEST.sub("...", SECONDS.sub(_dots, line))
            continue
        rows += 1
        path = [*path[: len(row["indent"]) // STEP], row["name"]]
        kept = rows <= OPERATORS if tables == 1 else "/".join(path) in PATHS or "/".join(path[:-1]) == CHILDREN_OF
        if kept:
            yield SECONDS.sub(_dots, line)
        elif not leaving:
            yield f"{row['indent']}..."
        leaving = not kept


def _dots(seconds: re.Match[str]) -> str:
    return "...".rjust(len(seconds[0]))
