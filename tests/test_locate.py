"""Where a word lies among thresholds: every sharing of every word of a small ring, and the ends of the range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.compare import greater_than
from protocols.locate import ThresholdError, comparable, locate, window_bits
from protocols.model.tables import GELU_MINIMAX
from sim.ring import Ring, Spec
from sim.shapes import blank
from tests.shared_runs import every_sharing, result, share

GELU = GELU_MINIMAX.words(18)[0]


@pytest.mark.parametrize("thresholds", [(0,), (-1, 0), (-3, -2, 1), (-4, 0), (2, 3, 5), (-2, 3)])
def test_every_sharing_of_every_word(thresholds: tuple[int, ...]) -> None:
    """6 bits; a last threshold at the end of the window (-4, 0), one inside it, none but the first."""
    ring = Ring(6)
    low, high = comparable(ring, thresholds)
    x, shares = every_sharing(ring, np.arange(low, high + 1))
    for w in (1, 3):
        got = result(locate, shares, thresholds=thresholds, w=w)
        assert np.array_equal(got, np.stack([x > b for b in thresholds]))


def test_beyond_the_range_it_is_wrong() -> None:
    """The declared range is not narrower than it must be: one word less, and a bit is wrong."""
    thresholds = (-3, -2, 1)
    low, high = comparable(Ring(6), thresholds)
    for x in (low - 1, high + 1):
        got = result(locate, share(Ring(6), np.array([x])), thresholds=thresholds)
        assert not np.array_equal(got[:, 0], [x > b for b in thresholds])


@settings(max_examples=10)
@given(
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=6, unique=True).map(sorted),
    st.integers(1, 6),
    st.integers(24, 64),
    st.data(),
)
def test_any_thresholds_in_any_ring(thresholds: list[int], w: int, l: int, data: st.DataObject) -> None:
    low, high = comparable(Ring(l), thresholds)
    near = st.sampled_from(thresholds).flatmap(lambda b: st.integers(b - 2, b + 2))
    values = data.draw(st.lists(near | st.integers(low, high), min_size=1, max_size=8))
    x = np.clip(np.array([low, high, *values]), low, high)
    got = result(locate, share(Ring(l), x), thresholds=thresholds, w=w)
    assert np.array_equal(got, np.stack([x > b for b in thresholds]))


def test_it_is_cheaper_than_comparing_with_each() -> None:
    x = blank(Spec(Ring(64), (100,)))
    for w in (2, 3, 4):
        near, each = locate.declared(x, thresholds=GELU, w=w), greater_than.declared(x, thresholds=GELU, w=w)
        assert near.nbytes < 0.55 * each.nbytes
    assert window_bits(GELU) == 21  # the last of them is the window's end: 2^21 = 8 2^18


@pytest.mark.parametrize("thresholds", [(0, 0), (1, 0), (-16, 17)])
def test_thresholds_that_do_not_rise_or_reach_too_far_are_refused(thresholds: tuple[int, ...]) -> None:
    with pytest.raises(ThresholdError, match="expected rising ones within 2"):
        result(locate, share(Ring(6), np.zeros(1, np.int64)), thresholds=thresholds)
