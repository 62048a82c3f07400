"""Ferret OT extension [Ferret] with half trees [HalfTree]: few bytes make millions of correlated OTs; semi-honest.

One iteration turns a reserve of COTs (q, q ^ Delta; t = q ^ u Delta) into more under the same Delta. Every tree is one
block of regular noise: the sender's leaves v add up to Delta, the receiver knows all of them but one and puts their sum
in its place, so w = v ^ e Delta for a unit vector e. Both add the same code of their part of the secret (q; t): z = w ^
t A and y = v ^ q A obey z = y ^ (e ^ u A) Delta, and the new choices e ^ u A are pseudorandom by LPN.

The lowest bit of Delta is one, of every q zero, so that of t is the choice: `mark`. The reserve's choices decide the
paths, in one message: for every level the sum of all left nodes, masked by q; the receiver gets that of side u.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.ot.aes import KEY_BYTES, Permutation, derive
from protocols.ot.amounts import Preset
from protocols.ot.kernels import U64, Bits
from protocols.ot.trees import CODE_WORDS, clear_marks, encode, grow, mend, mix

MARK = np.uint64(1)
GROUP = 1 << 14  # leaves grown side by side: their levels stay in the second-level cache
BATCH = 1 << 12  # samples encoded at a time, with a stream of 128 KiB


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


class Iteration:
    """The public randomness of one iteration: AES keys of the trees and of the code, fresh for each."""

    def __init__(self, direction: bytes, number: int, preset: Preset) -> None:
        """direction: what names session and direction. number: of the iteration in that direction, never twice."""
        self.preset = preset
        self.pi = Permutation(derive(direction, "ferret trees", str(number)))
        self._code_key = derive(direction, "ferret code", str(number))

    def sender(self, delta: U64, reserve: U64, out: U64) -> bytes:
        """The COT sender's part: its message. delta: marked. reserve: (preset.reserve, 2), q. out: (outputs, 2), y."""
        secret, levels = self._parts(reserve)
        sums = np.empty((*levels.shape[:2], 2), np.uint64)[:, 1:]
        for at, leaves in self._groups(out):
            nodes = np.stack([levels[at, 0], levels[at, 0] ^ delta], axis=1)
            for level in range(1, self.preset.depth):
                nodes, lefts = self._level(nodes, leaves, level)
                sums[at, level - 1] = lefts ^ levels[at, level]
            clear_marks(nodes)
        self._encode(secret, out)
        return sums.tobytes()

    def receiver(self, reserve: U64, message: bytes, out: U64) -> None:
        """The COT receiver's part. reserve: (preset.reserve, 2), t. out: (outputs, 2), z."""
        secret, levels = self._parts(reserve)
        sums = np.frombuffer(message, np.uint64).reshape(self.preset.trees, self.preset.depth - 1, 2)
        sides = levels[:, :, 0] & MARK
        for at, leaves in self._groups(out):
            side, totals = sides[at], levels[at, 0].copy()
            tree, holes = np.arange(len(totals)), MARK ^ side[:, 0]
            nodes = np.zeros((len(totals), 2, 2), np.uint64)
            nodes[tree, side[:, 0]] = totals
            for level in range(1, self.preset.depth):
                nodes, lefts = self._level(nodes, leaves, level)
                known = sums[at, level - 1] ^ levels[at, level]
                mend(nodes, lefts, np.ascontiguousarray(side[:, level]), known, totals, holes)
            nodes[tree, holes] = totals
            clear_marks(nodes)
            nodes[tree, holes, 0] |= MARK
        self._encode(secret, out)

    def _parts(self, reserve: U64) -> tuple[U64, U64]:
        """The LPN secret (2^k, 2), and the COT of every tree and level, (trees, depth, 2)."""
        k = 1 << self.preset.log_k
        return reserve[:k], reserve[k:].reshape(self.preset.trees, self.preset.depth, 2)

    def _groups(self, out: U64) -> list[tuple[slice, U64]]:
        """Trees that grow side by side, with the place of their leaves, (trees, 2^depth, 2)."""
        trees, step = out.reshape(self.preset.trees, -1, 2), max(GROUP >> self.preset.depth, 1)
        return [(slice(i, i + step), trees[i : i + step]) for i in range(0, len(trees), step)]

    def _level(self, nodes: U64, leaves: U64, level: int) -> tuple[U64, U64]:
        """All children, the last ones in `leaves`, and per tree the sum of the left ones."""
        mixed = np.empty_like(nodes)
        mix(nodes, mixed)
        self.pi(mixed, mixed)
        last, lefts = level == self.preset.depth - 1, np.empty((len(nodes), 2), np.uint64)
        out = leaves if last else np.empty((len(nodes), 2 * nodes.shape[1], 2), np.uint64)
        grow(nodes, mixed, out, lefts)
        return out, lefts

    def _encode(self, secret: U64, out: U64) -> None:
        stream = Cipher(algorithms.AES(self._code_key), modes.CTR(bytes(KEY_BYTES))).encryptor()
        words = np.empty((BATCH + 1, CODE_WORDS), np.uint64)  # update_into asks for more room than it writes
        zeros = bytes(8 * CODE_WORDS * BATCH)
        for start in range(0, len(out), BATCH):
            part = out[start : start + BATCH]
            stream.update_into(memoryview(zeros)[: 8 * CODE_WORDS * len(part)], words.reshape(-1).view(np.uint8).data)
            encode(words[: len(part)], secret, part)
