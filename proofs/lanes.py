"""The first rung: a DAG evaluated on random and edge words, compared with its specification and with plain integers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.hybrid import Demand
from proofs.symbolic import INPUT, Dag, Node, evaluate
from protocols.catalog import Case, Entry
from sim.concrete import CONCRETE, to_signed, to_words
from sim.ring import RingArray

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
    for lane in range(LANES):
        leaves = _Leaves(dag, ranges, lane)
        words = evaluate(dag, roots, leaves)

        def plain(x: RingArray, words: dict[int, Words] = words) -> NDArray[np.int64]:
            array = RingArray(CONCRETE, x.ring, x.shape, words[x.value])
            return to_words(array).astype(np.int64) if x.ring.l == 1 else to_signed(array)

        if any(((plain(d.values) < d.low) | (plain(d.values) > d.high)).any() for d in assumed):
            continue
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            if not np.array_equal(words[a.value], words[b.value]):
                return f"output {k} is {_few(plain(a))}, expected {_few(plain(b))}, {leaves.shown()}"
        if against is not None and against[0].relation is None:
            problem = _differs(against, [plain(s) for s in secrets], [(x, words[x.value]) for x in want])
            if problem is not None:
                return f"{problem}, {leaves.shown()}"
    return None


def _differs(
    against: tuple[Entry, Case], values: Sequence[Words], want: Sequence[tuple[RingArray, Words]]
) -> str | None:
    """Whether the contract is not the functionality in plain integers, on these values."""
    entry, case = against
    with np.errstate(over="ignore"):
        width = {"l": case.secrets[0].ring.l} if entry.share_level else {}
        outputs = _flat(entry.realises.compute(*values, **case.public, **width))
    for k, (expected, (x, contract)) in enumerate(zip(outputs, want[: len(outputs)], strict=True)):
        reduced = CONCRETE.const(x.ring, x.shape, np.asarray(expected).astype(np.uint64))
        if not np.array_equal(reduced, contract):
            return f"contract's output {k} is {_few(contract)}, the functionality's {_few(reduced)}"
    return None


def _flat(output: Any) -> list[Words]:
    if isinstance(output, list | tuple):
        return [leaf for part in output for leaf in _flat(part)]
    return [np.asarray(output)]


class _Leaves:
    """Reproducible words for the leaves of a lane: uniform, small, or at an edge of the range."""

    def __init__(self, dag: Dag, ranges: dict[int, tuple[int, int]], lane: int) -> None:
        self.ranges = {(dag.nodes[n].params, dag.nodes[n].op): bounds for n, bounds in ranges.items()}
        self.lane = lane
        self.inputs: list[tuple[str, Words]] = []

    def __call__(self, node: Node) -> Words:
        seed = hashlib.sha256(f"{self.lane} {node.owner} {node.label}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        half = 1 << (node.ring.l - 1)
        low, high = self.ranges.get((node.params, node.op), (-half, half - 1) if node.ring.l > 1 else (0, 1))
        size = int(np.prod(node.shape))
        kinds = rng.integers(0, 4, size)
        out = np.empty(size, dtype=object)
        for i, kind in enumerate(kinds):
            out[i] = self._word(rng, int(kind), low, high)
        words = np.array([int(v) & node.ring.mask for v in out], dtype=np.uint64).reshape(node.shape)
        if node.op == INPUT:
            self.inputs.append((f"{node.owner} {node.label}", words))
        return words

    def _word(self, rng: np.random.Generator, kind: int, low: int, high: int) -> int:
        if kind == 0:
            edges = [v for v in (low, low + 1, -1, 0, 1, high - 1, high) if low <= v <= high]
            return edges[int(rng.integers(0, len(edges)))]
        span = high - low + 1
        if kind == 1:
            size = int(rng.integers(0, span.bit_length()))
            small = int.from_bytes(rng.bytes(9), "little") % (1 << size)
            near = min(max(0, low), high)
            return near + (small if near + small <= high else -small if near - small >= low else 0)
        return low + int.from_bytes(rng.bytes(16), "little") % span

    def shown(self) -> str:
        return "at " + "; ".join(f"{name} = {_few(words)}" for name, words in self.inputs[:6])


def _few(words: Words) -> str:
    flat = [str(int(v)) for v in words.flat[:6]]
    return "[" + ", ".join(flat) + (", ..." if words.size > 6 else "") + "]"
