"""Deterministic expansion of 32-byte seeds into the distributions of the scheme; every function is exact, none
approximates.

A seed is used for one purpose only. AES-256 in counter mode is the generator; `lane` separates the streams of one
seed.
"""

import sys
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from protocols.he.buffers import empty
from protocols.he.jit import kernel
from protocols.he.ntt import Floats, Ints
from protocols.he.ring_q import Basis
from protocols.he.scalars import weighted_residues

Words = NDArray[np.uint64]
SEED_NBYTES = 32
ERROR_ETA = 21  # centred binomial error: variance eta / 2
ERROR_VARIANCE = ERROR_ETA / 2


def _generator(seed: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(seed), modes.CTR(_counter(0))).encryptor()


def _counter(lane: int) -> bytes:
    return lane.to_bytes(8, "big") + bytes(8)


@lru_cache(maxsize=16)
def _zeros(nbytes: int) -> bytes:
    return bytes(nbytes)


def stream(seed: bytes, lane: int, nbytes: int) -> bytes:
    """nbytes of the lane-th key stream of the seed: AES-256-CTR, the lane in the upper half of the counter block."""
    generator = _generator(seed)
    generator.reset_nonce(_counter(lane))
    return generator.update(_zeros(nbytes))


@kernel
def _accept(words: Words, mask: int, limit: int, out: Floats) -> int:
    """The first words that lie below `limit` after masking, to `out`; gives how many there were room for."""
    most, low, kept = np.uint64(limit), np.uint64(mask), 0
    for j in range(words.size):
        value = words[j] & low
        if value < most:
            out[kept] = float(value)
            kept += 1
            if kept == out.size:
                break
    return kept


def _accepted(generator: CipherContext, lane: int, mask: int, limit: int, out: Floats) -> None:
    """Fill a row with the first words of a stream that lie below `limit` after masking: exactly uniform on
    [0, limit), limit < 2^53.
    """
    wanted = out.size + out.size // 8 + 64
    while True:
        memory = empty(wanted + 2).view(np.uint64)  # the cipher asks for a block more than it writes
        generator.reset_nonce(_counter(lane))
        generator.update_into(_zeros(8 * wanted), memory.view(np.uint8).data)
        if _accept(_little(memory[:wanted]), mask, limit, out) == out.size:
            return
        wanted *= 2


def _little(words: Words) -> Words:
    """Words of a byte stream in this machine's order."""
    return words if sys.byteorder == "little" else words.byteswap()


def uniform_residues(seed: bytes, basis: Basis, n: int, out: Floats | None = None) -> Floats:
    """A uniform ring element [basis.size, n], written to `out` if given; public expansion of the a-part."""
    out, generator = empty(basis.size, n) if out is None else out, _generator(seed)
    for lane, (row, p) in enumerate(zip(out, basis.primes, strict=True)):
        _accepted(generator, lane, (1 << p.bit_length()) - 1, p, row)
    return out


def ternary(seed: bytes, n: int) -> Ints:
    """n coefficients uniform on {-1, 0, 1}: bytes below 255, modulo 3."""
    wanted = n + n // 16 + 64
    while True:
        values = np.frombuffer(stream(seed, 0, wanted), dtype=np.uint8)
        values = values[values < 255]
        if values.size >= n:
            return (values[:n] % 3).astype(np.int64) - 1
        wanted *= 2


def error(seed: bytes, n: int) -> Ints:
    """n coefficients of the centred binomial distribution with eta = 21 (sigma 3.24): the weights of two 21-bit
    strings, subtracted.
    """
    words = np.frombuffer(stream(seed, 0, 8 * n), dtype="<u8")
    mask = np.uint64((1 << ERROR_ETA) - 1)
    ones, others = np.bitwise_count(words & mask), np.bitwise_count((words >> np.uint64(ERROR_ETA)) & mask)
    values: Ints = np.subtract(ones, others, dtype=np.int64)
    return values


def flooding_bound(target: int) -> tuple[int, int, int]:
    """(F, H, low): the largest F = H 2^low <= target with a 16-bit H, for which uniform sampling on [-F, F) is cheap
    and exact.
    """
    low = max(target.bit_length() - 16, 0)
    return (target >> low) << low, target >> low, low


def flooding(seed: bytes, count: int, target: int, basis: Basis) -> Floats:
    """`count` values uniform on [-F, F), F = flooding_bound(target), as residues [basis.size, count]."""
    bound, high, low = flooding_bound(target)
    chosen = np.empty(count)
    _accepted(_generator(seed), 0, (1 << (2 * high - 1).bit_length()) - 1, 2 * high, chosen)
    top, limbs = chosen.astype(np.int64), -(-low // 32)
    words = np.frombuffer(stream(seed, 1, 4 * limbs * count), dtype="<u4").reshape(limbs, count).astype(np.int64)
    if low % 32:
        words[-1] &= (1 << (low % 32)) - 1
    powers = np.array([[pow(2, 32 * k, p) for k in range(limbs)] for p in basis.primes], dtype=np.int64)
    weight, offset = (np.array([value % p for p in basis.primes], dtype=np.int64) for value in (1 << low, bound))
    out = np.empty((basis.size, count))
    weighted_residues(out, top, words, weight, powers, offset, np.array(basis.primes, dtype=np.int64))
    return out
