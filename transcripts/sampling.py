"""Sampling: a block of runs of one protocol, classes interleaved in one session, as the views of a corrupted party.

A block is the unit of a campaign. Everything in it is a pure function of (seed, target, model, corrupted, block): its
session has tapes of its own, and the session's set-up is shared by its runs. The classes are interleaved in an order
that depends on the seed only, so that whatever stays fixed in a session (keys, correlations) is common to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from protocols.entry import Case, Entry
from sim.message import Message
from sim.ring import Ring, RingArray, Spec
from sim.role import SERVER, Role
from sim.world import Session
from transcripts.batch import Batch, Tamper
from transcripts.classes import (
    FIXED,
    QUARTERS,
    VARIED,
    Classes,
    Comparison,
    Inputs,
    arguments,
    choose_classes,
    draw_inputs,
    generator,
)
from transcripts.ordinary import BUDGET, HYBRID, REAL, Model, observed, reference, runs, services_of
from transcripts.targets import Target
from transcripts.views import Kind, Raw, Views, bare, batch_views, tabulate

__all__ = [
    "BUDGET",
    "HYBRID",
    "REAL",
    "Model",
    "RunFailed",
    "Sampler",
    "draws_of",
    "is_batchable",
    "observed",
    "scopes_of",
]


class RunFailed(RuntimeError):
    """A run of a campaign raised; its seed and place are in the message, which is all it takes to repeat it."""


@dataclass(frozen=True)
class Sampler:
    """Which runs: of a target in a model, seen by a corrupted party, from a seed.

    phase: `find`, or `confirm` for fresh runs with the same fixed values. tamper: weakens draws (hybrid, batched).
    """

    target: Target
    corrupted: Role
    model: Model
    seed: str
    tamper: Tamper | None = None
    phase: str = "find"

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Which classes are compared."""
        return FIXED, VARIED

    def classes(self) -> Classes:
        entry, case = self.target.resolve()
        return choose_classes(entry, case, self.corrupted, self.seed)

    def block(self, number: int, size: int) -> dict[str, Views]:
        """The views of `size` runs, a quarter of each class. size: a multiple of four."""
        entry, case = self.target.resolve()
        place = f"{self.seed}/{self.phase}/{self.target}/{self.model}/{self.corrupted.value}/{number}"
        rng = generator(place)
        names = np.repeat(np.array(QUARTERS), size // len(QUARTERS))
        rng.shuffle(names)
        inputs = draw_inputs(case, self.classes(), names.tolist(), self.corrupted, rng)
        try:
            views = self.views(entry, case, inputs, names.tolist(), place.encode())
        except Exception as error:
            raise RunFailed(
                f"{self.target}, corrupted {self.corrupted.value}, {self.model}, block {number} of {size} runs, seed "
                f"{self.seed!r}: {type(error).__name__}: {error}"
            ) from error
        return {name: views.take(np.flatnonzero(names == name)) for name in QUARTERS}

    def views(self, entry: Entry, case: Case, inputs: Inputs, names: Sequence[str], tape: bytes) -> Views:
        """The views of runs on these inputs; names: their classes."""
        if self.model == HYBRID and is_batchable(self.target):
            return _batched(entry, case, inputs, tape, self)
        if self.tamper is not None:
            raise TypeError("draws are weakened in batched runs only")
        return _one_by_one(entry, case, inputs, tape, self)


@cache
def _probe(target: Target) -> tuple[tuple[tuple[str, str], ...], frozenset[str]] | None:
    """Draws and scope words of a batched run; None where the text cannot be batched."""
    entry, case = target.resolve()
    role = SERVER
    classes = choose_classes(entry, case, role, "probe")
    inputs = draw_inputs(case, classes, list(QUARTERS), role, generator("probe"))
    seen: list[tuple[str, str]] = []

    def listen(owner: str, label: str, spec: Spec, words: Any) -> Any:
        seen.append((owner, bare(label)))
        return words

    try:
        views = _batched(entry, case, inputs, b"probe", Sampler(target, role, HYBRID, "probe", listen))
    except TypeError:
        return None
    labels = [label for _, label in seen] + [source.label for source in views.layout.sources]
    words = {part.split("#")[0].split(".")[0] for label in labels for part in label.split("/")}
    return tuple(dict.fromkeys(seen)), frozenset(words)


def is_batchable(target: Target) -> bool:
    """Whether the protocol text runs side by side: it does unless it looks at the words of an array."""
    return _probe(target) is not None


def draws_of(target: Target) -> tuple[tuple[str, str], ...]:
    """(owner, label) of every draw of a hybrid run, functionalities included."""
    probe = _probe(target)
    return probe[0] if probe else ()


def scopes_of(target: Target) -> frozenset[str]:
    """Names of the protocols that a hybrid run calls (and other words of its labels)."""
    probe = _probe(target)
    return probe[1] if probe else frozenset()


def _batched(entry: Entry, case: Case, inputs: Inputs, tape: bytes, sampler: Sampler) -> Views:
    batch = Batch(inputs.count, sampler.tamper)
    session = Session(services_of(case.plans, HYBRID), seed=tape, backend=batch, hybrid=True)

    def prepare(plan: Any, weights: Any) -> RingArray:
        return batch.lift(Ring(plan.params.ring_bits), weights)

    client, server, own = arguments(case, inputs, batch.lift, prepare, None)
    role = sampler.corrupted
    with observed(role) as results:
        execution = session.run(entry.proto, client, server, **case.public)
    given: list[tuple[Kind, str, Any]] = [("input", label, x) for label, x in own[role]]
    for owner, label, spec, words in batch.draws:
        if owner == role.value:
            given.append(("draw", bare(label), RingArray(batch, spec.ring, spec.shape, words)))
    given += [("result", label, x) for label, x in results if isinstance(x, RingArray) and x.backend is batch]
    return batch_views(execution, role, given, batch)


def _one_by_one(entry: Entry, case: Case, inputs: Inputs, tape: bytes, sampler: Sampler) -> Views:
    raws: list[Raw] = []
    kept: list[tuple[Message, ...]] = []
    for run in runs(entry, case, inputs, tape, sampler.model, sampler.corrupted):
        raws.append(run.view())
        if sampler.model == REAL:
            kept.append(run.messages)
    layout = reference(sampler.target, sampler.corrupted, sampler.model)
    return tabulate(raws, layout, sampler.corrupted, kept)
