"""The entries of array nodes as hash-consed scalar terms: structure disappears, arithmetic stays.

A proof about entries needs no broadcasting rule and no index rule: all structural operations are done here, by numpy,
on arrays of term numbers. `signature` names a term up to renaming of its leaves, so entries that differ in nothing but
which inputs they read are proved once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.symbolic import CONST, LEAVES, Dag, Node, _thawed, cone

Numbers = NDArray[np.int64]
LEAF = "leaf"


@dataclass(frozen=True)
class Term:
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

    def term(self, op: str, args: tuple[int, ...], params: tuple[int, ...], l: int) -> int:
        key = Term(op, args, params, l)
        known = self._table.get(key)
        if known is None:
            known = self._table[key] = len(self.terms)
            self.terms.append(key)
        return known

    def array(self, number: int) -> Numbers:
        """The entries of an array node."""
        if number not in self._arrays:
            for n in cone(self.dag, [number]):
                if n not in self._arrays:
                    self._arrays[n] = self._entries(n, self.dag.nodes[n])
        return self._arrays[number]

    def _entries(self, number: int, node: Node) -> Numbers:
        l, shape = node.ring.l, node.shape
        if node.op == CONST:
            values = self.dag.constants[number]
            return _filled(shape, (self.term(CONST, (), (int(v),), l) for v in values.flat))
        if node.op in LEAVES:
            size = int(np.prod(shape))
            return _filled(shape, (self.term(LEAF, (), (number, i), l) for i in range(size)))
        args = [self._arrays[a] for a in node.args]
        if node.op in _STRUCTURE:
            return _STRUCTURE[node.op](node, args)
        if node.op == "sum":
            moved = np.moveaxis(args[0], node.params[0], 0)
            return _filled(shape, (self._total(moved[(slice(None), *at)], l) for at in np.ndindex(*shape)))
        if node.op == "matmul":
            a, b = args
            return _filled(shape, (self._dot(a[i], b[:, j], l) for i, j in np.ndindex(*shape)))
        flat = zip(*(a.flat for a in args), strict=True)
        return _filled(shape, (self.term(node.op, tuple(map(int, each)), node.params, l) for each in flat))

    def _total(self, parts: Iterable[Any], l: int) -> int:
        numbers = [int(p) for p in parts]
        if not numbers:
            return self.term(CONST, (), (0,), l)
        return reduce(lambda a, b: self.term("add", (a, b), (), l), numbers)

    def _dot(self, a: Numbers, b: Numbers, l: int) -> int:
        return self._total((self.term("mul", (int(x), int(y)), (), l) for x, y in zip(a, b, strict=True)), l)

    def cone(self, roots: Iterable[int]) -> list[int]:
        """All terms below these, themselves included, in topological order."""
        seen = set(roots)
        stack = list(seen)
        while stack:
            for a in self.terms[stack.pop()].args:
                if a not in seen:
                    seen.add(a)
                    stack.append(a)
        return sorted(seen)

    def signature(self, *roots: int) -> tuple[Any, ...]:
        """Equal for tuples of terms that are each other's images under a renaming of leaves.

        A leaf keeps its array's width and range of values (one per array), and loses which entry it is. Equality of two
        terms for all leaves is therefore equality for every tuple with the same signature.
        """
        local: dict[int, int] = {}
        rows: list[tuple[Any, ...]] = []
        for root in roots:
            stack = [root]
            while stack:
                number = stack[-1]
                if number in local:
                    stack.pop()
                    continue
                term = self.terms[number]
                waiting = [a for a in reversed(term.args) if a not in local]
                if waiting:
                    stack += waiting
                    continue
                stack.pop()
                params = (self._kind(term.params[0]),) if term.op == LEAF else term.params
                local[number] = len(rows)
                rows.append((term.op, params, term.l, *(local[a] for a in term.args)))
        return (*rows, *(local[root] for root in roots))

    def _kind(self, array: int) -> tuple[str, str]:
        node = self.dag.nodes[array]
        return node.op, node.label if node.op == "input" else ""


def _filled(shape: tuple[int, ...], numbers: Iterable[int]) -> Numbers:
    size = int(np.prod(shape))
    return np.fromiter(numbers, dtype=np.int64, count=size).reshape(shape)


_STRUCTURE: dict[str, Callable[[Node, list[Numbers]], Numbers]] = {
    "reshape": lambda node, args: args[0].reshape(node.shape),
    "transpose": lambda node, args: args[0].transpose(node.params),
    "index": lambda node, args: np.asarray(args[0][_thawed(node.params[0])]),
    "broadcast": lambda node, args: np.broadcast_to(args[0], node.shape),
    "concat": lambda node, args: np.concatenate(args, axis=node.params[0]),
}
