"""Decryption, flooding and the plaintext modulus of every product that a private layer makes.

Published shapes stand for any weights that the load-time check admits: the largest norm that passes it. Shipped models
are judged by the weights they have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from proofs.limits.noise import Moduli, distance, flood, margin, second_moment, tail, weights_l1, worst_case
from proofs.limits.row import PROVED, REFUTED, Bound, bits, bounded, decided, sqrt_up
from proofs.limits.security import ASSUMPTION
from protocols.baselines.evaluate_all import EvaluateAllPlan
from protocols.baselines.iron import IronPlan
from protocols.he.matrices import above
from protocols.he.noise import WeightsOutOfBound, has_room, largest_norm, noise_report
from protocols.he.own import own_norm
from protocols.he.packing import Plan, SelectPlan, ShapeDoesNotFit
from protocols.he.params import ParamSet
from protocols.he.service import DEFAULT_BUDGET
from protocols.he.weights import prepare
from protocols.hidden import RELU
from protocols.layer_plan import ORDERS, LayerPlan
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint, quantise
from protocols.model.store import load_model

TOKENS = (1, 2, 3, 4, 5, 6, 7, 8)
PUBLISHED = tuple(MoeConfig(768, 3072, E) for E in (2, 8, 32, 128))
WORST_FAILURE = Fraction(1, 1 << 40)  # of one query: more is refused
ABOVE = Fraction((1 << 20) + 1, 1 << 20)  # covers the float arithmetic of the load-time check
_model = cache(load_model)
UNCORRELATED = ("noise terms that different keys, errors or secrets multiply are uncorrelated; digits, remainders and "
                "quotients are taken at their largest size")
RLWE = f"{ASSUMPTION}: a response's second component is uniform to the client's secret"


@dataclass(frozen=True)
class Use:
    """A plan as one query of a layer uses it: how many rows it answers, and the largest squared norm of its weights,
    None where it admits no weights at all."""

    plan: Plan
    rows: int
    norm: Fraction | None

    @property
    def outputs(self) -> int:
        """Coefficients that leave in one query."""
        return self.rows * int(np.prod(self.plan.outputs))


def layer_plans(params: ParamSet, shape: MoeConfig) -> Iterator[LayerPlan]:
    """The layer in both orders, or with a set that has no room for selection expert by expert, as the rivals that it is
    for; for 1 to 8 tokens. Raises ShapeDoesNotFit where the set cannot hold the shape."""
    for tokens in TOKENS:
        if has_room(params):
            yield from (LayerPlan(shape, tokens, params, RELU, order) for order in ORDERS)
        else:
            yield (EvaluateAllPlan if params.galois else IronPlan)(shape, tokens, params, RELU)


@cache
def admitted(plan: Plan) -> Fraction | None:
    """The largest squared norm that passes the load-time check, rounded up; None where none does."""
    norm = largest_norm(plan)
    if norm <= 0 or not noise_report(plan, norm).decrypts:
        return None
    return Fraction(norm) * ABOVE


@cache
def shipped(model: str, plan: Plan, layer: int, name: str) -> Fraction:
    """The largest squared norm of an output block of a shipped model's matrix, or of any expert's where each has a plan
    of its own, as the load-time check computes it. Raises WeightsOutOfBound."""
    weights = _model(model).moe_weights(layer)
    floats = above(weights.w1, weights.v) if name == "w1" else getattr(weights, name)
    fp = FixedPoint(plan.params.ring_bits, plan.params.frac_bits)
    values = fp.signed(quantise(floats, fp))
    apart = values if plan.experts == 1 and values.ndim == 3 else values[None]
    return max(squared_norm(plan, matrix) for matrix in apart)


def squared_norm(plan: Plan, values: NDArray[np.int64]) -> Fraction:
    """The largest squared norm of an output block of a matrix of signed words, as the load-time check computes it.
    Raises WeightsOutOfBound."""
    values = values.reshape(plan.experts, plan.f, plan.d)
    prepare(plan, values)
    squares = [(values[:, low : low + plan.n_out].astype(object) ** 2).sum() for low in range(0, plan.f, plan.n_out)]
    return Fraction(int(max(squares)))


def uses(layer: LayerPlan, model: str | None) -> list[Use]:
    """Every plan of one query of the layer."""
    names = ("router", "w1", "w2")
    found = []
    for (plan, rows), name in zip(layer.answers[: len(names)], names, strict=True):
        if model is None:
            norm = admitted(plan)
        else:
            norm = max(shipped(model, plan, i, name) for i in range(_model(model).config.layers))
        found.append(Use(plan, rows, norm))
    return [*found, *(Use(plan, rows, Fraction(own_norm(plan))) for plan, rows in layer.combining)]


def fits(params: ParamSet, shape: MoeConfig) -> str | None:
    """None, or why the set refuses the shape before any key is made."""
    try:
        for layer in layer_plans(params, shape):
            for plan in layer.plans:
                plan.operand("x")
    except ShapeDoesNotFit as error:
        return str(error)
    return None


def told(params: ParamSet, shape: MoeConfig, model: str | None) -> str:
    """The subject of a row."""
    what = f"d={shape.d}, f={shape.f}, E={shape.E}"
    return f"{params.name}, {what}" + (f" ({model})" if model else "")


def shape_rows(params: ParamSet, shape: MoeConfig, model: str | None = None) -> Iterator[Bound]:
    """The rows of one parameter set and shape: both orders, 1 to 8 tokens, the worst of them in numbers."""
    refusal = fits(params, shape)
    if refusal is not None:
        yield Bound("shape", told(params, shape, model), PROVED, f"refused: {refusal}",
                    "ShapeDoesNotFit, raised when the plan is made")
        return
    subject = told(params, shape, model)
    try:
        layers = [uses(layer, model) for layer in layer_plans(params, shape)]
    except WeightsOutOfBound as error:
        yield Bound("flooding", subject, REFUTED, f"refused: {error}", "WeightsOutOfBound, raised when weights load")
        return
    for row in (plaintext_modulus, decryption, flooding):
        start = time.perf_counter()
        found = [row(subject, used) for used in layers]
        worst = next((bound for bound, _ in found if not bound.holds), max(found, key=lambda pair: pair[1])[0])
        yield Bound(worst.name, worst.subject, worst.verdict, worst.statement, worst.method,
                    time.perf_counter() - start, worst.assumptions)


@cache
def scales_agree(plan: Plan) -> bool:
    """Whether upload, expansion and weights multiply to q1 / 2^l exactly, with carries of the share sums and the
    quotient of a product vanishing modulo q1; packing multiplies by 2^b and by its inverse modulo q1."""
    l, q1 = plan.params.ring_bits, Moduli.of(plan.params).q1
    words = ("x",) if plan.order == "linear" else ("t", "x")
    expanded = {"linear": "x", "R": "x", "L": "t"}[plan.order]
    layouts = {word: plan.operand(word) for word in words}
    lifted = plan.expansion_levels or plan.lift
    scales = [at.scale - at.levels - (lifted if word == expanded else 0) for word, at in layouts.items()]
    return q1 % 2 == 1 and all(scale == l for scale in scales)


@cache
def aligned(plan: Plan) -> bool:
    """Whether every output stays on coefficients that each packing level only doubles: level j's automorphism maps
    X^i to +-X^i for every multiple i of h 2^j, and outputs sit at multiples of h."""
    n, h = plan.params.n, plan.h
    fixed = all(  # the first multiple: all others are multiples of it
        (element - 1) * (h << level) % n == 0
        for level, element in enumerate(plan.packing_elements)
        if h << level < n
    )
    return fixed and all((places % h == 0).all() for places in plan.response_positions)


def plaintext_modulus(subject: str, used: list[Use]) -> tuple[Bound, Fraction]:
    """Scales and room of the plaintext modulus 2^(l + b)."""
    good, finest = True, list[tuple[Fraction, str]]()
    for use in used:
        plan, m = use.plan, Moduli.of(use.plan.params)
        for word in ("x",) if plan.order == "linear" else ("t", "x"):
            upload = plan.operand(word)
            modulus, name = (m.q1, "q1") if upload.switched else (m.q0, "q0")
            finest.append((Fraction(modulus, 1 << (upload.scale + 1)), f"{name} / 2^{upload.scale + 1}"))
        good = good and scales_agree(plan) and aligned(plan) and m.aux >> 9 >= m.q0
    least, name = min(finest)
    statement = (
        f"scales: upload, expansion, weights and packing multiply to q1 / 2^l for every plan; carries of the two "
        f"shares are multiples of 2^l and vanish; half a step of the finest upload is {name} >= {bits(least)} > 1; "
        f"the second basis exceeds q0 by 9 bits"
    )
    verdict = decided(good and least > 1)
    return Bound("plaintext modulus", subject, verdict, statement, "exact integers, every plan"), 1 / least


@cache
def _error(plan: Plan, norm: Fraction) -> Fraction:
    return worst_case(plan, weights_l1(plan, norm))[-1][1]


_moment = cache(second_moment)
_tail = cache(tail)


def decryption(subject: str, used: list[Use]) -> tuple[Bound, Fraction]:
    """The probability that any output of one query decrypts wrongly."""
    total, worst, rest, method = Fraction(0), Fraction(0), None, (
        "largest error for every key, tape and message up to the response; Chernoff bound of the last rounding")
    for use in used:
        params = use.plan.params
        norm = use.norm
        if norm is None:
            return Bound("decryption", subject, REFUTED, f"{params.name} admits no weights of this shape in order "
                         f"{use.plan.order}", method), Fraction(2)
        error = _error(use.plan, norm)
        left = margin(params, error)
        total += use.outputs * _tail(params.n, left)
        worst, rest = max(worst, error), left if rest is None else min(rest, left)
    assert rest is not None
    total = min(total, Fraction(1))
    params, m = used[0].plan.params, Moduli.of(used[0].plan.params)
    statement = (
        f"error B <= {bits(worst)} for every key and tape; F + B <= {bits(flood(params) + worst)} of q1/2^(l+1) = "
        f"{bits(Fraction(m.q1, 1 << (params.ring_bits + 1)))}; the last rounding may take {float(rest):.0f} of "
        f"{float(Fraction(m.response, 1 << (params.ring_bits + 1))):.0f}; P(a wrong output in one query of up to 8 "
        f"tokens) <= {bits(total) if total else '0'}"
    )
    verdict = bounded(total) if total <= WORST_FAILURE else REFUTED
    return Bound("decryption", subject, verdict, statement, method, assumptions=(RLWE,)), total


def flooding(subject: str, used: list[Use]) -> tuple[Bound, Fraction]:
    """The statistical distance of one query's responses from responses without noise."""
    method = "E|v| / (2F) for each output, E|v| <= sqrt(E v^2), second moments in exact rationals"
    params = used[0].plan.params
    total, charged, largest, good = Fraction(0), Fraction(0), Fraction(0), True
    for use in used:
        if use.norm is None:
            return Bound("flooding", subject, REFUTED, f"{params.name} admits no weights of this shape in order "
                         f"{use.plan.order}: F = {bits(flood(params))} hides nothing to 2^-{params.kappa}",
                         method), Fraction(2)
        moment = _moment(use.plan, use.norm)
        exact = distance(params, use.outputs, moment)
        paid = use.rows * Fraction(noise_report(use.plan, float(use.norm)).epsilon)
        good = good and sqrt_up(moment) * (1 << params.kappa) <= flood(params) and paid >= exact
        total, charged, largest = total + exact, charged + paid, max(largest, sqrt_up(moment))
    queries = Fraction(DEFAULT_BUDGET) // charged
    session = f"admits {queries}" if queries else "is refused at load (QueryBeyondBudget): it admits none"
    comparison = "<=" if good else "must be <="
    hidden = f"E|v| <= {bits(largest)} {comparison} 2^-{params.kappa} F,"
    experts = [use for use in used if isinstance(use.plan, SelectPlan)] or used[:1]
    tokens = max(use.rows * use.plan.n for use in experts)
    statement = (
        f"{hidden} F = {bits(flood(params))}; one query of {tokens} tokens is within {bits(total)}, charged "
        f"{bits(charged)}; a session's budget of {bits(Fraction(DEFAULT_BUDGET))} {session}"
    )
    return Bound("flooding", subject, bounded(total) if good else REFUTED, statement, method,
                 assumptions=(UNCORRELATED, ASSUMPTION)), total
