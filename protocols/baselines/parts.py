"""What rivals share: experts as plain linear layers, and the steps of an expert between its two products."""

from __future__ import annotations

from protocols.model.tables import Table
from protocols.moe import LayerPlan
from protocols.nonlinear import relu
from protocols.polynomial import piecewise
from protocols.products import mul
from protocols.select import activate
from protocols.truncate import truncate
from sim.cost import Cost
from sim.party import Party
from sim.ring import RingArray, Spec
from sim.shapes import blank


def floor_cost(x: RingArray, plan: LayerPlan) -> Cost:
    """Of `floored`."""
    a = plan.arithmetic
    return truncate.declared(x, f=a.s, mode=a.mode, w=a.w)


async def floored(p: Party, x: RingArray, plan: LayerPlan) -> RingArray:
    """x / 2^s, in the plan's mode."""
    a = plan.arithmetic
    return await truncate(p, x, f=a.s, mode=a.mode, w=a.w)


def inner_cost(hidden: RingArray, plan: LayerPlan) -> Cost:
    """Of `inner`, for products of which one has this shape."""
    a, table = plan.arithmetic, plan.activation
    cost = floor_cost(blank(Spec(hidden.ring, (2 if plan.shape.gated else 1, *hidden.shape))), plan)
    if isinstance(table, Table):
        cost += piecewise.declared(hidden, table=table, s=a.s, form=a.form, mode=a.mode, w=a.w)
    else:
        cost += relu.declared(hidden, w=a.w)
    return cost + mul.declared(hidden, hidden) + floor_cost(hidden, plan) if plan.shape.gated else cost


async def inner(p: Party, products: RingArray, plan: LayerPlan) -> RingArray:
    """act(W1 x) * (V x), or act(W1 x), from the stacked products before their floors: (2 or 1, ..., f) to (..., f)."""
    hidden = await floored(p, products, plan)
    g = await activate(p, hidden[0], plan.activation, plan.arithmetic)
    return await floored(p, await mul(p, g, hidden[1]), plan) if plan.shape.gated else g
