"""SecMoE with its inputs scattered in place of its weights selected: one plain product with [W_1 | ... | W_E].

Every token gets one slot per expert: x in the slot of the expert that it takes, 0 in all others. The server multiplies
the row of slots by all experts' matrices side by side, as any linear layer. That is the re-associated Protocol 1, whose
z = t x is the same row of slots; here it is made on shares, and no product of ciphertexts is left: no relinearisation,
no expansion, no keys for them, and parameters that need no room for one.

Which way sends less. Scattered under encryption (`moe_layer`) a row costs the upload of t and x, whatever E is.
Scattered on shares, by one correlated OT each way for each slot, which carries its whole row of words, it costs 2 d l
bits per expert (d bytes times 16 at l = 64) and the upload of E d words, of which a ciphertext holds N. So shares send
less while a query's slots fill few ciphertexts: many tokens that share them, small E d; from E d above about N / 2 the
encrypted form wins in bytes and grows no further. A bit times words (2 d l bits) is the cheaper of the two ways on
shares; the other, arithmetic selectors times words, takes d l (l + 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.baselines.parts import floor_cost, floored, inner, inner_cost
from protocols.convert import mux_rows
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.packing import LinearPlan
from protocols.linear import linear
from protocols.model.config import MoeWeights
from protocols.moe import LayerPlan, Prepare
from protocols.products import mul
from protocols.routing import probabilities, top_k
from protocols.truncate import truncate
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, concat, stack
from sim.shapes import blank


@dataclass(frozen=True)
class ScatterPlan(LayerPlan):
    """The public parameters: experts side by side in as few groups as the ring degree allows, of equal size.

    What is left over in the last group is filled with its last expert, whose slots there stay empty.
    """

    @property
    def rows(self) -> int:
        """Rows of slots: one for each token and each expert that it takes."""
        return self.tokens * self.shape.k

    def group(self, width: int) -> int:
        """Experts whose slots of so many words lie side by side in one product."""
        most = max(1, self.params.n // width)
        groups = -(-self.shape.E // most)
        return -(-self.shape.E // groups)

    def groups(self, width: int) -> int:
        """Products, each with a response of its own."""
        return -(-self.shape.E // self.group(width))

    @cached_property
    def wide_up(self) -> LinearPlan:
        return self._wide(self.shape.d, self.shape.f)

    @cached_property
    def wide_down(self) -> LinearPlan:
        return self._wide(self.shape.f, self.shape.d)

    def _wide(self, d: int, f: int) -> LinearPlan:
        return LinearPlan.fewest_bytes(self.params, self.rows, self.group(d) * d, f)

    @property
    def answers(self) -> tuple[tuple[LinearPlan, int], ...]:
        """The homomorphic responses of one query, message by message: plan and rows."""
        up, down = self.groups(self.shape.d), self.groups(self.shape.f)
        return (self.router, 1), *((self.wide_up, up),) * (1 + self.shape.gated), (self.wide_down, down)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        return self.router, self.wide_up, self.wide_down


def _joined(matrices: Sequence[Any]) -> Any:
    """Side by side: arrays of integers, or the ring arrays of an ideal engine."""
    return concat(*matrices, axis=1) if isinstance(matrices[0], RingArray) else np.concatenate(matrices, axis=1)


@dataclass(frozen=True)
class ScatterWeights:
    """The server's side: router, and the groups of matrices side by side, w1, v (None when not gated) and w2."""

    router: Any
    w1: tuple[Any, ...]
    v: tuple[Any, ...] | None
    w2: tuple[Any, ...]

    @classmethod
    def prepare(cls, prepare: Prepare, plan: ScatterPlan, weights: MoeWeights) -> ScatterWeights:
        """Encode integer weights (signed, at s fractional bits) with the engine's own `prepare(plan, integers)`.

        Raises the engine's error when the noise bound of a parameter set does not admit the weights.
        """

        def side_by_side(at: LinearPlan, experts: Any) -> tuple[Any, ...]:
            E, _, d = experts.shape
            size = plan.group(d)
            chosen = [[experts[min(e, E - 1)] for e in range(low, low + size)] for low in range(0, E, size)]
            return tuple(prepare(at, _joined(some)) for some in chosen)

        v = None if weights.v is None else side_by_side(plan.wide_up, weights.v)
        w1, w2 = side_by_side(plan.wide_up, weights.w1), side_by_side(plan.wide_down, weights.w2)
        return cls(prepare(plan.router, weights.router), w1, v, w2)

    def responses(self, plan: ScatterPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        return [(self.router, 1), *((w, 1) for group in (self.w1, self.v or (), self.w2) for w in group)]


def _slots(plan: ScatterPlan, width: int) -> RingArray:
    return blank(Spec(plan.ring, (plan.rows, plan.shape.E, width)))


def _wide_cost(plan: ScatterPlan, at: LinearPlan, width: int, matrices: int) -> Cost:
    """Of `_products`: slots, their upload, and the answers of all groups."""
    groups, answer = plan.groups(width), h2a.declared(None, plan=at, count=plan.groups(width))
    bits = blank(Spec(Ring(1), (plan.rows, plan.shape.E)))
    rows = blank(Spec(plan.ring, (groups, plan.rows, plan.group(width) * width)))
    cost = mux_rows.declared(bits, _slots(plan, width)) + a2h.declared(rows, layout=at.operand("x"))
    return cost + (answer | answer if matrices == 2 else answer)


def _scatter_cost(x: RingArray, residual: RingArray, weights: object, *, plan: ScatterPlan) -> Cost:
    shape, a, n, l = plan.shape, plan.arithmetic, plan.tokens, plan.params.ring_bits
    logits, winners = blank(Spec(plan.ring, (n, shape.E))), blank(Spec(plan.ring, (n, shape.k)))
    wide = blank(Spec(plan.ring, (n, shape.k, shape.d)))
    expert = _wide_cost(plan, plan.wide_up, shape.d, 1 + shape.gated)
    expert += inner_cost(blank(Spec(plan.ring, (plan.rows, shape.f))), plan)
    expert += _wide_cost(plan, plan.wide_down, shape.f, 1) + floor_cost(wide, plan)
    probability = probabilities.declared(logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w)
    cost = linear.declared(x, None, plan=plan.router) + floor_cost(logits, plan)
    cost += top_k.declared(logits, k=shape.k, l=l, w=a.w) + (probability | expert)
    return cost + mul.declared(wide, wide) + truncate.declared(x, f=a.s, w=a.w)


@protocol(realises=F.SPARSE_MOE, cites="[SecMoE] Protocol 1, the inputs scattered", cost=_scatter_cost)
async def scatter(
    p: Party, x: RingArray, residual: RingArray, weights: ScatterWeights | None, *, plan: ScatterPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x). Neither party learns which experts they are.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    Returns (n, d): the same words as `moe_layer`, in bytes that grow with E.
    """
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    if weights is not None:
        p.local(_admit, p.service("he"), weights, plan)  # the whole query, before its first response
    products = await linear(p, x, None if weights is None else weights.router, plan=plan.router)
    logits = await floored(p, products, plan)
    winners, hot = await top_k(p, logits, k=shape.k, l=l, w=a.w)
    prob, y = await p.gather(
        probabilities(p, logits, winners, s=a.s, l=l, renormalise=shape.renormalise, mode=a.mode, w=a.w),
        p.scoped("experts", _experts, hot, x, weights, plan),
    )
    mixed = (await mul(p, prob.reshape(*prob.shape, 1).broadcast(*y.shape), y)).sum(1)
    return residual + await truncate(p, mixed, f=a.s, w=a.w)


def _admit(he: Engine, weights: ScatterWeights, plan: ScatterPlan) -> None:
    he.admit(weights.responses(plan))


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: ScatterWeights | None, plan: ScatterPlan
) -> RingArray:
    """The experts' outputs, (n, k, d)."""
    (n, k, E), d = hot.shape, x.shape[1]
    bits = hot.reshape(n * k, E)
    rows = x.reshape(n, 1, d).broadcast(n, k, d).reshape(n * k, d)
    ups: Sequence[Any] = (None,) * (1 + plan.shape.gated)
    if weights is not None:
        ups = [w for w in (weights.w1, weights.v) if w is not None]
    g = await inner(p, await p.scoped("up", _products, bits, rows, ups, plan.wide_up, plan), plan)
    downs = (None if weights is None else weights.w2,)
    y = await p.scoped("down", _products, bits, g, downs, plan.wide_down, plan)
    return await floored(p, y[0].reshape(n, k, d), plan)


async def _products(
    p: Party, bits: RingArray, x: RingArray, matrices: Sequence[Any], at: LinearPlan, plan: ScatterPlan
) -> RingArray:
    """Each of the matrices times the scattered rows of x, (rows, width): (matrices, rows, at.f)."""
    he: Engine = p.service("he")
    (rows, width), E, groups = x.shape, bits.shape[1], plan.groups(x.shape[1])
    slots = await mux_rows(p, bits, x.reshape(rows, 1, width).broadcast(rows, E, width))
    size = plan.group(width)
    if missing := groups * size - E:
        slots = concat(slots, slots.const(0, (rows, missing, width)), axis=1)
    operand = slots.reshape(rows, groups, size * width).transpose(1, 0, 2)
    ct_x = await a2h(p, operand, layout=at.operand("x"))
    answers: list[list[Any] | None] = [None for _ in matrices]
    if ct_x is not None:
        answers = [p.local(_apply, he, at, groups_of, ct_x) for groups_of in matrices]
    found = await p.gather(*(h2a(p, answer, plan=at, count=groups) for answer in answers))
    return stack(*(one.sum(0) for one in found))


def _apply(he: Engine, at: LinearPlan, weights: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
    """Every group's operand times that group's matrices."""
    return [he.apply(at, w, he.linear(at, [ct]))[0] for w, ct in zip(weights, operands, strict=True)]
