"""Ferret OT extension [Ferret] with half trees [HalfTree]: few bytes make millions of correlated OTs; semi-honest.

One iteration turns a reserve of COTs (q, q ^ Delta; t = q ^ u Delta) into more under the same Delta. Every tree is one
block of regular noise: the sender's leaves v add up to Delta, the receiver knows all of them but one and puts their sum
in its place, so w = v ^ e Delta for a unit vector e. Both add the same code of their part of the secret (q; t): z = w ^
t A and y = v ^ q A obey z = y ^ (e ^ u A) Delta, and the new choices e ^ u A are pseudorandom by LPN.

The lowest bit of Delta is one, of every q zero, so that of t is the choice: `mark`. The reserve's choices decide the
paths, in one message: for every level the sum of all left nodes, masked by q; the receiver gets that of side u.
"""

from __future__ import annotations

import functools

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.ot import aesni
from protocols.ot.aes import KEY_BYTES, Permutation, derive
from protocols.ot.kernels import U64, Bits
from protocols.ot.lpn import Preset
from protocols.ot.softspoken import KernelMismatch
from protocols.ot.trees import CODE_WORDS, clear_marks, encode, grow, mend, mix

MARK = np.uint64(1)
CROWN = 5  # levels that grow in all trees at once: they are short
GROUP = 1 << 14  # leaves grown side by side: their levels stay in the second-level cache
BATCH = 1 << 12  # samples encoded at a time, with a stream of 96 KiB


def mark_delta(delta: U64) -> U64:
    """Delta of marked COTs: its lowest bit set; 127 bits stay secret."""
    out = delta.copy()
    out[0] |= MARK
    return out


def mark(keys: U64, choices: Bits | None) -> None:
    """Replace the lowest bit of every key: by zero at the sender (choices None), by the choice at the receiver.

    Every bit of a COT is a correlation of its own; the lowest one becomes that under a Delta bit of one.
    """
    keys[:, 0] &= ~MARK
    if choices is not None:
        keys[:, 0] |= choices.astype(np.uint64)


def marks(keys: U64) -> Bits:
    """The choices of marked COTs, at the receiver."""
    low: Bits = np.ascontiguousarray(keys).view(np.uint8)[:, 0] & np.uint8(1)
    return low


def grow_portably(pi: Permutation, nodes: U64, out: U64, lefts: U64) -> None:
    """One level of trees by `cryptography` between kernels: (trees, m, 2) -> (trees, 2m, 2), sums (trees, 2)."""
    hashed = np.empty_like(nodes)
    mix(nodes, hashed)
    pi(hashed, hashed)
    grow(nodes, hashed, out, lefts)


@functools.cache
def _self_tested() -> bool:
    """Compare the two ways of growing a level, once per process; raises KernelMismatch."""
    nodes = np.arange(3 * aesni.NODES * 2, dtype=np.uint64).reshape(3, -1, 2) * np.uint64(0x9E3779B97F4A7C15)
    pi = Permutation(bytes(range(KEY_BYTES)))
    fast, slow = [(np.empty((3, 2 * aesni.NODES, 2), np.uint64), np.empty((3, 2), np.uint64)) for _ in range(2)]
    aesni.grow_level(aesni.expand_key(pi.key), nodes.reshape(-1), 3, fast[0].reshape(-1), fast[1])
    grow_portably(pi, nodes, *slow)
    if not all(np.array_equal(a, b) for a, b in zip(fast, slow, strict=True)):
        raise KernelMismatch(
            "Ferret: the AES instructions give other trees than `cryptography`; this CPU or this version of numba is "
            "broken: set NUMBA_CPU_FEATURES=-aes to use the portable path"
        )
    return True


class Iteration:
    """The public randomness of one iteration: AES keys of the trees and of the code, fresh for each."""

    def __init__(self, direction: bytes, number: int, preset: Preset) -> None:
        """direction: what names session and direction. number: of the iteration in that direction, never twice."""
        self.preset = preset
        self.pi = Permutation(derive(direction, "ferret trees", str(number)))
        self._schedule = aesni.expand_key(self.pi.key)
        self._code_key = derive(direction, "ferret code", str(number))

    def sender(self, delta: U64, reserve: U64, out: U64) -> bytes:
        """The COT sender's part: its message. delta: marked. reserve: (preset.reserve, 2), q. out: (outputs, 2), y."""
        secret, levels = self._parts(reserve)
        sums = levels[:, 1:].copy()
        crown = np.stack([levels[:, 0], levels[:, 0] ^ delta], axis=1)
        for level in range(1, self._split):
            crown, lefts = self._grow(crown, None)
            sums[:, level - 1] ^= lefts
        for at, leaves in self._groups(out):
            nodes = crown[at]
            for level in range(self._split, self.preset.depth):
                nodes, lefts = self._grow(nodes, leaves)
                sums[at, level - 1] ^= lefts
            clear_marks(nodes)
        self._encode(secret, out)
        return sums.tobytes()

    def receiver(self, reserve: U64, message: bytes, out: U64) -> None:
        """The COT receiver's part. reserve: (preset.reserve, 2), t. out: (outputs, 2), z."""
        secret, levels = self._parts(reserve)
        known = np.frombuffer(message, np.uint64).reshape(self.preset.trees, -1, 2) ^ levels[:, 1:]
        sides, totals = levels[:, :, 0] & MARK, levels[:, 0].copy()
        tree, holes = np.arange(self.preset.trees), MARK ^ sides[:, 0]
        crown = np.zeros((self.preset.trees, 2, 2), np.uint64)
        crown[tree, sides[:, 0]] = totals
        for level in range(1, self._split):
            crown, lefts = self._grow(crown, None)
            mend(crown, lefts, sides[:, level], known[:, level - 1], totals, holes)
        for at, leaves in self._groups(out):
            nodes, tree = crown[at], np.arange(len(leaves))
            for level in range(self._split, self.preset.depth):
                nodes, lefts = self._grow(nodes, leaves)
                mend(nodes, lefts, sides[at, level], known[at, level - 1], totals[at], holes[at])
            nodes[tree, holes[at]] = totals[at]
            clear_marks(nodes)
            nodes[tree, holes[at], 0] |= MARK
        self._encode(secret, out)

    @property
    def _split(self) -> int:
        """The first level that grows in groups of trees; those before are short, and grow in all trees at once."""
        return min(CROWN, self.preset.depth - 1)

    def _parts(self, reserve: U64) -> tuple[U64, U64]:
        """The LPN secret (2^k, 2), and the COT of every tree and level, (trees, depth, 2)."""
        k = 1 << self.preset.log_k
        return reserve[:k], reserve[k:].reshape(self.preset.trees, self.preset.depth, 2)

    def _groups(self, out: U64) -> list[tuple[slice, U64]]:
        """Trees that grow side by side, with the place of their leaves, (trees, 2^depth, 2)."""
        trees, step = out.reshape(self.preset.trees, -1, 2), max(GROUP >> self.preset.depth, 1)
        return [(slice(i, i + step), trees[i : i + step]) for i in range(0, len(trees), step)]

    def _grow(self, nodes: U64, leaves: U64 | None) -> tuple[U64, U64]:
        """All children, the last ones in `leaves`, and per tree the sum of the left ones."""
        trees, m, _ = nodes.shape
        out = leaves if leaves is not None and leaves.shape[1] == 2 * m else np.empty((trees, 2 * m, 2), np.uint64)
        lefts = np.empty((trees, 2), np.uint64)
        if m % aesni.NODES == 0 and aesni.AVAILABLE and _self_tested():
            aesni.grow_level(self._schedule, nodes.reshape(-1), trees, out.reshape(-1), lefts)
        else:
            grow_portably(self.pi, nodes, out, lefts)
        return out, lefts

    def _encode(self, secret: U64, out: U64) -> None:
        stream = Cipher(algorithms.AES(self._code_key), modes.CTR(bytes(KEY_BYTES))).encryptor()
        words = np.empty(CODE_WORDS * BATCH + 2, np.uint64)  # update_into asks for more room than it writes
        zeros, flat = memoryview(bytes(8 * CODE_WORDS * BATCH)), secret.reshape(-1)
        for start in range(0, len(out), BATCH):
            part = out[start : start + BATCH].reshape(-1)
            stream.update_into(zeros[: 4 * CODE_WORDS * len(part)], words.view(np.uint8).data)
            encode(words, flat, part)
