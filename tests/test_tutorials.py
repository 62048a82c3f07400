"""The tutorials are true: every block is executed, in order, in an empty folder, and its output compared.

Blocks: `console` (commands of the testbed after `$`, with their output), `python file=PATH` (written to that file),
`python` (executed, one namespace per tutorial), `text` (what the block before printed). `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secmoe.cli import main
from secmoe.declared import imported

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
CPU_SECONDS = 60.0


class Differs(AssertionError):
    """A tutorial says something else than what happens."""


def compare(want: str, got: str) -> None:
    """Raises Differs unless `got` is `want`, but for white space and `...`."""
    if not doctest.OutputChecker().check_output(want, got, FLAGS):
        raise Differs(f"the tutorial says\n{want}\nbut it prints\n{got}")


def run(text: str, folder: Path) -> int:
    """Execute a tutorial with `folder` as the working directory; returns the number of outputs compared."""
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    printed: str | None = None
    compared = 0
    for kind, file, body in BLOCK.findall(text):
        if kind == "console":
            compared += console(body)
        elif kind == "python" and file:
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(body, encoding="utf-8")
        elif kind == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(body, "tutorial", "exec"), namespace)
            printed = output.getvalue()
        elif kind == "text":
            compare(body, printed if printed is not None else "nothing was run")
            compared, printed = compared + 1, None
        else:
            raise Differs(f"a block of kind {kind!r}: expected console, python or text")
    if printed:
        raise Differs(f"printed and not shown: {printed}")
    return compared


def console(body: str) -> int:
    """Run each command after `$` and compare what it prints."""
    parts = re.split(r"^\$ (.*)\n", body, flags=re.MULTILINE)
    for command, want in zip(parts[1::2], parts[2::2], strict=True):
        program, *arguments = shlex.split(command)
        assert program == "secmoe"
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            main(arguments)
        compare(want, output.getvalue())
    return len(parts) // 2


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory that modules can be imported from; nothing imported there stays."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    imported.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial(tutorial: Path, empty: Path) -> None:
    start = time.process_time()
    assert run(tutorial.read_text(encoding="utf-8"), empty) >= 2
    assert time.process_time() - start < CPU_SECONDS


def test_there_are_three() -> None:
    assert len(TUTORIALS) == 3


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(2)\n```\n```text\n3\n```\n",
        "```python\nprint(2)\n```\n",
        "```text\n3\n```\n",
        "```console\n$ secmoe new lambda\nwritten: ...\n```\n",
        "```sh\nls\n```\n",
    ],
)
def test_a_wrong_output_is_noticed(text: str, empty: Path) -> None:
    with pytest.raises(Differs):
        run(text, empty)


def test_the_references_of_a_tutorial_are_the_readme_s() -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    tags = {tag for path in TUTORIALS for tag in re.findall(r"\[([A-Z]\w{3,})\]", path.read_text(encoding="utf-8"))}
    assert {"SIRNN", "SecMoE", "CrypTFlow2"} <= tags
    assert all(f"**[{tag}]**" in readme for tag in tags)
