"""The symbolic interpretation: one hash-consed DAG node per array operation, of the same protocol text that runs.

A `Dag` is a `sim.ring.Backend`. Nothing is rewritten when nodes are made: a proof is about the code that runs. Leaves
carry an owner (a party, or an ideal functionality) and the label of their draw or input; every other node carries the
source line of the protocol text that made it. `evaluate` computes a DAG on concrete leaves: translation validation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.concrete import CONCRETE
from sim.ring import Backend, Index, Ring, RingArray, Shape, Spec, selected

INPUT, DRAW, CONST = "input", "draw", "const"
LEAVES = frozenset({INPUT, DRAW, CONST})
_FRONT_END = ("sim.", "proofs.")  # packages whose frames are not protocol text


class Node(NamedTuple):
    """One array operation. args: node numbers; params: public parameters, hashable; line: where the text made it."""

    op: str
    args: tuple[int, ...]
    params: tuple[Any, ...]
    ring: Ring
    shape: Shape
    line: str

    @property
    def label(self) -> str:
        """Of a leaf: the label of its draw or input."""
        return str(self.params[1]) if self.op == DRAW or self.op == INPUT else ""

    @property
    def owner(self) -> str:
        """Of a leaf: who knows it."""
        return str(self.params[0]) if self.op == DRAW or self.op == INPUT else ""


@cache
def _is_front_end(module: str) -> bool:
    return module.startswith(_FRONT_END)


def _source_line() -> str:
    """package.module:line of the innermost frame of protocol text."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _is_front_end(frame.f_globals["__name__"]):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}:{frame.f_lineno}"


def _frozen(where: Index) -> Any:
    """A static index as a hashable value."""
    if isinstance(where, tuple):
        return ("tuple", *(_frozen(part) for part in where))
    if isinstance(where, slice):
        return ("slice", where.start, where.stop, where.step)
    return "..." if where is Ellipsis else where


def _thawed(key: Any) -> Index:
    if isinstance(key, tuple) and key and key[0] == "tuple":
        return tuple(_thawed(part) for part in key[1:])
    if isinstance(key, tuple) and key and key[0] == "slice":
        return slice(*key[1:])
    return Ellipsis if key == "..." else key


class Dag:
    """A growing DAG; a value of this backend is a node number."""

    name = "symbolic"

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._table: dict[tuple[Any, ...], int] = {}
        self.constants: dict[int, NDArray[np.uint64]] = {}

    def node(self, op: str, args: Sequence[int], params: tuple[Any, ...], ring: Ring, shape: Shape) -> int:
        args = tuple(args)
        key = (op, args, params, ring.l, shape)
        known = self._table.get(key)
        if known is None:
            known = self._table[key] = len(self.nodes)
            self.nodes.append(Node(op, args, params, ring, shape, _source_line()))
        return known

    def leaf(self, owner: str, label: str, spec: Spec, op: str = INPUT) -> RingArray:
        """An input symbol."""
        return RingArray(self, spec.ring, spec.shape, self.node(op, (), (owner, label), spec.ring, spec.shape))

    def _like(self, op: str, ring: Ring, a: int, *rest: int, params: tuple[Any, ...] = ()) -> int:
        return self.node(op, (a, *rest), params, ring, self.nodes[a].shape)

    # -- the closed operation set --------------------------------------------------------------------------------
    def const(self, ring: Ring, shape: Shape, value: NDArray[np.uint64]) -> int:
        if not value.ndim:
            known = self._table.get((CONST, (), (int(value) & ring.mask,), ring.l, shape))
            if known is not None:
                return known
        words = np.broadcast_to(value, shape) & np.uint64(ring.mask)
        first = int(words.flat[0]) if words.size else 0
        uniform = bool((words == np.uint64(first)).all())
        params = (first,) if uniform else (words.tobytes(),)
        number = self.node(CONST, (), params, ring, shape)
        self.constants.setdefault(number, np.asarray(words, dtype=np.uint64))
        return number

    def draw(self, spec: Spec, tape: Any, label: str) -> int:
        key = (DRAW, (), (tape.owner, label), spec.ring.l, spec.shape)
        if key in self._table:
            raise ValueError(f"{tape.owner}'s draw {label!r} was made twice")
        return self.node(DRAW, (), (tape.owner, label), spec.ring, spec.shape)

    def add(self, ring: Ring, a: int, b: int) -> int:
        return self._like("add", ring, a, b)

    def sub(self, ring: Ring, a: int, b: int) -> int:
        return self._like("sub", ring, a, b)

    def mul(self, ring: Ring, a: int, b: int) -> int:
        return self._like("mul", ring, a, b)

    def neg(self, ring: Ring, a: int) -> int:
        return self._like("neg", ring, a)

    def matmul(self, ring: Ring, a: int, b: int) -> int:
        return self.node("matmul", (a, b), (), ring, (self.nodes[a].shape[0], self.nodes[b].shape[1]))

    def shl(self, ring: Ring, a: int, k: int) -> int:
        return self._like("shl", ring, a, params=(k,))

    def shr(self, ring: Ring, a: int, k: int) -> int:
        return self._like("shr", ring, a, params=(k,))

    def cast(self, src: Ring, dst: Ring, a: int) -> int:
        return self._like("cast", dst, a)

    def equals(self, ring: Ring, a: int, c: int) -> int:
        return self._like("equals", Ring(1), a, params=(c,))

    def reshape(self, a: int, shape: Shape) -> int:
        return self.node("reshape", (a,), (), self.nodes[a].ring, shape)

    def transpose(self, a: int, axes: Shape) -> int:
        node = self.nodes[a]
        return self.node("transpose", (a,), axes, node.ring, tuple(node.shape[i] for i in axes))

    def index(self, a: int, where: Index) -> int:
        node = self.nodes[a]
        return self.node("index", (a,), (_frozen(where),), node.ring, selected(node.shape, where))

    def broadcast(self, a: int, shape: Shape) -> int:
        return self.node("broadcast", (a,), (), self.nodes[a].ring, shape)

    def concat(self, parts: Sequence[int], axis: int) -> int:
        first = self.nodes[parts[0]]
        along = sum(self.nodes[p].shape[axis] for p in parts)
        shape = (*first.shape[:axis], along, *first.shape[axis + 1 :])
        return self.node("concat", parts, (axis,), first.ring, shape)

    def sum(self, ring: Ring, a: int, axis: int) -> int:
        shape = self.nodes[a].shape
        return self.node("sum", (a,), (axis,), ring, shape[:axis] + shape[axis + 1 :])


def evaluate(
    dag: Dag, roots: Sequence[int], leaf: Callable[[Node], NDArray[Any]], words: Backend = CONCRETE
) -> dict[int, NDArray[Any]]:
    """The values of these nodes (and of all below them), from concrete words for every input and draw.

    words: the interpretation to compute in; with another one than the concrete, `leaf` gives values of that.
    """
    values: dict[int, NDArray[Any]] = {}
    nodes = dag.nodes
    for number in cone(dag, roots):
        node = nodes[number]
        if node.op == CONST:
            values[number] = words.const(node.ring, node.shape, dag.constants[number])
        elif node.op in LEAVES:
            given = leaf(node)
            concrete = words is CONCRETE
            values[number] = CONCRETE.const(node.ring, node.shape, given.astype(np.uint64)) if concrete else given
        else:
            source = nodes[node.args[0]].ring
            values[number] = _OPERATIONS[node.op](words, node, source, [values[a] for a in node.args])
    return values


def cone(dag: Dag, roots: Sequence[int]) -> list[int]:
    """All nodes that the roots depend on, themselves included, in creation (hence topological) order."""
    seen, stack = set(roots), list(roots)
    while stack:
        for a in dag.nodes[stack.pop()].args:
            if a not in seen:
                seen.add(a)
                stack.append(a)
    return sorted(seen)


# operation -> its value: (interpretation, node, ring of the first operand, values of the operands)
_OPERATIONS: dict[str, Callable[[Backend, Node, Ring, list[Any]], Any]] = {
    "add": lambda w, node, _, args: w.add(node.ring, *args),
    "sub": lambda w, node, _, args: w.sub(node.ring, *args),
    "mul": lambda w, node, _, args: w.mul(node.ring, *args),
    "neg": lambda w, node, _, args: w.neg(node.ring, *args),
    "matmul": lambda w, node, _, args: w.matmul(node.ring, *args),
    "shl": lambda w, node, _, args: w.shl(node.ring, args[0], node.params[0]),
    "shr": lambda w, node, _, args: w.shr(node.ring, args[0], node.params[0]),
    "cast": lambda w, node, source, args: w.cast(source, node.ring, args[0]),
    "equals": lambda w, node, source, args: w.equals(source, args[0], node.params[0]),
    "reshape": lambda w, node, _, args: w.reshape(args[0], node.shape),
    "transpose": lambda w, node, _, args: w.transpose(args[0], node.params),
    "index": lambda w, node, _, args: w.index(args[0], _thawed(node.params[0])),
    "broadcast": lambda w, node, _, args: w.broadcast(args[0], node.shape),
    "concat": lambda w, node, _, args: w.concat(args, node.params[0]),
    "sum": lambda w, node, _, args: w.sum(node.ring, args[0], node.params[0]),
}
