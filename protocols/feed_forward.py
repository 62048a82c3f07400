"""The dense feed-forward unit, and what it shares with every rival that evaluates experts: the hidden units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from protocols import functionalities as F
from protocols.compare import DIGIT
from protocols.expert_weights import ExpertWeights
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.hidden import Arithmetic, each_matrix, hidden_cost, hidden_units
from protocols.linear import linear, multiplied
from protocols.model.tables import Approximation
from protocols.polynomial import CHEAPEST
from protocols.truncate import FAITHFUL, truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import RingArray, Spec
from sim.shapes import blank


def first_cost(x: RingArray, *, up: LinearPlan) -> Cost:
    """Closed form of `first_products`."""
    return linear.declared(x, None, plan=up)


async def first_products(
    p: Party, x: RingArray, weights: ExpertWeights | None, *, up: LinearPlan, gated: bool
) -> RingArray:
    """W1 x, and V x where gated, of one upload of x (n, d) and in one answer: (2 or 1, n, f), not floored."""
    products = await linear(p, x, None if weights is None else weights.w1, plan=up)
    return each_matrix(products, 2 if gated else 1)


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
    products = blank(Spec(x.ring, (2 if gated else 1, n, down.d)))
    cost = first_cost(x, up=up) + hidden_cost(products, keep, activation=activation, a=a)
    cost += a2h.declared(blank(Spec(x.ring, (rows, n, down.d))), layout=down.operand("x"))
    cost += h2a.declared(None, plan=down, count=rows)
    return cost + truncate_bounded.declared(blank(Spec(x.ring, (rows, n, down.f))), f=a.s, mode=a.mode, w=a.w)


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
    ct_g = await a2h(p, g.reshape(rows, down.n, down.d), layout=down.operand("x"))
    ct_y = None
    if ct_g is not None and weights is not None:
        ct_y = p.local(multiplied, he, down, weights.w2, ct_g)
    return await truncate_bounded(p, await h2a(p, ct_y, plan=down, count=rows), f=a.s, mode=a.mode, w=a.w)


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
        rows = self.f * (2 if self.gated else 1)
        return LinearPlan.balanced(self.params, self.tokens, self.d, rows, self.packed)

    @cached_property
    def down(self) -> LinearPlan:
        return LinearPlan.balanced(self.params, self.tokens, self.f, self.d, self.packed)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        return self.up, self.down

    @property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self.params.frac_bits, self.mode, self.w, self.form)


def _feed_forward_cost(x: RingArray, weights: object, *, plan: FeedForwardPlan) -> Cost:
    return unit_cost(
        x, None, up=plan.up, down=plan.down, gated=plan.gated, activation=plan.activation, a=plan.arithmetic
    )


@protocol(realises=F.FEED_FORWARD, cites="[BumbleBee]", cost=_feed_forward_cost)
async def feed_forward(p: Party, x: RingArray, weights: ExpertWeights | None, *, plan: FeedForwardPlan) -> RingArray:
    """W2(act(W1 x) * (V x)), or W2(act(W1 x)) when not gated: the dense unit with the server's weights.

    x: shared (n, d) at s fractional bits over Z_{2^l}; weights: the server's, see `ExpertWeights.prepare` (None at the
    client). Returns (n, d). Range: products below 2^(l-2) in size. Faithful mode: bit for bit F.FEED_FORWARD.
    """
    if weights is not None:
        p.local(_admit, p.service("he"), weights)
    y = await unit(
        p, x, None, weights, up=plan.up, down=plan.down, gated=plan.gated, activation=plan.activation, a=plan.arithmetic
    )
    return y[0]


def _admit(he: Engine, weights: ExpertWeights) -> None:
    he.admit(weights.responses(1))
