"""Reused float64 buffers: fresh pages cost more than the arithmetic on them (an NTT row is 64-128 KiB, a ciphertext
about 1 MiB).
"""

import math
import threading
import weakref

import numpy as np

from protocols.he.ntt import Floats

_POOL_LIMIT = 1 << 28  # bytes kept for reuse
_ALIGNMENT = 64
_lock = threading.Lock()
_free: dict[int, list[bytearray]] = {}
_kept = 0


def _release(memory: bytearray) -> None:
    global _kept
    with _lock:
        if _kept + len(memory) <= _POOL_LIMIT:
            _free.setdefault(len(memory), []).append(memory)
            _kept += len(memory)


def _take(nbytes: int) -> bytearray:
    global _kept
    with _lock:
        pile = _free.get(nbytes)
        if pile:
            _kept -= nbytes
            return pile.pop()
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
