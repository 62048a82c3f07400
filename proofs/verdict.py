"""What a proof attempt says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["PROVED", "REFUTED", "UNKNOWN"]


@dataclass(frozen=True)
class Verdict:
    """kind: what was to be shown; method: by which rungs; detail: a counterexample, or why it is unknown;
    assumptions: contracts and preconditions that it rests on."""

    status: Status
    kind: str
    method: str
    detail: str
    seconds: float
    assumptions: tuple[str, ...] = ()
