"""The one-ulp bound contains every output that one-ulp truncations can give, and little more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, Words, quantise, quantise_weights
from protocols.model.oracle import sparse_moe_layer
from protocols.model.tables import DEFAULT_TABLES
from secmoe.interval import one_ulp_bound

CONFIGS = [
    MoeConfig(6, 8, 4),
    MoeConfig(6, 8, 4, gated=False, activation="relu"),
    MoeConfig(6, 8, 5, k=2, activation="silu"),
    MoeConfig(6, 8, 5, k=3, renormalise=True),
]
FORMATS = [FixedPoint(64, 18), FixedPoint(32, 12)]


@contextmanager
def one_ulp_truncation(rng: np.random.Generator, share: float) -> Iterator[None]:
    """Every truncation of the oracle is one too low with this probability."""
    exact = FixedPoint.trunc

    def trunc(self: FixedPoint, v: Words, bits: int) -> Words:
        low: NDArray[np.uint64] = (rng.random(v.shape) < share).astype(np.uint64)
        return self.wrap(exact(self, v, bits) - low)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FixedPoint, "trunc", trunc)
        yield


def layer(config: MoeConfig, fp: FixedPoint, rng: np.random.Generator, n: int) -> tuple[Words, Words, MoeWeights]:
    d, f, E = config.d, config.f, config.E
    weights = MoeWeights(
        rng.normal(0, 0.5, (E, d)),
        rng.normal(0, 0.5, (E, f, d)),
        rng.normal(0, 0.5, (E, f, d)) if config.gated else None,
        rng.normal(0, 0.5, (E, d, f)),
    )
    return quantise(rng.normal(0, 1, (n, d)), fp), quantise(rng.normal(0, 1, (n, d)), fp), quantise_weights(weights, fp)


@pytest.mark.slow
@pytest.mark.parametrize("fp", FORMATS, ids=lambda fp: f"l={fp.l}")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.activation}, k={c.k}")
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.5, 1.0]), ties=st.booleans())
def test_every_one_ulp_run_is_admitted(config: MoeConfig, fp: FixedPoint, seed: int, share: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x, residual, weights = layer(config, fp, rng, 4)
    if ties:  # two experts that a single ulp tells apart: either route must be admitted
        router = weights.router.copy()
        router[1] = router[0]
        router[1, 0] += np.uint64(1)
        weights = MoeWeights(router, weights.w1, weights.v, weights.w2)
    table = DEFAULT_TABLES.get(config.activation)
    bound = one_ulp_bound(x, residual, weights, config, fp, table)
    with one_ulp_truncation(rng, share):
        noisy = sparse_moe_layer(x, residual, weights, config, fp, table).output
    assert bound.admits(noisy)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.activation}, k={c.k}")
def test_it_is_narrow_and_refuses_what_lies_outside(config: MoeConfig) -> None:
    fp = FORMATS[0]
    x, residual, weights = layer(config, fp, np.random.default_rng(1), 4)
    table = DEFAULT_TABLES.get(config.activation)
    output = sparse_moe_layer(x, residual, weights, config, fp, table).output
    bound = one_ulp_bound(x, residual, weights, config, fp, table)
    assert bound.admits(output)
    assert bound.width < 2**10  # of 2^18 ulp in a unit
    for error in (bound.width + 1, -bound.width - 1):
        wrong = output.copy()
        wrong[2:3, 3] += np.uint64(error % 2**64)
        assert not bound.admits(wrong)
