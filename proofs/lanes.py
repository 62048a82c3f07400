"""The first rung: a DAG evaluated on random and edge words, compared with its specification and with plain integers.

All lanes are computed at once, in the interpretation whose arrays carry a hidden last axis of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.exhaustive import Exhaustive
from proofs.hybrid import Demand
from proofs.symbolic import INPUT, Dag, Node, evaluate
from protocols.entry import Case, Entry
from sim.concrete import CONCRETE
from sim.ring import Ring, RingArray, Shape

LANES = 24
Words = NDArray[Any]


def mismatch(
    dag: Dag,
    got: Sequence[RingArray],
    want: Sequence[RingArray],
    assumed: Sequence[Demand],
    values: Sequence[Any],
    against: tuple[Entry, Case] | None,
) -> str | None:
    """A counterexample in words, or None. Lanes that violate an assumption are not counted."""
    ranges = {d.values.value: (d.low, d.high) for d in assumed if dag.nodes[d.values.value].op == INPUT}
    secrets = [v for v in values if isinstance(v, RingArray)]
    roots = [x.value for x in (*got, *want, *secrets, *(d.values for d in assumed))]
    leaves = _Leaves(dag, ranges)
    computed = evaluate(dag, roots, leaves, Exhaustive())

    def words(x: RingArray) -> Words:
        return np.broadcast_to(computed[x.value], (*x.shape, LANES)).reshape(-1, LANES)

    def plain(x: RingArray) -> NDArray[np.int64]:
        return _signed(x.ring, words(x))

    counted = np.ones(LANES, dtype=bool)
    for d in assumed:
        counted &= ((plain(d.values) >= d.low) & (plain(d.values) <= d.high)).all(axis=0)
    declared = counted & _declared(against, [plain(s) for s in secrets])
    for lane in np.flatnonzero(counted).tolist():
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            one, other = plain(a)[:, lane], plain(b)[:, lane]
            if not np.array_equal(one, other):
                return f"output {k} is {_few(one)}, expected {_few(other)}, {leaves.shown(lane)}"
        if against is not None and against[0].relation is None and declared[lane]:
            inputs = [plain(s)[:, lane].reshape(s.shape) for s in secrets]
            outputs = [(x.ring, x.shape, words(x)[:, lane].reshape(x.shape)) for x in want]
            problem = _differs(against, inputs, outputs)
            if problem is not None:
                return f"{problem}, {leaves.shown(lane)}"
    return None


def _signed(ring: Ring, words: Words) -> NDArray[np.int64]:
    """Signed representatives; bits as 0 and 1."""
    if ring.l == 1:
        return words.astype(np.int64)
    shift = 64 - ring.l
    return (words.astype(np.uint64) << np.uint64(shift)).view(np.int64) >> np.int64(shift)


def _declared(against: tuple[Entry, Case] | None, values: Sequence[Words]) -> NDArray[np.bool_]:
    """The lanes in the declared ranges of the secrets, where the functionality in plain integers is the ring's: beyond
    them its differences need not wrap alike. (The ranges of a case that adjusts its values are for drawing only.)"""
    inside = np.ones(LANES, dtype=bool)
    if against is not None and not against[0].share_level and against[1].adjust is None:
        for secret, value in zip(against[1].secrets, values, strict=True):
            low, high = secret.range
            inside &= ((value >= low) & (value <= high)).all(axis=0)
    return inside


def _differs(
    against: tuple[Entry, Case], values: Sequence[Words], want: Sequence[tuple[Ring, Shape, Words]]
) -> str | None:
    """Whether the contract is not the functionality in plain integers, on these values."""
    entry, case = against
    with np.errstate(over="ignore"):
        width = {"l": case.secrets[0].ring.l} if entry.share_level else {}
        outputs = _flat(entry.realises.compute(*values, **case.public, **width))
    for k, (expected, (ring, shape, contract)) in enumerate(zip(outputs, want[: len(outputs)], strict=True)):
        reduced = CONCRETE.const(ring, shape, np.asarray(expected).astype(np.uint64))
        if not np.array_equal(reduced, contract):
            return f"contract's output {k} is {_few(contract)}, the functionality's {_few(reduced)}"
    return None


def _flat(output: Any) -> list[Words]:
    if isinstance(output, list | tuple):
        return [leaf for part in output for leaf in _flat(part)]
    return [np.asarray(output)]


class _Leaves:
    """Reproducible words for the leaves in all lanes: uniform, small, or at an edge of the range."""

    def __init__(self, dag: Dag, ranges: dict[int, tuple[int, int]]) -> None:
        self.ranges = {(dag.nodes[n].params, dag.nodes[n].op): bounds for n, bounds in ranges.items()}
        self.inputs: list[tuple[str, Words]] = []

    def __call__(self, node: Node) -> Words:
        seed = hashlib.sha256(f"{node.owner} {node.label}".encode()).digest()
        rng = np.random.Generator(np.random.Philox(int.from_bytes(seed[:8], "little")))
        half = 1 << (node.ring.l - 1)
        low, high = self.ranges.get((node.params, node.op), (-half, half - 1) if node.ring.l > 1 else (0, 1))
        words = _words(rng, (*node.shape, LANES), low, high) & np.uint64(node.ring.mask)
        if node.op == INPUT:
            self.inputs.append((f"{node.owner} {node.label}", words.reshape(-1, LANES)))
        return words.astype(np.uint8) if node.ring.l <= 8 else words  # as the interpretation stores them

    def shown(self, lane: int) -> str:
        return "at " + "; ".join(f"{name} = {_few(words[:, lane])}" for name, words in self.inputs[:6])


def _words(rng: np.random.Generator, shape: Shape, low: int, high: int) -> NDArray[np.uint64]:
    """Integers in [low, high] modulo 2^64: a quarter at an edge, a quarter near 0 or near the range, half uniform."""

    def word(v: int) -> np.uint64:
        return np.uint64(v & (2**64 - 1))

    raw = rng.integers(0, 2**64, shape, np.uint64)
    span = high - low + 1
    anywhere = word(low) + (raw % word(span) if span < 2**64 else raw)
    edges = np.array([word(v) for v in (low, low + 1, -1, 0, 1, high - 1, high) if low <= v <= high])
    at_edge = edges[rng.integers(0, len(edges), shape)]
    near = min(max(0, low), high)
    masks = np.array([word((1 << size) - 1) for size in range(span.bit_length())])
    small = raw & masks[rng.integers(0, len(masks), shape)]
    around = np.where(small <= word(high - near), word(near) + small, word(near))
    around = np.where((small > word(high - near)) & (small <= word(near - low)), word(near) - small, around)
    kind = rng.integers(0, 4, shape)
    return np.where(kind == 0, at_edge, np.where(kind == 1, around, anywhere))


def _few(words: Words) -> str:
    flat = [str(int(v)) for v in words.flat[:6]]
    return "[" + ", ".join(flat) + (", ..." if words.size > 6 else "") + "]"
