"""Whether the products of a run fit their ring: checked when a model is loaded, with the interval analysis of the
proofs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proofs.limits.attending import attention_reaches
from proofs.limits.checkpoints import checkpoint_reaches
from proofs.limits.ranges import Reach, layer_reaches
from proofs.limits.row import bits
from protocols.model.architecture import Model
from protocols.model.checkpoint.checkpoint import STATE_REACH
from protocols.model.config import MoeWeights
from protocols.model.folded import fold
from secmoe.layer import LayerRun
from secmoe.whole import ModelRun


class OutOfRange(ValueError):
    """An intermediate of a layer that may leave the range in which the protocols are right."""


def require_range(model: Model, run: LayerRun | ModelRun) -> None:
    """Raises OutOfRange, and NotBinary for weights that are no multiples of 2^-24, unless every intermediate of the
    layer stays in its range for every input of the model. Of a whole model, that is asked of every sparse layer, with
    norms and attention in the clear, and of attention behind the protocol's own norms; its residual stream is not
    covered. Raises what `fold` raises.
    """
    layers = range(run.layers) if isinstance(run, ModelRun) else [run.layer]
    fp, tables = run.fixed_point, (run.table,)
    found = [(reach, i) for i in layers for reach in layer_reaches(model, i, fp, tables)]
    if isinstance(run, ModelRun):
        blocks = fold(model, fp).blocks
        found += [(reach, i) for i in layers for reach in attention_reaches(blocks[i], run.heads, fp)]
    worst, layer = min(found, key=lambda at: at[0].headroom)
    _require(worst, f"--model {run.model}, layer {layer}", run)


def require_checkpoint_range(weights: MoeWeights, gain: NDArray[np.float64], run: LayerRun) -> None:
    """Raises OutOfRange unless every intermediate of a checkpoint's layer stays in its range for all hidden states that
    it is given. gain [d]: of the norm in front of it."""
    _require(tightest(weights, gain, run), f"{run.model}, layer {run.layer}", run)


def tightest(weights: MoeWeights, gain: NDArray[np.float64], run: LayerRun) -> Reach:
    """The intermediate of a checkpoint's layer with the least room."""
    reaches = checkpoint_reaches(weights, gain, run.shape, run.fixed_point, run.table, STATE_REACH)
    return min(reaches, key=lambda reach: reach.headroom)


def _require(worst: Reach, subject: str, run: LayerRun | ModelRun) -> None:
    if not worst.inside:
        raise OutOfRange(
            f"{subject}: expected every value to fit, but the {worst.name} may reach "
            f"{bits(worst.largest)} and its limit in {run.ring} is {bits(worst.limit)}; scale the weights down, or "
            "take a parameter set of a wider ring"
        )
