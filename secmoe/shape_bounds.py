"""The bounds that a report shows: those of one layer at its own shape, order and number of tokens, worked out anew."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

from proofs.limits import Bound
from proofs.limits.approximation import activation, exponential, truncation
from proofs.limits.ledger import STATED, budget
from proofs.limits.plans import Use, admitted, decryption, flooding, plaintext_modulus, uses
from proofs.limits.ranges import declared_ranges, layer_ranges
from proofs.limits.security import security
from protocols.baselines.plaintext_routing import RoutedPlan
from protocols.entry import Case
from protocols.he.noise import WeightsOutOfBound, noise_report
from protocols.he.service import DEFAULT_BUDGET
from protocols.model.fixed_point import FixedPoint
from protocols.model.store import known_models, load_model
from protocols.model.tables import Table
from protocols.moe import LayerPlan
from secmoe.layer import LayerRun, layer_shape

BUDGET_BITS = -round(math.log2(DEFAULT_BUDGET))
ANY = "any weights that the load-time check admits"

Json = dict[str, Any]


def shipped_model(run: LayerRun) -> str | None:
    """The shipped model that a run names, if it has this shape and layer: a run of other weights may bear its name."""
    if run.model not in known_models():
        return None
    config = load_model(run.model).config
    return run.model if layer_shape(config) == run.shape and run.layer < config.layers else None


def _uses(plan: LayerPlan, model: str | None) -> list[Use]:
    """Every plan of one query; of plaintext routing, whose experts are linear layers, with any admitted weights."""
    if not isinstance(plan, RoutedPlan):
        return uses(plan, model)
    each = plan.rows
    up = each * (2 if plan.shape.gated else 1)
    wanted = ((plan.router, 1), (plan.expert_up, up), (plan.expert_down, each))
    return [Use(one, rows, admitted(one)) for one, rows in wanted]


def _used(plan: LayerPlan, model: str | None) -> list[Use] | None:
    try:
        return _uses(plan, model)
    except WeightsOutOfBound:
        return None


def products(plan: LayerPlan, model: str | None) -> list[Bound]:
    """Plaintext modulus, decryption and flooding of this very plan, with a shipped model's weights or any admitted."""
    used = _used(plan, model) or _uses(plan, None)
    tokens = f"of {plan.tokens} tokens" if plan.tokens > 1 else "of 1 token"
    order = "routed in clear" if isinstance(plan, RoutedPlan) else plan.order
    subject = f"{plan.params.name}, d={plan.shape.d}, f={plan.shape.f}, E={plan.shape.E}, {order}, {tokens}"
    rows = [row(subject, used)[0] for row in (plaintext_modulus, decryption, flooding)]
    return [replace(row, statement=row.statement.replace("of up to 8 tokens", tokens)) for row in rows]


def _arithmetic(run: LayerRun, model: str | None) -> list[Bound]:
    fp = run.fixed_point
    known = None if model is None else layer_ranges(model, run.layer, fp)
    return [known or declared_ranges(run.shape, fp, run.table), *_approximations(fp, run.truncation, run.table)]


@cache
def _approximations(fp: FixedPoint, mode: str, table: Table | None) -> tuple[Bound, ...]:
    """Errors of exponential, activation and truncation in a format for which they are stated."""
    rows = [row for row in truncation() if row.subject.startswith(mode)]
    if (fp.s, mode) in STATED["exp"]:
        rows.append(exponential(fp.s, fp.l, mode, STATED["exp"][fp.s, mode]))
        if table is not None:
            rows.append(activation(table, fp.s, fp.l, mode, STATED[table.name][fp.s, mode]))
    return tuple(rows)


def run_bounds(run: LayerRun) -> list[Json]:
    """Security, scales, decryption, flooding, budget, ranges and approximation errors of one run's layer."""
    model = shipped_model(run)
    rows = [security(run.params), *products(run.plan, model), budget(), *_arithmetic(run, model)]
    return [_json(row) for row in rows]


def case_bounds(case: Case) -> list[Json]:
    """Security of the parameter sets of a case, and the products of a whole layer."""
    rows = [security(params) for params in {plan.params.name: plan.params for plan in case.plans}.values()]
    plan = case.public.get("plan")
    if isinstance(plan, LayerPlan):
        rows += products(plan, None)
    return [_json(row) for row in rows]


def query_charge(run: LayerRun) -> Json | None:
    """What one query of the layer takes out of a session's budget, as the load-time check computes it; None where it
    admits no weights. weights: those of the shipped model of the run's name, or any."""
    model = None if isinstance(run.plan, RoutedPlan) else shipped_model(run)
    used = _used(run.plan, model)
    if used is None:
        model, used = None, _uses(run.plan, None)
    charged = Fraction(0)
    for use in used:
        if use.norm is None:
            return None
        charged += use.rows * Fraction(noise_report(use.plan, float(use.norm)).epsilon)
    return {
        "bits": -math.log2(charged),
        "weights": ANY if model is None else f"the shipped weights of {model}",
        "budget_bits": BUDGET_BITS,
        "queries": int(Fraction(DEFAULT_BUDGET) // charged),
    }


def _json(bound: Bound) -> Json:
    return {name: getattr(bound, name) for name in ("name", "subject", "verdict", "statement", "method")} | {
        "assumptions": list(bound.assumptions)
    }
