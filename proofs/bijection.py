"""The second proof path: a bijection between random tapes that hides the secret, checked by Z3.

From a certificate's steps follows, for any two secrets s and s', an explicit map phi of the tapes that the corrupted
party does not see. Z3 is asked for every s, s' and tape whether
    view(s, tape) = view(s', phi(tape))    and    phi_back(phi(tape)) = tape,
phi_back being the same map from s' to s. The second makes phi a bijection of a finite set, so that the views have one
law. Both views are computed from the leaves alone: neither the search nor the checker's rules are believed here.

phi keeps every symbol that the proof ends with, and every tape word that no step used; then, step by step from the last
to the first, it solves the node of a step for its symbol: r' = v - e(s') where r was v - e(s), and so on. The nodes of
a linear step are a system of equations (`proofs.systems`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import z3

from proofs.bitvectors import Leaves, Terms, array_of, each, evaluate, total
from proofs.certificate import Document, restore
from proofs.joint import field
from proofs.rules import Live, Rejected, nodes_of
from proofs.simulator import group
from proofs.symbolic import DRAW, INPUT, Dag, Node, _thawed, cone
from proofs.systems import NoInverse, System
from proofs.verdict import Verdict

KIND, METHOD = "private", "tape bijection, Z3"
NOT_INVERTED = {
    "injective": "one-to-one by a solver's word, which gives no inverse",
    "statistical": "the two laws are close, not equal, so no bijection maps one to the other",
}
LIMIT = 60_000  # array entries; above it, terms alone take too long


def check_bijection(document: Document, seconds: float = 30.0, limit: int = LIMIT) -> Verdict:
    """PROVED, REFUTED (with two secrets and a tape), or UNKNOWN (too large, or Z3 gave up) for one certificate."""
    start = time.perf_counter()
    try:
        proof = _Proof(document)
        if proof.entries > limit:
            return _verdict("UNKNOWN", f"{proof.entries} array entries, expected at most {limit}", start)
        claims = proof.claims()
    except NoInverse as reason:
        return _verdict("UNKNOWN", str(reason), start)
    except Rejected as reason:
        return _verdict("REFUTED", f"the steps do not determine a map of tapes: {reason}", start)
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
        self.steps = [(rule, group(symbols), group(targets)) for rule, symbols, targets in document["steps"]]
        self.state = Live(nodes_of(document["dag"]), [], self.corrupted)
        self.systems: dict[int, System] = {}  # by the first node of a linear step
        for rule, symbols, targets in self.steps:
            if rule == "linear":
                self.systems[targets[0]] = System(self.dag, self.state, symbols, targets)
            self.state.leaves.update(targets)
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
        return array_of(node.shape, [z3.BitVec(f"{prefix}:{node.label}[{i}]", node.ring.l) for i in range(size)])

    def view(self, leaves: Leaves) -> list[Terms]:
        """The view, from leaves alone."""
        values = dict(leaves)
        evaluate(self.dag, self.roots, values)
        return [values[root] for root in self.roots]

    def phi(self, leaves: Leaves, other: Leaves) -> Leaves:
        """The tape under which the other secrets give the same symbols as these leaves do."""
        before = dict(leaves)
        evaluate(self.dag, self.roots, before)
        used = {r for _, symbols, _ in self.steps for r in symbols}
        used |= {a for rule, _, (target, *_) in self.steps if rule == "concat" for a in self.dag.nodes[target].args}
        after = {n: value for n, value in leaves.items() if n not in used} | other
        after |= {target: before[target] for _, _, targets in self.steps for target in targets if target not in used}
        for rule, symbols, targets in reversed(self.steps):
            after |= self._solve(rule, symbols, targets, before, after)
        return {n: after[n] for n in leaves if n not in other and self.dag.nodes[n].op == DRAW}

    def _solve(self, rule: str, symbols: list[int], targets: list[int], before: Leaves, after: Leaves) -> Leaves:
        """The values of a step's symbols that give its nodes the values they have in `after`."""
        if rule == "linear":
            return self.systems[targets[0]].solved(before, after)
        (symbol,), target = symbols, targets[0]
        old = before[symbol]
        if rule == "split":
            return {symbol: self._joined(symbol, targets, old, after)}
        if rule not in _UNARY and rule not in ("concat", "add", "sub", "odd"):
            raise NoInverse(f"a step by the rule {rule}: {NOT_INVERTED.get(rule, 'which is not known')}")
        node, value = self.dag.nodes[target], after[target]
        rest = [a for a in node.args if a != symbol]
        if rule == "concat":
            sizes = [self.dag.nodes[a].shape[node.params[0]] for a in node.args]
            parts = np.split(value, np.cumsum(sizes)[:-1], axis=node.params[0])
            return dict(zip(node.args, parts, strict=True))
        if rule in ("add", "sub", "odd"):
            evaluate(self.dag, rest, after)
            return {symbol: each(_inverse(rule, node, symbol, self.dag), value, after[rest[0]])}
        return {symbol: _UNARY[rule](node, value, old)}

    def _joined(self, symbol: int, targets: Sequence[int], old: Terms, after: Leaves) -> Terms:
        """The parts are given, the bits that are in none of them stay."""
        new = list(old.reshape(-1))
        for t in targets:
            state = Live(self.state.nodes, [], self.corrupted)
            places, low, high = field(state, symbol, t)
            for place, part in zip(places, after[t].reshape(-1), strict=True):
                l = new[place].size()
                pieces = [z3.Extract(l - 1, high, new[place])] if high < l else []
                pieces += [part, *([z3.Extract(low - 1, 0, new[place])] if low else [])]
                new[place] = z3.simplify(z3.Concat(pieces) if len(pieces) > 1 else part)
        return array_of(old.shape, new)


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
    return each(lambda v, r: v if r.size() == l else z3.Concat(z3.Extract(r.size() - 1, l, r), v), value, old)


def _first_summand(node: Node, value: Terms, old: Terms) -> Terms:
    """The first entry along the axis absorbs the difference, the others stay."""
    moved = np.moveaxis(np.array(old, dtype=object), node.params[0], 0)
    others = total(moved[1:], node)
    moved[:1] = each(lambda v, o: v - o, value, others)[None]
    return np.moveaxis(moved, 0, node.params[0])


_UNARY: Mapping[str, Callable[[Node, Terms, Terms], Terms]] = {
    "neg": lambda node, value, old: each(lambda v: -v, value),
    "reshape": lambda node, value, old: value.reshape(old.shape),
    "transpose": _transposed,
    "index": _placed,
    "cast": _widened,
    "sum": _first_summand,
}
