"""The ledger of bounds: security, decryption, flooding, ranges, approximation errors of everything that is shipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction

from proofs.limits.approximation import activation, exponential, reciprocal, truncation
from proofs.limits.models import model_rows
from proofs.limits.normalising import Norm, inverse_root, norm, softmax
from proofs.limits.plans import PUBLISHED, shape_rows
from proofs.limits.ranges import declared_ranges, layer_ranges
from proofs.limits.row import Bound, bounded
from proofs.limits.security import security
from protocols.cleartext.norms import GUARD
from protocols.he.params import PARAM_SETS
from protocols.he.service import DEFAULT_BUDGET
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint
from protocols.model.store import known_models, load_model
from protocols.model.tables import GELU_MINIMAX, TABLES
from protocols.routing import spread_of
from protocols.truncate import FAITHFUL, MODES, ONE_ULP

WIDE, NARROW = FixedPoint(64, 18), FixedPoint(32, 12)
FORMATS = (NARROW, WIDE)
MOST_EXPERTS = 128
MOST_RESPONSES = 1 << 20

# Stated errors, at most 2 % above what is found: (s of the format, mode) -> error.
STATED: dict[str, dict[tuple[int, str], Fraction]] = {
    "gelu-published": {
        (12, FAITHFUL): Fraction(118, 10**4),
        (12, ONE_ULP): Fraction(118, 10**4),
        (18, FAITHFUL): Fraction(119, 10**4),
        (18, ONE_ULP): Fraction(119, 10**4),
    },
    "gelu-minimax": {
        (12, FAITHFUL): Fraction(72, 10**4),
        (12, ONE_ULP): Fraction(75, 10**4),
        (18, FAITHFUL): Fraction(68, 10**4),
        (18, ONE_ULP): Fraction(68, 10**4),
    },
    "silu-minimax": {
        (12, FAITHFUL): Fraction(77, 10**4),
        (12, ONE_ULP): Fraction(80, 10**4),
        (18, FAITHFUL): Fraction(73, 10**4),
        (18, ONE_ULP): Fraction(73, 10**4),
    },
    "sigmoid-minimax": {
        (12, FAITHFUL): Fraction(68, 10**4),
        (12, ONE_ULP): Fraction(70, 10**4),
        (18, FAITHFUL): Fraction(68, 10**4),
        (18, ONE_ULP): Fraction(68, 10**4),
    },
    "exp": {
        (12, FAITHFUL): Fraction(56, 10**4),
        (12, ONE_ULP): Fraction(156, 10**4),
        (18, FAITHFUL): Fraction(57, 10**6),
        (18, ONE_ULP): Fraction(57, 10**6),
    },
    "reciprocal": {
        (12, FAITHFUL): Fraction(79, 10**4),
        (12, ONE_ULP): Fraction(17, 10**3),
        (18, FAITHFUL): Fraction(62, 10**6),
        (18, ONE_ULP): Fraction(72, 10**6),
    },
    "rsqrt": {
        (12, FAITHFUL): Fraction(97, 10**6),
        (12, ONE_ULP): Fraction(156, 10**6),
        (18, FAITHFUL): Fraction(76, 10**6),
        (18, ONE_ULP): Fraction(77, 10**6),
    },
}
# Norms of model shapes, and the relative error of their factors by s; softmax: absolute error by (s, terms).
MODEL_NORMS = (
    Norm("d = 32, with a mean", 32, 6, 1e-5, True),
    Norm("d = 768", 768, 6, 1e-6, False),
    Norm("d = 4096", 4096, 6, 1e-5, False),
)
NORM_ERRORS = {12: Fraction(15, 10**4), 18: Fraction(95, 10**6)}
SOFTMAX_ERRORS = {
    (12, 16): Fraction(17, 10**3),
    (12, 64): Fraction(21, 10**3),
    (18, 16): Fraction(7, 10**4),
    (18, 64): Fraction(15, 10**4),
}


def budget(responses: int = MOST_RESPONSES) -> Bound:
    """What a session may spend in truth, when its ledger adds the charges in floating point."""
    start = time.perf_counter()
    limit = Fraction(DEFAULT_BUDGET)
    spent = limit / (1 - Fraction(responses, 1 << 52))
    return Bound(
        "session", f"up to {responses} responses",
        bounded(spent),
        "EpsilonBudget refuses the response that would take the sum above 2^-30; each addition rounds by at most "
        f"2^-53 of the sum, so the exact sum is below 2^-30 / (1 - {responses} 2^-52)",
        "EpsilonExhausted, raised before anything leaves; exact bound on its float sum",
        time.perf_counter() - start,
        ("one session per set of weights: budgets of several sessions add up",),
    )


def parameter_rows() -> Iterator[Bound]:
    """Security of every set; decryption, flooding and plaintext modulus of every set and shape."""
    for params in PARAM_SETS.values():
        yield security(params)
    for params in PARAM_SETS.values():
        for shape in PUBLISHED:
            yield from shape_rows(params, shape)
        for name in known_models():
            yield from shape_rows(params, load_model(name).config, name)
    yield budget()


def range_rows() -> Iterator[Bound]:
    """Fixed-point ranges of the shipped models, and the weights for which published shapes are in range."""
    for fp in FORMATS:
        for name in known_models():
            for layer in range(load_model(name).config.layers):
                yield layer_ranges(name, layer, fp)
        for published in PUBLISHED:
            yield declared_ranges(published, fp, GELU_MINIMAX)
            plain = MoeConfig(published.d, published.f, published.E, gated=False, activation="relu")
            yield declared_ranges(plain, fp, None)


def activation_rows(fp: FixedPoint) -> Iterator[Bound]:
    """Every table on every word of one format."""
    for name, table in TABLES.items():
        for mode in MODES:
            yield activation(table, fp.s, fp.l, mode, STATED[name][fp.s, mode])


def softmax_rows() -> Iterator[Bound]:
    """The router's exponential and reciprocal, and truncation."""
    for fp in FORMATS:
        for mode in MODES:
            yield exponential(fp.s, fp.l, mode, STATED["exp"][fp.s, mode])
        for mode in MODES:
            yield reciprocal(fp.s, fp.l, spread_of(MOST_EXPERTS), mode, STATED["reciprocal"][fp.s, mode])
    yield from truncation()


def normalising_rows() -> Iterator[Bound]:
    """Reciprocal square roots, norms of model shapes, softmax."""
    for fp in FORMATS:
        for mode in MODES:
            yield inverse_root(fp.s + GUARD, mode, STATED["rsqrt"][fp.s, mode])
        for shape in MODEL_NORMS:
            yield norm(shape, fp.s, fp.l, STATED["rsqrt"][fp.s, FAITHFUL], NORM_ERRORS[fp.s])
    for (s, terms), stated in SOFTMAX_ERRORS.items():
        inverse = STATED["reciprocal"][s, FAITHFUL]
        yield softmax(s, next(fp.l for fp in FORMATS if fp.s == s), terms, inverse, stated)


def limits(quick: bool = False) -> Iterator[Bound]:
    """Every row. quick: without the activations on every word of the 64-bit format, which take the longest."""
    parts: list[Callable[[], Iterator[Bound]]] = [
        parameter_rows, model_rows, range_rows, softmax_rows, normalising_rows, lambda: activation_rows(NARROW)]
    if not quick:
        parts.append(lambda: activation_rows(WIDE))
    for part in parts:
        yield from part()
