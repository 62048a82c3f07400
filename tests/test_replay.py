"""Each party alone reproduces the record; an alteration that the seal cannot see is found and named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.concrete import from_words
from sim.message import Message
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution
from tests.small_runs import RING, keep_small, private_sides, rebuild_small, run_small, services, twice
from transcripts.private import PrivateFileError, PrivateSide
from transcripts.record import Recorder
from transcripts.replay import Repeat, Start, replay
from transcripts.store import Transcript

WORDS = {CLIENT: np.arange(5), SERVER: np.arange(5) * 700}


def keep_changed(path: Path, change: Mapping[str, tuple[Message, ...]], draws: Mapping[str, int] | None = None) -> None:
    """Record the small session with other messages in it, sealed afresh: a forgery that every digest agrees with."""
    session, executions = run_small(WORDS)
    sides = private_sides(session, WORDS)
    if draws is not None:
        sides = [replace(side, draws=draws) for side in sides]
    with Recorder(path, {"protocol": "twice", "runs": 1}, seeded=True) as recorder:
        for e in executions:
            messages = change.get(e.prefix, e.messages)
            recorder.add(Execution(e.outputs, messages, e.cpu_by_scope, e.cpu_by_depth, e.reserved, e.prefix))
        recorder.seal(sides)


def online() -> tuple[Message, ...]:
    return run_small(WORDS)[1][1].messages


@pytest.mark.parametrize("seed", [b"seed", None])
def test_every_byte_is_confirmed(tmp_path: Path, seed: bytes | None) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, seed=seed, runs=2)
    with Transcript(path) as transcript:
        report = replay(transcript, rebuild_small)
        assert report.confirmed
        assert sum(p.messages for p in report.parties) == len(transcript.headers)
        assert sum(p.nbytes for p in report.parties) == sum(h.nbytes for h in transcript.headers)
        assert [p.role for p in report.parties] == [CLIENT, SERVER]


def test_it_needs_the_private_sides(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path, private=False)
    with Transcript(path) as transcript, pytest.raises(PrivateFileError, match="--record-private"):
        replay(transcript, rebuild_small)


def test_one_party_needs_only_its_own_side(tmp_path: Path) -> None:
    path = tmp_path / "x.secmoe"
    keep_small(path)
    (tmp_path / "x.client").unlink()
    with Transcript(path) as transcript:
        assert replay(transcript, rebuild_small, [SERVER]).confirmed


@pytest.mark.parametrize("seq", range(12))
def test_a_planted_alteration_is_found_in_every_message(tmp_path: Path, seq: int) -> None:
    """One bit of one message is changed before sealing. The seal agrees, the replay does not."""
    _, executions = run_small(WORDS)
    everything = [(e.prefix, m) for e in executions for m in e.messages]
    assert len(everything) == 12
    phase, message = everything[seq]
    assert message.payload is not None
    altered = replace(message, payload=bytes([message.payload[0] ^ 1]) + message.payload[1:])
    messages = tuple(altered if m is message else m for p, m in everything if p == phase)
    path = tmp_path / "x.secmoe"
    keep_changed(path, {phase: messages})
    with Transcript(path) as transcript:
        report = replay(transcript, rebuild_small)
    assert not report.confirmed and report.first is not None
    assert (report.first.seq, report.first.label) == (seq, message.label)
    assert report.first.role is message.sender
    assert report.first.expected.split()[0] != report.first.got.split()[0]


def test_a_missing_and_an_added_message(tmp_path: Path) -> None:
    sent = online()
    last = sent[-1]
    added = replace(last, label=last.label + "2", depth=last.depth + 1)
    for name, messages in (("missing", sent[:-1]), ("added", (*sent, added))):
        keep_changed(tmp_path / f"{name}.secmoe", {"r1": messages})
        with Transcript(tmp_path / f"{name}.secmoe") as transcript:
            report = replay(transcript, rebuild_small)
        assert not report.confirmed
        told = " ".join(str(p.difference) for p in report.parties)
        assert (last.label if name == "missing" else added.label) in told


def test_a_changed_header(tmp_path: Path) -> None:
    sent = online()
    deeper = replace(sent[-1], depth=sent[-1].depth + 1)
    keep_changed(tmp_path / "x.secmoe", {"r1": (*sent[:-1], deeper)})
    with Transcript(tmp_path / "x.secmoe") as transcript:
        report = replay(transcript, rebuild_small)
    assert report.first is not None and f"depth {deeper.depth}" in report.first.expected


def test_another_ledger_of_draws(tmp_path: Path) -> None:
    keep_changed(tmp_path / "x.secmoe", {}, draws={"r1/never": 4})
    with Transcript(tmp_path / "x.secmoe") as transcript:
        report = replay(transcript, rebuild_small)
    assert report.first is not None and "draw" in report.first.expected


def test_a_party_that_uses_its_peers_input_is_found(tmp_path: Path) -> None:
    """A rebuild that peeks: the server's input depends on what only the client's side knows."""

    def rebuild(public: Mapping[str, object]) -> Repeat:
        def repeat(start: Start, side: PrivateSide) -> None:
            session = start(services())
            own = from_words(RING, side.arrays["x"] + np.uint64(1 if side.role is SERVER else 0))
            inputs = {side.role: [own], side.role.peer: [blank(own.spec)]}
            session.run(twice, inputs[Role.CLIENT], inputs[Role.SERVER])

        return repeat

    path = tmp_path / "x.secmoe"
    keep_small(path)
    with Transcript(path) as transcript:
        client, server = replay(transcript, rebuild).parties
    assert client.difference is None
    assert server.difference is not None and "word0" in server.difference.label
