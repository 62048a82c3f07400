"""Plaintext routing: the route is computed on shares, then opened, and the server evaluates the one expert it names.

The cheapest way to run a sparse layer, and the leak that SecMoE closes: both parties learn which expert every token
takes. It is judged LEAK (DECLARED), never green. The states and the output stay shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

from protocols import functionalities as F
from protocols.expert_weights import Prepare
from protocols.he.interface import Engine, a2h, h2a
from protocols.he.matrices import above
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.work import apart
from protocols.hidden import each_matrix, hidden_cost, hidden_units
from protocols.layer_plan import LayerPlan
from protocols.model.config import MoeWeights
from protocols.moe import mixture, mixture_cost
from protocols.sharing import reveal
from protocols.truncate import truncate_bounded
from sim.cost import Cost, computed
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank

THE_ROUTE = "the route: which experts every token takes"
ROUTED_IN_CLEAR = Functionality(
    "sparse Mixture-of-Experts layer, the route in clear",
    F.SPARSE_MOE.compute,
    leaks_client=(THE_ROUTE,),
    leaks_server=(THE_ROUTE,),
    leaks_route=True,
)


@dataclass(frozen=True)
class RoutedPlan(LayerPlan):
    """The public parameters of a layer whose experts are plain linear layers of one token each."""

    @cached_property
    def router(self) -> LinearPlan:
        return LinearPlan.balanced(self.params, self.tokens, self.shape.d, self.shape.E)

    @cached_property
    def expert_up(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, 1, self.shape.d, self.stacked * self.shape.f)

    @cached_property
    def expert_down(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, 1, self.shape.f, self.shape.d)

    @property
    def matrices(self) -> tuple[LinearPlan | SelectPlan, ...]:
        return self.router, self.expert_up, self.expert_down

    @property
    def rows(self) -> int:
        """Every selected expert answers one token at a time."""
        return self.tokens * self.shape.k


@dataclass(frozen=True)
class Matrices:
    """One matrix of every expert, each prepared by the server's engine."""

    experts: tuple[Any, ...]

    @classmethod
    def prepare(cls, prepare: Prepare, plan: LinearPlan, weights: Any) -> Matrices:
        """weights: (..., E, f, d) signed integers."""
        return cls(tuple(prepare(plan, weights[..., e, :, :]) for e in range(weights.shape[-3])))

    @property
    def worst(self) -> Any:
        """A matrix whose response costs the most; any one where an engine has no such cost."""
        return max(self.experts, key=lambda w: getattr(w, "epsilon", 0.0))


class ExpertPlans(Protocol):
    """Plans of the router's product and of an expert's."""

    @property
    def router(self) -> LinearPlan: ...

    @property
    def expert_up(self) -> LinearPlan: ...

    @property
    def expert_down(self) -> LinearPlan: ...


@dataclass(frozen=True)
class ExpertMatrices:
    """The server's side: router, and the experts' w1, W1 above V where gated, and w2."""

    router: Any
    w1: Matrices
    w2: Matrices

    @classmethod
    def prepare(cls, prepare: Prepare, plan: ExpertPlans, weights: MoeWeights) -> Self:
        """Encode integer weights (signed, at s fractional bits) with the engine's own `prepare(plan, integers)`.

        Raises the engine's error when the noise bound of a parameter set does not admit the weights.
        """
        w1 = Matrices.prepare(prepare, plan.expert_up, above(weights.w1, weights.v))
        w2 = Matrices.prepare(prepare, plan.expert_down, weights.w2)
        return cls(prepare(plan.router, weights.router), w1, w2)

    @property
    def matrices(self) -> list[Matrices]:
        """Those of the experts."""
        return [self.w1, self.w2]


class RoutedWeights(ExpertMatrices):
    """What an opened route chooses from."""

    def responses(self, plan: RoutedPlan) -> list[tuple[Any, int]]:
        """What an engine answers at most in one query: (prepared weights, rows)."""
        return [(self.router, 1), *((m.worst, plan.rows) for m in self.matrices), *plan.combining]


def _routed_cost(x: RingArray, residual: RingArray, weights: object, *, plan: RoutedPlan) -> Cost:
    shape, a, n, ring = plan.shape, plan.arithmetic, plan.tokens, plan.ring
    rows = n * shape.k
    hidden = blank(Spec(ring, (rows, 1, shape.f)))
    wide = blank(Spec(ring, (n, shape.k, shape.d)))
    up, down = plan.expert_up, plan.expert_down

    products = blank(Spec(ring, (plan.stacked, *hidden.shape)))
    expert = reveal.declared(blank(Spec(Ring(1), (n, shape.k, shape.E))))
    expert += a2h.declared(x.reshape(n, 1, shape.d), layout=up.operand("x"))
    expert += h2a.declared(None, plan=up, count=rows) + computed(apart(up, rows) + apart(down, rows))
    expert += hidden_cost(products, None, activation=plan.activation, a=a)
    expert += a2h.declared(hidden, layout=down.operand("x")) + h2a.declared(None, plan=down, count=rows)
    expert += truncate_bounded.declared(wide, f=a.s, mode=a.mode, w=a.w)
    return mixture_cost(plan, expert)


@protocol(realises=ROUTED_IN_CLEAR, cost=_routed_cost)
async def plaintext_routing(
    p: Party, x: RingArray, residual: RingArray, weights: RoutedWeights | None, *, plan: RoutedPlan
) -> RingArray:
    """residual + sum over the k selected experts of p_j expert_j(x). LEAKS to both parties which experts they are.

    x, residual: shared (n, d) at s fractional bits over Z_{2^l}. weights: the server's, prepared (None at the client).
    Returns (n, d): the same words as `moe_layer`.
    """
    return await mixture(p, x, residual, weights, plan=plan, experts=_experts)


async def _experts(
    p: Party, hot: RingArray, x: RingArray, weights: RoutedWeights | None, plan: RoutedPlan
) -> RingArray:
    """The experts' outputs, (n, k, d)."""
    he: Engine = p.service("he")
    a, (n, k, E) = plan.arithmetic, hot.shape
    rows, up, down = n * k, plan.expert_up, plan.expert_down
    route = (await reveal(p, hot)).reshape(rows, E)
    ct_x = await a2h(p, x.reshape(n, 1, x.shape[1]), layout=up.operand("x"))
    ct_h = None
    if ct_x is not None and weights is not None:
        ct_h = p.local(_products, he, up, weights.w1, route, [ct_x[i // k] for i in range(rows)])
    products = each_matrix(await h2a(p, ct_h, plan=up, count=rows), plan.stacked)
    g = await hidden_units(p, products, None, activation=plan.activation, a=a)
    ct_g = await a2h(p, g, layout=down.operand("x"))
    ct_y = None
    if ct_g is not None and weights is not None:
        ct_y = p.local(_products, he, down, weights.w2, route, ct_g)
    y = await h2a(p, ct_y, plan=down, count=rows)
    return await truncate_bounded(p, y.reshape(n, k, -1), f=a.s, mode=a.mode, w=a.w)


def _products(he: Engine, plan: LinearPlan, matrices: Matrices, route: RingArray, operands: Sequence[Any]) -> list[Any]:
    """Every operand times the matrix that its route names."""
    chosen = he.choose(matrices.experts, route)
    return [he.apply(plan, w, he.linear(plan, [ct]))[0] for w, ct in zip(chosen, operands, strict=True)]
