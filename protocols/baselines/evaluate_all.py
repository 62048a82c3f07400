"""Evaluate all, then select: every expert is computed for every token, and the shared one-hot picks the output.

The strongest protocols that do not select first. Two forms of one functionality. Expert by expert: one upload of the
states serves all first products; the outputs are picked by multiplexers BEFORE their floor, so that one floor per
selection is left. Neither party learns the route; computation and traffic grow with the number of experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols import functionalities as F
from protocols.baselines.dense import DensePlan
from protocols.baselines.plaintext_routing import Matrices
from protocols.convert import mux
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.work import apart
from protocols.hidden import hidden_cost, hidden_units
from protocols.model.config import MoeWeights
from protocols.moe import Prepare, mixture, mixture_cost
from protocols.truncate import truncate
from sim.cost import Cost, computed
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.shapes import blank


@dataclass(frozen=True)
class EvaluateAllPlan(DensePlan):
    """The public parameters of a layer that evaluates its experts one by one, side by side."""

    @cached_property
    def expert_up(self) -> LinearPlan:
        shape, answers = self.shape, self.shape.E * (2 if self.shape.gated else 1)
        return LinearPlan.cheapest(self.params, self.tokens, shape.d, shape.f, packed=self.packed, answers=answers)

    @cached_property
    def expert_down(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.tokens, self.shape.f, self.shape.d, packed=self.packed)

    @property
    def matrices(self) -> tuple[LinearPlan | SelectPlan, ...]:
        return self.router, self.expert_up, self.expert_down

    @property
    def rows(self) -> int:
        """Every expert answers all tokens."""
        return self.shape.E


@dataclass(frozen=True)
class EveryExpert:
    """The server's side: router, and the experts' w1, v (None when not gated) and w2."""

    router: Any
    w1: Matrices
    v: Matrices | None
    w2: Matrices

    @classmethod
    def prepare(cls, prepare: Prepare, plan: EvaluateAllPlan, weights: MoeWeights) -> EveryExpert:
        """Encode integer weights (signed, at s fractional bits) with the engine's own `prepare(plan, integers)`.

        Raises the engine's error when the noise bound of a parameter set does not admit the weights.
        """
        up, down = plan.expert_up, plan.expert_down
        v = None if weights.v is None else Matrices.prepare(prepare, up, weights.v)
        w1, w2 = Matrices.prepare(prepare, up, weights.w1), Matrices.prepare(prepare, down, weights.w2)
        return cls(prepare(plan.router, weights.router), w1, v, w2)

    def responses(self, plan: EvaluateAllPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        matrices = [m for m in (self.w1, self.v, self.w2) if m is not None]
        return [(self.router, 1), *((one, 1) for m in matrices for one in m.experts), *plan.combining]


def _evaluate_all_cost(x: RingArray, residual: RingArray, weights: object, *, plan: EvaluateAllPlan) -> Cost:
    shape, a, n, ring = plan.shape, plan.arithmetic, plan.tokens, plan.ring
    stacked = blank(Spec(ring, (2 if shape.gated else 1, shape.E, n, shape.f)))
    hidden, wide = blank(Spec(ring, stacked.shape[1:])), blank(Spec(ring, (n, shape.k, shape.E, shape.d)))
    up, down = plan.expert_up, plan.expert_down
    answers = h2a.declared(None, plan=up, count=shape.E)
    cost = a2h.declared(x.reshape(1, n, shape.d), layout=up.operand("x"))
    cost += (answers | answers if shape.gated else answers) + hidden_cost(
        stacked, None, activation=plan.activation, a=a
    )
    cost += computed(apart(up, shape.E, 1).times(stacked.shape[0]) + apart(down, shape.E))
    cost += a2h.declared(hidden, layout=down.operand("x")) + h2a.declared(None, plan=down, count=shape.E)
    cost += mux.declared(blank(Spec(Ring(1), wide.shape)), wide)
    cost += truncate.declared(blank(Spec(ring, (n, shape.k, shape.d))), f=a.s, mode=a.mode, w=a.w)
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
    he: Engine = p.service("he")
    a, (n, k, E), up, down = plan.arithmetic, hot.shape, plan.expert_up, plan.expert_down
    ct_x = await a2h(p, x.reshape(1, *x.shape), layout=up.operand("x"))
    ct_h = ct_v = None
    if ct_x is not None and weights is not None:
        ct_h = p.local(products, he, up, weights.w1, ct_x)
        ct_v = None if weights.v is None else p.local(products, he, up, weights.v, ct_x)
    calls = [h2a(p, ct_h, plan=up, count=E)]
    if plan.shape.gated:
        calls.append(h2a(p, ct_v, plan=up, count=E))
    g = await hidden_units(p, stack(*(await p.gather(*calls))), None, activation=plan.activation, a=a)
    ct_g = await a2h(p, g, layout=down.operand("x"))
    ct_y = None
    if ct_g is not None and weights is not None:
        ct_y = p.local(products, he, down, weights.w2, ct_g)
    y = (await h2a(p, ct_y, plan=down, count=E)).transpose(1, 0, 2)  # (n, E, d)
    wide = (n, k, E, y.shape[2])
    picked = await mux(p, hot.reshape(n, k, E, 1).broadcast(*wide), y.reshape(n, 1, E, -1).broadcast(*wide))
    return await truncate(p, picked.sum(2), f=a.s, mode=a.mode, w=a.w)


def products(he: Engine, plan: LinearPlan, matrices: Matrices, operands: Sequence[Any]) -> list[Any]:
    """Every expert's matrix times its own operand, or the one operand of all."""
    rows = he.linear(plan, operands)
    rows = rows * len(matrices.experts) if len(rows) == 1 else rows
    return [he.apply(plan, w, [row])[0] for w, row in zip(matrices.experts, rows, strict=True)]
