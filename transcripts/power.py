"""How much an audit can see: planted faults, run like the protocol itself and judged at the same corrected level.

Two sources. The faults of `protocols.broken` that claim what the protocol, or a part of it, claims. And the protocol's
own draws, weakened one at a time: a draw of the honest party or of a functionality loses its highest bit (a bit is zero
in every other run); where the audit does not see that, the upper half of its bits; where it does not see that, all but
the lowest. For a mask that is a bit short still hides a value that is small in the ring, and one that is half short a
single bit: the distance that is left is the value's range over the mask's, below what any number of runs could show.
Whether a draw protects anything is found out first, by setting it to zero altogether.
All of it runs in the hybrid model. Of a shape larger than any case of the catalog only the planted faults are run, each
at its own shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.broken import FAULTS, Fault
from protocols.catalog import CATALOG
from sim.ring import Spec
from sim.role import Role
from transcripts.audit import ANALYSERS, audit, examine
from transcripts.campaign import Campaign, Store, Told, is_wide, source_digest
from transcripts.classes import generator
from transcripts.sampling import HYBRID, Model, Sampler, draws_of, is_batchable, scopes_of
from transcripts.statistics import threshold
from transcripts.targets import PLANTED, Target, targets
from transcripts.verdicts import LEVEL, Audited, Examined

PROBE_RUNS, PROBE_LEVEL = 400, 1e-6
MOST_DRAWS, MOST_FAULTS = 4, 6
ZERO, SHORT, HALF, LAST = "zero", "a bit short", "half short", "all but a bit short"


@dataclass(frozen=True)
class Weaken:
    """Tampers with one draw. how: all words zero, or without their highest bit, the upper half of their bits, or all
    but the lowest. Of a bit, the last three make it zero in every other lane."""

    owner: str
    label: str
    how: str

    def __call__(self, owner: str, label: str, spec: Spec, words: NDArray[Any]) -> NDArray[Any]:
        if (owner, label.split("/", 1)[-1]) != (self.owner, self.label):
            return words
        l = spec.ring.l
        lost = {ZERO: l, SHORT: 1, HALF: -(-l // 2), LAST: max(l - 1, 1)}[self.how]
        weak = words & words.dtype.type(spec.ring.mask >> lost)
        if self.how != ZERO and l == 1:
            odd = np.arange(len(words)).reshape(-1, *(1,) * (words.ndim - 1)) % 2 == 1
            weak = np.where(odd, words, weak)
        return np.asarray(weak)


@dataclass(frozen=True)
class Power:
    """found: names of the planted faults that the audit saw; missed: of those it did not."""

    found: tuple[str, ...]
    missed: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.found), len(self.found) + len(self.missed)


@dataclass(frozen=True)
class Bench:
    """Where and how planted faults are run. store: finished blocks. notes: figures remembered between audits."""

    runs: int
    family: int
    level: float = LEVEL
    executor: Executor | None = None
    store: Store | None = None
    notes: Store | None = None
    told: Told | None = None

    def examined(self, samplers: Sequence[Sampler], runs: int) -> list[Examined]:
        """Experiments side by side."""
        campaign = Campaign(runs, self.executor, self.store, ANALYSERS, self.told)
        pairs = zip(samplers, campaign.gather(samplers), strict=True)
        return [examine(sampler, runs, summaries, layout) for sampler, (summaries, layout) in pairs]

    def sees(self, samplers: Sequence[Sampler]) -> list[bool]:
        """Of each, whether the smallest p-value would be rejected in the family."""
        limit = threshold(self.level, self.family)
        return [bool(found.suspects) and found.suspects[0].p <= limit for found in self.examined(samplers, self.runs)]

    def protects(self, samplers: Sequence[Sampler]) -> list[bool]:
        """Of each, whether the protocol leaks with this draw at zero."""
        return [
            bool(found.suspects) and found.suspects[0].p <= threshold(PROBE_LEVEL, found.tested)
            for found in self.examined(samplers, PROBE_RUNS)
        ]


def related(target: Target, role: Role) -> list[Fault]:
    """Planted faults that leak to this party and claim what the protocol or a protocol that it calls claims."""
    entry, _ = target.resolve()
    called = {entry.realises.name}
    scopes = scopes_of(target)
    called |= {row.realises.name for row in CATALOG if row.name in scopes}
    faults = [f for f in FAULTS if f.kind not in ("BRANCH", "REAL")]
    return [f for f in faults if f.leaks_to(role) and f.entry.realises.name in called]


def _thinned(items: Sequence[tuple[str, str]], most: int, seed: str) -> list[tuple[str, str]]:
    order = generator(seed, "thinned").permutation(len(items))
    return [items[int(i)] for i in order[:most]]


def measure(sampler: Sampler, bench: Bench) -> Power:
    """The power of an audit of this experiment with so many runs in a family of this size."""
    subject = f"{sampler.target} {sampler.corrupted} {sampler.seed} {bench.runs} {bench.family}"
    key = f"power {source_digest()} {subject} {LAST}"
    known = bench.notes.note(key) if bench.notes else None
    if known is None:
        power = _measured(sampler, bench)
        if bench.notes:
            bench.notes.remember(key, [power.found, power.missed])
        return power
    return Power(tuple(known[0]), tuple(known[1]))


def _measured(sampler: Sampler, bench: Bench) -> Power:
    role, seed = sampler.corrupted, f"{sampler.seed}/power"
    faults = related(sampler.target, role)[:MOST_FAULTS]
    seen = bench.sees([Sampler(targets(PLANTED + fault.name)[0], role, HYBRID, seed) for fault in faults])
    found = {PLANTED + fault.name: one for fault, one in zip(faults, seen, strict=True)}
    if is_batchable(sampler.target) and not is_wide(sampler.target):

        def weakened(draws: Sequence[tuple[str, str]], how: str) -> list[Sampler]:
            return [Sampler(sampler.target, role, HYBRID, seed, Weaken(owner, label, how)) for owner, label in draws]

        draws = _thinned([d for d in draws_of(sampler.target) if d[0] != role.value], 2 * MOST_DRAWS, seed)
        telling = list(compress(draws, bench.protects(weakened(draws, ZERO))))[:MOST_DRAWS]
        for how in (SHORT, HALF, LAST):
            seen = bench.sees(weakened(telling, how))
            found |= {f"{owner}: {label}, {how}": True for owner, label in compress(telling, seen)}
            telling = [draw for draw, one in zip(telling, seen, strict=True) if not one]
        found |= {f"{owner}: {label}, {LAST}": False for owner, label in telling}
    return Power(*(tuple(name for name, seen in found.items() if seen is wanted) for wanted in (True, False)))


def audit_fault(fault: Fault, runs: int, seed: str, model: Model = HYBRID, executor: Executor | None = None) -> Audited:
    """The audit of a planted fault, against both parties, with confirmation: what `secmoe audit broken.NAME` says."""
    target = targets(PLANTED + fault.name)[0]
    samplers = [Sampler(target, role, model, seed) for role in Role]
    campaign = Campaign(runs, executor)
    return audit(samplers, runs, campaign.gather)
