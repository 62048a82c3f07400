"""Words of the server's own as weights: its share of a matrix, cut into short digits so that the noise stays below the
flooding. [SecMoE]

A uniform word of l bits is far longer than any weight that a response modulus admits. Cut into signed digits, y =
sum_i 2^(w i) y_i, it is several columns of short weights, which meet x, 2^w x, 2^(2w) x, .. from one upload.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from protocols.he.bfv import Shares
from protocols.he.noise import NoiseReport, WeightsOutOfBound, check_weights
from protocols.he.packing import LinearPlan, ShapeDoesNotFit
from protocols.he.params import ParamSet
from protocols.he.weights import Weights

_MOST_DIGITS = 4


def own_norm(plan: LinearPlan) -> int:
    """The largest squared norm that an output block of any words has."""
    return min(plan.n_out, plan.f) * (plan.columns // plan.parts) << 2 * (plan.digit_bits - 1)


@cache
def own_report(plan: LinearPlan) -> NoiseReport:
    """The noise of any words: it depends on the plan alone. Raises WeightsOutOfBound."""
    return check_weights(plan, float(own_norm(plan)), 1 << (plan.digit_bits - 1))


@cache
def crossing_plan(params: ParamSet, n: int, d: int, f: int, parts: int = 1) -> LinearPlan:
    """The plan of x Y^T, `parts` of them side by side, for the client's x (n, d) and the server's words Y (f, d), with
    the fewest digits that the noise admits. Raises ShapeDoesNotFit."""
    for digits in range(1, _MOST_DIGITS + 1):
        try:
            plan = LinearPlan.fewest_bytes(params, n, parts * d, parts * f, digits, parts)
            own_report(plan)
        except WeightsOutOfBound:
            continue
        return plan
    raise ShapeDoesNotFit(f"{params.name}: no {_MOST_DIGITS} digits make words short enough for products of {d} "
                          "columns: split the columns over several products or take a larger parameter set")


def signed_digits(plan: LinearPlan, words: Shares) -> NDArray[np.int64]:
    """Words (..., d) mod 2^l as weights (..., digits d), each below 2^(digit_bits - 1) in size or equal to minus that.
    """
    left, width = plan.params.ring_bits, plan.digit_bits
    rest, found = words, []
    while left > 0:
        half, low = np.uint64(1 << (min(width, left) - 1)), np.uint64((1 << min(width, left)) - 1)
        digit = ((rest + half) & low).astype(np.int64) - np.int64(half)
        rest, left = (rest - digit.astype(np.uint64)) >> np.uint64(min(width, 63)), left - width
        found.append(digit)
    return np.concatenate(found, axis=-1)


def own_weights(plan: LinearPlan, words: Shares) -> Weights:
    """Words of the server's, (parts, f / parts, d / parts), as the weights of a plan with digits: one part after the
    other down the diagonal, digit by digit."""
    parts, f, d = words.shape
    digits = signed_digits(plan, words).reshape(parts, f, plan.digits, d)
    values = np.zeros((parts, f, plan.digits, parts, d), np.int64)
    values[np.arange(parts), :, :, np.arange(parts)] = digits
    return Weights(plan, values.reshape(1, plan.f, plan.columns), own_report(plan))
