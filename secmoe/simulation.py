"""The simulator of a privacy certificate, as the audit takes it: found by name in whichever process needs it.

Beside it, simulators that are wrong in one message each: an audit against a simulator counts how many it rejects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from proofs.certificate import NotProved, certificate
from proofs.simulator import Simulator
from sim.ring import RingArray, Spec
from sim.role import Role
from sim.tape import Tape
from transcripts.classes import SECOND, generator
from transcripts.power import Bench, Power
from transcripts.simulated import AgainstSimulator, Told
from transcripts.targets import Target
from transcripts.views import bare

MOST_WRONG = 4


@cache
def _simulator(target: Target, corrupted: Role) -> Simulator:
    entry, case = target.resolve()
    document = certificate(entry, case, corrupted)
    if "told" in document["claim"]:
        raise NotProved(f"{target}: its simulator wants the answer, which no audit has for it")
    return Simulator(document)


@dataclass(frozen=True)
class CertifiedSimulator:
    """Samples views from the certificate of a target; `exists` says whether there is one."""

    target: Target
    corrupted: Role

    @property
    def exists(self) -> bool:
        try:
            _simulator(self.target, self.corrupted)
        except NotProved:
            return False
        return True

    @property
    def draws(self) -> Mapping[str, Spec]:
        return _simulator(self.target, self.corrupted).own_draws

    def __call__(self, inputs: Mapping[str, RingArray], draws: Mapping[str, RingArray], tape: Tape) -> list[Told]:
        simulator = _simulator(self.target, self.corrupted)
        given = {name: inputs[name] for name in simulator.inputs}
        return [(e.label, e.depth, e.spec, e.array) for e in simulator.sample(given, draws, tape)]


@dataclass(frozen=True)
class WrongSimulator(CertifiedSimulator):
    """Clears the lowest bit of every word of one message, or of what one call of a functionality delivers.

    place: (received or functionality, the label without the number of its run, which array under it).
    """

    place: tuple[str, str, int]

    def __call__(self, inputs: Mapping[str, RingArray], draws: Mapping[str, RingArray], tape: Tape) -> list[Told]:
        made = super().__call__(inputs, draws, tape)
        return [
            (label, depth, spec, None if x is None else _even(x) if place == self.place else x)
            for (label, depth, spec, x), place in zip(made, _places(made), strict=True)
        ]


def _even(x: RingArray) -> RingArray:
    return x - x.field(0, 1).cast(x.ring)


def _places(made: list[Told]) -> Iterator[tuple[str, str, int]]:
    """Where each array of a simulated view stands."""
    seen: dict[tuple[str, str], int] = {}
    for label, depth, _, x in made:
        at = ("received" if depth else "functionality", bare(label))
        seen[at] = seen.get(at, 0) + (x is not None)
        yield *at, seen[at]


def simulator_power(sampler: AgainstSimulator, bench: Bench) -> Power:
    """How many wrong simulators of this party's view the audit rejects, with so many runs in a family of this size.

    The arrays that are spoiled are a fixed choice among all that the simulator makes up.
    """
    careful = sampler.simulate
    if not isinstance(careful, CertifiedSimulator):
        raise TypeError("expected the simulator of a certificate")
    sources = sampler.block(0, 4)[SECOND].layout.sources
    labels = [(s.kind, s.label) for s in sources if s.kind in ("received", "functionality")]
    order = generator(sampler.seed, "wrong simulators").permutation(len(labels))
    chosen = [labels[int(i)] for i in sorted(order[:MOST_WRONG])]
    wrong = [WrongSimulator(careful.target, careful.corrupted, (kind, *_numbered(label))) for kind, label in chosen]
    seen = bench.sees([replace(sampler, simulate=one, seed=f"{sampler.seed}/power") for one in wrong])
    names = [f"simulator of {kind} {label}, lowest bits cleared" for kind, label in chosen]
    found = dict(zip(names, seen, strict=True))
    return Power(*(tuple(name for name, seen in found.items() if seen is wanted) for wanted in (True, False)))


def _numbered(label: str) -> tuple[str, int]:
    """The label and number of a source: `x.2` is the second array under x."""
    path, slash, last = label.rpartition("/")
    word, _, number = last.partition(".")
    return f"{path}{slash}{word}", int(number or 1)
