"""Measures the figures of the README, one by one or all that take minutes: `python -m secmoe.figures NAMES`."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from secmoe.calibration import machine
from secmoe.figures.kept import FOLDER, Figure
from secmoe.figures.recipes import RECIPES, Recipe

DEFAULT = Path("docs") / FOLDER


def measured(name: str, recipe: Recipe) -> Figure:
    """Runs the commands of a figure in an empty folder; one that fails ends the program with its status."""
    made, load = f"{datetime.now(UTC):%Y-%m-%d %H:%M}", os.getloadavg()[0]
    here = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for command in recipe.commands:
            print(command, file=sys.stderr, flush=True)
            program, *arguments = shlex.split(command)
            done = subprocess.run([here / program, *arguments, *recipe.quiet], cwd=folder, stdout=subprocess.PIPE)
            if done.returncode:
                sys.exit(f"{command}: expected status 0, got {done.returncode}; see its message above")
            results.append(recipe.read(done.stdout.decode()))
    return Figure(name, recipe.commands, machine(), made, load, tuple(results))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m secmoe.figures", description=__doc__)
    quick = [name for name, recipe in RECIPES.items() if not recipe.long]
    every = ", ".join(RECIPES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {every} (default: {' '.join(quick)})")
    parser.add_argument("--into", type=Path, default=DEFAULT, metavar="DIR", help=f"where they are kept ({DEFAULT})")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in RECIPES]
    if unknown:
        parser.error(f"figure {unknown[0]!r}: expected one of {every}")
    if not options.into.is_dir():
        parser.error(f"--into {options.into}: expected a folder, there is none")
    for name in options.names or quick:
        print(measured(name, RECIPES[name]).write(options.into))


if __name__ == "__main__":
    main()
