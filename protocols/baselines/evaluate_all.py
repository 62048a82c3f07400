"""Evaluate all, then select: every expert is computed for every token, and the shared one-hot picks the output.

The strongest protocols that do not select first. Two forms of one functionality. Expert by expert: one upload of the
states serves all first products; the outputs are picked by multiplexers BEFORE their floor, so that one floor per
selection is left. Neither party learns the route; computation and traffic grow with the number of experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols import functionalities as F
from protocols.baselines.every_expert import EveryExpert, EveryExpertPlan, every_expert, every_expert_cost
from protocols.convert import mux
from protocols.moe import mixture, mixture_cost
from protocols.truncate import truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class EvaluateAllPlan(EveryExpertPlan):
    """The public parameters of a layer whose experts all evaluate all tokens."""


def _evaluate_all_cost(x: RingArray, residual: RingArray, weights: object, *, plan: EvaluateAllPlan) -> Cost:
    shape, a, n, ring = plan.shape, plan.arithmetic, plan.tokens, plan.ring
    wide = blank(Spec(ring, (n, shape.k, shape.E, shape.d)))
    cost = every_expert_cost(plan) + mux.declared(blank(Spec(Ring(1), wide.shape)), wide)
    cost += truncate_bounded.declared(blank(Spec(ring, (n, shape.k, shape.d))), f=a.s, mode=a.mode, w=a.w)
    return mixture_cost(plan, cost)


@protocol(realises=F.SPARSE_MOE, cites="[BumbleBee]", cost=_evaluate_all_cost)
async def evaluate_all(
    p: Party, x: RingArray, residual: RingArray, weights: EveryExpert | None, *, plan: EvaluateAllPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x), with all E experts evaluated one by one.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    Returns (n, d): the same words as `moe_layer`. Neither party learns which experts they are.
    """
    return await mixture(p, x, residual, weights, plan=plan, experts=_experts)


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: EveryExpert | None, plan: EvaluateAllPlan
) -> RingArray:
    """The selected experts' outputs, (n, k, d). hot: Boolean (n, k, E)."""
    a, (n, k, E) = plan.arithmetic, hot.shape
    y = (await every_expert(p, x.reshape(1, *x.shape), weights, plan)).transpose(1, 0, 2)  # (n, E, d)
    wide = (n, k, E, y.shape[2])
    picked = await mux(p, hot.reshape(n, k, E, 1).broadcast(*wide), y.reshape(n, 1, E, -1).broadcast(*wide))
    return await truncate_bounded(p, picked.sum(2), f=a.s, mode=a.mode, w=a.w)
