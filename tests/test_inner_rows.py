"""The narrow rings of Protocol 2 hold every word between the breakpoints, and any power beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.inner_rows import InnerRows, inner_rows
from protocols.model.tables import GELU_MINIMAX, SIGMOID_MINIMAX, SILU_MINIMAX, TABLES, Table
from sim.ring import Ring

CUBE = Table("cube", "test", (-2.0, 1.5), ((0.5, 0.0, 0.0, 0.0), (1.0, 2.0, -3.0, 0.5), (0.5, 1.0, 0.0, 0.0)), 1.0)


def found(table: Table, s: int) -> InnerRows:
    rows = inner_rows(table, s)
    assert rows is not None
    return rows


@pytest.mark.parametrize("s", [4, 12, 18])
@pytest.mark.parametrize("table", [*TABLES.values(), CUBE], ids=lambda t: t.name)
def test_every_word_between_the_breakpoints_fits(table: Table, s: int) -> None:
    """Products fill at least a quarter of their ring."""
    rows, breakpoints = found(table, s), table.words(s)[0]
    x = np.arange(breakpoints[0] + 1, breakpoints[-1] + 1)
    half, power, largest = 1 << (rows.powers - 1), x, 0
    total = np.empty_like(x)
    powers = [x]
    for centre in rows.centres:
        product = power * x + centre
        assert centre % (1 << s) == 0 and -half <= product.min() and product.max() < half
        largest = max(largest, int(product.max() - product.min()))
        power = (product >> s) - (centre >> s)
        powers.append(power)
    segment = np.searchsorted(breakpoints, x, side="left") - 1
    for j in range(len(breakpoints) - 1):
        here, row = segment == j, rows.rows[j]
        total[here] = (row[0] << s) + sum(c * p[here] for c, p in zip(row[1:], powers, strict=True))
    lifted = total + rows.lift
    assert rows.lift % (1 << s) == 0 and lifted.min() >= 0 and lifted.max() < 1 << (rows.sums - 1)
    assert largest >= half >> 1


@pytest.mark.parametrize("table", [*TABLES.values(), CUBE], ids=lambda t: t.name)
def test_any_power_of_the_ring_leaves_the_sign_known(table: Table) -> None:
    """Outside the breakpoints the powers are any words, an ulp low in one-ulp mode; no row may turn negative then."""
    s = 6
    rows, breakpoints = found(table, s), table.words(s)[0]
    half = 1 << (rows.powers - 1)
    for row, low, high in zip(rows.rows, breakpoints, breakpoints[1:], strict=False):
        ends = [(low + 1, high)]
        ends += [((-half >> s) - (c >> s) - 1, (half - 1 >> s) - (c >> s)) for c in rows.centres]
        least = sum(min(c * e for e in pair) for c, pair in zip(row[1:], ends, strict=True))
        most = sum(max(c * e for e in pair) for c, pair in zip(row[1:], ends, strict=True))
        assert least + (row[0] << s) + rows.lift >= 0 and most + (row[0] << s) + rows.lift < 1 << (rows.sums - 1)


def test_the_shipped_tables_need_41_or_42_bits() -> None:
    assert [(found(t, 18).powers, found(t, 18).sums) for t in (GELU_MINIMAX, SILU_MINIMAX)] == [(41, 41), (42, 42)]
    assert found(GELU_MINIMAX, 18).fits(Ring(46)) and not found(GELU_MINIMAX, 18).fits(Ring(40))
    assert found(GELU_MINIMAX, 18).linear and not found(SIGMOID_MINIMAX, 18).linear


OUTER = {
    "no inner row": Table("kink", "test", (0.0,), ((0.0, 0.0), (0.0, 1.0)), 1.0),
    "a first row that is not constant": Table("first", "test", (-1.0, 1.0), ((0.0, 1.0), (0.0, 2.0), (0.0, 1.0)), 1.0),
    "a last row of another slope": Table("slope", "test", (-1.0, 1.0), ((0.0, 0.0), (0.0, 1.0), (0.0, 2.0)), 1.0),
    "a last row that is shifted": Table("shift", "test", (-1.0, 1.0), ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0)), 1.0),
    "a quadratic last row": Table("last", "test", (-1.0, 1.0), ((0.0,) * 3, (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 1.0),
    "x where it is negative": Table("left", "test", (-3.0, -1.0), ((0.0, 0.0), (0.0, 2.0), (0.0, 1.0)), 1.0),
}


@pytest.mark.parametrize("table", OUTER.values(), ids=OUTER)
def test_other_tables_have_none(table: Table) -> None:
    assert inner_rows(table, 18) is None
