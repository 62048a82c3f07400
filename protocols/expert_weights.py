"""The server's matrices of one expert, or of all of them as one, prepared by its engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protocols.he.interface import Addend, Plan
from protocols.he.matrices import above

Prepare = Callable[[Plan | Addend, Any], Any]


@dataclass(frozen=True)
class ExpertWeights:
    """w1 for plan `up`, W1 above V where gated; w2 for `down`."""

    w1: Any
    w2: Any

    @classmethod
    def prepare(cls, prepare: Prepare, up: Plan, down: Plan, w1: Any, v: Any, w2: Any) -> ExpertWeights:
        """Of w1, v (.., f, d), v None when not gated, and w2 (.., d, f): signed integers, encoded by the engine's own
        `prepare(plan, integers)`. Raises the engine's error on weights beyond its noise bound."""
        return cls(prepare(up, above(w1, v)), prepare(down, w2))

    def responses(self, rows: int) -> list[tuple[Any, int]]:
        """What an engine answers for so many selections: (prepared weights, rows)."""
        return [(self.w1, rows), (self.w2, rows)]
