"""Protocol 2: both forms, bit for bit, around every breakpoint, over a small ring, and at the ends of the range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import functionalities as F
from protocols.locate import comparable
from protocols.model import oracle
from protocols.model.fixed_point import FixedPoint
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, TABLES, Table
from protocols.polynomial import CHEAPEST, FORMS, MUX, PolynomialForm, narrow_rows, piecewise
from sim.ring import Ring, Spec
from sim.shapes import blank
from tests.shared_runs import Ints, result, share

CUBIC = Table(
    "cubic", "test", (-1.5, 0.25), ((0.5, -0.25, 1.0, 0.125), (1.0, 2.0, -3.0, 0.5), (0.0, 1.0, 0.0, -0.75)), 1.0
)
BETWEEN = Table(
    "between", "test", (-1.5, 0.25), ((0.5, 0.0, 0.0, 0.0), (1.0, 2.0, -3.0, 0.5), (0.5, 1.0, 0.0, 0.0)), 1.0
)
LINES = Table("lines", "test", (-1.0, 1.0), ((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0)), 1.0)
KINK = Table("kink", "test", (0.0,), ((0.0, -1.0), (0.0, 1.0)), 1.0)
ALL = (*TABLES.values(), CUBIC, BETWEEN, LINES, KINK)


def want(x: Ints, table: Table, fp: FixedPoint) -> Ints:
    return oracle.piecewise(fp.wrap(np.asarray(x, dtype=np.int64).view(np.uint64)), table, fp)


def check(x: Ints, table: Table, fp: FixedPoint, **public: Any) -> None:
    """Both forms equal the oracle bit for bit, each under fresh shares; so does x in the ring of a floor by s bits."""
    expected = want(x, table, fp)
    short = Ring(fp.l - fp.s)
    if narrow_rows(table, fp.s, CHEAPEST, short) is not None:
        low, high = comparable(short, table.words(fp.s)[0])
        inside = (low <= x) & (x <= high)
        fewer = share(short, x[inside])
        got = result(piecewise, fewer, table=table, s=fp.s, into=Ring(fp.l), **public)
        assert np.array_equal(got, expected[inside])
    for form in FORMS:
        got = result(piecewise, share(Ring(fp.l), x), table=table, s=fp.s, form=form, **public)
        assert np.array_equal(got, expected), form
    if fp.l == 64:
        assert np.array_equal(F.PIECEWISE.compute(x, table=table, s=fp.s).view(np.uint64), expected)


@pytest.mark.slow
@pytest.mark.parametrize("table", ALL, ids=lambda t: t.name)
@pytest.mark.parametrize("l, s", [(64, 18), (32, 12)])
def test_around_every_breakpoint(table: Table, l: int, s: int) -> None:
    breakpoints, _ = table.words(s)
    x = np.unique(np.concatenate([np.arange(b - 16, b + 17) for b in (*breakpoints, 0)]))
    check(x, table, FixedPoint(l, s))


@pytest.mark.parametrize("table", [GELU_PUBLISHED, GELU_MINIMAX], ids=lambda t: t.name)
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_word_of_a_small_format(table: Table, step: int) -> None:
    """16 bits, 4 of them fractional: all of -2^14 < x < 2^11, where 2^4 x does not wrap, or every seventh."""
    check(np.arange(-(2**14) + 1, 2**11, step), table, FixedPoint(16, 4))


@pytest.mark.parametrize("table", [CUBIC, BETWEEN, LINES, KINK], ids=lambda t: t.name)
def test_other_degrees_over_a_small_format(table: Table) -> None:
    """All |x| whose powers stay below 2^15 as ring elements."""
    limit = 181 if table.degree > 1 else 2**11
    check(np.arange(-limit, limit + 1), table, FixedPoint(16, 4))


@pytest.mark.parametrize("table", [GELU_PUBLISHED, GELU_MINIMAX], ids=lambda t: t.name)
def test_at_the_ends_of_the_range(table: Table) -> None:
    """|x| < 2^62: far outside, where the square means nothing, the outer rows (0 and x) still come out."""
    ends = np.array([2**62 - 1, 2**61, 2**45, 2**45 - 1, 2**32, 2**31 + 1])
    x = np.concatenate([ends, -ends])
    check(x[x < 2**45], table, FixedPoint())  # 2^s x does not wrap
    got = result(piecewise, share(Ring(64), x), table=table, s=18)
    assert np.array_equal(got, np.maximum(x, 0))


def test_every_word_of_a_short_ring() -> None:
    """14 bits, 4 of them fractional, into 18: every word in the range of the comparisons, ends included."""
    low, high = comparable(Ring(14), GELU_MINIMAX.words(4)[0])
    x = np.arange(low, high + 1)
    got = result(piecewise, share(Ring(14), x), table=GELU_MINIMAX, s=4, into=Ring(18))
    assert np.array_equal(got, want(x, GELU_MINIMAX, FixedPoint(18, 4)))
    assert low < -(2**13) + 2**7 and high > 2**13 - 2**7


def test_a_ring_for_the_result_needs_narrow_rows() -> None:
    x = share(Ring(46), np.zeros(1, np.int64))
    with pytest.raises(PolynomialForm, match="expected a table with narrow rows"):
        result(piecewise, x, table=GELU_MINIMAX, s=18, form=MUX, into=Ring(64))


@pytest.mark.slow
@settings(max_examples=6)
@given(
    values=st.lists(st.integers(-(2**23), 2**23), min_size=1, max_size=6),
    table=st.sampled_from(ALL),
    w=st.integers(1, 6),
)
def test_any_value_any_table_any_digit_width(values: list[int], table: Table, w: int) -> None:
    check(np.array(values), table, FixedPoint(), w=w)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.name)
def test_the_error_against_the_function(table: Table) -> None:
    """The protocol's functionality on a grid of 2^-6 over [-8, 8]: the table's error, and at most 3 ulp of floors."""
    x = np.arange(-(8 << 18), (8 << 18) + 1, 1 << 12)
    v = x / 2.0**18
    exact = {
        "gelu": v * np.array([normal(float(a)) for a in v]),
        "silu": v / (1 + np.exp(-v)),
        "sigmoid": 1 / (1 + np.exp(-v)),
    }[table.function]
    got = F.PIECEWISE.compute(x, table=table, s=18) / 2.0**18
    error = np.abs(got - exact).max()
    assert table.max_error / 1.5 < error <= table.max_error * 1.02 + 3 * 2.0**-18


def normal(v: float) -> float:
    from math import erf, sqrt

    return (1 + erf(v / sqrt(2))) / 2


def test_an_unknown_form_is_refused() -> None:
    x = share(Ring(64), np.zeros(1, np.int64))
    with pytest.raises(PolynomialForm, match="expected one of cheapest, mux, got 'fast'"):
        result(piecewise, x, table=GELU_MINIMAX, s=18, form="fast")


def test_the_cheapest_form_is_cheaper() -> None:
    x = blank(Spec(Ring(64), (100,)))
    cheapest, mux = (piecewise.declared(x, table=GELU_MINIMAX, s=18, form=form) for form in (CHEAPEST, MUX))
    assert cheapest.nbytes < 0.4 * mux.nbytes
    assert cheapest.rounds <= mux.rounds
