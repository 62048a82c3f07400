"""Randomness tapes: a pure function of (key, label), usable once per label.

The tape key of a party is SHAKE128(seed, owner); a process holds only its own key. Without a seed the key comes from
the operating system. Every draw is SHAKE128(key, label): XOF output under distinct labels is independent in the
random-oracle sense, and no generator state can be shared or rewound by accident.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from sim.ring import Ring, Shape, Spec

KEY_BYTES = 32


class TapeReuse(RuntimeError):
    """A label was drawn twice from one tape."""


def derive_key(seed: bytes | None, owner: str) -> bytes:
    """The owner's tape key from the session seed; fresh from the operating system when there is no seed."""
    if seed is None:
        return os.urandom(KEY_BYTES)
    head = b"secmoe tape" + len(seed).to_bytes(8, "little")
    return hashlib.shake_128(head + seed + owner.encode()).digest(KEY_BYTES)


def words_from_bytes(data: bytes, spec: Spec) -> NDArray[np.uint64] | NDArray[np.uint8]:
    """Uniform bytes to uniform ring elements: bits for Z_2, else the smallest whole word, reduced modulo 2^l."""
    if spec.ring.l == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[: spec.size].reshape(spec.shape)
    raw = np.frombuffer(data, f"<u{_word(spec.ring)}").astype(np.uint64) & np.uint64(spec.ring.mask)
    return raw.reshape(spec.shape)


def draw_nbytes(ring: Ring, shape: Shape) -> int:
    """Tape bytes that `words_from_bytes` consumes."""
    size = Spec(ring, shape).size
    return -(-size // 8) if ring.l == 1 else size * _word(ring)


def _word(ring: Ring) -> int:
    return next(w for w in (1, 2, 4, 8) if ring.l <= 8 * w)


class Tape:
    """One owner's tape. `draws` is the ledger of labels used and bytes taken under each."""

    def __init__(self, key: bytes, owner: str) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"tape key of {owner}: expected {KEY_BYTES} bytes, got {len(key)}")
        self.key = key
        self.owner = owner
        self.draws: dict[str, int] = {}

    def bytes(self, label: str, n: int) -> bytes:
        """n uniform bytes under a label that was never drawn before; raises TapeReuse otherwise."""
        if label in self.draws:
            raise TapeReuse(f"{self.owner}'s tape: label {label!r} was drawn before; every draw needs its own label")
        self.draws[label] = n
        return hashlib.shake_128(self.key + label.encode()).digest(n)
