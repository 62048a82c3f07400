"""Extracted simulators: the view of a corrupted party, sampled from its own inputs and tape alone.

A certificate says which nodes of the array DAG are uniform whatever the secrets are. Cut there, and the rest of the
view is a function of fresh symbols and of what the corrupted party owns: that is the simulator of the security
definition. It is built from the certificate only, and no input of the honest party is left in it to be given. A node
that a short mask hides is sampled with the least of the values that it may hide: the law of the view is then within the
statistical distance that the certificate claims.

Messages with content are sampled as the bytes that would cross the wire. A sealed message (an OT flight, a ciphertext
at the server) has no content in the hybrid world; `seal` gives its bytes, by default uniform ones of the right length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs import rules
from proofs.certificate import FUNCTIONALITY_OUTPUT, Document, restore
from proofs.checker import verify
from proofs.joint import interval
from proofs.search import no_model
from proofs.symbolic import DRAW, INPUT, Dag, Node, cone, evaluate
from sim.concrete import from_words
from sim.ring import Ring, RingArray, Spec
from sim.tape import Tape, draw_nbytes, words_from_bytes
from sim.wire import AnySpec, BlobSpec, encode, spec_from_json

SIMULATOR = "simulator"  # owner of the fresh symbols
Words = NDArray[np.uint64]
Seal = Callable[[str, BlobSpec | Spec], bytes]


class MissingInput(ValueError):
    """The simulator was not given an input of the corrupted party, or one of another ring or shape."""


@dataclass(frozen=True)
class Simulated:
    """One entry of a sampled view. spec: wire header of a message, the array of a functionality's output.

    array: the content, None where it is sealed. payload: the bytes of a message, None for a functionality's output and
    for content that crosses the wire under encryption.
    """

    label: str
    depth: int
    spec: AnySpec
    array: RingArray | None
    payload: bytes | None

    @property
    def is_message(self) -> bool:
        return self.depth > 0


class Simulator:
    """The simulator that a certificate contains; the certificate's steps are verified first (Rejected if they fail)."""

    def __init__(self, document: Document) -> None:
        verify(document, no_model)
        self.claim = document["claim"]
        self._view = document["view"]
        dag = restore(document)
        self._masked = {str(masked.target): masked for masked in _statistical(document, dag)}
        self._dag = _cut(dag, {t for _, _, targets in document["steps"] for t in group(targets)})
        roots = [row[-1] for row in self._view if row[-1] is not None]
        used = [self._dag.nodes[n] for n in cone(self._dag, roots)]
        self.inputs = {n.label: Spec(n.ring, n.shape) for n in used if n.op == INPUT}
        self.own_draws = {n.label: Spec(n.ring, n.shape) for n in used if n.op == DRAW and self._own(n)}
        self.fresh = {n.params: Spec(n.ring, n.shape) for n in used if n.op == DRAW and not self._own(n)}

    def _own(self, node: Node) -> bool:
        return bool(node.owner == self.claim["corrupted"])

    def sample(
        self, inputs: Mapping[str, RingArray], own: Mapping[str, RingArray], tape: Tape, seal: Seal | None = None
    ) -> list[Simulated]:
        """One view. inputs, own: the corrupted party's inputs and draws by name (`self.inputs`, `self.own_draws`).

        tape: the simulator's own randomness. Raises MissingInput.
        """
        given = {INPUT: inputs, DRAW: own}
        for kind, wanted in ((INPUT, self.inputs), (DRAW, self.own_draws)):
            for name, spec in wanted.items():
                if name not in given[kind] or given[kind][name].spec != spec:
                    raise MissingInput(f"{kind} {name!r} of the {self.claim['corrupted']}: expected {spec}")

        def leaf(node: Node) -> Words:
            if node.op == INPUT or self._own(node):
                known: Words = given[node.op][node.label].value
                return known
            masked = self._masked.get(node.label) if node.owner == SIMULATOR else None
            ring = masked.ring if masked else node.ring
            words = _uniform(tape, f"{node.owner}/{node.label}", Spec(ring, node.shape))
            return masked.applied(words) & np.uint64(node.ring.mask) if masked else words

        roots = [row[-1] for row in self._view if row[-1] is not None]
        values = evaluate(self._dag, roots, leaf)
        seal = seal or (lambda label, spec: tape.bytes(f"sealed/{label}", spec.nbytes))
        return [self._entry(row, values, seal) for row in self._view]

    def _entry(self, row: Sequence[Any], values: Mapping[int, NDArray[Any]], seal: Seal) -> Simulated:
        label, depth, kind, dtype, shape, number = row
        array = None
        if number is not None:
            node = self._dag.nodes[number]
            array = from_words(Ring(node.ring.l), values[number])
        if kind == FUNCTIONALITY_OUTPUT and array is not None:
            return Simulated(label, 0, array.spec, array, None)
        spec = spec_from_json(kind, dtype, shape)
        if array is None:
            return Simulated(label, depth, spec, None, seal(label, spec))
        return Simulated(label, depth, spec, array, encode(array) if isinstance(spec, Spec) else None)


def group(named: int | list[int]) -> list[int]:
    """The nodes that a step of a certificate names."""
    return named if isinstance(named, list) else [named]


@dataclass(frozen=True)
class _Masked:
    """A node that a symbol of a narrower ring hides: a value + word, value - word or word - value."""

    target: int
    ring: Ring
    value: int
    sign: int

    def applied(self, words: Words) -> Words:
        return np.uint64(self.value & Ring(64).mask) + (words if self.sign > 0 else np.uint64(0) - words)


def _statistical(document: Document, dag: Dag) -> list[_Masked]:
    """The nodes of statistical steps, each with the least value that its symbol may hide."""
    nodes = rules.nodes_of(document["dag"])
    state = rules.Live(nodes, [], document["claim"]["corrupted"])
    state.ranges = {(owner, label): (low, high) for owner, label, low, high in document["claim"].get("ranges", [])}
    found = []
    for rule, symbols, targets in document["steps"]:
        if rule == "statistical":
            (r,), (t,) = symbols, targets
            first, second = nodes[t].args
            masks_second = nodes[second].args == (r,)
            low = interval(state, first if masks_second else second)[0]
            minus = nodes[t].op == "sub"
            value, sign = (low, -1 if minus else 1) if masks_second else (-low if minus else low, 1)
            found.append(_Masked(t, dag.nodes[r].ring, value, sign))
    return found


def _uniform(tape: Tape, label: str, spec: Spec) -> Words:
    words = words_from_bytes(tape.bytes(label, draw_nbytes(spec.ring, spec.shape)), spec)
    return words.astype(np.uint64)


def _cut(dag: Dag, fresh: set[int]) -> Dag:
    """The DAG with its fresh nodes as leaves of the simulator."""
    cut = Dag()
    cut.constants = dag.constants
    for number, node in enumerate(dag.nodes):
        leaf = Node(DRAW, (), (SIMULATOR, str(number)), node.ring, node.shape, node.line)
        cut.nodes.append(leaf if number in fresh else node)
    return cut
