"""Every expert evaluated by itself: what rivals that do not select first have in common. [BumbleBee, Iron]

All experts take the same rows, uploaded once, or each its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.baselines.dense import DensePlan
from protocols.baselines.plaintext_routing import ExpertMatrices, Matrices
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.work import apart
from protocols.hidden import each_matrix, hidden_cost, hidden_units
from sim.cost import Cost, computed
from sim.party import Party
from sim.ring import RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class EveryExpertPlan(DensePlan):
    """The public parameters of a layer that evaluates its experts one by one, side by side."""

    @property
    def height(self) -> int:
        """Rows that an expert evaluates."""
        return self.tokens

    @property
    def uploads(self) -> int:
        """Operands of the first products: one for all experts, or one for each."""
        return 1

    @cached_property
    def expert_up(self) -> LinearPlan:
        shape, packed = self.shape, self.packed
        rows, answers = self.stacked * shape.f, {"uploads": self.uploads, "answers": shape.E}
        return LinearPlan.cheapest(self.params, self.height, shape.d, rows, packed=packed, **answers)

    @cached_property
    def expert_down(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.height, self.shape.f, self.shape.d, packed=self.packed)

    @property
    def matrices(self) -> tuple[LinearPlan | SelectPlan, ...]:
        return self.router, self.expert_up, self.expert_down

    @property
    def rows(self) -> int:
        """Every expert answers all its rows at once."""
        return self.shape.E


class EveryExpert(ExpertMatrices):
    """What meets the rows of every expert."""

    def responses(self, plan: EveryExpertPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        return [(self.router, 1), *((one, 1) for m in self.matrices for one in m.experts), *plan.combining]


def every_expert_cost(plan: EveryExpertPlan) -> Cost:
    """Closed form of `every_expert`."""
    shape, up, down = plan.shape, plan.expert_up, plan.expert_down
    operands = blank(Spec(plan.ring, (plan.uploads, plan.height, shape.d)))
    products = blank(Spec(plan.ring, (plan.stacked, shape.E, plan.height, shape.f)))
    cost = a2h.declared(operands, layout=up.operand("x")) + h2a.declared(None, plan=up, count=shape.E)
    cost += hidden_cost(products, None, activation=plan.activation, a=plan.arithmetic)
    cost += a2h.declared(blank(Spec(plan.ring, products.shape[1:])), layout=down.operand("x"))
    cost += h2a.declared(None, plan=down, count=shape.E)
    return cost + computed(apart(up, shape.E, plan.uploads) + apart(down, shape.E))


async def every_expert(
    p: Party, x: RingArray, weights: EveryExpert | None, plan: EveryExpertPlan
) -> RingArray:
    """W2(act(W1 x) * (V x)), or W2(act(W1 x)) when not gated, of every expert: (E, m, d), not floored.

    x: shared (1, m, d), the rows of all experts, or (E, m, d), those of each.
    """
    he: Engine = p.service("he")
    E, up, down = plan.shape.E, plan.expert_up, plan.expert_down
    ct_x = await a2h(p, x, layout=up.operand("x"))
    ct_h = ct_y = None
    if ct_x is not None and weights is not None:
        ct_h = p.local(_products, he, up, weights.w1, ct_x)
    products = each_matrix(await h2a(p, ct_h, plan=up, count=E), plan.stacked)
    g = await hidden_units(p, products, None, activation=plan.activation, a=plan.arithmetic)
    ct_g = await a2h(p, g, layout=down.operand("x"))
    if ct_g is not None and weights is not None:
        ct_y = p.local(_products, he, down, weights.w2, ct_g)
    return await h2a(p, ct_y, plan=down, count=E)


def _products(he: Engine, plan: LinearPlan, matrices: Matrices, operands: Sequence[Any]) -> list[Any]:
    """Every expert's matrix times its own operand, or the one operand of all."""
    rows = he.linear(plan, operands)
    rows = rows * len(matrices.experts) if len(rows) == 1 else rows
    return [he.apply(plan, w, [row])[0] for w, row in zip(matrices.experts, rows, strict=True)]
