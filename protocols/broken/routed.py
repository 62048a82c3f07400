"""The sparse layer with a planted leak: correct to the bit, and the server learns the route from one small message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols import functionalities as F
from protocols.broken.fault import R64, Fault, planted, tell
from protocols.convert import b2a
from protocols.entry import Case, Secret, Values
from protocols.he.params import PARAM_SETS
from protocols.hidden import RELU
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.products import mul
from protocols.routing import probabilities, top_k
from protocols.select import select_then_compute
from protocols.truncate import truncate_bounded
from sim.party import Party
from sim.ring import RingArray
from sim.role import CLIENT, SERVER

ROUTED: list[Fault] = []


def _case() -> Case:
    """One token, two experts: a whole layer has no instance that fits an enumeration."""
    shape = MoeConfig(d=2, f=2, E=2, gated=False, activation="relu")
    plan, bound = LayerPlan(shape, 1, PARAM_SETS["P64tiny"], RELU), 1 << 20

    def matrix(*sizes: int) -> Secret:
        return Secret(R64, sizes, SERVER, -bound, bound, weight=True)

    def prepared(prepare: Callable[[Any, Any], Any], weights: Values) -> LayerWeights:
        router, w1, w2 = weights
        return LayerWeights.prepare(prepare, plan, MoeWeights(router, w1, None, w2))

    state = Secret(R64, (1, 2), None, -bound, bound)
    secrets = (state, state, matrix(2, 2), matrix(2, 2, 2), matrix(2, 2, 2))
    return Case("ReLU, top-1", secrets, {"plan": plan}, plans=plan.plans, prepare=prepared)


@planted(
    ROUTED, "the client's share of the selector goes to the server in clear", 6, F.SPARSE_MOE, (_case(),), server=True
)
async def moe_layer_route_told(
    p: Party, x: RingArray, residual: RingArray, weights: LayerWeights | None, *, plan: LayerPlan
) -> RingArray:
    """`protocols.moe.moe_layer`, but the client sends its share of the one-hot rows along, as if for a log, and its
    share of x up twice."""
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    products = await linear(p, x, None if weights is None else weights.router, plan=plan.router)
    logits = await truncate_bounded(p, products, f=a.s, mode=a.mode, w=a.w)
    winners, hot = await top_k(p, logits, k=shape.k, l=l, w=a.w)
    await p.scoped("log", _logged, hot)
    prob = await probabilities(p, logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w)
    y = await select_then_compute(
        p,
        await b2a(p, hot, ring=plan.ring),
        x,
        None if weights is None else weights.experts,
        up=plan.up,
        down=plan.down,
        activation=plan.activation,
        arithmetic=a,
    )
    mixed = (await mul(p, prob.reshape(*prob.shape, 1).broadcast(*y.shape), y)).sum(1)
    return residual + await truncate_bounded(p, mixed, f=a.s, w=a.w)


async def _logged(p: Party, hot: RingArray) -> RingArray:
    """The message alone is uniform; with its own share the server has the route."""
    told = await tell(p, "share", hot, hot.spec)
    return hot if p.role is CLIENT else hot + told
