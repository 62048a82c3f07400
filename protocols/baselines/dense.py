"""The public parameters that rivals which evaluate every expert have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.he.packing import LinearPlan
from protocols.layer_plan import LayerPlan


@dataclass(frozen=True)
class DensePlan(LayerPlan):
    """The public parameters of a layer that evaluates every expert. packed: merge the outputs of its linear layers."""

    packed = True

    @cached_property
    def router(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.tokens, self.shape.d, self.shape.E, packed=self.packed)


def side_by_side(matrices: Any) -> Any:
    """[W_1 | ... | W_E]: (..., E, f, d) to (..., f, E d)."""
    *lead, E, f, d = matrices.shape
    at = len(lead)
    return matrices.transpose(*range(at), at + 1, at, at + 2).reshape(*lead, f, E * d)
