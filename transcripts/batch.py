"""The batched interpretation: one run of a protocol text computes many hybrid runs at once.

Values are numpy words as in `sim.concrete`, with a leading axis of lanes; a public constant has one lane. Every draw
takes its own words for every lane, so lane by lane this is the concrete interpretation under independent tapes.
A text that looks at the words themselves (a secret-dependent schedule) has no batched run: `sim.concrete.to_words`
refuses the arrays with a TypeError, and the audit runs such a protocol lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.concrete import CONCRETE, to_words
from sim.ring import Index, Ring, RingArray, Shape, Spec
from sim.tape import Tape, draw_nbytes, words_from_bytes

Words = NDArray[Any]
Tamper = Callable[[str, str, Spec, Words], Words]  # owner, label, spec, honest words -> the words of a planted fault


class Strings(tuple[bytes, ...]):
    """What a message of bytes says in every lane: byte strings of one length."""


class Batch:
    """An implementation of `sim.ring.Backend` over `lanes` runs. draws: the ledger of (owner, label, words)."""

    name = "batch"

    def __init__(self, lanes: int, tamper: Tamper | None = None) -> None:
        self.lanes = lanes
        self.draws: list[tuple[str, str, Spec, Words]] = []
        self._tamper = tamper

    def _wide(self, a: Words) -> Words:
        return np.broadcast_to(a, (self.lanes, *a.shape[1:]))

    def const(self, ring: Ring, shape: Shape, value: Words) -> Words:
        return np.asarray(CONCRETE.const(ring, shape, value)[None])

    def draw(self, spec: Spec, tape: Tape, label: str) -> Words:
        every = Spec(spec.ring, (self.lanes, *spec.shape))
        words: Words = words_from_bytes(tape.bytes(label, draw_nbytes(every.ring, every.shape)), every)
        if self._tamper is not None:
            words = self._tamper(tape.owner, label, spec, words)
        self.draws.append((tape.owner, label, spec, words))
        return words

    def add(self, ring: Ring, a: Words, b: Words) -> Words:
        return CONCRETE.add(ring, a, b)

    def sub(self, ring: Ring, a: Words, b: Words) -> Words:
        return CONCRETE.sub(ring, a, b)

    def mul(self, ring: Ring, a: Words, b: Words) -> Words:
        return CONCRETE.mul(ring, a, b)

    def neg(self, ring: Ring, a: Words) -> Words:
        return CONCRETE.neg(ring, a)

    def matmul(self, ring: Ring, a: Words, b: Words) -> Words:
        return CONCRETE.matmul(ring, a, b)

    def shl(self, ring: Ring, a: Words, k: int) -> Words:
        return CONCRETE.shl(ring, a, k)

    def shr(self, ring: Ring, a: Words, k: int) -> Words:
        return CONCRETE.shr(ring, a, k)

    def cast(self, src: Ring, dst: Ring, a: Words) -> Words:
        return CONCRETE.cast(src, dst, a)

    def equals(self, ring: Ring, a: Words, c: int) -> Words:
        return CONCRETE.equals(ring, a, c)

    def reshape(self, a: Words, shape: Shape) -> Words:
        return np.asarray(a.reshape(a.shape[0], *shape))

    def transpose(self, a: Words, axes: Shape) -> Words:
        return np.asarray(a.transpose(0, *(axis + 1 for axis in axes)))

    def index(self, a: Words, where: Index) -> Words:
        inner = where if isinstance(where, tuple) else (where,)
        return np.asarray(a[(slice(None), *inner)])

    def broadcast(self, a: Words, shape: Shape) -> Words:
        fill = (1,) * (len(shape) - (a.ndim - 1))
        return np.broadcast_to(a.reshape(a.shape[0], *fill, *a.shape[1:]), (a.shape[0], *shape))

    def concat(self, parts: Sequence[Words], axis: int) -> Words:
        lanes = max(part.shape[0] for part in parts)
        return np.concatenate([np.broadcast_to(part, (lanes, *part.shape[1:])) for part in parts], axis=axis + 1)

    def sum(self, ring: Ring, a: Words, axis: int) -> Words:
        return CONCRETE.sum(ring, a, axis + 1)

    # -- in and out ----------------------------------------------------------------------------------------------
    def lift(self, ring: Ring, words: Words) -> RingArray:
        """An input with its own words in every lane; words: (lanes, *shape), integers, reduced modulo 2^l."""
        reduced = np.asarray(words).astype(np.uint64) & np.uint64(ring.mask)
        value = reduced.astype(np.uint8) if ring.l == 1 else reduced
        return RingArray(self, ring, value.shape[1:], value)

    def lower(self, x: RingArray) -> NDArray[np.uint64]:
        """The words of an array, (lanes, size)."""
        if x.backend is CONCRETE:  # a constant that a service prepared
            return np.broadcast_to(to_words(x).reshape(1, -1), (self.lanes, x.size))
        return self._wide(np.asarray(x.value).reshape(x.value.shape[0], -1)).astype(np.uint64)
