"""The gate that judges a mutant of a protocol: the detectors that judge the protocols themselves, on one instance.

schedule      the run is refused by its world: deadlock, unread or repeated message, wrong size on the wire, a draw
              made twice, a slice that nothing reserved, an endless loop; or the wire is not the declared closed form
types         the array front end, or Python, refuses an operation: ring, shape, type
privacy       the engine does not prove the mutant's view independent of the peer's secrets
correctness   reconstructed outputs differ from the functionality: for ALL inputs and draws of a tiny instance, on
              edge and random lanes of a catalog case; there with the callees as functionalities first (proofs.hybrid)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from proofs.counterexample import symbolic
from proofs.enumerate import LIMIT, Joint, TooManyLanes
from proofs.instances import Instance, proved
from proofs.mutants import EndlessRun
from proofs.trace import Trace
from protocols.entry import declared_cost
from sim.driver import Deadlock, DuplicateLabel, UnreceivedMessage
from sim.role import CLIENT, SERVER, Role
from sim.tape import TapeReuse
from sim.wire import WireMismatch
from sim.world import ReservationError

SCHEDULE, TYPES, PRIVACY, CORRECTNESS = "schedule", "types", "privacy", "correctness"
DETECTORS = (SCHEDULE, TYPES, PRIVACY, CORRECTNESS)
LARGE = 2000  # nodes from which on a mutant meets the functionalities of its callees before the whole run
_REFUSALS = (
    Deadlock,
    DuplicateLabel,
    EndlessRun,
    ReservationError,
    TapeReuse,
    TooManyLanes,
    UnreceivedMessage,
    WireMismatch,
)
Figures = tuple[int, ...]
Lanes = NDArray[np.bool_]


class Mutant(Protocol):
    """What can be planted for a while."""

    @property
    def name(self) -> str: ...
    @property
    def operator(self) -> str: ...
    def planted(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a mutant on one instance. by: the detectors that object; changed: it is another run."""

    by: tuple[str, ...]
    why: str
    changed: bool


class Gate:
    """All detectors on one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.name = instance.name
        self.size = len(instance.run.dag.nodes)
        self.priced = instance.entry.proto.cost is not None and self._declared() == self._wire(instance.run)

    @cached_property
    def shape(self) -> Any:
        """The unchanged run as a comparable value."""
        return _shape(self.instance.run)

    def judge(self, mutant: Mutant, thorough: bool = False) -> Verdict:
        """Run the mutant and ask the detectors, up to the first that objects; all of them if `thorough`."""
        large = not self.instance.exact and self.size > LARGE
        if large:
            inside = self.instance.valid_composed  # of the unchanged text, hence before anything is planted
            composed = self._refused(mutant, lambda: self._differs(inside, self.instance.composed()))
            if composed.by:
                return composed
        inside = self.instance.valid
        return self._refused(mutant, lambda: self._objections(inside, thorough))

    def _refused(self, mutant: Mutant, ask: Callable[[], Verdict]) -> Verdict:
        """The answer, or the refusal of the run: whatever a mutant raises counts."""
        try:
            with mutant.planted():
                return ask()
        except Exception as error:
            cause = SCHEDULE if isinstance(error, _REFUSALS) else TYPES
            return Verdict((cause,), f"{self.name}: {type(error).__name__}: {error}", True)

    def _differs(self, inside: Lanes, right: Lanes) -> Verdict:
        wrong = inside & ~right
        if not wrong.any():
            return Verdict((), "", True)
        return Verdict((CORRECTNESS,), f"{self.name}: outputs differ for {wrong.mean():.0%} of the inputs", True)

    def _objections(self, inside: Lanes, thorough: bool) -> Verdict:
        run = symbolic(self.instance.entry.proto, self.instance.case)
        if _shape(run) == self.shape:
            return Verdict((), "", False)
        found: dict[str, str] = {}
        if self.priced and self._declared() != self._wire(run):
            found[SCHEDULE] = f"{self.name}: declared {self._declared()}, on the wire {self._wire(run)}"
        for role in Role:
            if self.instance.proved[role] and not proved(run, role):
                found[PRIVACY] = f"{self.name}: the view of a corrupted {role.value} is not proved independent"
        if not found or thorough:
            verdict = self._differs(inside, self.instance.right(self.instance.execute()))
            found |= {CORRECTNESS: verdict.why} if verdict.by else {}
        return Verdict(tuple(found), "; ".join(found.values()), True)

    def leak(self, mutant: Mutant) -> Fraction:
        """Of a tiny instance, the exact distance of the mutant's views under two secrets, the larger of both parties';
        0 where the unchanged protocol opens values by declaration."""
        with mutant.planted():
            joint = Joint(self.instance.entry.proto, self.instance.case, LIMIT)
        return max((joint.distance(role) for role in Role if self.instance.proved[role]), default=Fraction(0))

    def _declared(self) -> Figures:
        return declared_cost(self.instance.entry, self.instance.case).row()

    def _wire(self, run: Trace) -> Figures:
        """What the closed form declares, as counted: bytes and messages of the protocol's scope, COTs, rounds."""
        messages = run.execution.scope(f"{run.execution.prefix}/{self.instance.entry.name}")
        sizes = [sum(m.nbytes for m in messages if m.sender is role) for role in (CLIENT, SERVER)]
        cots = [run.execution.reserved.get(f"cot.{role.value}", 0) for role in (CLIENT, SERVER)]
        return *sizes, len(messages), *cots, len({m.depth for m in messages})


def _shape(run: Trace) -> Any:
    nodes = [(n.op, n.args, n.params, n.ring.l, n.shape) for n in run.dag.nodes]
    headers = [(m.sender, m.label, m.depth, m.spec) for m in run.execution.messages]
    views = [[(s.label, s.node) for s in run.view(role)] for role in Role]
    return nodes, headers, views, run.outputs
