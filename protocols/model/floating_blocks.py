"""Transformer blocks with normalisation first in float64: what the fixed-point blocks approximate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.model.blocks import Attending, BlockForm, BlockParameters
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import Floats
from protocols.model.floating import FloatTrace, float_layer, softmax
from protocols.model.tables import Table


def rms(x: Floats, epsilon: float) -> Floats:
    """Rows over the root of their mean square, without gain."""
    return np.asarray(x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon))


def rotate(v: Floats, base: float) -> Floats:
    """Heads [heads, n, words], word j of the first half paired with word j of the second, turned by position
    * base^(-j / half). [RoFormer]"""
    a, b = np.split(v, 2, axis=-1)
    half = a.shape[-1]
    angles = np.arange(v.shape[1])[:, None] / base ** (np.arange(half) / half)
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=-1)


def float_attention(
    x: Floats, memory: Floats, mask: Floats, given: Attending, form: BlockForm, itself: bool = True
) -> Floats:
    """Attention of the normed x [n, d] to memory [m, d], without the residual. itself: memory is x."""
    n = len(x)
    query = (x @ given.query.T).reshape(n, form.heads, -1).swapaxes(0, 1)
    key, value = (
        np.repeat(
            (memory @ w.T).reshape(len(memory), form.groups, -1).swapaxes(0, 1), form.heads // form.groups, axis=0
        )
        for w in (given.key, given.value)
    )
    if itself and form.rotary:
        query, key = rotate(query, form.rotary), rotate(key, form.rotary)
    scores = query @ key.swapaxes(1, 2) * (query.shape[2] ** -0.5 if form.scaled else 1.0) + mask
    scores = scores + (0.0 if given.bias is None else given.bias)
    if itself and form.causal:
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
    return np.asarray((softmax(scores) @ value).swapaxes(0, 1).reshape(n, -1) @ given.output.T)


def float_block(
    x: Floats,
    mask: Floats,
    parameters: BlockParameters,
    config: MoeConfig,
    form: BlockForm,
    memory: tuple[Floats, Floats] | None = None,
    table: Table | None = None,
    routes: NDArray[np.int64] | None = None,
) -> FloatTrace:
    """As `protocols.model.blocks.sparse_block`; table and routes as in `float_layer`."""
    own, cross = parameters.own, parameters.cross
    normed = rms(x, form.epsilon) * own.norm
    x = x + float_attention(normed, normed, mask, own, form)
    if cross is not None and memory is not None:
        x = x + float_attention(rms(x, form.epsilon) * cross.norm, *memory, cross, form, itself=False)
    return float_layer(rms(x, form.epsilon) * parameters.norm, x, parameters.moe, config, table, routes)
