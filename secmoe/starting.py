"""`secmoe new NAME`: a protocol of your own, in a package of your own, green from the first `secmoe check`."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import keyword
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from secmoe.exit import SUCCESS
from transcripts.show import open_console

PROTOCOL = '''\
"""NAME: say here in one line what it computes."""

from __future__ import annotations

from secmoe.api import Case, Cost, Entry, Functionality, Party, Ring, RingArray, Secret, mul, protocol

# What is computed, on plain integers. The policy: all that a party may learn beside its own shares, here nothing.
FUNCTIONALITY = Functionality("x y + x", lambda x, y: x * y + x, leaks_client=(), leaks_server=())


def closed_form(x: RingArray, y: RingArray) -> Cost:
    """The cost, from shapes alone; it has to equal what is sent."""
    return mul.declared(x, y)


@protocol(realises=FUNCTIONALITY, cost=closed_form)
async def NAME(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """Shares of x y + x. x, y: shares over one ring, of one shape. Both parties run this text, each on its own shares.

    `await` means "I talk"; everything else is local.
    """
    product = await mul(p, x, y)
    return product + x


# Example calls: ring, shape, owner (none: shared) and range (none: all words) of each secret.
WORD = Secret(Ring(64), (2,))
entry = Entry(NAME, (Case("64 bits", (WORD, WORD)),))
'''

TEST = '''\
"""Every check of NAME as a test: run pytest here."""

from secmoe.pytest_plugin import checks

test_NAME = checks("NAME.NAME:NAME")
'''

FILES: Mapping[str, str] = {"__init__.py": "", "NAME.py": PROTOCOL, "test_NAME.py": TEST}
NAME = "NAME"


class BadName(ValueError):
    """A name that a package and a protocol cannot both have."""


class BadPlace(ValueError):
    """A place where no new package can be written."""


def start(name: str, into: Path) -> list[Path]:
    """Write the package; returns its files. All or nothing; nothing is overwritten. Raises BadName, BadPlace."""
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name) or name.startswith("_"):
        raise BadName(f"expected a name that Python can import, such as my_protocol, got {name!r}")
    if not into.is_dir():
        raise BadPlace(f"--into: there is no folder {into}; make it or choose another place")
    folder = into / name
    if folder.exists() or folder.with_suffix(".py").exists():
        raise BadPlace(f"{folder}: it exists, and nothing is overwritten; choose another name")
    if name in _bound(PROTOCOL) or importlib.util.find_spec(name) is not None:
        raise BadName(f"{name!r} is a name that Python or the starter has already; choose another, such as my_{name}")
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=into))
    try:
        for file, text in FILES.items():
            (temporary / file.replace(NAME, name)).write_text(text.replace(NAME, name), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return [folder / file.replace(NAME, name) for file in FILES]


def _bound(source: str) -> set[str]:
    """The names that a text imports, assigns or takes as arguments."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def run_new(options: argparse.Namespace) -> int:
    """The command: says what was written and what to do next."""
    into = Path(options.into)
    files = start(options.name, into)
    checked = f"secmoe check {options.name}.{options.name}:{options.name}"
    there = "" if into.resolve() == Path.cwd() else f"cd {shlex.quote(str(into))} && "
    if options.json:
        print(json.dumps({"files": [str(file) for file in files], "next": f"{there}{checked}"}))
        return SUCCESS
    console = open_console()
    for file in files:
        console.print(Text(f"written: {file}"), soft_wrap=True)
    console.print(Text(f"next: {there}{checked}"), soft_wrap=True)
    return SUCCESS
