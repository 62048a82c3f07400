"""The hybrid world (ideal OT, ideal HE) against the real one: same headers, same results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.catalog import CATALOG, Case, Entry
from sim.message import Message
from sim.wire import AnySpec
from tests.harness import adjusted, agree, shares, words

ROWS = [(entry, case) for entry in CATALOG for case in entry.cases]
IDS = [f"{entry.name}: {case.name}" for entry, case in ROWS]


@pytest.mark.parametrize(("entry", "case"), ROWS, ids=IDS)
@settings(max_examples=10)
@given(data=st.data())
def test_hybrid_protocol_equals_functionality(entry: Entry, case: Case, data: st.DataObject) -> None:
    values = adjusted(case, [data.draw(words(secret)) for secret in case.secrets])
    masks = [data.draw(shares(secret.ring, secret.shape)) for secret in case.secrets]
    agree(entry, case, values, masks, ideal=True)


def headers(messages: Sequence[Message]) -> list[tuple[int, str, str, AnySpec]]:
    first = min((m.depth for m in messages), default=0)
    found = [(m.depth - first, m.sender.value, m.label.partition("/")[2], m.spec) for m in messages]
    return sorted(found, key=lambda header: header[:3])


@pytest.mark.parametrize(("entry", "case"), ROWS, ids=IDS)
def test_real_and_hybrid_runs_agree_in_labels_order_and_sizes(entry: Entry, case: Case) -> None:
    values = adjusted(case, [np.full(s.shape, s.range[0], dtype=np.int64) for s in case.secrets])
    masks = [np.zeros(s.shape, dtype=np.uint64) for s in case.secrets]
    real, hybrid = (agree(entry, case, values, masks, ideal=ideal) for ideal in (False, True))
    scopes = (run.scope(f"{run.prefix}/{entry.name}") for run in (real, hybrid))
    ours, theirs = (headers(scope) for scope in scopes)
    assert [h[1:] for h in ours] == [h[1:] for h in theirs] or sorted(h[1:3] for h in ours) == sorted(
        h[1:3] for h in theirs
    )
    assert {h[1:3]: h[3] for h in ours} == {h[1:3]: h[3] for h in theirs}
