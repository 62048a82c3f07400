"""Whether the sparse layers of a run fit their ring: checked when a model is loaded, with the interval analysis of the
proofs."""

from __future__ import annotations

from proofs.limits.ranges import layer_reaches
from proofs.limits.row import bits
from protocols.model.architecture import Model
from secmoe.layer import LayerRun
from secmoe.whole import ModelRun


class OutOfRange(ValueError):
    """An intermediate of a layer that may leave the range in which the protocols are right."""


def require_range(model: Model, run: LayerRun | ModelRun) -> None:
    """Raises OutOfRange, and NotBinary for weights that are no multiples of 2^-24, unless every intermediate of the
    layer stays in its range for every input of the model. Of a whole model, that is asked of every layer, with norms
    and attention in the clear; the protocol's own norms and its residual stream are not covered.
    """
    layers = range(run.layers) if isinstance(run, ModelRun) else [run.layer]
    fp, tables = run.fixed_point, (run.table,)
    worst, layer = min(
        ((reach, i) for i in layers for reach in layer_reaches(model, i, fp, tables)), key=lambda at: at[0].headroom
    )
    if not worst.inside:
        raise OutOfRange(
            f"--model {run.model}, layer {layer}: expected every value to fit, but the {worst.name} may reach "
            f"{bits(worst.largest)} and its limit in {run.ring} is {bits(worst.limit)}; scale the weights down, or "
            "take a parameter set of a wider ring"
        )
