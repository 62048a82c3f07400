"""Planted faults: correct, and leaking to whom they say, by enumeration. Hard variants: correct, and private."""

from __future__ import annotations

import numpy as np
import pytest

from proofs.enumerate import Joint
from proofs.runs import Runs
from protocols.broken import BELOW_THE_INTERFACE, BRANCH, FAULTS, HARD, LEAK, PUBLISHED, REAL, SCHEDULE, Fault
from protocols.entry import Case, Entry
from sim.ring import SecretControlFlow
from sim.role import Role
from sim.world import Session
from tests.harness import Ints, adjusted, agree, inputs, services


def _values(case: Case, rng: np.random.Generator) -> list[Ints]:
    values = [rng.integers(*s.range, s.shape, np.int64, endpoint=True) for s in case.secrets]
    return list(adjusted(case, values))


def _masks(case: Case, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(0, s.ring.mask, s.shape, np.uint64, endpoint=True) for s in case.secrets]


# Faults of kind REAL have honest texts: what is wrong with them lies below the interfaces (test_broken_engine).
TEXTS = [f for f in FAULTS if f.kind != REAL]
RUNNING = [f for f in TEXTS if f.kind != BRANCH]
EVERY = [*(f.entry for f in RUNNING), *HARD]


def test_the_lists_are_large_and_cover_the_published_leaks() -> None:
    names = [f.name for f in FAULTS] + [entry.name for entry in HARD]
    assert len(set(names)) == len(names)
    reals = [f for f in FAULTS if f.kind == REAL]
    assert len(TEXTS) >= 33 and len(reals) >= 30 and len(HARD) >= 12
    shown, below = ({f.source for f in group if isinstance(f.source, int)} for group in (TEXTS, reals))
    assert shown | below == set(PUBLISHED)
    assert not shown & BELOW_THE_INTERFACE and below >= BELOW_THE_INTERFACE
    assert {f.kind for f in FAULTS} == {LEAK, BRANCH, SCHEDULE, REAL}
    assert all(f.symbolic == (f.kind == LEAK) for f in FAULTS)
    assert all((f.services is not None) == (f.kind == REAL) for f in FAULTS)
    assert all(bool(f.found_in) == (f.kind == REAL) for f in FAULTS)
    assert all(f.client or f.server for f in FAULTS)


def test_every_fault_claims_a_functionality_that_leaks_nothing() -> None:
    for fault in FAULTS:
        claimed = fault.entry.realises
        assert not claimed.leaks_client and not claimed.leaks_server and not claimed.leaks_route
        assert fault.what and fault.entry.proto.run.__doc__


@pytest.mark.slow
@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry.name)
def test_every_text_is_correct(entry: Entry) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        agree(entry, entry.cases[0], _values(entry.cases[0], rng), _masks(entry.cases[0], rng), ideal=True)
        for case in entry.cases[1:]:
            agree(entry, case, _values(case, rng), _masks(case, rng), ideal=True)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=pytest.mark.nightly if i % 8 else pytest.mark.slow)
        for i, entry in enumerate(EVERY)
    ],
)
def test_every_text_is_correct_with_real_transfers_and_encryption(entry: Entry) -> None:
    rng = np.random.default_rng(8)
    case = entry.cases[0]
    agree(entry, case, _values(case, rng), _masks(case, rng))


TINY = [f for f in FAULTS if f.kind == LEAK and f.tiny is not None]


@pytest.mark.parametrize("fault", TINY, ids=lambda fault: fault.name)
def test_enumeration_confirms_who_learns_something(fault: Fault) -> None:
    assert fault.tiny is not None
    joint = Joint(fault.entry.proto, fault.tiny)
    for role in Role:
        law = joint.law(role)
        assert (law.distance > 0) == fault.leaks_to(role), law.leak
        assert (law.leak is not None) == fault.leaks_to(role)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.kind == SCHEDULE], ids=lambda fault: fault.name)
def test_enumeration_run_by_run_confirms_what_a_schedule_tells(fault: Fault) -> None:
    assert fault.tiny is not None
    runs = Runs(fault.entry.proto, fault.tiny)
    for role in Role:
        assert (runs.law(role).distance > 0) == fault.leaks_to(role)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.kind == BRANCH], ids=lambda fault: fault.name)
def test_branches_on_secrets_are_refused_when_they_run(fault: Fault) -> None:
    case = fault.entry.cases[0]
    rng = np.random.default_rng(9)
    with pytest.raises(SecretControlFlow, match="ring array is not defined"):
        client, server = inputs(case, _values(case, rng), _masks(case, rng), True)
        Session(services((), True), seed=b"branch", hybrid=True).run(fault.entry.proto, client, server, **case.public)


@pytest.mark.parametrize("entry", HARD, ids=lambda entry: entry.name)
def test_hard_variants_are_private(entry: Entry) -> None:
    joint = Joint(entry.proto, entry.cases[-1])
    for role in Role:
        assert joint.distance(role) == 0
