"""Every catalog protocol still puts the same bytes on the wire, in the hybrid world messages of the same sizes; and a
change is named: where, and of which kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.entry import Case, Entry
from protocols.he import client, public_keys, ring_q
from protocols.he.ntt import Tables
from protocols.he.params import PARAM_SETS
from protocols.he.portable import NumpyEngine
from protocols.ot import aesni
from secmoe.examples import wrong
from sim.message import Message
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER
from sim.wire import AnySpec
from sim.world import Execution
from tests.golden_runs import ROWS, SETUP, example, executed, names, path, read, record, rows, setup_name, split
from tests.harness import leads
from tests.small_runs import run_small
from transcripts.golden import Moved, digests, from_golden, moved, to_golden

QUICK = {"reveal", "mux", "less_than", "truncate", "choose", "linear"}


def parameters() -> list[Any]:
    return [
        pytest.param(
            entry,
            case,
            id=f"{entry.name}: {case.name}",
            marks=[] if entry.name in QUICK else pytest.mark.slow if leads(entry, case) else pytest.mark.nightly,
        )
        for entry, case in ROWS
    ]


def headers(execution: Execution) -> list[tuple[tuple[int, str, str], AnySpec]]:
    """Depth, sender and label of every message, and its size."""
    return [((m.depth, m.sender.value, m.label), m.spec) for m in execution.messages]


@pytest.mark.parametrize(("entry", "case"), parameters())
def test_the_wire_is_the_golden_one_and_the_hybrid_one(entry: Entry, case: Case) -> None:
    """A seeded run, held against its golden digests; and one of the hybrid world on the same inputs, against it: the
    same labels, order and sizes. Both give what the functionality does."""
    real, hybrid = (executed(entry, case, ideal=ideal) for ideal in (False, True))
    setup, run = split(digests([message for each in real for message in each.messages]))
    changes = moved(read(SETUP)[setup_name(case)], setup) + moved(read(entry.name)[case.name], run)
    told = "\n".join(map(str, changes))
    assert not changes, f"{entry.name}, {case.name}: `make golden` records what is meant\n{told}"
    for ours, theirs in zip(real, hybrid, strict=True):
        assert sorted(headers(ours), key=str) == sorted(headers(theirs), key=str)
    assert [wrong(entry, case, example(case), each) for each in (real[1], hybrid[1])] == [None, None]


def test_every_protocol_has_its_file_and_no_file_is_left_over() -> None:
    kept = {file.stem for file in path(SETUP).parent.glob("*.json")}
    assert kept == {SETUP, *names()}
    for name in names():
        assert list(read(name)) == [case.name for entry, case in ROWS if entry.name == name]
    assert set(read(SETUP)) == {setup_name(case) for _, case in ROWS}


@pytest.mark.slow
def test_the_portable_kernels_give_the_golden_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without FMA and without AES instructions: numpy residues and the library's AES."""
    params = PARAM_SETS["P64tiny"]
    slow = ring_q.Ring(params, NumpyEngine(Tables(params.n, params.primes)))
    for module in (client, public_keys):
        monkeypatch.setattr(module, "ring_for", lambda params: slow)
    monkeypatch.setattr(aesni, "AVAILABLE", False)
    ((entry, case),) = [row for row in ROWS if row[0].name == "select_product" and row[1].name == "order R"]
    setup, run = split(rows(entry, case))
    assert moved(read(SETUP)[setup_name(case)], setup) == []
    assert moved(read(entry.name)[case.name], run) == []


@pytest.mark.slow
def test_recording_gives_the_committed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make golden` writes is what lies there, and files of protocols that are gone go."""
    chosen = ("reveal", "mux")
    committed = {name: path(name).read_text() for name in chosen}
    monkeypatch.setattr("tests.golden_runs.FOLDER", tmp_path)
    monkeypatch.setattr("tests.golden_runs.ROWS", [row for row in ROWS if row[0].name in chosen])
    (tmp_path / "gone.json").write_text("{}")
    record()
    assert {file.stem for file in tmp_path.iterdir()} == {SETUP, *chosen}
    assert {name: path(name).read_text() for name in chosen} == committed


def small() -> list[Message]:
    """A set-up and a run with gathered calls."""
    _, executions = run_small({CLIENT: np.arange(5), SERVER: np.arange(5) * 700})
    return [message for execution in executions for message in execution.messages]


SENT = small()


@given(st.sampled_from(range(len(SENT))), st.sampled_from(["content", "size", "depth", "sender", "gone", "new"]))
def test_a_change_is_named_by_scope_and_kind(at: int, change: str) -> None:
    """One message is changed in one way: its scope moves and no other, and the kind is that of the change."""
    message, sent = SENT[at], list(SENT)
    assert message.payload is not None
    if change == "content":
        sent[at] = replace(message, payload=bytes([message.payload[0] ^ 1, *message.payload[1:]]))
        expected = [Moved(message.scope, ("content",))]
    elif change == "size":
        sent[at] = replace(message, spec=Spec(Ring(9), (77,)))
        expected = [Moved(message.scope, ("size",))]
    elif change == "depth":
        last = next(m for m in reversed(SENT) if m.scope == message.scope)
        at = SENT.index(last)
        sent[at] = replace(last, depth=last.depth + 1)
        alone = sum(m.scope == last.scope for m in SENT) == 1
        expected = [] if alone else [Moved(last.scope, ("rounds",))]  # rounds count from a scope's first message
    elif change == "sender":
        sent[at] = replace(message, sender=message.sender.peer)
        expected = [Moved(message.scope, ("size",))]
    elif change == "gone":
        sent = [m for m in SENT if m.scope != message.scope]
        expected = [Moved(message.scope, ("gone",))]
    else:
        sent.append(replace(message, scope=f"{message.scope}/more", label=f"{message.scope}/more/x"))
        expected = [Moved(f"{message.scope}/more", ("new",))]
    assert moved(digests(SENT), digests(sent)) == expected


def test_rows_survive_their_file() -> None:
    found = digests(SENT)
    assert from_golden(to_golden(found)) == found
    assert sum(row.messages for row in found.values()) == len(SENT)
    assert sum(row.nbytes for row in found.values()) == sum(m.nbytes for m in SENT)


@pytest.mark.parametrize("name", ["b2a", "mux"])
def test_another_seed_moves_content_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.golden_runs.SEED", b"another")
    entry, case = next(row for row in ROWS if row[0].name == name)
    _, run = split(rows(entry, case))
    changes = moved(read(name)[case.name], run)
    assert [change.scope for change in changes] == list(run)
    assert {change.what for change in changes} == {("content",)}
