"""Whether a layer fits its ring: checked when a model is loaded, with the interval analysis of the proofs."""

from __future__ import annotations

from proofs.limits.ranges import layer_reaches
from proofs.limits.row import bits
from protocols.model.architecture import Model
from secmoe.layer import LayerRun


class OutOfRange(ValueError):
    """An intermediate of a layer that may leave the range in which the protocols are right."""


def require_range(model: Model, run: LayerRun) -> None:
    """Raises OutOfRange, and NotBinary for weights that are no multiples of 2^-24, unless every intermediate of the
    layer stays in its range for every input of the model."""
    reaches = layer_reaches(model, run.layer, run.fixed_point, (run.table,))
    worst = min(reaches, key=lambda reach: reach.headroom)
    if not worst.inside:
        raise OutOfRange(
            f"--model {run.model}, layer {run.layer}: expected every value to fit, but the {worst.name} may reach "
            f"{bits(worst.largest)} and its limit in {run.ring} is {bits(worst.limit)}; scale the weights down, or "
            "take a parameter set of a wider ring"
        )
