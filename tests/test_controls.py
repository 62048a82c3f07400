"""Every planted fault against every leak detector: the cells of `tests.controls`, run.

`make check` runs one fault of each kind; `make test` every fault once on one seed, with audits of one text of each
module and of all whose schedule tells or whose row is its own; `make nightly` all on 20 seeds, of which 19 must catch
it.
"""

from __future__ import annotations

import pytest

from proofs.counterexample import judge
from proofs.enumerate import Joint
from proofs.runs import Runs
from protocols.broken import BRANCH, FAULTS, LEAK, PUBLISHED, REAL, SCHEDULE, Fault
from protocols.broken.correlations import two_products
from protocols.catalog import CATALOG
from sim.role import Role
from tests.controls import (
    DETECTORS,
    ENUMERATION,
    EXCEPTIONS,
    ON_BYTES,
    ON_TEXTS,
    PROOF,
    REALS,
    STATISTICS,
    STRUCTURE,
    TEXTS,
    Row,
    expected,
)
from transcripts.power import audit_fault
from transcripts.sessions import examine, leaks
from transcripts.statistics import threshold
from transcripts.verdicts import LEAK as AUDIT_LEAK

SEEDS, AT_LEAST = 20, 19
BELOW = [f for f in FAULTS if f.kind == REAL]
ABOVE = [f for f in FAULTS if f.kind != REAL]
RUNNING = [f for f in ABOVE if f.kind != BRANCH]
FIRST = {f.entry.proto.run.__module__: f.name for f in reversed(RUNNING)}
AUDITED = [f for f in RUNNING if f.kind == SCHEDULE or f.name in {*EXCEPTIONS, *FIRST.values()}]


def _name(fault: Fault) -> str:
    return fault.name


def _rows(faults: list[Fault], quick: set[str]) -> list[object]:
    """Parameters: the faults named are quick, the others slow."""
    return [pytest.param(f, id=f.name, marks=[] if f.name in quick else [pytest.mark.slow]) for f in faults]


# -- the table itself -------------------------------------------------------------------------------------------------
def test_the_table_has_a_row_for_every_fault_and_a_detector_for_every_row() -> None:
    assert len(FAULTS) >= 40 and {f.source for f in FAULTS} >= set(PUBLISHED)
    assert set(REALS) == {f.name for f in BELOW} and set(EXCEPTIONS) <= {f.name for f in ABOVE}
    for fault in FAULTS:
        row = expected(fault)
        assert row.sees and row.why and row.runs >= 1 and not row.sees & row.may
        assert row.sees | row.may <= set(ON_BYTES if fault.kind == REAL else ON_TEXTS)
        assert row.model == ("real" if fault.kind == REAL else "hybrid")


def test_every_detector_is_the_only_one_for_some_fault_or_the_first_of_its_kind() -> None:
    rows = [expected(f) for f in FAULTS]
    assert {detector for row in rows for detector in row.sees} == set(DETECTORS)
    for detector in ON_BYTES:
        assert any(row.sees == {detector} for row in rows), detector
    assert TEXTS[BRANCH].sees == {PROOF} and STRUCTURE in TEXTS[SCHEDULE].sees and STATISTICS in TEXTS[LEAK].sees


def test_the_texts_of_faults_below_the_interfaces_are_the_honest_ones() -> None:
    """So no detector of texts can see them: what is proved of the catalog is proved of them."""
    honest = {entry.proto.run for entry in CATALOG} | {two_products.run}
    assert all(fault.entry.proto.run in honest for fault in BELOW)


# -- cells of texts ---------------------------------------------------------------------------------------------------
def _proof(fault: Fault) -> bool:
    found = [judge(fault.entry.proto, fault.entry.cases[0], role, fault.tiny).kind for role in Role]
    leaking = [kind for kind, role in zip(found, Role, strict=True) if fault.leaks_to(role)]
    return all(kind == fault.kind for kind in leaking)


def _enumeration(fault: Fault) -> bool:
    assert fault.tiny is not None
    laws = Joint(fault.entry.proto, fault.tiny) if fault.kind == LEAK else Runs(fault.entry.proto, fault.tiny)
    return all((laws.law(role).distance > 0) == fault.leaks_to(role) for role in Role)


def _audit(fault: Fault, row: Row, seed: str) -> set[str]:
    """Which audit cells report a leak to a party that the fault leaks to; none may to another."""
    seen = set()
    audited = audit_fault(fault, row.runs, seed)
    limit = threshold(audited.level, audited.family)
    for verdict in audited.verdicts:
        if verdict.kind == AUDIT_LEAK and verdict.leak is not None:
            assert fault.leaks_to(verdict.examined.sampler.corrupted), str(verdict)
            analysers = {s.analyser for s in verdict.examined.suspects if s.p <= limit}
            seen |= {STRUCTURE if name == "structure" else STATISTICS for name in analysers}
    return seen


@pytest.mark.parametrize("fault", _rows(ABOVE, {"mask_reused", "early_exit", "branch_on_truth"}))
def test_proofs_see_the_texts_that_they_should(fault: Fault) -> None:
    assert _proof(fault) == (PROOF in expected(fault).sees)


@pytest.mark.parametrize("fault", _rows([f for f in RUNNING if f.tiny is not None], {"mask_reused", "early_exit"}))
def test_enumeration_sees_every_text_that_has_a_tiny_instance(fault: Fault) -> None:
    assert ENUMERATION in expected(fault).sees and _enumeration(fault)


@pytest.mark.slow
@pytest.mark.parametrize("fault", AUDITED, ids=_name)
def test_audits_see_what_they_should(fault: Fault) -> None:
    row = expected(fault)
    wanted = row.sees & {STRUCTURE, STATISTICS}
    seen = _audit(fault, row, "controls")
    assert wanted <= seen <= wanted | row.may


@pytest.mark.nightly
@pytest.mark.parametrize("fault", RUNNING, ids=_name)
def test_audits_see_every_text_in_nearly_every_campaign(fault: Fault) -> None:
    row = expected(fault)
    wanted = row.sees & {STRUCTURE, STATISTICS}
    assert sum(wanted <= _audit(fault, row, f"controls {seed}") for seed in range(SEEDS)) >= AT_LEAST


# -- cells of real bytes ----------------------------------------------------------------------------------------------
def _seen(fault: Fault, row: Row, seed: str) -> set[str]:
    assert fault.services is not None
    case = next((c for c in fault.entry.cases if c.name == row.case), fault.entry.cases[0])
    return {name for name, _ in leaks(examine(fault.entry, case, row.runs, seed, fault.services))}


@pytest.mark.slow
@pytest.mark.parametrize("fault", _rows(BELOW, {"zero_reused", "slice_twice", "test_set_in_use"}))
def test_analysers_of_real_bytes_see_what_they_should(fault: Fault) -> None:
    row = expected(fault)
    seen = _seen(fault, row, "controls")
    assert row.sees <= seen <= row.sees | row.may, seen


@pytest.mark.nightly
@pytest.mark.parametrize("fault", BELOW, ids=_name)
def test_analysers_of_real_bytes_see_every_fault_in_nearly_every_session(fault: Fault) -> None:
    row = expected(fault)
    caught = [_seen(fault, row, f"controls {seed}") for seed in range(SEEDS)]
    assert sum(row.sees <= seen for seen in caught) >= AT_LEAST
    assert all(seen <= row.sees | row.may for seen in caught)
