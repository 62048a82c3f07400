"""AES-128 on numpy buffers and the tweakable hash of the OT extension.

128-bit words are pairs of little-endian 64-bit words. The hash is TMMO, H(x, tweak) = pi(pi(x) ^ tweak) ^ pi(x) with pi
AES under a key derived from the session: tweakable circular correlation robust in the ideal-cipher model as long as no
tweak is used twice under one correlation [GKWY20].
"""

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.ot.kernels import U64, tweak_blocks

KEY_BYTES = 16


class Permutation:
    """pi: AES-128 under a fixed key, on arrays of 128-bit words."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"AES-128 key: expected {KEY_BYTES} bytes, got {len(key)}")
        self.key = key
        self._ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()

    def __call__(self, x: U64, out: U64 | None = None) -> U64:
        """Encrypt every 128-bit word of a C-contiguous array of shape (..., 2); `out` may be `x` itself."""
        out = np.empty_like(x) if out is None else out
        source, target = x.reshape(-1).view(np.uint8).data, out.reshape(-1).view(np.uint8).data
        if len(source):
            # update_into asks for 15 bytes more than it writes, so the last block goes by itself.
            last = self._ecb.update(source[-KEY_BYTES:])
            self._ecb.update_into(source[:-KEY_BYTES], target)
            target[-KEY_BYTES:] = last
        return out


class TweakableHash:
    """H(x, tweak) with the tweak (index, block): a 64-bit index and a 64-bit block number."""

    def __init__(self, key: bytes) -> None:
        self.pi = Permutation(key)

    def __call__(self, x: U64, first: int, blocks: int = 1) -> U64:
        """Hash n words under indices first, first + 1, ..; `blocks` blocks each: (n, 2) -> (n, 2 blocks)."""
        inner = self.pi(x)
        out = np.empty((len(x), 2 * blocks), np.uint64)
        work = np.empty_like(inner)
        for block in range(blocks):
            tweak_blocks(inner, first, block, work)
            out[:, 2 * block : 2 * block + 2] = self.pi(work, work) ^ inner
        return out


def derive(session: bytes, *words: str) -> bytes:
    """A 16-byte AES key for one purpose in one session."""
    h = hashlib.blake2b(session, digest_size=KEY_BYTES, person=b"secmoe ot key")
    for word in words:
        h.update(len(word).to_bytes(2, "little") + word.encode())
    return h.digest()
