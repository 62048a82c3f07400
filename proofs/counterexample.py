"""Why a stuck view leaks: two secrets of the peer and something in the view that differs, proved apart from the engine.

Three proofs, cheapest first: a bit of a message that no unseen randomness reaches; a sum of messages in which all of it
cancels (both by `proofs.distinguish`, at full width and real shapes); the exact law of the view on a tiny instance.
A program whose control flow or schedule follows secrets is refused before it has a view: BRANCH, SCHEDULE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from proofs.distinguish import ROWS, annihilators, coefficients, reached
from proofs.enumerate import Joint, TooManyLanes, Value, arguments, hybrid_services
from proofs.private import prove_private
from proofs.symbolic import CONST, DRAW, INPUT, Dag, Node, evaluate
from proofs.trace import Seen, Trace, trace
from protocols.entry import Case
from sim.party import ProtocolDecl
from sim.ring import Ring, SecretControlFlow
from sim.role import CLIENT, SERVER, Role

Words = NDArray[Any]
Kind = Literal["PROVED", "LEAK", "BRANCH", "SCHEDULE", "UNKNOWN"]
UNTOUCHED, CANCELS, LAW = "bits that no randomness reaches", "a sum without randomness", "the exact law"
TRIES = 12


@dataclass(frozen=True)
class Counterexample:
    """how: which of the three proofs. messages: labels of the view entries. term: what is left in them. line: where the
    protocol text made the first of them. path: operations from there down to a secret. secrets: two values of the
    peer's inputs. shown: what the view tells under each.
    """

    how: str
    role: Role
    messages: tuple[str, ...]
    term: str
    line: str
    path: tuple[str, ...]
    secrets: tuple[tuple[Value, ...], tuple[Value, ...]]
    shown: tuple[str, str]

    def __str__(self) -> str:
        first, second = (", ".join(f"{name} = {_some(words)}" for name, words in s) for s in self.secrets)
        return (
            f"corrupted {self.role.value}: {', '.join(self.messages)} ({self.line}): {self.how}: {self.term} is "
            f"{self.shown[0]} if {first}, and {self.shown[1]} if {second}; path {' <- '.join(self.path)}"
        )


def _some(words: Sequence[int]) -> str:
    """The first words of an array."""
    return f"[{', '.join(map(str, words[:4]))}{', ...' if len(words) > 4 else ''}]"


@dataclass(frozen=True)
class Judgement:
    """A verdict on one corrupted party's view, with the proof of a leak or the reason of a refusal."""

    kind: Kind
    detail: str
    leak: Counterexample | None = None


def symbolic(proto: ProtocolDecl[Any], case: Case) -> Trace:
    """The case's symbolic run. Raises SecretControlFlow, or TypeError where the text looks at words."""
    dag = Dag()
    given = arguments(case, lambda role, name, spec: dag.leaf(role.value, name, spec))
    return trace(proto, hybrid_services(case), given[CLIENT], given[SERVER], case.public, dag)


def judge(proto: ProtocolDecl[Any], case: Case, role: Role, tiny: Case | None = None) -> Judgement:
    """The engine's verdict on the case; where it is stuck, a counterexample on the case or on the tiny one."""
    try:
        run = symbolic(proto, case)
    except SecretControlFlow as error:
        return Judgement("BRANCH", str(error))
    except TypeError as error:
        if "expected a concrete array" not in str(error):
            raise
        return Judgement("SCHEDULE", f"the text looks at the words of an array, and its schedule may follow: {error}")
    view = run.view(role)
    stuck = prove_private(run.dag, view, role).findings
    if not stuck:
        return Judgement("PROVED", "")
    leak = refute(run, role) or (enumerated(proto, tiny, role) if tiny is not None else None)
    if leak is not None:
        return Judgement("LEAK", str(leak), leak)
    terms = "; ".join(f"{f.seen.label}: {term(run.dag, f.seen.node)}" for f in stuck[:3])
    return Judgement("UNKNOWN", f"stuck at {terms}")


def refute(run: Trace, role: Role) -> Counterexample | None:
    """A leak at this width and shape, or None."""
    dag, view = run.dag, run.view(role)
    return _untouched(dag, view, role) or _cancelling(dag, view, role)


def enumerated(proto: ProtocolDecl[Any], case: Case, role: Role) -> Counterexample | None:
    """A leak of a tiny instance, from the law of its view; None where there is none or it is too large."""
    try:
        law = Joint(proto, case).law(role)
    except TooManyLanes:
        return None
    if law.leak is None:
        return None
    run = symbolic(proto, case)
    shown = [v for v in law.leak.view if v[1]]
    names = {label for label, _ in shown}
    seen = next(s for s in run.view(role) if _bare(s.label) in names)
    view = ", ".join(f"{label} = {list(words)}" for label, words in shown)
    first, second = law.leak.probabilities
    given = ", ".join(f"{label} = {list(words)}" for label, words in law.leak.own) or "nothing"
    how = f"{LAW} (distance {law.distance}, given {given})"
    shown_as = (f"of probability {first}", f"of probability {second}")
    return _told(run.dag, role, how, [seen], f"the view {view}", law.leak.secrets, shown_as)


# -- two evaluations --------------------------------------------------------------------------------------------------
def _words(node: Node, salt: str) -> Words:
    size = max(1, int(np.prod(node.shape)))
    data = hashlib.shake_128(f"{salt}/{node.owner}/{node.label}".encode()).digest(8 * size)
    words = np.frombuffer(data, "<u8")[: int(np.prod(node.shape))].reshape(node.shape)
    return np.asarray(words & np.uint64(node.ring.mask))


def _leaves(role: Role, secret: str) -> Callable[[Node], Words]:
    """Words of all leaves: only the peer's inputs depend on `secret` (a salt; "zero" and "one" are those values)."""

    def leaf(node: Node) -> Words:
        if node.op != INPUT or node.owner == role.value:
            return _words(node, "fixed")
        if secret in ("zero", "one"):
            return np.full(node.shape, int(secret == "one"), np.uint64)
        return _words(node, secret)

    return leaf


def _salts() -> list[str]:
    return ["zero", "one", *(f"secret {i}" for i in range(TRIES))]


def _secret_values(dag: Dag, role: Role, salt: str) -> tuple[Value, ...]:
    leaf = _leaves(role, salt)
    mine = [node for node in dag.nodes if node.op == INPUT and node.owner != role.value]
    return tuple((node.label, tuple(int(v) for v in leaf(node).reshape(-1))) for node in mine)


def _untouched(dag: Dag, view: Sequence[Seen], role: Role) -> Counterexample | None:
    """Bits of one view entry, outside the reach of all unseen draws, that differ for two secrets."""
    roots = [seen.node for seen in view]
    touched = reached(dag, roots, role)
    bare = [s for s in view if bool((~touched[s.node] & np.uint64(dag.nodes[s.node].ring.mask)).any())]
    if not bare:
        return None
    salts = _salts()
    values = [evaluate(dag, [s.node for s in bare], _leaves(role, salt)) for salt in salts]
    for seen in bare:
        free = ~touched[seen.node] & np.uint64(dag.nodes[seen.node].ring.mask)
        shown = [v[seen.node].astype(np.uint64) & free for v in values]
        for i in range(1, len(salts)):
            differ = np.argwhere(shown[i] != shown[0])
            if len(differ):
                at = tuple(int(k) for k in differ[0])
                secrets = (_secret_values(dag, role, salts[0]), _secret_values(dag, role, salts[i]))
                bits = [k for k in range(dag.nodes[seen.node].ring.l) if int(free[at]) >> k & 1]
                what = f"entry {list(at)}, bits {bits[0]} to {bits[-1]}, of {term(dag, seen.node)}"
                return _told(dag, role, UNTOUCHED, [seen], what, secrets, (str(shown[0][at]), str(shown[i][at])))
    return None


def _cancelling(dag: Dag, view: Sequence[Seen], role: Role) -> Counterexample | None:
    """A combination of view entries in which every unseen draw cancels, and which differs for two secrets."""
    roots = [seen.node for seen in view]
    affine, count = coefficients(dag, roots, role, _leaves(role, "zero"))
    salts = _salts()
    values = [evaluate(dag, roots, _leaves(role, salt)) for salt in salts]
    for l in sorted({dag.nodes[n].ring.l for n in roots} | {1}, reverse=True):
        rows, where = [], []
        for seen in view:
            matrix = affine[seen.node]
            if matrix is None or dag.nodes[seen.node].ring.l < l or (l > 1 and dag.nodes[seen.node].ring.l != l):
                continue
            size = int(np.prod(dag.nodes[seen.node].shape))
            rows += list(matrix.reshape(size, count))
            where += [(seen, i) for i in range(size)]
        if not rows or len(rows) > ROWS:
            continue
        entries = [np.array([v[s.node].reshape(-1)[i] for s, i in where], dtype=np.uint64) for v in values]
        for c in annihilators(np.array(rows), l):
            sums = [int((c * e).sum(dtype=np.uint64)) & Ring(l).mask for e in entries]
            other = next((i for i, total in enumerate(sums) if total != sums[0]), None)
            if other is not None:
                used = [(int(k), *where[j]) for j, k in enumerate(c) if k]
                text = " + ".join(f"{_signed(k, l)} {_bare(s.label)}[{i}]" for k, s, i in used)
                secrets = (_secret_values(dag, role, salts[0]), _secret_values(dag, role, salts[other]))
                told = (str(sums[0]), str(sums[other]))
                return _told(dag, role, CANCELS, [s for _, s, _ in used], f"{text} mod 2^{l}", secrets, told)
    return None


def _signed(k: int, l: int) -> int:
    return k - (1 << l) if l > 1 and k >> (l - 1) else k


def _bare(label: str) -> str:
    """A label without the number of the run."""
    return label.split("/", 1)[-1]


# -- how it is told ---------------------------------------------------------------------------------------------------
def _told(
    dag: Dag,
    role: Role,
    how: str,
    seen: Sequence[Seen],
    what: str,
    secrets: tuple[tuple[Value, ...], tuple[Value, ...]],
    shown: tuple[str, str],
) -> Counterexample:
    labels = tuple(dict.fromkeys(_bare(s.label) for s in seen))
    path = _path(dag, seen[0].node, role)
    steps = tuple(f"{_bare(dag.nodes[n].label) or dag.nodes[n].op} at {dag.nodes[n].line}" for n in path)
    return Counterexample(how, role, labels, what, dag.nodes[seen[0].node].line, steps, secrets, shown)


def _path(dag: Dag, root: int, role: Role) -> tuple[int, ...]:
    """Nodes from a view entry down to the nearest of the peer's inputs; the entry alone if none is below."""
    parent, layer = {root: root}, [root]
    while layer:
        below = []
        for n in layer:
            node = dag.nodes[n]
            if node.op == INPUT and node.owner != role.value:
                path = [n]
                while path[-1] != root:
                    path.append(parent[path[-1]])
                return tuple(reversed(path))
            for a in node.args:
                if a not in parent:
                    parent[a] = n
                    below.append(a)
        layer = below
    return (root,)


_INFIX = {"add": "+", "sub": "-", "mul": "*", "matmul": "@"}


def term(dag: Dag, number: int, depth: int = 5) -> str:
    """A node as an expression, cut off below a depth."""
    node = dag.nodes[number]
    if node.op in (INPUT, DRAW):
        return f"{node.owner}:{_bare(node.label)}"
    if node.op == CONST:
        return str(node.params[0]) if isinstance(node.params[0], int) else "constant"
    if depth == 0:
        return "..."
    parts = [term(dag, a, depth - 1) for a in node.args]
    if node.op in _INFIX:
        return f"({parts[0]} {_INFIX[node.op]} {parts[1]})"
    extra = [str(p) for p in node.params if isinstance(p, int)]
    return f"{node.op}({', '.join(parts + extra)})"
