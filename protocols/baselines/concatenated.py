"""Evaluate all experts as one: their matrices stacked into one unit of E f hidden words ("dense-cat").

The strongest form of evaluate-all-then-select. The one-hot masks the hidden words before the second product, so that
this one product adds up the experts under encryption and selects on the way: its responses do not grow with E. For
ReLU without a gate the mask is one AND with the sign, before the multiplexer that a ReLU needs anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols import functionalities as F
from protocols.baselines.dense import DensePlan, side_by_side
from protocols.feed_forward import unit, unit_cost
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.layer_plan import LayerWeights
from protocols.model.config import MoeWeights
from protocols.moe import mixture, mixture_cost
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class ConcatenatedPlan(DensePlan):
    """The public parameters of a layer whose experts are one unit of E f hidden words."""

    @cached_property
    def expert_up(self) -> LinearPlan:
        shape = self.shape
        rows = self.stacked * shape.E * shape.f
        return LinearPlan.cheapest(self.params, self.tokens, shape.d, rows, packed=self.packed)

    @cached_property
    def expert_down(self) -> LinearPlan:
        shape = self.shape
        return LinearPlan.cheapest(self.params, self.tokens, shape.E * shape.f, shape.d, packed=self.packed)

    @property
    def answers(self) -> tuple[tuple[LinearPlan | SelectPlan, int], ...]:
        """The homomorphic responses of one query, message by message: plan and rows."""
        return (self.router, 1), (self.expert_up, 1), (self.expert_down, self.shape.k), *self.combining

    @property
    def matrices(self) -> tuple[LinearPlan | SelectPlan, ...]:
        return self.router, self.expert_up, self.expert_down

    def arranged(self, weights: MoeWeights) -> tuple[Any, Any, Any]:
        """W1 and V of all experts above each other, W2 side by side."""
        *lead, E, f, d = weights.w1.shape
        w1, v = (None if w is None else w.reshape(*lead, E * f, d) for w in (weights.w1, weights.v))
        return w1, v, side_by_side(weights.w2)


def _concatenated_cost(x: RingArray, residual: RingArray, weights: object, *, plan: ConcatenatedPlan) -> Cost:
    shape = plan.shape
    keep = blank(Spec(Ring(1), (shape.k, plan.tokens, shape.E * shape.f)))
    return mixture_cost(plan, unit_cost(x, keep, **_public(plan)))


def _public(plan: ConcatenatedPlan) -> dict[str, Any]:
    """The public arguments of the unit."""
    gated, activation = plan.shape.gated, plan.activation
    return {"up": plan.expert_up, "down": plan.expert_down, "gated": gated, "activation": activation,
            "a": plan.arithmetic}  # fmt: skip


@protocol(realises=F.SPARSE_MOE, cites="[BumbleBee]", cost=_concatenated_cost)
async def evaluate_concatenated(
    p: Party, x: RingArray, residual: RingArray, weights: LayerWeights | None, *, plan: ConcatenatedPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x), with all E experts evaluated as one unit.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    Returns (n, d): the same words as `moe_layer`. Neither party learns which experts they are.
    """
    return await mixture(p, x, residual, weights, plan=plan, experts=_experts)


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: LayerWeights | None, plan: ConcatenatedPlan
) -> RingArray:
    """The selected experts' outputs, (n, k, d). hot: Boolean (n, k, E)."""
    n, k, E = hot.shape
    keep = hot.transpose(1, 0, 2).reshape(k, n, E, 1).broadcast(k, n, E, plan.shape.f).reshape(k, n, -1)
    y = await unit(p, x, keep, None if weights is None else weights.experts, **_public(plan))
    return y.transpose(1, 0, 2)
