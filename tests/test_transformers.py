"""Our sparse layers against what Hugging Face transformers' own blocks computed, by recorded vectors.

tools/transformers_vectors.py makes them, in an environment of its own: float64 but for softmax and the norms' variance,
which transformers takes in float32.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from protocols.model.checkpoint.checkpoint import Checkpoint, open_checkpoint
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.encoder import attention
from protocols.model.fixed_point import FixedPoint, Words, dequantise, quantise, quantise_weights
from protocols.model.floating import float_layer
from protocols.model.folded import BlockWords
from protocols.model.normalising import rms_norm
from protocols.model.oracle import sparse_moe_layer
from protocols.model.tables import SILU_MINIMAX

Floats = NDArray[np.float64]

DATA = Path(__file__).parent / "data" / "transformers"
LAYERS = [("switch", 0), ("switch", 1), ("mixtral", 0), ("olmoe", 0), ("qwen2_moe", 0)]
SINGLE = 2e-6  # what softmax and variance in float32 may cost an output near 1
# Fixed point against float with the same activation, in ulp. At 18 bits most of it is the exponential's own error.
ULPS = {FixedPoint(64, 18): 80, FixedPoint(32, 12): 24}
BLOCK = {FixedPoint(64, 18): 8e-4, FixedPoint(32, 12): 1e-2}


@cache
def recorded(family: str, layer: int) -> tuple[Checkpoint, MoeWeights, dict[str, Floats]]:
    found, own = load_file(DATA / family / "vectors.safetensors"), f"{layer}."
    checkpoint = open_checkpoint(DATA / family)
    return checkpoint, checkpoint.weights(layer), {key[2:]: x for key, x in found.items() if key.startswith(own)}


def margin(x: Floats, weights: MoeWeights, k: int) -> float:
    """By how much the last selected expert's logit leads the first other one's."""
    logits = np.sort(x @ weights.router.T, axis=1)
    return float((logits[:, -k] - logits[:, -k - 1]).min())


def table_error(x: Floats, weights: MoeWeights, routes: NDArray[np.int64], p: Floats) -> Floats:
    """What the table's largest error can do to each output of a gated layer."""
    found = np.zeros_like(x)
    assert weights.v is not None
    for token, slot in np.ndindex(routes.shape):
        expert = routes[token, slot]
        gate = np.abs(weights.v[expert] @ x[token]) * SILU_MINIMAX.max_error
        found[token] += p[token, slot] * (np.abs(weights.w2[expert]) @ gate)
    return found


def test_the_families_differ_where_they_should() -> None:
    shapes = {family: open_checkpoint(DATA / family).layers[0].shape for family, _ in LAYERS}
    assert shapes["switch"] == MoeConfig(16, 24, 4, 1, gated=False, activation="relu")
    assert shapes["mixtral"] == MoeConfig(16, 24, 4, 2, activation="silu", renormalise=True)
    assert shapes["olmoe"] == MoeConfig(16, 8, 16, 8, activation="silu", renormalise=False)
    assert shapes["qwen2_moe"] == MoeConfig(16, 8, 8, 4, activation="silu", renormalise=False)


@pytest.mark.parametrize(("family", "layer"), LAYERS)
def test_the_float_layer_is_theirs(family: str, layer: int) -> None:
    checkpoint, weights, theirs = recorded(family, layer)
    shape = checkpoint.layers[layer].shape
    x, residual = checkpoint.moe_inputs(theirs["states"], layer)
    assert (residual == theirs["states"]).all() and np.abs(x - theirs["x"]).max() < SINGLE
    assert margin(x, weights, shape.k) > 1e-3  # no tie decides
    ours = float_layer(x, np.zeros_like(x), weights, shape)
    assert (ours.routes == theirs["routes"]).all()
    assert np.abs(ours.probabilities - theirs["probabilities"]).max() < SINGLE
    assert np.abs(ours.output - theirs["routed"]).max() < SINGLE
    assert len(np.unique(ours.routes)) >= min(4, shape.E) and np.abs(theirs["routed"]).max() > 0.3
    total = theirs["probabilities"].sum(axis=1)
    assert np.allclose(total, 1, atol=SINGLE) is shape.renormalise


@pytest.mark.parametrize(("family", "layer"), LAYERS)
def test_routed_part_and_residual_are_the_whole_block_but_for_a_shared_expert(family: str, layer: int) -> None:
    checkpoint, _, theirs = recorded(family, layer)
    rest = theirs["output"] - theirs["states"] - theirs["routed"]
    if not checkpoint.layers[layer].shared:
        assert np.abs(rest).max() < 1e-12
        return
    read, own = checkpoint.tensors.read, checkpoint.layers[layer].moe
    up, gate, down = (
        theirs["x"] @ read(f"{own}shared_expert.{name}_proj.weight").T if name != "down" else None
        for name in ("up", "gate", "down")
    )
    assert up is not None and gate is not None and down is None
    dense = (gate / (1 + np.exp(-gate)) * up) @ read(f"{own}shared_expert.down_proj.weight").T
    weight = 1 / (1 + np.exp(-theirs["x"] @ read(f"{own}shared_expert_gate.weight").T))
    assert np.abs(rest - weight * dense).max() < 1e-12 and np.abs(rest).max() > 0.1


@pytest.mark.parametrize("fp", ULPS, ids=lambda fp: f"{fp.l} bits")
@pytest.mark.parametrize(("family", "layer"), LAYERS)
def test_the_fixed_point_layer_is_near_theirs(family: str, layer: int, fp: FixedPoint) -> None:
    """Rounding costs some ulp; the activation's table what its largest error may do to each output, and no more."""
    checkpoint, weights, theirs = recorded(family, layer)
    shape = checkpoint.layers[layer].shape
    x, residual = checkpoint.moe_inputs(theirs["states"], layer)
    trace = sparse_moe_layer(quantise(x, fp), quantise(residual, fp), quantise_weights(weights, fp), shape, fp)
    found = dequantise(trace.output, fp) - residual
    assert (trace.routes == theirs["routes"]).all()
    table = SILU_MINIMAX if shape.gated else None
    ours = float_layer(x, np.zeros_like(x), weights, shape, table)
    rounding = ULPS[fp] * 2.0**-fp.s
    assert np.abs(found - ours.output).max() < rounding
    allowed = rounding + SINGLE + (table_error(x, weights, trace.routes, ours.probabilities) if shape.gated else 0.0)
    assert (np.abs(found - theirs["routed"]) < allowed).all()


def folded(checkpoint: Checkpoint, fp: FixedPoint) -> BlockWords:
    """The encoder block of the first sparse layer, the norms' gains folded into the matrices that read them."""
    read, own = checkpoint.tensors.read, "encoder.block.1.layer."
    parts = [read(f"{own}0.SelfAttention.{name}.weight").astype(np.float64) for name in ("q", "k", "v", "o")]
    first, second = (read(f"{own}{i}.layer_norm.weight").astype(np.float64) for i in (0, 1))
    weights, none = checkpoint.weights(0), np.zeros(len(first), dtype=np.uint64)
    moe = MoeWeights(weights.router * second, weights.w1 * second, None, weights.w2)
    stacked = quantise(np.concatenate(parts[:3]) * first, fp)
    return BlockWords(none, stacked, quantise(parts[3], fp), none, quantise_weights(moe, fp))


@pytest.mark.parametrize("fp", BLOCK, ids=lambda fp: f"{fp.l} bits")
def test_a_whole_switch_encoder_block_is_near_theirs(fp: FixedPoint) -> None:
    """Norm without mean, attention without scaling and with relative bias, norm, sparse layer: all in fixed point."""
    found = load_file(DATA / "switch" / "vectors.safetensors")
    checkpoint = open_checkpoint(DATA / "switch")
    layer, block, stream = checkpoint.layers[0], folded(checkpoint, fp), quantise(found["block.input"], fp)

    def norm(x: Words) -> Words:
        return rms_norm(x, layer.epsilon, fp)

    mask, bias = np.zeros(len(stream), dtype=np.uint64), quantise(found["block.bias"], fp)
    attended = fp.wrap(stream + attention(norm(stream), mask, block, 4, fp, bias=bias))
    trace = sparse_moe_layer(norm(attended), attended, block.moe, layer.shape, fp)
    error = np.abs(dequantise(trace.output, fp) - found["block.output"]).max()
    assert error < BLOCK[fp]
    without = fp.wrap(stream + attention(norm(stream), mask, block, 4, fp))
    assert np.abs(dequantise(fp.wrap(without - attended), fp)).max() > 10 * BLOCK[fp]  # the bias matters
