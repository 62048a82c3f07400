"""Privacy of a corrupted party's view by optimistic sampling on the array DAG.

A random symbol r (uniform, independent, unseen by the corrupted party) whose ONLY use is a node t that is uniform for
every value of everything else is traded for t itself being a fresh symbol: the joint law of the view is unchanged, and
what t hid is gone. Repeat; when no secret reaches the view, the view has one law for all secrets: PROVED. Each trade is
a step of the certificate. Uses are counted over the live part of the DAG, so masks of later messages free earlier ones.

The rules, each with the reason why t is uniform when r is (r's only use is t):
  add, sub              t = e +- r is a bijection of r for every e
  neg, odd              negation, and the product by odd public constants, are bijections modulo 2^l
  reshape, transpose    permutations of entries
  concat                all parts are independent symbols used nowhere else
  index                 a selection of distinct entries of a uniform array is uniform
  cast                  the low bits of a uniform word are uniform
  sum                   a sum of independent uniform entries is uniform
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from proofs.symbolic import CONST, DRAW, INPUT, Dag, cone
from proofs.trace import Seen
from sim.role import Role

VIEW = -1  # the consumer number of the view itself


@dataclass(frozen=True)
class Step:
    """Node `symbol`, used nowhere else, makes node `node` uniform by `rule`."""

    rule: str
    symbol: int
    node: int


@dataclass(frozen=True)
class Finding:
    """A view entry that still depends on secrets when no rule applies any more."""

    seen: Seen
    secrets: tuple[int, ...]
    path: tuple[int, ...]


@dataclass(frozen=True)
class Peeled:
    """The steps found, and what they leave: no findings means that the view is independent of every secret."""

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]


class Peeler:
    """One proof attempt for one corrupted party."""

    def __init__(self, dag: Dag, view: Sequence[Seen], corrupted: Role) -> None:
        self.dag, self.view, self.corrupted = dag, view, corrupted
        self.fresh: set[int] = set()
        self.uses: dict[int, list[int]] = {}
        self.steps: list[Step] = []
        roots = [seen.node for seen in view]
        for number in cone(dag, roots):
            self.uses.setdefault(number, [])
            for a in dag.nodes[number].args:
                self.uses[a].append(number)
        for root in roots:
            self.uses[root].append(VIEW)

    def is_random(self, number: int) -> bool:
        """A fresh symbol, or a draw that the corrupted party does not know."""
        node = self.dag.nodes[number]
        return number in self.fresh or (node.op == DRAW and node.owner != self.corrupted.value)

    def is_secret(self, number: int) -> bool:
        node = self.dag.nodes[number]
        return node.op == INPUT and node.owner != self.corrupted.value

    def run(self) -> Peeled:
        queue = deque(sorted((n for n in self.uses if self.is_random(n)), reverse=True))
        while queue:
            symbol = queue.popleft()
            uses = self.uses.get(symbol, [])
            if len(uses) != 1 or uses[0] == VIEW or not self.is_random(symbol):
                continue
            node = uses[0]
            rule = self.rule(symbol, node)
            if rule is None:
                continue
            self.steps.append(Step(rule, symbol, node))
            self.fresh.add(node)
            queue.extend(self._cut(node))
            queue.append(node)
        return Peeled(tuple(self.steps), tuple(self._findings()))

    def _cut(self, node: int) -> list[int]:
        """Drop the edges below a node that became a symbol; returns random symbols with fewer uses than before."""
        touched: list[int] = []
        stack = [(node, a) for a in self.dag.nodes[node].args]
        while stack:
            user, used = stack.pop()
            self.uses[used].remove(user)
            if self.is_random(used):
                touched.append(used)
            if not self.uses[used] and used not in self.fresh:
                stack += [(used, a) for a in self.dag.nodes[used].args]
        return touched

    def rule(self, symbol: int, number: int) -> str | None:
        """The rule by which `number` is uniform, or None."""
        node, r = self.dag.nodes[number], self.dag.nodes[symbol]
        if node.op in ("add", "sub", "neg", "reshape", "transpose"):
            return node.op
        if node.op == "concat":
            rest = [a for a in node.args if a != symbol]
            whole = all(self.is_random(a) and self.uses[a] == [number] for a in rest)
            return "concat" if whole and len(set(node.args)) == len(node.args) else None
        if node.op == "index" and _distinct(node.params[0]):
            return "index"
        if node.op == "sum" and r.shape[node.params[0]] > 0:
            return "sum"
        if node.op == "cast" and node.ring.l <= r.ring.l:
            return "cast"
        if node.op == "mul":
            other = next((a for a in node.args if a != symbol), None)
            if other is not None and self.dag.nodes[other].op == CONST and bool((self.dag.constants[other] & 1).all()):
                return "odd"
        return None

    def _findings(self) -> list[Finding]:
        findings = []
        for seen in self.view:
            if seen.node in self.fresh:
                continue
            secrets, path = self._exposed(seen.node)
            if secrets:
                findings.append(Finding(seen, secrets, path))
        return findings

    def _exposed(self, root: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The secrets that reach a view entry without passing a fresh symbol, and one such path."""
        parent = {root: VIEW}
        stack, secrets = [root], []
        while stack:
            number = stack.pop()
            if self.is_secret(number):
                secrets.append(number)
            if number in self.fresh:
                continue
            for a in self.dag.nodes[number].args:
                if a not in parent:
                    parent[a] = number
                    stack.append(a)
        path: list[int] = []
        at = min(secrets, default=VIEW)
        while at != VIEW:
            path.append(at)
            at = parent[at]
        return tuple(sorted(secrets)), tuple(path)


def _distinct(key: object) -> bool:
    """Basic indexing (integers, slices, Ellipsis) never repeats an entry."""
    if isinstance(key, tuple) and key and key[0] == "tuple":
        return all(_distinct(part) for part in key[1:])
    return key is None or isinstance(key, int) or key == "..." or (isinstance(key, tuple) and key[0] == "slice")


def prove_private(dag: Dag, view: Sequence[Seen], corrupted: Role) -> Peeled:
    """All steps that can be found, and what stays exposed."""
    return Peeler(dag, view, corrupted).run()
