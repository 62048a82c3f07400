"""The oracle of the oracle: one ordinary hybrid run per lane, where draws return the enumerated values.

Slow, and with nothing vectorised: it sees what no array does, namely which messages there are, how long, and how deep.
Secret-dependent schedules show here, and it says whether the exhaustive interpretation computes what the concrete one
does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from proofs.enumerate import Law, Leak, TooManyLanes, Value, arguments, arrays, hybrid_services
from proofs.exhaustive import Leaf
from protocols.entry import Case
from sim.concrete import CONCRETE, from_words, to_words
from sim.party import ProtocolDecl
from sim.ring import RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.wire import Blob, describe
from sim.world import Execution, Session

LIMIT = 13
_View = tuple[Value, ...]
_Run = tuple[dict[Leaf, Value], dict[Role, _View]]


class _Numbers:
    """The bits of the current lane, dealt out to leaves in the order of their first use."""

    def __init__(self) -> None:
        self.offsets: dict[Leaf, int] = {}
        self.specs: dict[Leaf, Spec] = {}
        self.bits = 0
        self.lane = 0

    def words(self, leaf: Leaf, spec: Spec) -> NDArray[np.uint64]:
        if leaf not in self.offsets:
            self.offsets[leaf], self.specs[leaf] = self.bits, spec
            self.bits += spec.bits
        if self.specs[leaf] != spec:
            raise ValueError(
                f"{leaf[1]}'s {leaf[2]!r} is drawn as {spec} in one run and as {self.specs[leaf]} in another"
            )
        return np.array(self.value(leaf)[1], dtype=np.uint64).reshape(spec.shape)

    def value(self, leaf: Leaf) -> Value:
        number, spec = self.lane >> self.offsets[leaf], self.specs[leaf]
        return leaf[2], tuple(number >> (spec.ring.l * i) & spec.ring.mask for i in range(spec.size))

    def draw(self, spec: Spec, tape: Any, label: str) -> NDArray[Any]:
        """In place of the concrete interpretation's draw."""
        words = self.words(("draw", tape.owner, _bare(label)), spec)
        return words.astype(np.uint8) if spec.ring.l == 1 else words

    def input(self, role: Role, name: str, spec: Spec) -> RingArray:
        return from_words(spec.ring, self.words(("input", role.value, name), spec))


def _bare(label: str) -> str:
    return label.split("/", 1)[-1]


def _seen(execution: Execution, role: Role) -> _View:
    """Received messages with label, size, depth and readable content, and outputs of functionalities."""
    view: list[Value] = []
    for message in execution.view(role):
        content: Any = message.content
        if isinstance(content, Blob):
            content = None if content.sealed else content.data
        head = f"{_bare(message.label)}, {describe(message.spec)}, depth {message.depth}"
        view.append((head, tuple(int(v) for x in arrays(content) for v in to_words(x).reshape(-1))))
    for label, outputs in execution.ideals:
        view.append((_bare(label), tuple(int(v) for x in arrays(outputs[role]) for v in to_words(x).reshape(-1))))
    return tuple(view)


class Runs:
    """All runs of one very tiny instance, one by one."""

    def __init__(self, proto: ProtocolDecl[Any], case: Case, limit: int = LIMIT) -> None:
        self._numbers = numbers = _Numbers()
        session = Session(hybrid_services(case), seed=b"runs", hybrid=True)
        self.runs: list[_Run] = []
        with patch.object(CONCRETE, "draw", numbers.draw):
            while len(self.runs) < 1 << numbers.bits or not self.runs:
                bits, numbers.lane = numbers.bits, len(self.runs)
                given = arguments(case, numbers.input)
                execution = session.run(proto, given[CLIENT], given[SERVER], **case.public)
                if numbers.bits > limit:
                    raise TooManyLanes(f"{proto.name}, {case.name}: expected at most {limit} bits of input and "
                                       f"randomness, got {numbers.bits}; choose a smaller instance")  # fmt: skip
                if numbers.bits != bits:
                    self.runs.clear()  # a leaf that no run before has used: deal the bits out again
                    if numbers.lane:
                        continue
                values = {leaf: numbers.value(leaf) for leaf in numbers.offsets}
                self.runs.append((values, {role: _seen(execution, role) for role in Role}))

    def law(self, role: Role) -> Law:
        """The same judgement as `proofs.enumerate.Joint.law`, on views that include labels, sizes and depths."""
        tables: dict[tuple[Value, ...], dict[tuple[Value, ...], Counter[_View]]] = {}
        for values, views in self.runs:
            own = tuple(value for leaf, value in values.items() if leaf[1] == role.value)
            secret = tuple(value for leaf, value in values.items() if leaf[0] == "input" and leaf[1] == role.peer.value)
            tables.setdefault(own, {}).setdefault(secret, Counter())[views[role]] += 1
        best = Law(role, self._numbers.bits, Fraction(0), None)
        for own, laws in tables.items():
            for first, second in combinations(laws, 2):
                distance = _distance(laws[first], laws[second])
                if distance > best.distance:
                    best = Law(role, self._numbers.bits, distance, _leak(own, (first, second), laws))
        return best


def _distance(a: Counter[_View], b: Counter[_View]) -> Fraction:
    return Fraction(sum(abs(a[v] - b[v]) for v in a | b), 2 * a.total())


def _leak(
    own: tuple[Value, ...], pair: Sequence[tuple[Value, ...]], laws: dict[tuple[Value, ...], Counter[_View]]
) -> Leak:
    a, b = laws[pair[0]], laws[pair[1]]
    view = max(a | b, key=lambda v: (min(a[v], b[v]) == 0, abs(a[v] - b[v])))
    first, second = pair if a[view] >= b[view] else (pair[1], pair[0])
    total = a.total()
    return Leak(own, (first, second), view, (Fraction(laws[first][view], total), Fraction(laws[second][view], total)))
