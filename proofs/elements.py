"""The entries of array nodes as hash-consed scalar terms: structure disappears, arithmetic stays.

A proof about entries needs no broadcasting rule and no index rule: all structural operations are done here, by numpy,
on arrays of term numbers. Entries that differ in nothing but which inputs they read are proved once: `images` finds,
within one DAG, the terms that are another one with leaves put for its leaves; `shape_of` names a term so that the same
statement is known again in another DAG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proofs.symbolic import CONST, INPUT, LEAVES, Dag, Node, _thawed, cone

Numbers = NDArray[np.int64]
LEAF = "leaf"


class Term(NamedTuple):
    """One scalar operation of width l. A leaf: params (array node, flat index); a constant: params (value,)."""

    op: str
    args: tuple[int, ...]
    params: tuple[int, ...]
    l: int


class Elements:
    """Scalar terms of one DAG, made on demand; numbers are in topological order."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.terms: list[Term] = []
        self._table: dict[Term, int] = {}
        self._arrays: dict[int, Numbers] = {}
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._columns: tuple[list[int], list[int], list[int]] = [], [], []  # kind and operands (or 0) of each term
        self._matrix: Numbers = np.empty((3, 0), dtype=np.int64)

    def term(self, op: str, args: tuple[int, ...], params: tuple[int, ...], l: int) -> int:
        key = Term(op, args, params, l)
        known = self._table.get(key)
        return self._made(key, self._kind(op, params, l)) if known is None else known

    def _made(self, term: Term, kind: int) -> int:
        number = self._table[term] = len(self.terms)
        self.terms.append(term)
        kinds, left, right = self._columns
        kinds.append(kind)
        left.append(term.args[0] if term.args else 0)
        right.append(term.args[1] if len(term.args) == 2 else 0)
        return number

    def _kind(self, op: str, params: tuple[int, ...], l: int) -> int:
        """A number for all of a term but its operands, and but which entry of its array a leaf is. Draws are all alike;
        inputs may have ranges, one for each array."""
        what: tuple[Any, ...] = params
        if op == LEAF:
            node = self.dag.nodes[params[0]]
            what = (node.op, node.owner, node.label) if node.op == INPUT else (node.op,)
        return self._kinds.setdefault((op, l, what), len(self._kinds))

    def array(self, number: int) -> Numbers:
        """The entries of an array node."""
        if number not in self._arrays:
            for n in cone(self.dag, [number]):
                if n not in self._arrays:
                    self._arrays[n] = self._entries(n, self.dag.nodes[n])
        return self._arrays[number]

    def _entries(self, number: int, node: Node) -> Numbers:
        l, shape, op = node.ring.l, node.shape, node.op
        if op == CONST:
            values = self.dag.constants[number]
            return _filled(shape, (self.term(CONST, (), (int(v),), l) for v in values.flat))
        if op in LEAVES:
            return _filled(shape, (self.term(LEAF, (), (number, i), l) for i in range(math.prod(shape))))
        args = [self._arrays[a] for a in node.args]
        if op in _STRUCTURE:
            return _STRUCTURE[op](node, args)
        if op == "sum":
            return self._total(np.moveaxis(args[0], node.params[0], 0), l)
        if op == "matmul":
            (n, k), m = args[0].shape, args[1].shape[1]
            left = np.broadcast_to(args[0].T[:, :, None], (k, n, m))
            right = np.broadcast_to(args[1][:, None, :], (k, n, m))
            return self._total(self._each("mul", (), l, left, right), l)
        return self._each(op, node.params, l, *args)

    def _each(self, op: str, params: tuple[int, ...], l: int, *args: Numbers) -> Numbers:
        """An operation entry by entry."""
        table, kind = self._table, self._kind(op, params, l)
        out = []
        for each in zip(*(a.ravel().tolist() for a in args), strict=True):
            key = Term(op, each, params, l)
            known = table.get(key)
            out.append(self._made(key, kind) if known is None else known)
        return np.array(out, dtype=np.int64).reshape(args[0].shape)

    def _total(self, parts: Numbers, l: int) -> Numbers:
        """The sum over the first axis, from its first entry on."""
        if not len(parts):
            return np.full(parts.shape[1:], self.term(CONST, (), (0,), l), dtype=np.int64)
        total = parts[0]
        for part in parts[1:]:
            total = self._each("add", (), l, total, part)
        return np.asarray(total)

    def cone(self, roots: Iterable[int]) -> list[int]:
        """All terms below these, themselves included, in topological order."""
        terms = self.terms
        seen = set(roots)
        stack = list(seen)
        while stack:
            for a in terms[stack.pop()].args:
                if a not in seen:
                    seen.add(a)
                    stack.append(a)
        return sorted(seen)

    def missing(self, root: int, known: Container[int]) -> list[int]:
        """The terms of a cone that are not known, in topological order; below a known term all are."""
        if root in known:
            return []
        terms, seen, stack = self.terms, {root}, [root]
        while stack:
            for a in terms[stack.pop()].args:
                if a not in seen and a not in known:
                    seen.add(a)
                    stack.append(a)
        return sorted(seen)

    # -- terms that are alike --------------------------------------------------------------------------------------
    def images(self, roots: Sequence[int], candidates: Numbers) -> NDArray[np.bool_]:
        """Which rows of candidates (rows, len(roots)) are the roots with leaves put for their leaves.

        An input's leaf is replaced by one of the same input, a draw's by one of any draw. What holds of the roots for
        all words of draws, and all words of inputs in their arrays' ranges, holds of every image.
        """
        if self._matrix.shape[1] < len(self.terms):
            self._matrix = np.array(self._columns, dtype=np.int64)
        kinds, *operands = self._matrix
        good = np.ones(len(candidates), dtype=bool)
        found: dict[int, Numbers] = {}
        stack = [(root, candidates[:, i]) for i, root in enumerate(roots)]
        while stack and good.any():
            term, images = stack.pop()
            if term in found:
                good &= found[term] == images  # every use of a term has one image
                continue
            found[term] = images
            good &= kinds[images] == kinds[term]
            stack += [(a, column[images]) for a, column in zip(self.terms[term].args, operands, strict=False)]
        return good

    def shape_of(self, roots: Sequence[int], marks: Callable[[int], Any]) -> tuple[Any, ...]:
        """Terms without the names of their leaves; of each leaf, by array node, remains what `marks` tells of it.

        Equal for the terms of another DAG: those are these ones under a renaming of leaves.
        """
        numbers = self.cone(roots)
        place = {number: i for i, number in enumerate(numbers)}
        rows: list[Any] = []
        for number in numbers:
            op, args, params, l = self.terms[number]
            rows.append((op, l, marks(params[0]) if op == LEAF else params, *[place[a] for a in args]))
        return (*rows, *[place[root] for root in roots])


def _filled(shape: tuple[int, ...], numbers: Iterable[int]) -> Numbers:
    size = math.prod(shape)
    return np.fromiter(numbers, dtype=np.int64, count=size).reshape(shape)


_STRUCTURE: dict[str, Callable[[Node, list[Numbers]], Numbers]] = {
    "reshape": lambda node, args: args[0].reshape(node.shape),
    "transpose": lambda node, args: args[0].transpose(node.params),
    "index": lambda node, args: np.asarray(args[0][_thawed(node.params[0])]),
    "broadcast": lambda node, args: np.broadcast_to(args[0], node.shape),
    "concat": lambda node, args: np.concatenate(args, axis=node.params[0]),
}
