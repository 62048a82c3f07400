"""The fixed-point oracle against float64: every error stays within a bound that is stated, and the bounds are not
idle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.model import oracle
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, dequantise, quantise, quantise_weights
from protocols.model.floating import activate, float_layer, piecewise
from protocols.model.store import load_model
from protocols.model.tables import GELU_MINIMAX, TABLES, Table

Floats = NDArray[np.float64]

WIDE, NARROW = FixedPoint(64, 18), FixedPoint(32, 12)
EXP_ERROR = {WIDE: 5.7e-5, NARROW: 5.6e-3}  # absolute, over all z <= 0
RECIPROCAL_ERROR = {WIDE: 6.2e-5, NARROW: 7.9e-3}  # relative, over sums of up to 128 terms


def as_words(v: NDArray[np.int64], fp: FixedPoint) -> NDArray[np.uint64]:
    return fp.wrap(v.view(np.uint64))


@pytest.mark.slow
@pytest.mark.parametrize("fp", [WIDE, NARROW])
def test_exponential_on_every_word_down_to_the_clip(fp: FixedPoint) -> None:
    z = -np.arange(14 << fp.s, dtype=np.int64)
    e = fp.signed(oracle.exponential(as_words(z, fp), fp))
    error = np.abs(e / 2.0**fp.guard - np.exp(z / 2.0**fp.s)).max()
    assert EXP_ERROR[fp] / 1.1 < error < EXP_ERROR[fp]
    assert e.min() == 0 and e.max() == 1 << fp.guard and not e[13 << fp.s :].any()


@pytest.mark.slow
@pytest.mark.parametrize("fp", [WIDE, NARROW])
def test_reciprocal_over_its_whole_range(fp: FixedPoint) -> None:
    """A grid and the neighbours of every power of two; every word for 128 terms in the narrow ring."""
    F, worst = fp.guard, 0.0
    for terms in (2, 3, 8, 16, 100, 128):
        top = 1 << (F + oracle.reciprocal_steps(terms))
        powers = np.array([1 << i for i in range(F, top.bit_length())])
        grid = np.arange(1 << F, top + 1, 4999 if fp is WIDE else 1 if terms == 128 else 11)
        D = np.clip(np.unique(np.concatenate([grid, powers - 1, powers, powers + 1])), 1 << F, top)
        r = fp.signed(oracle.reciprocal(D.view(np.uint64), terms, fp))
        worst = max(worst, float(np.abs(r / 2.0**F * (D / 2.0**F) - 1).max()))
    assert RECIPROCAL_ERROR[fp] / 1.1 < worst < RECIPROCAL_ERROR[fp]


@pytest.mark.parametrize("fp", [WIDE, NARROW])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_in_fixed_point(table: Table, fp: FixedPoint) -> None:
    """On every word of [-8, 8] (each 61st in the wide ring): within the bound of activation_error."""
    x = np.arange(-8 << fp.s, (8 << fp.s) + 1, 1 if fp is NARROW else 61)
    got = fp.signed(oracle.piecewise(as_words(x, fp), table, fp)) / 2.0**fp.s
    real = x / 2.0**fp.s
    assert (np.abs(got - piecewise(real, table)) <= polynomial_error(real, table, 2.0**-fp.s, 0.0)).all()


def polynomial_error(x: Floats, table: Table, ulp: float, dx: float) -> Floats:
    """Bound on the quadratic evaluated at a word within dx of x, in the same segment: coefficients half an ulp off,
    one floor for x^2, one for the result."""
    rows = np.abs(np.asarray(table.coefficients))[np.searchsorted(table.breakpoints, x)]
    size = np.abs(x) + dx
    slope = rows[..., 1] + rows[..., 2] * 2 * size + ulp * (1 + size)
    return np.asarray((1 + size + size**2) * ulp / 2 + (rows[..., 2] + ulp) * ulp + ulp + slope * dx)


@dataclass(frozen=True)
class Bound:
    """Error bound of the layer's output and of its probabilities, from the float values alone [n, ...]."""

    output: Floats
    probabilities: Floats


def layer_bound(
    x: Floats, w: MoeWeights, config: MoeConfig, routes: NDArray[np.int64], p: Floats, table: Table, fp: FixedPoint
) -> Bound:
    """For top-1: one floor at every truncation, exp and reciprocal as measured above, everything propagated to first
    order and the products of two errors added. x and weights are exact in fixed point."""
    ulp, expert = 2.0**-fp.s, routes[:, 0]
    dp = p**2 * (config.E - 1) * (EXP_ERROR[fp] + 2 * ulp) * 1.1 + p * RECIPROCAL_ERROR[fp] + ulp
    h = np.einsum("efd,nd->nef", w.w1, x)[np.arange(len(x)), expert]
    near = np.min([np.abs(h - b) for b in table.breakpoints], axis=0) <= ulp
    jump = max(abs(float(np.diff(piecewise(np.array([b, b + 1e-9]), table))[0])) for b in table.breakpoints)
    if config.activation == "relu":
        a, da = np.maximum(h, 0), np.full_like(h, ulp)
    else:
        a, da = piecewise(h, table), polynomial_error(h, table, ulp, ulp) + near * jump
    if w.v is None:
        g, dg = a, da
    else:
        v = np.einsum("efd,nd->nef", w.v, x)[np.arange(len(x)), expert]
        g, dg = a * v, np.abs(a) * ulp + np.abs(v) * da + da * ulp + ulp
    y = np.einsum("ndf,nf->nd", w.w2[expert], g)
    dy = np.einsum("ndf,nf->nd", np.abs(w.w2[expert]), dg) + ulp
    return Bound(p * dy + np.abs(y) * dp + dp * dy + ulp, dp)


def rounded(values: Floats, fp: FixedPoint) -> Floats:
    return dequantise(quantise(values, fp), fp)


@pytest.mark.parametrize("fp", [WIDE, NARROW])
@pytest.mark.parametrize("E", [2, 3, 8, 33, 128])
@pytest.mark.parametrize(("gated", "activation"), [(True, "gelu"), (False, "relu"), (True, "silu")])
def test_layer_within_its_bound_of_float(fp: FixedPoint, E: int, gated: bool, activation: str) -> None:
    rng = np.random.default_rng([E, gated, len(activation)])
    config = MoeConfig(16, 24, E, gated=gated, activation=activation)  # type: ignore[arg-type]
    table = next((t for t in (GELU_MINIMAX, *TABLES.values()) if t.function == activation), GELU_MINIMAX)

    def draw(*shape: int) -> Floats:
        return rounded(rng.normal(size=shape) / np.sqrt(shape[-1]) * 1.5, fp)

    weights = MoeWeights(draw(E, 16), draw(E, 24, 16), draw(E, 24, 16) if gated else None, draw(E, 16, 24))
    x, residual = draw(50, 16) * 4, draw(50, 16)
    trace = oracle.sparse_moe_layer(
        quantise(x, fp), quantise(residual, fp), quantise_weights(weights, fp), config, fp, table
    )
    real = float_layer(x, residual, weights, config, table, trace.routes)
    check_routes(real.logits, trace.routes, fp)
    bound = layer_bound(x, weights, config, trace.routes, real.probabilities, table, fp)
    assert (np.abs(dequantise(trace.probabilities, fp) - real.probabilities) <= bound.probabilities).all()
    error = np.abs(dequantise(trace.output, fp) - real.output)
    assert (error <= bound.output).all()
    assert error.max() > bound.output.max() / 1000  # the bound says something


def check_routes(logits: Floats, routes: NDArray[np.int64], fp: FixedPoint) -> None:
    """The route differs from float's only where the two logits are within an ulp."""
    taken = np.take_along_axis(logits, routes[:, :1], axis=1)[:, 0]
    assert (logits.max(axis=1) - taken <= 2.0**-fp.s).all()


@pytest.mark.slow
@pytest.mark.parametrize("fp", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["sms", "digits"])
@pytest.mark.parametrize("layer", [0, 1])
def test_shipped_models_within_their_bound_of_float(name: str, layer: int, fp: FixedPoint) -> None:
    model = load_model(name)
    w = model.moe_weights(layer)
    weights = MoeWeights(
        rounded(w.router, fp), rounded(w.w1, fp), None if w.v is None else rounded(w.v, fp), rounded(w.w2, fp)
    )
    for item in range(20):
        x, residual = (rounded(states, fp) for states in model.moe_inputs(model.tokens_from_item(item), layer))
        trace = oracle.sparse_moe_layer(
            quantise(x, fp), quantise(residual, fp), quantise_weights(weights, fp), model.config, fp, GELU_MINIMAX
        )
        real = float_layer(x, residual, weights, model.config, GELU_MINIMAX, trace.routes)
        check_routes(real.logits, trace.routes, fp)
        bound = layer_bound(x, weights, model.config, trace.routes, real.probabilities, GELU_MINIMAX, fp)
        assert (np.abs(dequantise(trace.output, fp) - real.output) <= bound.output).all()


@pytest.mark.parametrize(("renormalise", "gated"), [(False, True), (True, True), (True, False)])
def test_top_two_is_close_to_float(renormalise: bool, gated: bool) -> None:
    rng = np.random.default_rng(5)
    config = MoeConfig(16, 24, 6, 2, gated, "gelu", renormalise)

    def draw(*shape: int) -> Floats:
        return rounded(rng.normal(size=shape) / np.sqrt(shape[-1]), WIDE)

    weights = MoeWeights(draw(6, 16), draw(6, 24, 16), draw(6, 24, 16) if gated else None, draw(6, 16, 24))
    x, residual = draw(40, 16) * 4, draw(40, 16)
    trace = oracle.sparse_moe_layer(
        quantise(x, WIDE), quantise(residual, WIDE), quantise_weights(weights, WIDE), config, WIDE, GELU_MINIMAX
    )
    real = float_layer(x, residual, weights, config, GELU_MINIMAX)
    assert (trace.routes == real.routes).all()
    assert np.abs(dequantise(trace.probabilities, WIDE) - real.probabilities).max() < 3e-4
    assert np.abs(dequantise(trace.output, WIDE) - real.output).max() < 1e-3
    if renormalise:
        assert np.abs(dequantise(trace.probabilities, WIDE).sum(axis=1) - 1).max() < 3e-4


def test_float_layer_by_hand() -> None:
    """One token, one hidden unit: residual + p W2 (act(W1 x) (V x)) written out."""
    config = MoeConfig(2, 1, 2)
    router = np.array([[0.0, 1.0], [1.0, 0.0]])
    w1, v, w2 = (
        np.array([[[9.0, 9.0]], [[0.5, 0.25]]]),
        np.array([[[9.0, 9.0]], [[1.0, -1.0]]]),
        np.full((2, 2, 1), 2.0),
    )
    trace = float_layer(np.array([[3.0, 1.0]]), np.array([[10.0, 20.0]]), MoeWeights(router, w1, v, w2), config)
    p = np.exp(3.0) / (np.exp(3.0) + np.exp(1.0))
    y = 2 * activate(np.array(1.75), "gelu") * 2.0
    assert trace.routes.tolist() == [[1]]
    assert np.allclose(trace.output, [[10 + p * y, 20 + p * y]], rtol=1e-14)


def test_ties_go_to_the_lower_index_in_float_as_well() -> None:
    config = MoeConfig(1, 1, 128, 2, gated=False)
    one, ones = np.ones((1, 1)), np.ones((128, 1, 1))
    for seed in range(20):
        router = np.random.default_rng(seed).integers(0, 4, (128, 1)).astype(np.float64)
        weights = MoeWeights(router, ones, None, ones)
        trace = oracle.sparse_moe_layer(
            quantise(one, WIDE), quantise(one, WIDE), quantise_weights(weights, WIDE), config, WIDE
        )
        first = sorted(range(128), key=lambda i, router=router: (-router[i, 0], i))[:2]
        assert float_layer(one, one, weights, config).routes.tolist() == trace.routes.tolist() == [first]
