"""The public parameters that rivals which evaluate every expert have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from protocols.he.packing import LinearPlan
from protocols.layer_plan import LayerPlan


@dataclass(frozen=True)
class DensePlan(LayerPlan):
    """The public parameters of a layer that evaluates every expert. packed: merge the outputs of its linear layers."""

    packed = True

    @cached_property
    def router(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.tokens, self.shape.d, self.shape.E, packed=self.packed)
