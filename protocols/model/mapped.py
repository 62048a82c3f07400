"""Experts' matrices that stay on disk: read from a memory-mapped safetensors file block by block, quantised on the way.

A layer of 256 experts at d = 768, f = 3072 has 1.2 * 10^9 weights, 10 GB as 64-bit words. The products need a few rows
of every expert at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from protocols.model.fixed_point import FixedPoint, rounded
from protocols.model.store import BadModelFile

FLOATS = ("F16", "F32", "F64")


class MappedExperts:
    """Signed integers [E, f, d] at s fractional bits of floats on disk, as `prepare` of an engine takes them.

    tensors: one slice of a safetensors file with all experts, [E, f, d], or one for each expert, [f, d].
    """

    dtype, ndim = np.dtype(np.int64), 3

    def __init__(self, tensors: Sequence[Any], fixed_point: FixedPoint) -> None:
        self._tensors, self._fixed_point = tuple(tensors), fixed_point
        self._together = len(tensors[0].get_shape()) == 3
        each = tuple(tensors[0].get_shape())
        self.shape: tuple[int, ...] = each if self._together else (len(tensors), *each)

    @classmethod
    def opened(cls, path: Path, keys: Sequence[str], fixed_point: FixedPoint) -> MappedExperts:
        """The tensors of a file, one of all experts or one for each. BadModelFile."""
        try:
            file: Any = safe_open(path, framework="numpy")
            tensors = [file.get_slice(key) for key in keys]
        except (SafetensorError, OSError) as error:
            raise BadModelFile(f"expected the tensors {', '.join(keys)} in {path}, got: {error}") from error
        shapes = {tuple(tensor.get_shape()) for tensor in tensors}
        wanted = 3 if len(keys) == 1 else 2
        if len(shapes) != 1 or len(next(iter(shapes))) != wanted:
            raise BadModelFile(f"expected one tensor (E, f, d), or equal ones (f, d), in {path}, got {sorted(shapes)}")
        other = [tensor.get_dtype() for tensor in tensors if tensor.get_dtype() not in FLOATS]
        if other:
            raise BadModelFile(f"expected weights of {', '.join(FLOATS)} in {path}, got {other[0]}")
        return cls(tensors, fixed_point)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.int64]:
        """Rows key[1] of the experts key[0]. RangeError for what is not finite or does not fit."""
        # The reader of the format refuses a slice that ends behind the last row.
        experts, rows = (slice(*part.indices(size)[:2]) for part, size in zip(key, self.shape, strict=False))
        if self._together:
            return self._words(self._tensors[0][experts, rows, :])
        return self._words([tensor[rows, :] for tensor in self._tensors[experts]])

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Expert by expert, [f, d]."""
        return (self[i : i + 1, :][0] for i in range(self.shape[0]))

    def _words(self, floats: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.int64]:
        """Expert by expert, so that the steps between float and word stay in the cache."""
        words = np.empty((len(floats), *floats[0].shape), np.int64)
        for word, matrix in zip(words, floats, strict=True):
            word[...] = rounded(matrix, self._fixed_point)
        return words
