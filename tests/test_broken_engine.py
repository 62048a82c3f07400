"""Faults below the interfaces: unspoiled skeletons are the real engines, and every fault still computes correctly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocols.broken import FAULTS, REAL, Fault
from protocols.broken.correlations import PRODUCTS as TWO_PRODUCTS
from protocols.broken.correlations import FaultyOt, two_products
from protocols.broken.engine import homomorphic
from protocols.broken.responses import FEW, MANY, PAIR
from protocols.entry import Case, Entry
from protocols.he.interface import Plan
from protocols.he.service import HeService
from protocols.linear import linear
from protocols.ot.service import OtService
from protocols.select import select_product
from secmoe.examples import Example, wrong
from sim.role import CLIENT, SERVER
from sim.world import Execution, Service, Session
from tests.harness import inputs

REALS = [f for f in FAULTS if f.kind == REAL]
ROWS = [pytest.param(f, case, id=f"{f.name}: {case.name}") for f in REALS for case in f.entry.cases]


def _drawn(case: Case, seed: int) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    values = [rng.integers(*s.range, s.shape, np.int64, endpoint=True) for s in case.secrets]
    return values, [rng.integers(0, s.ring.mask, s.shape, np.uint64, endpoint=True) for s in case.secrets]


def _runs(entry: Entry, case: Case, services: tuple[Service, ...], count: int) -> tuple[Session, list[Execution]]:
    session = Session(services, seed=b"below the interface")
    values, masks = _drawn(case, 3)
    client, server = inputs(case, values, masks)
    return session, [session.run(entry.proto, client, server, **case.public) for _ in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "case"), ROWS)
def test_every_fault_is_correct(fault: Fault, case: Case) -> None:
    assert fault.services is not None
    values, masks = _drawn(case, 3)
    example = Example(tuple(values), tuple(masks))
    for execution in _runs(fault.entry, case, fault.services(case.plans), 2)[1]:
        assert wrong(fault.entry, case, example, execution) is None


@pytest.mark.parametrize(("proto", "case"), [(linear, MANY), (linear, FEW), (select_product, PAIR)])
def test_the_engine_in_steps_is_the_real_one(proto: Any, case: Case) -> None:
    """Byte by byte, set-up included: what a fault changes is the one step that it overrides."""

    def real(plans: tuple[Plan, ...]) -> tuple[Service, ...]:
        return (HeService(plans, 1.0),)

    entry = Entry(proto, (case,))
    digests = []
    for services in (real, homomorphic()):
        session, executions = _runs(entry, case, services(case.plans), 2)
        digests.append([session.setup.digest, *(e.digest for e in executions)])
    assert digests[0] == digests[1]


def test_the_transfer_service_in_steps_is_the_real_one() -> None:
    entry = Entry(two_products, TWO_PRODUCTS)
    digests = []
    for service in (OtService(), FaultyOt()):
        session, executions = _runs(entry, TWO_PRODUCTS[0], (service,), 2)
        digests.append([session.setup.digest, *(e.digest for e in executions)])
    assert digests[0] == digests[1]


def test_every_fault_names_its_kind_its_source_and_whom_it_tells() -> None:
    for fault in REALS:
        assert fault.services is not None and not fault.symbolic and fault.found_in
        assert fault.leaks_to(CLIENT) or fault.leaks_to(SERVER)
