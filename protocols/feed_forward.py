"""The dense feed-forward unit, and what it shares with every rival that evaluates experts: the hidden units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols import functionalities as F
from protocols.boolean import blank_group, conjoin
from protocols.compare import DIGIT, less_than
from protocols.convert import b2a, bit_times, mux
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.linear import multiplied
from protocols.model.tables import Approximation
from protocols.moe import Prepare
from protocols.ot.chosen import correlate
from protocols.polynomial import CHEAPEST
from protocols.products import mul
from protocols.select import RELU, Arithmetic, ExpertWeights, activate, activation_cost
from protocols.sharing import invert
from protocols.truncate import FAITHFUL, truncate
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, concat
from sim.role import CLIENT
from sim.shapes import blank


def _wide(x: RingArray, k: int) -> RingArray:
    """k copies of x, (k, *x.shape)."""
    return x.reshape(1, *x.shape).broadcast(k, *x.shape)


def _rectify_cost(x: RingArray, keep: RingArray | None = None, *, f: int, w: int = DIGIT) -> Cost:
    l, bit = x.ring.l, blank(Spec(Ring(1), x.shape))
    high = less_than.declared(None, None, shape=x.shape, bits=l - 1 - f, w=w, need_equal=True)
    low = less_than.declared(None, None, shape=x.shape, bits=f, w=w)
    tops = correlate.declared(CLIENT, None, None, shape=x.shape, ring=Ring(f))
    k = 1 if keep is None else keep.shape[0]
    kept = FREE if keep is None else conjoin.declared(*blank_group(x.shape, k))
    chosen = blank(Spec(Ring(1), (k, *x.shape))), blank(Spec(x.ring, (k, *x.shape)))
    compared = (high | low | tops) + conjoin.declared(*blank_group(x.shape, 1))
    return compared + (b2a.declared(bit, ring=x.ring) | kept) + mux.declared(*chosen)


@protocol(realises=F.RECTIFIED_FLOOR, cites="[CrypTFlow2, SIRNN]", cost=_rectify_cost)
async def rectify(
    p: Party, x: RingArray, keep: RingArray | None = None, *, f: int, w: int = DIGIT
) -> RingArray:
    """max(floor(x / 2^f), 0) of a signed x over Z_{2^l}, 1 <= f < l - 1. Exact for every x.

    One comparison serves both: the sign is the carry into the top bit, and the carry of the low f bits is a node of the
    same digit tree. Where x is not negative its sign is known, so the wrap of the shares is a product of their top bits
    (as in truncate_known_sign); where it is negative the result is zero anyway. keep: Boolean (k, *x.shape): then
    (k, *x.shape), zero where its bit is zero, by one AND more per bit.
    """
    l, client = x.ring.l, p.role is CLIENT
    low_ring, top = Ring(l - 1), x.bit(l - 1)
    mine = x.cast(low_ring) if client else x.const(-1, x.shape).cast(low_ring) - x.cast(low_ring)

    def part(at: int, width: int) -> tuple[RingArray | None, RingArray | None]:
        field = mine.field(at, width)
        return (field, None) if client else (None, field.reshape(1, *x.shape))

    wide = Ring(f)
    high, low, both = await p.gather(
        less_than(p, *part(f, l - 1 - f), shape=x.shape, bits=l - 1 - f, w=w, need_equal=True),
        less_than(p, *part(0, f), shape=x.shape, bits=f, w=w),
        bit_times(p, CLIENT, top if client else None, None if client else top.cast(wide), Spec(wide, x.shape)),
    )
    (passed,) = await conjoin(p, high[1][0], low[0].reshape(*x.shape, 1))
    positive = invert(p, top ^ high[0][0] ^ passed[..., 0])
    carry, bits = await p.gather(b2a(p, low[0], ring=x.ring), _kept(p.child("kept"), positive, keep))
    wrap = (top.cast(wide) - both).cast(x.ring) << (l - f)
    chosen = await mux(p, bits, _wide((x >> f) - wrap + carry, bits.shape[0]))
    return chosen if keep is not None else chosen[0]


async def _kept(p: Party, positive: RingArray, keep: RingArray | None) -> RingArray:
    """positive, (1, *S), or the AND with every row of keep, (k, *S)."""
    if keep is None:
        return positive.reshape(1, *positive.shape)
    nd = len(positive.shape)
    (kept,) = await conjoin(p, positive, keep.transpose(*range(1, nd + 1), 0))
    return kept.transpose(nd, *range(nd))


def hidden_cost(products: RingArray, keep: RingArray | None, *, activation: Approximation | str, a: Arithmetic) -> Cost:
    """Closed form of `hidden_units`."""
    h, gated = blank(Spec(products.ring, products.shape[1:])), products.shape[0] == 2
    if activation == RELU and not gated:
        return rectify.declared(h, keep, f=a.s, w=a.w)
    floor = truncate.declared(h, f=a.s, mode=a.mode, w=a.w)
    if activation == RELU:
        cost = rectify.declared(h, f=a.s, w=a.w) | floor
    else:
        cost = truncate.declared(products, f=a.s, mode=a.mode, w=a.w) + activation_cost(h, activation, a)
    if gated:
        cost += mul.declared(h, h) + floor
    return cost if keep is None else cost + mux.declared(keep, blank(Spec(h.ring, keep.shape)))


async def hidden_units(
    p: Party, products: RingArray, keep: RingArray | None, *, activation: Approximation | str, a: Arithmetic
) -> RingArray:
    """act(W1 x) * (V x), or act(W1 x), at s fractional bits. products: (2 or 1, *S), W1 x and V x not yet floored.

    keep: Boolean (k, *S): k copies, zero where the bit is zero. Returns S, or (k, *S).
    """
    gated = products.shape[0] == 2
    if activation == RELU and not gated:
        return await rectify(p, products[0], keep, f=a.s, w=a.w)
    if activation == RELU:
        g, v = await p.gather(
            rectify(p, products[0], f=a.s, w=a.w), truncate(p, products[1], f=a.s, mode=a.mode, w=a.w)
        )
    else:
        hidden = await truncate(p, products, f=a.s, mode=a.mode, w=a.w)
        g, v = await activate(p, hidden[0], activation, a), hidden[-1]
    if gated:
        g = await truncate(p, await mul(p, g, v), f=a.s, mode=a.mode, w=a.w)
    return g if keep is None else await mux(p, keep, _wide(g, keep.shape[0]))


def first_cost(x: RingArray, *, up: LinearPlan, gated: bool) -> Cost:
    """Closed form of `first_products`."""
    answers = h2a.declared(None, plan=up, count=1)
    return a2h.declared(x.reshape(1, *x.shape), layout=up.operand("x")) + (answers | answers if gated else answers)


async def first_products(
    p: Party, x: RingArray, weights: ExpertWeights | None, *, up: LinearPlan, gated: bool
) -> RingArray:
    """W1 x, and V x where gated, of one upload of x (n, d): (2 or 1, n, f), not floored."""
    he: Engine = p.service("he")
    ct_x = await a2h(p, x.reshape(1, *x.shape), layout=up.operand("x"))
    ct_h = ct_v = None
    if ct_x is not None and weights is not None:
        ct_h = p.local(multiplied, he, up, weights.w1, ct_x)
        ct_v = p.local(multiplied, he, up, weights.v, ct_x) if gated else None
    calls = [h2a(p, ct_h, plan=up, count=1)]
    if gated:
        calls.append(h2a(p, ct_v, plan=up, count=1))
    return concat(*(await p.gather(*calls)))


def unit_cost(
    x: RingArray,
    keep: RingArray | None,
    *,
    up: LinearPlan,
    down: LinearPlan,
    gated: bool,
    activation: Approximation | str,
    a: Arithmetic,
) -> Cost:
    """Closed form of `unit`."""
    n, rows = up.n, 1 if keep is None else keep.shape[0]
    products = blank(Spec(x.ring, (2 if gated else 1, n, up.f)))
    cost = first_cost(x, up=up, gated=gated) + hidden_cost(products, keep, activation=activation, a=a)
    cost += a2h.declared(blank(Spec(x.ring, (rows, n, up.f))), layout=down.operand("x"))
    cost += h2a.declared(None, plan=down, count=rows)
    return cost + truncate.declared(blank(Spec(x.ring, (rows, n, down.f))), f=a.s, mode=a.mode, w=a.w)


async def unit(
    p: Party,
    x: RingArray,
    keep: RingArray | None,
    weights: ExpertWeights | None,
    *,
    up: LinearPlan,
    down: LinearPlan,
    gated: bool,
    activation: Approximation | str,
    a: Arithmetic,
) -> RingArray:
    """W2(act(W1 x) * (V x)) or W2(act(W1 x)) for a shared x (n, d), the hidden words masked by each row of keep.

    keep: Boolean (k, n, f), None for no mask (then k = 1). Returns (k, n, d) at s fractional bits.
    """
    he: Engine = p.service("he")
    rows = 1 if keep is None else keep.shape[0]
    products = await first_products(p, x, weights, up=up, gated=gated)
    g = await hidden_units(p, products, keep, activation=activation, a=a)
    ct_g = await a2h(p, g.reshape(rows, up.n, up.f), layout=down.operand("x"))
    ct_y = None
    if ct_g is not None and weights is not None:
        ct_y = p.local(multiplied, he, down, weights.w2, ct_g)
    return await truncate(p, await h2a(p, ct_y, plan=down, count=rows), f=a.s, mode=a.mode, w=a.w)


@dataclass(frozen=True)
class FeedForwardPlan:
    """The public parameters of a dense feed-forward unit: shapes, parameter set, activation, arithmetic. packed: merge
    the outputs of the linear layers; without it, one response for each block, as in [Iron]."""

    params: ParamSet
    tokens: int
    d: int
    f: int
    gated: bool
    activation: Approximation | str
    packed: bool = True
    mode: str = FAITHFUL
    w: int = DIGIT
    form: str = CHEAPEST

    @cached_property
    def up(self) -> LinearPlan:
        answers = 2 if self.gated else 1
        return LinearPlan.cheapest(self.params, self.tokens, self.d, self.f, packed=self.packed, answers=answers)

    @cached_property
    def down(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.tokens, self.f, self.d, packed=self.packed)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        return self.up, self.down

    @property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self.params.frac_bits, self.mode, self.w, self.form)


def prepare_unit(prepare: Prepare, up: LinearPlan, down: LinearPlan, w1: Any, v: Any, w2: Any) -> ExpertWeights:
    """The server's matrices w1, v (f, d), v None when not gated, and w2 (d, f), for `unit`: signed integers, encoded by
    the engine's own `prepare(plan, integers)`. Raises the engine's error on weights beyond its noise bound."""
    return ExpertWeights(prepare(up, w1), None if v is None else prepare(up, v), prepare(down, w2))


def _feed_forward_cost(x: RingArray, weights: object, *, plan: FeedForwardPlan) -> Cost:
    return unit_cost(
        x, None, up=plan.up, down=plan.down, gated=plan.gated, activation=plan.activation, a=plan.arithmetic
    )


@protocol(realises=F.FEED_FORWARD, cites="[BumbleBee]", cost=_feed_forward_cost)
async def feed_forward(p: Party, x: RingArray, weights: ExpertWeights | None, *, plan: FeedForwardPlan) -> RingArray:
    """W2(act(W1 x) * (V x)), or W2(act(W1 x)) when not gated: the dense unit with the server's weights.

    x: shared (n, d) at s fractional bits over Z_{2^l}; weights: the server's, see `prepare_unit` (None at the client).
    Returns (n, d). Faithful mode: bit for bit F.FEED_FORWARD.
    """
    if weights is not None:
        p.local(_admit, p.service("he"), weights)
    y = await unit(
        p, x, None, weights, up=plan.up, down=plan.down, gated=plan.gated, activation=plan.activation, a=plan.arithmetic
    )
    return y[0]


def _admit(he: Engine, weights: ExpertWeights) -> None:
    he.admit(weights.responses(1))
