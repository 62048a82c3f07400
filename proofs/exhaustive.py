"""The exhaustive interpretation: every array carries one more, hidden, last axis of lanes, one per run.

One run of the protocol text computes all its runs at once: leaf by leaf, the bits of the lane number are the leaf's
value. No DAG and no rule: together with `proofs.enumerate` this is the second opinion on the privacy engine, and shares
with it the protocol text, the ideal functionalities and the array front end only. Words of up to 8 bits are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.ring import Index, Ring, RingArray, Shape, Spec

Words = NDArray[Any]
Leaf = tuple[str, str, str]  # kind ("input" or "draw"), owner, label


def _dtype(ring: Ring) -> type[np.uint8] | type[np.uint64]:
    return np.uint8 if ring.l <= 8 else np.uint64


def _reduce(ring: Ring, a: Words) -> Words:
    return np.asarray(a & _dtype(ring)(ring.mask)) if ring.l not in (8, 64) else np.asarray(a)


def digits(lane: Words, offset: int, spec: Spec) -> Words:
    """The value of a leaf whose bits start at `offset` of the lane number: (*spec.shape, lanes)."""
    l = spec.ring.l
    each = [((lane >> (offset + l * i)) & spec.ring.mask).astype(_dtype(spec.ring)) for i in range(spec.size)]
    return np.stack(each).reshape(*spec.shape, len(lane)) if each else np.zeros((*spec.shape, 1), _dtype(spec.ring))


class Exhaustive:
    """A `sim.ring.Backend`. Without offsets it is a probe: one lane of zeros that only takes note of the leaves."""

    name = "exhaustive"

    def __init__(self, offsets: Mapping[Leaf, int] | None = None, bits: int = 0) -> None:
        self.offsets = offsets
        self.lane = np.arange(1 << bits, dtype=np.int64)
        self.leaves: dict[Leaf, Spec] = {}

    def leaf(self, kind: str, owner: str, label: str, spec: Spec) -> Words:
        """Raises ValueError when the same leaf is made twice."""
        key = (kind, owner, label)
        if key in self.leaves:
            raise ValueError(f"{owner}'s {kind} {label!r} was made twice")
        self.leaves[key] = spec
        if self.offsets is None:
            return np.zeros((*spec.shape, 1), _dtype(spec.ring))
        return digits(self.lane, self.offsets[key], spec)

    def input(self, owner: str, label: str, spec: Spec) -> RingArray:
        """A secret that takes every value."""
        return RingArray(self, spec.ring, spec.shape, self.leaf("input", owner, label, spec))

    # -- the closed operation set --------------------------------------------------------------------------------
    def const(self, ring: Ring, shape: Shape, value: Words) -> Words:
        words = np.broadcast_to(value, shape).astype(np.uint64) & np.uint64(ring.mask)
        return np.asarray(words.astype(_dtype(ring)))[..., None]

    def draw(self, spec: Spec, tape: Any, label: str) -> Words:
        return self.leaf("draw", tape.owner, label, spec)

    def add(self, ring: Ring, a: Words, b: Words) -> Words:
        return _reduce(ring, a + b)

    def sub(self, ring: Ring, a: Words, b: Words) -> Words:
        return _reduce(ring, a - b)

    def mul(self, ring: Ring, a: Words, b: Words) -> Words:
        return _reduce(ring, a * b)

    def neg(self, ring: Ring, a: Words) -> Words:
        return _reduce(ring, ~a + _dtype(ring)(1))

    def matmul(self, ring: Ring, a: Words, b: Words) -> Words:
        product = np.moveaxis(a, -1, 0) @ np.moveaxis(b, -1, 0)
        return _reduce(ring, np.moveaxis(product, 0, -1))

    def shl(self, ring: Ring, a: Words, k: int) -> Words:
        return _reduce(ring, a << _dtype(ring)(k))

    def shr(self, ring: Ring, a: Words, k: int) -> Words:
        return np.asarray(a >> _dtype(ring)(k))

    def cast(self, src: Ring, dst: Ring, a: Words) -> Words:
        narrow = a & _dtype(src)(dst.mask) if dst.l < src.l else a
        return np.asarray(narrow.astype(_dtype(dst)))

    def equals(self, ring: Ring, a: Words, c: int) -> Words:
        return np.asarray((a == _dtype(ring)(c)).astype(np.uint8))

    def reshape(self, a: Words, shape: Shape) -> Words:
        return np.asarray(a.reshape(*shape, a.shape[-1]))

    def transpose(self, a: Words, axes: Shape) -> Words:
        return np.asarray(a.transpose(*axes, a.ndim - 1))

    def index(self, a: Words, where: Index) -> Words:
        parts = where if isinstance(where, tuple) else (where,)
        return np.asarray(a[(*parts, slice(None))] if Ellipsis in parts else a[parts])

    def broadcast(self, a: Words, shape: Shape) -> Words:
        return np.broadcast_to(a, (*shape, a.shape[-1]))

    def concat(self, parts: Sequence[Words], axis: int) -> Words:
        lanes = max(part.shape[-1] for part in parts)
        return np.concatenate([np.broadcast_to(p, (*p.shape[:-1], lanes)) for p in parts], axis=axis)

    def sum(self, ring: Ring, a: Words, axis: int) -> Words:
        return _reduce(ring, a.sum(axis=axis, dtype=_dtype(ring)))
