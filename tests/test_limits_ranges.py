"""Fixed-point ranges: against traces of the oracle, against inputs made to reach them, and against planted weights."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from proofs.limits import PROVED, REFUTED
from proofs.limits.ledger import NARROW, WIDE
from proofs.limits.normed import ONE_MORE, Norm, NotBinary, words_of
from proofs.limits.pairs import Pairs
from proofs.limits.ranges import (
    Reach,
    declared_ranges,
    declared_reaches,
    excess,
    layer_ranges,
    layer_reaches,
    softmax_reaches,
    stream_bound,
)
from proofs.limits.spectral import LARGEST, spectral_norms
from protocols import functionalities as F
from protocols.he.params import PARAM_SETS
from protocols.hidden import RELU
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.model.architecture import Model, layer_norm
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint, RangeError, quantise, quantise_weights
from protocols.model.oracle import LayerTrace, sparse_moe_layer
from protocols.model.store import load_model
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, Table

Floats = NDArray[np.float64]

CASES = [(name, layer, fp) for name in ("sms", "digits") for layer in (0, 1) for fp in (NARROW, WIDE)]
EVERY = pytest.mark.parametrize(("name", "layer", "fp"), CASES, ids=lambda v: str(getattr(v, "l", v)))


def reaches(model: Model, layer: int, fp: FixedPoint) -> dict[str, Reach]:
    return {reach.name: reach for reach in layer_reaches(model, layer, fp, (GELU_MINIMAX,))}


def trace(model: Model, layer: int, fp: FixedPoint, x: Floats) -> LayerTrace:
    weights = quantise_weights(model.moe_weights(layer), fp)
    words = quantise(x, fp)
    return sparse_moe_layer(words, np.zeros_like(words), weights, model.config, fp, GELU_MINIMAX)


def most(words: NDArray[np.uint64], fp: FixedPoint) -> int:
    return int(np.abs(fp.signed(words)).max())


def check(found: LayerTrace, bound: dict[str, Reach], fp: FixedPoint) -> None:
    """Every word of a trace within its bound; products are compared after their floor."""
    floors = {"router product": found.logits, "W1 x": found.hidden, "W2 g": found.experts}
    floors |= {} if found.gate is None else {"V x": found.gate, "gate": found.gated}
    for name, words in floors.items():
        assert most(words, fp) <= (bound[name].largest >> fp.s) + 1, name
    assert most(found.logits, fp) <= bound["logit in top_k"].largest
    assert most(found.probabilities, fp) * (most(found.experts, fp) + 1) <= bound["probability times expert"].largest
    assert most(found.output, fp) <= bound["residual plus output"].largest


def scaled(model: Model, factor: float, *words: str) -> Model:
    """The model with some of its matrices multiplied by a power of two."""
    changed = {key: value * factor if key.split(".")[-1] in words else value for key, value in model.parameters.items()}
    return replace(model, parameters=changed)


def sphere(rng: np.random.Generator, n: int, d: int) -> Floats:
    z = rng.normal(size=(n, d))
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True) * np.sqrt(d))


@given(st.lists(st.floats(-1e6, 1e6), min_size=32, max_size=32))
def test_a_layer_norm_is_no_longer_than_the_root_of_its_width(values: list[float]) -> None:
    z = layer_norm(np.array([values]), np.ones(32), np.zeros(32))
    assert (z**2).sum() <= 32 * (1 + 1e-12)


@pytest.mark.slow
@EVERY
def test_traces_of_real_items_stay_within_the_bounds(name: str, layer: int, fp: FixedPoint) -> None:
    model = load_model(name)
    bound = reaches(model, layer, fp)
    for item in range(5):
        x, residual = model.moe_inputs(model.tokens_from_item(item), layer)
        check(trace(model, layer, fp, x), bound, fp)
        assert np.abs(residual).max() * 2**fp.s < stream_bound(model, layer, fp.s)


@pytest.mark.slow
@EVERY
def test_the_linear_bounds_are_reached(name: str, layer: int, fp: FixedPoint) -> None:
    """The hidden state that a row of W1 (or V) likes best, among all that a layer norm could give but for its mean."""
    model = load_model(name)
    weights, bound = model.moe_weights(layer), reaches(model, layer, fp)
    gamma, beta = (model.parameters[f"layers.{layer}.norm2.{part}"] for part in ("weight", "bias"))
    assert weights.v is not None
    for matrix, key in ((weights.w1, "W1 x"), (weights.v, "V x"), (weights.router[:, None, :], "router product")):
        rows = (matrix * gamma).reshape(-1, model.config.d)
        centres = matrix.reshape(-1, model.config.d) @ beta
        best = (np.linalg.norm(rows, axis=1) * np.sqrt(model.config.d) + np.abs(centres)).argmax()
        z = rows[best] / np.linalg.norm(rows[best]) * np.sqrt(model.config.d) * (1 if centres[best] >= 0 else -1)
        reached = abs(float(matrix.reshape(-1, model.config.d)[best] @ (z * gamma + beta))) * 4.0**fp.s
        assert 0.995 * bound[key].largest <= reached <= bound[key].largest
        check(trace(model, layer, fp, (z * gamma + beta)[None]), bound, fp)


@pytest.mark.slow
@EVERY
def test_no_hidden_state_found_by_search_leaves_the_bounds(name: str, layer: int, fp: FixedPoint) -> None:
    """Random states, and states that climb towards a large expert output."""
    model, rng = load_model(name), np.random.default_rng(layer)
    bound = reaches(model, layer, fp)
    gamma, beta = (model.parameters[f"layers.{layer}.norm2.{part}"] for part in ("weight", "bias"))
    w = model.moe_weights(layer)
    assert w.v is not None
    z = sphere(rng, 64, model.config.d)
    for _ in range(12):  # ascent of h v along the sphere, each state for a hidden unit of its own
        pick = np.arange(64)
        a, b = w.w1[0, pick] * gamma, w.v[0, pick] * gamma
        h, v = (z * a).sum(1, keepdims=True), (z * b).sum(1, keepdims=True)
        z = z + 0.5 * np.sign(h * v) * (a * v + b * h)
        z *= np.sqrt(model.config.d) / np.linalg.norm(z, axis=1, keepdims=True)
    check(trace(model, layer, fp, z * gamma + beta), bound, fp)


@EVERY
def test_shipped_models_are_in_range(name: str, layer: int, fp: FixedPoint) -> None:
    assert layer_ranges(name, layer, fp).verdict == PROVED


def test_the_quadratic_form_is_what_puts_the_narrow_ring_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the hidden units are all at their largest at once, which no input does."""
    model = load_model("digits")
    fine = reaches(model, 1, NARROW)
    monkeypatch.setattr(Pairs, "outputs", lambda *_: 1 << 60)
    plain = reaches(model, 1, NARROW)["W2 g"]
    assert fine["W2 g"].inside and not plain.inside and plain.largest > 2 * fine["W2 g"].largest
    monkeypatch.setattr(Pairs, "gates", lambda pairs: pairs.h * pairs.v)
    gate = reaches(model, 1, NARROW)["gate"]
    assert fine["gate"].inside and not gate.inside


@pytest.mark.parametrize(("name", "layer"), [("digits", 1), ("sms", 0), ("topic", 1)])
def test_the_bound_of_a_gate_is_nearly_reached(name: str, layer: int) -> None:
    """For each unit by the state half way between its two rows, with either sign."""
    model, s = load_model(name), NARROW.s
    w, d = model.moe_weights(layer), model.config.d
    gamma, beta = (model.parameters[f"layers.{layer}.norm2.{part}"] for part in ("weight", "bias"))
    assert w.v is not None
    norm = Norm.of(model, f"layers.{layer}.norm2")
    words = [words_of(m, s) for m in (w.w1, w.v)]
    most = [(norm.products(m, s) >> s) + ONE_MORE for m in words]
    bound = Pairs.of(norm, *words, *most, 0, s).gates().astype(float) / 4.0**s
    a, b = ((m * gamma).reshape(-1, d) for m in (w.w1, w.v))
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b)]
    reached = np.zeros(len(a))
    for sign in (1, -1):
        z = unit[0] + sign * unit[1]
        z *= np.sqrt(d) / np.linalg.norm(z, axis=1, keepdims=True)
        for x in (z * gamma + beta, -z * gamma + beta):
            h, v = ((m.reshape(-1, d) * x).sum(1) for m in (w.w1, w.v))
            reached = np.maximum(reached, np.abs(h * v))
    assert (reached <= bound.ravel()).all() and (reached >= 0.7 * bound.ravel()).mean() > 0.9


def test_weights_too_big_are_refuted_and_really_wrap() -> None:
    """Four times W1 and V: one hidden unit's gate leaves 32 bits for a state that a layer norm could give."""
    model = scaled(load_model("digits"), 4.0, "w1", "v")
    row = layer_ranges("digits", 1, NARROW, model)
    assert row.verdict == REFUTED and "gate may reach 2^3" in row.statement and "limit 2^30.0" in row.statement
    assert layer_ranges("digits", 1, WIDE, model).verdict == PROVED
    w = model.moe_weights(1)
    gamma, beta = (model.parameters[f"layers.1.norm2.{part}"] for part in ("weight", "bias"))
    assert w.v is not None
    wrapped = 0
    for expert in range(model.config.E):
        z = w.w1[expert] * gamma / np.linalg.norm(w.w1[expert] * gamma, axis=1, keepdims=True)
        y = w.v[expert] * gamma / np.linalg.norm(w.v[expert] * gamma, axis=1, keepdims=True)
        for sign in (1, -1):
            both = z + sign * y
            x = both / np.linalg.norm(both, axis=1, keepdims=True) * np.sqrt(model.config.d) * gamma + beta
            h, v = x @ w.w1[expert].T, x @ w.v[expert].T
            wrapped += int((np.maximum(h, 0) * v >= 128).sum())
    assert wrapped > 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [("router",), ("w2",), ("w1",), ("v",)])
def test_each_matrix_is_looked_at(words: tuple[str, ...]) -> None:
    model = scaled(load_model("sms"), 64.0, *words)
    assert layer_ranges("sms", 0, NARROW, model).verdict == REFUTED


@pytest.mark.parametrize("words", [("w1", "v"), ("w2",)])
def test_weights_that_no_form_of_64_bits_holds_are_refuted(words: tuple[str, ...]) -> None:
    assert layer_ranges("sms", 0, WIDE, scaled(load_model("sms"), 2.0**48, *words)).verdict == REFUTED


def test_weights_that_are_not_binary_fractions_are_refused() -> None:
    with pytest.raises(NotBinary, match="multiples of 2"):
        layer_ranges("sms", 0, NARROW, scaled(load_model("sms"), 1 / 3, "value", "weight"))


# Published shapes

PLAIN = MoeConfig(768, 3072, 8, gated=False, activation="relu")
SHAPES = [(MoeConfig(768, 3072, 8), GELU_PUBLISHED), (PLAIN, None)]


@pytest.mark.parametrize(("shape", "table"), SHAPES, ids=["gated", "plain"])
@pytest.mark.parametrize("fp", [NARROW, WIDE], ids=["32", "64"])
def test_the_row_norm_stated_is_the_edge(shape: MoeConfig, table: Table | None, fp: FixedPoint) -> None:
    row = declared_ranges(shape, fp, table)
    assert row.verdict == PROVED and row.assumptions
    stated = float(row.subject.rsplit("<= ", 1)[1])
    edge = Fraction(round(stated * 256), 256)
    assert declared_ranges(shape, fp, table, edge).verdict == PROVED
    beyond = declared_ranges(shape, fp, table, edge + Fraction(1, 256))
    assert beyond.verdict == REFUTED and "may reach 2^" in beyond.statement


def test_declared_bounds_hold_for_rows_of_that_norm() -> None:
    """Rows and states aligned so that every product is at its largest."""
    shape, norm = MoeConfig(16, 8, 2), Fraction(1, 2)
    bound = {reach.name: reach.largest for reach in declared_reaches(shape, NARROW, GELU_MINIMAX, norm)}
    x = np.ones((1, 16))
    w1 = np.full((2, 8, 16), 0.5 / 4)
    w2 = np.full((2, 16, 8), 0.5 / np.sqrt(8))
    model = quantise_weights(type(load_model("sms").moe_weights(0))(w1[:, 0], w1, w1, w2), NARROW)
    words = quantise(x, NARROW)
    found = sparse_moe_layer(words, np.zeros_like(words), model, shape, NARROW, GELU_MINIMAX)
    for name, value in (("router product, W1 x, V x", found.hidden), ("W2 g", found.experts)):
        reached = most(value, NARROW)
        assert 0.9 * (bound[name] >> 12) <= reached <= (bound[name] >> 12) + 1


# Premises that the program checks when it runs


def test_hidden_states_and_weights_without_a_word_are_refused() -> None:
    with pytest.raises(RangeError):
        quantise(np.array([2.0 ** (31 - 12)]), NARROW)


def test_weights_without_a_word_of_the_ring_are_refused() -> None:
    plan = LayerPlan(MoeConfig(4, 4, 2, gated=False), 1, PARAM_SETS["P32tiny"], RELU)
    weights = load_model("sms").moe_weights(0)
    small = type(weights)(weights.router[:2, :4], weights.w1[:2, :4, :4] * 2.0**24, None, weights.w2[:2, :4, :4])
    with pytest.raises(RangeError):
        LayerWeights.prepare(lambda *_: None, plan, quantise_weights(small, NARROW))


# Parts


def test_the_excess_of_a_table_over_the_identity() -> None:
    for table in (GELU_MINIMAX, GELU_PUBLISHED):
        breakpoints, rows = table.words(12)
        x = np.arange(-6 << 12, 6 << 12)
        y = F.piecewise_fixed(x, breakpoints=breakpoints, rows=rows, s=12, l=32)
        more, inner = excess(table, 12)
        assert (np.abs(y) <= np.abs(x) + more - 2).all() and (np.abs(y) == np.abs(x) + more - 2).any()
        assert int(np.abs(y[(x >= breakpoints[0]) & (x <= breakpoints[-1])]).max()) << 12 <= inner
    assert excess(None, 12) == (0, 0)


def test_a_scale_too_large_for_the_softmax_is_refuted() -> None:
    class Tight:
        l, s, guard = 32, 12, 16  # F = 16 leaves no bit for the products of the reciprocal

    outside = {reach.name for reach in softmax_reaches(Tight(), 8, 1 << 13) if not reach.inside}  # type: ignore[arg-type]  # a format that FixedPoint itself refuses
    assert outside == {"squares in exp", "products in reciprocal"}
    assert all(reach.inside for reach in softmax_reaches(NARROW, 128, 1 << 13))


@given(st.integers(2, 20), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_spectral_norms_are_upper_bounds_and_close(size: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = rng.integers(-(1 << bits), 1 << bits, (3, size, size))
    m = m + m.transpose(0, 2, 1)
    exact = np.abs(np.linalg.eigvalsh(m.astype(np.float64))).max(1)
    bound = np.array(spectral_norms(m), dtype=np.float64)
    assert (bound >= exact * (1 - 1e-9)).all()
    assert (bound <= exact * size ** (1 / 64) * (1 + 1e-3) + 3 * size).all()


def test_spectral_norms_refuse_what_they_do_not_bound() -> None:
    for bad in (np.triu(np.ones((1, 3, 3), dtype=np.int64)), np.zeros((1, LARGEST + 1, LARGEST + 1), dtype=np.int64)):
        with pytest.raises(ValueError, match="expected symmetric"):
            spectral_norms(bad)
