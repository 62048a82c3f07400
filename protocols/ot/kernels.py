"""Bit-level numba kernels of the OT extension: bit matrices, XOR folds, tweaks and the one-time pads of 1-of-N OT.

Everything is little-endian: bit i of a stream is bit i mod 64 of 64-bit word i // 64. Kernels release the GIL and are
cached on disk; none of them allocates beyond a cache line or branches on a secret.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
Bits = NDArray[np.uint8]
F = TypeVar("F", bound=Callable[..., Any])

LANES = 8  # columns transposed side by side, so that the compiler can use 512-bit registers


def kernel(function: F) -> F:
    """Compile on the first call, release the GIL while running, cache the machine code where that is possible."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder to cache in is writable: compile in every process instead
        return cast(F, numba.njit(nogil=True)(function))


@kernel
def transpose_planes(planes: U64, out: U64) -> None:
    """Transpose a 128 x 64w bit matrix, (128, w) words, to (64w, 2) words; `LANES` blocks of 64 x 64 at a time."""
    w = planes.shape[1]
    a = np.empty((64, LANES), np.uint64)
    for half in range(2):
        for start in range(0, w, LANES):
            n = min(LANES, w - start)
            for i in range(64):
                for c in range(n):
                    a[i, c] = planes[64 * half + i, start + c]
            j = 32
            m = np.uint64(0x00000000FFFFFFFF)
            while j != 0:
                s = np.uint64(j)
                k = 0
                while k < 64:
                    for c in range(LANES):
                        t = ((a[k, c] >> s) ^ a[k + j, c]) & m
                        a[k, c] ^= t << s
                        a[k + j, c] ^= t
                    k = ((k | j) + 1) & ~j
                j >>= 1
                m ^= m << np.uint64(j)
            for c in range(n):
                for i in range(64):
                    out[64 * (start + c) + i, half] = a[i, c]


@kernel
def spread_counters(base: U64, first: int, out: U64) -> None:
    """out[x, j] = base[x] ^ (0, first + j) as 128-bit words: the inputs of many counter streams side by side."""
    for x in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[x, j, 0] = base[x, 0]
            out[x, j, 1] = base[x, 1] ^ np.uint64(first + j)


@kernel
def tweak_blocks(x: U64, first: int, block: int, out: U64) -> None:
    """out[i] = x[i] ^ (first + i, block) as 128-bit words."""
    high = np.uint64(block)
    for i in range(x.shape[0]):
        out[i, 0] = x[i, 0] ^ np.uint64(first + i)
        out[i, 1] = x[i, 1] ^ high


@kernel
def fold_leaves(rows: U64, planes: U64, total: U64) -> None:
    """XOR of all rows, and of the rows whose index has bit b, for every b: 2 XORs per row instead of log2.

    rows: (2^k, w) words, overwritten. planes: (k, w) out, plane b = XOR of rows x with bit b of x set. total: (w,) out.
    """
    half = rows.shape[0] >> 1
    planes[:] = np.uint64(0)
    for b in range(planes.shape[0]):
        for y in range(half):
            for j in range(rows.shape[1]):
                odd = rows[2 * y + 1, j]
                planes[b, j] ^= odd
                rows[y, j] = rows[2 * y, j] ^ odd
        half >>= 1
    total[:] = rows[0]


@kernel
def _field(stream: U64, offset: int, length: int) -> np.uint64:
    """Bits offset .. offset + length - 1 of a stream, length <= 64."""
    word, shift = offset >> 6, offset & 63
    value: np.uint64 = stream[word] >> np.uint64(shift)
    if shift + length > 64:
        value |= stream[word + 1] << np.uint64(64 - shift)
    if length < 64:
        value &= (np.uint64(1) << np.uint64(length)) - np.uint64(1)
    return value


@kernel
def stream_fields(streams: U64, which: Bits, offset: int, length: int, out: U64) -> None:
    """out[i] = the field at `offset` of streams[which[i], i]; streams: (variants, n, words)."""
    for i in range(out.shape[0]):
        out[i] = _field(streams[which[i], i], offset, length)


@kernel
def mask_tables(streams: U64, flips: Bits, ones: U64, table: Bits, free: Bits, masked: Bits) -> None:
    """Sender of 1-of-N OT with N = 2^w: the free message and the N - 1 masked ones, as bits.

    streams: (2, n w, words), the hashed streams of the keys q and q ^ Delta. flips: (n w,), the choice corrections e,
    so that digit value v has the key q ^ (v ^ e) Delta. ones: (w, words), the stream positions of the messages whose
    digit j is 1. table: (n, N, width). free: (n, width) out, table[0] ^ pad_0. masked: (n, N - 1, width) out,
    table[i] ^ free ^ pad_i. pad_i is the XOR over the digits j of bits i width .. of the stream of value i_j.
    """
    n, size, width = table.shape
    w, words = ones.shape
    pad = np.empty(words, np.uint64)
    for o in range(n):
        pad[:] = np.uint64(0)
        for j in range(w):
            zero, one = streams[flips[o * w + j], o * w + j], streams[1 ^ flips[o * w + j], o * w + j]
            for k in range(words):
                pad[k] ^= zero[k] ^ ((zero[k] ^ one[k]) & ones[j, k])
        for b in range(width):
            free[o, b] = table[o, 0, b] ^ np.uint8((pad[b >> 6] >> np.uint64(b & 63)) & np.uint64(1))
        at = width
        for i in range(1, size):
            for b in range(width):
                bit = np.uint8((pad[at >> 6] >> np.uint64(at & 63)) & np.uint64(1))
                masked[o, i - 1, b] = bit ^ table[o, i, b] ^ free[o, b]
                at += 1


@kernel
def unmask_choices(streams: U64, index: U64, masked: Bits, out: Bits) -> None:
    """Receiver of 1-of-N OT: out = masked[index - 1] ^ pad_index, with an all-zero message for index 0.

    streams: (n w, words), those of the keys t. index: (n,) in [0, N). masked: (n, N - 1, width). out: (n, width).
    """
    n, width = masked.shape[0], masked.shape[2]
    w, words = streams.shape[0] // max(n, 1), streams.shape[1]
    pad = np.empty(words, np.uint64)
    for o in range(n):
        pad[:] = np.uint64(0)
        for j in range(w):
            for k in range(words):
                pad[k] ^= streams[o * w + j, k]
        i = np.int64(index[o])
        present = np.uint8(i != 0)
        row = i - np.int64(present)
        for b in range(width):
            at = i * width + b
            bit = np.uint8((pad[at >> 6] >> np.uint64(at & 63)) & np.uint64(1))
            out[o, b] = bit ^ (masked[o, row, b] & present)
