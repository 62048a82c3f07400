"""Upper bounds on the spectral norm of integer symmetric matrices, by repeated squaring in integers.

|S|^2 = |S^2| for a symmetric S; before each squaring the entries are shortened, which moves the norm by less than the
size of the matrix in units of the last place kept; the Frobenius norm ends the chain. After r squarings the bound
exceeds the norm by a factor of at most k^(1 / 2^(r+1)) and the shortening.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SQUARINGS = 5
ENTRY_BITS = 26  # products of k <= 512 such entries stay below 2^62
LARGEST = 512


def spectral_norms(matrices: Ints) -> list[int]:
    """Upper bounds on the spectral norms of a stack of symmetric matrices [m, k, k], k <= LARGEST."""
    size = matrices.shape[-1]
    if size > LARGEST or not (matrices == matrices.transpose(0, 2, 1)).all():
        raise ValueError(f"spectral norm: expected symmetric matrices of size up to {LARGEST}, came size {size}")
    shifts, current = [], matrices
    for _ in range(SQUARINGS):
        shift = _excess(current)
        short = current >> shift[:, None, None]
        shifts.append(shift)
        current = short @ short
    shift = _excess(current)
    shifts.append(shift)
    last = current >> shift[:, None, None]
    found = [isqrt(int(total)) + 1 for total in (last * last).sum((1, 2))]
    for r in reversed(range(SQUARINGS + 1)):
        found = [(value + size) << int(k) for value, k in zip(found, shifts[r], strict=True)]
        if r:
            found = [isqrt(value) + 1 for value in found]
    return found


def _excess(matrices: Ints) -> Ints:
    """Bits by which the largest entry of each matrix exceeds ENTRY_BITS."""
    exponents: Ints = np.frexp(np.abs(matrices).max((1, 2)).astype(np.float64))[1].astype(np.int64)
    return np.asarray(np.maximum(exponents - ENTRY_BITS, 0))
