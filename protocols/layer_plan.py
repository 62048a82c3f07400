"""The public parameters of a private sparse layer: shapes, evaluation order, the plans of its homomorphic messages; and
the server's weights, prepared for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from protocols.compare import DIGIT
from protocols.crossing import CrossingPlan
from protocols.expert_weights import ExpertWeights, Prepare
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import ParamSet
from protocols.he.reading import ReadPlan
from protocols.he.selection import selection
from protocols.hidden import Arithmetic
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import Approximation
from sim.ring import Ring

REASSOCIATED = "reassociated"
LITERAL = "literal"
ORDERS: dict[str, Literal["R", "L"]] = {REASSOCIATED: "R", LITERAL: "L"}


class UnknownOrder(ValueError):
    """An evaluation order that is not built."""


@dataclass(frozen=True)
class LayerPlan:
    """All public parameters of one private layer: shapes, parameter set, order, activation, arithmetic."""

    shape: MoeConfig
    tokens: int
    params: ParamSet
    activation: Approximation | str
    order: str = REASSOCIATED
    mode: str = "faithful"
    w: int = DIGIT
    form: str = "cheapest"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UnknownOrder(f"evaluation order: expected one of {', '.join(ORDERS)}, got {self.order!r}")

    @property
    def ring(self) -> Ring:
        return Ring(self.params.ring_bits)

    @property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self.params.frac_bits, self.mode, self.w, self.form)

    @cached_property
    def router(self) -> LinearPlan:
        """It reads the upload of x that the selection makes, where its responses are shorter than an upload of its own
        with theirs: as public as the shapes. Interleaved vectors of compact uploads have one of its own."""
        alone = LinearPlan.balanced(self.params, self.tokens, self.shape.d, self.shape.E)
        if self.up.shared > 1:
            return alone
        return min(ReadPlan.of(self.up, self.shape.E), alone, key=lambda plan: plan.nbytes)

    @property
    def reads(self) -> bool:
        """Whether the router has no upload of its own."""
        return isinstance(self.router, ReadPlan)

    @cached_property
    def up(self) -> SelectPlan:
        return self._select(self.shape.d, self.shape.f, self.stacked)

    @cached_property
    def down(self) -> SelectPlan:
        return self._select(self.shape.f, self.shape.d)

    def _select(self, d: int, f: int, stacked: int = 1) -> SelectPlan:
        """Both directions scale and place the selectors alike, so that one upload of them serves all three matrices."""
        return selection(self.params, ORDERS[self.order], self.shape.E, d, f, self.tokens, self.compact, stacked)

    @property
    def stacked(self) -> int:
        """First matrices of an expert, answered together: W1, and V where gated."""
        return 2 if self.shape.gated else 1

    @property
    def compact(self) -> bool:
        """Whether only the coefficients that carry selectors go up."""
        return False

    @property
    def rows(self) -> int:
        """Rows of one query's selections: k for each group of tokens that one plan holds."""
        return self.tokens // self.up.n * self.shape.k

    @cached_property
    def combination(self) -> CrossingPlan:
        """Every token's k probabilities times its experts' outputs."""
        return CrossingPlan(self.params, self.tokens, 1, self.shape.k, self.shape.d)

    @cached_property
    def combining(self) -> tuple[tuple[LinearPlan, int], ...]:
        """The combination's responses: plan and rows; none where it is cheaper by correlated OT."""
        return tuple(self.combination.answers) if self.combination.pays else ()

    @property
    def answers(self) -> tuple[tuple[LinearPlan | SelectPlan, int], ...]:
        """The homomorphic responses of one query, message by message: plan and rows."""
        router, up, down = self.matrices
        return (router, 1), (up, self.rows), (down, self.rows), *self.combining

    @property
    def matrices(self) -> tuple[LinearPlan | SelectPlan, ...]:
        """The plans of the server's matrices: router, first and second of an expert."""
        return self.router, self.up, self.down

    def arranged(self, weights: MoeWeights) -> tuple[Any, Any, Any]:
        """The experts' w1, v (None when not gated) and w2 as the plans of `matrices` take them."""
        return weights.w1, weights.v, weights.w2

    @property
    def plans(self) -> tuple[LinearPlan | SelectPlan, ...]:
        """Of all responses."""
        return *self.matrices, *(plan for plan, _ in self.combining)


@dataclass(frozen=True)
class CompactPlan(LayerPlan):
    """The same layer with compact uploads of the selectors: fewer bytes for more key switches, and for an expansion key
    for every power of two below N."""

    @property
    def compact(self) -> bool:
        return True


@dataclass(frozen=True)
class LayerWeights:
    """The server's side: router and experts, prepared by its engine."""

    router: Any
    experts: ExpertWeights

    @classmethod
    def prepare(cls, prepare: Prepare, plan: LayerPlan, weights: MoeWeights) -> LayerWeights:
        """Encode integer weights (signed, at s fractional bits) with the engine's own `prepare(plan, integers)`.

        Raises the engine's error when the noise bound of a parameter set does not admit the weights.
        """
        router, up, down = plan.matrices
        experts = ExpertWeights.prepare(prepare, up, down, *plan.arranged(weights))
        return cls(prepare(router, weights.router), experts)

    def responses(self, plan: LayerPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        prepared = self.router, self.experts.w1, self.experts.w2
        return [*((w, rows) for w, (_, rows) in zip(prepared, plan.answers, strict=False)), *plan.combining]
