"""Ranges of a sparse layer of a checkpoint: float32 weights behind a root-mean-square norm with a gain.

x = g z with |z|^2 <= d for every hidden state, so |W x| <= |W diag(g)| sqrt(d) for each row: the bounds for declared
row norms apply, with the rows that the gain is multiplied into. Rounding W and x to words adds to a product at most
what a row longer by max|g| sqrt(d) ulp adds.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from proofs.limits.normed import ONE_MORE
from proofs.limits.ranges import Reach, declared_reaches
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint
from protocols.model.tables import Approximation

ABOVE = Fraction((1 << 20) + 1, 1 << 20)  # covers the float64 arithmetic of norms


def longest_row(weights: MoeWeights, gain: NDArray[np.float64]) -> Fraction:
    """A bound on the Euclidean norm of every row: of the matrices that read x, with the gain [d] and without; of W2."""
    longest = 0.0
    readers = [weights.router[None], weights.w1] + ([] if weights.v is None else [weights.v])
    for stack in readers:
        for matrix in stack:
            exact = matrix.astype(np.float64)
            longest = max(longest, _norm(exact), _norm(exact * gain))
    return Fraction(max([longest, *(_norm(matrix.astype(np.float64)) for matrix in weights.w2)])) * ABOVE


def _norm(matrix: NDArray[np.float64]) -> float:
    return float(np.sqrt((matrix**2).sum(axis=1)).max())


def checkpoint_reaches(
    weights: MoeWeights,
    gain: NDArray[np.float64],
    shape: MoeConfig,
    fp: FixedPoint,
    table: Approximation | None,
    state_bits: int,
) -> list[Reach]:
    """Every intermediate of the layer, for all hidden states below 2^state_bits in absolute value. table: of the
    activation; None for ReLU."""
    s, half = fp.s, 1 << (fp.l - 1)
    largest = Fraction(float(np.abs(gain).max())) * (isqrt(shape.d) + 1)  # of x
    found = declared_reaches(shape, fp, table, longest_row(weights, gain) + largest / (1 << s))
    (mixed,) = (reach for reach in found if reach.name == "probability times expert")
    total = (1 << state_bits + s) + (mixed.largest >> s) + ONE_MORE
    hidden = int(largest * (1 << s)) + ONE_MORE
    return [*found, Reach("hidden state", hidden, half), Reach("residual plus output", total, half)]
