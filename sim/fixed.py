"""Fixed-point numbers: a real v is the ring element round(v 2^s) modulo 2^l; one ulp is 2^-s."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.concrete import from_words, to_signed
from sim.ring import Ring, RingArray


class FixedPointRange(ValueError):
    """A real number does not fit the ring at this scale."""


def encode(values: ArrayLike, ring: Ring, s: int) -> RingArray:
    """Round half to even to a multiple of 2^-s. Raises FixedPointRange at abs(v) >= 2^(l-1-s), and on NaN."""
    scaled = np.rint(np.asarray(values, dtype=np.float64) * float(1 << s))
    bound = float(1 << (ring.l - 1))
    if not np.all(np.abs(scaled) < bound):
        worst = float(np.max(np.abs(np.asarray(values, dtype=np.float64))))
        raise FixedPointRange(
            f"expected abs(v) < 2^{ring.l - 1 - s} for {s} fractional bits in {ring}, got {worst:g}; rescale the values"
        )
    return from_words(ring, scaled.astype(np.int64))


def decode(x: RingArray, s: int) -> NDArray[np.float64]:
    """The real numbers of a concrete array at s fractional bits."""
    return to_signed(x).astype(np.float64) / float(1 << s)
