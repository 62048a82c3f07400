"""The one wire encoding: ring arrays as little-endian bit streams of l bits per element, and opaque byte strings.

A message is described by a `Spec` (ring array) or a `BlobSpec` (bytes); both have an exact `nbytes`, which the shapes
interpretation uses as well, so that priced and recorded sizes are one number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import Any

import numpy as np

from sim.concrete import CONCRETE
from sim.ring import Ring, RingArray, Spec

_RING = re.compile(r"z2\^([1-9][0-9]?)")
# Of a shape that comes from outside: what an array can have, and be asked about, whatever its content.
MOST_AXES = 32
MOST_ELEMENTS = 1 << 48
SHOWN = 120  # characters of a foreign value in an error


class WireMismatch(RuntimeError):
    """What came over the wire is not what the receiver's protocol text expects."""


@dataclass(frozen=True)
class BlobSpec:
    """A byte string of a known length: keys, ciphertexts, OT extension columns. `kind` names the content."""

    kind: str
    nbytes: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.nbytes,)


AnySpec = Spec | BlobSpec


@dataclass(frozen=True)
class Blob:
    """Opaque content of a message or of a local kernel. `data` is None in the shapes interpretation.

    `data` is bytes for everything real. In the world of ideal functionalities a blob stands for a real message of the
    same label and size: it has no byte representation and is recorded by its public header only. Its content is an
    object or nothing; `sealed` says that the receiver's view does not contain it (a ciphertext at the server).
    """

    spec: AnySpec
    data: Any = field(repr=False)
    sealed: bool = False

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes


Payload = RingArray | Blob


def encode(x: RingArray) -> bytes:
    """The bytes of a concrete array: l bits per element, little-endian, zero padding to whole bytes."""
    if x.ring.l == 1:
        return np.packbits(np.ascontiguousarray(x.value).reshape(-1), bitorder="little").tobytes()
    words = np.ascontiguousarray(x.value).reshape(-1).astype("<u8", copy=False)
    l = x.ring.l
    if l in (8, 16, 32, 64):
        return words.astype(f"<u{l // 8}").tobytes()
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :l]
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def decode(data: bytes, spec: Spec) -> RingArray:
    """Inverse of `encode`. Raises WireMismatch on a wrong length or non-zero padding."""
    if len(data) != spec.nbytes:
        raise WireMismatch(f"expected {spec.nbytes} bytes for {spec.ring} of shape {spec.shape}, got {len(data)}")
    l = spec.ring.l
    if l in (8, 16, 32, 64):
        words = np.frombuffer(data, f"<u{l // 8}").astype(np.uint64)
        return RingArray(CONCRETE, spec.ring, spec.shape, words.reshape(spec.shape))
    if not is_padded(data, spec):
        raise WireMismatch(f"non-zero padding after {spec.bits} bits")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: spec.bits]
    if l == 1:
        return RingArray(CONCRETE, spec.ring, spec.shape, bits.reshape(spec.shape))
    wide = np.zeros((spec.size, 64), np.uint8)
    wide[:, :l] = bits.reshape(spec.size, l)
    words = np.packbits(wide, axis=1, bitorder="little").view("<u8").astype(np.uint64)
    return RingArray(CONCRETE, spec.ring, spec.shape, words.reshape(spec.shape))


def is_padded(data: bytes, spec: Spec) -> bool:
    """Whether the bits that follow the last element in its byte are zero; data: of `spec.nbytes` bytes."""
    used = spec.bits % 8
    return used == 0 or data[-1] >> used == 0


def describe(spec: AnySpec) -> str:
    """One line for error messages and listings."""
    if isinstance(spec, Spec):
        return f"{spec.ring} of shape {spec.shape} ({spec.nbytes} bytes)"
    return f"{spec.kind} of {spec.nbytes} bytes"


def spec_of(payload: Payload) -> AnySpec:
    return payload.spec


def spec_to_json(spec: AnySpec) -> dict[str, Any]:
    """Public header of a message as plain JSON values."""
    if isinstance(spec, Spec):
        return {"kind": "ring", "dtype": f"z2^{spec.ring.l}", "shape": list(spec.shape)}
    return {"kind": spec.kind, "dtype": "bytes", "shape": [spec.nbytes]}


def spec_from_json(kind: str, dtype: str, shape: list[int]) -> AnySpec:
    """Inverse of `spec_to_json`; raises WireMismatch on anything else, and on shapes that no array can have."""
    if is_shape(shape) and isinstance(kind, str) and isinstance(dtype, str):
        if kind == "ring" and (width := _RING.fullmatch(dtype)) and 1 <= int(width[1]) <= 64:
            return Spec(Ring(int(width[1])), tuple(shape))
        if dtype == "bytes" and len(shape) == 1:
            return BlobSpec(kind, shape[0])
    raise WireMismatch(
        f"expected a ring array or a byte string of at most {MOST_AXES} axes and 2^48 elements, "
        f"got kind {quoted(kind)}, dtype {quoted(dtype)}, shape {quoted(shape)}"
    )


def is_shape(value: Any) -> bool:
    """Whether a JSON value is a shape that an array can have: an axis of length 0 makes no other one harmless."""
    if not isinstance(value, list) or len(value) > MOST_AXES or any(type(n) is not int or n < 0 for n in value):
        return False
    size: int = math.prod(max(n, 1) for n in value)
    return size <= MOST_ELEMENTS


def quoted(value: Any) -> str:
    """A foreign value in an error: on one line, escaped, its beginning where it is long."""
    return shortened(value)[:SHOWN]
