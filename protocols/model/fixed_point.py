"""Fixed-point words for the oracle: integers mod 2^l in numpy uint64, read as signed in [-2^(l-1), 2^(l-1)).

Independent of the ring that the protocols compute in, on purpose: the two are held against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.model.config import MoeWeights

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]


class RangeError(ValueError):
    """A real number that has no word in the ring."""


class FormatError(ValueError):
    """A ring and scale that leave no room for a product or the exponential."""


@dataclass(frozen=True)
class FixedPoint:
    """l ring bits and s fractional bits; one ulp is 2^-s. `guard` is F = min(s + 6, (l - 4) // 2), the scale of
    exponentials and reciprocals."""

    l: int = 64
    s: int = 18

    def __post_init__(self) -> None:
        if not (8 <= self.l <= 64 and 1 <= self.s <= (self.l - 4) // 2):
            raise FormatError(
                f"expected 8 <= l <= 64 and 1 <= s <= (l - 4) // 2, got l={self.l}, s={self.s}: lower s or raise l"
            )

    @property
    def guard(self) -> int:
        """F, the fractional bits of exponentials and reciprocals."""
        return min(self.s + 6, (self.l - 4) // 2)

    @property
    def mask(self) -> np.uint64:
        """2^l - 1."""
        return np.uint64((1 << self.l) - 1)

    def word(self, value: int) -> np.uint64:
        """A Python integer mod 2^l."""
        return np.uint64(value % (1 << self.l))

    def wrap(self, v: Words) -> Words:
        """Reduce mod 2^l."""
        return v & self.mask

    def signed(self, v: Words) -> NDArray[np.int64]:
        """The signed representatives."""
        shift = np.uint64(64 - self.l)
        return (np.ascontiguousarray(v) << shift).view(np.int64) >> np.int64(64 - self.l)

    def trunc(self, v: Words, bits: int) -> Words:
        """floor(signed(v) / 2^bits), mod 2^l."""
        return self.wrap((self.signed(v) >> np.int64(bits)).view(np.uint64))

    def at_least(self, a: Words, b: Words | np.uint64) -> NDArray[np.bool_]:
        """[signed(a - b) >= 0]: the order of the signed values whenever abs(a - b) < 2^(l-1)."""
        return self.signed(self.wrap(a - b)) >= 0


def rounded(x: ArrayLike, fp: FixedPoint) -> NDArray[np.int64]:
    """round(x * 2^s), ties to even. RangeError when a value is not finite or does not fit a word."""
    with np.errstate(over="ignore"):  # what overflows to infinity is refused below
        scaled = np.atleast_1d(np.multiply(x, 2.0**fp.s, dtype=np.float64))
    np.rint(scaled, out=scaled)
    limit = 2.0 ** (fp.l - 1)
    if not (scaled.min(initial=0.0) >= -limit and scaled.max(initial=0.0) < limit):  # false for NaN as well
        good = (scaled >= -limit) & (scaled < limit)
        worst = np.atleast_1d(np.asarray(x, dtype=np.float64))[~good].flat[0]
        raise RangeError(
            f"expected finite values in [-2^{fp.l - 1 - fp.s}, 2^{fp.l - 1 - fp.s}), got {worst}: "
            "scale the values or take a wider ring"
        )
    return scaled.astype(np.int64).reshape(np.shape(x))


def quantise(x: ArrayLike, fp: FixedPoint) -> Words:
    """The words mod 2^l of `rounded` values."""
    return fp.wrap(rounded(x, fp).view(np.uint64))


def dequantise(v: Words, fp: FixedPoint) -> Floats:
    """signed(v) * 2^-s; rounded to 53 bits where a word has more."""
    return np.asarray(fp.signed(v).astype(np.float64) * 2.0**-fp.s)


def quantise_weights(weights: MoeWeights, fp: FixedPoint) -> MoeWeights:
    """All matrices of a layer as words, one expert at a time; RangeError as quantise."""
    return MoeWeights(
        router=quantise(weights.router, fp),
        w1=_each(weights.w1, fp),
        v=None if weights.v is None else _each(weights.v, fp),
        w2=_each(weights.w2, fp),
    )


def _each(matrices: NDArray[np.floating[Any]], fp: FixedPoint) -> Words:
    words = np.empty(matrices.shape, dtype=np.uint64)
    for word, matrix in zip(words, matrices, strict=True):
        word[...] = quantise(matrix, fp)
    return words
