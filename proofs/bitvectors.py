"""Arrays of Z3 bit-vectors: the array DAG evaluated on terms, from the meaning of its operations in `sim.ring`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import z3
from numpy.typing import NDArray

from proofs.symbolic import CONST, LEAVES, Dag, Node, _thawed
from sim.ring import Shape

Terms = NDArray[Any]  # arrays of Z3 bit-vectors
Leaves = dict[int, Terms]


def array_of(shape: Shape, terms: Sequence[Any]) -> Terms:
    array = np.empty(len(terms), dtype=object)
    array[:] = terms
    return array.reshape(shape)


def each(function: Callable[..., Any], *args: Terms) -> Terms:
    shape = np.shape(args[0])
    flat = zip(*(np.asarray(a, dtype=object).reshape(-1) for a in args), strict=True)
    return array_of(shape, [z3.simplify(function(*terms)) for terms in flat])


def total(rows: Terms, node: Node) -> Terms:
    """The sum along the first axis."""
    found = array_of(node.shape, [z3.BitVecVal(0, node.ring.l)] * math.prod(node.shape))
    for row in rows:
        found = each(lambda a, b: a + b, found, row)
    return found


def _dot(node: Node, a: Terms, b: Terms) -> Terms:
    entries = []
    for i, j in np.ndindex(*node.shape):
        products = [x * y for x, y in zip(a[i], b[:, j], strict=True)]
        entries.append(z3.simplify(z3.Sum(products) if products else z3.BitVecVal(0, node.ring.l)))
    return array_of(node.shape, entries)


def evaluate(dag: Dag, roots: Sequence[int], values: Leaves) -> None:
    """Add the values of the roots and of what they need to `values`, without going below what is there already."""
    stack = list(roots)
    while stack:
        number = stack[-1]
        if number in values:
            stack.pop()
            continue
        node = dag.nodes[number]
        if node.op == CONST:
            words = dag.constants[number]
            values[number] = array_of(node.shape, [z3.BitVecVal(int(v), node.ring.l) for v in words.flat])
        elif node.op in LEAVES:
            raise KeyError(number)
        missing = [a for a in node.args if a not in values]
        stack += missing
        if not missing and number not in values:
            values[number] = _apply(dag, node, [values[a] for a in node.args])


def _apply(dag: Dag, node: Node, args: list[Terms]) -> Terms:
    """One array operation on bit-vectors, from its meaning in `sim.ring`."""
    l, first = node.ring.l, args[0]
    if node.op in _ENTRYWISE:
        return each(_ENTRYWISE[node.op], *args)
    if node.op == "shl":
        return each(lambda x: x << node.params[0], first)
    if node.op == "shr":
        return each(lambda x: z3.LShR(x, node.params[0]), first)
    if node.op == "cast":
        source = dag.nodes[node.args[0]].ring.l
        narrow, extend = (lambda x: z3.Extract(l - 1, 0, x)), (lambda x: z3.ZeroExt(l - source, x))
        return each(narrow if l <= source else extend, first)
    if node.op == "equals":
        one, zero = z3.BitVecVal(1, 1), z3.BitVecVal(0, 1)
        return each(lambda x: z3.If(x == node.params[0], one, zero), first)
    if node.op == "matmul":
        return _dot(node, first, args[1])
    if node.op == "sum":
        return total(np.moveaxis(first, node.params[0], 0), node)
    structure: Mapping[str, Callable[[], Any]] = {
        "reshape": lambda: first.reshape(node.shape),
        "transpose": lambda: first.transpose(node.params),
        "index": lambda: first[_thawed(node.params[0])],
        "broadcast": lambda: np.broadcast_to(first, node.shape),
        "concat": lambda: np.concatenate(args, axis=node.params[0]),
    }
    return np.asarray(structure[node.op](), dtype=object)


_ENTRYWISE: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
}
