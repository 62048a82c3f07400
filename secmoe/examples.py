"""An example call of an entry: from values of its secrets to both parties' arguments, and from outputs back to values.

Values are signed integers (bits: 0 and 1), one array per secret; masks are the client's shares of the shared ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.entry import Case, Entry
from sim.concrete import from_words, to_signed, to_words
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution

Ints = NDArray[np.int64]
Masks = NDArray[np.uint64]
Prepare = Callable[[Any, Any], Any]
Held = dict[str, NDArray[Any]]  # one party's inputs by name: words of secret i under xi, weights (signed) under wi


@dataclass(frozen=True)
class Example:
    """values: one array per secret, signed. masks: one array per secret, the client's share where it is shared."""

    values: tuple[Ints, ...]
    masks: tuple[Masks, ...]

    def held(self, case: Case, role: Role) -> Held:
        """What a party brings to the call, as plain arrays."""
        mine: Held = {}
        for i, (secret, value, mask) in enumerate(zip(case.secrets, self.values, self.masks, strict=True)):
            if secret.weight:
                if role is SERVER:
                    mine[f"w{i}"] = np.asarray(value, np.int64)
            elif secret.owner in (None, role):
                whole = from_words(secret.ring, value)
                share = from_words(secret.ring, mask)
                if secret.owner is None:
                    whole = share if role is CLIENT else whole - share
                mine[f"x{i}"] = np.asarray(to_words(whole))
        return mine


def adjusted(case: Case, values: Sequence[Ints]) -> tuple[Ints, ...]:
    """The values, made to satisfy the case's joint precondition."""
    return tuple(values) if case.adjust is None else tuple(np.asarray(v) for v in case.adjust(values))


def zeros(case: Case) -> Example:
    """The lowest values of a case's ranges."""
    lowest = [np.full(s.shape, s.range[0], dtype=np.int64) for s in case.secrets]
    return Example(adjusted(case, lowest), tuple(np.zeros(s.shape, dtype=np.uint64) for s in case.secrets))


def arguments(case: Case, role: Role, held: Held | None, prepare: Prepare | None = None) -> list[Any]:
    """One party's positional arguments; held None: as its absence leaves them, shapes and public values only.

    prepare: the engine's, where the case has weights (of an absent server: zeros are prepared).
    """
    given: list[Any] = []
    weights: list[Any] = []
    for i, secret in enumerate(case.secrets):
        if secret.weight:
            weights.append(np.zeros(secret.shape, np.int64) if held is None else held.get(f"w{i}"))
        elif secret.owner not in (None, role):
            given.append(None)
        else:
            given.append(blank(secret.spec) if held is None else from_words(secret.ring, held[f"x{i}"]))
    if case.arrange is not None:
        given = case.arrange(given)
    if case.prepare is not None:
        given.append(case.prepare(prepare, weights) if role is SERVER and prepare is not None else None)
    return [*case.leading, *given]


def both(case: Case, example: Example, prepare: Prepare | None = None) -> tuple[list[Any], list[Any]]:
    """The client's arguments and the server's."""
    client, server = (arguments(case, role, example.held(case, role), prepare) for role in (CLIENT, SERVER))
    return client, server


def flatten(output: Any) -> list[Any]:
    """Arrays of a nested output, in order."""
    if isinstance(output, list | tuple):
        return [leaf for part in output for leaf in flatten(part)]
    return [] if output is None else [output]


def plain(x: RingArray) -> Ints:
    """Signed values, bits as 0 and 1: the form functionalities use."""
    return to_words(x).astype(np.int64) if x.ring.l == 1 else to_signed(x)


def outputs(entry: Entry, case: Case, given: Mapping[Role, Any]) -> list[RingArray]:
    """The reconstructed outputs; of an entry whose outputs are opened, the client's followed by the server's."""
    ours, theirs = (flatten(given[role]) for role in (CLIENT, SERVER))
    if entry.opened:
        return [*ours, *theirs]
    if entry.difference:
        receiver: Role = case.leading[0]
        return [a - b if receiver is CLIENT else b - a for a, b in zip(ours, theirs, strict=True)]
    return [a + b for a, b in zip(ours, theirs, strict=True)]


def expected(entry: Entry, case: Case, example: Example) -> list[Ints]:
    """The functionality's outputs, in the form of `outputs`."""
    args: list[Ints] = list(example.values)
    if entry.share_level:
        args = []
        for secret, value, mask in zip(case.secrets, example.values, example.masks, strict=True):
            mine = from_words(secret.ring, mask)
            args += [plain(mine), plain(from_words(secret.ring, value) - mine)]
    with np.errstate(over="ignore"):
        want = [np.asarray(v) for v in flatten(entry.realises.compute(*args, **case.public))]
    return want * 2 if entry.opened else want


def wrong(entry: Entry, case: Case, example: Example, execution: Execution) -> str | None:
    """None where the run realised its functionality word for word, else what came out and what was expected."""
    got = outputs(entry, case, execution.outputs)
    if entry.relation is not None:
        return None if entry.relation([plain(x) for x in got]) else "the outputs do not satisfy their relation"
    want = expected(entry, case, example)
    if len(got) != len(want):
        return f"expected {len(want)} outputs, got {len(got)}"
    for k, (x, y) in enumerate(zip(got, want, strict=True)):
        if x.shape != y.shape:
            return f"output {k}: expected shape {y.shape}, got {x.shape}"
        if not np.array_equal(to_words(x), to_words(from_words(x.ring, y))):
            return f"output {k}: expected {few(plain(from_words(x.ring, y)))}, got {few(plain(x))}"
    return None


def few(values: NDArray[Any]) -> str:
    """The first values of an array."""
    flat = [str(int(v)) for v in values.flat[:6]]
    return "[" + ", ".join(flat) + (", ..." if values.size > 6 else "") + "]"
