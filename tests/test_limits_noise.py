"""The exact noise bounds: against measured noise, against exact distributions, and against planted parameter sets."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from proofs.limits import PROVED, REFUTED
from proofs.limits.ledger import budget
from proofs.limits.noise import (
    chernoff,
    distance,
    flood,
    margin,
    second_moment,
    tail,
    weights_l1,
    worst_case,
)
from proofs.limits.plans import (
    Use,
    admitted,
    decryption,
    flooding,
    shape_rows,
    shipped,
    uses,
)
from proofs.limits.row import bits
from protocols.he.noise import EpsilonBudget, NoiseReport, WeightsOutOfBound, largest_norm, noise_report
from protocols.he.packing import LinearPlan, Plan, SelectPlan
from protocols.he.params import INSECURE_TEST
from protocols.he.sampling import ERROR_ETA
from protocols.he.weights import Weights, prepare
from protocols.layer_plan import LayerPlan
from protocols.model.config import MoeConfig
from tests.he_support import Session, expected, fresh_draw, words
from tests.limit_sets import P32TINY, P64S, P64TINY, log2, planted
from tests.test_he_noise import APART, PLANS, Trace

# Measured noise


@pytest.mark.parametrize("plan", [*PLANS[:5], PLANS[7]], ids=str)
def test_measured_noise_is_within_the_worst_case_and_the_second_moment(plan: Plan) -> None:
    trace = Trace(plan, 11)
    blocks = [np.abs(trace.w[:, low : low + plan.n_out]).sum() for low in range(0, plan.f, plan.n_out)]
    norms = [(trace.w[:, low : low + plan.n_out] ** 2).sum() for low in range(0, plan.f, plan.n_out)]
    worst = dict(worst_case(plan, Fraction(int(max(blocks)))))
    compared = [stage for stage in trace.measured if stage in worst]
    assert {"fresh", "packing"} <= set(compared)
    for stage in compared:
        assert trace.measured[stage] <= log2(worst[stage]), stage
    deviation = log2(second_moment(plan, Fraction(int(max(norms))))) / 2
    assert deviation - 2 < trace.measured["packing"] < deviation + 3


@pytest.mark.parametrize("plan", [*PLANS[:2], PLANS[4]], ids=str)
def test_extreme_keys_and_errors_stay_within_the_worst_case(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every coefficient of the secret is 1 and every error 21: fresh noise meets its bound, sums of it come near."""
    monkeypatch.setattr("protocols.he.bfv.ternary", lambda _, n: np.ones(n, dtype=np.int64))
    monkeypatch.setattr("protocols.he.bfv.error", lambda _, n: np.full(n, ERROR_ETA))
    trace = Trace(plan, 3)
    blocks = [np.abs(trace.w[:, low : low + plan.n_out]).sum() for low in range(0, plan.f, plan.n_out)]
    worst = dict(worst_case(plan, Fraction(int(max(blocks)))))
    for stage in set(trace.measured) & set(worst):
        assert trace.measured[stage] <= log2(worst[stage]), stage
    assert 2 ** trace.measured["fresh"] >= ERROR_ETA
    assert log2(worst["packing"]) - trace.measured["packing"] < {"linear": 12, "R": 18, "L": 18}[plan.order]


@pytest.mark.parametrize("plan", [*PLANS, *APART], ids=str)
def test_the_bounds_are_above_the_float_model_and_not_far(plan: Plan) -> None:
    norm = Fraction(largest_norm(plan))
    deviation = noise_report(plan, float(norm)).bound - 3
    assert deviation <= log2(second_moment(plan, norm)) / 2 <= deviation + 2
    stages = worst_case(plan, weights_l1(plan, norm))
    assert log2(stages[-1][1]) > deviation
    assert distance(plan.params, 5, second_moment(plan, norm)) <= Fraction(5, 1 << plan.params.kappa)


@pytest.mark.parametrize("order", ["R", "L"])
def test_worst_case_stages_by_hand(order: str) -> None:
    """Every stage holds at least the terms that it must: N digits of two halves of two primes against errors of 21,
    N / 2 from a division, N^2 / 2 2^T from a product, a factor 2 for each level of expansion and for key switches of
    packing; of selectors 7 levels, and a sum over 8 words."""
    plan, l1 = SelectPlan(P64S, order, 8, 768, 3072), Fraction(1 << 30)
    stages, n, primes = dict(worst_case(plan, l1)), P64S.n, P64S.primes
    digits = [Fraction(primes[k] * primes[k + 1], primes[6] * primes[7]) for k in (0, 2, 4)]  # of twice half as many
    switches = [sum(21 * n * digit for digit in digits[:count]) + Fraction(n + 1, 2) for count in (3, 2)]
    first, last = stages["switch" if order == "L" else "weights"], stages["packing"]
    expanded = 2**plan.a * 22 + (2**plan.a - 1) * switches[0]
    before = expanded * l1 + 22 if order == "L" else expanded + 8 * (128 * 22 + 127 * switches[0])
    product = before * n * Fraction((n + 1) << 64, 2)
    dropped = Fraction(math.prod(primes[:4]), math.prod(primes[:6]))
    switched = (stages["product"] * dropped + Fraction(n + 1, 2)) * (l1 if order == "R" else 1)
    packed = first + (2**plan.b - 1) * switches[1]
    for got, wanted in (
        (stages["expansion"], expanded),
        (stages["product"], product),
        (first, switched),
        (last, packed),
        (stages["fresh zero"] - last, Fraction(21 * (2 * n + 1))),
    ):
        assert wanted <= got <= wanted * Fraction(1001, 1000) + 1
    small = dict(worst_case(LinearPlan(P64S, 1, 768, 8), Fraction(1)))
    assert small["weights"] == 22  # encrypted at q1: nothing is switched


def test_distances_add_up_over_outputs() -> None:
    assert (
        5 * distance(P64S, 6, Fraction(100))
        == 6 * distance(P64S, 5, Fraction(100))
        == 30 * distance(P64S, 1, Fraction(100))
    )
    assert distance(P64S, 1, Fraction(10**100)) == 1


# The last rounding


def exact_tail(n: int, grid: int, t: Fraction) -> Fraction:
    """P(|sum r_i s_i| > t) by convolution; r uniform on k / (2 grid + 1), |k| <= grid."""
    step = 2 * grid + 1
    one = {0: step}
    for s, k in product((-1, 1), range(-grid, grid + 1)):
        one[s * k] = one.get(s * k, 0) + 1
    law = {0: 1}
    for _ in range(n):
        sums: dict[int, int] = {}
        for a, x in law.items():
            for b, y in one.items():
                sums[a + b] = sums.get(a + b, 0) + x * y
        law = sums
    return Fraction(sum(y for a, y in law.items() if abs(Fraction(a, step)) > t), (3 * step) ** n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 8, 30])
def test_the_tail_bounds_the_exact_distribution(n: int) -> None:
    for quarter in range(1, 2 * n):
        t = Fraction(quarter, 4)
        assert exact_tail(n, 4, t) <= chernoff(n, t)
    if n == 30:
        assert chernoff(n, Fraction(4)) <= 60 * exact_tail(n, 4, Fraction(4))  # the bound says something


def test_the_tail_at_its_ends() -> None:
    assert tail(8192, Fraction(16)) == 1 and tail(8192, Fraction(-3)) == 1
    assert tail(8192, Fraction(4097)) == 0
    assert tail(8192, Fraction(400)) < tail(8192, Fraction(300)) < 1


# Decryption


def wrong_outputs(plan: Plan, seed: int = 5) -> int:
    """Outputs of a real request that decrypt wrongly; the load-time check is stepped over."""
    rng = np.random.default_rng(seed)
    s = Session(plan)
    shape = (1, plan.d) if isinstance(plan, LinearPlan) else (plan.d,)
    x, mask = words(rng, shape, plan.params.ring_bits), words(rng, plan.outputs, plan.params.ring_bits)
    w = rng.integers(-(1 << 8), 1 << 8, (1, plan.f, plan.d))
    prepared = Weights(plan, w, noise_report(plan, float((w**2).sum())))
    result = s.server.apply(plan, prepared, [s.product(plan, None, x, rng)])[0]
    got = s.client.decrypt(plan, s.server.respond(plan, result, mask, fresh_draw()))
    return int((got != expected(plan, w[0], None, x, mask)).sum())


def test_a_response_modulus_too_small_is_refuted_and_really_decrypts_wrongly() -> None:
    small = planted(INSECURE_TEST, response_bits=(33, 34))
    for params, verdict in ((INSECURE_TEST, PROVED), (small, REFUTED)):
        plan = LinearPlan(params, 1, 16, 128)
        norm = Fraction(1 << 30)
        row, _ = decryption("test", [Use(plan, 1, norm)])
        assert row.verdict == verdict, row
        wrong = wrong_outputs(plan)
        assert (wrong == 0) == (verdict == PROVED), wrong


def test_decryption_is_refuted_with_the_numbers() -> None:
    small = planted(P64S, response_bits=(36, 36))
    plan = SelectPlan(small, "R", 2, 32, 64)
    row, _ = decryption("test", [Use(plan, 8, Fraction(1 << 30))])
    assert row.verdict == REFUTED and "may take 25 of 128" in row.statement
    assert margin(small, Fraction(0)) < 26
    (row,) = [r for r in shape_rows(small, MoeConfig(32, 64, 8)) if r.name == "decryption"]
    assert row.verdict == REFUTED and "admits no weights" in row.statement


def test_the_stated_probability_is_the_union_over_all_outputs() -> None:
    layer = LayerPlan(MoeConfig(32, 64, 8), 8, P64TINY, "relu")
    used = uses(layer, None)
    assert [use.rows for use in used] == [1, 1, 1]
    assert sum(use.outputs for use in used) == 8 * 8 + 8 * (2 * 64 + 32)
    _, total = decryption("test", used)
    one = max(decryption("test", [replace(use, rows=1)])[1] / math.prod(use.plan.outputs) for use in used)
    assert one < total <= one * sum(use.outputs for use in used)
    by_hand = Fraction(0)
    for use in used:
        assert use.norm is not None
        error = worst_case(use.plan, weights_l1(use.plan, use.norm))[-1][1]
        by_hand += use.rows * math.prod(use.plan.outputs) * tail(P64TINY.n, margin(P64TINY, error))
    assert total == by_hand


def test_a_failure_more_likely_than_2_to_the_minus_40_is_refuted() -> None:
    weak = planted(P64S, response_bits=(37, 38))
    row, total = decryption("test", [Use(SelectPlan(weak, "R", 2, 32, 64), 1, Fraction(1 << 30))])
    assert Fraction(1, 1 << 40) < total < Fraction(1, 1 << 10) and row.verdict == REFUTED


# Flooding


def test_flooding_too_small_is_refuted_with_the_numbers() -> None:
    short = planted(P64S, kept=3)
    rows = {row.name: row for row in shape_rows(short, MoeConfig(768, 3072, 128))}
    assert rows["flooding"].verdict == rows["decryption"].verdict == REFUTED
    assert f"F = {bits(flood(short))}" in rows["flooding"].statement


def test_weights_too_big_for_the_flooding_are_refuted_and_the_largest_admitted_are_not() -> None:
    for plan in (PLANS[0], PLANS[5], SelectPlan(P64S, "R", 8, 768, 3072), LinearPlan(P64S, 4, 768, 8)):
        edge = admitted(plan)
        assert edge is not None
        layer = [Use(plan, 1, edge), Use(plan, 1, edge)]
        assert flooding("test", layer)[0].verdict.startswith("BOUNDED")
        row = flooding("test", [Use(plan, 1, edge), Use(plan, 1, 256 * edge)])[0]
        assert row.verdict == REFUTED and "must be <=" in row.statement


def test_a_charge_below_the_distance_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SelectPlan(P64S, "R", 8, 768, 3072)
    layer = [Use(plan, 1, admitted(plan))] * 2

    def cheap(plan: Plan, norm: float) -> NoiseReport:
        report = noise_report(plan, norm)
        return replace(report, epsilon=report.epsilon / 32)

    assert flooding("test", layer)[0].holds
    monkeypatch.setattr("proofs.limits.plans.noise_report", cheap)
    assert not flooding("test", layer)[0].holds


def test_weights_of_a_model_that_the_load_refuses_are_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise WeightsOutOfBound("weights: planted")

    shipped.cache_clear()
    monkeypatch.setattr("proofs.limits.plans.prepare", refuse)
    (row,) = shape_rows(P32TINY, MoeConfig(32, 64, 8), "sms")
    assert row.verdict == REFUTED and "planted" in row.statement
    shipped.cache_clear()


def test_the_norm_of_a_shipped_model_is_the_one_that_loading_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def spy(plan: Plan, values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Weights:
        weights = prepare(plan, values)
        seen.append(weights.report.bound)
        return weights

    monkeypatch.setattr("proofs.limits.plans.prepare", spy)
    shipped.cache_clear()
    for order in ("R", "L"):
        plan = SelectPlan(P32TINY, order, 8, 32, 128, stacked=2)
        norm = shipped("sms", plan, 0, "w1")
        assert noise_report(plan, float(norm)).bound == pytest.approx(seen[-1], abs=1e-9)


def test_the_float_budget_never_spends_more_than_is_stated() -> None:
    ledger, exact, charge = EpsilonBudget(), Fraction(0), 2.0**-39 * 1.1
    for _ in range(600):
        if ledger.remaining < charge:
            break
        ledger.charge(charge)
        exact += Fraction(charge)
    assert Fraction(1, 1 << 31) < exact <= Fraction(1, 1 << 30) / (1 - Fraction(600, 1 << 52))
    assert budget().verdict == "BOUNDED(2^-29.9)"
    assert budget(1 << 51).verdict == "BOUNDED(2^-29.0)"  # half of the mantissa gone: a whole bit
