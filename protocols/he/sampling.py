"""Deterministic expansion of 32-byte seeds into the distributions of the scheme; every function is exact, none
approximates.

A seed is used for one purpose only. AES-256 in counter mode is the generator; `lane` separates the streams of one
seed.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from protocols.he.ntt import Floats, Ints, mulmod
from protocols.he.ring_q import Basis

SEED_NBYTES = 32
ERROR_ETA = 21  # centred binomial error: variance eta / 2
ERROR_VARIANCE = ERROR_ETA / 2


def stream(seed: bytes, lane: int, nbytes: int) -> bytes:
    """nbytes of the lane-th key stream of the seed: AES-256-CTR, the lane in the upper half of the counter block."""
    counter = lane.to_bytes(8, "big") + bytes(8)
    return Cipher(algorithms.AES256(seed), modes.CTR(counter)).encryptor().update(bytes(nbytes))


def _accepted(seed: bytes, lane: int, count: int, mask: int, limit: int) -> NDArray[np.uint64]:
    """The first `count` words of the stream that lie below `limit` after masking: exactly uniform on [0, limit)."""
    wanted = count + count // 8 + 64
    while True:
        words = np.frombuffer(stream(seed, lane, 8 * wanted), dtype="<u8") & np.uint64(mask)
        words = words[words < np.uint64(limit)]
        if words.size >= count:
            return words[:count]
        wanted *= 2


def uniform_residues(seed: bytes, basis: Basis, n: int) -> Floats:
    """A uniform ring element [basis.size, n]; public expansion of the a-part."""
    rows = [_accepted(seed, lane, n, (1 << p.bit_length()) - 1, p) for lane, p in enumerate(basis.primes)]
    return np.stack(rows).astype(np.float64)


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
    top = _accepted(seed, 0, count, (1 << (2 * high - 1).bit_length()) - 1, 2 * high).astype(np.int64)
    limbs = -(-low // 32)
    words = np.frombuffer(stream(seed, 1, 4 * limbs * count), dtype="<u4").reshape(limbs, count).astype(np.int64)
    if low % 32:
        words[-1] &= (1 << (low % 32)) - 1
    rows = []
    for p in basis.primes:
        total = mulmod(top % p, np.full(count, (1 << low) % p, dtype=np.int64), p) - bound % p
        for k in range(limbs):
            total += mulmod(words[k] % p, np.full(count, (1 << (32 * k)) % p, dtype=np.int64), p)
        rows.append(total % p)
    return np.stack(rows).astype(np.float64)
