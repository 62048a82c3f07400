"""The two worlds that an audit compares: classes of the honest party's secrets, everything else distributed equally.

Class `first` fixes every secret that the corrupted party does not own, `second` fixes it to another value, `random`
draws it afresh in every run: uniform words of the declared range, or all words of a secret alike, at an edge of the
range or anywhere (what ties, zeros and early exits depend on). What the corrupted party owns, and its share of every
shared value, is drawn afresh in every run of every class and belongs to its view; only its prepared weights are the
same in all of them. Where a protocol routes tokens to experts, `second` is chosen such that every token takes another
route than in `first`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.entry import Case, Entry, Secret
from sim.role import Role
from transcripts.targets import honest_secrets

Ints = NDArray[np.int64]
FIRST, AGAIN, SECOND, RANDOM = "first", "again", "second", "random"
# Shares of the runs of one corrupted party. `again` is `first` once more: the null that runs beside every audit.
QUARTERS = (FIRST, AGAIN, SECOND, RANDOM)
# Comparisons: (name, classes on one side, classes on the other).
Comparison = tuple[str, tuple[str, ...], tuple[str, ...]]
FIXED: Comparison = ("fixed against fixed", (FIRST, AGAIN), (SECOND,))
VARIED: Comparison = ("fixed against random", (FIRST, AGAIN), (RANDOM,))
NULL: Comparison = ("fixed against itself", (FIRST,), (AGAIN,))
CANDIDATES = 64


def generator(*parts: object) -> np.random.Generator:
    """A generator that is a pure function of these words."""
    text = "\x1f".join(str(part) for part in parts)
    return np.random.Generator(np.random.Philox(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")))


def draw(secret: Secret, rng: np.random.Generator, count: int) -> Ints:
    """`count` uniform values of the declared range, (count, *shape), signed."""
    return rng.integers(*secret.range, (count, *secret.shape), np.int64, endpoint=True)


def _with_ties(secret: Secret, drawn: Ints, rng: np.random.Generator) -> Ints:
    """In half of the rows one value for all words: an edge of the range, or the row's first word."""
    low, high = secret.range
    edges = np.array([v for v in (low, 0, 0, 1, -1, high) if low <= v <= high], np.int64)
    one = (len(drawn),) + (1,) * len(secret.shape)
    alike = np.broadcast_to(drawn.reshape(len(drawn), -1)[:, :1].reshape(one), drawn.shape)
    at_edge = np.broadcast_to(edges[rng.integers(0, len(edges), one)], drawn.shape)
    kind = rng.integers(0, 8, one)
    return np.where(kind < 3, at_edge, np.where(kind == 3, alike, drawn))


def _hot(t: Ints) -> Ints:
    return np.asarray(t.argmax(-1))


def _router(values: Sequence[Ints]) -> Ints:
    return np.asarray((values[0] @ values[2].T).argmax(-1))


# The expert choice that a protocol's inputs decide: name -> route of one call's values.
ROUTES: Mapping[str, Callable[[Sequence[Ints]], Ints]] = MappingProxyType(
    {
        "top_k": lambda values: _hot(values[0]),
        "probabilities": lambda values: _hot(values[0]),
        "select_product": lambda values: _hot(values[0]),
        "select_then_compute": lambda values: _hot(values[0]),
        "moe_layer": _router,
        "evaluate_all": _router,
        "evaluate_concatenated": _router,
        "scatter": _router,
        "cryptomoe": _router,
    }
)


@dataclass(frozen=True)
class Classes:
    """Fixed values of the classes for one corrupted party. routed: the expert choice differs in every token."""

    first: tuple[Ints, ...]
    second: tuple[Ints, ...]
    routed: bool

    def of(self, name: str) -> tuple[Ints, ...]:
        return self.second if name == SECOND else self.first


def _adjusted(case: Case, values: Sequence[Ints]) -> list[Ints]:
    return [np.asarray(v) for v in (values if case.adjust is None else case.adjust(values))]


def choose_classes(entry: Entry, case: Case, corrupted: Role, seed: str) -> Classes:
    """Two values of the honest secrets that differ in as many entries, and in as many routes, as can be found."""
    varied = honest_secrets(case, corrupted)
    rng = generator(seed, entry.name, case.name, corrupted.value, "classes")
    first = _adjusted(case, [draw(s, rng, 1)[0] for s in case.secrets])
    best: tuple[tuple[int, int], list[Ints], bool] | None = None
    for _ in range(CANDIDATES):
        drawn = [draw(s, rng, 1)[0] for s in case.secrets]
        for i, secret in enumerate(case.secrets):
            if i not in varied:
                drawn[i] = first[i]
            elif secret.ring.l == 1 and case.adjust is None:
                drawn[i] = 1 - first[i]
        second = _adjusted(case, drawn)
        routes = ROUTES.get(entry.name)
        turned = (routes(first) != routes(second)) if routes else np.zeros(0, bool)
        score = (int(turned.sum()), sum(int((first[i] != second[i]).sum()) for i in varied))
        if best is None or score > best[0]:
            best = (score, second, bool(turned.size) and bool(turned.all()))
    if best is None:
        raise AssertionError("no candidate was drawn")
    return Classes(tuple(first), tuple(best[1]), best[2])


@dataclass(frozen=True)
class Inputs:
    """What goes into `count` runs: signed values and client shares, one array (count, *shape) per secret."""

    values: tuple[Ints, ...]
    masks: tuple[NDArray[np.uint64], ...]

    @property
    def count(self) -> int:
        return len(self.values[0]) if self.values else 0

    def part(self, start: int, stop: int) -> Inputs:
        """Some of the runs."""
        return Inputs(tuple(v[start:stop] for v in self.values), tuple(m[start:stop] for m in self.masks))


def draw_inputs(
    case: Case, classes: Classes, names: Sequence[str], corrupted: Role, rng: np.random.Generator
) -> Inputs:
    """The inputs of one run per class name in `names`."""
    count, varied = len(names), honest_secrets(case, corrupted)
    values: list[Ints] = []
    fresh = [name == RANDOM for name in names]
    for i, secret in enumerate(case.secrets):
        drawn = _with_ties(secret, draw(secret, rng, count), rng)
        if secret.weight and i not in varied:
            drawn = np.broadcast_to(classes.first[i], drawn.shape)
        elif i in varied:
            fixed = np.stack([classes.of(name)[i] for name in names])
            drawn = np.where(np.reshape(fresh, (count,) + (1,) * len(secret.shape)), drawn, fixed)
        values.append(drawn)
    if case.adjust is not None:
        # fixed values were adjusted when they were chosen
        rows = [_adjusted(case, [v[k] for v in values]) if fresh[k] else [v[k] for v in values] for k in range(count)]
        values = [np.stack(column) for column in zip(*rows, strict=True)]
    masks = [rng.integers(0, s.ring.mask, (count, *s.shape), np.uint64, endpoint=True) for s in case.secrets]
    return Inputs(tuple(values), tuple(masks))


def arguments(
    case: Case,
    inputs: Inputs,
    lift: Callable[[Any, Any], Any],
    prepare: Callable[[Any, Any], Any] | None,
    run: int | None,
) -> tuple[list[Any], list[Any], dict[Role, list[tuple[str, Any]]]]:
    """Both parties' positional arguments, and the arrays each of them brings (for its view).

    run: the index of a run, or None for all of them side by side. lift: (ring, integers) -> a ring array.
    """
    client: list[Any] = []
    server: list[Any] = []
    weights: list[Any] = []
    own: dict[Role, list[tuple[str, Any]]] = {role: [] for role in Role}
    for i, secret in enumerate(case.secrets):
        value = inputs.values[i] if run is None else inputs.values[i][run]
        if secret.weight:
            weights.append(value)
            continue
        whole = lift(secret.ring, value)
        if secret.owner is None:
            mine = lift(secret.ring, inputs.masks[i] if run is None else inputs.masks[i][run])
            pair = [mine, whole - mine]
        else:
            pair = [whole if role is secret.owner else None for role in (Role.CLIENT, Role.SERVER)]
        for role, array, given in zip((Role.CLIENT, Role.SERVER), pair, (client, server), strict=True):
            given.append(array)
            if array is not None:
                own[role].append((f"x{i}", array))
    if case.arrange is not None:
        client, server = case.arrange(client), case.arrange(server)
    if case.prepare is not None and prepare is not None:
        client.append(None)
        server.append(case.prepare(prepare, weights))
    return [*case.leading, *client], [*case.leading, *server], own
