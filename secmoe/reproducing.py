"""`secmoe reproduce`: write the reproduction page and its pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from secmoe.calibration import DEFAULT, read_calibration
from secmoe.exit import SUCCESS
from secmoe.reproduction import Reproduction
from secmoe.result_file import write_whole

PAGE = "reproduction.md"


class NoFolder(ValueError):
    """A place for the page that is no folder."""


def run_reproduce(options: argparse.Namespace) -> int:
    """Writes over what is there: the page is made anew, never edited."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise NoFolder(f"{folder}: expected a folder for the page, there is none; make it")
    given = options.calibration
    path = DEFAULT if given is None else Path(given)
    found = Reproduction(None if given is None and not DEFAULT.exists() else read_calibration(path))
    written = {PAGE: found.page} | found.pictures
    for name, text in written.items():
        write_whole(folder / name, text)
    names = [str(folder / name) for name in written]
    print(json.dumps({"written": names}) if options.json else "\n".join(names))
    return SUCCESS
