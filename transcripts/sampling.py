"""Sampling: a block of runs of one protocol, classes interleaved in one session, as the views of a corrupted party.

A block is the unit of a campaign. Everything in it is a pure function of (seed, target, model, corrupted, block): its
session has tapes of its own, and the session's set-up is shared by its runs. The classes are interleaved in an order
that depends on the seed only, so that whatever stays fixed in a session (keys, correlations) is common to all.
Runs go side by side, hybrid ones all together (`transcripts.batch`), real ones some at a time (`transcripts.lanes`);
those of a text that looks at the words of an array go one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from protocols.entry import Case, Entry
from sim.concrete import from_words
from sim.ring import Ring, RingArray, Spec
from sim.role import SERVER, Role
from sim.shapes import SHAPES
from sim.world import Session
from transcripts.batch import Batch, Tamper
from transcripts.classes import (
    FIRST,
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
from transcripts.lanes import FORMS, LaneEngine, Lanes, by_lane, prepared
from transcripts.ordinary import BUDGET, HYBRID, REAL, Model, Results, reference, runs, services_of
from transcripts.targets import Target
from transcripts.views import Kind, Views, bare, batch_views, stacked, tabulate

__all__ = [
    "BUDGET",
    "HYBRID",
    "REAL",
    "Model",
    "RunFailed",
    "Sampler",
    "draws_of",
    "is_batchable",
    "scopes_of",
]


LANES = 20  # most real runs side by side: the text's own work is shared by all of them, hardly any is left
HELD = 1 << 27  # bytes of messages of all runs side by side, which are held at once with what they are made of


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
        if self.model == REAL and is_batchable(self.target):
            return _side_by_side(entry, case, inputs, tape, self)
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
    role, results = sampler.corrupted, Results(sampler.corrupted)
    session = Session(services_of(case.plans, HYBRID), seed=tape, backend=batch, hybrid=True, on_result=results)
    results.taken()  # of the set-up

    def prepare(plan: Any, weights: Any) -> RingArray:
        return batch.lift(Ring(plan.params.ring_bits), weights)

    client, server, own = arguments(case, inputs, batch.lift, prepare, None)
    execution = session.run(entry.proto, client, server, **case.public)
    return batch_views(execution, role, _given(batch, role, own, results), batch)


def _given(
    batch: Batch, role: Role, own: Mapping[Role, list[tuple[str, Any]]], results: Results
) -> list[tuple[Kind, str, Any]]:
    """What the party has besides messages: its inputs, its draws, what its calls returned."""
    given: list[tuple[Kind, str, Any]] = [("input", label, x) for label, x in own[role]]
    for owner, label, spec, words in batch.draws:
        if owner == role.value:
            given.append(("draw", bare(label), RingArray(batch, spec.ring, spec.shape, words)))
    return given + [("result", label, x) for label, x in results.taken() if x.backend is batch]


@cache
def lanes_of(target: Target) -> int:
    """How many real runs go side by side: LANES, fewer where their messages would take more than HELD bytes."""
    entry, case = target.resolve()
    inputs = draw_inputs(case, choose_classes(entry, case, SERVER, "price"), [FIRST], SERVER, generator("price"))
    services = services_of(case.plans, HYBRID)
    client, server, _ = arguments(case, inputs, from_words, getattr(services[-1], "prepare", None), 0)
    priced = Session(services, backend=SHAPES).price(entry.proto, client, server, **case.public)
    return max(1, min(LANES, HELD // max(priced.cost.nbytes, 1)))


def _side_by_side(entry: Entry, case: Case, inputs: Inputs, tape: bytes, sampler: Sampler) -> Views:
    """Real runs of one session, as many at a time as `lanes_of` says."""
    role, results = sampler.corrupted, Results(sampler.corrupted)
    services = services_of(case.plans, REAL)
    session = Session(services, seed=tape, on_result=results)
    results.taken()  # of the set-up
    engines = {party: endpoint.states.get("he") for party, endpoint in session.endpoints.items()}
    parts = []
    step = lanes_of(sampler.target)
    for start in range(0, inputs.count, step):
        some = inputs.part(start, start + step)
        lanes = Lanes(some.count)
        session.widen(lanes, some.count, FORMS)
        for party, engine in engines.items():
            if engine is not None:
                session.endpoints[party].states["he"] = LaneEngine(engine, lanes)
        client, server, own = arguments(case, some, lanes.lift, partial(prepared, services[-1], lanes), None)
        execution = by_lane(session.run(entry.proto, client, server, **case.public), lanes)
        parts.append(batch_views(execution, role, _given(lanes, role, own, results), lanes))
    return stacked(parts)


def _one_by_one(entry: Entry, case: Case, inputs: Inputs, tape: bytes, sampler: Sampler) -> Views:
    raws = [run.view() for run in runs(entry, case, inputs, tape, sampler.model, sampler.corrupted)]
    layout = reference(sampler.target, sampler.corrupted, sampler.model)
    return tabulate(raws, layout, sampler.corrupted)
