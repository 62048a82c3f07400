"""SPU's link trace: refused with file and line, or imported as a transcript that can be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import damaged
from tests.fuzz.parsers import OK, outcome
from tests.spu_traces import line

MANY = 2000
CONTEXTS = ("root", "root-0", "root-0-1", "", ":", "a/b", "\x1b[2J", "é")
TAGS = ("t", "", "open(x)", "a, value=00", ", tag=", "\u202e", "/", "%2F")


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """What both ranks of an honest run write: messages and collectives in one order."""
    ranks: tuple[list[bytes], list[bytes]] = ([], [])
    numbers: dict[tuple[str, int], int] = {}
    for _ in range(draw(st.integers(1, 6))):
        context, tag = draw(st.sampled_from(CONTEXTS)), draw(st.sampled_from(TAGS))
        source = draw(st.sampled_from((0, 1, 2, 2)))
        numbers[context, source] = n = numbers.get((context, source), 0) + 1
        op = draw(st.sampled_from(("ALLGATHER", "BARRIER", "GATHER", "BCAST")))
        for rank in (0, 1):
            key = f"{context}:{n}:{op}" if source == 2 else f"{context}:P2P-{n}:{source}->{1 - source}"
            silent = op == "BARRIER" if source == 2 else source != rank
            ranks[rank].append(line(key, tag, b"" if silent else draw(st.binary(max_size=20))))
    return ranks


@st.composite
def shuffled(draw: st.DrawFn) -> bytes:
    """Two traces with lines that are missing, doubled, or in another place."""
    found = []
    for lines in draw(calls()):
        for _ in range(draw(st.integers(0, 2))):
            at, to = (draw(st.integers(0, len(lines))) for _ in range(2))
            moved = lines[at : at + 1] if draw(st.booleans()) else [lines.pop(at)] if at < len(lines) else []
            lines[to:to] = moved
        found.append(b"".join(lines))
    return b"\xff".join(found)


@pytest.mark.parametrize("examples", [30, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_traces(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(calls().map(lambda ranks: b"\xff".join(b"".join(r) for r in ranks)), st.data())
    def check(content: bytes, data: st.DataObject) -> None:
        outcome("trace", data.draw(damaged(content)), tmp_path)

    check()


@pytest.mark.parametrize("examples", [25, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_orders(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(shuffled())
    def check(content: bytes) -> None:
        outcome("trace", content, tmp_path)

    check()


def test_an_honest_trace_is_imported(tmp_path: Path) -> None:
    ranks = [
        line("root:P2P-1:0->1", "a", b"\1" if rank == 0 else b"") + line("root:1:ALLGATHER", "b", bytes([rank]))
        for rank in (0, 1)
    ]
    assert outcome("trace", b"\xff".join(ranks), tmp_path) == OK
