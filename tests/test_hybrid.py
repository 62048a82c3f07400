"""The hybrid world (ideal OT, ideal HE) against the real one: same headers, same results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.entry import Case, Entry
from sim.wire import AnySpec
from sim.world import Execution
from tests.harness import HEAVY, adjusted, agree, rows, session, shares, words

LARGE = [pytest.mark.nightly]  # their real runs are slow, and hybrid ones no quicker to check


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "case"),
    [pytest.param(*r.values, id=r.id, marks=LARGE if r.values[0].name in HEAVY else []) for r in rows()],
)
@settings(max_examples=10)
@given(data=st.data())
def test_hybrid_protocol_equals_functionality(entry: Entry, case: Case, data: st.DataObject) -> None:
    values = adjusted(case, [data.draw(words(secret)) for secret in case.secrets])
    masks = [data.draw(shares(secret.ring, secret.shape)) for secret in case.secrets]
    agree(entry, case, values, masks, ideal=True)


def headers(execution: Execution) -> list[tuple[tuple[int, str, str], AnySpec]]:
    """Canonical order and sizes, the session's run number left out."""
    return [((m.depth, m.sender.value, m.label.partition("/")[2]), m.spec) for m in execution.messages]


@pytest.mark.parametrize(("entry", "case"), rows())
def test_real_and_hybrid_runs_agree_in_labels_order_and_sizes(entry: Entry, case: Case) -> None:
    values = adjusted(case, [np.full(s.shape, s.range[0], dtype=np.int64) for s in case.secrets])
    masks = [np.zeros(s.shape, dtype=np.uint64) for s in case.secrets]
    real, hybrid = (agree(entry, case, values, masks, ideal=ideal) for ideal in (False, True))
    assert sorted(headers(real), key=str) == sorted(headers(hybrid), key=str)
    setups = [session(case.plans, ideal).setup for ideal in (False, True)]
    assert headers(setups[0]) == headers(setups[1])
