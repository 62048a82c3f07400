"""Fixed-point ranges of attention: of the shipped models, against states made to reach them, and of planted weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proofs.limits.attending import STRETCH, _length, attention_reaches
from proofs.limits.ledger import FORMATS, NARROW, NORM_ERRORS
from proofs.limits.ranges import Reach
from protocols.he.params import PARAM_SETS
from protocols.model.architecture import Model
from protocols.model.fixed_point import FixedPoint
from protocols.model.folded import fold
from protocols.model.store import known_models, load_model
from secmoe.in_range import OutOfRange, require_range
from secmoe.whole import ModelRun


def reaches(model: Model, layer: int, fp: FixedPoint) -> dict[str, Reach]:
    block = fold(model, fp).blocks[layer]
    return {reach.name: reach for reach in attention_reaches(block, model.config.heads, fp)}


def scaled(model: Model, factor: float, layer: int, *words: str) -> Model:
    named = {f"layers.{layer}.attention.{word}" for word in words}
    changed = {key: value * factor if key in named else value for key, value in model.parameters.items()}
    return replace(model, parameters=changed)


@pytest.mark.parametrize("fp", FORMATS, ids=["32", "64"])
@pytest.mark.parametrize("name", known_models())
def test_attention_of_shipped_models_is_in_range(name: str, fp: FixedPoint) -> None:
    model = load_model(name)
    for layer in range(model.config.layers):
        assert all(reach.inside for reach in reaches(model, layer, fp).values()), (layer, fp)


@pytest.mark.parametrize("layer", [0, 1])
def test_states_that_a_norm_could_give_stay_within_and_come_close(layer: int) -> None:
    """For each row the state that it likes best, and for each head those that its queries and keys like best."""
    model, fp = load_model("sms"), NARROW
    d, heads = model.config.d, model.config.heads
    block, bound = fold(model, fp).blocks[layer], reaches(model, layer, fp)
    shift, stacked = (fp.signed(words).astype(float) / 2**fp.s for words in (block.shift1, block.stacked))
    merging = fp.signed(block.merging).astype(float) / 2**fp.s

    def most(name: str) -> float:
        return bound[name].largest / 4**fp.s

    rows = stacked / np.linalg.norm(stacked, axis=1, keepdims=True) * np.sqrt(d)
    reached = np.abs(np.concatenate([rows + shift, -rows + shift]) @ stacked.T).max()
    assert 0.9 * most("queries, keys and values") <= reached <= most("queries, keys and values")
    best = np.concatenate([np.linalg.svd(part)[2][:1] for part in stacked.reshape(3 * heads, d // heads, d)])
    states = np.concatenate([rows, best * np.sqrt(d)])
    states = np.concatenate([states, -states]) + shift
    query, key, value = ((states @ stacked.T).reshape(-1, 3, heads, d // heads)[:, i] for i in range(3))
    scores = np.abs(np.einsum("ihw,jhw->hij", query, key)).max()
    assert 0.3 * most("queries times keys") <= scores <= most("queries times keys")
    assert np.abs(value).max() <= most("probabilities times values")
    assert np.abs(value.reshape(len(states), d) @ merging.T).max() <= most("output projection")


@pytest.mark.parametrize("shifted", [0.0, 0.05])
def test_the_length_of_a_head_is_that_of_its_spectral_norm(shifted: float) -> None:
    rng = np.random.default_rng(3)
    rows, shift = rng.normal(size=(6, 12)), shifted * rng.normal(size=12)
    words, offset = (np.rint(values * 2**12).astype(np.int64).astype(object) for values in (rows, shift))
    best = np.linalg.svd(rows)[2][0] * np.sqrt(12)
    reached = max(np.linalg.norm(rows @ (sign * best + shift)) for sign in (1, -1))
    found = _length(words, offset, 12) / 2**12
    assert reached <= found <= (1.02 if shifted == 0 else 1.3) * reached


@pytest.mark.parametrize(
    ("words", "told"),
    [(("query", "key"), "queries times keys"), (("value",), "output projection"), (("output",), "output projection")],
)
def test_heavy_weights_are_refused_when_a_whole_model_is_loaded(words: tuple[str, ...], told: str) -> None:
    model = load_model("sms")
    run = ModelRun.of(model.config, 4, "class", PARAM_SETS["P64s"], model.config.activation, "R")
    require_range(model, run)
    with pytest.raises(OutOfRange, match=f"layer 1: expected every value to fit, but the {told} may reach 2"):
        require_range(scaled(model, 2.0**22, 1, *words), run)
    assert not reaches(scaled(model, 4.0, 1, *words), 1, NARROW)[told].inside


def test_words_that_no_matrix_of_64_bits_holds_are_bounded_all_the_same() -> None:
    words = np.full((2, 4), 1 << 40, dtype=object)
    exact = np.linalg.norm(words.astype(float) @ np.ones(4))
    assert _length(words, np.zeros(4, dtype=object), 12) >= exact


def test_a_norm_is_stretched_by_less_than_is_allowed_for() -> None:
    assert max(NORM_ERRORS.values()) < STRETCH
