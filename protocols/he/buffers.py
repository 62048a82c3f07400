"""Reused float64 buffers: a fresh page costs more than the arithmetic on it, and a ciphertext has about 256 of them."""

import math
from collections import deque

import numpy as np

from protocols.he.ntt import Floats

_KEPT_BYTES = 1 << 26  # for each size
_ALIGNMENT = 64
# No lock: deque operations are atomic, and `__del__` may run in the middle of any statement of its thread.
_free: dict[int, deque[Floats]] = {}


class _Loan:
    """Memory on loan to the arrays that have this object as their base; goes back when the last of them is gone."""

    __slots__ = ("__array_interface__", "_memory")

    def __init__(self, memory: Floats, size: int) -> None:
        self._memory = memory
        address = -(-memory.__array_interface__["data"][0] // _ALIGNMENT) * _ALIGNMENT
        where = {"data": (address, False), "shape": (size,), "typestr": memory.dtype.str}
        self.__array_interface__ = {**where, "version": 3}

    def __del__(self, free: dict[int, deque[Floats]] = _free, queue: type[deque[Floats]] = deque) -> None:
        # The names are bound here: at the end of the interpreter the module's may be gone before its arrays are.
        memory = self._memory
        free.setdefault(memory.size, queue(maxlen=1 + _KEPT_BYTES // memory.nbytes)).append(memory)


def _take(size: int) -> Floats:
    try:
        return _free[size].pop()
    except (KeyError, IndexError):
        return np.empty(size)


def empty(*shape: int) -> Floats:
    """An uninitialised array that starts on a cache line; its memory is reused once no array refers to it any more."""
    size = math.prod(shape)
    return np.asarray(_Loan(_take(size + _ALIGNMENT // 8), size)).reshape(shape)


def copied(x: Floats) -> Floats:
    """A copy in such a buffer."""
    out = empty(*x.shape)
    out[...] = x
    return out
