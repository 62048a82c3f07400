"""What every sparse layer does around its experts: the route before them, the mixture of their outputs after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.he.packing import LinearPlan
from protocols.linear import linear
from protocols.moe import LayerPlan
from protocols.products import mul
from protocols.routing import probabilities, top_k
from protocols.truncate import truncate
from sim.cost import Cost
from sim.party import Party
from sim.ring import RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class DensePlan(LayerPlan):
    """The public parameters of a layer that evaluates every expert. packed: merge the outputs of its linear layers."""

    packed = True

    @cached_property
    def router(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.tokens, self.shape.d, self.shape.E, packed=self.packed)


Experts = Callable[[RingArray], Awaitable[RingArray]]  # Boolean one-hot rows (n, k, E) -> outputs (n, k, d)


def mixture_cost(plan: LayerPlan, experts: Cost) -> Cost:
    """Closed form of `mixture` around experts of that cost."""
    shape, a, n, ring, l = plan.shape, plan.arithmetic, plan.tokens, plan.ring, plan.params.ring_bits
    x, logits = blank(Spec(ring, (n, shape.d))), blank(Spec(ring, (n, shape.E)))
    winners, wide = blank(Spec(ring, (n, shape.k))), blank(Spec(ring, (n, shape.k, shape.d)))
    cost = linear.declared(x, None, plan=plan.router) + truncate.declared(logits, f=a.s, mode=a.mode, w=a.w)
    cost += top_k.declared(logits, k=shape.k, l=l, w=a.w)
    prob = probabilities.declared(logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w)
    return cost + (prob | experts) + mul.declared(wide, wide) + truncate.declared(x, f=a.s, w=a.w)


async def mixture(
    p: Party, x: RingArray, residual: RingArray, router: Any, *, plan: LayerPlan, experts: Experts
) -> RingArray:
    """residual + sum over the k selected experts of p_j times what `experts` makes of the route; the words of
    `moe_layer`, with other experts. router: the server's, prepared."""
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    products = await linear(p, x, router, plan=plan.router)
    logits = await truncate(p, products, f=a.s, mode=a.mode, w=a.w)
    winners, hot = await top_k(p, logits, k=shape.k, l=l, w=a.w)
    prob, y = await p.gather(
        probabilities(p, logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w), experts(hot)
    )
    mixed = (await mul(p, prob.reshape(*prob.shape, 1).broadcast(*y.shape), y)).sum(1)
    return residual + await truncate(p, mixed, f=a.s, w=a.w)
