"""Rival protocols, and what lies below the interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.baselines.cryptomoe import BalancedPlan, BalancedWeights, DoublePlan, cryptomoe
from protocols.baselines.plaintext_routing import RoutedPlan, RoutedWeights, plaintext_routing
from protocols.baselines.scatter import ScatterPlan, ScatterWeights, scatter
from protocols.catalog.examples import R64
from protocols.catalog.layers import LINEAR_PLAN, expert_secrets, layer_plan, matrix, state
from protocols.entry import ASSUMED, BOUNDED, DECLARED, Case, Entry, Values
from protocols.he.interface import a2h, h2a
from protocols.model.config import MoeWeights
from protocols.moe import REASSOCIATED, LayerPlan
from protocols.ot.base import base_cost, base_ot
from protocols.ot.service import extend, extend_cost, set_up
from protocols.ot.softspoken import BASE_OTS
from sim.ring import Spec
from sim.role import CLIENT
from sim.shapes import blank


def _case(name: str, k: int, gated: bool, kind: type[LayerPlan], weighed: Any, tokens: int = 2) -> Case:
    like = layer_plan(k, gated, REASSOCIATED)
    plan = kind(like.shape, tokens, like.params, like.activation)

    def build(prepare: Callable[[Any, Any], Any], weights: Values) -> Any:
        router, w1, *gate, w2 = weights
        return weighed.prepare(prepare, plan, MoeWeights(router, w1, gate[0] if gate else None, w2))

    secrets = (state(tokens, 4), state(tokens, 4), matrix(3, 4), *expert_secrets(gated))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=build)


BASELINES: tuple[Entry, ...] = (
    Entry(
        plaintext_routing,
        (
            _case("gated GeLU, top-1", 1, True, RoutedPlan, RoutedWeights),
            _case("ReLU, top-2 renormalised", 2, False, RoutedPlan, RoutedWeights),
        ),
        DECLARED,
    ),
    Entry(
        scatter,
        (
            _case("gated GeLU, top-1", 1, True, ScatterPlan, ScatterWeights),
            _case("ReLU, top-2 renormalised", 2, False, ScatterPlan, ScatterWeights),
        ),
    ),
    Entry(
        cryptomoe,
        (
            _case("gated GeLU, top-1", 1, True, BalancedPlan, BalancedWeights),
            _case("ReLU, top-2 renormalised, twice the capacity", 2, False, DoublePlan, BalancedWeights),
        ),
    ),
)
INTERFACES: tuple[Entry, ...] = (
    Entry(base_ot, (), ASSUMED, price=base_cost(CLIENT, n=BASE_OTS)),
    Entry(set_up, (), ASSUMED, price=set_up.declared(CLIENT, None)),
    Entry(extend, (), ASSUMED, price=extend_cost(CLIENT, n=1 << 10)),
    Entry(a2h, (), ASSUMED, price=a2h.declared(blank(Spec(R64, (1, 3, 8))), layout=LINEAR_PLAN.operand("x"))),
    Entry(h2a, (), BOUNDED, price=h2a.declared(None, plan=LINEAR_PLAN, count=1)),
)
