"""Protocols in the hybrid world (ideal OT, ideal HE) give what their functionalities do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.entry import Case, Entry
from tests.harness import HEAVY, adjusted, agree, rows, shares, words

LARGE = [pytest.mark.nightly]  # their real runs are slow, and hybrid ones no quicker to check


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "case"),
    [pytest.param(*r.values, id=r.id, marks=LARGE if r.values[0].name in HEAVY else []) for r in rows()],
)
@settings(max_examples=5)
@given(data=st.data())
def test_hybrid_protocol_equals_functionality(entry: Entry, case: Case, data: st.DataObject) -> None:
    values = adjusted(case, [data.draw(words(secret)) for secret in case.secrets])
    masks = [data.draw(shares(secret.ring, secret.shape)) for secret in case.secrets]
    agree(entry, case, values, masks, ideal=True)
