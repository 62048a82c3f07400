"""Further steps of a privacy proof: parts of one symbol, Z3's injective functions of one, and statistical masks.

`parts`: the uses of a symbol are disjoint parts of it. `injective`: a node that all ways of a symbol pass and that Z3
finds injective in it. `Bounded`: a short symbol that hides a bounded value in a wider ring. Masks modulo anything but a
power of two cannot be written in the closed operation set, so no step is about them. Nothing here is trusted: the
checker derives each step's conditions again, on its own.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import z3

from proofs.forms import DEEP, VIEW, Graph, entrywise
from proofs.symbolic import CONST, DRAW, INPUT, Dag, Node, _thawed, evaluate
from sim.ring import Spec

ROOM = Fraction(1, 1 << 40)  # statistical distance that all steps of a proof together stay below
LONG = 40  # nodes between a symbol and a node that Z3 is asked about
EFFORT = 1_000_000  # of Z3, in its own units
SAMPLES = np.arange(256, dtype=np.uint64)


# -- parts of one symbol -----------------------------------------------------------------------------------------------
def parts(graph: Graph, symbol: int) -> list[int] | None:
    """The nodes through which a symbol is used, if they are disjoint selections or bit fields of it."""
    dag, found, stack = graph.dag, [], [(symbol, 0)]
    if any(user == VIEW or dag.nodes[user].op not in ("index", "cast", "shr") for user in graph.uses[symbol]):
        return None
    taken = np.zeros(dag.nodes[symbol].shape, np.uint64)
    while stack:
        number, low = stack.pop()
        for user in dict.fromkeys(graph.uses[number]):
            node = dag.nodes[user] if user != VIEW else None
            if node is not None and node.op == "shr":
                stack.append((user, low + node.params[0]))
                continue
            bits = _field(dag, node, number, low, symbol)
            if node is None or bits is None:
                return None
            where = _thawed(node.params[0]) if node.op == "index" else ...
            if (taken[where] & np.uint64(bits)).any():
                return None
            taken[where] |= np.uint64(bits)
            found.append(user)
    return sorted(found)


def _field(dag: Dag, node: Node | None, number: int, low: int, symbol: int) -> int | None:
    """The bits of the symbol in a part of it, as a mask; None of what is no part."""
    if node is not None and node.op == "index" and number == symbol:
        return dag.nodes[symbol].ring.mask
    if node is not None and node.op == "cast" and low + node.ring.l <= dag.nodes[symbol].ring.l:
        return node.ring.mask << low
    return None


# -- one symbol and a node that all its ways pass ----------------------------------------------------------------------
def injective(graph: Graph, symbol: int) -> int | None:
    """The first node that all ways of a symbol pass and that is, for Z3, injective in it."""
    r, inside, queue = graph.dag.nodes[symbol], [symbol], [symbol]
    while queue:
        number = heapq.heappop(queue)
        node = graph.dag.nodes[number]
        if number != symbol:
            if not entrywise(graph.dag, node) or (node.op not in _TERMS and node.op not in ("cast", "equals")):
                return None
            inside.append(number)
            here = not queue and (node.ring, node.shape) == (r.ring, r.shape)
            if here and not _collides(graph.dag, inside) and _one_to_one(graph.dag, inside):
                return number
        if VIEW in graph.uses[number] or len(inside) > LONG:
            return None
        for user in graph.uses[number]:
            if user not in queue:
                heapq.heappush(queue, user)
    return None


def _collides(dag: Dag, inside: Sequence[int]) -> bool:
    """Whether some values of the first node, everything else being 0 or 1, give one value of the last: Z3 is spared."""
    small, place = Dag(), {}
    ring = dag.nodes[inside[0]].ring
    words = np.unique(np.concatenate([SAMPLES, SAMPLES << np.uint64(ring.l // 2)]) & np.uint64(ring.mask))
    for n in inside:
        node = dag.nodes[n]
        for a in node.args if n != inside[0] else ():
            if a not in place:
                place[a] = small.leaf(str(a), "e", Spec(dag.nodes[a].ring, words.shape)).value
        args = [place[a] for a in node.args] if n != inside[0] else ()
        op, params = (node.op, node.params) if args else (INPUT, ("r", "r"))
        place[n] = small.node(op, args, params, node.ring, words.shape)
    last = place[inside[-1]]
    for other in (0, 1):
        rest = {str(a): dag.constants.get(a, np.uint64(other)).flat[0] for a in place if a not in inside}
        leaves = {"r": words, **{name: np.full(words.shape, value) for name, value in rest.items()}}
        found = evaluate(small, [last], partial(_of, leaves))[last]
        if len(np.unique(found)) < len(words):
            return True
    return False


def _of(leaves: Mapping[str, Any], leaf: Node) -> Any:
    return leaves[leaf.owner]


def _one_to_one(dag: Dag, inside: Sequence[int]) -> bool:
    """Whether the last of these nodes determines the first, for all values of everything else."""
    solver = z3.SolverFor("QF_BV")
    solver.set("rlimit", EFFORT)
    first, last = inside[0], inside[-1]
    rest: dict[int, Any] = {}
    found: list[dict[int, Any]] = []
    for name in ("x", "y"):
        terms = {first: z3.BitVec(name, dag.nodes[first].ring.l)}
        for n in inside[1:]:
            for a in dag.nodes[n].args:
                if a not in terms:
                    terms[a] = rest[a] = rest.get(a, _other(dag, a))
            terms[n] = _term(dag, dag.nodes[n], [terms[a] for a in dag.nodes[n].args])
        found.append(terms)
    x, y = found
    solver.add(x[last] == y[last], x[first] != y[first])
    return bool(solver.check() == z3.unsat)


def _other(dag: Dag, number: int) -> Any:
    node = dag.nodes[number]
    if node.op == CONST and isinstance(node.params[0], int):
        return z3.BitVecVal(node.params[0], node.ring.l)
    return z3.BitVec(f"e{number}", node.ring.l)


_TERMS: Mapping[str, Callable[..., Any]] = {
    "add": lambda node, a, b: a + b,
    "sub": lambda node, a, b: a - b,
    "mul": lambda node, a, b: a * b,
    "neg": lambda node, a: -a,
    "shl": lambda node, a: a << node.params[0],
    "shr": lambda node, a: z3.LShR(a, node.params[0]),
}


def _term(dag: Dag, node: Node, args: Sequence[Any]) -> Any:
    l, source = node.ring.l, dag.nodes[node.args[0]].ring.l
    if node.op == "cast":
        return z3.ZeroExt(l - source, args[0]) if l > source else z3.Extract(l - 1, 0, args[0])
    if node.op == "equals":
        return z3.If(args[0] == node.params[0], z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))
    return _TERMS[node.op](node, *args)


def no_model(script: str) -> bool:
    """Whether Z3 shows that an SMT-LIB 2 script has no model: the solver of the checker."""
    context = z3.Context()  # what a text that is refused leaves behind goes with it
    solver = z3.SolverFor("QF_BV", ctx=context)
    solver.set("rlimit", 10 * EFFORT)
    try:
        solver.add(z3.parse_smt2_string(script, ctx=context))
    except z3.Z3Exception:
        return False
    return bool(solver.check() == z3.unsat)


# -- a short symbol that hides a bounded value -------------------------------------------------------------------------
@dataclass
class Bounded:
    """Integer bounds of nodes. ranges: of inputs, by owner and label."""

    graph: Graph
    ranges: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def distance(self, symbol: int) -> tuple[int, Fraction] | None:
        """The node that a symbol hides in a wider ring, and how far its law is from one that hides all."""
        dag, uses = self.graph.dag, self.graph.uses
        wide = uses[symbol][0]
        if len(uses[symbol]) != 1 or wide == VIEW or dag.nodes[wide].op != "cast":
            return None
        target = uses[wide][0]
        if len(uses[wide]) != 1 or target == VIEW or dag.nodes[target].op not in ("add", "sub"):
            return None
        node = dag.nodes[target]
        low, high = self.of(next(a for a in node.args if a != wide))
        return target, Fraction(math.prod(node.shape) * (high - low), 1 << dag.nodes[symbol].ring.l)

    def of(self, number: int, depth: int = 0) -> tuple[int, int]:
        """Bounds of integers that the entries are congruent to."""
        dag = self.graph.dag
        node = dag.nodes[number]
        ring = (0, node.ring.mask)
        if node.op == CONST:
            words = dag.constants[number]
            return (int(words.min()), int(words.max())) if words.size else (0, 0)
        if node.op == INPUT:
            return self.ranges.get((node.owner, node.label), ring)
        if node.op == DRAW or self.graph.is_cut(number) or depth > DEEP:
            return ring
        bounds = [self.of(a, depth + 1) for a in node.args]
        (low, high), source = bounds[0], dag.nodes[node.args[0]]
        if node.op in ("cast", "shr"):
            k = node.params[0] if node.op == "shr" else 0
            if (k or node.ring.l > source.ring.l) and not 0 <= low <= high <= source.ring.mask:
                low, high = 0, source.ring.mask
            return low >> k, high >> k
        if node.op == "sum":
            count = source.shape[node.params[0]]
            return count * low, count * high
        if node.op in ("reshape", "transpose", "index", "broadcast", "concat"):
            return min(b[0] for b in bounds), max(b[1] for b in bounds)
        if node.op in ("add", "sub"):
            other = bounds[1] if node.op == "add" else (-bounds[1][1], -bounds[1][0])
            return low + other[0], high + other[1]
        if node.op == "neg":
            return -high, -low
        return (0, 1) if node.op == "equals" else ring
