"""Residues on the wire: every coefficient takes exactly as many bits as its prime, little-endian, rows one after the
other.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.he.jit import kernel
from protocols.he.ntt import Floats

Words = NDArray[np.uint64]


class MalformedMessage(ValueError):
    """Bytes that are no message of the expected kind: wrong length, residue out of range, or dirty padding."""


@kernel
def _pack(words: Words, row: Floats, width: int, start: int) -> None:
    word, filled = start >> 6, start & 63
    pending = words[word]
    for j in range(row.size):
        value = np.uint64(row[j])
        pending |= value << np.uint64(filled)
        filled += width
        if filled >= 64:
            words[word] = pending
            word, filled = word + 1, filled - 64
            pending = value >> np.uint64(width - filled)
    words[word] = pending


@kernel
def _unpack(row: Floats, words: Words, width: int, start: int) -> None:
    mask, six = (np.uint64(1) << np.uint64(width)) - np.uint64(1), np.uint64(63)
    for j in range(row.size):
        position = start + j * width
        word, shift = position >> 6, np.uint64(position & 63)
        row[j] = float(((words[word] >> shift) | (words[word + 1] << np.uint64(1) << (six - shift))) & mask)


def packed_nbytes(widths: tuple[int, ...], lengths: tuple[int, ...]) -> int:
    """Bytes of rows of those lengths, row k with widths[k] bits per coefficient."""
    return -(-sum(width * length for width, length in zip(widths, lengths, strict=True)) // 8)


def pack(rows: list[Floats], widths: tuple[int, ...]) -> bytes:
    """One bit stream of all rows, zero-padded to a byte."""
    nbytes = packed_nbytes(widths, tuple(row.size for row in rows))
    words = np.zeros(nbytes // 8 + 2, dtype=np.uint64)
    position = 0
    for row, width in zip(rows, widths, strict=True):
        _pack(words, np.ascontiguousarray(row), width, position)
        position += width * row.size
    return words.astype("<u8", copy=False).view(np.uint8)[:nbytes].tobytes()


def unpack(
    data: bytes, primes: tuple[int, ...], lengths: tuple[int, ...], out: Sequence[Floats] | None = None
) -> list[Floats]:
    """Rows of residues, row k below primes[k], written to the rows of `out` if given; the inverse of `pack`. Raises
    MalformedMessage.
    """
    widths = tuple(p.bit_length() for p in primes)
    nbytes = packed_nbytes(widths, lengths)
    if len(data) != nbytes:
        raise MalformedMessage(f"packed residues: expected {nbytes} bytes, came {len(data)}: "
                               "the peer runs another shape")
    words = np.frombuffer(data + bytes(-nbytes % 8 + 16), dtype="<u8").astype(np.uint64, copy=False)
    rows, position = [], 0
    for k, (p, width, length) in enumerate(zip(primes, widths, lengths, strict=True)):
        row = np.empty(length, dtype=np.float64) if out is None else out[k]
        _unpack(row, words, width, position)
        if length and row.max() >= p:
            raise MalformedMessage(f"packed residues: expected values below {p}, came {int(row.max())}: "
                                   "corrupt message")
        rows.append(row)
        position += width * length
    if position % 8 and data[-1] >> (position % 8):
        raise MalformedMessage("packed residues: expected zero padding bits, came others: corrupt message")
    return rows
