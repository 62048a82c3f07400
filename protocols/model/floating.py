"""The sparse MoE layer in float64: what the fixed-point layer approximates, and what the models are run with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.model.config import Activation, MoeConfig, MoeWeights
from protocols.model.tables import Table

Floats = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class FloatTrace:
    """logits [n, E]; routes [n, k], first the largest; probabilities [n, k]; output [n, d]."""

    logits: Floats
    routes: NDArray[np.int64]
    probabilities: Floats
    output: Floats


def activate(x: Floats, activation: Activation) -> Floats:
    """The exact activation: erf-GeLU, ReLU or SiLU."""
    if activation == "relu":
        return np.maximum(x, 0.0)
    if activation == "silu":
        return np.asarray(x * 0.5 * (1.0 + np.tanh(x / 2)))
    return np.asarray(x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0))))


def piecewise(x: Floats, table: Table) -> Floats:
    """The table's polynomial, unrounded coefficients, right-closed segments."""
    segment = np.searchsorted(np.asarray(table.breakpoints), x, side="left")
    rows = np.asarray(table.coefficients)[segment]
    y = rows[..., -1]
    for i in range(table.degree - 1, -1, -1):
        y = y * x + rows[..., i]
    return np.asarray(y)


def softmax(x: Floats) -> Floats:
    """Softmax along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def float_layer(
    x: Floats,
    residual: Floats,
    weights: MoeWeights,
    config: MoeConfig,
    table: Table | None = None,
    routes: NDArray[np.int64] | None = None,
    served: NDArray[np.bool_] | None = None,
) -> FloatTrace:
    """The layer on x, residual [n, d]. `table` replaces the exact activation by its piecewise polynomial. `routes`
    [n, k] replaces the router's choice: a near tie may fall the other way in fixed point, and the error is then
    measured on the same experts. `served` [n, k]: which of those choices count; all by default."""
    weights.check(config)
    logits = x @ weights.router.T
    if routes is None:
        routes = np.argsort(-logits, axis=1, kind="stable")[:, : config.k]  # stable: ties to the lower index
    p = np.take_along_axis(softmax(logits), routes, axis=1)
    if config.renormalise:
        p = p / p.sum(axis=1, keepdims=True)
    out = residual.copy()
    for slot in range(config.k):
        for expert in np.unique(routes[:, slot]):
            chosen = routes[:, slot] == expert
            rows = np.flatnonzero(chosen if served is None else chosen & served[:, slot])
            h = x[rows] @ weights.w1[expert].T
            a = activate(h, config.activation) if table is None or config.activation == "relu" else piecewise(h, table)
            g = a if weights.v is None else a * (x[rows] @ weights.v[expert].T)
            out[rows] += p[rows, slot, None] * (g @ weights.w2[expert].T)
    return FloatTrace(logits, routes, p, out)
