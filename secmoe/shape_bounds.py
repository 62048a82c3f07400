"""The bounds that a report shows: those of one layer or model at its own shape, order and number of tokens, worked out
anew."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

from proofs.limits import Bound
from proofs.limits.approximation import activation, exponential, truncation
from proofs.limits.ledger import STATED, budget
from proofs.limits.plans import Use, admitted, decryption, flooding, plaintext_modulus, squared_norm, uses
from proofs.limits.ranges import declared_ranges, layer_ranges
from proofs.limits.security import security
from protocols.encoder import EncoderWeights
from protocols.entry import Case
from protocols.he.interface import Addend, Plan
from protocols.he.noise import WeightsOutOfBound, noise_report
from protocols.he.own import own_norm
from protocols.he.packing import LinearPlan
from protocols.he.service import DEFAULT_BUDGET
from protocols.layer_plan import LayerPlan
from protocols.model.fixed_point import FixedPoint
from protocols.model.folded import fold
from protocols.model.store import known_models, load_model
from protocols.model.tables import Table
from protocols.truncate import FAITHFUL
from secmoe.layer import LayerRun, layer_shape
from secmoe.layer_protocols import PROTOCOLS, protocol_of
from secmoe.names import SECMOE
from secmoe.whole import ModelRun

BUDGET_BITS = -round(math.log2(DEFAULT_BUDGET))
ANY = "any weights that the load-time check admits"

Json = dict[str, Any]


def shipped_model(run: LayerRun | ModelRun) -> str | None:
    """The shipped model that a run names, if it has this shape and layer: a run of other weights may bear its name."""
    if run.model not in known_models():
        return None
    config = load_model(run.model).config
    if isinstance(run, ModelRun):
        same = run == ModelRun.of(config, run.tokens, run.answer, run.params, run.activation, run.order)
    else:
        same = layer_shape(config) == run.shape and run.layer < config.layers
    return run.model if same else None


def _uses(plan: LayerPlan, model: str | None) -> list[Use]:
    """Every response of one query; of other protocols than SecMoE's with any admitted weights."""
    if _is_secmoe(plan):
        return uses(plan, model)
    own = {one for one, _ in plan.combining}
    return [Use(one, rows, Fraction(own_norm(one)) if one in own else admitted(one)) for one, rows in plan.answers]


def _is_secmoe(plan: LayerPlan) -> bool:
    return protocol_of(plan) is PROTOCOLS[SECMOE]


def _model_uses(run: ModelRun, model: str | None) -> list[Use]:
    """Every response of one query of a whole model, with a shipped model's weights or any that are admitted."""

    def use(plan: Plan | Addend, words: Any) -> Use | None:
        if isinstance(plan, Addend):
            return None
        return Use(plan, 0, admitted(plan) if words is None else squared_norm(plan, run.fixed_point.signed(words)))

    named: list[Any] = [None] * (3 + len(run.plan.embedding.plans) + run.layers * (7 + run.shape.gated))
    if model is not None:
        named = list(fold(load_model(model), run.fixed_point).named(run.tokens).values())
    weights = EncoderWeights.prepare(use, run.plan, named)
    return [
        Use(found, rows, Fraction(own_norm(found))) if isinstance(found, LinearPlan) else replace(found, rows=rows)
        for found, rows in weights.responses(run.plan)
    ]


def _run_uses(run: LayerRun | ModelRun, model: str | None) -> list[Use]:
    return _model_uses(run, model) if isinstance(run, ModelRun) else _uses(run.plan, model)


def _used(run: LayerRun | ModelRun, model: str | None) -> list[Use] | None:
    try:
        return _run_uses(run, model)
    except WeightsOutOfBound:
        return None


def products(plan: LayerPlan, used: list[Use]) -> list[Bound]:
    """Plaintext modulus, decryption and flooding of a layer's very plan."""
    order = plan.order if _is_secmoe(plan) else protocol_of(plan).text.name
    shape = f"d={plan.shape.d}, f={plan.shape.f}, E={plan.shape.E}"
    return _products(f"{plan.params.name}, {shape}, {order}", plan.tokens, used)


def _products(about: str, n: int, used: list[Use]) -> list[Bound]:
    tokens = f"of {n} tokens" if n > 1 else "of 1 token"
    rows = [row(f"{about}, {tokens}", used)[0] for row in (plaintext_modulus, decryption, flooding)]
    return [replace(row, statement=row.statement.replace("of up to 8 tokens", tokens)) for row in rows]


def _run_products(run: LayerRun | ModelRun, model: str | None) -> list[Bound]:
    """With a shipped model's weights, or any that are admitted."""
    used = _used(run, model) or _run_uses(run, None)
    if isinstance(run, LayerRun):
        return products(run.plan, used)
    shape = f"d={run.shape.d}, f={run.shape.f}, E={run.shape.E}"
    return _products(f"{run.params.name}, whole model of {run.layers} layers, {shape}, {run.order}", run.tokens, used)


def _arithmetic(run: LayerRun | ModelRun, model: str | None) -> list[Bound]:
    fp = run.fixed_point
    layers, mode = (range(run.layers), FAITHFUL) if isinstance(run, ModelRun) else ([run.layer], run.truncation)
    known = [] if model is None else [layer_ranges(model, i, fp) for i in layers]
    return [*(known or [declared_ranges(run.shape, fp, run.table)]), *_approximations(fp, mode, run.polynomial)]


@cache
def _approximations(fp: FixedPoint, mode: str, table: Table | None) -> tuple[Bound, ...]:
    """Errors of exponential, activation and truncation in a format for which they are stated."""
    rows = [row for row in truncation() if row.subject.startswith(mode)]
    if (fp.s, mode) in STATED["exp"]:
        rows.append(exponential(fp.s, fp.l, mode, STATED["exp"][fp.s, mode]))
        if table is not None:
            rows.append(activation(table, fp.s, fp.l, mode, STATED[table.name][fp.s, mode]))
    return tuple(rows)


def run_bounds(run: LayerRun | ModelRun) -> list[Json]:
    """Security, scales, decryption, flooding, budget, ranges and approximation errors of one run's layer, or of its
    whole model (ranges: of the sparse layers)."""
    model = shipped_model(run)
    rows = [security(run.params), *_run_products(run, model), budget(), *_arithmetic(run, model)]
    return [_json(row) for row in rows]


def case_bounds(case: Case) -> list[Json]:
    """Security of the parameter sets of a case, and the products of a whole layer."""
    rows = [security(params) for params in {plan.params.name: plan.params for plan in case.plans}.values()]
    plan = case.public.get("plan")
    if isinstance(plan, LayerPlan):
        rows += products(plan, _uses(plan, None))
    return [_json(row) for row in rows]


def query_charge(run: LayerRun | ModelRun) -> Json | None:
    """What one query of the run takes out of a session's budget, as the load-time check computes it; None where it
    admits no weights. weights: those of the shipped model of the run's name, or any."""
    model = shipped_model(run) if isinstance(run, ModelRun) or _is_secmoe(run.plan) else None
    used = _used(run, model)
    if used is None:
        model, used = None, _run_uses(run, None)
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
