"""Rows above the HE interface: products, the selected expert, the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from protocols.catalog.examples import R64, word
from protocols.entry import Case, Entry, Prepare, Secret, Values
from protocols.expert_weights import ExpertWeights
from protocols.he.interface import Plan
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import PARAM_SETS
from protocols.layer_plan import LITERAL, REASSOCIATED, CompactPlan, LayerPlan, LayerWeights
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import GELU_MINIMAX
from protocols.moe import moe_layer
from protocols.select import select_product, select_then_compute
from sim.role import SERVER


def matrix(*shape: int, bound: int = 1 << 20) -> Secret:
    return Secret(R64, shape, SERVER, -bound, bound, weight=True)


def state(*shape: int) -> Secret:
    return word(*shape, low=-(1 << 20), high=1 << 20)


def _only(plan: Plan) -> Prepare:
    return lambda prepare, weights: prepare(plan, weights[0])


def _product_case(order: Literal["R", "L"]) -> Case:
    plan = SelectPlan(TINY, order, 3, 4, 8)
    secrets = (word(2, 3), word(2, 4), matrix(3, 8, 4))
    return Case(f"order {order}", secrets, {"plan": plan}, plans=(plan,), prepare=_only(plan))


def layer_plan(k: int, gated: bool, order: str) -> LayerPlan:
    shape = MoeConfig(
        d=4, f=8, E=3, k=k, gated=gated, activation="gelu" if gated else "relu", renormalise=k > 1 and not gated
    )
    return LayerPlan(shape, 2, TINY, GELU_MINIMAX if gated else "relu", order)


def expert_secrets(gated: bool) -> tuple[Secret, ...]:
    up, down = matrix(3, 8, 4), matrix(3, 4, 8)
    return (up, up, down) if gated else (up, down)


def expert_weights(plan: Any) -> Prepare:
    """How a case prepares the matrices of a plan's `up` and `down`."""

    def build(prepare: Callable[[Any, Any], Any], weights: Values) -> ExpertWeights:
        w1, *gate, w2 = weights
        return ExpertWeights.prepare(prepare, plan.up, plan.down, w1, gate[0] if gate else None, w2)

    return build


def layer_weights(plan: LayerPlan, kind: Any) -> Prepare:
    """How a case prepares router and experts: with `kind.prepare`."""

    def build(prepare: Callable[[Any, Any], Any], weights: Values) -> Any:
        router, w1, *gate, w2 = weights
        return kind.prepare(prepare, plan, MoeWeights(router, w1, gate[0] if gate else None, w2))

    return build


def _one_hot_rows(values: Values) -> Values:
    """The first secret becomes one-hot rows."""
    t = values[0]
    hot = (np.arange(t.shape[-1]) == (t.sum(-1) % t.shape[-1])[..., None]).astype(np.int64)
    return [hot, *values[1:]]


def _expert_case(name: str, k: int, gated: bool, order: str) -> Case:
    plan = layer_plan(k, gated, order)
    public = {
        "up": plan.up,
        "down": plan.down,
        "activation": plan.activation,
        "arithmetic": plan.arithmetic,
    }
    secrets = (word(2, k, 3, low=0, high=1 << 20), state(2, 4), *expert_secrets(gated))
    return Case(name, secrets, public, (), _one_hot_rows, (plan.up, plan.down), expert_weights(plan))


def _layer_case(name: str, plan: LayerPlan) -> Case:
    secrets = (state(2, 4), state(2, 4), matrix(3, 4), *expert_secrets(plan.shape.gated))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=layer_weights(plan, LayerWeights))


def _compact_plan() -> LayerPlan:
    """At the set of 64 bits whose key switches are quiet enough to expand one selector to a whole ciphertext."""
    like = layer_plan(1, False, REASSOCIATED)
    return CompactPlan(like.shape, like.tokens, PARAM_SETS["P64s"], like.activation)


TINY = PARAM_SETS["P64tiny"]
LINEAR_PLAN = LinearPlan(TINY, 3, 8, 5)
HOMOMORPHIC: tuple[Entry, ...] = (
    Entry(
        linear,
        (
            Case(
                "8 to 5",
                (word(3, 8), matrix(5, 8)),
                {"plan": LINEAR_PLAN},
                plans=(LINEAR_PLAN,),
                prepare=_only(LINEAR_PLAN),
            ),
        ),
    ),
    Entry(select_product, (_product_case("R"), _product_case("L"))),
    Entry(
        select_then_compute,
        (
            _expert_case("gated GeLU, top-1", 1, True, REASSOCIATED),
            _expert_case("ReLU, top-2, literal", 2, False, LITERAL),
        ),
    ),
    Entry(
        moe_layer,
        (
            _layer_case("gated GeLU, top-1", layer_plan(1, True, REASSOCIATED)),
            _layer_case("ReLU, top-2 renormalised, literal", layer_plan(2, False, LITERAL)),
            _layer_case("ReLU, top-1, compact uploads", _compact_plan()),
        ),
    ),
)
