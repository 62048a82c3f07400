"""Linear layers with weights at the server: one plaintext-ciphertext product."""

from __future__ import annotations

from typing import Any

from protocols import functionalities as F
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import RingArray


def _linear_cost(x: RingArray, weights: object, *, plan: LinearPlan) -> Cost:
    layout = plan.operand("x")
    return a2h.declared(x.reshape(1, *layout.shape), layout=layout) + h2a.declared(None, plan=plan, count=1)


@protocol(realises=F.LINEAR, cites="[Cheetah]", cost=_linear_cost)
async def linear(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """x W^T for a shared x (n, d) and a matrix W (f, d) of the server. Returns (n, f), not truncated.

    weights: prepared by the server's engine for this plan (None at the client). Exact mod 2^l. 2 flights.
    """
    he: Engine = p.service("he")
    layout = plan.operand("x")
    ct_x = await a2h(p, x.reshape(1, *layout.shape), layout=layout)
    products = p.local(multiplied, he, plan, weights, ct_x) if ct_x is not None else None
    y = await h2a(p, products, plan=plan, count=1)
    return y[0]


def multiplied(he: Engine, plan: LinearPlan, weights: Any, ct_x: list[Any]) -> list[Any]:
    """Server: the prepared weights times every row of an upload."""
    return he.apply(plan, weights, he.linear(plan, ct_x))
