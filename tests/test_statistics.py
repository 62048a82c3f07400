"""The tests of statistics: scipy is the oracle, closed forms are checked against simulation, sums add up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from transcripts.statistics import (
    binomial_interval,
    chi2,
    detectable,
    fisher,
    holm,
    power_of,
    power_sums,
    runs_for,
    welch,
)


@given(st.lists(st.tuples(st.integers(10, 400), st.integers(10, 400)), min_size=2, max_size=9))
def test_chi2_is_scipys(rows: list[tuple[int, int]]) -> None:
    a, b = np.array(rows).T
    found = chi2(a[None], b[None])
    want = scipy.stats.chi2_contingency(np.stack([a, b]), correction=False)
    assert found.p[0] == pytest.approx(want.pvalue, rel=1e-9)
    assert found.effect[0] == pytest.approx(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
    assert found.tested[0]


def test_rare_bins_are_pooled_and_empty_tables_are_not_tested() -> None:
    a, b = np.array([[100, 6, 2, 0], [50, 0, 0, 0]]), np.array([[100, 5, 9, 0], [60, 0, 0, 0]])
    found = chi2(a, b)
    want = scipy.stats.chi2_contingency([[100, 8], [100, 14]], correction=False).pvalue
    assert found.p[0] == pytest.approx(want)
    assert found.tested.tolist() == [True, False]
    assert found.p[1] == 1


@pytest.mark.parametrize(("shares", "slack"), [((1, 1), 1), ((2, 1), 3)])
def test_the_far_tail_of_rare_cells_is_hardly_lighter_than_the_exact_one(shares: tuple[int, int], slack: int) -> None:
    na, nb = (500 * share for share in shares)
    for k in (10, 20, 40):
        p = chi2(np.array([[na, 0]]), np.array([[nb - k, k]])).p[0]
        exact = scipy.stats.hypergeom.sf(k - 1, na + nb, nb, k)
        assert p >= exact / slack


@pytest.mark.slow
@given(st.integers(0, 2**32), st.floats(-0.4, 0.4), st.floats(0.1, 0.5))
def test_welch_of_both_orders_is_scipys(seed: int, shift: float, width: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-0.5, 0.5, (80, 3)), rng.uniform(-width, width, (120, 3)) + shift
    sums = power_sums(a), power_sums(b)
    want = scipy.stats.ttest_ind(a, b, equal_var=False).pvalue
    assert welch(*sums).p == pytest.approx(want, rel=1e-6)
    squares = [(x - x.mean(0)) ** 2 for x in (a, b)]
    want = scipy.stats.ttest_ind(*squares, equal_var=False).pvalue
    assert welch(*sums, order=2).p == pytest.approx(want, rel=1e-6)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    x = np.random.default_rng(1).integers(-8, 8, (90, 4)) / 8.0  # exact in floating point
    assert np.array_equal(power_sums(x[:40]) + power_sums(x[40:]), power_sums(x))


def test_constants_are_an_infinite_t_and_equal_constants_are_nothing() -> None:
    low, high = np.full((30, 1), 0.25), np.full((40, 1), 0.5)
    apart, same = welch(power_sums(low), power_sums(high)), welch(power_sums(low), power_sums(low[:20]))
    assert apart.p[0] == 0 and np.isinf(apart.effect[0]) and apart.tested[0]
    assert same.p[0] == 1 and not same.tested[0]


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=8), st.integers(0, 20))
def test_holm_is_the_step_down_of_its_definition(p: list[float], more: int) -> None:
    p, level = sorted(p), 0.05
    family = len(p) + more
    want = 0
    while want < len(p) and p[want] <= level / (family - want):
        want += 1
    assert holm(p, level, family) == want


def test_the_effect_that_is_detectable_has_the_power_that_is_claimed() -> None:
    shift = detectable(500, 250, 1e-3, 4000, power=0.8)
    assert power_of(shift, 500, 250, 1e-3, 4000) == pytest.approx(0.8)
    runs = runs_for(shift, 1e-3, 4000, power=0.8)
    assert 996 <= runs <= 1004


def test_power_as_measured_is_power_as_computed() -> None:
    rng, trials, level, family, shift = np.random.default_rng(7), 600, 0.05, 10, 0.42
    a, b = rng.normal(size=(trials, 200)).T / 16, rng.normal(shift, size=(trials, 100)).T / 16
    found = int((welch(power_sums(a), power_sums(b)).p <= level / family).sum())
    low, high = binomial_interval(found, trials, 0.999)
    assert low <= power_of(shift, 200, 100, level, family) <= high
    assert 0.3 < found / trials < 0.95  # neither end would say anything


@given(*(st.integers(0, 40),) * 4)
def test_the_permutation_p_of_a_table_is_fishers(a: int, b: int, c: int, d: int) -> None:
    want = scipy.stats.fisher_exact([[a, b], [c, d]], alternative="greater").pvalue
    assert fisher([[a, b], [c, d]]) == pytest.approx(want, rel=1e-6, abs=1e-300)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_binomial_interval_is_clopper_and_pearsons(k: int, n: int) -> None:
    k = min(k, n)
    want = scipy.stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert binomial_interval(k, n) == pytest.approx((want.low, want.high), abs=1e-9)
