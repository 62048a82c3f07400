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
from numpy.typing import NDArray

from proofs.limits.row import Bound, bits, decided
from proofs.limits.spectral import spectral_norms
from protocols import functionalities as F
from protocols.locate import window_bits
from protocols.model.architecture import Model
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint
from protocols.model.store import load_model
from protocols.model.tables import TABLES, Approximation, LookUp
from protocols.routing import spread_of

Objects = NDArray[np.object_]

GRAIN = 24  # float16 weights are multiples of 2^-24
FINE = 14  # of the quadratic form
COARSE = 12  # of the outer weights in it
OFF = Fraction(1, 2) + Fraction(1, 1 << 10)  # ulp: rounding, and float64 in the layer norm
GRID = 256
TOLD = 5  # intermediates in a statement
ONE_MORE = 2  # a floor and the ulp of the one-ulp mode
PROBABILITY = Fraction(33, 32)  # above 1, with the errors of exponential and reciprocal in either mode
METHOD = "integer interval analysis from the weights; hidden states bounded by the layer norm that makes them"


class NotBinary(ValueError):
    """Weights that are no multiples of 2^-24."""


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


def _exact(values: NDArray[np.float64]) -> Objects:
    """The integers 2^24 v."""
    scaled = values * float(1 << GRAIN)
    if not (scaled == np.rint(scaled)).all():
        raise NotBinary("weights: expected multiples of 2^-24, as float16 has them: round the weights first")
    return np.asarray(np.vectorize(int, otypes=[object])(scaled))


def _words(values: NDArray[np.float64], s: int) -> Objects:
    """round(2^s v), ties to even, as Python integers."""
    return np.asarray(np.vectorize(int, otypes=[object])(np.rint(values * float(1 << s))))


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


@dataclass(frozen=True)
class Norm:
    """x = gamma z + beta with |z|^2 <= d; gamma, beta as multiples of 2^-24."""

    gamma: Objects
    beta: Objects

    @classmethod
    def of(cls, model: Model, name: str) -> Norm:
        return cls(_exact(model.parameters[name + ".weight"]), _exact(model.parameters[name + ".bias"]))

    def products(self, weights: Objects, s: int) -> Objects:
        """Bounds on |w X| for each row of integer words `weights`, X the words of x: at 2 s fractional bits."""
        d = weights.shape[-1]
        squares = ((weights * self.gamma) ** 2).sum(-1) * d
        roots = np.vectorize(lambda v: isqrt(v) + 1, otypes=[object])(squares)
        centre = np.abs((weights * self.beta).sum(-1))
        off = np.abs(weights).sum(-1)
        total = ((roots + centre) * (1 << s)) // (1 << GRAIN) + 1 + (off * OFF.numerator) // OFF.denominator + 1
        return np.asarray(total, dtype=object)

    def largest(self, s: int) -> int:
        """A bound on the words of x."""
        d = len(self.gamma)
        return max(_up(Fraction((isqrt(d * g * g) + 1 + abs(b)) << s, 1 << GRAIN)) + 1
                   for g, b in zip(self.gamma, self.beta, strict=True))


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
    routed = int(max(norm.products(_words(weights.router, s), s)))
    yield Reach("router product", routed, quarter)
    yield from softmax_reaches(fp, config.E, (routed >> s) + ONE_MORE)
    w1, w2 = _words(weights.w1, s), np.abs(_words(weights.w2, s))
    first = norm.products(w1, s)
    yield Reach("W1 x", int(first.max()), quarter)
    h = (first >> s) + ONE_MORE
    for table in tables:
        yield from activation_reaches(fp, table, int(h.max()))
    more = max(excess(table, s)[0] for table in tables)
    g, pairs = h + more, None
    if weights.v is not None:
        v_words = _words(weights.v, s)
        second = norm.products(v_words, s)
        yield Reach("V x", int(second.max()), quarter)
        v = (second >> s) + ONE_MORE
        gate = g * v
        if gate.max() >= quarter:
            pairs = _Pairs.of(norm, w1, v_words, h, v, more, s)
            gate = np.minimum(gate, pairs.gates())
        yield Reach("gate", int(gate.max()), quarter)
        g = (gate >> s) + ONE_MORE
    y = int((w2 * g[:, None, :]).sum(-1).max())
    if y >= quarter and weights.v is not None:
        pairs = pairs or _Pairs.of(norm, w1, v_words, h, v, more, s)
        y = min(y, pairs.outputs(w2))
    yield Reach("W2 g", y, quarter)
    output = (y >> s) + ONE_MORE
    mixed = _up(config.k * PROBABILITY * output * (1 << s))
    yield Reach("probability times expert", mixed, quarter)
    yield Reach("residual plus output", stream_bound(model, layer, s) + (mixed >> s) + ONE_MORE, half)


@dataclass(frozen=True)
class _Pairs:
    """Bounds on |h v| that know both factors to be of one input: as quadratic forms in (z, c), whose norm is known.

    a, b: rows [words gamma, words beta / c] of W1 and V at FINE fractional bits, rounded to nearest. square:
    |(z, c)|^2. first, second: what h and v may be off these forms. h, v: their largest words.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    square: Fraction
    first: Fraction
    second: Fraction
    h: Objects
    v: Objects
    s: int

    @classmethod
    def of(cls, norm: Norm, w1: Objects, v: Objects, h_most: Objects, v_most: Objects, more: int, s: int) -> _Pairs:
        d = len(norm.gamma)
        square = d + (c := Fraction(isqrt(256 * d), 128)) ** 2  # c is near sqrt(d) / 8, where beta costs least

        def forms(words: Objects) -> NDArray[np.int64]:
            shift = 1 << (s + GRAIN - FINE)
            rows = (words * norm.gamma * 2 + shift) // (2 * shift)
            last = (words * norm.beta).sum(-1) * c.denominator
            last = (last * 2 + shift * c.numerator) // (2 * shift * c.numerator)
            return np.concatenate([rows, last[..., None]], axis=-1).astype(np.int64)

        # Off the true forms: half a unit per column of a row; and the ulps of inputs, floors and of the activation.
        turn = Fraction(isqrt(int((d + 1) * square)) + 1, 1 << (FINE + 1))
        slack = max(int(np.abs(m).sum(-1).max()) for m in (w1, v)) * OFF / (1 << s) + ONE_MORE
        first, second = turn + (slack + more) / (1 << s), turn + slack / (1 << s)
        return cls(forms(w1), forms(v), square, first, second, h_most, v_most, s)

    def gates(self) -> Objects:
        """Bounds on |h v| for each unit, at 2 s fractional bits: over all y of one norm, |a y| |b y| is at most
        (|a| |b| + |a b|) / 2 times its square."""
        products = ((self.a * self.a).sum(-1), (self.b * self.b).sum(-1), (self.a * self.b).sum(-1))
        found = np.empty(self.h.shape, dtype=object)
        for at in np.ndindex(*found.shape):
            aa, bb, ab = (int(p[at]) for p in products)
            most = (isqrt(aa * bb) + 1 + abs(ab)) * self.square / (2 << (2 * FINE)) + self.first * self.second
            cross = self.first * int(self.v[at]) + self.second * int(self.h[at])
            found[at] = _up(most * (1 << (2 * self.s)) + cross * (1 << self.s))
        return found

    def outputs(self, w2: Objects) -> int:
        """A bound on sum_j |W2_ij| g_j by |h| |v| <= (h^2 + v^2) / 2: hidden units cannot all be at their largest for
        one input. w2: sizes, in words."""
        heavy = (-(-w2 * (1 << COARSE) // (1 << self.s))).astype(np.int64)
        a, b = self.a, self.b
        outer = a[..., :, None] * a[..., None, :] + b[..., :, None] * b[..., None, :]
        experts, rows, hidden = heavy.shape
        form = (heavy @ outer.reshape(experts, hidden, -1)).reshape(experts * rows, *outer.shape[-2:])
        worst = Fraction(0)
        for i, value in enumerate(spectral_norms(form)):
            expert = i // rows
            weights = w2[expert, i % rows]
            cross = self.first * int((weights * self.v[expert]).sum())
            cross += self.second * int((weights * self.h[expert]).sum())
            total = int(weights.sum())
            # In words at 2 s fractional bits: weights and the maxima carry s each.
            exact = Fraction(value, 1 << (COARSE + 2 * FINE)) * self.square / 2 * (1 << (2 * self.s))
            worst = max(worst, exact + cross + self.first * self.second * total * (1 << self.s) + ONE_MORE * total)
        return _up(worst)


def stream_bound(model: Model, layer: int, s: int) -> int:
    """A bound on the words of the residual stream before the layer's sparse part, for any input of the model."""
    config, parameters = model.config, model.parameters
    table = np.abs(_exact(parameters["embedding"]))
    start = table.max(0) if config.task == "text" else table.sum(0)
    stream = start + np.abs(_exact(parameters["position"])).max(0)
    for i in range(layer + 1):
        norm = Norm.of(model, f"layers.{i}.norm1")
        values = norm.products(_exact(parameters[f"layers.{i}.attention.value"]), GRAIN) >> GRAIN
        stream = stream + ((np.abs(_exact(parameters[f"layers.{i}.attention.output"])) * values).sum(-1) >> GRAIN) + 2
        if i < layer:
            own, norm = model.moe_weights(i), Norm.of(model, f"layers.{i}.norm2")
            g = (norm.products(_exact(own.w1), GRAIN) >> GRAIN) + 1  # |GeLU(h)|, |SiLU(h)|, |ReLU(h)| <= |h|
            if own.v is not None:
                g = (g * ((norm.products(_exact(own.v), GRAIN) >> GRAIN) + 1) >> GRAIN) + 1
            y = (np.abs(_exact(own.w2)) * g[:, None, :]).sum(-1).max(0) >> GRAIN
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
    mixed = _up(shape.k * PROBABILITY * ((y >> s) + ONE_MORE) * (1 << s))
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
