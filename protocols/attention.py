"""Multi-head attention with the server's projections: scores, softmax and weighted sums on shares.

Of a stream to itself or to another one; keys and values may have fewer heads than queries; positions may turn queries
and keys (rotary) or add to the scores (the server's table).
"""

from __future__ import annotations

from typing import Any

from protocols.attention_plan import AttentionPlan, AttentionWeights
from protocols.cleartext.attention import ATTENTION, CROSS_ATTENTION, rotation
from protocols.crossing import product, product_cost
from protocols.he.packing import LinearPlan
from protocols.linear import linear
from protocols.matmul import swapped
from protocols.sharing import own_share, prepared_share
from protocols.softmax import softmax
from protocols.truncate import truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import RingArray, Spec, concat, stack
from sim.role import CLIENT, SERVER
from sim.shapes import blank


def _core_cost(plan: AttentionPlan) -> Cost:
    """Of everything between the projections, and the output projection."""
    s, l, w = plan.params.frac_bits, plan.params.ring_bits, plan.w
    ring, groups, m, e = plan.scores.ring, plan.key_heads, plan.keys, plan.width
    query, value = blank(Spec(ring, (groups, plan.together, e))), blank(Spec(ring, (groups, m, e)))
    scores, states = blank(plan.scores), blank(plan.states)
    cost = product_cost(query, swapped(value), plan.scoring) + truncate_bounded.declared(scores, f=s, w=w)
    cost += softmax.declared(scores, s=s, l=l, allowed=plan.allowed, w=w)
    mixed = product_cost(scores.reshape(groups, plan.together, m), value, plan.mixing)
    cost += mixed + truncate_bounded.declared(query, f=s, w=w)
    return cost + linear.declared(states, None, plan=plan.merging) + truncate_bounded.declared(states, f=s, w=w)


def _projected_cost(x: RingArray, product: LinearPlan, plan: AttentionPlan) -> Cost:
    out = blank(Spec(x.ring, product.outputs))
    return linear.declared(x, None, plan=product) + truncate_bounded.declared(
        out, f=plan.params.frac_bits + plan.turn, w=plan.w
    )


def _attention_cost(x: RingArray, mask: object, weights: object, *, plan: AttentionPlan) -> Cost:
    return _projected_cost(x, plan.stacked, plan) + _core_cost(plan)


@protocol(realises=ATTENTION, cites="[Iron]", cost=_attention_cost)
async def attention(
    p: Party, x: RingArray, mask: RingArray | None, weights: AttentionWeights | None, *, plan: AttentionPlan
) -> RingArray:
    """Attention(x) = concat_h(softmax(Q_h K_h^T + mask + bias_h) V_h) W^T, without the residual.

    x: shared (n, d) at s fractional bits over Z_{2^l}; mask: the client's (n,), what is added to all scores of a token
    as a key, at s bits (None at the server); weights: the server's, prepared (None at the client). Returns (n, d). All
    products are floored to s bits once, exactly: bit for bit ATTENTION, for products below 2^(l-2) and scores below
    2^(l-3) in size. Scores stay shared: neither party learns which token attends to which, nor any maximum or sum of a
    row.

    Rotary positions cost no message: shares of queries and keys are turned by public cosines and sines between their
    product and its floor, and values are shifted to the same scale.
    """
    products = await linear(p, x, None if weights is None else weights.stacked, plan=plan.stacked)
    if plan.turn:
        products = _turned(products, plan)
    stacked = await truncate_bounded(p, products, f=plan.params.frac_bits + plan.turn, w=plan.w)
    rest = stacked[:, plan.d :].reshape(plan.n, 2, plan.key_heads, plan.width).transpose(1, 2, 0, 3)
    return await _core(p, stacked[:, : plan.d], rest[0], rest[1], mask, weights, plan)


def _cross_attention_cost(
    x: RingArray, memory: RingArray, mask: object, weights: object, *, plan: AttentionPlan
) -> Cost:
    queries, rest = _projected_cost(x, plan.stacked, plan), _projected_cost(memory, plan.remembered, plan)
    return (queries | rest) + _core_cost(plan)


@protocol(realises=CROSS_ATTENTION, cites="[Iron]", cost=_cross_attention_cost)
async def cross_attention(
    p: Party,
    x: RingArray,
    memory: RingArray,
    mask: RingArray | None,
    weights: AttentionWeights | None,
    *,
    plan: AttentionPlan,
) -> RingArray:
    """As `attention`, with the keys and values of another stream: x asks, memory answers.

    x: shared (n, d), memory: shared (plan.memory, d), both at s fractional bits over Z_{2^l}; mask: the client's
    (plan.memory,), for the memory's tokens (None at the server). Returns (n, d), bit for bit CROSS_ATTENTION.
    """
    query, rest = await p.gather(
        p.scoped("queries", _projected, x, None if weights is None else weights.stacked, plan.stacked, plan),
        p.scoped("memory", _projected, memory, None if weights is None else weights.remembered, plan.remembered, plan),
    )
    parts = rest.reshape(plan.memory, 2, plan.key_heads, plan.width).transpose(1, 2, 0, 3)
    return await _core(p, query, parts[0], parts[1], mask, weights, plan)


async def _projected(p: Party, x: RingArray, weights: Any, product: LinearPlan, plan: AttentionPlan) -> RingArray:
    return await truncate_bounded(p, await linear(p, x, weights, plan=product), f=plan.params.frac_bits, w=plan.w)


def _turned(products: RingArray, plan: AttentionPlan) -> RingArray:
    """Queries and keys turned by their positions, values shifted: all at `turn` further fractional bits. Words i and
    i + half of a head are a pair; it turns by position * base^(-i / half)."""
    n, e = plan.n, plan.width
    turning, half = plan.heads + plan.key_heads, e // 2
    pairs = products[:, : turning * e].reshape(n, turning, 2, half)
    shape = (n, turning, half)
    cos, sin = (
        products.const(words, (n, half)).reshape(n, 1, half).broadcast(*shape)
        for words in rotation(n, half, plan.rotary, plan.turn)
    )
    a, b = pairs[:, :, 0], pairs[:, :, 1]
    turned = stack(a * cos - b * sin, b * cos + a * sin, axis=2).reshape(n, turning * e)
    return concat(turned, products[:, turning * e :] << plan.turn, axis=1)


async def _core(
    p: Party,
    query: RingArray,
    key: RingArray,
    value: RingArray,
    mask: RingArray | None,
    weights: AttentionWeights | None,
    plan: AttentionPlan,
) -> RingArray:
    """query: (n, d); key, value: (key heads, keys, words). Queries that share a head of keys are rows of a product."""
    s, l, n, m = plan.params.frac_bits, plan.params.ring_bits, plan.n, plan.keys

    async def floor(v: RingArray) -> RingArray:
        return await truncate_bounded(p, v, f=s, w=plan.w)

    query = query.reshape(n, plan.heads, plan.width).transpose(1, 0, 2).reshape(plan.key_heads, -1, plan.width)
    scores = (await floor(await product(p, query, swapped(key), plan.scoring))).reshape(*plan.scores.shape)
    keys = own_share(p, CLIENT, mask, Spec(scores.ring, (m,)))
    scores = scores + keys.reshape(1, 1, m).broadcast(*scores.shape)
    if plan.biased:
        scores = scores + prepared_share(p, SERVER, None if weights is None else weights.bias, plan.scores)
    shares = await softmax(p, scores, s=s, l=l, allowed=plan.allowed, w=plan.w)
    mixed = await floor(await product(p, shares.reshape(plan.key_heads, -1, m), value, plan.mixing))
    joined = mixed.reshape(plan.heads, n, plan.width).transpose(1, 0, 2).reshape(n, plan.d)
    return await floor(await linear(p, joined, None if weights is None else weights.merging, plan=plan.merging))
