"""Fixed-point ranges of the sparse layer: every intermediate lies in the range of the protocol that consumes it.

The hidden states of a model are outputs of its own layer norm, x = gamma z + beta with |z|^2 <= d for every input, so
|w x| <= sqrt(d) |w gamma| + |w beta|: no check of the input is needed. What enters the layer is round(2^s x), off by
half an ulp and the float arithmetic. Truncations may be one ulp low (one-ulp mode). Everything is in integers: weights
and norms are binary fractions.

Products are floored by `truncate_bounded`: each has to stay below a quarter of the ring.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt

import numpy as np

from proofs.limits.normed import GRAIN, ONE_MORE, Norm, exact, up, words_of
from proofs.limits.pairs import Pairs
from proofs.limits.row import Bound, bits, decided
from protocols import functionalities as F
from protocols.locate import window_bits
from protocols.model.architecture import Model
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint
from protocols.model.store import load_model
from protocols.model.tables import TABLES, Approximation, LookUp
from protocols.routing import spread_of

GRID = 256
TOLD = 5  # intermediates in a statement
PROBABILITY = Fraction(33, 32)  # above 1, with the errors of exponential and reciprocal in either mode
METHOD = "integer interval analysis from the weights; hidden states bounded by the layer norm that makes them"


@dataclass(frozen=True)
class Reach:
    """An intermediate: its largest absolute value and the limit it must stay below, in words."""

    name: str
    largest: int
    limit: int

    @property
    def inside(self) -> bool:
        """Whether the limit holds."""
        return self.largest < self.limit

    @property
    def headroom(self) -> Fraction:
        """limit / largest."""
        return Fraction(self.limit, max(1, self.largest))


@cache
def excess(table: Approximation | None, s: int) -> tuple[int, int]:
    """(largest |p(x)| - |x|, largest |value before the floor|) of a table on every word between its outer
    breakpoints; (0, 0) for ReLU; a look-up floors nothing."""
    if table is None:
        return 0, 0
    if isinstance(table, LookUp):
        return max(table.words(s)), 0
    breakpoints, rows = table.words(s)
    x = np.arange(breakpoints[0], breakpoints[-1] + 1, dtype=np.int64)
    y = F.piecewise_fixed(x, breakpoints=breakpoints, rows=rows, s=s, l=64)
    return int((np.abs(y) - np.abs(x)).max()) + ONE_MORE, (int(np.abs(y).max()) + ONE_MORE) << s


def softmax_reaches(fp: FixedPoint, experts: int, logit: int) -> Iterator[Reach]:
    """Routing and the router's probabilities, from a bound on the logits' words."""
    l, scale, spread = fp.l, fp.guard, spread_of(experts)
    u = -(F.EXP_FLOOR << fp.s) << max(0, scale - fp.s - F.EXP_SQUARINGS)
    u = u >> max(0, F.EXP_SQUARINGS - (scale - fp.s))
    yield Reach("logit in top_k", logit, 1 << (l - 2))
    yield Reach("difference in exp", 2 * logit, 1 << (l - 2))
    yield Reach("first square in exp", (u + ONE_MORE) ** 2, 1 << (l - 1))
    yield Reach("squares in exp", 1 << (2 * scale), 1 << (l - 1))
    # A denominator beyond 2^spread would be shifted by too few bits: it counts as that much larger.
    yield Reach("normalised denominator", -(-experts >> spread) << (scale + spread + 1), 1 << (l - 1))
    yield Reach("products in reciprocal", 1 << (2 * scale + 1), 1 << (l - 1))


def activation_reaches(fp: FixedPoint, table: Approximation | None, h: int) -> Iterator[Reach]:
    """The activation's comparisons, square and value before its floor, from a bound on the words of W1 x."""
    half = 1 << (fp.l - 1)
    if table is None:
        yield Reach("input of ReLU", h, half)
        return
    if isinstance(table, LookUp):
        yield Reach("size in the look-up, and its distance to the edge", h + table.edge(fp.s) + 1, half >> 1)
        return
    breakpoints, _ = table.words(fp.s)
    edge, inner = max(abs(b) for b in breakpoints), excess(table, fp.s)[1]
    # In the ring of a floor by s bits, and up to the end of the window in which thresholds are compared.
    far = max(edge, breakpoints[0] + (1 << window_bits(breakpoints)))
    yield Reach("comparison in the activation", h + far + 1, half >> fp.s)
    yield Reach("square in the activation", edge * edge, half)
    yield Reach("activation before its floor", max(inner, h << fp.s), half)


def layer_reaches(
    model: Model, layer: int, fp: FixedPoint, tables: tuple[Approximation | None, ...]
) -> Iterator[Reach]:
    """Every intermediate of one layer of a model, for any input of the model and each of the activation's tables."""
    s, half, quarter = fp.s, 1 << (fp.l - 1), 1 << (fp.l - 2)
    config, weights = model.config, model.moe_weights(layer)
    norm = Norm.of(model, f"layers.{layer}.norm2")
    yield Reach("hidden state", norm.largest(s), half)
    routed = int(max(norm.products(words_of(weights.router, s), s)))
    yield Reach("router product", routed, quarter)
    yield from softmax_reaches(fp, config.E, (routed >> s) + ONE_MORE)
    w1, w2 = words_of(weights.w1, s), np.abs(words_of(weights.w2, s))
    first = norm.products(w1, s)
    yield Reach("W1 x", int(first.max()), quarter)
    h = (first >> s) + ONE_MORE
    for table in tables:
        yield from activation_reaches(fp, table, int(h.max()))
    more = max(excess(table, s)[0] for table in tables)
    g, pairs = h + more, None
    if weights.v is not None:
        v_words = words_of(weights.v, s)
        second = norm.products(v_words, s)
        yield Reach("V x", int(second.max()), quarter)
        v = (second >> s) + ONE_MORE
        gate = g * v
        if gate.max() >= quarter:
            pairs = Pairs.of(norm, w1, v_words, h, v, more, s)
            gate = np.minimum(gate, pairs.gates())
        yield Reach("gate", int(gate.max()), quarter)
        g = (gate >> s) + ONE_MORE
    y = int((w2 * g[:, None, :]).sum(-1).max())
    if y >= quarter and weights.v is not None:
        pairs = pairs or Pairs.of(norm, w1, v_words, h, v, more, s)
        together = pairs.outputs(w2)
        y = y if together is None else min(y, together)
    yield Reach("W2 g", y, quarter)
    output = (y >> s) + ONE_MORE
    mixed = up(config.k * PROBABILITY * output * (1 << s))
    yield Reach("probability times expert", mixed, quarter)
    yield Reach("residual plus output", stream_bound(model, layer, s) + (mixed >> s) + ONE_MORE, half)


def stream_bound(model: Model, layer: int, s: int) -> int:
    """A bound on the words of the residual stream before the layer's sparse part, for any input of the model."""
    config, parameters = model.config, model.parameters
    table = np.abs(exact(parameters["embedding"]))
    start = table.max(0) if config.task == "text" else table.sum(0)
    stream = start + np.abs(exact(parameters["position"])).max(0)
    for i in range(layer + 1):
        norm = Norm.of(model, f"layers.{i}.norm1")
        values = norm.products(exact(parameters[f"layers.{i}.attention.value"]), GRAIN) >> GRAIN
        stream = stream + ((np.abs(exact(parameters[f"layers.{i}.attention.output"])) * values).sum(-1) >> GRAIN) + 2
        if i < layer:
            own, norm = model.moe_weights(i), Norm.of(model, f"layers.{i}.norm2")
            g = (norm.products(exact(own.w1), GRAIN) >> GRAIN) + 1  # |GeLU(h)|, |SiLU(h)|, |ReLU(h)| <= |h|
            if own.v is not None:
                g = (g * ((norm.products(exact(own.v), GRAIN) >> GRAIN) + 1) >> GRAIN) + 1
            y = (np.abs(exact(own.w2)) * g[:, None, :]).sum(-1).max(0) >> GRAIN
            stream = stream + config.k * (y + 1)
    return (int(max(stream)) << s >> GRAIN) + ONE_MORE


def layer_ranges(name: str, layer: int, fp: FixedPoint, model: Model | None = None) -> Bound:
    """The row of one layer of a shipped model (or of `model` under its name), for every table of its activation."""
    start = time.perf_counter()
    loaded = load_model(name) if model is None else model
    tables = tuple(table for table in TABLES.values() if table.function == loaded.config.activation)
    reaches = list(layer_reaches(loaded, layer, fp, tables or (None,)))
    return _row(f"{name}, layer {layer}, l={fp.l}, s={fp.s}", reaches, METHOD, time.perf_counter() - start)


def _row(subject: str, reaches: list[Reach], method: str, seconds: float, premises: tuple[str, ...] = ()) -> Bound:
    largest: dict[str, Reach] = {}
    for reach in reaches:
        if reach.name not in largest or reach.headroom < largest[reach.name].headroom:
            largest[reach.name] = reach
    ordered = sorted(largest.values(), key=lambda reach: reach.headroom)
    broken = [reach for reach in ordered if not reach.inside]
    told = "; ".join(f"{r.name} {'<=' if r.inside else 'may reach'} {bits(r.largest)}, limit {bits(r.limit)}"
                     for r in broken or ordered[:TOLD])
    lead = "out of range" if broken else "least room"
    return Bound("range", subject, decided(not broken), f"{len(ordered)} intermediates; {lead}: {told}", method,
                 seconds, premises)


def declared_reaches(shape: MoeConfig, fp: FixedPoint, table: Approximation | None, row_norm: Fraction) -> list[Reach]:
    """Every intermediate for hidden states with |x|^2 <= d (a layer norm of unit weight) and weights whose rows all
    have Euclidean norm at most `row_norm`."""
    s, quarter, d, f = fp.s, 1 << (fp.l - 2), shape.d, shape.f
    # Rounding moves a row by sqrt(d) / 2 ulp at most, and x likewise.
    row = int(row_norm * (1 << s)) + isqrt(d) + 1
    product = row * (isqrt(d << (2 * s)) + isqrt(d) + 2)
    h = (product >> s) + ONE_MORE
    found = [Reach("router product, W1 x, V x", product, quarter), *softmax_reaches(fp, shape.E, h),
             *activation_reaches(fp, table, h)]
    g = h + excess(table, s)[0]
    if shape.gated:
        found.append(Reach("gate", g * h, quarter))
        g = (g * h >> s) + ONE_MORE
    y = (int(row_norm * (1 << s)) + isqrt(f) + 1) * (isqrt(f * g * g) + 1)
    mixed = up(shape.k * PROBABILITY * ((y >> s) + ONE_MORE) * (1 << s))
    return [*found, Reach("W2 g", y, quarter), Reach("probability times expert", mixed, quarter)]


def declared_ranges(
    shape: MoeConfig, fp: FixedPoint, table: Approximation | None, row_norm: Fraction | None = None
) -> Bound:
    """The row of a published shape: weights whose rows have norm at most `row_norm` (None: the largest, in 1/256, for
    which every intermediate fits). REFUTED when not even 1/256 fits."""
    start = time.perf_counter()
    if row_norm is None:
        low, high = 0, 1 << fp.l
        while high - low > 1:
            middle = (low + high) // 2
            fine = all(reach.inside for reach in declared_reaches(shape, fp, table, Fraction(middle, GRID)))
            low, high = (middle, high) if fine else (low, middle)
        row_norm = Fraction(max(1, low), GRID)
    kind = f"{'gated' if shape.gated else 'not gated'}, {table.name if table else 'relu'}"
    subject = f"d={shape.d}, f={shape.f}, E={shape.E}, {kind}, l={fp.l}, s={fp.s}"
    premise = f"|x|^2 <= d, every row of every matrix of norm <= {float(row_norm):.3f}"
    reaches = declared_reaches(shape, fp, table, row_norm)
    return _row(f"{subject}, if {premise}", reaches, "integer interval analysis, Cauchy-Schwarz on every product",
                time.perf_counter() - start, (f"{premise}: the weights' owner sees to it, no check at load",))
