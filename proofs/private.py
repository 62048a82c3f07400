"""Privacy of a corrupted party's view by optimistic sampling on the array DAG.

A random symbol r (uniform, independent, unseen by the corrupted party) whose ONLY use is a node t that is uniform for
every value of everything else is traded for t itself being a fresh symbol: the joint law of the view is unchanged, and
what t hid is gone. Repeat; when no secret reaches the view, the view has one law for all secrets: PROVED. Each trade is
a step of the certificate. Uses are counted over the live part of the DAG, so masks of later messages free earlier ones.

The local rules, each with the reason why t is uniform when r is (r's only use is t):
  add, sub              t = e +- r is a bijection of r for every e
  neg, odd              negation, and the product by odd public constants, are bijections modulo 2^l
  reshape, transpose    permutations of entries
  concat                all parts are independent symbols used nowhere else
  index                 a selection of distinct entries of a uniform array is uniform
  cast                  the low bits of a uniform word are uniform
  sum                   a sum of independent uniform entries is uniform
The joint rules, about symbols and all the nodes through which they reach the view, when no local rule applies:
  split                 disjoint entries or bit fields of one symbol are independent and uniform
  linear                sums of symbols with factors of full rank modulo 2 (`proofs.forms`)
  injective             Z3 finds the node one-to-one in the symbol
  statistical           a symbol hides a bounded value in a wider ring, up to a distance that the proof adds up
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from proofs.forms import VIEW, linear
from proofs.search import ROOM, Bounded, injective, parts
from proofs.symbolic import CONST, DRAW, INPUT, Dag, cone
from proofs.trace import Seen
from sim.role import Role

Ranges = Mapping[tuple[str, str], tuple[int, int]]
ANYTHING: Ranges = MappingProxyType({})
JOINT = frozenset({"split", "linear", "injective", "statistical"})


@dataclass(frozen=True)
class Step:
    """By `rule` the symbols, used nowhere else, make the nodes uniform together (hide what is in them: statistical)."""

    rule: str
    symbols: tuple[int, ...]
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """A view entry that still depends on secrets when no rule applies any more."""

    seen: Seen
    secrets: tuple[int, ...]
    path: tuple[int, ...]


@dataclass(frozen=True)
class Peeled:
    """The steps found, and what they leave: no findings means that the view is independent of every secret, up to a
    statistical distance."""

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    distance: Fraction = Fraction(0)


class Peeler:
    """One proof attempt for one corrupted party."""

    def __init__(
        self, dag: Dag, view: Sequence[Seen], corrupted: Role, ranges: Ranges = ANYTHING, room: Fraction = ROOM
    ) -> None:
        self.dag, self.view, self.corrupted = dag, view, corrupted
        self.room, self.distance, self.bounded = room, Fraction(0), Bounded(self, ranges)
        self.fresh: set[int] = set()
        self.settled: set[int] = set()
        self.uses: dict[int, list[int]] = {}
        self.steps: list[Step] = []
        roots = [seen.node for seen in view]
        for number in cone(dag, roots):
            self.uses.setdefault(number, [])
            for a in dag.nodes[number].args:
                self.uses[a].append(number)
        for root in roots:
            self.uses[root].append(VIEW)

    def is_symbol(self, number: int) -> bool:
        """A fresh symbol, or a draw that the corrupted party does not know."""
        node = self.dag.nodes[number]
        return number in self.fresh or (node.op == DRAW and node.owner != self.corrupted.value)

    def is_cut(self, number: int) -> bool:
        """Whether a node no longer depends on its operands."""
        return number in self.fresh or number in self.settled

    def is_secret(self, number: int) -> bool:
        node = self.dag.nodes[number]
        return node.op == INPUT and node.owner != self.corrupted.value

    def run(self) -> Peeled:
        secrets = [n for n in self.uses if self.is_secret(n)]
        queue = deque(sorted((n for n in self.uses if self.is_symbol(n)), reverse=True))
        while queue:
            self._peel(queue)
            if any(self.uses[n] for n in secrets):
                step = self.joint()
                if step is not None:
                    self._take(step, queue)
        return Peeled(tuple(self.steps), tuple(self._findings()), self.distance)

    def _peel(self, queue: deque[int]) -> None:
        """Local rules, and splits, until none applies."""
        while queue:
            symbol = queue.popleft()
            uses = self.uses.get(symbol, [])
            if not uses or VIEW in uses or not self.is_symbol(symbol):
                continue
            rule = self.rule(symbol, uses[0]) if len(uses) == 1 else None
            if rule is not None:
                self._take(Step(rule, (symbol,), (uses[0],)), queue)
                continue
            pieces = parts(self, symbol)
            if pieces is not None:
                self._take(Step("split", (symbol,), tuple(pieces)), queue)

    def joint(self) -> Step | None:
        """A step about several symbols, or about one that no local rule is about."""
        stuck = sorted(n for n, uses in self.uses.items() if uses and VIEW not in uses and self.is_symbol(n))
        group = linear(self, stuck)
        if group is not None:
            return Step("linear", group.symbols, group.nodes)
        for symbol in stuck:
            node = injective(self, symbol)
            if node is not None:
                return Step("injective", (symbol,), (node,))
        for symbol in stuck:
            hidden = self.bounded.distance(symbol)
            if hidden is not None and self.distance + hidden[1] < self.room:
                self.distance += hidden[1]
                return Step("statistical", (symbol,), (hidden[0],))
        return None

    def _take(self, step: Step, queue: deque[int]) -> None:
        self.steps.append(step)
        (self.settled if step.rule == "statistical" else self.fresh).update(step.nodes)
        for node in step.nodes:
            queue.extend(self._cut(node))
        queue.extend(step.nodes)

    def _cut(self, node: int) -> list[int]:
        """Drop the edges below a node that was cut off; returns symbols with fewer uses than before."""
        touched: list[int] = []
        stack = [(node, a) for a in self.dag.nodes[node].args]
        while stack:
            user, used = stack.pop()
            self.uses[used].remove(user)
            if self.is_symbol(used):
                touched.append(used)
            if not self.uses[used] and not self.is_cut(used):
                stack += [(used, a) for a in self.dag.nodes[used].args]
        return touched

    def rule(self, symbol: int, number: int) -> str | None:
        """The rule by which `number` is uniform, or None."""
        node, r = self.dag.nodes[number], self.dag.nodes[symbol]
        if node.op in ("add", "sub", "neg", "reshape", "transpose"):
            return node.op
        if node.op == "concat":
            rest = [a for a in node.args if a != symbol]
            whole = all(self.is_symbol(a) and self.uses[a] == [number] for a in rest)
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
            if self.is_cut(seen.node):
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
            if self.is_cut(number):
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


def prove_private(
    dag: Dag, view: Sequence[Seen], corrupted: Role, ranges: Ranges = ANYTHING, room: Fraction = ROOM
) -> Peeled:
    """All steps that can be found, and what stays exposed.

    ranges: inclusive bounds of inputs, by owner and label; a premise of what is proved. room: statistical distance that
    the steps stay below.
    """
    return Peeler(dag, view, corrupted, ranges, room).run()
