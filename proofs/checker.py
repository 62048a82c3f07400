"""The checker of privacy certificates: the trusted base of every verdict PRIVATE. Standard library only; no search.

What a certificate claims: for every value of the honest party's inputs, the view of the corrupted party (every array
that a message or an ideal functionality gives it, as nodes of an array DAG over independent uniform draws) has the same
joint law, given the corrupted party's own inputs and draws. Where the claim names a statistical distance (`masking`):
for every value in the declared ranges (`ranges`), the law of the view is within that distance of one law.

Why it is believed. The DAG, the view and the claim are rebuilt from the source (by the caller's `rebuild`) and must be
equal to those of the certificate; the steps are then replayed on them. A SYMBOL is a draw that the corrupted party does
not own, or a node made fresh by an earlier step. Invariant: all symbols together are independent and uniform given
everything else that is still live, and the law of the view is that of the original DAG. A step (rule, R, T) names
symbols R and live nodes T such that no r is live any more once the edges below T are gone. What is live then is
independent of R; if T is uniform, all nodes together, for every value of everything but R, then T is uniform and
independent of it: each t may be replaced by a fresh symbol. (One rule changes the law, by a statistical distance that
the claim names; its node is not uniform and becomes no symbol, but is a leaf from then on.) When no input of the honest
party is live any more, the view is a function of such leaves and of what the corrupted party owns: its law cannot
depend on a secret. The soundness of each rule is argued beside it, in `proofs.rules` and `proofs.joint`. `live` counts
uses: entries of the view, and edges from live nodes that are not cut off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from reprlib import repr as shortened
from typing import Any

from proofs.joint import JOINT, Solve
from proofs.rules import RULES, Live, Rejected, need, nodes_of

__all__ = [
    "FORMAT",
    "JOINT",
    "RULES",
    "VERSION",
    "Accepted",
    "Rejected",
    "Solve",
    "canonical",
    "check",
    "digest",
    "read",
    "verify",
]

FORMAT, VERSION = "secmoe-privacy", 1
PARTIES, OWNERS = ("client", "server"), ("client", "server", "functionality")
REBUILT = ("claim", "sources", "versions", "dag", "dag_digest", "view")  # what must equal the source's own
FIELDS = {"format", "version", *REBUILT, "steps", "digest"}


@dataclass(frozen=True)
class Accepted:
    """What has been verified."""

    claim: dict[str, Any]
    nodes: int
    steps: int
    digest: str


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
    except Rejected:
        raise
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of more digits than Python converts
        raise Rejected(f"expected a certificate, got a truncated or damaged file ({error}); write it again") from None
    need(isinstance(document, dict) and document.get("format") == FORMAT, f"expected the format {FORMAT}, got another")
    found = document.get("version")
    need(
        type(found) is int and found == VERSION,
        f"expected certificate version {VERSION}, got {shortened(found)}; prove it again",
    )
    own, altered = document.get("digest"), "the certificate was altered: its digest differs; prove it again"
    need(type(own) is str, altered)
    # In the canonical encoding the digest is one entry of the text; what is left without it is what was digested.
    entry = f'"digest":{canonical(own)},'
    body = text.replace(entry, "").removesuffix("\n")
    found = hashlib.sha256(body.encode()).hexdigest()
    need(own == found, altered)
    need(isinstance(document.get("claim"), dict), "malformed certificate: it makes no claim")
    odd = sorted(document.keys() - FIELDS)
    need(not odd, f"malformed certificate: expected no field but {len(FIELDS)} known ones, got {shortened(odd)}")
    return document


def no_solver(script: str) -> bool:
    """Nobody to ask: a step that needs a solver is refused."""
    raise Rejected("the step needs a solver, and none was given")


def check(text: str, rebuild: Callable[[dict[str, Any]], dict[str, Any]], solve: Solve = no_solver) -> Accepted:
    """Verify a certificate against the source. rebuild: from a claim, the document of the source itself (no steps).

    solve: whether an SMT-LIB 2 script has no model.
    """
    document = read(text)
    try:
        fresh = rebuild(document["claim"])
        _compare(text, document, fresh)
    except RecursionError:
        raise Rejected("malformed certificate: values are nested too deeply") from None
    return verify(document, solve)


def _compare(text: str, document: dict[str, Any], fresh: dict[str, Any]) -> None:
    """Raise Rejected unless what the source says of itself is what the certificate says of it."""
    # Byte for byte the canonical encoding of the certificate with the source's own parts in it: so they are equal.
    if canonical({**document, **{part: fresh[part] for part in REBUILT}}) + "\n" != text:
        for part in REBUILT:
            if canonical(fresh[part]) != canonical(document.get(part)):
                difference = _difference(part, document.get(part), fresh[part])
                raise Rejected(f"the certificate is about another source: {difference}")
        raise Rejected("the certificate was altered: its encoding is not the canonical one")


def _difference(part: str, claimed: Any, actual: Any) -> str:
    if isinstance(claimed, dict) and isinstance(actual, dict):
        names = sorted(key for key in {*claimed, *actual} if claimed.get(key) != actual.get(key))
        return f"{part} differs in {', '.join(names[:3])}; prove it again"
    return f"{part} differs; prove it again"


def verify(document: dict[str, Any], solve: Solve = no_solver) -> Accepted:
    """Replay the steps on the certificate's own DAG and view."""
    try:
        return _Replay(document, solve).run()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, Rejected):
            raise
        raise Rejected(f"malformed certificate: {type(error).__name__}: {error}") from None


class _Replay:
    """The steps of a certificate, one after the other."""

    def __init__(self, document: dict[str, Any], solve: Solve) -> None:
        self.document, self.solve = document, solve
        corrupted = document["claim"]["corrupted"]
        need(corrupted in PARTIES, f"corrupted party: expected client or server, got {corrupted!r}")
        nodes = nodes_of(document["dag"])
        labels: set[tuple[str, str]] = set()
        for number, node in enumerate(nodes):
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
        roots = [entry[-1] for entry in document["view"] if entry[-1] is not None]
        for root in roots:
            need(type(root) is int and 0 <= root < len(nodes), f"view entry: expected a node, got {root!r}")
        self.state = Live(nodes, roots, corrupted)
        for owner, label, low, high in document["claim"].get("ranges", []):
            self.state.ranges[owner, label] = low, high

    def run(self) -> Accepted:
        for number, (rule, symbols, targets) in enumerate(self.document["steps"]):
            try:
                self.step(rule, symbols, targets)
            except Rejected as reason:
                raise Rejected(f"step {number} ({rule} at node {targets}): {reason}") from None
        for number, node in enumerate(self.state.nodes):
            secret = node.op == "input" and node.params[0] != self.state.corrupted
            need(
                not (secret and self.state.live[number]),
                f"the view still depends on the secret at node {number}: {node.params}",
            )
        self.distance()
        return Accepted(
            self.document["claim"], len(self.state.nodes), len(self.document["steps"]), self.document["digest"]
        )

    def distance(self) -> None:
        """The claim names the distance that the steps spend, and a power of two that it does not exceed."""
        found, claimed = self.state.distance, self.document["claim"].get("masking")
        if claimed is not None:
            bits, numerator, denominator = claimed
            need(found == Fraction(numerator, denominator), "the claim names another statistical distance")
            need(numerator <= denominator >> bits, "the claim rounds the statistical distance down")
        need(claimed is not None or found == 0, "the claim names no statistical distance")

    def numbers(self, group: Any) -> list[int]:
        """One or several nodes that a step names."""
        found = group if isinstance(group, list) else [group]
        for n in found:
            need(type(n) is int and 0 <= n < len(self.state.nodes), f"no node {n!r}")
        need(len(set(found)) == len(found), "a node is named twice")
        return found

    def step(self, rule: str, symbols: Any, targets: Any) -> None:
        state, rs, ts = self.state, self.numbers(symbols), self.numbers(targets)
        for t in ts:
            need(not state.is_cut(t), "the node is a symbol already")  # its operands no longer matter
            need(state.live[t] > 0, "the node does not reach the view")  # nor do those of a dead node
        for r in rs:
            need(state.is_symbol(r), f"node {r} is not uniform and unseen")
        if rule in JOINT:
            JOINT[rule](state, rs, ts, self.solve)
        else:
            need(len(rs) == len(ts) == 1, "a rule of one symbol and one node")
            self.local(rule, rs[0], ts[0])
        state.leaves.update(ts)
        if rule != "statistical":
            state.fresh.update(ts)
        state.cut(ts)
        for r in rs:  # else T would not be independent of what is live
            need(state.live[r] == 0, f"node {r} reaches the view past the nodes of the step")

    def local(self, rule: str, r: int, t: int) -> None:
        node = self.state.nodes[t]
        need(r in node.args, f"node {r} is not an operand")
        need(self.state.live[r] == 1, f"node {r} has {self.state.live[r]} uses, expected this one only")
        need(rule in RULES, f"unknown rule {rule!r}")
        op, arity, holds = RULES[rule]
        need(node.op == op, f"the node is a {node.op}")
        need(arity is None or len(node.args) == arity, f"{len(node.args)} operands, expected {arity}")
        holds(self.state, r, t)
