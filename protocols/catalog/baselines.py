"""Rival protocols, and what lies below the interfaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from protocols.baselines.concatenated import ConcatenatedPlan, evaluate_concatenated
from protocols.baselines.cryptomoe import BalancedPlan, cryptomoe
from protocols.baselines.evaluate_all import EvaluateAllPlan, evaluate_all
from protocols.baselines.every_expert import EveryExpert
from protocols.baselines.plaintext_routing import RoutedPlan, RoutedWeights, plaintext_routing
from protocols.baselines.scatter import ScatterPlan, scatter
from protocols.catalog.examples import R8, R32, R64, bit, word
from protocols.catalog.layers import (
    LINEAR_PLAN,
    TINY,
    expert_secrets,
    expert_weights,
    layer_plan,
    layer_weights,
    matrix,
    state,
)
from protocols.entry import ASSUMED, BOUNDED, DECLARED, Case, Entry
from protocols.feed_forward import FeedForwardPlan, feed_forward
from protocols.he.interface import a2h, h2a
from protocols.hidden import RELU, rectify
from protocols.layer_plan import REASSOCIATED, LayerPlan, LayerWeights
from protocols.look_up import bits_at, look_up, table_at
from protocols.model.tables import GELU_LOOK_UP, GELU_MINIMAX, Approximation
from protocols.ot.base import base_cost, base_ot
from protocols.ot.service import extend, extend_cost, set_up
from protocols.ot.softspoken import BASE_OTS
from sim.ring import Ring, Spec
from sim.role import CLIENT
from sim.shapes import blank


def layer_cases(kind: type[LayerPlan], weights_of: Any) -> tuple[Case, ...]:
    """The calls of a protocol of one layer: its plan, and how its weights are prepared."""
    named = (("gated GeLU, top-1", 1, True), ("ReLU, top-2 renormalised", 2, False))
    return tuple(_layer_case(*of, kind, weights_of) for of in named)


def _layer_case(name: str, k: int, gated: bool, kind: type[LayerPlan], weights_of: Any) -> Case:
    like = layer_plan(k, gated, REASSOCIATED)
    plan = kind(like.shape, like.tokens, like.params, like.activation)

    secrets = (state(2, 4), state(2, 4), matrix(3, 4), *expert_secrets(gated))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=layer_weights(plan, weights_of))


def dense_case(name: str, gated: bool, activation: Approximation | str) -> Case:
    """A call of `feed_forward` on two tokens."""
    plan = FeedForwardPlan(TINY, 2, 4, 8, gated, activation)
    up, down = matrix(8, 4), matrix(4, 8)
    secrets = (state(2, 4), *((up, up, down) if gated else (up, down)))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=expert_weights(plan))


# Eight entries: what is proved of them holds entry by entry; tests run the activations' own 256.
COARSE = replace(GELU_LOOK_UP, name="gelu-coarse", index_bits=3, max_error=0.12)
ENTRIES = (0, 1, 63, 5, 17, 127, 64, 2)
HALF_RANGE = word(3, low=-(1 << 62) + 1, high=(1 << 62) - 1)

BASELINES: tuple[Entry, ...] = (
    Entry(plaintext_routing, layer_cases(RoutedPlan, RoutedWeights), DECLARED),
    Entry(
        rectify,
        (
            Case("64 by 18", (word(4),), {"f": 18}),
            Case("32 by 12, kept twice, w = 2", (word(4, ring=R32), bit(2, 4)), {"f": 12, "w": 2}),
            Case("8 by 3", (word(4, ring=R8),), {"f": 3, "w": 3}),
        ),
    ),
    Entry(bits_at, (Case("8 from bit 12", (word(4),), {"f": 12, "ring": R8}),)),
    Entry(
        table_at,
        (
            Case("8 entries of 7 bits", (word(4, ring=Ring(3)),), {"entries": ENTRIES, "ring": Ring(7)}),
            Case("2 entries of 64 bits", (bit(3),), {"entries": (-5, 1 << 62), "ring": R64}),
        ),
    ),
    Entry(look_up, (Case("GeLU, 8 entries", (HALF_RANGE,), {"table": COARSE, "s": 18}),)),
    Entry(feed_forward, (dense_case("gated GeLU", True, GELU_MINIMAX), dense_case("ReLU", False, RELU))),
    Entry(evaluate_all, layer_cases(EvaluateAllPlan, EveryExpert)),
    Entry(evaluate_concatenated, layer_cases(ConcatenatedPlan, LayerWeights)),
    Entry(scatter, layer_cases(ScatterPlan, LayerWeights)),
    Entry(cryptomoe, layer_cases(BalancedPlan, EveryExpert)),
)
INTERFACES: tuple[Entry, ...] = (
    Entry(base_ot, (), ASSUMED, price=base_cost(CLIENT, n=BASE_OTS)),
    Entry(set_up, (), ASSUMED, price=set_up.declared(CLIENT, None)),
    Entry(extend, (), ASSUMED, price=extend_cost(CLIENT, n=1 << 10)),
    Entry(a2h, (), ASSUMED, price=a2h.declared(blank(Spec(R64, (1, 3, 8))), layout=LINEAR_PLAN.operand("x"))),
    Entry(h2a, (), BOUNDED, price=h2a.declared(None, plan=LINEAR_PLAN, count=1)),
)
