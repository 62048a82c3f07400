"""Fixed-point encoding: exact on the grid, to nearest between, refused outside."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.concrete import to_signed
from sim.fixed import FixedPointRange, decode, encode
from sim.ring import Ring

FORMATS = st.sampled_from([(64, 18), (32, 12), (16, 4), (8, 0), (8, 7), (64, 62)])


@given(FORMATS, st.data())
def test_to_nearest_ties_to_even(fmt: tuple[int, int], data: st.DataObject) -> None:
    l, s = fmt
    limit = (2.0 ** (l - 1) - 2 ** max(l - 54, 0)) / 2.0**s
    value = data.draw(st.floats(-limit, limit))
    word = int(to_signed(encode([value], Ring(l), s))[0])
    exact = Fraction(value) * 2**s
    assert word == round(exact)  # Fractions round half to even
    assert abs(decode(encode([value], Ring(l), s), s)[0] - value) <= 2.0 ** (-s - 1)


@given(st.integers(1, 53), st.data())
def test_grid_points_come_back(l: int, data: st.DataObject) -> None:
    """Every word but -2^(l-1), which is refused, is a float exactly while l <= 53."""
    s = data.draw(st.integers(0, l - 1))
    words = data.draw(st.lists(st.integers(-(2 ** (l - 1)) + 1, 2 ** (l - 1) - 1), min_size=1, max_size=5))
    reals = np.array(words) / 2.0**s
    assert to_signed(encode(reals, Ring(l), s)).tolist() == words
    assert decode(encode(reals, Ring(l), s), s).tolist() == reals.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2.0**19, -(2.0**19), 1e30])
def test_values_outside_the_ring_are_refused(value: float) -> None:
    with pytest.raises(FixedPointRange, match=r"2\^19 for 12 fractional bits in Z_2\^32"):
        encode([[0.0, value]], Ring(32), 12)


@pytest.mark.parametrize("l, s", [(64, 18), (32, 12), (8, 3)])
def test_the_largest_values(l: int, s: int) -> None:
    ulp = 2.0**-s
    top = 2.0 ** (l - 1 - s)
    below = np.nextafter(top, 0.0) if l > 53 else top - ulp
    assert abs(decode(encode([below, -below], Ring(l), s), s)).tolist() == [below, below]
    with pytest.raises(FixedPointRange):
        encode([top], Ring(l), s)
    if l < 53:  # rounds up to the bound
        with pytest.raises(FixedPointRange):
            encode([top - ulp / 2], Ring(l), s)


def test_shapes_are_kept() -> None:
    assert encode(np.zeros((2, 0, 3)), Ring(64), 18).shape == (2, 0, 3)
    assert encode(1.5, Ring(64), 18).shape == ()
