"""The Iron-like kit: evaluate-all with output blocks that are not merged, and activations by look-up. [Iron, SIRNN]

The texts are those of the packed rivals: a plan decides the form of the linear layers, its activation the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.baselines.concatenated import ConcatenatedPlan
from protocols.baselines.evaluate_all import EvaluateAllPlan


@dataclass(frozen=True)
class IronPlan(EvaluateAllPlan):
    """Expert by expert, one response for each block of outputs: no Galois key."""

    packed = False


@dataclass(frozen=True)
class IronConcatenatedPlan(ConcatenatedPlan):
    """All experts as one unit, one response for each block of outputs: no Galois key."""

    packed = False
