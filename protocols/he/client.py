"""The client's side of the homomorphic layer: keys, uploads, decryption."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from protocols.he.bfv import SecretKey, Shares, decode, encode
from protocols.he.bits import MalformedMessage, pack, unpack
from protocols.he.ntt import Floats, Ints
from protocols.he.packing import KeySet, Layout, Plan
from protocols.he.ring_q import Basis, ring_for
from protocols.he.sampling import SEED_NBYTES

# Draw(label, number of bytes) -> fresh bytes; a label serves once per call of a function below.
Draw = Callable[[str, int], bytes]


class ShapeMismatch(ValueError):
    """A share whose shape is not the plan's."""


def check_share(share: Shares, shape: tuple[int, ...], what: str) -> None:
    """Raise ShapeMismatch unless the array is uint64 of that shape."""
    if share.dtype != np.uint64 or share.shape != shape:
        raise ShapeMismatch(f"{what}: expected uint64 words of shape {shape}, "
                            f"came {share.dtype} of shape {share.shape}: check the plan")


def placed(layout: Layout, ciphertext: int, share: Shares, basis: Basis) -> tuple[Ints, Floats]:
    """The exponents that one ciphertext of a share uses, all distinct, and the residues [limbs, exponents] there."""
    positions = layout.positions(ciphertext)
    values = share.reshape(layout.tokens, -1)[layout.held(ciphertext)]
    words = np.concatenate([values << np.uint64(layout.digit_bits * i) for i in range(layout.digits)], axis=1)
    return positions.reshape(-1), encode(words.reshape(-1), layout.scale, basis)


def encoded(layout: Layout, ciphertext: int, share: Shares, basis: Basis) -> Floats:
    """The encoded message polynomial [limbs, N] of one ciphertext of a share."""
    positions, residues = placed(layout, ciphertext, share, basis)
    message = np.zeros((basis.size, layout.params.n))
    message[:, positions] = residues
    return message


def key_rows(secret: SecretKey, keys: KeySet) -> Iterator[tuple[str, Floats, Basis]]:
    """(word, payload, basis) of every row of the public keys in their order: encryption key at q1, relinearisation key,
    expansion keys (all at q0 P), packing keys (at q1 P), each element in increasing order."""
    ring = secret.ring

    def switching(word: str, source: Floats, basis: Basis, special: Basis) -> Iterator[tuple[str, Floats, Basis]]:
        for i, digit in enumerate(keys.params.digits(basis.size)):
            yield f"{word}_{i}", secret.gadget(source, digit, special), special

    yield "public", np.zeros((ring.q1.size, ring.n)), ring.q1
    own = secret.transformed(ring.q0p)
    if keys.relinearise:
        yield from switching("relinearise", ring.engine.multiply(own, own, ring.q0p.limbs), ring.q0, ring.q0p)
    for element in keys.expansion:
        yield from switching(f"expand_{element}", np.take(own, ring.permutation(element), axis=-1), ring.q0, ring.q0p)
    own = secret.transformed(ring.q1p)
    for element in keys.packing:
        yield from switching(f"pack_{element}", np.take(own, ring.permutation(element), axis=-1), ring.q1, ring.q1p)


class ClientKeys:
    """The secret key of one session and the bytes of its public keys."""

    def __init__(self, keys: KeySet, secret: SecretKey, public_bytes: bytes) -> None:
        self.keys, self.secret, self.public_bytes = keys, secret, public_bytes

    @classmethod
    def generate(cls, keys: KeySet, draw: Draw) -> "ClientKeys":
        """Fresh keys. public_bytes holds keys.nbytes bytes: of every one of the `key_rows` a 32-byte seed and packed
        residues.
        """
        secret, pieces = SecretKey(ring_for(keys.params), draw("secret", SEED_NBYTES)), list[bytes]()
        for word, payload, basis in key_rows(secret, keys):
            seed = draw(f"a_{word}", SEED_NBYTES)
            residues = secret.key_row(payload, seed, draw(f"e_{word}", SEED_NBYTES), basis)
            pieces.append(seed + pack(list(residues), basis.bits))
        return cls(keys, secret, b"".join(pieces))

    def encrypt(self, layout: Layout, share: Shares, draw: Draw) -> bytes:
        """Seeded encryptions of one's own share (uint64, layout.shape): layout.nbytes bytes."""
        check_share(share, layout.shape, "share to encrypt")
        basis, pieces = self.secret.ring.upload(layout), []
        for k in range(layout.count):
            seed = draw(f"a{k}", SEED_NBYTES)
            message = encoded(layout, k, share, basis)
            c0 = self.secret.encrypt(message, seed, draw(f"e{k}", SEED_NBYTES), basis)
            pieces.append(seed + pack(list(np.ascontiguousarray(c0[:, layout.sent])), basis.bits))
        return b"".join(pieces)

    def decrypt(self, plan: Plan, data: bytes) -> Shares:
        """The masked outputs mod 2^l, shape plan.outputs, from the server's answer. Raises MalformedMessage."""
        ring, params, words, start = self.secret.ring, plan.params, np.empty(math.prod(plan.outputs), np.uint64), 0
        basis = ring.response
        if len(data) != plan.response_nbytes:
            raise MalformedMessage(f"response: expected {plan.response_nbytes} bytes, came {len(data)}: "
                                   "the peer runs another shape")
        for positions, outputs in zip(plan.response_positions, plan.response_outputs, strict=True):
            nbytes = params.response_nbytes(positions.size)
            lengths = (positions.size,) * basis.size + (ring.n,) * basis.size
            ciphertext = np.zeros((2, basis.size, ring.n))
            sent = np.empty((basis.size, positions.size))
            unpack(data[start: start + nbytes], basis.primes * 2, lengths, [*sent, *ciphertext[1]])
            ciphertext[0][:, positions] = sent
            phase = self.secret.phase(ciphertext, basis)
            words[outputs] = decode(np.ascontiguousarray(phase[:, positions]), params.ring_bits, basis)
            start += nbytes
        return words.reshape(plan.outputs)
