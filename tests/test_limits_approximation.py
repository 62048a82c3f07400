"""Approximation errors: the bounds against dense samples, and planted tables."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.limits import PROVED, REFUTED
from proofs.limits.approximation import _exp_low, _rows, activation, exponential, goldschmidt, reciprocal, truncation
from proofs.limits.ledger import NARROW, STATED, WIDE, activation_rows
from proofs.limits.reference import (
    FUNCTIONS,
    GELU,
)
from proofs.limits.row import Bound
from protocols import functionalities as F
from protocols.model import oracle
from protocols.model.fixed_point import FixedPoint
from protocols.model.floating import piecewise
from protocols.model.tables import GELU_MINIMAX, TABLES, Table
from protocols.model.training.fit import FUNCTIONS as REAL
from protocols.truncate import FAITHFUL, MODES, ONE_ULP

# Tables


def sampled(table: Table, s: int) -> float:
    """The largest error of the rounded table on a sample, in floats."""
    breakpoints, rows = table.words(s)
    coarse = Table(
        table.name,
        table.function,
        tuple(b / 2.0**s for b in breakpoints),
        tuple(tuple(c / 2.0**s for c in row) for row in rows),
        1.0,
    )
    x = np.linspace(-8, 8, 160_001)
    return float(np.abs(piecewise(x, coarse) - REAL[table.function](x)).max())


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_stated_errors_hold_on_every_word_and_are_tight(table: Table) -> None:
    for mode in MODES:
        row = activation(table, 12, 32, mode, STATED[table.name][12, mode])
        assert row.verdict == PROVED, row
        assert STATED[table.name][12, mode] <= Fraction(12, 10) * Fraction(sampled(table, 12))


@pytest.mark.slow
def test_stated_errors_at_64_bits_hold_on_every_word_and_are_tight() -> None:
    rows = list(activation_rows(WIDE))
    assert len(rows) == 2 * len(TABLES) and all(row.verdict == PROVED for row in rows)
    for table in TABLES.values():
        for mode in MODES:
            assert STATED[table.name][18, mode] <= Fraction(12, 10) * Fraction(sampled(table, 18))


def changed(row: int, degree: int, by: float) -> Table:
    rows = [list(r) for r in GELU_MINIMAX.coefficients]
    rows[row][degree] += by
    return replace(GELU_MINIMAX, name="planted", coefficients=tuple(tuple(r) for r in rows))


@pytest.mark.parametrize(
    ("table", "where"),
    [
        (changed(3, 2, 0.01), "reached at x = 1."),
        (changed(1, 0, -0.01), "reached at x = -"),
        (changed(4, 1, 0.002), "reached at x = 3."),
        (replace(GELU_MINIMAX, breakpoints=(-5.0, -3.0, -1.0, 1.0, 4.5)), "reached at x = 4.5"),
    ],
    ids=["square", "constant", "slope", "breakpoint"],
)
def test_a_wrong_table_is_refuted_with_its_place(table: Table, where: str) -> None:
    row = activation(table, 12, 32, FAITHFUL, STATED["gelu-minimax"][12, FAITHFUL])
    assert row.verdict == REFUTED and where in row.statement and "stated 7.20e-3" in row.statement


@pytest.mark.parametrize("table", [changed(5, 1, 1e-3), changed(0, 0, 1e-3), changed(5, 2, 1e-3)])
def test_a_table_that_does_not_saturate_is_refuted(table: Table) -> None:
    """However small the error inside [-8, 8] is allowed to be, nothing bounds it outside."""
    assert activation(table, 12, 32, FAITHFUL, Fraction(10)).verdict == REFUTED


def test_the_tail_outside_the_range_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "gelu", replace(GELU, tail=Fraction(1, 10)))
    row = activation(GELU_MINIMAX, 12, 32, FAITHFUL, STATED["gelu-minimax"][12, FAITHFUL])
    assert row.verdict == REFUTED and "<= 1.00e-1" in row.statement


def test_a_bound_below_the_true_maximum_is_refuted() -> None:
    row = activation(GELU_MINIMAX, 12, 32, FAITHFUL, Fraction(71, 10**4))
    assert row.verdict == REFUTED and "<= 7.11e-3, stated 7.10e-3" in row.statement


def test_one_ulp_ends_hold_every_choice_of_carries() -> None:
    breakpoints, rows = GELU_MINIMAX.words(12)
    x = np.arange(-8 << 12, (8 << 12) + 1, 7)
    ends = np.stack(_rows(x, breakpoints, rows, 12, ONE_ULP))
    (exact,) = _rows(x, breakpoints, rows, 12, FAITHFUL)
    assert (ends.max(0) >= exact).all() and (ends == exact).any(0).all() and (ends == exact - 1).any(0).all()
    fp = FixedPoint(32, 12)
    assert (fp.signed(oracle.piecewise(fp.wrap(x.view(np.uint64)), GELU_MINIMAX, fp)) == exact).all()


# Exponential and reciprocal


def tight(row: Bound, stated: Fraction, least: float) -> None:
    assert row.verdict == PROVED, row
    assert Fraction(least) <= stated <= Fraction(12, 10) * Fraction(least), (row, least)


@pytest.mark.parametrize("fp", [NARROW, pytest.param(WIDE, marks=pytest.mark.slow)], ids=["32", "64"])
def test_exponential_and_reciprocal_hold_and_are_tight(fp: FixedPoint) -> None:
    z = -np.arange(13 << fp.s, dtype=np.int64)[::-1]
    for mode in MODES:
        values = F.exp_fixed(z, s=fp.s, l=fp.l) if mode == FAITHFUL else _exp_low(z, fp.s, fp.l)
        least = float(np.abs(values / 2.0**fp.guard - np.exp(z / 2.0**fp.s)).max())
        stated = STATED["exp"][fp.s, mode]
        tight(exponential(fp.s, fp.l, mode, stated), stated, least)
    D = np.unique(np.linspace(1 << fp.guard, 1 << (fp.guard + 7), 400_001).astype(np.int64))
    values = F.reciprocal_fixed(D, scale=fp.guard, spread=7)
    least = float(np.abs(values / 2.0**fp.guard * (D / 2.0**fp.guard) - 1).max())
    stated = STATED["reciprocal"][fp.s, FAITHFUL]
    tight(reciprocal(fp.s, fp.l, 7, FAITHFUL, stated), stated, least)


def test_bounds_below_the_true_maximum_are_refuted() -> None:
    for mode, e, r in ((FAITHFUL, 55, 78), (ONE_ULP, 56, 79)):
        for row in (exponential(12, 32, mode, Fraction(e, 10**4)), reciprocal(12, 32, 7, mode, Fraction(r, 10**4))):
            assert row.verdict == REFUTED and "stated" in row.statement


def test_a_wrong_first_guess_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "reciprocal_start", lambda scale: round(2.8 * 2.0**scale))
    assert reciprocal(12, 32, 7, FAITHFUL, STATED["reciprocal"][12, FAITHFUL]).verdict == REFUTED


def test_too_few_squarings_are_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    good = F.exp_fixed

    def coarse(z: np.ndarray[tuple[int, ...], np.dtype[np.int64]], *, s: int, l: int) -> object:
        return good(z, s=s, l=l) & ~np.int64(0xFF)

    monkeypatch.setattr(F, "exp_fixed", coarse)
    assert exponential(12, 32, FAITHFUL, STATED["exp"][12, FAITHFUL]).verdict == REFUTED


@given(st.integers(1, 7), st.integers(0, 2**32 - 1), st.sampled_from([14, 24]))
def test_classes_of_the_reciprocal_are_its_values(spread: int, seed: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    D = rng.integers(1 << scale, (1 << (scale + spread)) + 1, 50)
    powers = np.array([(1 << (scale + j)) + k for j in range(spread + 1) for k in (-1, 0, 1)])
    D = np.concatenate([D, np.clip(powers, 1 << scale, 1 << (scale + spread))])
    for word, exact in zip(D.tolist(), F.reciprocal_fixed(D, scale=scale, spread=spread).tolist(), strict=True):
        j = word.bit_length() - 1 - scale
        low, high = goldschmidt(np.array([word >> (j + 1)]), scale, 0)
        assert low == high and int(low[0]) >> (j + 1) == exact


@given(st.integers(0, 2**32 - 1), st.sampled_from([14, 24]))
def test_one_ulp_intervals_hold_every_choice_of_floors(seed: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    c = rng.integers(1 << (scale - 1), 1 << scale, 200)
    low, high = goldschmidt(c, scale, 1)

    def floor(v: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return (v >> np.int64(scale)) - rng.integers(0, 2, v.shape)

    one = np.int64(1 << scale)
    c = c - rng.integers(0, 2, c.shape)
    w = F.reciprocal_start(scale) - 2 * c
    e = one - floor(c * w)
    w = floor(w * (one + e))
    w = floor(w * (one + floor(e * e)))
    assert ((low <= w) & (w <= high)).all()


def test_one_ulp_intervals_are_near_the_extremes() -> None:
    """Of all patterns of floors, some come within an ulp of either end where the interval rule loses nothing else."""
    scale, c = 14, np.arange(1 << 13, 1 << 14)
    low, high = goldschmidt(c, scale, 1)
    one, found = np.int64(1 << scale), []
    for p in product((0, 1), repeat=6):
        w = F.reciprocal_start(scale) - 2 * (c - p[0])
        e = one - (((c - p[0]) * w >> scale) - p[1])
        w = (w * (one + e) >> scale) - p[2]
        found.append((w * (one + (e * e >> scale) - p[3]) >> scale) - p[4])
    assert (low <= np.min(found, 0)).all() and (np.max(found, 0) <= high).all()
    assert (np.min(found, 0) - low).min() <= 1 and (high - np.max(found, 0)).min() <= 1


@pytest.mark.parametrize("spread", [1, 3, 7])
def test_the_reciprocal_row_is_the_exact_maximum(spread: int) -> None:
    D = np.arange(1 << 14, (1 << (14 + spread)) + 1, dtype=np.int64)
    gap = int(np.abs(F.reciprocal_fixed(D, scale=14, spread=spread) * D - (1 << 28)).max())
    assert reciprocal(12, 32, spread, FAITHFUL, Fraction(gap, 1 << 28)).verdict == PROVED
    assert reciprocal(12, 32, spread, FAITHFUL, Fraction(gap - 1, 1 << 28)).verdict == REFUTED


def test_lowest_exponentials_hold_every_choice_of_floors() -> None:
    rng, s, l = np.random.default_rng(1), 12, 32
    z = -rng.integers(0, 13 << s, 4000)
    scale, shift = 14, 4
    u = (z >> shift) - rng.integers(0, 2, z.shape)
    v = (1 << scale) + u + ((u * u) >> (scale + 1)) - rng.integers(0, 2, z.shape)
    for _ in range(6):
        v = ((v * v) >> scale) - rng.integers(0, 2, z.shape)
    assert (_exp_low(z, s, l) <= v).all() and (v <= F.exp_fixed(z, s=s, l=l)).all()


# Truncation


def test_truncation_has_the_stated_errors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.verdict for row in truncation()] == [PROVED, PROVED]
    monkeypatch.setattr(F, "wrap", lambda v, l: v)  # values read as unsigned
    assert [row.verdict for row in truncation()] == [REFUTED, REFUTED]
