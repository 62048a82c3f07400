"""Real against simulated: can the view of a hybrid run be told from what a simulator makes of the party's own side?

The simulator is a callable that is handed in; it is given the corrupted party's inputs and draws of a run, and a tape
of its own. Both views are then the party's inputs and draws, the messages it receives, and what functionalities
deliver. A pass says that these statistics do not tell them apart, not that none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocols.entry import Case, Entry
from sim.concrete import from_words, to_words
from sim.ring import RingArray, Spec
from sim.role import SERVER
from sim.tape import Tape, derive_key, words_from_bytes
from sim.wire import AnySpec
from transcripts.classes import AGAIN, FIRST, RANDOM, SECOND, Comparison, Inputs
from transcripts.ordinary import Run, runs
from transcripts.sampling import Sampler
from transcripts.views import LONG_WORDS, Fact, Kind, Layout, Raw, Source, Views, Words, bare, fact_of, tabulate

Told = tuple[str, int, AnySpec, RingArray | None]  # label, depth (0: a functionality's output), header, content if any


class Simulate(Protocol):
    """A simulator of one corrupted party. `draws`: the party's own draws that it needs, by label in a first run."""

    @property
    def draws(self) -> Mapping[str, Spec]: ...

    def __call__(
        self, inputs: Mapping[str, RingArray], draws: Mapping[str, RingArray], tape: Tape
    ) -> Sequence[Told]: ...


@dataclass(frozen=True)
class AgainstSimulator(Sampler):
    """Classes `first` and `again` are runs of the protocol, the others what the simulator makes of such runs' own side.

    All secrets are drawn afresh in every run. simulate: without it there is nothing to compare.
    """

    simulate: Simulate | None = None

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return (("real against simulated", (FIRST, AGAIN), (SECOND, RANDOM)),)

    def views(self, entry: Entry, case: Case, inputs: Inputs, names: Sequence[str], tape: bytes) -> Views:
        if self.simulate is None:
            raise TypeError("a simulator is needed")
        raws = []
        for i, run in enumerate(runs(entry, case, inputs, tape, self.model, self.corrupted)):
            if names[i] in (FIRST, AGAIN):
                raws.append(_without_own_work(run.view()))
            else:
                key = derive_key(tape + str(i).encode(), "simulator")
                raws.append(_simulated(self.simulate, run, _weights(case, inputs, i), Tape(key, "simulator")))
        reference = next((r for r, name in zip(raws, names, strict=True) if name == FIRST), raws[0])
        return tabulate(raws, Layout([source for source, _ in reference.arrays]), self.corrupted)


def _without_own_work(raw: Raw) -> Raw:
    """What a simulator has to make: no messages of the party's own, nothing that it computes."""
    arrays = [(s, w) for s, w in raw.arrays if s.kind in ("input", "draw", "received", "functionality")]
    return Raw(tuple(f for f in raw.facts if f[0] == "received"), arrays, raw.histograms)


def _weights(case: Case, inputs: Inputs, run: int) -> dict[str, RingArray]:
    return {
        f"w{i}": from_words(secret.ring, inputs.values[i][run])
        for i, secret in enumerate(case.secrets)
        if secret.weight
    }


def _simulated(simulate: Simulate, run: Run, weights: Mapping[str, RingArray], tape: Tape) -> Raw:
    own = {**dict(run.own), **(weights if run.role is SERVER else {})}
    drawn = {bare(label): data for label, data in run.drawn}
    draws = {
        label: from_words(spec.ring, words_from_bytes(drawn[bare(label)], spec))
        for label, spec in simulate.draws.items()
    }
    whole = run.view().arrays
    arrays = [(s, w) for s, w in whole if s.kind in ("input", "draw")]
    most = whole[0][0].most if whole else LONG_WORDS
    facts: list[Fact] = []
    seen: dict[tuple[str, str], int] = {}
    for label, depth, spec, content in simulate(own, draws, tape):
        kind: Kind = "received" if depth else "functionality"
        if depth:
            facts.append(fact_of("received", label, spec, depth))
        if content is not None:
            arrays.append(_array(kind, label, content, most, seen))
    return Raw(tuple(facts), arrays)


def _array(kind: Kind, label: str, x: RingArray, most: int, seen: dict[tuple[str, str], int]) -> tuple[Source, Words]:
    count = seen[kind, label] = seen.get((kind, label), 0) + 1
    source = Source(kind, bare(label) + (f".{count}" if count > 1 else ""), x.ring.l, x.size, most=most)
    words: Words = to_words(x).reshape(-1)[source.places]
    return source, words
