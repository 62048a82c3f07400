"""Reused float64 buffers: a fresh page costs more than the arithmetic on it, and a ciphertext has about 256 of them."""

import math
import weakref
from collections import deque

import numpy as np

from protocols.he.ntt import Floats

_KEPT_BYTES = 1 << 26  # for each size
_ALIGNMENT = 64
# No lock: deque operations are atomic, and a finaliser may run in the middle of any statement of its thread.
_free: dict[int, deque[bytearray]] = {}


def _release(memory: bytearray) -> None:
    size = len(memory)
    _free.setdefault(size, deque(maxlen=1 + _KEPT_BYTES // size)).append(memory)


def _take(nbytes: int) -> bytearray:
    try:
        return _free[nbytes].pop()
    except (KeyError, IndexError):
        return bytearray(nbytes)


def empty(*shape: int) -> Floats:
    """An uninitialised array that starts on a cache line; its memory is reused once no array refers to it any more."""
    size = math.prod(shape)
    memory = _take(8 * size + _ALIGNMENT)
    raw = np.frombuffer(memory, dtype=np.uint8)
    weakref.finalize(raw, _release, memory).atexit = False
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start: start + 8 * size].view(np.float64).reshape(shape)


def copied(x: Floats) -> Floats:
    """A copy in such a buffer."""
    out = empty(*x.shape)
    out[...] = x
    return out
