"""The fault matrix: every message of a run, each thing that can happen to it on the way, and who says what.

A man in the middle of the socket does one thing to one record. Above him the records are sealed as in a real session,
or (`Plain`) only numbered and summed, so that the framing shows what it catches alone. Whatever he does, each party
ends by itself, with a named error and without an output; and what it saw until then is a prefix of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry, Secret
from protocols.expert_weights import ExpertWeights
from protocols.he.params import ParamSet
from protocols.layer_plan import REASSOCIATED, LayerPlan
from protocols.model.config import MoeConfig
from protocols.select import select_then_compute
from sim.concrete import to_words
from sim.remote.handshake import HELLO
from sim.ring import Ring
from sim.role import CLIENT, SERVER, Role
from sim.tape import derive_key
from sim.world import Session
from tests.remote_support import FAULTS, SEED, DealtBaseOts, End, Meddler, Plain, Work, converse

RING = Ring(32)
# Far below 128 bits: the matrix is about the wire, and runs six hundred sessions.
TINY = ParamSet("WIRE_TEST", 64, 32, 12, (37,) * 4, 4, (), (22, 22), 40, False, insecure_test=True)
QUIET = {"drop", "reorder", "truncate", "delay"}  # nothing comes any more: only the time limit ends these
SESSIONS_AT_ONCE = 8

# Who finds the fault says one of these; its peer is told (PeerFailed), or sees the connection end.
FOUND = {
    "drop": {"MissingRecord", "PeerSilent"},
    "duplicate": {"RepeatedRecord"},
    "reorder": {"MissingRecord", "PeerSilent"},
    # The next record's first byte stands in for the one cut off; once in 256 times it is the same, and the record
    # after is read a byte too late.
    "truncate": {"AlteredRecord", "ForeignRecord", "PeerSilent", "TruncatedRecord"},
    "flip": {"AlteredRecord"},
    "replay": {"ForeignRecord"},
    "delay": {"PeerSilent"},
    "die": {"PeerClosed", "TruncatedRecord"},
}
TOLD = {"PeerFailed", "PeerClosed", "PeerSilent", "TruncatedRecord"}


@cache
def protocol_1() -> Work:
    """Select-then-compute on one token and two experts of two rows."""
    shape = MoeConfig(d=2, f=2, E=2, k=1, gated=False, activation="relu", renormalise=False)
    plan = LayerPlan(shape, 1, TINY, "relu", REASSOCIATED)
    weight = Secret(RING, (2, 2, 2), SERVER, -100, 100, weight=True)
    secrets = (Secret(RING, (1, 1, 2)), Secret(RING, (1, 2), None, -100, 100), weight, weight)
    public = {
        "up": plan.up, "down": plan.down, "activation": "relu", "arithmetic": plan.arithmetic,
    }  # fmt: skip

    def prepare(engine: Any, weights: Sequence[Any]) -> ExpertWeights:
        return ExpertWeights(engine(plan.up, weights[0]), engine(plan.down, weights[1]))

    case = Case("wire", secrets, public, plans=(plan.up, plan.down), prepare=prepare)
    whole = Work.of_case(Entry(select_then_compute, (case,)), case)
    return replace(whole, services=(DealtBaseOts(1), whole.services[1]))


@cache
def set_up() -> Work:
    """The set-up of oblivious transfer, and one product."""
    entry = next(entry for entry in CATALOG if entry.name == "mul")
    return Work.of_case(entry, entry.cases[0])


@cache
def healthy(work: Callable[[], Work]) -> dict[Role, End]:
    """A conversation with a man in the middle who does nothing."""
    ends = converse(work(), relay=Meddler(CLIENT, -1, "drop"))
    assert {end.name for end in ends.values()} == {"finished"}
    return ends


@cache
def records(work: Callable[[], Work]) -> list[tuple[Role, int]]:
    """Every record of the run: (sender, place among its records). The last of each side says that it is done."""
    counts = {role: sum(m.sender is role for m in healthy(work)[role].messages) + 1 for role in Role}
    return [(role, place) for role, count in counts.items() for place in range(count)]


@cache
def foreign(sealed: bool) -> bytes:
    """A record of another session."""
    taken = Taker(CLIENT, 0, "take", hello=HELLO.size if sealed else 0)
    converse(set_up(), codec=None if sealed else Plain(b"another session".ljust(32)), relay=taken)
    return taken.taken


class Taker(Meddler):
    """Copies one record and lets the session die."""

    taken = b""

    def _meddle(self, record: bytes, source: Any, sink: Any) -> tuple[bytes, bytes]:
        self.taken = record
        return super()._meddle(record, source, sink)


class TooBusy(Exception):
    """The machine was so slow that the time limit hid the fault: the cell says nothing."""


def one_fault(
    work: Callable[[], Work], sender: Role, place: int, fault: str, sealed: bool, timeout: float = 1.0
) -> None:
    """One cell of the matrix. A busy machine may run into the time limit before the fault, or compute for longer than
    a delay lasts: then, and only then, once more and slower."""
    try:
        one_try(work, sender, place, fault, sealed, timeout)
    except TooBusy:
        assert timeout < 20, "the time limit hides the fault, again and again"
        one_fault(work, sender, place, fault, sealed, 3 * timeout)


def one_try(work: Callable[[], Work], sender: Role, place: int, fault: str, sealed: bool, timeout: float) -> None:
    """The cell with one time limit."""
    meddler = Meddler(sender, place, fault, foreign(sealed) if fault == "replay" else b"", HELLO.size if sealed else 0)
    meddler.hold = 1.5 * timeout
    patience = timeout if fault in QUIET else 20.0
    ends = converse(work(), timeout=patience, codec=None if sealed else Plain(), relay=meddler)
    if not meddler.happened:
        raise TooBusy
    where = f"{fault} at record {place} of the {sender.value}: { {role.value: end.name for role, end in ends.items()} }"
    spared = may_finish(work, sender, place, fault)
    if fault == "delay" and all(end.error is None for end in ends.values()) and sender.peer not in spared:
        assert all(same_words(ends[role].output, healthy(work)[role].output) for role in Role), where
        raise TooBusy
    assert ends[sender.peer].error is not None or sender.peer in spared, where
    for role, end in ends.items():
        assert end.seconds < patience + 15, where
        is_prefix(end, healthy(work)[role], role, where)
        if end.error is None:
            assert role in spared and same_words(end.output, healthy(work)[role].output), where
        else:
            assert end.output is None and end.name in FOUND[fault] | TOLD, where
            assert str(end.error).partition(";")[0], where
    if len(spared) < 2:
        assert {end.name for end in ends.values()} & (FOUND[fault] | {"PeerClosed"}), where


def may_finish(work: Callable[[], Work], sender: Role, place: int, fault: str) -> set[Role]:
    """Who may come to its end all the same: the last to speak cannot know whether it was heard, and nobody reads what
    follows the end."""
    last = max(at for role, at in records(work) if role is sender)
    if fault == "duplicate" and place == last:
        return set(Role)
    return {sender} if place >= last - 1 else set()


def same_words(ours: Any, theirs: Any) -> bool:
    return bool((to_words(ours) == to_words(theirs)).all())


def is_prefix(end: End, whole: End, role: Role, where: str) -> None:
    """What a party recorded is the beginning of the healthy run in both directions, and what it got is unharmed."""
    if end.party is None or whole.party is None:
        assert end.error is not None, where
        return
    for sender in Role:
        seen = [m for m in end.party.link.log if m.sender is sender]
        same = {m.label: m for m in whole.party.link.log if m.sender is sender}
        assert all(same[m.label].payload == m.payload for m in seen), where
        if sender is not role:
            assert [m.label for m in seen] == list(same)[: len(seen)], where


def matrix(work: Callable[[], Work], cells: Sequence[tuple[Role, int]], fault: str, sealed: bool) -> None:
    foreign(sealed)  # made once, before threads want it
    with ThreadPoolExecutor(SESSIONS_AT_ONCE) as pool:
        for done in [pool.submit(one_fault, work, sender, place, fault, sealed) for sender, place in cells]:
            done.result()


def some(work: Callable[[], Work]) -> list[tuple[Role, int]]:
    """Every fourth record of each side, and its first and last two, which have rules of their own."""
    ends = {role: max(place for sender, place in records(work) if sender is role) for role in Role}
    return [(role, place) for role, place in records(work) if place % 4 == 0 or place >= ends[role] - 1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_every_other_message_of_a_set_up_and_every_fault(fault: str) -> None:
    matrix(set_up, records(set_up)[FAULTS.index(fault) % 2 :: 2], fault, sealed=True)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_every_message_of_a_set_up_and_every_fault(fault: str) -> None:
    matrix(set_up, records(set_up), fault, sealed=True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_many_messages_and_every_fault(fault: str) -> None:
    chosen = some(protocol_1)
    assert {role for role, _ in chosen} == set(Role) and len(chosen) > 10
    matrix(protocol_1, chosen, fault, sealed=True)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_every_message_and_every_fault(fault: str) -> None:
    matrix(protocol_1, records(protocol_1), fault, sealed=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_few_messages_and_every_fault(fault: str) -> None:
    every = records(protocol_1)
    matrix(protocol_1, [every[0], every[len(every) // 2]], fault, sealed=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_framing_alone_catches_every_fault(fault: str) -> None:
    every = records(protocol_1)
    matrix(protocol_1, [every[len(every) // 3], every[-2]], fault, sealed=False)


def test_the_matrix_covers_the_run() -> None:
    """Base OTs, keys, pools, every step of the protocol: each message is one record, and one more says the end."""
    labels = {m.label.split("/")[2] for m in healthy(set_up)[CLIENT].messages if m.scope.startswith("setup/ot")}
    assert {"set_up", "set_up.2"} <= labels
    for work in (set_up, protocol_1):
        assert len(records(work)) == len(healthy(work)[CLIENT].messages) + 2


@pytest.mark.parametrize("work", [set_up, protocol_1])
def test_a_healthy_conversation_through_the_relay_is_right(work: Callable[[], Work]) -> None:
    ends, what = healthy(work), work()
    session = Session(what.services, keys={role: derive_key(SEED, role.value) for role in Role})
    execution = session.run(what.proto, what.inputs[CLIENT], what.inputs[SERVER], **what.public)
    for role in Role:
        assert ends[role].messages == [*session.setup.messages, *execution.messages]
        assert same_words(ends[role].output, execution.outputs[role])
