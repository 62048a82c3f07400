"""Evaluate all experts as one: their matrices stacked into one unit of E f hidden words ("dense-cat").

The strongest form of evaluate-all-then-select. The one-hot masks the hidden words before the second product, so that
this one product adds up the experts under encryption and selects on the way: its responses do not grow with E. For
ReLU without a gate the mask is one AND with the sign, before the multiplexer that a ReLU needs anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols import functionalities as F
from protocols.baselines.mixing import mixture, mixture_cost
from protocols.feed_forward import hidden_cost, hidden_units
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.linear import multiplied
from protocols.model.config import MoeWeights
from protocols.moe import LayerPlan, Prepare
from protocols.truncate import truncate
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, concat
from sim.shapes import blank


@dataclass(frozen=True)
class ConcatenatedPlan(LayerPlan):
    """The public parameters of a layer whose experts are one unit of E f hidden words."""

    packed = True

    @cached_property
    def expert_up(self) -> LinearPlan:
        shape = self.shape
        return LinearPlan.cheapest(self.params, self.tokens, shape.d, shape.E * shape.f, packed=self.packed)

    @cached_property
    def expert_down(self) -> LinearPlan:
        shape = self.shape
        return LinearPlan.cheapest(self.params, self.tokens, shape.E * shape.f, shape.d, packed=self.packed)

    @property
    def answers(self) -> tuple[tuple[LinearPlan | SelectPlan, int], ...]:
        """The homomorphic responses of one query, message by message: plan and rows."""
        up = ((self.expert_up, 1),) * (2 if self.shape.gated else 1)
        return (self.router, 1), *up, (self.expert_down, self.shape.k)

    @property
    def plans(self) -> tuple[LinearPlan | SelectPlan, ...]:
        return self.router, self.expert_up, self.expert_down


@dataclass(frozen=True)
class ConcatenatedWeights:
    """The server's side: router, and the stacked w1, v (None when not gated) and w2."""

    router: Any
    w1: Any
    v: Any
    w2: Any

    @classmethod
    def prepare(cls, prepare: Prepare, plan: ConcatenatedPlan, weights: MoeWeights) -> ConcatenatedWeights:
        """Encode integer weights (signed, at s fractional bits) with the engine's own `prepare(plan, integers)`.

        Raises the engine's error when the noise bound of a parameter set does not admit the weights.
        """
        *lead, E, f, d = weights.w1.shape
        at = len(lead)
        up = (None if w is None else w.reshape(*lead, E * f, d) for w in (weights.w1, weights.v))
        w1, v = (None if w is None else prepare(plan.expert_up, w) for w in up)
        down = weights.w2.transpose(*range(at), at + 1, at, at + 2).reshape(*lead, d, E * f)
        return cls(prepare(plan.router, weights.router), w1, v, prepare(plan.expert_down, down))

    def responses(self, plan: ConcatenatedPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        return [*((w, 1) for w in (self.router, self.w1, self.v) if w is not None), (self.w2, plan.shape.k)]


def _concatenated_cost(x: RingArray, residual: RingArray, weights: object, *, plan: ConcatenatedPlan) -> Cost:
    shape, a, n, ring = plan.shape, plan.arithmetic, plan.tokens, plan.ring
    products = blank(Spec(ring, (2 if shape.gated else 1, n, shape.E * shape.f)))
    hidden = blank(Spec(ring, (shape.k, *products.shape[1:])))
    up, down = plan.expert_up, plan.expert_down
    answers = h2a.declared(None, plan=up, count=1)
    cost = a2h.declared(x.reshape(1, n, shape.d), layout=up.operand("x"))
    cost += answers | answers if shape.gated else answers
    cost += hidden_cost(products, blank(Spec(Ring(1), hidden.shape)), activation=plan.activation, a=a)
    cost += a2h.declared(hidden, layout=down.operand("x")) + h2a.declared(None, plan=down, count=shape.k)
    cost += truncate.declared(blank(Spec(ring, (shape.k, n, shape.d))), f=a.s, mode=a.mode, w=a.w)
    return mixture_cost(plan, cost)


@protocol(realises=F.SPARSE_MOE, cites="[BumbleBee]", cost=_concatenated_cost)
async def evaluate_concatenated(
    p: Party, x: RingArray, residual: RingArray, weights: ConcatenatedWeights | None, *, plan: ConcatenatedPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x), with all E experts evaluated as one unit.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    Returns (n, d): the same words as `moe_layer`. Neither party learns which experts they are.
    """
    if weights is not None:
        p.local(_admit, p.service("he"), weights, plan)  # the whole query, before its first response
    router = None if weights is None else weights.router

    def experts(hot: RingArray) -> Awaitable[RingArray]:
        return p.scoped("experts", _experts, hot, x, weights, plan)

    return await mixture(p, x, residual, router, plan=plan, experts=experts)


def _admit(he: Engine, weights: ConcatenatedWeights, plan: ConcatenatedPlan) -> None:
    he.admit(weights.responses(plan))


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: ConcatenatedWeights | None, plan: ConcatenatedPlan
) -> RingArray:
    """The selected experts' outputs, (n, k, d). hot: Boolean (n, k, E)."""
    he: Engine = p.service("he")
    a, (n, k, E), up, down = plan.arithmetic, hot.shape, plan.expert_up, plan.expert_down
    keep = hot.transpose(1, 0, 2).reshape(k, n, E, 1).broadcast(k, n, E, plan.shape.f).reshape(k, n, -1)
    ct_x = await a2h(p, x.reshape(1, *x.shape), layout=up.operand("x"))
    ct_h = ct_v = ct_y = None
    if ct_x is not None and weights is not None:
        ct_h = p.local(multiplied, he, up, weights.w1, ct_x)
        ct_v = None if weights.v is None else p.local(multiplied, he, up, weights.v, ct_x)
    calls = [h2a(p, ct_h, plan=up, count=1)]
    if plan.shape.gated:
        calls.append(h2a(p, ct_v, plan=up, count=1))
    products = concat(*(await p.gather(*calls)))
    g = await hidden_units(p, products, keep, activation=plan.activation, a=a)
    ct_g = await a2h(p, g, layout=down.operand("x"))
    if ct_g is not None and weights is not None:
        ct_y = p.local(multiplied, he, down, weights.w2, ct_g)
    y = await h2a(p, ct_y, plan=down, count=k)
    return (await truncate(p, y, f=a.s, mode=a.mode, w=a.w)).transpose(1, 0, 2)
