"""Activations by look-up: the stated error, the oracle's words on the whole range, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import functionalities as F
from protocols.look_up import look_up
from protocols.model import oracle
from protocols.model.fixed_point import FixedPoint
from protocols.model.tables import GELU_LOOK_UP, LOOK_UPS, LookUp, TableError
from protocols.model.training.fit import FUNCTIONS
from protocols.ot.ideal import IdealOtService
from sim.concrete import from_words, to_words
from sim.ring import Ring
from sim.role import CLIENT, SERVER
from sim.world import Session

S, FP = 18, FixedPoint(64, 18)
TABLES = list(LOOK_UPS.values())
EDGES = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (1 << 21) - 1, 1 << 21, (1 << 12) - 1, 1 << 12, (1 << 62) - 1]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_stated_error_is_the_error(table: LookUp) -> None:
    """On a grid of 1/4096 over [-16, 16], and just beside the steps, where it is largest."""
    steps = np.arange(0, 1 << (S + 4), 1 << table.shift(S))
    sizes = np.unique(np.concatenate([np.arange(0, 1 << (S + 4), 64), steps, np.maximum(steps - 1, 0)]))
    x = np.concatenate([-sizes, sizes])
    words = oracle.look_up(FP.wrap(x.astype(np.uint64)), table, FP)
    error = np.abs(FP.signed(words) / 2.0**S - FUNCTIONS[table.function](x / 2.0**S)).max()
    assert 0.95 * table.max_error < error <= table.max_error


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@settings(max_examples=4)
@given(st.lists(st.integers(-(1 << 62) + 1, (1 << 62) - 1) | st.integers(-(1 << 22), 1 << 22), min_size=1, max_size=6))
def test_the_protocol_is_the_functionality_and_the_oracle(table: LookUp, drawn: list[int]) -> None:
    x = np.array([*drawn, *EDGES, *(-e for e in EDGES)], np.int64)
    words = x.astype(np.uint64)
    mine = np.random.default_rng(len(drawn)).integers(0, 1 << 64, x.shape, np.uint64)
    session = Session([IdealOtService()], hybrid=True)
    shares = [from_words(Ring(64), part) for part in (mine, words - mine)]
    execution = session.run(look_up, [shares[0]], [shares[1]], table=table, s=S)
    found = to_words(execution.outputs[CLIENT] + execution.outputs[SERVER])
    assert np.array_equal(found.view(np.int64), F.LOOKED_UP.compute(x, table=table, s=S))
    assert np.array_equal(found, oracle.look_up(words, table, FP))


def test_what_is_refused() -> None:
    with pytest.raises(TableError, match="a function of gelu, silu"):
        replace(GELU_LOOK_UP, function="tanh")
    with pytest.raises(TableError, match="expected more than 6 fractional bits, got 6"):
        GELU_LOOK_UP.shift(6)
