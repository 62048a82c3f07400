"""Protocol 1 of SecMoE, steps 4 to 9: select the expert's weights under encryption, then compute with them.

With a parameter set that has Galois keys the number of experts adds to the server's work only: for one token one
upload of the selector, one of the vector, one response for W1 and V and one for W2, whatever E is. Several tokens share
the upload of their selectors and the responses, and with compact uploads and many experts those of vectors too. A set
without such keys answers small shapes in several responses instead of one packed one.
"""

from __future__ import annotations

from typing import Any

from protocols import functionalities as F
from protocols.expert_weights import ExpertWeights
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import Layout, SelectPlan
from protocols.he.work import tensor
from protocols.hidden import Arithmetic, each_matrix, hidden_cost, hidden_units
from protocols.model.tables import Approximation
from protocols.truncate import truncate_bounded
from sim.cost import Cost, computed
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Shape, Spec
from sim.shapes import blank


def _select_cost(t: RingArray, x: RingArray, weights: object, *, plan: SelectPlan) -> Cost:
    t, x = _rows(t, plan.operand("t")), _rows(x, plan.operand("x"))
    uploads = a2h.declared(t, layout=plan.operand("t")) | a2h.declared(x, layout=plan.operand("x"))
    return uploads + computed(tensor(plan, t.shape[0])) + h2a.declared(None, plan=plan, count=t.shape[0])


@protocol(realises=F.SELECTED_PRODUCT, cites="[SecMoE] Protocol 1, steps 4-7", cost=_select_cost)
async def select_product(p: Party, t: RingArray, x: RingArray, weights: Any, *, plan: SelectPlan) -> RingArray:
    """(sum_i t_i W_i) x, token by token. t: shared (n, E); x: shared (n, d); W: the server's (E, f, d), prepared; n a
    multiple of plan.n.

    Returns (n, f), not truncated. Exact mod 2^l for any t and x. 2 flights.
    """
    he: Engine = p.service("he")
    n, t, x = t.shape[0], _rows(t, plan.operand("t")), _rows(x, plan.operand("x"))
    ct_t, ct_x = await p.gather(a2h(p, t, layout=plan.operand("t")), a2h(p, x, layout=plan.operand("x")))
    products = None
    if ct_t is not None:
        products = p.local(_product, he, plan, weights, ct_t, ct_x)
    return (await h2a(p, products, plan=plan, count=t.shape[0])).reshape(n, plan.f)


def _rows(x: RingArray, layout: Layout) -> RingArray:
    """Tokens, (n, width), as the rows of an upload."""
    return x.reshape(x.shape[0] // layout.tokens, *layout.shape)


def selections(t: RingArray, layout: Layout) -> RingArray:
    """k selectors of each token, (n, k, E), as rows: for each row of x its tokens' first ones, their second ones, .."""
    n, k, E = t.shape
    rows = t.reshape(n // layout.tokens, layout.tokens, k, E).transpose(0, 2, 1, 3)
    return rows.reshape(n // layout.tokens * k, *layout.shape)


def _product(he: Engine, plan: SelectPlan, weights: Any, ct_t: list[Any], ct_x: list[Any]) -> list[Any]:
    return he.apply(plan, weights, he.tensor(plan, ct_t, ct_x))


def selected_cost(
    rows: int, *, up: SelectPlan, down: SelectPlan, activation: Approximation | str, arithmetic: Arithmetic
) -> Cost:
    """Closed form of `selected`."""
    a, ring = arithmetic, Ring(up.params.ring_bits)
    hidden = blank(Spec(ring, (rows, *down.operand("x").shape)))
    products = blank(Spec(ring, (up.stacked, *hidden.shape)))
    out = blank(Spec(ring, (rows, *down.outputs)))
    cost = computed(tensor(up, rows)) + h2a.declared(None, plan=up, count=rows)
    cost += hidden_cost(products, None, activation=activation, a=a) + a2h.declared(hidden, layout=down.operand("x"))
    cost += computed(tensor(down, rows)) + h2a.declared(None, plan=down, count=rows)
    return cost + truncate_bounded.declared(out, f=a.s, mode=a.mode, w=a.w)


def _expert_cost(t: RingArray, x: RingArray, weights: object, *, up: SelectPlan, **public: Any) -> Cost:
    flat_t, x = selections(t, up.operand("t")), _rows(x, up.operand("x"))
    uploads = a2h.declared(flat_t, layout=up.operand("t")) | a2h.declared(x, layout=up.operand("x"))
    return uploads + selected_cost(flat_t.shape[0], up=up, **public)


@protocol(realises=F.SELECTED_EXPERT, cites="[SecMoE] Protocol 1", cost=_expert_cost)
async def select_then_compute(
    p: Party,
    t: RingArray,
    x: RingArray,
    weights: ExpertWeights | None,
    *,
    up: SelectPlan,
    down: SelectPlan,
    activation: Approximation | str,
    arithmetic: Arithmetic,
) -> RingArray:
    """One expert per selection, chosen by shared one-hot rows: W2(act(W1 x) * (V x)) where `up` is stacked, else
    W2(act(W1 x)).

    t: shared (n, k, E) over Z_{2^l}; x: shared (n, d) at s fractional bits; weights: the server's, s bits. activation:
    a Table (Protocol 2) or "relu"; n: a multiple of up.n = down.n. Returns (n, k, d). Faithful mode: bit for bit
    F.SELECTED_EXPERT, for products below 2^(l-2) in size. [[x]] goes up once, and W1 and V are answered together;
    [[t]] goes up once for all three: the plans place it alike.
    """
    flat_t, x = selections(t, up.operand("t")), _rows(x, up.operand("x"))
    if weights is not None:
        p.local(_admit, p.service("he"), weights, flat_t.shape[0])
    ct_t, ct_x = await p.gather(a2h(p, flat_t, layout=up.operand("t")), a2h(p, x, layout=up.operand("x")))
    return await selected(
        p, ct_t, ct_x, weights, t.shape, up=up, down=down, activation=activation, arithmetic=arithmetic
    )


async def selected(
    p: Party,
    ct_t: list[Any] | None,
    ct_x: list[Any] | None,
    weights: ExpertWeights | None,
    shape: Shape,
    *,
    up: SelectPlan,
    down: SelectPlan,
    activation: Approximation | str,
    arithmetic: Arithmetic,
) -> RingArray:
    """The selected experts' outputs from both operands; shape: (n, k, E) of the one-hot rows."""
    he: Engine = p.service("he")
    n, k, _ = shape
    rows, ct_h = n // up.n * k, None
    if ct_t is not None and ct_x is not None and weights is not None:
        z = p.local(he.tensor, up, ct_t, [ct_x[i // k] for i in range(rows)])
        ct_h = p.local(he.apply, up, weights.w1, z)
    products = each_matrix(await h2a(p, ct_h, plan=up, count=rows), up.stacked)
    g = await hidden_units(p, products, None, activation=activation, a=arithmetic)
    ct_g = await a2h(p, g, layout=down.operand("x"))
    ct_y = None
    if ct_t is not None and ct_g is not None and weights is not None:
        ct_y = p.local(_product, he, down, weights.w2, ct_t, ct_g)
    y = await h2a(p, ct_y, plan=down, count=rows)
    y = await truncate_bounded(p, y, f=arithmetic.s, mode=arithmetic.mode, w=arithmetic.w)
    y = y.reshape(rows // k, k, down.n, down.f)
    return y.transpose(0, 2, 1, 3).reshape(n, k, down.f)


def _admit(he: Engine, weights: ExpertWeights, rows: int) -> None:
    he.admit(weights.responses(rows))
