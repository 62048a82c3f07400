"""The simulator of a privacy certificate, as the audit takes it: found by name in whichever process needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from proofs.certificate import NotProved, certificate
from proofs.simulator import Simulator
from sim.ring import RingArray, Spec
from sim.role import Role
from sim.tape import Tape
from transcripts.simulated import Told
from transcripts.targets import Target


@cache
def _simulator(target: Target, corrupted: Role) -> Simulator:
    entry, case = target.resolve()
    return Simulator(certificate(entry, case, corrupted))


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
