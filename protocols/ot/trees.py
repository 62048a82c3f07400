"""Numba kernels of Ferret: correlated GGM trees [HalfTree] and the local linear code of its LPN samples.

Nodes are 128-bit words, pairs of little-endian 64-bit words. A node x has the children H(x) and H(x) ^ x with
H(x) = pi(s(x)) ^ s(x), s(high, low) = (high ^ low, high): the nodes of every level add up to the same word. pi is
AES-128, computed between the kernels. No kernel branches on a secret; where the hole of a tree is decides addresses.
"""

from __future__ import annotations

import numpy as np

from protocols.ot.kernels import U64, kernel

LOCALITY = 10  # words of the LPN secret in one sample
CODE_WORDS = 4  # 64-bit words of the stream that a sample's places come from: three places in each but the last
PLACE_BITS = 21  # the most that a place can take


@kernel
def mix(nodes: U64, out: U64) -> None:
    """out = s(nodes); (..., m, 2) words, as (trees, m, 2)."""
    for i in range(nodes.shape[0]):
        for j in range(nodes.shape[1]):
            low, high = nodes[i, j, 0], nodes[i, j, 1]
            out[i, j, 0] = high
            out[i, j, 1] = high ^ low


@kernel
def grow(nodes: U64, hashed: U64, out: U64, lefts: U64) -> None:
    """One level: the children of all nodes, (trees, m, 2) -> (trees, 2m, 2), and per tree the XOR of left children.

    hashed: pi(s(nodes)).
    """
    for i in range(nodes.shape[0]):
        a, b = np.uint64(0), np.uint64(0)
        for j in range(nodes.shape[1]):
            low, high = nodes[i, j, 0], nodes[i, j, 1]
            left_low, left_high = hashed[i, j, 0] ^ high, hashed[i, j, 1] ^ high ^ low
            out[i, 2 * j, 0] = left_low
            out[i, 2 * j, 1] = left_high
            out[i, 2 * j + 1, 0] = left_low ^ low
            out[i, 2 * j + 1, 1] = left_high ^ high
            a ^= left_low
            b ^= left_high
        lefts[i, 0] = a
        lefts[i, 1] = b


@kernel
def mend(out: U64, lefts: U64, sides: U64, sums: U64, totals: U64, holes: U64) -> None:
    """After `grow` on trees with a hole: one child of the hole follows from the sum of its side, the other one is the
    new hole, zero.

    sides: (trees,), the side that is known. sums: (trees, 2), XOR of all children on it. totals: (trees, 2), XOR of all
    known nodes, and holes: (trees,), both of the level before; they become those of the new one.
    """
    for i in range(out.shape[0]):
        at, side = 2 * holes[i], sides[i]
        mask = np.uint64(0) - side
        for w in range(2):
            # Right children are left ones ^ nodes, so the known right ones add up to the known left ones ^ totals.
            known = sums[i, w] ^ lefts[i, w] ^ out[i, at, w] ^ (totals[i, w] & mask)
            out[i, at + side, w] = known
            out[i, at + np.uint64(1) - side, w] = np.uint64(0)
            totals[i, w] ^= known
        holes[i] = at + np.uint64(1) - side


@kernel
def clear_marks(leaves: U64) -> None:
    """Set the lowest bit of every leaf to zero; (trees, m, 2)."""
    mask = ~np.uint64(1)
    for i in range(leaves.shape[0]):
        for j in range(leaves.shape[1]):
            leaves[i, j, 0] &= mask


@kernel
def encode(stream: U64, secret: U64, out: U64) -> None:
    """Add to every sample the words of the LPN secret at its `LOCALITY` places, drawn from the stream.

    stream: (n, CODE_WORDS) uniform words. secret: (2^k, 2), k <= PLACE_BITS. out: (n, 2), changed.
    """
    mask, step = np.uint64(secret.shape[0] - 1), np.uint64(PLACE_BITS)
    for j in range(out.shape[0]):
        low, high = out[j, 0], out[j, 1]
        for w in range(CODE_WORDS - 1):
            bits = stream[j, w]
            first, second, third = bits & mask, (bits >> step) & mask, (bits >> (step + step)) & mask
            low ^= secret[first, 0] ^ secret[second, 0] ^ secret[third, 0]
            high ^= secret[first, 1] ^ secret[second, 1] ^ secret[third, 1]
        last = stream[j, CODE_WORDS - 1] & mask
        out[j, 0] = low ^ secret[last, 0]
        out[j, 1] = high ^ secret[last, 1]
