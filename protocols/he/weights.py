"""The server's weights, checked against the noise that they cause before anything is answered from them."""

from dataclasses import dataclass, field

import numpy as np

from protocols.he.client import ShapeMismatch
from protocols.he.matrices import Matrices
from protocols.he.noise import NoiseReport, check_weights
from protocols.he.packing import LinearPlan, Plan


@dataclass(frozen=True)
class Weights:
    """The server's checked weight matrices [experts, f, d] and the noise they cause."""

    plan: Plan
    values: Matrices = field(repr=False)
    report: NoiseReport

    @property
    def epsilon(self) -> float:
        """Statistical distance of one answer (all outputs of the plan) from a noise-free one."""
        return self.report.epsilon


def prepare(plan: Plan, values: Matrices) -> Weights:
    """Check signed integer weights [experts, f, d] ([f, d] for a linear plan) against the noise bound. Raises
    WeightsOutOfBound.
    """
    if isinstance(plan, LinearPlan) and values.ndim == 2:
        values = np.asarray(values)[None]
    if values.shape != (plan.experts, plan.f, plan.columns) or not np.issubdtype(values.dtype, np.signedinteger):
        raise ShapeMismatch(f"weights: expected signed integers of shape {(plan.experts, plan.f, plan.columns)}, "
                            f"came {values.dtype} of shape {values.shape}")
    rows, largest = np.zeros(plan.f), 0
    for expert in values:
        real = expert.astype(np.float64)
        rows += np.einsum("ij,ij->i", real, real)
        largest = max(largest, int(expert.max()), -int(expert.min()))
    blocks = [float(rows[low: low + plan.n_out].sum()) for low in range(0, plan.f, plan.n_out)]
    return Weights(plan, values, check_weights(plan, max(blocks), largest))
