"""Places for new files: refused before any work is done for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path


def new_place(
    path: str | Path, suffixes: Sequence[str], stem: str, what: str, refuse: Callable[[str], Exception]
) -> Path:
    """The path as a place for a new file: one of the suffixes, nothing there yet, a folder that can be written to.

    stem: of a name to suggest. what: the kind of file, in words. refuse: makes the error that is raised, of a text.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        name = stem if path.name in ("", *suffixes) else path.stem
        ends = " or ".join(suffixes)
        raise refuse(f"{str(path)!r}: expected a file name that ends in {ends}, such as {name}{suffixes[0]}")
    if path.exists():
        raise refuse(f"{path}: the file exists and a {what} is never overwritten; choose another name")
    if not path.parent.is_dir():
        raise refuse(f"{path}: there is no folder {path.parent}; make it or choose another place")
    if not os.access(path.parent, os.W_OK):
        raise refuse(f"{path}: the folder {path.parent} is not writable; choose another place")
    return path
