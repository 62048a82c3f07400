"""What an engine takes as the server's weights, and matrices above each other, which one response answers. [SecMoE]"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from sim.ring import RingArray, concat


class Matrices(Protocol):
    """Signed integers [experts, f, d]: an array, or one that reads what is asked for from disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def ndim(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any:
        """For (experts, rows), both slices: an array."""

    def __iter__(self) -> Iterator[Any]:
        """Expert by expert."""


class Above:
    """Some matrices above others, [experts, f + g, d]: rows are read as they are asked for."""

    ndim = 3

    def __init__(self, upper: Matrices, lower: Matrices) -> None:
        self._upper, self._lower = upper, lower
        self.dtype = np.result_type(upper.dtype, lower.dtype)
        self.shape = (upper.shape[0], upper.shape[1] + lower.shape[1], upper.shape[2])

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        """Rows key[1] of the experts key[0]."""
        experts, edge = key[0], self._upper.shape[1]
        low, high, _ = key[1].indices(self.shape[1])
        if high <= edge:
            return self._upper[experts, low:high]
        if low >= edge:
            return self._lower[experts, low - edge : high - edge]
        return np.concatenate((self._upper[experts, low:edge], self._lower[experts, : high - edge]), axis=1)

    def __iter__(self) -> Iterator[Any]:
        """Expert by expert."""
        return (self[i : i + 1, :][0] for i in range(self.shape[0]))


def above(upper: Any, lower: Any) -> Any:
    """Matrices (.., f, d) above others, whatever holds them: one answer serves both. lower: None where there are none.
    """
    if lower is None:
        return upper
    if isinstance(upper, RingArray):
        return concat(upper, lower, axis=upper.ndim - 2)
    return np.concatenate((upper, lower), axis=-2) if isinstance(upper, np.ndarray) else Above(upper, lower)
