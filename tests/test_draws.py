"""The ledger of randomness on real runs: real oblivious transfer, real encryption, seeded tapes.

Covered, for every catalog case, all cases of one service in one session:
- draws: every byte string comes from a tape under an (owner, label) that is used once in the whole session, inside the
  scope of its run; no two strings of 16 bytes or more are equal; `Execution.draws` lists exactly these; nothing asks
  the operating system or a numpy generator for randomness;
- correlated OTs: every slice is bound to one label at both parties, slices of a session are disjoint and fill the pools
  without a gap, every COT is hashed under its session-wide number once, every leaf stream block is used once;
- encryption: the seed of each secret sample (key, error, re-randomisation, flooding) serves for one sample.
Not covered: that SHAKE128, AES and the tweakable hash behave as random functions (assumed), biases of samplers (their
own tests), and two sessions given the same seed, which repeat each other by definition.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import protocols.he.bfv
import protocols.he.server
import protocols.he.service
from protocols import functionalities as F
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from protocols.he.interface import Plan
from protocols.ot import aesni
from protocols.ot.service import CotSlice, OtState, Pool, PoolReuse
from protocols.ot.softspoken import LeafStreams, _self_tested
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Ring
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape, TapeReuse
from sim.world import Endpoint, Execution, ReservationError, Session
from tests.harness import HEAVY, adjusted, inputs, nightly, services

R64 = Ring(64)
SAMPLERS = ((protocols.he.bfv, "ternary"), (protocols.he.bfv, "error"), (protocols.he.server, "ternary"),
            (protocols.he.server, "error"), (protocols.he.server, "flooding"))  # fmt: skip
Slice = tuple[int, int]


@dataclass
class Log:
    """Everything random that a session did, noted below the ledgers under test."""

    draws: list[tuple[str, str, bytes]] = field(default_factory=list)
    taken: dict[Role, list[tuple[Role, str, Slice]]] = field(default_factory=lambda: {role: [] for role in Role})
    hashed: list[tuple[Any, Slice]] = field(default_factory=list)
    folded: list[tuple[Any, Slice]] = field(default_factory=list)
    seeds: list[bytes] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Note what happens inside."""
        if aesni.AVAILABLE:
            _self_tested()  # once per process, outside any session
        draw, reserve, take = Tape.bytes, Endpoint.reserve, OtState.take
        streams, fold = CotSlice.streams, LeafStreams._fold
        labels: dict[int, str] = {}

        def drawn(tape: Tape, label: str, n: int) -> bytes:
            value = draw(tape, label, n)
            self.draws.append((tape.owner, label, value))
            return value

        def reserved(endpoint: Endpoint, label: str, resource: str, n: int) -> int:
            labels[id(endpoint.states.get("ot"))] = label
            return reserve(endpoint, label, resource, n)

        def taken(state: OtState, receiver: Role, offset: int, n: int) -> CotSlice:
            part = take(state, receiver, offset, n)
            role = receiver if part.delta is None else receiver.peer
            self.taken[role].append((receiver, labels[id(state)], (part.first, part.first + n)))
            return part

        def hashed(part: CotSlice, low: int, high: int, blocks: int) -> Any:
            self.hashed.append(((part.hash, part.delta is None), (part.first + low, part.first + high)))
            return streams(part, low, high, blocks)

        def folded(leaves: LeafStreams, first: int, blocks: int, compiled: bool) -> Any:
            self.folded.append((leaves, (first, first + blocks)))
            return fold(leaves, first, blocks, compiled)

        def sampler(original: Any) -> Any:
            def sampled(seed: bytes, *args: Any) -> Any:
                self.seeds.append(seed)
                return original(seed, *args)

            return sampled

        def foreign(*args: Any, **_: Any) -> Any:
            self.foreign.append(repr(args))
            raise AssertionError("randomness that no tape gave")

        with ExitStack() as stack:
            for target, name, instead in (
                (Tape, "bytes", drawn),
                (Endpoint, "reserve", reserved),
                (OtState, "take", taken),
                (CotSlice, "streams", hashed),
                (LeafStreams, "_fold", folded),
                (os, "urandom", foreign),
                (np.random, "default_rng", foreign),
                *((module, name, sampler(getattr(module, name))) for module, name in SAMPLERS),
            ):
                stack.enter_context(patch.object(target, name, instead))
            yield


def _arguments(case: Case) -> tuple[list[Any], list[Any]]:
    rng = np.random.Generator(np.random.PCG64(len(case.name)))
    values = [rng.integers(*s.range, s.shape, np.int64, endpoint=True) for s in case.secrets]
    masks = [rng.integers(0, s.ring.mask, s.shape, np.uint64, endpoint=True) for s in case.secrets]
    return inputs(case, adjusted(case, values), masks)


ROWS = [(entry, case) for entry in CATALOG for case in entry.cases if entry.name not in HEAVY]
LARGE = [(entry, case) for entry in CATALOG for case in entry.cases if entry.name in HEAVY]
WHOLE = ("encoder", "moe_layer", "plaintext_routing")  # these are made of the others
CHOSEN = {
    "small": ROWS,
    "large that hold the others": [row for row in LARGE if row[0].name in WHOLE and not nightly(*row)],
    "all large": LARGE,
}


@cache
def _logged(which: str = "small") -> dict[tuple[Plan, ...], Log]:
    """One session per set of plans, with all of its cases, twice the first: runs of a session share nothing."""
    rows, logs = CHOSEN[which], dict[tuple[Plan, ...], Log]()
    for plans in dict.fromkeys(case.plans for _, case in rows):
        chosen = [(entry, case) for entry, case in rows if case.plans == plans]
        prepared = [(entry, case, _arguments(case)) for entry, case in (*chosen, chosen[0])]
        needed = services(plans)
        log = logs[plans] = Log()
        with log.attached():
            session = Session(needed, seed=b"ledger")
            log.executions.append(session.setup)
            for entry, case, (client, server) in prepared:
                log.executions.append(session.run(entry.proto, client, server, **case.public))
    return logs


def _check_draws(log: Log) -> None:
    names = Counter((owner, label) for owner, label, _ in log.draws)
    assert max(names.values()) == 1
    long = Counter(value for _, _, value in log.draws if len(value) >= 16)
    assert max(long.values()) == 1
    listed = [
        (role.value, label, n)
        for e in log.executions
        for role in Role
        for label, n in e.draws[role].items()
        if label.startswith(f"{e.prefix}/")
    ]
    assert sorted(listed) == sorted((owner, label, len(value)) for owner, label, value in log.draws)
    assert not log.foreign


def _disjoint(slices: list[Slice]) -> bool:
    ordered = sorted(slices)
    return all(a[1] <= b[0] for a, b in pairwise(ordered))


def _check_transfers(log: Log) -> None:
    """Both parties bind the same slices to the same labels; nothing is taken, hashed or folded twice."""
    assert sorted(log.taken[CLIENT]) == sorted(log.taken[SERVER])
    bound = [(receiver, label) for receiver, label, _ in log.taken[CLIENT]]
    assert len(set(bound)) == len(bound)
    for receiver in Role:
        slices = sorted(part for direction, _, part in log.taken[CLIENT] if direction is receiver)
        made = sum(e.reserved.get(f"cot.{receiver.value}", 0) for e in log.executions)
        assert _disjoint(slices) and sum(high - low for low, high in slices) == made
        if slices:
            assert slices[0][0] == 0 and slices[-1][1] == made
    for used in (log.hashed, log.folded):
        for key in {_key(who) for who, _ in used}:
            assert _disjoint([part for who, part in used if _key(who) == key])


def _key(who: Any) -> Any:
    return (id(who[0]), who[1]) if isinstance(who, tuple) else id(who)


def _check_encryption(log: Log, encrypts: bool) -> None:
    assert bool(log.seeds) is encrypts
    assert len(set(log.seeds)) == len(log.seeds)
    drawn = {value for _, _, value in log.draws}
    assert set(log.seeds) <= drawn


@pytest.mark.slow
def test_randomness_of_real_runs_is_used_once() -> None:
    logs = _logged()
    assert () in logs and len(logs) > 1
    assert len(logs[()].taken[CLIENT]) > 100 and len(logs[()].hashed) > 100 and logs[()].folded
    for plans, log in logs.items():
        _check_draws(log)
        _check_transfers(log)
        _check_encryption(log, bool(plans))


@pytest.mark.parametrize(
    "which",
    [
        pytest.param("large that hold the others", marks=pytest.mark.slow),
        pytest.param("all large", marks=pytest.mark.nightly),
    ],
)
def test_randomness_of_large_real_runs_is_used_once(which: str) -> None:
    for plans, log in _logged(which).items():
        _check_draws(log)
        _check_transfers(log)
        _check_encryption(log, bool(plans))


@pytest.mark.slow
def test_a_run_lists_its_draws() -> None:
    """The masks of responses are drawn in the protocol's own run; oblivious transfer draws at the set-up only."""
    log = next(log for plans, log in _logged().items() if plans)
    first = log.executions[1]
    assert any(label.endswith("/h2a/mask") for label in first.draws[SERVER])
    assert all(n > 0 for draws in first.draws.values() for n in draws.values())
    assert log.executions[0].draws[CLIENT] and log.executions[0].draws[SERVER]


# -- planted reuse -----------------------------------------------------------------------------------------------------
@protocol(realises=F.REVEAL)
async def draws_twice(p: Party) -> None:
    """Two draws under one label."""
    p.draw("r", R64, (2,))
    p.draw("r", R64, (2,))


@protocol(realises=F.REVEAL)
async def draws_once(p: Party) -> None:
    """A draw."""
    p.draw("r", R64, (2,))


async def _slice(p: Party) -> tuple[OtState, int]:
    return p.service("ot"), p.reserve("cots", "cot.client", 3)


@protocol(realises=F.REVEAL)
async def takes_twice(p: Party) -> None:
    """One slice for two uses."""
    state, offset = await _slice(p)
    for _ in range(2):
        p.local(state.take, CLIENT, offset, 3)


@protocol(realises=F.REVEAL)
async def reserves_twice(p: Party) -> None:
    """Two reservations under one label."""
    await _slice(p)
    await _slice(p)


@protocol(realises=F.REVEAL)
async def takes_the_slice_of_another(p: Party) -> None:
    """The second use takes the slice that the first one was given."""
    state, offset = await _slice(p)
    p.reserve("more", "cot.client", 3)
    p.local(state.take, CLIENT, offset, 3)
    p.local(state.take, CLIENT, offset, 3)


def _notes(error: BaseException) -> str:
    return " ".join([str(error), *getattr(error, "__notes__", ())])


def test_a_draw_made_twice_is_refused() -> None:
    session = Session(seed=b"planted")
    with pytest.raises(TapeReuse, match="client's tape: label 'r1/draws_twice/r' was drawn before"):
        session.run(draws_twice, [], [])


def test_a_run_under_an_old_number_is_refused() -> None:
    """A session whose run counter was set back draws the labels of its first run again."""
    session = Session(seed=b"planted")
    session.run(draws_once, [], [])
    session._runs = 0
    with pytest.raises(TapeReuse, match="label 'r1/draws_once/r' was drawn before"):
        session.run(draws_once, [], [])


@pytest.mark.parametrize("proto", [takes_twice, takes_the_slice_of_another], ids=lambda proto: proto.name)
def test_a_slice_taken_twice_is_refused(proto: ProtocolDecl[Any]) -> None:
    session = Session(services(()), seed=b"planted")
    with pytest.raises(PoolReuse, match="taken before") as caught:
        session.run(proto, [], [])
    assert f"in scope 'r1/{proto.name}'" in _notes(caught.value)


def test_a_label_that_reserves_twice_is_refused() -> None:
    session = Session(services(()), seed=b"planted")
    with pytest.raises(ReservationError, match="twice under 'run/reserves_twice/cots'"):
        session.run(reserves_twice, [], [])


def _row(name: str) -> tuple[Entry, Case]:
    return next((e, c) for e in CATALOG for c in e.cases if e.name == name)


def test_encryption_randomness_used_for_two_rows_is_refused() -> None:
    """Rows of an upload that share their labels would share the seeds of their ciphertexts."""
    entry, case = _row("select_product")
    client, server = _arguments(case)
    session = Session(services(case.plans), seed=b"planted")
    own = protocols.he.service._draw
    with (
        patch.object(protocols.he.service, "_draw", lambda p, row: own(p, 0)),
        pytest.raises(TapeReuse, match=r"client's tape: label 'r1/select_product/a2h/0/a0' was drawn before"),
    ):
        session.run(entry.proto, client, server, **case.public)


# -- the checks themselves ---------------------------------------------------------------------------------------------
def _log(name: str = "mux") -> Log:
    entry, case = _row(name)
    arguments = _arguments(case)
    needed = services(case.plans)
    log = Log()
    with log.attached():
        session = Session(needed, seed=b"checks")
        log.executions += [session.setup]
        log.executions += [session.run(entry.proto, *arguments, **case.public) for _ in range(2)]
    return log


def test_the_checks_see_a_tape_that_ignores_its_labels() -> None:
    draw = Tape.bytes

    def deaf(tape: Tape, label: str, n: int) -> bytes:
        value = draw(tape, label, n)
        return bytes(n) if label.endswith(("e0", "u0")) else value

    with patch.object(Tape, "bytes", deaf):
        log = _log("select_product")
    with pytest.raises(AssertionError):
        _check_draws(log)
    with pytest.raises(AssertionError):
        _check_encryption(log, True)


def test_the_checks_see_a_pool_that_starts_again() -> None:
    """The second run numbers its correlated OTs like the first: tweaks repeat under one Delta."""
    opened = Pool.open

    def again(pool: Pool, n: int) -> None:
        opened(pool, n)
        pool.first = 0

    with patch.object(Pool, "open", again):
        log = _log()
    with pytest.raises(AssertionError):
        _check_transfers(log)


def test_the_checks_see_streams_that_start_again() -> None:
    fold = LeafStreams.fold

    def rewound(leaves: LeafStreams, blocks: int) -> Any:
        leaves.used = 0
        return fold(leaves, blocks)

    with patch.object(LeafStreams, "fold", rewound):
        log = _log()
    with pytest.raises(AssertionError):
        _check_transfers(log)


def test_the_checks_see_foreign_randomness() -> None:
    with Log().attached(), pytest.raises(AssertionError, match="no tape"):
        Session()
