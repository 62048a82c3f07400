"""Kernels for the few coefficients that carry something: exact residues of multi-precision values, one by one.

A handful of numbers costs less here than the calls of as many numpy operations would.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.he.jit import kernel
from protocols.he.ntt import Floats, Ints

Words = NDArray[np.uint64]


@kernel
def modular(a: int, b: int, p: int) -> int:
    """a * b mod p for 0 <= a, b < p < 2^50, as `ntt.mulmod`."""
    rest = a * b - int(float(a) * float(b) / float(p)) * p
    rest += p * (rest < 0)
    return rest - p * (rest >= p)


@kernel
def encode_words(
    out: Floats, values: Words, scale: int, words: Words, powers: Ints, inverse: Ints, primes: Ints
) -> None:
    """See `bfv.encode`. words: the lowest 32-bit limbs of q; powers[row, k] = 2^(32 k), inverse[row] = 2^-scale mod p.
    """
    low, bits, limbs = np.uint64(0xFFFFFFFF), np.uint64(32), words.size
    half = np.zeros(limbs + 1, np.uint64)
    half[(scale - 1) >> 5] = np.uint64(1) << np.uint64((scale - 1) & 31)
    for j in range(values.size):
        r = half.copy()
        for i in range(limbs):
            product = words[i] * (values[j] & low)
            r[i] += product & low
            r[i + 1] += product >> bits
            if i + 1 < limbs:
                product = words[i] * (values[j] >> bits)
                r[i + 1] += product & low
                r[i + 2] += product >> bits
        for k in range(limbs):
            r[k + 1] += r[k] >> bits
            r[k] &= low
        if scale & 31:
            r[limbs - 1] &= (np.uint64(1) << np.uint64(scale & 31)) - np.uint64(1)
        for row in range(primes.size):
            p, total = primes[row], 0
            for k in range(limbs):
                gap = (np.int64(half[k]) - np.int64(r[k])) % p
                total += modular(gap, powers[row, k], p)
            out[row, j] = float(modular(total % p, inverse[row], p))


@kernel
def weighted_residues(
    out: Floats, top: Ints, words: Ints, weight: Ints, powers: Ints, offset: Ints, primes: Ints
) -> None:
    """out[row, j] = top[j] weight[row] + sum_k words[k, j] powers[row, k] - offset[row] mod primes[row]."""
    for row in range(primes.size):
        p = primes[row]
        for j in range(top.size):
            total = modular(top[j] % p, weight[row], p) - offset[row]
            for k in range(words.shape[0]):
                total += modular(words[k, j] % p, powers[row, k], p)
            out[row, j] = float(total % p)
