"""SecMoE with its inputs scattered in place of its weights selected: one plain product with [W_1 | ... | W_E].

Every token gets one slot per expert: x in the slot of the expert that it takes, 0 in all others. The server multiplies
the row of slots by all experts' matrices side by side, as any linear layer. That is the re-associated Protocol 1, whose
z = t x is the same row of slots; here it is made on shares, and no product of ciphertexts is left: no relinearisation,
no expansion, no keys for them, and parameters that need no room for one.

Which way sends less. Scattered under encryption (`moe_layer`) a row costs the upload of t and x, whatever E is.
Scattered on shares, by one correlated OT each way for each slot, which carries its whole row of words, it costs 2 d l
bits per expert (d bytes times 16 at l = 64) and the upload of E d words, of which a ciphertext holds N. So shares send
less while a token's slots leave room in a ciphertext for those of others; from E d of about N on the encrypted form
wins in bytes and grows no further. A bit times words (2 d l bits) is the cheaper of the two ways on shares; the other,
arithmetic selectors times words, takes d l (l + 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols import functionalities as F
from protocols.baselines.dense import DensePlan, side_by_side
from protocols.convert import mux_rows
from protocols.feed_forward import first_cost, first_products
from protocols.he.packing import LinearPlan
from protocols.hidden import hidden_cost, hidden_units
from protocols.layer_plan import LayerWeights
from protocols.linear import linear
from protocols.model.config import MoeWeights
from protocols.moe import mixture, mixture_cost
from protocols.truncate import truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class ScatterPlan(DensePlan):
    """The public parameters: all experts side by side as one matrix, a row of slots for each token and selection."""

    @property
    def scattered(self) -> int:
        """Rows of slots."""
        return self.tokens * self.shape.k

    @cached_property
    def expert_up(self) -> LinearPlan:
        return self._wide(self.shape.d, self.stacked * self.shape.f)

    @cached_property
    def expert_down(self) -> LinearPlan:
        return self._wide(self.shape.f, self.shape.d)

    def _wide(self, d: int, f: int) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.scattered, self.shape.E * d, f)

    @property
    def rows(self) -> int:
        """One response holds every token's outputs."""
        return 1

    @property
    def matrices(self) -> tuple[LinearPlan, ...]:
        return self.router, self.expert_up, self.expert_down

    def arranged(self, weights: MoeWeights) -> tuple[Any, Any, Any]:
        """All experts' matrices side by side."""
        w1, v, w2 = (None if w is None else side_by_side(w) for w in (weights.w1, weights.v, weights.w2))
        return w1, v, w2


def _slots_cost(plan: ScatterPlan, width: int) -> Cost:
    """Closed form of `_slots`."""
    bits = (plan.scattered, plan.shape.E)
    return mux_rows.declared(blank(Spec(Ring(1), bits)), blank(Spec(plan.ring, (*bits, width))))


def _scatter_cost(x: RingArray, residual: RingArray, weights: object, *, plan: ScatterPlan) -> Cost:
    shape, a, up, down = plan.shape, plan.arithmetic, plan.expert_up, plan.expert_down
    products = blank(Spec(plan.ring, (plan.stacked, plan.scattered, shape.f)))
    cost = _slots_cost(plan, shape.d) + first_cost(blank(Spec(plan.ring, (up.n, up.d))), up=up)
    cost += hidden_cost(products, None, activation=plan.activation, a=a) + _slots_cost(plan, shape.f)
    cost += linear.declared(blank(Spec(plan.ring, (down.n, down.d))), None, plan=down)
    y = blank(Spec(plan.ring, (plan.scattered, shape.d)))
    return mixture_cost(plan, cost + truncate_bounded.declared(y, f=a.s, mode=a.mode, w=a.w))


@protocol(realises=F.SPARSE_MOE, cites="[SecMoE] Protocol 1, the inputs scattered", cost=_scatter_cost)
async def scatter(
    p: Party, x: RingArray, residual: RingArray, weights: LayerWeights | None, *, plan: ScatterPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x). Neither party learns which experts they are.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    Returns (n, d): the same words as `moe_layer`, in bytes that grow with E.
    """
    return await mixture(p, x, residual, weights, plan=plan, experts=_experts)


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: LayerWeights | None, plan: ScatterPlan
) -> RingArray:
    """The selected experts' outputs, (n, k, d). hot: Boolean (n, k, E)."""
    (n, k, E), d, a = hot.shape, x.shape[1], plan.arithmetic
    bits, experts = hot.reshape(n * k, E), None if weights is None else weights.experts
    slots = await _slots(p, bits, x.reshape(n, 1, d).broadcast(n, k, d).reshape(n * k, d))
    products = await first_products(p, slots, experts, up=plan.expert_up, gated=plan.shape.gated)
    g = await hidden_units(p, products, None, activation=plan.activation, a=a)
    slots = await _slots(p, bits, g)
    y = await linear(p, slots, None if experts is None else experts.w2, plan=plan.expert_down)
    return await truncate_bounded(p, y.reshape(n, k, d), f=a.s, mode=a.mode, w=a.w)


async def _slots(p: Party, bits: RingArray, x: RingArray) -> RingArray:
    """Every row of x (rows, width) in the slot that its one-hot names: (rows, E width). bits: Boolean (rows, E)."""
    (rows, E), width = bits.shape, x.shape[1]
    slots = await mux_rows(p, bits, x.reshape(rows, 1, width).broadcast(rows, E, width))
    return slots.reshape(rows, E * width)
