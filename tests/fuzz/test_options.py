"""Any command line: it works, or is refused in one line with exit status 2."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.command import subcommands, told, workshop
from tests.fuzz.mutations import TEXTS

MANY = 4000
FILES = (
    "run.secmoe", "good.json", "small.safetensors", "0.log", "1.log", "key", "folder", "empty", "long.json",
    "deep.json",
    "latin.json", "text.txt", "entity.txt", "fifo.json", "zero.json", "loop", "none", "none/none", "new.secmoe",
    "new.html",
    "new.svg", "new.json", "a\udcff.secmoe", "/dev/null", "/", ".", "~", "n" * 300, "n" * 300 + ".secmoe", "a\nb.html",
)  # fmt: skip
WORDS = (
    "mul", "mux", "broken.reveal_ties", "broken.", "hard.", "hard.none", ".x:y", ":", "a:", ":b", "os:path", "sms",
    "digits",
    "P64s", "P32", "2", "0", "80", "400", "8", "64", "9" * 18, "9" * 19, "999999999999", "65536", "0.1", "1e400",
    "-0", "r1",
    "r1/twice", "SELECT * FROM run", "SELECT 1; SELECT 2", "DELETE FROM run", "root:1:ALLGATHER=1", "=1", "root=2",
    "tcp://x",
    "free entry", "&#" + "9" * 5000 + ";", "&#x110000;", "a" * 20_000, "a " * 2000,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("options")) as folder:
        yield folder


values = (
    st.sampled_from(FILES)
    | st.sampled_from(WORDS)
    | st.sampled_from(TEXTS)
    | st.text(max_size=8)
    | st.integers().map(str)
)


# What each place is for, by its name in the parser; numbers where nothing is said.
GOOD = {
    "transcript": ("run.secmoe",), "left": ("run.secmoe",), "right": ("run.secmoe",), "client": ("run.secmoe",),
    "server": ("run.secmoe",), "run": ("run.secmoe",), "traces": ("0.log", "1.log"), "certificate": ("good.json",
    "folder"),
    "protocol": ("mul", "mux", "broken.reveal_ties", "hard.pair", "protocols.products:mul"), "model": ("sms",
    "small.safetensors"),
    "text": ("x", "free entry"), "input": ("0", "text.txt"), "params": ("P64s", "P64tiny", "deep.json"),
    "out": ("new.secmoe",),
    "html": ("new.html",), "plot": ("new.svg",), "graph": ("new.svg", "new.dot"), "store": ("new.store", "empty"),
    "certificates": ("folder", "made"), "key": ("key",), "key_file": ("new.key",), "name": ("mine",),
    "into": ("folder",),
    "scope": ("r1", "r1/twice"), "sql": ("SELECT * FROM run", "SELECT 1 FROM message"), "root": ("b=1",
    "root:1:ALLGATHER=0"),
    "cluster": ("tcp://127.0.0.1:1",), "records": ("folder",), "timeout": ("0.1",), "runs": ("80", "400"),
    "width": ("8", "64"),
    "port": ("0", "1"), "checkpoint": ("checkpoint",), "folder": ("checkpoint", "folder"),
}  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with what its places are for, and up to two surprises."""
    name = draw(st.sampled_from(sorted(subcommands())))
    found: list[str] = [name]
    surprises: list[int] = []  # where one may stand
    for action in subcommands()[name]._actions:
        if isinstance(action, argparse._HelpAction) or (action.option_strings and draw(st.integers(0, 3))):
            continue
        found += action.option_strings[-1:]
        for _ in range(0 if action.nargs == 0 else 2 if action.nargs == "+" else 1):
            surprises.append(len(found))
            good = action.choices or GOOD.get(action.dest, ("0", "1", "2"))
            found.append(str(draw(st.sampled_from(list(good)))))
    for place in draw(st.lists(st.sampled_from(surprises), max_size=2)) if surprises else ():
        found[place] = draw(values)
    for _ in range(draw(st.sampled_from((0, 0, 0, 0, 1)))):
        found.insert(
            draw(st.integers(0, len(found))), draw(values | st.sampled_from(("--", "-", "--help", "--json", "-x")))
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("examples", [40, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_command_lines(folder: Path, examples: int) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples)
    @given(command_lines())
    def check(arguments: list[str]) -> None:
        seen[told(arguments)] += 1

    check()
    assert {"2", "reached"} <= set(seen)  # the strategy reaches both sides of the readers


@settings(max_examples=30)
@given(st.lists(values, max_size=4))
def test_any_words(folder: Path, arguments: list[str]) -> None:
    assert told(arguments) in ("0", "2")
