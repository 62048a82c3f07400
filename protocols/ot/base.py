"""Base OT on the prime-order subgroup of edwards25519 [CO15], by PyNaCl's group operations.

A = aG; B_i = b_i G + c_i A; the sender's keys are H(a B_i) and H(a B_i - a A), the receiver's is H(b_i A). Every key is
hashed with session, instance, index, A and B_i, so that no key can be carried from one place to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from protocols.ot.functionalities import BASE_OT
from protocols.ot.kernels import Bits
from sim.cost import Cost, message
from sim.party import Party, protocol
from sim.role import Role
from sim.wire import Blob, BlobSpec

POINT_BYTES = 32
SEED_BYTES = 64  # reduced modulo the group order; the bias is below 2^-256
KEY_BYTES = 16


class InvalidPoint(ValueError):
    """A received group element is not a canonical point of the prime-order subgroup."""


def base_cost(sender: Role, *, n: int) -> Cost:
    return message(sender, 8 * POINT_BYTES) + message(sender.peer, 8 * POINT_BYTES * n)


def _cost(sender: Role, choices: object, session: object, *, n: int) -> Cost:
    return base_cost(sender, n=n)


@protocol(realises=BASE_OT, cites="[CO15]", cost=_cost)
async def base_ot(p: Party, sender: Role, choices: Bits | None, session: bytes | None, *, n: int) -> Bits | None:
    """n random OTs of 16-byte keys.

    choices: the receiver's n bits (uint8), None at the sender. session: bytes both parties agree on. Gives the sender
    (n, 2, 16) bytes, the receiver (n, 16) bytes; None in the shapes interpretation. Raises InvalidPoint.
    """
    tag = p.scope.encode()
    first, second = BlobSpec("point", POINT_BYTES), BlobSpec("points", POINT_BYTES * n)
    if p.role is sender:
        scalar = p.local(_scalars, p, "scalar", 1)
        p.send("A", p.compute(first, _public_point, scalar))
        points: Blob = await p.recv("B", second)
        return p.local(_sender_keys, scalar, points, session, tag)
    scalars = p.local(_scalars, p, "scalars", n)
    point: Blob = await p.recv("A", first)
    answer = p.compute(second, _choice_points, scalars, choices, point)
    p.send("B", answer)
    return p.local(_receiver_keys, scalars, point, answer, session, tag)


def check_point(point: bytes, what: str) -> bytes:
    """The point itself; raises InvalidPoint unless it is canonical and of prime order."""
    if len(point) != POINT_BYTES or not crypto_core_ed25519_is_valid_point(point):
        raise InvalidPoint(
            f"base OT: expected {what} to be a point of the prime-order subgroup of edwards25519, got {point.hex()}; "
            "the peer's message is damaged or malicious: end the session"
        )
    return point


def _scalars(p: Party, word: str, n: int) -> list[bytes]:
    seed = p.draw_bytes(word, SEED_BYTES * n)
    parts = (seed[i : i + SEED_BYTES] for i in range(0, len(seed), SEED_BYTES))
    return [crypto_core_ed25519_scalar_reduce(part) for part in parts]


def _public_point(scalar: Sequence[bytes]) -> bytes:
    return bytes(crypto_scalarmult_ed25519_base_noclamp(scalar[0]))


def _split(points: Blob) -> list[bytes]:
    return [points.data[i : i + POINT_BYTES] for i in range(0, points.nbytes, POINT_BYTES)]


def _choice_points(scalars: Sequence[bytes], choices: Bits, point: Blob) -> bytes:
    a = check_point(point.data, "A")
    plain = [crypto_scalarmult_ed25519_base_noclamp(scalar) for scalar in scalars]
    shifted = [crypto_core_ed25519_add(b, a) for b in plain]
    both = np.frombuffer(b"".join([*plain, *shifted]), np.uint8).reshape(2, len(scalars), POINT_BYTES)
    mask = (np.uint8(0) - choices.astype(np.uint8))[:, None]
    selected: Bits = both[0] ^ ((both[0] ^ both[1]) & mask)
    return selected.tobytes()


def _receiver_keys(scalars: Sequence[bytes], point: Blob, answer: Blob, session: bytes, tag: bytes) -> Bits:
    keys = [
        _key(session, tag, i, point.data, b, crypto_scalarmult_ed25519_noclamp(scalar, point.data))
        for i, (scalar, b) in enumerate(zip(scalars, _split(answer), strict=True))
    ]
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)


def _sender_keys(scalar: Sequence[bytes], points: Blob, session: bytes, tag: bytes) -> Bits:
    a = _public_point(scalar)
    square = crypto_scalarmult_ed25519_noclamp(scalar[0], a)
    keys = []
    for i, b in enumerate(_split(points)):
        shared = crypto_scalarmult_ed25519_noclamp(scalar[0], check_point(b, f"B[{i}]"))
        keys.append(_key(session, tag, i, a, b, shared))
        keys.append(_key(session, tag, i, a, b, crypto_core_ed25519_sub(shared, square)))
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 2, KEY_BYTES)


def _key(session: bytes, tag: bytes, index: int, a: bytes, b: bytes, shared: bytes) -> bytes:
    h = hashlib.blake2b(digest_size=KEY_BYTES, person=b"secmoe base ot")
    for part in (session, tag):
        h.update(len(part).to_bytes(2, "little") + part)
    h.update(index.to_bytes(4, "little") + a + b + shared)
    return h.digest()
