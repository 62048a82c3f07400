"""The sparse Mixture-of-Experts layer as one protocol, from shared hidden states to shared output."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from protocols import functionalities as F
from protocols.convert import b2a
from protocols.crossing import product, product_cost
from protocols.expert_weights import ExpertWeights
from protocols.he.interface import Engine, a2h, h2a
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.linear import linear, multiplied
from protocols.routing import probabilities, top_k
from protocols.select import select_then_compute, selected, selected_cost, selections
from protocols.truncate import truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank

# (handle, Boolean one-hot rows (n, k, E), states (n, d), the server's weights, plan) -> outputs (n, k, d)
Experts = Callable[[Party, RingArray, RingArray, Any, Any], Coroutine[Any, Any, RingArray]]


def route_cost(plan: LayerPlan) -> Cost:
    """Closed form of `route`."""
    shape, a, n, ring = plan.shape, plan.arithmetic, plan.tokens, plan.ring
    x, logits = blank(Spec(ring, (n, shape.d))), blank(Spec(ring, (n, shape.E)))
    answer = h2a.declared(None, plan=plan.router, count=1)
    cost = answer if plan.reads else linear.declared(x, None, plan=plan.router)
    cost += truncate_bounded.declared(logits, f=a.s, mode=a.mode, w=a.w)
    return cost + top_k.declared(logits, k=shape.k, l=plan.params.ring_bits, w=a.w)


async def route(
    p: Party, x: RingArray, weights: Any, plan: LayerPlan, ct_x: list[Any] | None = None
) -> tuple[RingArray, RingArray, RingArray]:
    """Logits (n, E), the winners' values (n, k) and their Boolean one-hot rows (n, k, E); before it answers
    anything the server's engine admits the query, all its responses included.

    weights: a record with a router, prepared, and `responses(plan)` (None at the client). ct_x: the server's operands
    of x where the router reads them (None at the client).
    """
    he: Engine = p.service("he")
    a, router = plan.arithmetic, None if weights is None else weights.router
    if weights is not None:
        p.local(_admit, he, weights, plan)
    if plan.reads:
        rows = None if ct_x is None else p.local(multiplied, he, plan.router, router, ct_x)
        products = (await h2a(p, rows, plan=plan.router, count=1))[0]
    else:
        products = await linear(p, x, router, plan=plan.router)
    logits = await truncate_bounded(p, products, f=a.s, mode=a.mode, w=a.w)
    winners, hot = await top_k(p, logits, k=plan.shape.k, l=plan.params.ring_bits, w=a.w)
    return logits, winners, hot


def mixture_cost(plan: LayerPlan, experts: Cost) -> Cost:
    """Closed form of `mixture` around experts of that cost."""
    shape, a, n, ring, l = plan.shape, plan.arithmetic, plan.tokens, plan.ring, plan.params.ring_bits
    logits, winners = (blank(Spec(ring, (n, width))) for width in (shape.E, shape.k))
    prob = probabilities.declared(logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w)
    return route_cost(plan) + (prob | experts) + combination_cost(plan)


def combination_cost(plan: LayerPlan) -> Cost:
    """Of the weighted sum of the experts' outputs, floored."""
    shape, n, ring = plan.shape, plan.tokens, plan.ring
    factors, rows = blank(Spec(ring, (n, 1, shape.k))), blank(Spec(ring, (n, shape.k, shape.d)))
    floor = truncate_bounded.declared(blank(Spec(ring, (n, shape.d))), f=plan.arithmetic.s, w=plan.w)
    return product_cost(factors, rows, plan.combination) + floor


async def mixture(
    p: Party,
    x: RingArray,
    residual: RingArray,
    weights: Any,
    *,
    plan: LayerPlan,
    experts: Experts,
    ct_x: list[Any] | None = None,
) -> RingArray:
    """residual + sum over the k selected experts of p_j times what `experts` makes of the route: a sparse layer.

    weights, ct_x: as for `route`.
    """
    a, shape = plan.arithmetic, plan.shape
    logits, winners, hot = await route(p, x, weights, plan, ct_x)
    prob, y = await p.gather(
        probabilities(
            p, logits, winners, s=a.s, l=plan.params.ring_bits, renormalise=shape.renormalise, mode=a.mode, w=a.w
        ),
        p.scoped("experts", experts, hot, x, weights, plan),
    )
    mixed = await product(p, prob.reshape(plan.tokens, 1, shape.k), y, plan.combination)
    return residual + await truncate_bounded(p, mixed.reshape(*x.shape), f=a.s, w=a.w)


def _admit(he: Engine, weights: Any, plan: LayerPlan) -> None:
    he.admit(weights.responses(plan))


def _moe_cost(x: RingArray, residual: RingArray, weights: object, *, plan: LayerPlan) -> Cost:
    rows, layout = (plan.tokens, plan.shape.k, plan.shape.E), plan.up.operand("x")
    t, public = blank(Spec(plan.ring, rows)), _public(plan)
    chosen = b2a.declared(blank(Spec(Ring(1), rows)), ring=plan.ring)
    if not plan.reads:
        return mixture_cost(plan, chosen + select_then_compute.declared(t, x, None, **public))
    vectors, flat_t = x.reshape(-1, *layout.shape), selections(t, plan.up.operand("t"))
    chosen += a2h.declared(flat_t, layout=plan.up.operand("t")) + selected_cost(plan.rows, **public)
    return a2h.declared(vectors, layout=layout) + mixture_cost(plan, chosen)


def _public(plan: LayerPlan) -> dict[str, Any]:
    """The public arguments of the selection."""
    return {"up": plan.up, "down": plan.down, "activation": plan.activation, "arithmetic": plan.arithmetic}


@protocol(realises=F.SPARSE_MOE, cites="[SecMoE] Protocol 1", cost=_moe_cost)
async def moe_layer(
    p: Party, x: RingArray, residual: RingArray, weights: LayerWeights | None, *, plan: LayerPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x). Neither party learns which experts they are.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    [[x]] goes up once, before routing, for the router and for the experts, where that sends less. Returns (n, d).
    Range: every product floored stays below 2^(l-2) in size; the command refuses weights for which one may not.
    Faithful mode: bit for bit the fixed-point oracle. One-ulp mode: inner truncations lose their share
    carries (see truncate); the last one is faithful in both modes, because its output may be opened.
    """
    layout, ct_x = plan.up.operand("x"), None
    if plan.reads:
        ct_x = await a2h(p, x.reshape(-1, *layout.shape), layout=layout)
    experts = partial(_experts, ct_x=ct_x)
    return await mixture(p, x, residual, weights, plan=plan, experts=experts, ct_x=ct_x)


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: LayerWeights | None, plan: LayerPlan, *, ct_x: list[Any] | None
) -> RingArray:
    t, experts = await b2a(p, hot, ring=plan.ring), None if weights is None else weights.experts
    if plan.reads:
        return await p.scoped(select_then_compute.name, _selected, t, ct_x, experts, plan)
    return await select_then_compute(p, t, x, experts, **_public(plan))


async def _selected(
    p: Party, t: RingArray, ct_x: list[Any] | None, weights: ExpertWeights | None, plan: LayerPlan
) -> RingArray:
    """`select_then_compute` of vectors that are up already."""
    layout = plan.up.operand("t")
    ct_t = await a2h(p, selections(t, layout), layout=layout)
    return await selected(p, ct_t, ct_x, weights, t.shape, **_public(plan))


moe_layer_one_ulp = protocol(realises=F.SPARSE_MOE_ONE_ULP, cites="[SecMoE] Protocol 1", cost=_moe_cost)(moe_layer.run)
