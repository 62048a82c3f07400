"""Measures the figures of the README, one by one or all that take minutes: `python -m secmoe.figures NAMES`."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from secmoe.calibration import machine
from secmoe.checked import installed
from secmoe.figures.apart import joined
from secmoe.figures.kept import FOLDER, Figure, read_figure
from secmoe.figures.recipes import RECIPES, Recipe
from secmoe.inputs import RUNS

DEFAULT = Path("docs") / FOLDER


def measured(name: str, recipe: Recipe, store: Path | None = None) -> Figure:
    """Runs the commands of a figure in an empty folder; one that fails ends the program with its status.

    store: where the commands keep what they have finished.
    """
    made, load = f"{datetime.now(UTC):%Y-%m-%d %H:%M}", os.getloadavg()[0]
    here = Path(sys.executable).parent
    quiet = recipe.quiet if store is None else (*recipe.quiet, "--store", str(store))
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for command in recipe.commands:
            print(command, file=sys.stderr, flush=True)
            program, *arguments = shlex.split(command)
            done = subprocess.run([here / program, *arguments, *quiet], cwd=folder, stdout=subprocess.PIPE)
            if done.returncode not in recipe.ends:
                sys.exit(f"{command}: expected status {recipe.ends[0]}, got {done.returncode}; see its message above")
            try:
                results.append(recipe.read(done.stdout.decode()))
            except (ValueError, KeyError) as error:
                sys.exit(f"{command}: expected figures, got {done.stdout[:60]!r} ({error!r:.60}): see above")
    return Figure(name, recipe.commands, machine(), made, load, tuple(results))


def gathered(name: str, recipe: Recipe, only: Sequence[str], into: Path) -> Path:
    """Measures the commands with all words of `only`, one by one, and writes the file after each."""
    path, store = into / f"{name}.json", RUNS.resolve() / f"{name}.sqlite"
    store.parent.mkdir(exist_ok=True)
    for command in chosen(recipe, only):
        source, figure = installed(), measured(name, replace(recipe, commands=(command,)), store)
        kept = read_figure(path) if path.exists() else None
        joined(kept, figure, source, recipe.commands).write(into)
    return path


def chosen(recipe: Recipe, only: Sequence[str]) -> list[str]:
    """The commands with all of these words."""
    return [command for command in recipe.commands if {*only} <= {*command.split()}]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m secmoe.figures", description=__doc__)
    quick = [name for name, recipe in RECIPES.items() if not recipe.long]
    every = ", ".join(RECIPES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {every} (default: {' '.join(quick)})")
    parser.add_argument("--into", type=Path, default=DEFAULT, metavar="DIR", help=f"where they are kept ({DEFAULT})")
    told = "of audits, only commands with these words, such as look_up or real; the other rows of the file stay"
    parser.add_argument("--only", nargs="+", default=(), metavar="WORD", help=told)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in RECIPES]
    if unknown:
        parser.error(f"figure {unknown[0]!r}: expected one of {every}")
    if not options.into.is_dir():
        parser.error(f"--into {options.into}: expected a folder, there is none")
    names = options.names or quick
    if options.only:
        _check_only(parser, names, options.only)
    for name in names:
        recipe = RECIPES[name]
        if recipe.apart:
            print(gathered(name, recipe, options.only, options.into))
        else:
            print(measured(name, recipe).write(options.into))


def _check_only(parser: argparse.ArgumentParser, names: Sequence[str], only: Sequence[str]) -> None:
    apart = [name for name, recipe in RECIPES.items() if recipe.apart]
    other = [name for name in names if name not in apart]
    if other:
        parser.error(f"--only: expected a figure that is kept command by command ({', '.join(apart)}), got {other[0]}")
    if not any(chosen(RECIPES[name], only) for name in names):
        parser.error(f"--only {' '.join(only)}: expected words of one of the commands, such as look_up or real")


if __name__ == "__main__":
    main()
