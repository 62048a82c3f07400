"""Products of shared matrices under encryption: each party's share meets the other's as server weights do an upload."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.cleartext.attention import MATRIX_PRODUCT
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.own import crossing_plan
from protocols.he.packing import LinearPlan, ShapeDoesNotFit
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
    """Public parameters of `rows` products of (n, m) times (m, r) matrices: as many of them share uploads and responses
    as send the fewest bytes."""

    params: ParamSet
    rows: int
    n: int
    m: int
    r: int

    @cached_property
    def left(self) -> LinearPlan:
        """The client's left factors meet the server's right ones."""
        return self._fewest_bytes(self.n, self.r)

    @cached_property
    def right(self) -> LinearPlan:
        """The client's right factors, transposed, meet the server's left ones."""
        return self._fewest_bytes(self.r, self.n)

    def _fewest_bytes(self, n: int, f: int) -> LinearPlan:
        """The plan of as many products side by side as send the fewest bytes; of equals the fewest side by side."""
        plans = [crossing_plan(self.params, n, self.m, f)]
        for parts in range(2, self.rows + 1):
            if self.rows % parts == 0:
                with suppress(ShapeDoesNotFit):
                    plans.append(crossing_plan(self.params, n, self.m, f, parts))
        return min(plans, key=lambda plan: plan.nbytes * (self.rows // plan.parts))

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        """Both products."""
        return self.left, self.right

    @property
    def answers(self) -> list[tuple[LinearPlan, int]]:
        """What one product answers: (plan, rows)."""
        return [(plan, self.rows // plan.parts) for plan in self.plans]

    @property
    def pays(self) -> bool:
        """Whether fewer bytes cross the wire than by correlated OT, whose extension is not counted here; not so where
        the set does not admit words of the server's own."""
        ring = Ring(self.params.ring_bits)
        x, y = blank(Spec(ring, (self.rows, self.n, self.m))), blank(Spec(ring, (self.rows, self.m, self.r)))
        try:
            return _crossing_cost(x, y, plan=self).nbytes < matmul.declared(x, y).nbytes
        except ShapeDoesNotFit:
            return False


def _crossing_cost(x: RingArray, y: RingArray, *, plan: CrossingPlan) -> Cost:
    lefts, rights = (blank(Spec(x.ring, (plan.rows, m, plan.m))) for m in (plan.n, plan.r))
    return met_cost(lefts, plan.left) | met_cost(rights, plan.right)


@protocol(realises=MATRIX_PRODUCT, cites="[SecMoE, Iron]", cost=_crossing_cost)
async def crossing(p: Party, x: RingArray, y: RingArray, *, plan: CrossingPlan) -> RingArray:
    """x y of shared matrices, (..., n, m) times (..., m, r), over the plan's Z_{2^l}. Returns (..., n, r).

    x y = x_C y_C + x_S y_S + x_C y_S + (y_C^T x_S^T)^T: the client uploads its shares of x and y^T, the server
    multiplies them by its own of y and x, as signed digits, and answers with the products masked, re-randomised and
    flooded. Exact mod 2^l, 2 flights. Raises ShapeMismatch.
    """
    check_shapes(x, y)
    lefts, rights = x.reshape(plan.rows, plan.n, plan.m), swapped(y).reshape(plan.rows, plan.r, plan.m)
    first, second = await p.gather(
        p.scoped("left", met, lefts, rights, plan=plan.left), p.scoped("right", met, rights, lefts, plan=plan.right)
    )
    crossed: RingArray = first + swapped(second)
    return local_product(x, y) + crossed.reshape(*x.shape[:-2], plan.n, plan.r)


def met_cost(theirs: RingArray, plan: LinearPlan) -> Cost:
    """Of `met`."""
    rows = theirs.shape[0] // plan.parts
    upload = a2h.declared(blank(Spec(theirs.ring, (rows, plan.n, plan.d))), layout=plan.operand("x"))
    return upload + h2a.declared(None, plan=plan, count=rows) + computed(apart(plan, rows))


async def met(p: Party, theirs: RingArray, own: RingArray, *, plan: LinearPlan) -> RingArray:
    """Shares of X Y^T, of the client's X, its part of `theirs` (rows, n, m), and the server's Y, its part of `own`
    (rows, f, m); plan.parts of them to an upload. Returns (rows, n, f)."""
    he: Engine = p.service("he")
    upload = _beside(theirs, plan.parts)
    mine = own_share(p, CLIENT, upload if p.role is CLIENT else None, upload.spec)
    ct = await a2h(p, mine, layout=plan.operand("x"))
    products = None if ct is None else p.local(_products, he, plan, ct, own)
    return _separate(await h2a(p, products, plan=plan, count=upload.shape[0]), plan.parts)


def _beside(x: RingArray, parts: int) -> RingArray:
    """Matrices (rows, n, m) side by side: (rows / parts, n, parts m)."""
    rows, n, m = x.shape
    return x.reshape(rows // parts, parts, n, m).transpose(0, 2, 1, 3).reshape(rows // parts, n, parts * m)


def _separate(x: RingArray, parts: int) -> RingArray:
    """The inverse of `_beside`."""
    rows, n, m = x.shape
    return x.reshape(rows, n, parts, m // parts).transpose(0, 2, 1, 3).reshape(rows * parts, n, m // parts)


def _products(he: Engine, plan: LinearPlan, rows: list[Any], own: RingArray) -> list[Any]:
    """Upload i times the server's words that meet it."""
    products, k = he.linear(plan, rows), plan.parts
    return [he.apply(plan, he.own(plan, own[i * k : (i + 1) * k]), [z])[0] for i, z in enumerate(products)]


def product_cost(x: RingArray, y: RingArray, plan: CrossingPlan) -> Cost:
    """Of `product`."""
    return crossing.declared(x, y, plan=plan) if plan.pays else matmul.declared(x, y)


async def product(p: Party, x: RingArray, y: RingArray, plan: CrossingPlan) -> RingArray:
    """x y in whichever way sends fewer bytes: a choice by public shapes."""
    return await (crossing(p, x, y, plan=plan) if plan.pays else matmul(p, x, y))


