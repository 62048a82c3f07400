"""The exact oracle: the joint law of a party's view by enumeration of the protocol text itself.

J1 says: for every value of the corrupted party's input and tape, its view has one law, whatever the peer's inputs are.
Here all inputs and all draws of a tiny instance are enumerated (up to 2^22 lanes), views become integer histograms, and
the answer is a total variation distance, a fraction. Positive: two secrets and a view value that tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.exhaustive import Exhaustive, Leaf, Words
from protocols.entry import Case
from protocols.he.ideal import IdealHeService
from protocols.ot.ideal import IdealOtService
from sim.party import ProtocolDecl
from sim.ring import RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.wire import Blob
from sim.world import Execution, Service, Session

LIMIT = 22
Value = tuple[str, tuple[int, ...]]  # a label and the words under it


class TooManyLanes(ValueError):
    """An instance has more input and random bits than can be enumerated."""


@dataclass(frozen=True)
class Leak:
    """Two secrets of the peer and a view value whose probabilities under them differ. own: the corrupted party's."""

    own: tuple[Value, ...]
    secrets: tuple[tuple[Value, ...], tuple[Value, ...]]
    view: tuple[Value, ...]
    probabilities: tuple[Fraction, Fraction]

    def __str__(self) -> str:
        def text(values: tuple[Value, ...]) -> str:
            return ", ".join(f"{label} = {list(words)}" for label, words in values) or "nothing"

        first, second = (f"{p} if {text(s)}" for p, s in zip(self.probabilities, self.secrets, strict=True))
        return f"given {text(self.own)}, the view {text(self.view)} has probability {first}, and {second}"


@dataclass(frozen=True)
class Law:
    """What a corrupted party's view tells: the largest total variation distance over its own values and two secrets."""

    role: Role
    bits: int
    distance: Fraction
    leak: Leak | None


def hybrid_services(case: Case) -> tuple[Service, ...]:
    """Ideal OT, and ideal homomorphic encryption where the case has plans."""
    return (IdealOtService(), IdealHeService(case.plans)) if case.plans else (IdealOtService(),)


def arguments(case: Case, leaf: Callable[[Role, str, Spec], RingArray]) -> dict[Role, list[Any]]:
    """Both parties' positional arguments; every input (each party's share, each weight) is one leaf."""
    given: dict[Role, list[Any]] = {role: [] for role in Role}
    weights: list[Any] = []
    for i, secret in enumerate(case.secrets):
        if secret.weight:
            weights.append(leaf(SERVER, f"w{i}", secret.spec))
            continue
        for role in (CLIENT, SERVER):
            mine = secret.owner in (None, role)
            given[role].append(leaf(role, f"x{i}", secret.spec) if mine else None)
    if case.arrange is not None:
        given = {role: case.arrange(values) for role, values in given.items()}
    if case.prepare is not None:
        given[CLIENT].append(None)
        given[SERVER].append(case.prepare(lambda plan, w: w, weights))
    return {role: [*case.leading, *values] for role, values in given.items()}


def arrays(value: Any) -> list[RingArray]:
    """The ring arrays of a nested value, in order."""
    if isinstance(value, RingArray):
        return [value]
    return [leaf for part in value for leaf in arrays(part)] if isinstance(value, list | tuple) else []


def view_of(execution: Execution, role: Role) -> list[tuple[str, RingArray]]:
    """What a corrupted party is given: message contents that are not sealed, and outputs of functionalities."""
    seen = []
    for message in execution.view(role):
        content = message.content
        if isinstance(content, Blob):
            content = None if content.sealed else content.data
        seen += [(message.label, x) for x in arrays(content)]
    seen += [(label, x) for label, outputs in execution.ideals for x in arrays(outputs[role])]
    return seen


class Joint:
    """All runs of one tiny instance."""

    def __init__(self, proto: ProtocolDecl[Any], case: Case, limit: int = LIMIT) -> None:
        probe, _ = self._run(proto, case, Exhaustive())
        self.leaves = probe.leaves
        self.offsets: dict[Leaf, int] = {}
        self.bits = 0
        for leaf, spec in self.leaves.items():
            self.offsets[leaf] = self.bits
            self.bits += spec.bits
        if self.bits > limit:
            raise TooManyLanes(f"{proto.name}, {case.name}: expected at most {limit} bits of input and randomness, "
                               f"got {self.bits}; choose a smaller instance")  # fmt: skip
        lanes, self.execution = self._run(proto, case, Exhaustive(self.offsets, self.bits))
        self.lane = lanes.lane

    def _run(self, proto: ProtocolDecl[Any], case: Case, lanes: Exhaustive) -> tuple[Exhaustive, Execution]:
        session = Session(hybrid_services(case), seed=b"lanes", backend=lanes, hybrid=True)
        given = arguments(case, lambda role, name, spec: lanes.input(role.value, name, spec))
        return lanes, session.run(proto, given[CLIENT], given[SERVER], **case.public)

    def distance(self, role: Role) -> Fraction:
        return self.law(role).distance

    def law(self, role: Role, also: Sequence[RingArray] = ()) -> Law:
        """The law of the role's view; with `also`, jointly with these arrays (the error of a randomised result)."""
        own = [leaf for leaf in self.leaves if leaf[1] == role.value]
        secrets = [leaf for leaf in self.leaves if leaf[0] == "input" and leaf[1] == role.peer.value]
        seen = [x for _, x in view_of(self.execution, role)]
        columns: list[tuple[Words, int]] = [(_rows(x), x.ring.l) for x in (*seen, *also)]
        given, n_given = self._number(own)
        secret, n_secrets = self._number(secrets)
        key, size = _joined(given, n_given, columns)
        key = key * n_secrets + secret
        if _flat(key, size * n_secrets, n_secrets):
            return Law(role, self.bits, Fraction(0), None)
        cells, first, counts = np.unique(key, return_index=True, return_counts=True)
        view, which = cells // n_secrets, cells % n_secrets
        unseen = len(self.lane) // (n_given * n_secrets)
        best = _farthest(view, which, counts, given[first], n_secrets)
        total, cell, other, here, there = best
        lane = int(first[cell])
        pair = (int(which[cell]), other)
        leak = Leak(
            self._decoded(own, lane),
            (self._secret(secrets, pair[0]), self._secret(secrets, pair[1])),
            tuple((_short(label), _words(x, lane)) for label, x in view_of(self.execution, role)),
            (Fraction(here, unseen), Fraction(there, unseen)),
        )
        return Law(role, self.bits, Fraction(total, 2 * unseen), leak)

    def uniform_output(self, role: Role) -> bool:
        """Whether the role's output shares are jointly uniform for every value of all inputs."""
        inputs = [leaf for leaf in self.leaves if leaf[0] == "input"]
        shares = arrays(self.execution.outputs[role])
        given, n_given = self._number(inputs)
        key, _ = _joined(given, n_given, [(_rows(x), x.ring.l) for x in shares])
        _, counts = np.unique(key, return_counts=True)
        values = n_given << sum(x.spec.bits for x in shares)
        return len(counts) == values and bool((counts == counts[0]).all())

    def _number(self, leaves: list[Leaf]) -> tuple[NDArray[np.int64], int]:
        """The leaves' joint value, lane by lane, and how many values there are."""
        number, bits = np.zeros(len(self.lane), dtype=np.int64), 0
        for leaf in leaves:
            width = self.leaves[leaf].bits
            number |= ((self.lane >> self.offsets[leaf]) & ((1 << width) - 1)) << bits
            bits += width
        return number, 1 << bits

    def _decoded(self, leaves: list[Leaf], lane: int) -> tuple[Value, ...]:
        return tuple((_short(leaf[2]), _split(lane >> self.offsets[leaf], self.leaves[leaf])) for leaf in leaves)

    def _secret(self, leaves: list[Leaf], number: int) -> tuple[Value, ...]:
        values = []
        for leaf in leaves:
            spec = self.leaves[leaf]
            values.append((_short(leaf[2]), _split(number, spec)))
            number >>= spec.bits
        return tuple(values)


def _rows(x: RingArray) -> Words:
    words: Words = x.value
    return words.reshape(-1, words.shape[-1])


def _short(label: str) -> str:
    """A label without the number of the run."""
    return label.split("/", 1)[-1]


def _split(number: int, spec: Spec) -> tuple[int, ...]:
    return tuple(number >> (spec.ring.l * i) & spec.ring.mask for i in range(spec.size))


def _words(x: RingArray, lane: int) -> tuple[int, ...]:
    return tuple(int(v) for v in x.value[..., lane if x.value.shape[-1] > 1 else 0].reshape(-1))


def _joined(given: NDArray[np.int64], n_given: int, columns: list[tuple[Words, int]]) -> tuple[NDArray[np.int64], int]:
    """One number for (own value, view), lane by lane, equal exactly where all columns are, and a bound of it.

    Its order is that of the own values first.
    """
    key, size = given, n_given
    for column, l in columns:
        for words in column:
            if size << l >= 1 << 36:
                _, key = np.unique(key, return_inverse=True)
                size = int(key.max()) + 1
            key, size = (key << l) | words, size << l
    return key.astype(np.int64), size


def _flat(key: NDArray[np.int64], size: int, n: int) -> bool:
    """Whether every view that occurs does so equally often under all n secrets; key = view * n + secret < size."""
    if size <= 4 * len(key):
        table = np.bincount(key, minlength=size).reshape(-1, n)
        return bool((table == table[:, :1]).all())
    cells, counts = np.unique(key, return_counts=True)
    _, start, sizes = np.unique(cells // n, return_index=True, return_counts=True)
    return len(cells) == n * len(start) and bool((np.repeat(counts[start], sizes) == counts).all())


def _farthest(
    view: NDArray[np.int64], which: NDArray[np.int64], counts: NDArray[np.int64], own: NDArray[np.int64], n: int
) -> tuple[int, int, int, int, int]:
    """Among histogram cells (sorted by own value, view, secret): the two secrets of one own value that differ most.

    Returns (sum of differences, a cell, the other secret, its count, the other's count).
    """
    best = (-1, 0, 0, 0, 0)
    for cells in np.split(np.arange(len(own)), np.flatnonzero(np.diff(own)) + 1):
        _, rows = np.unique(view[cells], return_inverse=True)
        table = np.zeros((int(rows.max()) + 1, n), dtype=np.int64)
        table[rows, which[cells]] = counts[cells]
        for s in range(n):
            far = np.abs(table - table[:, s : s + 1]).sum(0)
            t = int(far.argmax())
            if far[t] > best[0]:
                row = _telling(table[:, s], table[:, t])
                a, b = (s, t) if table[row, s] >= table[row, t] else (t, s)
                cell = int(cells[(rows == row) & (which[cells] == a)][0])
                best = (int(far[t]), cell, b, int(table[row, a]), int(table[row, b]))
        if best[0] == 2 * int(table[:, 0].sum()):
            return best  # disjoint supports: no pair can be farther apart
    return best


def _telling(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """The view that is impossible under one secret if there is one, else the one whose counts differ most."""
    score = np.abs(a - b) + np.where((a == 0) ^ (b == 0), a.sum() + b.sum(), 0)
    return int(score.argmax())
