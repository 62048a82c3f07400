"""The checker of privacy certificates: the trusted base of every verdict PRIVATE. Standard library only; no search.

What a certificate claims: for every value of the honest party's inputs, the view of the corrupted party (every array
that a message or an ideal functionality gives it, as nodes of an array DAG over independent uniform draws) has the same
joint law, given the corrupted party's own inputs and draws.

Why it is believed. The DAG, the view and the claim are rebuilt from the source (by the caller's `rebuild`) and must be
equal to those of the certificate; the steps are then replayed on them. A SYMBOL is a draw that the corrupted party does
not own, or a node made fresh by an earlier step. Invariant: all symbols together are independent and uniform given
everything else that is still live, and the law of the view is that of the original DAG. A step (rule, r, t) names a
symbol r whose only live use is its use by the live node t. Everything else that t is computed from is therefore
independent of r, and if t is uniform for every value of that rest, then t is uniform and independent of all that is
live after the edges below t are gone: t may be replaced by a fresh symbol. When no input of the honest party is live
any more, the view is a function of symbols and of what the corrupted party owns: its law cannot depend on a secret.
The soundness of each rule is argued beside it. `live` counts uses: entries of the view, and edges from live nodes that
are not fresh.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FORMAT, VERSION = "secmoe-privacy", 1
PARTIES, OWNERS = ("client", "server"), ("client", "server", "functionality")
REBUILT = ("claim", "sources", "versions", "dag", "dag_digest", "view")  # what must equal the source's own


class Rejected(ValueError):
    """The certificate proves nothing: it is unreadable, about other sources, or a step of it does not hold."""


@dataclass(frozen=True)
class Accepted:
    """What has been verified."""

    claim: dict[str, Any]
    nodes: int
    steps: int
    digest: str


@dataclass(frozen=True)
class Node:
    """One array operation: entries over Z_{2^width}."""

    op: str
    args: tuple[int, ...]
    params: tuple[Any, ...]
    width: int
    shape: tuple[int, ...]


def need(holds: bool, otherwise: str) -> None:
    """Every condition of the checker goes through here."""
    if not holds:
        raise Rejected(otherwise)


def canonical(value: Any) -> str:
    """The one encoding of a JSON value: sorted keys, no white space, ASCII, no floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _no_float(text: str) -> Any:
    raise Rejected(f"expected integers only, got {text}: the file is not a certificate of this program")


def read(text: str) -> dict[str, Any]:
    """Parse a certificate; raises Rejected on anything that is not one, byte for byte as it was written."""
    try:
        document: dict[str, Any] = json.loads(text, parse_float=_no_float, parse_constant=_no_float)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Rejected(f"expected a certificate, got a truncated or damaged file ({error}); write it again") from None
    need(isinstance(document, dict) and document.get("format") == FORMAT, f"expected the format {FORMAT}, got another")
    found = document.get("version")
    need(
        type(found) is int and found == VERSION, f"expected certificate version {VERSION}, got {found}; prove it again"
    )
    body = {key: value for key, value in document.items() if key != "digest"}
    need(document.get("digest") == digest(body), "the certificate was altered: its digest differs; prove it again")
    need(isinstance(document.get("claim"), dict), "malformed certificate: it makes no claim")
    need(canonical(document) + "\n" == text, "the certificate was altered: its encoding is not the canonical one")
    return document


def check(text: str, rebuild: Callable[[dict[str, Any]], dict[str, Any]]) -> Accepted:
    """Verify a certificate against the source. rebuild: from a claim, the document of the source itself (no steps)."""
    document = read(text)
    fresh = rebuild(document["claim"])
    for part in REBUILT:
        if canonical(fresh[part]) != canonical(document.get(part)):
            raise Rejected(
                f"the certificate is about another source: {_difference(part, document.get(part), fresh[part])}"
            )
    return verify(document)


def _difference(part: str, claimed: Any, actual: Any) -> str:
    if isinstance(claimed, dict) and isinstance(actual, dict):
        names = sorted(key for key in {*claimed, *actual} if claimed.get(key) != actual.get(key))
        return f"{part} differs in {', '.join(names[:3])}; prove it again"
    return f"{part} differs; prove it again"


def verify(document: dict[str, Any]) -> Accepted:
    """Replay the steps on the certificate's own DAG and view."""
    try:
        return _Replay(document).run()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, Rejected):
            raise
        raise Rejected(f"malformed certificate: {type(error).__name__}: {error}") from None


class _Replay:
    """The live part of the DAG while steps are replayed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.corrupted = document["claim"]["corrupted"]
        need(self.corrupted in PARTIES, f"corrupted party: expected client or server, got {self.corrupted!r}")
        kinds, rows = document["dag"]["kinds"], document["dag"]["nodes"]
        self.nodes = []
        for kind, *args in rows:
            op, params, width, shape, _line = kinds[kind]
            self.nodes.append(Node(op, tuple(args), tuple(params), width, tuple(shape)))
        self.roots = [entry[-1] for entry in document["view"] if entry[-1] is not None]
        self.fresh: set[int] = set()
        labels: set[tuple[str, str]] = set()
        for number, node in enumerate(self.nodes):
            # Operands come first: the graph has no cycle, and a symbol never depends on itself.
            need(all(type(a) is int and 0 <= a < number for a in node.args), f"node {number}: operands must precede it")
            if node.op == "draw":
                # A draw of an unknown owner would count as unseen by everybody.
                need(node.params[0] in OWNERS, f"node {number}: unknown owner {node.params[0]!r}")
                # Two draws under one label are the same tape bytes, not independent.
                need(
                    (node.params[0], node.params[1]) not in labels,
                    f"node {number}: label {node.params[1]!r} drawn twice",
                )
                labels.add((node.params[0], node.params[1]))
        self.live = [0] * len(self.nodes)
        for root in self.roots:
            need(type(root) is int and 0 <= root < len(self.nodes), f"view entry: expected a node, got {root!r}")
            self.live[root] += 1
        for number in reversed(range(len(self.nodes))):
            if self.live[number]:
                for a in self.nodes[number].args:
                    self.live[a] += 1

    def run(self) -> Accepted:
        for number, (rule, symbol, target) in enumerate(self.document["steps"]):
            need(type(symbol) is int and 0 <= symbol < len(self.nodes), f"step {number}: no node {symbol!r}")
            need(type(target) is int and 0 <= target < len(self.nodes), f"step {number}: no node {target!r}")
            try:
                self.step(rule, symbol, target)
            except Rejected as reason:
                raise Rejected(f"step {number} ({rule} at node {target}): {reason}") from None
        for number, node in enumerate(self.nodes):
            secret = node.op == "input" and node.params[0] != self.corrupted
            need(
                not (secret and self.live[number]),
                f"the view still depends on the secret at node {number}: {node.params}",
            )
        return Accepted(self.document["claim"], len(self.nodes), len(self.document["steps"]), self.document["digest"])

    def is_symbol(self, number: int) -> bool:
        """Fresh, or a draw that the corrupted party does not know."""
        node = self.nodes[number]
        return number in self.fresh or (node.op == "draw" and node.params[0] != self.corrupted)

    def step(self, rule: str, r: int, t: int) -> None:
        node = self.nodes[t]
        need(t not in self.fresh, "the node is a symbol already")  # its operands no longer matter
        need(self.live[t] > 0, "the node does not reach the view")  # nor do those of a dead node
        need(r in node.args, f"node {r} is not an operand")
        need(self.is_symbol(r), f"node {r} is not uniform and unseen")
        need(self.live[r] == 1, f"node {r} has {self.live[r]} uses, expected this one only")
        need(rule in RULES, f"unknown rule {rule!r}")
        op, arity, holds = RULES[rule]
        need(node.op == op, f"the node is a {node.op}")
        need(arity is None or len(node.args) == arity, f"{len(node.args)} operands, expected {arity}")
        holds(self, r, t)
        self.fresh.add(t)
        dropped = [t]  # edges below t are no longer uses; nor are those below what dies with them
        while dropped:
            for a in self.nodes[dropped.pop()].args:
                self.live[a] -= 1
                if self.live[a] == 0 and a not in self.fresh:
                    dropped.append(a)

    def same(self, t: int) -> None:
        """All operands have the node's width and shape: the operation works entry by entry in one ring."""
        node = self.nodes[t]
        for a in node.args:
            need(self.nodes[a].width == node.width, "operands of another width")
            need(self.nodes[a].shape == node.shape, "operands of another shape")

    # -- the rules: why t is uniform, for every value of everything but r, when r is ----------------------------------
    def additive(self, r: int, t: int) -> None:
        """t = e + r, e - r, r - e or -r, entry by entry: for every e a bijection of r on Z_{2^l}. r is not in e: it has
        one use. In Z_2 this is xor."""
        self.same(t)

    def odd(self, r: int, t: int) -> None:
        """t = c r with every entry of the public c odd: c is invertible modulo 2^l, so r -> c r is a bijection."""
        self.same(t)
        others = [self.nodes[a] for a in self.nodes[t].args if a != r]
        need(others[0].op == "const", "the factor is not public")
        value = others[0].params[0]
        words = [value] if type(value) is int else bytes.fromhex(value)[::8]  # lowest byte of each 64-bit word
        need(all(word & 1 for word in words), "the factor is even")

    def reshape(self, r: int, t: int) -> None:
        """The same entries in the same order under another shape of equal size: a bijection."""
        old, new = self.nodes[r], self.nodes[t]
        need(old.width == new.width, "reshape changes the width")
        need(math.prod(old.shape) == math.prod(new.shape), "reshape changes the size")

    def transpose(self, r: int, t: int) -> None:
        """Entries in another order, by a permutation of the axes: a bijection."""
        old, new = self.nodes[r], self.nodes[t]
        need(old.width == new.width, "transpose changes the width")
        need(sorted(new.params) == list(range(len(old.shape))), "the axes are not a permutation")
        need(new.shape == tuple(old.shape[i] for i in new.params), "transpose has another shape")

    def index(self, r: int, t: int) -> None:
        """Integers, slices, new axes and an ellipsis select DISTINCT entries: some coordinates of a uniform vector are
        uniform. The shape is recomputed, so nothing is repeated."""
        old, new = self.nodes[r], self.nodes[t]
        need(old.width == new.width, "index changes the width")
        need(new.shape == selected(old.shape, new.params[0]), "index has another shape")

    def cast(self, r: int, t: int) -> None:
        """The low bits of a uniform word are uniform. (To a wider ring the high bits would be zero.)"""
        old, new = self.nodes[r], self.nodes[t]
        need(new.width <= old.width, "a wider ring: the high bits are not uniform")
        need(old.shape == new.shape, "cast changes the shape")

    def concat(self, r: int, t: int) -> None:
        """All parts are symbols used nowhere else, hence independent and uniform together; t holds each part's entries
        once. One use each also makes the parts distinct."""
        node, parts = self.nodes[t], [self.nodes[a] for a in self.nodes[t].args]
        need(all(self.is_symbol(a) for a in node.args), "a part is not uniform and unseen")
        need(all(self.live[a] == 1 for a in node.args), "a part has other uses")
        need(all(part.width == node.width for part in parts), "a part of another width")
        need(math.prod(node.shape) == sum(math.prod(part.shape) for part in parts), "parts of another total size")

    def sum(self, r: int, t: int) -> None:
        """Each entry of t is the sum of its own, at least one, independent uniform entries of r."""
        old, new, axis = self.nodes[r], self.nodes[t], self.nodes[t].params[0]
        need(old.width == new.width, "sum changes the width")
        need(new.shape == old.shape[:axis] + old.shape[axis + 1 :], "sum has another shape")
        need(old.shape[axis] > 0, "an empty sum is zero")


def selected(shape: tuple[int, ...], key: Any) -> tuple[int, ...]:
    """The shape of a basic selection; raises Rejected on any other key."""
    parts = key[1:] if isinstance(key, list) and key[:1] == ["tuple"] else [key]
    gap = len(shape) - sum(type(part) is int or isinstance(part, list) for part in parts)
    result: list[int] = []
    rest = list(shape)
    for part in [*parts, *([] if "..." in parts else ["..."])]:
        if part is None:
            result.append(1)
        elif part == "...":
            result, rest = result + rest[:gap], rest[gap:]
        elif type(part) is int:
            need(-rest[0] <= part < rest.pop(0), "an index out of range")
        else:
            need(part[0] == "slice", f"expected integers and slices, got {part!r}")
            result.append(len(range(*slice(*part[1:]).indices(rest.pop(0)))))
    return tuple(result)


# rule -> (operation of the node, number of its operands or None for any, side conditions)
RULES: dict[str, tuple[str, int | None, Callable[[_Replay, int, int], None]]] = {
    "add": ("add", 2, _Replay.additive),
    "sub": ("sub", 2, _Replay.additive),
    "neg": ("neg", 1, _Replay.additive),
    "odd": ("mul", 2, _Replay.odd),
    "reshape": ("reshape", 1, _Replay.reshape),
    "transpose": ("transpose", 1, _Replay.transpose),
    "index": ("index", 1, _Replay.index),
    "cast": ("cast", 1, _Replay.cast),
    "concat": ("concat", None, _Replay.concat),
    "sum": ("sum", 1, _Replay.sum),
}
