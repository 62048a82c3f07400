"""What one catalog row gives: exactness against its functionality, and one cost in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.entry import Case, Entry, declared_cost
from sim.message import Message
from sim.role import CLIENT, SERVER
from sim.wire import AnySpec
from sim.world import Execution
from tests.harness import HEAVY, adjusted, agree, inputs, nightly, rows, session, shares, words


@pytest.mark.parametrize(("entry", "case"), rows())
def test_protocol_equals_functionality_at_its_price(entry: Entry, case: Case) -> None:
    """Five times, or twice where a run takes seconds: what those are made of has rows of its own. That it does for all
    inputs is proved in tests/test_correct.py and tests/test_ledger.py. The last run costs what is declared."""
    executions = list[Execution]()

    @settings(max_examples=2 if entry.name in HEAVY else 5)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        values = adjusted(case, [data.draw(words(secret)) for secret in case.secrets])
        masks = [data.draw(shares(secret.ring, secret.shape)) for secret in case.secrets]
        executions.append(agree(entry, case, values, masks))

    holds()
    check_cost(entry, case, executions[-1])


def zeros(case: Case) -> tuple[list[Any], list[Any]]:
    values = adjusted(case, [np.full(s.shape, s.range[0], dtype=np.int64) for s in case.secrets])
    masks = [np.zeros(s.shape, dtype=np.uint64) for s in case.secrets]
    return inputs(case, values, masks)


def headers(messages: Sequence[Message]) -> list[tuple[int, str, str, AnySpec]]:
    """Depth within the protocol is compared by rank: provisioning comes first in a real run."""
    ranks = {depth: rank for rank, depth in enumerate(sorted({m.depth for m in messages}))}
    return sorted(
        ((ranks[m.depth], m.sender.value, m.label.partition("/")[2], m.spec) for m in messages), key=lambda h: h[:3]
    )


def check_cost(entry: Entry, case: Case, execution: Execution) -> None:
    """The cost of the shapes is the wire's is the declared one."""
    priced = session(case.plans).price(entry.proto, *zeros(case), **case.public)
    wire = execution.scope(f"{execution.prefix}/{entry.name}")
    assert headers(wire) == headers(priced.messages)
    assert priced.cost.row() == declared_cost(entry, case).row()
    for role, nbytes in ((CLIENT, priced.cost.c2s), (SERVER, priced.cost.s2c)):
        assert sum(m.nbytes for m in wire if m.sender is role) == nbytes
        assert all(m.payload is not None and len(m.payload) == m.nbytes for m in wire)


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), [row for row in rows(all_quick=True) if nightly(*row.values)])
def test_what_is_run_at_night_has_its_price_by_day(entry: Entry, case: Case) -> None:
    check_cost(entry, case, session(case.plans).run(entry.proto, *zeros(case), **case.public))
