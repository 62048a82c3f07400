"""The ranking of columns: F statistics against least squares and scipy, and what is never chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from transcripts import screening
from transcripts.extraction import METADATA, Key
from transcripts.screening import best, f_statistics

ONE: Key = ("received", "layer/word", "bits")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.7, 1.0]), st.integers(1, 4))
def test_f_is_that_of_linear_models(seed: int, share: float, strata: int) -> None:
    """A mean per stratum and class against a mean per stratum, by least squares; of one stratum, scipy's."""
    rng = np.random.default_rng(seed)
    truth, stratum, training = rng.integers(0, 3, 80), rng.integers(0, strata, 80), rng.random(80) < share
    training[:12] = True
    small = rng.integers(-128, 128, (80, 3)).astype(np.int8)
    large = rng.normal(1e6, 2.0, (80, 2))
    columns: dict[Key, NDArray[Any]] = {ONE: small, (METADATA, "", ""): large}
    found = np.concatenate(list(f_statistics(columns, truth, stratum, training).values()))
    y = np.concatenate([small, large - 1e6], axis=1)[training]
    cell, of = (3 * stratum + truth)[training], stratum[training]

    def residual(group: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
        hot = (group[:, None] == np.unique(group)).astype(float)
        return ((y - hot @ np.linalg.lstsq(hot, y, rcond=None)[0]) ** 2).sum(0), hot.shape[1]

    (little, p), (much, q) = residual(cell), residual(of)
    if p > q and p < len(y):
        want = ((much - little) / (p - q)) / (little / (len(y) - p))
        assert found == pytest.approx(want, rel=1e-3, abs=1e-6)
        if strata == 1:
            groups = [y[cell == c] for c in np.unique(cell)]
            assert found == pytest.approx(stats.f_oneway(*groups).statistic, rel=1e-3, abs=1e-6)


def test_a_column_that_only_tells_the_place_has_no_f() -> None:
    place, truth = np.arange(60) % 5, np.arange(60) // 30
    part = np.stack([place, place + truth], axis=1).astype(np.int8)
    found = f_statistics({ONE: part}, truth, place, np.ones(60, bool))[ONE]
    assert found[0] == 0 and found[1] > 1e6


def test_constant_and_repeated_columns_are_not_chosen() -> None:
    truth = np.arange(40) % 2
    noise = np.random.default_rng(0).integers(-1, 2, 40)
    part = np.stack([np.full(40, 7), truth, truth, noise], axis=1).astype(np.int8)
    found = f_statistics({ONE: part}, truth, np.zeros(40, np.int64), np.ones(40, bool))
    assert found[ONE][0] == 0
    assert best(found, {ONE: part}, np.ones(40, bool), 4) == [(ONE, 1), (ONE, 3)]


def test_columns_have_the_same_statistics_alone_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one key or of many, in one go or in several, and in the order of the keys."""
    rng = np.random.default_rng(6)
    truth, stratum, training = rng.integers(0, 3, 60), rng.integers(0, 2, 60), rng.random(60) < 0.8
    columns: dict[Key, NDArray[Any]] = {
        ("received", f"layer/{i}", "bits"): rng.integers(-128, 128, (60, width)).astype(np.int8)
        for i, width in enumerate((1, 5, 0, 2, 130, 1))
    }
    columns[METADATA, "", ""] = rng.normal(1e6, 2.0, (60, 2))
    together = f_statistics(columns, truth, stratum, training)
    alone = {key: f_statistics({key: part}, truth, stratum, training)[key] for key, part in columns.items()}
    monkeypatch.setattr(screening, "AT_ONCE", 60 * 6)
    for found in (together, f_statistics(columns, truth, stratum, training)):
        assert list(found) == list(columns)
        for key, values in found.items():
            assert values.shape == columns[key].shape[1:] and values == pytest.approx(alone[key], rel=1e-12)
