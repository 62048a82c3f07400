"""The exact fixed-point oracle of the sparse MoE layer: what the faithful protocol must equal bit for bit.

Plain numpy on words mod 2^l; imports no protocol, no kernel and nothing of the simulator, so that it is a second
opinion. Every operation wraps mod 2^l; trunc(v, f) is the floor of the signed representative over 2^f. Scale s unless
said; F is the guard scale. Outside the declared ranges the result is still defined (by the wrap), so edge words may be
compared as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, Words
from protocols.model.tables import DEFAULT_TABLES, Approximation, LookUp, Table

EXP_CLIP = -13  # below, the exponential is zero: exp(-13) is under 2^-18
EXP_SQUARINGS = 6
RECIPROCAL_START = 2.9142


class InputShapeError(ValueError):
    """Hidden states whose shape differs from the layer's."""


@dataclass(frozen=True)
class LayerTrace:
    """Every intermediate of one layer on n tokens. Words, except routes.

    logits [n, E]; routes [n, k] int64, first the largest; exponentials [n, E] and denominators [n] at scale F;
    probabilities [n, k]; hidden [n, k, f] = W1 x; activated [n, k, f]; gate [n, k, f] = V x or None;
    gated [n, k, f] = activated * gate; experts [n, k, d] = W2 gated; output [n, d].
    """

    logits: Words
    routes: NDArray[np.int64]
    exponentials: Words
    denominators: Words
    probabilities: Words
    hidden: Words
    activated: Words
    gate: Words | None
    gated: Words
    experts: Words
    output: Words


def matmul(a: Words, b: Words, fp: FixedPoint) -> Words:
    """a @ b mod 2^l."""
    return fp.wrap(np.asarray(a @ b))


def maximum(values: Words, fp: FixedPoint) -> NDArray[np.int64]:
    """Index [n] of each row's maximum of values [n, E] by the tournament: neighbours in the original order,
    `a - b >= 0` keeps a, the odd one out keeps its place. For abs(a - b) < 2^(l-1) this is the first largest value."""
    rows = np.arange(len(values))[:, None]
    alive = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    while alive.shape[1] > 1:
        paired = alive.shape[1] // 2 * 2
        left, right, bye = alive[:, 0:paired:2], alive[:, 1:paired:2], alive[:, paired:]
        keep = fp.at_least(values[rows, left], values[rows, right])
        alive = np.concatenate([np.where(keep, left, right), bye], axis=1)
    return np.asarray(alive[:, 0], dtype=np.int64)


def top_k(values: Words, k: int, fp: FixedPoint) -> NDArray[np.int64]:
    """Indices [n, k] by k tournaments; each winner is replaced by -2^(l-2) before the next."""
    left = values.copy()
    chosen = np.empty((len(values), k), dtype=np.int64)
    for round_ in range(k):
        chosen[:, round_] = maximum(left, fp)
        left[np.arange(len(left)), chosen[:, round_]] = fp.word(-(1 << (fp.l - 2)))
    return chosen


def exponential(z: Words, fp: FixedPoint) -> Words:
    """exp(z) at scale F for z <= 0 at scale s: clip at -13, (1 + u + u^2/2)^64 with u = z/64, zero where clipped."""
    F = fp.guard
    low = fp.word(EXP_CLIP << fp.s)
    above = fp.at_least(z, fp.word((EXP_CLIP << fp.s) + 1)).astype(np.uint64)
    clipped = fp.wrap(low + above * (z - low))
    shift = EXP_SQUARINGS - (F - fp.s)
    u = fp.trunc(clipped, shift) if shift >= 0 else fp.wrap(clipped << np.uint64(-shift))
    v = fp.wrap(fp.word(1 << F) + u + fp.trunc(fp.wrap(u * u), F + 1))
    for _ in range(EXP_SQUARINGS):
        v = fp.trunc(fp.wrap(v * v), F)
    return above * v


def reciprocal_steps(terms: int) -> int:
    """J = max(1, ceil(log2 terms)): a sum of `terms` exponentials, one of them 1, lies in [1, 2^J]."""
    return max(1, (terms - 1).bit_length())


def reciprocal(D: Words, terms: int, fp: FixedPoint) -> Words:
    """1/D at scale F for D in [2^F, 2^(F+J)], J = max(1, ceil(log2 terms)): D is scaled to c in [1/2, 1) by the
    comparisons with 2^(F+1) .. 2^(F+J), two Goldschmidt steps from 2.9142 - 2c, then scaled back by the same bits."""
    F, J = fp.guard, reciprocal_steps(terms)
    reached = [fp.at_least(D, fp.word(1 << (F + i))).astype(np.uint64) for i in range(1, J + 1)]

    def scale(v: Words) -> Words:
        down = sum((b * fp.word(1 << (J - i)) for i, b in enumerate(reached, start=1)), np.zeros_like(D))
        return fp.wrap(v * (fp.word(1 << J) - down))

    one = fp.word(1 << F)
    c = fp.trunc(scale(D), J + 1)
    w = fp.wrap(fp.word(round(RECIPROCAL_START * 2.0**F)) - c - c)
    e = fp.wrap(one - fp.trunc(fp.wrap(c * w), F))
    w = fp.trunc(fp.wrap(w * (one + e)), F)
    e = fp.trunc(fp.wrap(e * e), F)
    w = fp.trunc(fp.wrap(w * (one + e)), F)
    return fp.trunc(scale(w), J + 1)


def piecewise(x: Words, table: Table, fp: FixedPoint) -> Words:
    """trunc(sum_i c_i x_i, s) with x_0 = 2^s, x_1 = x, x_(i+1) = trunc(x_i x, s). The row of coefficients is
    Coef[0] + sum_j a_j (Coef[j] - Coef[j-1]) with a_j = [x - b_j - 1 >= 0]: the row of x's segment wherever these
    differences do not wrap."""
    breakpoints, rows = table.words(fp.s)
    passed = [fp.at_least(x, fp.word(b + 1)).astype(np.uint64) for b in breakpoints]
    total = np.zeros_like(x)
    power = np.full_like(x, fp.word(1 << fp.s))
    for i in range(table.degree + 1):
        if i > 0:
            power = x if i == 1 else fp.trunc(fp.wrap(power * x), fp.s)
        steps = (a * fp.word(rows[j + 1][i] - rows[j][i]) for j, a in enumerate(passed))
        total = total + sum(steps, np.full_like(x, fp.word(rows[0][i]))) * power
    return fp.trunc(fp.wrap(total), fp.s)


def look_up(x: Words, table: LookUp, fp: FixedPoint) -> Words:
    """max(x, 0) less the entry of |x|: entry number floor(|x| / step), of `step` words each; none beyond the last."""
    size = np.abs(fp.signed(x))
    entries = np.append(np.array(table.words(fp.s), dtype=np.uint64), np.uint64(0))
    step = 1 << (fp.s + table.range_bits - table.index_bits)
    return fp.wrap(relu(x, fp) - entries[np.minimum(size // step, len(entries) - 1)])


def activate(x: Words, activation: str, table: Approximation | None, fp: FixedPoint) -> Words:
    """ReLU, or what the table (default: tables.DEFAULT_TABLES) makes of the activation."""
    if activation == "relu":
        return relu(x, fp)
    if isinstance(table, LookUp):
        return look_up(x, table, fp)
    return piecewise(x, table or DEFAULT_TABLES[activation], fp)


def relu(x: Words, fp: FixedPoint) -> Words:
    """x where signed(x) >= 0, else 0."""
    return np.where(fp.signed(x) >= 0, x, np.uint64(0))


def probabilities(
    logits: Words, routes: NDArray[np.int64], config: MoeConfig, fp: FixedPoint
) -> tuple[Words, Words, Words]:
    """(exponentials [n, E], denominators [n], probabilities [n, k]) of the selected experts: softmax over all E, or
    over the k selected ones when the configuration renormalises."""
    e = exponential(fp.wrap(logits - np.take_along_axis(logits, routes[:, :1], axis=1)), fp)
    selected = np.take_along_axis(e, routes, axis=1)
    summed = selected if config.renormalise else e
    D = fp.wrap(summed.sum(axis=1, dtype=np.uint64))
    r = reciprocal(D, summed.shape[1], fp)
    return e, D, fp.trunc(fp.wrap(selected * r[:, None]), 2 * fp.guard - fp.s)


def sparse_moe_layer(
    x: Words,
    residual: Words,
    weights: MoeWeights,
    config: MoeConfig,
    fp: FixedPoint,
    table: Approximation | None = None,
    capacity: int | None = None,
) -> LayerTrace:
    """The layer on words: x, residual [n, d]; weights as quantise_weights gives them.

    `table` is the activation's piecewise polynomial or look-up (default: tables.DEFAULT_TABLES); ReLU is exact and
    takes none. `capacity`: an expert serves so many tokens, the first that come to it (None: all of them) [CryptoMoE].
    InputShapeError, WeightShapeError on shapes that do not match.
    """
    weights.check(config)
    n = len(x)
    for name, states in (("x", x), ("residual", residual)):
        if states.shape != (n, config.d) or states.dtype != np.uint64:
            raise InputShapeError(
                f"expected {name} of shape ({n}, {config.d}) in uint64, got {states.shape} in {states.dtype}: "
                "give quantised hidden states of the layer's width"
            )
    logits = fp.trunc(matmul(x, weights.router.T, fp), fp.s)
    routes = top_k(logits, config.k, fp)
    e, D, p = probabilities(logits, routes, config, fp)
    h = fp.trunc(_selected(weights.w1, routes, x[:, None, :], fp), fp.s)
    a = activate(h, config.activation, table, fp)
    v = None if weights.v is None else fp.trunc(_selected(weights.v, routes, x[:, None, :], fp), fp.s)
    g = a if v is None else fp.trunc(fp.wrap(a * v), fp.s)
    y = fp.trunc(_selected(weights.w2, routes, g, fp), fp.s)
    served = p if capacity is None else np.where(with_room(routes, capacity), p, np.uint64(0))
    mixed = fp.trunc(fp.wrap((served[:, :, None] * y).sum(axis=1, dtype=np.uint64)), fp.s)
    return LayerTrace(logits, routes, e, D, p, h, a, v, g, y, fp.wrap(residual + mixed))


def with_room(routes: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """[n, k]: whether a token is among the first `capacity` ones that come to that expert, in order of the tokens."""
    served = np.zeros(routes.shape, dtype=np.bool_)
    load = dict[int, int]()
    for place, expert in np.ndenumerate(routes):
        served[place] = load.get(int(expert), 0) < capacity
        load[int(expert)] = load.get(int(expert), 0) + 1
    return served


def _selected(matrices: Words, routes: NDArray[np.int64], states: Words, fp: FixedPoint) -> Words:
    """matrices[route] @ state for every token and slot: states [n, k or 1, columns] -> [n, k, rows], mod 2^l."""
    n, k = routes.shape
    states = np.broadcast_to(states, (n, k, matrices.shape[2]))
    out = np.empty((n, k, matrices.shape[1]), dtype=np.uint64)
    for expert in np.unique(routes):
        taken = routes == expert
        out[taken] = matmul(states[taken], matrices[expert].T, fp)
    return out
