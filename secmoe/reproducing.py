"""`secmoe reproduce`: write the reproduction page, its pictures and the tables of a README from the figures kept."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from secmoe.calibration import Calibration, calibration_from
from secmoe.exit import SUCCESS
from secmoe.figures.audits import NAME as AUDITS
from secmoe.figures.kept import FOLDER, read_figures
from secmoe.figures.tables import rendered
from secmoe.reproduction import Comparison, Reproduction
from secmoe.result_file import write_whole

PAGE, BENCH = "reproduction.md", "bench"


class NoFolder(ValueError):
    """A place for the page that is no folder."""


class NoReadme(ValueError):
    """A text that is to have its tables made anew, and is not there."""


class NoRuns(ValueError):
    """A figure that `secmoe bench --json` did not write."""


def run_reproduce(options: argparse.Namespace) -> int:
    """Writes over what is there: the page is made anew, never edited; of the README only what stands between marks."""
    folder, readme = Path(options.folder), None if options.readme is None else Path(options.readme)
    if not folder.is_dir():
        raise NoFolder(f"{folder}: expected a folder for the page, there is none; make it")
    if readme is not None and not readme.is_file():
        raise NoReadme(f"--readme {readme}: expected a file with marked tables, there is none; give another")
    written = {folder / name: text for name, text in pages(folder).items()}
    if readme is not None:
        written[readme] = rendered(readme.read_text(encoding="utf-8"), read_figures(folder / FOLDER))
    for path, text in written.items():
        write_whole(path, text)
    names = [str(path) for path in written]
    print(json.dumps({"written": names}) if options.json else "\n".join(names))
    return SUCCESS


def pages(folder: Path) -> dict[str, str]:
    """The page and its pictures by file name; timed where the folder keeps what `secmoe bench` measured."""
    figures = read_figures(folder / FOLDER)
    calibration, runs = _benched(folder, figures[BENCH].results[0]) if BENCH in figures else (None, ())
    found = Reproduction(calibration, runs, figures.get(AUDITS))
    return {PAGE: found.page} | found.pictures


def _benched(folder: Path, result: Any) -> tuple[Calibration, tuple[Comparison, ...]]:
    """What `secmoe bench --json` printed. NoRuns, CalibrationFile."""
    told, names = f"{folder / FOLDER / BENCH}.json", [field.name for field in fields(Comparison)]
    try:
        rows = [[run[name] for name in names] for run in result["runs"]]
        runs = tuple(Comparison(str(name), *map(float, figures)) for name, *figures in rows)
        return calibration_from(result["calibration"], told), runs
    except (TypeError, KeyError) as error:
        raise NoRuns(f"{told}: expected what secmoe bench --json prints: {error!r:.80}: run make reproduce") from error
