"""`secmoe reproduce`: write the reproduction page and its pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

from secmoe.calibration import DEFAULT, read_calibration
from secmoe.exit import SUCCESS
from secmoe.reproduction import Comparison, Reproduction
from secmoe.result_file import write_whole

PAGE = "reproduction.md"


class NoFolder(ValueError):
    """A place for the page that is no folder."""


class NoRuns(ValueError):
    """A file that `secmoe bench --json` did not write."""


def run_reproduce(options: argparse.Namespace) -> int:
    """Writes over what is there: the page is made anew, never edited."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise NoFolder(f"{folder}: expected a folder for the page, there is none; make it")
    given = options.calibration
    path = DEFAULT if given is None else Path(given)
    calibration = None if given is None and not DEFAULT.exists() else read_calibration(path)
    found = Reproduction(calibration, () if options.runs is None else _runs(Path(options.runs)))
    written = {PAGE: found.page} | found.pictures
    for name, text in written.items():
        write_whole(folder / name, text)
    names = [str(folder / name) for name in written]
    print(json.dumps({"written": names}) if options.json else "\n".join(names))
    return SUCCESS


def _runs(path: Path) -> tuple[Comparison, ...]:
    """What `secmoe bench --json` printed. NoRuns."""
    names = [field.name for field in fields(Comparison)]
    try:
        rows = [[run[name] for name in names] for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
        return tuple(Comparison(str(name), *map(float, figures)) for name, *figures in rows)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise NoRuns(f"--runs {path}: expected what secmoe bench --json prints: {error!r:.80}") from error
