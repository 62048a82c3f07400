"""Linear steps of a privacy proof: symbols, and the nodes that they make uniform together.

The nodes through which a set of symbols reaches the view are linear in them, entry by entry, and the parities of the
factors have full row rank whatever values the factors have. Factors modulo 2 are polynomials over GF(2) in bits of
nodes. Nothing here is trusted: the checker derives each step's conditions again, on its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from proofs.symbolic import CONST, Dag, Node

VIEW = -1  # the consumer number of the view itself
ATOMS, SMALL, DEEP, TERMS = 10, 3, 100, 64  # bits of a factor enumerated; of a word; levels; terms of a form
EFFORT = 100_000  # nodes looked at, over all symbols that are tried one by one
Atom = tuple[int, int]  # bit of a node
Poly = frozenset[frozenset[Atom]]  # over GF(2): the set of its monomials
Form = dict[int, Poly]  # symbol -> parity of its factor
ONE: Poly = frozenset({frozenset()})
ZERO: Poly = frozenset()
LINEAR = frozenset({"add", "sub", "neg", "mul", "shl", "cast"})


class Graph(Protocol):
    """The live part of a DAG during a proof attempt."""

    dag: Dag
    uses: dict[int, list[int]]

    def is_symbol(self, number: int) -> bool: ...
    def is_cut(self, number: int) -> bool: ...


def entrywise(dag: Dag, node: Node) -> bool:
    """Whether all operands have the node's shape: then each entry depends on the entries at its place."""
    return all(dag.nodes[a].shape == node.shape for a in node.args)


class Forms:
    """What symbols contribute to the nodes above them. forms: None where that is not linear, absent where nothing."""

    def __init__(self, graph: Graph, symbols: Sequence[int]) -> None:
        self.graph, self.dag, self.symbols = graph, graph.dag, list(symbols)
        self.forms: dict[int, Form | None] = {r: {r: ONE} for r in symbols}
        self._bits: dict[Atom, Poly] = {}
        self.blocked: set[int] = set()  # nodes that are not linear by what they do themselves
        queue, seen = list(symbols), set(symbols)
        heapq.heapify(queue)
        while queue:
            number = heapq.heappop(queue)
            if number not in self.forms:
                self.forms[number] = self._form(number)
            for user in graph.uses[number]:
                if user not in seen and user != VIEW and not graph.is_cut(user):
                    seen.add(user)
                    heapq.heappush(queue, user)

    def _form(self, number: int) -> Form | None:
        node = self.dag.nodes[number]
        given = [self.forms[a] for a in node.args if a in self.forms]
        known = [form for form in given if form is not None]
        if len(known) < len(given):
            return None
        form = self._combined(node, known)
        if form is None or len(form) > TERMS or any(len(poly) > TERMS for poly in form.values()):
            self.blocked.add(number)
            return None
        return form

    def _combined(self, node: Node, known: Sequence[Form]) -> Form | None:
        if node.op not in LINEAR or not entrywise(self.dag, node):
            return None
        if node.op in ("add", "sub"):
            total = dict(known[0])
            for form in known[1:]:
                total |= {r: total.get(r, ZERO) ^ poly for r, poly in form.items()}
            return total
        if node.op == "mul":
            others = [a for a in node.args if a not in self.forms]
            if len(others) != 1:
                return None
            factor = self.bit(others[0], 0)
            return {r: _times(poly, factor) for r, poly in known[0].items()}
        if node.op == "shl" and node.params[0]:
            return dict.fromkeys(known[0], ZERO)
        if node.op == "cast" and node.ring.l > self.dag.nodes[node.args[0]].ring.l:
            return None
        return known[0]

    def bit(self, number: int, b: int, depth: int = 0) -> Poly:
        """Bit b of a node that the symbols do not reach, over bits of the nodes where no identity applies."""
        if (number, b) not in self._bits:
            found = None if depth > DEEP or self.graph.is_cut(number) else self._computed(number, b, depth + 1)
            self._bits[number, b] = frozenset({frozenset({(number, b)})}) if found is None else found
        return self._bits[number, b]

    def _computed(self, number: int, b: int, depth: int) -> Poly | None:
        node = self.dag.nodes[number]
        if b >= node.ring.l:
            return ZERO
        if node.op == CONST:
            bits = {int(v) for v in np.unique(self.dag.constants[number] >> np.uint64(b) & np.uint64(1))}
            return (ONE if bits == {1} else ZERO) if len(bits) == 1 else None
        if not node.args or not entrywise(self.dag, node):
            return None
        first = node.args[0]
        if node.op in ("cast", "shr"):
            return self.bit(first, b + (node.params[0] if node.op == "shr" else 0), depth)
        if node.op == "shl":
            return self.bit(first, b - node.params[0], depth) if b >= node.params[0] else ZERO
        if node.op == "equals" and self.dag.nodes[first].ring.l <= SMALL:
            each = [self.bit(first, i, depth) for i in range(self.dag.nodes[first].ring.l)]
            poly = ONE
            for i, bit in enumerate(each):
                poly = _times(poly, bit if node.params[0] >> i & 1 else bit ^ ONE)
            return poly
        if b == 0 and node.op in ("add", "sub", "neg", "mul"):
            both = [self.bit(a, 0, depth) for a in node.args]
            poly = both[0] if len(both) == 1 else _times(*both) if node.op == "mul" else both[0] ^ both[1]
            return poly if len(poly) <= TERMS else None
        return None

    # -- where symbols leave the linear part ---------------------------------------------------------------------
    def leaves(self, number: int) -> bool:
        """Whether something that is not linear uses a node."""
        return any(user == VIEW or self.forms[user] is None for user in self.graph.uses[number])

    def last(self) -> dict[int, list[int]]:
        """Per symbol the last linear nodes on its ways to the view."""
        ends = [n for n, form in self.forms.items() if form is not None and self.leaves(n)]
        reach: dict[int, list[int]] = {r: [] for r in self.symbols}
        for n in ends:
            for r in self.forms[n] or ():
                reach[r].append(n)
        return reach

    def first(self) -> dict[int, list[int]]:
        """Per symbol the first nodes on its ways to the view that have several uses, or are the last linear ones."""
        reach: dict[int, list[int]] = {}
        for r in self.symbols:
            stack, seen, found = list(self.graph.uses[r]), {r}, []
            while stack:
                n = stack.pop()
                if n in seen:
                    continue
                seen.add(n)
                if self.leaves(n) or len(self.graph.uses[n]) > 1:
                    found.append(n)
                else:
                    stack += self.graph.uses[n]
            reach[r] = found
        return reach


def _times(a: Poly, b: Poly) -> Poly:
    found: set[frozenset[Atom]] = set()
    for x, y in product(a, b):
        found ^= {x | y}
    return frozenset(found)


@dataclass(frozen=True)
class Group:
    """Symbols and the nodes that they make uniform together."""

    symbols: tuple[int, ...]
    nodes: tuple[int, ...]


def linear(graph: Graph, stuck: Sequence[int]) -> Group | None:
    """A linear step among these symbols: all together, then each on its own."""
    spent = 0
    together = _drop_leaving(graph, [r for r in stuck if VIEW not in graph.uses[r]])
    for symbols in [together, *([r] for r in stuck if VIEW not in graph.uses[r])]:
        if spent > EFFORT:
            break
        forms = Forms(graph, symbols)
        spent += len(forms.forms)
        if any(forms.leaves(r) for r in symbols):
            continue
        for reach in (forms.last(), forms.first()):
            for component in _components(reach):
                group = _solvable(forms, reach, component)
                if group is not None:
                    return group
    return None


def _drop_leaving(graph: Graph, symbols: list[int]) -> list[int]:
    """Without those that are themselves used by something that is not linear: they are given, like everything else."""
    while symbols:
        forms = Forms(graph, symbols)
        leaving = {r for r in symbols if any(user in forms.blocked for user in graph.uses[r])}
        leaving = leaving or {r for r in symbols if forms.leaves(r)}
        if not leaving:
            break
        symbols = [r for r in symbols if r not in leaving]
    return symbols


def _components(reach: dict[int, list[int]]) -> Iterator[list[int]]:
    """Symbols that share nodes, set by set."""
    above: dict[int, list[int]] = {}
    for r, nodes in reach.items():
        for n in nodes:
            above.setdefault(n, []).append(r)
    left = dict.fromkeys(reach)
    while left:
        group, stack = [], [left.popitem()[0]]
        while stack:
            r = stack.pop()
            group.append(r)
            for n in reach[r]:
                for other in above.pop(n, ()):
                    if other in left:
                        del left[other]
                        stack.append(other)
        yield sorted(group)


def _solvable(forms: Forms, reach: dict[int, list[int]], symbols: list[int]) -> Group | None:
    """The largest set of these symbols whose nodes have independent forms, whatever the other factors are."""
    while symbols:
        nodes = sorted({n for r in symbols for n in reach[r]})
        rows = [[(forms.forms[n] or {}).get(r, ZERO) for r in symbols] for n in nodes]
        atoms = sorted({atom for row in rows for poly in row for monomial in poly for atom in monomial})
        if not nodes or len(nodes) * len(symbols) > 1 << 14 or len(atoms) > ATOMS:
            return None
        bad = _dependent(rows, atoms)
        if not bad:
            return Group(tuple(symbols), tuple(nodes))
        lost = {nodes[j] for j in bad}
        symbols = [r for r in symbols if lost.isdisjoint(reach[r])]
    return None


def _dependent(rows: Sequence[Sequence[Poly]], atoms: Sequence[Atom]) -> set[int]:
    """Rows that take part in a combination without symbols, for some value of the atoms."""
    bad: set[int] = set()
    for values in product((False, True), repeat=len(atoms)):
        true = {atom for atom, value in zip(atoms, values, strict=True) if value}
        basis: list[tuple[int, int]] = []
        for j, row in enumerate(rows):
            left, used = sum((sum(m <= true for m in poly) & 1) << i for i, poly in enumerate(row)), 1 << j
            for pivot, combination in basis:
                if left ^ pivot < left:
                    left, used = left ^ pivot, used ^ combination
            if left:
                basis.append((left, used))
            else:
                bad |= {i for i in range(len(rows)) if used >> i & 1}
    return bad
