"""The concrete interpretation: numpy words. Z_2 as uint8, every other ring as uint64 reduced modulo 2^l."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.ring import Index, Ring, RingArray, Shape, Spec, constant
from sim.tape import Tape, draw_nbytes, words_from_bytes

Words = NDArray[Any]


def _dtype(ring: Ring) -> type[np.uint8] | type[np.uint64]:
    return np.uint8 if ring.l == 1 else np.uint64


def _reduce(ring: Ring, a: Words) -> Words:
    if ring.l == 64:
        return a
    return a & _dtype(ring)(ring.mask)


class Concrete:
    """Numpy implementation of `sim.ring.Backend`; unsigned arithmetic wraps modulo 2^64, then reduces to 2^l."""

    name = "concrete"

    def const(self, ring: Ring, shape: Shape, value: Words) -> Words:
        words = np.array(np.broadcast_to(value, shape), dtype=np.uint64) & np.uint64(ring.mask)
        return np.asarray(words.astype(_dtype(ring)))

    def draw(self, spec: Spec, tape: Tape, label: str) -> Words:
        """Uniform elements from a tape, under a label used once."""
        return words_from_bytes(tape.bytes(label, draw_nbytes(spec.ring, spec.shape)), spec)

    def add(self, ring: Ring, a: Words, b: Words) -> Words:
        return np.asarray(a ^ b if ring.l == 1 else _reduce(ring, a + b))

    def sub(self, ring: Ring, a: Words, b: Words) -> Words:
        return np.asarray(a ^ b if ring.l == 1 else _reduce(ring, a - b))

    def mul(self, ring: Ring, a: Words, b: Words) -> Words:
        return np.asarray(a & b if ring.l == 1 else _reduce(ring, a * b))

    def neg(self, ring: Ring, a: Words) -> Words:
        return np.asarray(a if ring.l == 1 else _reduce(ring, np.uint64(0) - a))

    def matmul(self, ring: Ring, a: Words, b: Words) -> Words:
        return np.asarray(_reduce(ring, a @ b))

    def shl(self, ring: Ring, a: Words, k: int) -> Words:
        return np.asarray(_reduce(ring, a << _dtype(ring)(k)))

    def shr(self, ring: Ring, a: Words, k: int) -> Words:
        return np.asarray(a >> _dtype(ring)(k))

    def cast(self, src: Ring, dst: Ring, a: Words) -> Words:
        narrowed = _reduce(dst, a.astype(np.uint64)) if dst.l < src.l else a
        return np.asarray(narrowed.astype(_dtype(dst)))

    def equals(self, ring: Ring, a: Words, c: int) -> Words:
        return np.asarray((a == _dtype(ring)(c)).astype(np.uint8))

    def reshape(self, a: Words, shape: Shape) -> Words:
        return np.asarray(a.reshape(shape))

    def transpose(self, a: Words, axes: Shape) -> Words:
        return np.asarray(a.transpose(axes))

    def index(self, a: Words, where: Index) -> Words:
        return np.asarray(a[where])

    def broadcast(self, a: Words, shape: Shape) -> Words:
        return np.broadcast_to(a, shape)

    def concat(self, parts: Sequence[Words], axis: int) -> Words:
        return np.concatenate(list(parts), axis=axis)

    def sum(self, ring: Ring, a: Words, axis: int) -> Words:
        inner = axis % a.ndim < a.ndim - 1
        if ring.l == 1 and inner and a.shape[axis]:  # bits: numpy reduces an inner axis in loops of a byte or two
            first, *others = np.moveaxis(a, axis, 0)
            total = first.copy()
            for part in others:
                total ^= part
            return np.asarray(total)
        return np.asarray(_reduce(ring, a.sum(axis=axis, dtype=_dtype(ring))))


CONCRETE = Concrete()


def from_words(ring: Ring, words: Any) -> RingArray:
    """A concrete ring array of integers, reduced modulo 2^l: a numpy array, signed or unsigned, or nested lists."""
    return constant(CONCRETE, ring, words)


def to_words(x: RingArray) -> NDArray[np.uint64]:
    """The words of a concrete array, for kernels, encoders and tests; protocol text has no use for it."""
    if x.backend is not CONCRETE:
        raise TypeError(f"expected a concrete array, got the {x.backend.name} interpretation")
    return np.ascontiguousarray(x.value, dtype=np.uint64).reshape(x.shape)


def to_signed(x: RingArray) -> NDArray[np.int64]:
    """The representatives in [-2^(l-1), 2^(l-1))."""
    shift = np.uint64(64 - x.ring.l)
    return (to_words(x) << shift).view(np.int64) >> np.int64(shift)
