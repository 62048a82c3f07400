"""The second proof path: a bijection between random tapes that hides the secret, checked by Z3.

From a certificate's steps follows, for any two secrets s and s', an explicit map phi of the tapes that the corrupted
party does not see. Z3 is asked for every s, s' and tape whether
    view(s, tape) = view(s', phi(tape))    and    phi_back(phi(tape)) = tape,
phi_back being the same map from s' to s. The second makes phi a bijection of a finite set, so that the views have one
law. Both views are computed from the leaves alone: neither the search nor the checker's rules are believed here.

phi keeps every symbol that the proof ends with, and every tape word that no step used; then, step by step from the last
to the first, it solves the node of a step for its symbol: r' = v - e(s') where r was v - e(s), and so on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import z3
from numpy.typing import NDArray

from proofs.certificate import Document, restore
from proofs.symbolic import CONST, DRAW, INPUT, LEAVES, Dag, Node, _thawed, cone
from proofs.verdict import Verdict
from sim.ring import Shape

Terms = NDArray[Any]  # arrays of Z3 bit-vectors
Leaves = dict[int, Terms]
KIND, METHOD = "private", "tape bijection, Z3"
LIMIT = 60_000  # array entries; above it, terms alone take too long


def check_bijection(document: Document, seconds: float = 30.0, limit: int = LIMIT) -> Verdict:
    """PROVED, REFUTED (with two secrets and a tape), or UNKNOWN (too large, or Z3 gave up) for one certificate."""
    start = time.perf_counter()
    proof = _Proof(document)
    if proof.entries > limit:
        return _verdict("UNKNOWN", f"{proof.entries} array entries, expected at most {limit}", start)
    try:
        claims = proof.claims()
    except KeyError as missing:
        return _verdict("REFUTED", f"the steps do not determine a map of tapes: node {missing}", start)
    solver = z3.SolverFor("QF_BV")
    solver.set("timeout", int(seconds * 1000))
    solver.add(z3.Or([z3.Not(claim) for claim in claims]))
    answer = solver.check()
    if answer == z3.unsat:
        return _verdict("PROVED", f"{proof.entries} array entries, {len(claims)} non-trivial equations", start)
    if answer == z3.unknown:
        return _verdict("UNKNOWN", f"z3: {solver.reason_unknown()} after {seconds:g} s", start)
    return _verdict("REFUTED", f"with {solver.model()}", start)


def _verdict(status: Any, detail: str, start: float) -> Verdict:
    return Verdict(status, KIND, METHOD, detail, time.perf_counter() - start)


class _Proof:
    """The equations of one certificate."""

    def __init__(self, document: Document) -> None:
        self.dag = restore(document)
        self.corrupted = document["claim"]["corrupted"]
        self.steps: list[tuple[str, int, int]] = [tuple(step) for step in document["steps"]]
        self.roots = [row[-1] for row in document["view"] if row[-1] is not None]
        self.numbers = cone(self.dag, self.roots)
        self.entries = sum(math.prod(self.dag.nodes[n].shape) for n in self.numbers)

    def claims(self) -> list[Any]:
        """The equations that simplification alone does not settle."""
        nodes = [(n, self.dag.nodes[n]) for n in self.numbers]
        secret = [n for n, node in nodes if node.op == INPUT and node.owner != self.corrupted]
        tape = [n for n, node in nodes if node.op == DRAW and node.owner != self.corrupted]
        known = {n: self._named(n, "own") for n, node in nodes if node.op in (INPUT, DRAW)}
        first = {**known, **{n: self._named(n, "s") for n in secret}, **{n: self._named(n, "r") for n in tape}}
        other = {n: self._named(n, "s'") for n in secret}
        moved = self.phi(first, other)
        back = self.phi({**first, **other, **moved}, {n: first[n] for n in secret})
        ours, theirs = self.view(first), self.view({**first, **other, **moved})
        pairs = [*zip(ours, theirs, strict=True), *((first[n], back[n]) for n in tape)]
        equations = [z3.simplify(a == b) for x, y in pairs for a, b in zip(x.flat, y.flat, strict=True)]
        return [equation for equation in equations if not z3.is_true(equation)]

    def _named(self, number: int, prefix: str) -> Terms:
        node = self.dag.nodes[number]
        size = math.prod(node.shape)
        return _array(node.shape, [z3.BitVec(f"{prefix}:{node.label}[{i}]", node.ring.l) for i in range(size)])

    def view(self, leaves: Leaves) -> list[Terms]:
        """The view, from leaves alone."""
        values = dict(leaves)
        _evaluate(self.dag, self.roots, values)
        return [values[root] for root in self.roots]

    def phi(self, leaves: Leaves, other: Leaves) -> Leaves:
        """The tape under which the other secrets give the same symbols as these leaves do."""
        before = dict(leaves)
        _evaluate(self.dag, self.roots, before)
        used = {symbol for _, symbol, _ in self.steps}
        used |= {a for rule, _, target in self.steps if rule == "concat" for a in self.dag.nodes[target].args}
        after = {n: value for n, value in leaves.items() if n not in used} | other
        after |= {target: before[target] for _, _, target in self.steps if target not in used}
        for rule, symbol, target in reversed(self.steps):
            after |= self._solve(rule, symbol, target, before, after)
        return {n: after[n] for n in leaves if n not in other and self.dag.nodes[n].op == DRAW}

    def _solve(self, rule: str, symbol: int, target: int, before: Leaves, after: Leaves) -> Leaves:
        """The values of a step's symbols that give its node the value it has in `after`."""
        node, value, old = self.dag.nodes[target], after[target], before[symbol]
        rest = [a for a in node.args if a != symbol]
        if rule == "concat":
            sizes = [self.dag.nodes[a].shape[node.params[0]] for a in node.args]
            parts = np.split(value, np.cumsum(sizes)[:-1], axis=node.params[0])
            return dict(zip(node.args, parts, strict=True))
        if rule in ("add", "sub", "odd"):
            _evaluate(self.dag, rest, after)
            return {symbol: _each(_inverse(rule, node, symbol, self.dag), value, after[rest[0]])}
        return {symbol: _UNARY[rule](node, value, old)}


def _inverse(rule: str, node: Node, symbol: int, dag: Dag) -> Callable[[Any, Any], Any]:
    """(value of the node, value of the other operand) -> value of the symbol."""
    if rule == "odd":
        return lambda v, c: v * pow(c.as_long(), -1, 1 << node.ring.l)
    if rule == "add":
        return lambda v, e: v - e
    return (lambda v, e: v + e) if node.args[0] == symbol else (lambda v, e: e - v)


def _transposed(node: Node, value: Terms, old: Terms) -> Terms:
    return np.transpose(value, np.argsort(node.params))


def _placed(node: Node, value: Terms, old: Terms) -> Terms:
    """The selected entries are given, the others stay."""
    new = np.array(old, dtype=object)
    new[_thawed(node.params[0])] = value
    return new


def _widened(node: Node, value: Terms, old: Terms) -> Terms:
    """The low bits are given, the high ones stay."""
    l = node.ring.l
    return _each(lambda v, r: v if r.size() == l else z3.Concat(z3.Extract(r.size() - 1, l, r), v), value, old)


def _first_summand(node: Node, value: Terms, old: Terms) -> Terms:
    """The first entry along the axis absorbs the difference, the others stay."""
    moved = np.moveaxis(np.array(old, dtype=object), node.params[0], 0)
    others = _total(moved[1:], node)
    moved[:1] = _each(lambda v, o: v - o, value, others)[None]
    return np.moveaxis(moved, 0, node.params[0])


_UNARY: Mapping[str, Callable[[Node, Terms, Terms], Terms]] = {
    "neg": lambda node, value, old: _each(lambda v: -v, value),
    "reshape": lambda node, value, old: value.reshape(old.shape),
    "transpose": _transposed,
    "index": _placed,
    "cast": _widened,
    "sum": _first_summand,
}


# -- arrays of bit-vectors ---------------------------------------------------------------------------------------------
def _array(shape: Shape, terms: Sequence[Any]) -> Terms:
    array = np.empty(len(terms), dtype=object)
    array[:] = terms
    return array.reshape(shape)


def _each(function: Callable[..., Any], *args: Terms) -> Terms:
    shape = np.shape(args[0])
    flat = zip(*(np.asarray(a, dtype=object).reshape(-1) for a in args), strict=True)
    return _array(shape, [z3.simplify(function(*each)) for each in flat])


def _total(rows: Terms, node: Node) -> Terms:
    """The sum along the first axis."""
    total = _array(node.shape, [z3.BitVecVal(0, node.ring.l)] * math.prod(node.shape))
    for row in rows:
        total = _each(lambda a, b: a + b, total, row)
    return total


def _dot(node: Node, a: Terms, b: Terms) -> Terms:
    entries = []
    for i, j in np.ndindex(*node.shape):
        products = [x * y for x, y in zip(a[i], b[:, j], strict=True)]
        entries.append(z3.simplify(z3.Sum(products) if products else z3.BitVecVal(0, node.ring.l)))
    return _array(node.shape, entries)


def _evaluate(dag: Dag, roots: Sequence[int], values: Leaves) -> None:
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
            values[number] = _array(node.shape, [z3.BitVecVal(int(v), node.ring.l) for v in words.flat])
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
        return _each(_ENTRYWISE[node.op], *args)
    if node.op == "shl":
        return _each(lambda x: x << node.params[0], first)
    if node.op == "shr":
        return _each(lambda x: z3.LShR(x, node.params[0]), first)
    if node.op == "cast":
        source = dag.nodes[node.args[0]].ring.l
        narrow, extend = (lambda x: z3.Extract(l - 1, 0, x)), (lambda x: z3.ZeroExt(l - source, x))
        return _each(narrow if l <= source else extend, first)
    if node.op == "equals":
        one, zero = z3.BitVecVal(1, 1), z3.BitVecVal(0, 1)
        return _each(lambda x: z3.If(x == node.params[0], one, zero), first)
    if node.op == "matmul":
        return _dot(node, first, args[1])
    if node.op == "sum":
        return _total(np.moveaxis(first, node.params[0], 0), node)
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
