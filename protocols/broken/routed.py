"""The sparse layer with a planted leak: correct to the bit, and the server learns the route from one small message."""

from __future__ import annotations

from protocols import functionalities as F
from protocols.broken.fault import tell
from protocols.convert import b2a
from protocols.linear import linear
from protocols.moe import LayerPlan, LayerWeights
from protocols.products import mul
from protocols.routing import probabilities, top_k
from protocols.select import select_then_compute
from protocols.truncate import truncate
from sim.party import Party, protocol
from sim.ring import RingArray


@protocol(realises=F.SPARSE_MOE)
async def moe_layer_route_told(
    p: Party, x: RingArray, residual: RingArray, weights: LayerWeights | None, *, plan: LayerPlan
) -> RingArray:
    """`protocols.moe.moe_layer`, but the client sends its share of the one-hot rows along, as if for a log.

    The message alone is uniform; with the server's own share it is the route.
    """
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    products = await linear(p, x, None if weights is None else weights.router, plan=plan.router)
    logits = await truncate(p, products, f=a.s, mode=a.mode, w=a.w)
    winners, hot = await top_k(p, logits, k=shape.k, l=l, w=a.w)
    await tell(p, "log", hot, hot.spec)
    prob = await probabilities(p, logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w)
    y = await select_then_compute(
        p,
        await b2a(p, hot, ring=plan.ring),
        x,
        None if weights is None else weights.experts,
        up=plan.up,
        down=plan.down,
        activation=plan.activation,
        gated=shape.gated,
        arithmetic=a,
    )
    mixed = (await mul(p, prob.reshape(*prob.shape, 1).broadcast(*y.shape), y)).sum(1)
    return residual + await truncate(p, mixed, f=a.s, w=a.w)
