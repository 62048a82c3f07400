"""Ideal functionalities of oblivious transfer: plain numpy functions on cleartext, independent of any kernel.

Each takes the randomness that the functionality itself would draw as its last arguments, so that an ideal service can
run it and a test can compare with it. Nothing leaks in any of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.functionality import Functionality

Words = NDArray[Any]


def base_ot(choices: Words, keys: Words) -> Words:
    """keys: (n, 2, 16) uniform bytes, the sender's output. The receiver gets keys[i, choices[i]]."""
    return keys[np.arange(len(choices)), choices]


def cot(choices: Words, keys: Words, delta: Words) -> Words:
    """keys: (n, 2) words, the sender's q; delta: (2,) words. The receiver gets t = q ^ choice * delta."""
    return keys ^ np.where(choices.astype(bool)[:, None], delta[None, :], np.uint64(0))


def choose(index: Words, table: Words, mask: Words) -> Words:
    """table: (*shape, N, width) bits; mask: (*shape, width) uniform bits, the sender's output.

    The receiver gets table[index] ^ mask: the outputs are XOR shares of the selected string.
    """
    chosen = np.take_along_axis(table, index.astype(np.int64)[..., None, None], axis=-2)[..., 0, :]
    return np.asarray(chosen.astype(np.uint64) ^ mask.astype(np.uint64))


def correlate(bit: Words, delta: Words, l: int, mask: Words) -> Words:
    """mask: uniform modulo 2^l, the sender's output. The receiver gets mask + bit * delta modulo 2^l."""
    total = mask.astype(np.uint64) + bit.astype(np.uint64) * delta.astype(np.uint64)
    return np.asarray(total & np.uint64((1 << l) - 1))


def bit_triples(a: tuple[Words, Words], b: tuple[Words, Words], c: Words) -> Words:
    """XOR shares of uniform bits a and (*shape, right) bits b; c: one share of their product. Gives the other one."""
    return np.asarray(((a[0] ^ a[1])[..., None] & (b[0] ^ b[1])) ^ c)


BASE_OT = Functionality("ot.base", base_ot)
COT = Functionality("ot.cot", cot)
CHOOSE = Functionality("ot.choose", choose)
CORRELATE = Functionality("ot.correlate", correlate)
BIT_TRIPLES = Functionality("ot.bit_triples", bit_triples)
