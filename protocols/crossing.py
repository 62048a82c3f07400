"""Products of shared matrices under encryption: each party's share meets the other's as server weights do an upload."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.cleartext.attention import MATRIX_PRODUCT
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.own import crossing_plan
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.he.work import apart
from protocols.matmul import check_shapes, local_product, matmul, swapped
from protocols.sharing import own_share
from sim.cost import Cost, computed
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT
from sim.shapes import blank


@dataclass(frozen=True)
class CrossingPlan:
    """Public parameters of `rows` products of (n, m) times (m, r) matrices."""

    params: ParamSet
    rows: int
    n: int
    m: int
    r: int

    @cached_property
    def left(self) -> LinearPlan:
        """The client's left factors meet the server's right ones."""
        return crossing_plan(self.params, self.n, self.m, self.r)

    @cached_property
    def right(self) -> LinearPlan:
        """The client's right factors, transposed, meet the server's left ones."""
        return crossing_plan(self.params, self.r, self.m, self.n)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        """Both products."""
        return self.left, self.right

    @property
    def answers(self) -> list[tuple[LinearPlan, int]]:
        """What one product answers: (plan, rows)."""
        return [(self.left, self.rows), (self.right, self.rows)]

    @property
    def pays(self) -> bool:
        """Whether fewer bytes cross the wire than by correlated OT, whose extension is not counted here."""
        ring = Ring(self.params.ring_bits)
        x, y = blank(Spec(ring, (self.rows, self.n, self.m))), blank(Spec(ring, (self.rows, self.m, self.r)))
        return _crossing_cost(x, y, plan=self).nbytes < matmul.declared(x, y).nbytes


def _crossing_cost(x: RingArray, y: RingArray, *, plan: CrossingPlan) -> Cost:
    left, right = blank(Spec(x.ring, (plan.rows, plan.n, plan.m))), blank(Spec(y.ring, (plan.rows, plan.r, plan.m)))
    uploads = a2h.declared(left, layout=plan.left.operand("x")) | a2h.declared(right, layout=plan.right.operand("x"))
    answers = [h2a.declared(None, plan=one, count=rows) + computed(apart(one, rows)) for one, rows in plan.answers]
    return uploads + (answers[0] | answers[1])


@protocol(realises=MATRIX_PRODUCT, cites="[SecMoE, Iron]", cost=_crossing_cost)
async def crossing(p: Party, x: RingArray, y: RingArray, *, plan: CrossingPlan) -> RingArray:
    """x y of shared matrices, (..., n, m) times (..., m, r), over the plan's Z_{2^l}. Returns (..., n, r).

    x y = x_C y_C + x_S y_S + x_C y_S + (y_C^T x_S^T)^T: the client uploads its shares of x and y^T, the server
    multiplies them by its own of y and x, as signed digits, and answers with the products masked, re-randomised and
    flooded. Exact mod 2^l, 2 flights. Raises ShapeMismatch.
    """
    check_shapes(x, y)
    he: Engine = p.service("he")
    lefts, rights = x.reshape(plan.rows, plan.n, plan.m), swapped(y).reshape(plan.rows, plan.r, plan.m)
    ct_x, ct_y = await p.gather(
        *(
            a2h(p, own_share(p, CLIENT, share if p.role is CLIENT else None, share.spec), layout=one.operand("x"))
            for share, one in ((lefts, plan.left), (rights, plan.right))
        )
    )
    ct_left = ct_right = None
    if ct_x is not None and ct_y is not None:
        ct_left = p.local(_products, he, plan.left, ct_x, rights)
        ct_right = p.local(_products, he, plan.right, ct_y, lefts)
    first, second = await p.gather(
        h2a(p, ct_left, plan=plan.left, count=plan.rows), h2a(p, ct_right, plan=plan.right, count=plan.rows)
    )
    crossed: RingArray = (first + swapped(second)).reshape(*x.shape[:-2], plan.n, plan.r)
    return local_product(x, y) + crossed


def _products(he: Engine, plan: LinearPlan, rows: list[Any], own: RingArray) -> list[Any]:
    """Row i of the uploads times row i of the server's words."""
    products = he.linear(plan, rows)
    return [he.apply(plan, he.own(plan, own[i]), [product])[0] for i, product in enumerate(products)]


def product_cost(x: RingArray, y: RingArray, plan: CrossingPlan) -> Cost:
    """Of `product`."""
    return crossing.declared(x, y, plan=plan) if plan.pays else matmul.declared(x, y)


async def product(p: Party, x: RingArray, y: RingArray, plan: CrossingPlan) -> RingArray:
    """x y in whichever way sends fewer bytes: a choice by public shapes."""
    return await (crossing(p, x, y, plan=plan) if plan.pays else matmul(p, x, y))


