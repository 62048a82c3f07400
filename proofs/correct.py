"""Correctness: reconstruct(outputs) = f(reconstruct(inputs)) for all inputs and all tapes, by a ladder, cheapest first.

  lanes         random and edge values: refute, and hold the contract against the plain-integer functionality
  normal form   both sides are one polynomial
  elimination   leaves that the difference does not mention are set to 0; Z3 decides the rest
Callees are functionalities (contracts); each call is an instance with a theorem of its own, proved here as well, at its
own shape and parameters. What a contract demands of its inputs is shown by bounds, else by Z3. A shared input is
(x - r, r) with x the secret and r the client's share. An entry of an array that is another one with leaves put for its
leaves is proved with it, and a statement about terms that was proved in one theorem is known in all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np

from proofs.bounds import Bounds
from proofs.contracts import CONTRACTS
from proofs.elements import LEAF, Elements, Numbers
from proofs.hybrid import Demand, Instance, Ledger, run_hybrid
from proofs.lanes import mismatch
from proofs.normal_form import Normaliser
from proofs.setups import CALLEES, Setup, from_case, from_instance
from proofs.smt import Answer, Range, prove_equal, prove_range
from proofs.symbolic import INPUT
from proofs.theorems import RELATIONS, merge_lemma
from proofs.trace import arrays
from proofs.verdict import Status, Verdict
from proofs.widths import width_case
from protocols.entry import Case, Entry
from protocols.he.ideal import IdealHeService
from protocols.ot.ideal import IdealOtService
from sim.ring import RingArray
from sim.role import SERVER
from sim.world import Service

KIND = "correct"
Z3_SECONDS = 20.0
T = TypeVar("T")
TOURNAMENTS = ("top_k", "maximum", "argmax", "softmax")
SMALL = 400  # assumptions of more terms are not given to Z3


class NoTheorem(ValueError):
    """A protocol without a correctness theorem, or one that has no such width."""


class CircularContracts(RuntimeError):
    """A contract that rests on itself."""


@dataclass
class Finding:
    """What became of one theorem."""

    status: Status
    methods: set[str]
    detail: str
    assumptions: set[str]


def prove_correct(entry: Entry, case: Case, width: int | None = None) -> Verdict:
    """Prove a catalog row at one of its cases, or at a ring width (8, 16, 32 or 64) where its theorem has that width.

    Raises NoTheorem for rows below the OT and HE interfaces, and for widths that a protocol does not have.
    """
    start = time.perf_counter()
    if width is not None:
        case = width_case(entry.name, entry.share_level, width) or _no_width(entry, width)
    known = entry.contract is not None or entry.name in CONTRACTS or entry.name in RELATIONS
    if not (entry.cases and known):
        raise NoTheorem(f"{entry.name}: expected a protocol above the OT and HE interfaces; this one is {entry.status}")
    findings = _each(from_case(entry, case))
    if entry.name in TOURNAMENTS:
        findings.append(_tournament_step(case.secrets[0].ring.l))
    return _verdict(findings, time.perf_counter() - start)


def _no_width(entry: Entry, width: int) -> Case:
    raise NoTheorem(f"{entry.name} has no theorem at {width} bits: give another width, or none for the catalog's case")


def _verdict(findings: Sequence[Finding], seconds: float) -> Verdict:
    methods = ", ".join(sorted(set().union(*(f.methods for f in findings))))
    assumptions = tuple(sorted(set().union(*(f.assumptions for f in findings))))
    worst = _worst(findings)
    return Verdict(worst.status, KIND, methods, worst.detail, seconds, assumptions)


def _worst(findings: Sequence[Finding]) -> Finding:
    order = ("REFUTED", "UNKNOWN", "PROVED")
    return min(findings, key=lambda f: order.index(f.status))


# -- proving ----------------------------------------------------------------------------------------------------------
_open: list[Instance] = []
# Statements that hold for all words of their leaves (inputs: in their ranges), by shape, and how they were proved.
_proved: dict[tuple[Any, ...], frozenset[str]] = {}


@cache
def _prove_instance(instance: Instance) -> Finding:
    if instance in _open:
        raise CircularContracts(f"the contract of {instance} rests on itself")
    _open.append(instance)
    try:
        return _worst_of(_each(from_instance(instance)))
    finally:
        _open.pop()


def forget_proved_callees() -> None:
    """Instances are proved once per process; call this after changing a protocol's text within one."""
    _prove_instance.cache_clear()


def _each(setups: Iterator[Setup]) -> list[Finding]:
    """Findings of all cases of a theorem, up to the first that is not proved."""
    findings = []
    for setup in setups:
        findings.append(_prove(setup))
        if findings[-1].status != "PROVED":
            break
    return findings


def _worst_of(findings: Sequence[Finding]) -> Finding:
    worst = _worst(findings)
    methods = set().union(*(f.methods for f in findings))
    return Finding(worst.status, methods, worst.detail, set().union(*(f.assumptions for f in findings)))


def _prove(setup: Setup) -> Finding:
    services: list[Service] = [IdealOtService()]
    if setup.plans:
        services.append(IdealHeService(setup.plans))
    assumed = list(setup.ranges)
    if setup.contract is not None:
        assumed += setup.contract.demands(*setup.values, **setup.public)
    ledger = Ledger()
    out = run_hybrid(setup.proto, services, setup.client, setup.server, setup.public, setup.dag, CALLEES, ledger)
    got = opened(setup, arrays(out.client), arrays(out.server))
    if setup.contract is not None:
        want = arrays(setup.contract.compute(*setup.values, **setup.public))
    else:
        got, want = RELATIONS[setup.name](got)
    attempt = Attempt(setup, assumed)
    own = attempt.run(got, want, ledger)
    own.assumptions.add("ideal OT and HE")
    own.assumptions |= {f"input: {d.what}" for d in assumed}
    if own.status != "PROVED":
        return own
    callees = [(i, _prove_instance(i)) for i in dict.fromkeys(ledger.instances)]
    own.assumptions |= {f"contract {instance}" for instance, _ in callees}
    for instance, finding in callees:
        own.methods |= finding.methods | {"contracts"}
        own.assumptions |= {a for a in finding.assumptions if a.startswith("contract")}
        if finding.status != "PROVED":
            return Finding("UNKNOWN", own.methods, f"its callee {instance}: {finding.detail}", own.assumptions)
    return own


def opened(setup: Setup, ours: list[RingArray], theirs: list[RingArray]) -> list[RingArray]:
    """The reconstructed outputs."""
    entry, case = setup.entry, setup.case
    if entry is not None and case is not None and entry.opened:
        return [*ours, *theirs]
    if entry is not None and case is not None and entry.difference:
        flip = case.leading[0] is SERVER
        return [b - a if flip else a - b for a, b in zip(ours, theirs, strict=True)]
    return [a + b for a, b in zip(ours, theirs, strict=True)]


class Attempt:
    """One theorem's ladder."""

    def __init__(self, setup: Setup, assumed: Sequence[Demand]) -> None:
        self.setup, self.assumed = setup, assumed
        self.elements = Elements(setup.dag)
        self.normal = Normaliser(self.elements)
        self.bounds = Bounds(self.elements, self.normal)
        self.given: list[Range] = [(n, d.low, d.high) for d in assumed for n in self._entries(d.values)]
        # Every assumption is a range of an input: statements may be carried over to other leaves and theorems.
        self.uniform = all(setup.dag.nodes[d.values.value].op == INPUT for d in assumed)
        self.ranges: dict[int, tuple[tuple[int, int], ...]] = {}
        for d in assumed:
            self.ranges[d.values.value] = (*self.ranges.get(d.values.value, ()), (d.low, d.high))
        for number, low, high in self.given:
            self.bounds.assume(number, low, high)
        self.methods: set[str] = set()
        self.bounded = False

    def _entries(self, x: RingArray) -> list[int]:
        return [int(n) for n in self.elements.array(x.value).flat]

    def run(self, got: list[RingArray], want: list[RingArray], ledger: Ledger) -> Finding:
        entry, case = self.setup.entry, self.setup.case
        want = want * 2 if entry is not None and entry.opened else want
        for a, b in zip(got, want, strict=True):
            if a.spec != b.spec:
                return self._finding("REFUTED", f"outputs of {a.spec}, expected {b.spec}")
        functionality = (entry, case) if entry is not None and case is not None else None
        found = mismatch(self.setup.dag, got, want, self.assumed, self.setup.values, functionality)
        self.methods.add("lanes")
        if found is not None:
            return self._finding("REFUTED", found)
        for name, demand in ledger.demands:
            unmet = self._demand(demand, want)
            if unmet is not None:
                return self._finding("UNKNOWN", f"demand of {name}, {demand.what}: {unmet}")
        pairs = [np.stack([self.elements.array(x.value).ravel() for x in pair]) for pair in zip(got, want, strict=True)]
        for one, other in self._classes(np.concatenate(pairs, axis=1).T):
            finding = self._once(("equal",), [one, other], partial(self._equal, one, other))
            if finding is not None:
                return finding
        return self._finding("PROVED", "")

    def _classes(self, rows: Numbers) -> Iterator[list[int]]:
        """One row of terms for all rows that are its images."""
        rows = np.unique(rows, axis=0)
        while len(rows):
            first = rows[0].tolist()
            yield first
            same = self.elements.images(first, rows) if self.uniform else (rows == rows[0]).all(axis=1)
            rows = rows[~same]

    def _once(self, what: tuple[Any, ...], roots: list[int], prove: Callable[[], T | None]) -> T | None:
        """What `prove` finds (None: proved), unless the same statement is known."""
        if not self.uniform:
            return prove()
        statement = (what, *self.elements.shape_of(roots, self.ranges.get))
        if statement not in _proved:
            before, self.methods = self.methods, set()
            problem = prove()
            own, self.methods = self.methods, before | self.methods
            if problem is not None:
                return problem
            _proved[statement] = frozenset(own)
        self.methods |= _proved[statement]
        return None

    def _finding(self, status: Status, detail: str) -> Finding:
        return Finding(status, self.methods, detail, set())

    def _demand(self, demand: Demand, want: list[RingArray]) -> str | None:
        """None, or why the demand is not shown."""
        for (number,) in self._classes(self.elements.array(demand.values.value).reshape(-1, 1)):
            statement = ("range", demand.low, demand.high)
            unmet = self._once(statement, [number], partial(self._in_range, number, demand, want))
            if unmet is not None:
                return unmet
        return None

    def _in_range(self, number: int, demand: Demand, want: list[RingArray]) -> str | None:
        if self.bounds.given(number, demand.low, demand.high):
            self.methods.add("bounds")
            return None
        if not self.bounded:  # what the specification shows of its values helps
            self.bounded = True
            for x in want:
                for n in self._entries(x):
                    self.bounds.arc(n)
        if self.bounds.within(number, demand.low, demand.high):
            self.methods.add("bounds")
            return None
        zero, given = self._eliminated(self.normal.leaves_of(number))
        answer = prove_range(self.elements, number, demand.low, demand.high, given, zero, Z3_SECONDS, self.bounds)
        if answer.holds is None:
            return answer.reason
        if not answer.holds:
            return f"may fail: {self._show(answer)}; known bounds {self.bounds.arc(number)}"
        self.methods.add("Z3")
        return None

    def _eliminated(self, mentioned: set[int]) -> tuple[set[int], list[Range]]:
        """Leaves that may be 0, and the assumptions that do not speak of them."""
        terms = self.elements.terms
        zero = {n for n, term in enumerate(terms) if term.op == LEAF and n not in mentioned}
        given = []
        for number, low, high in self.given:
            below = self.elements.cone([number])
            if len(below) <= SMALL and zero.isdisjoint(below):
                given.append((number, low, high))
        return zero, given

    def _equal(self, a: int, b: int) -> Finding | None:
        """None if equal."""
        rest = self.normal.rest(a, b)
        if not rest.terms:
            self.methods.add("normal form")
            return None
        zero, given = self._eliminated(self.normal.forms.leaves([rest]))
        answer = prove_equal(self.elements, a, b, given, zero, Z3_SECONDS)
        if answer.holds:
            self.methods |= {"elimination", "Z3"}
            return None
        if answer.holds is None:
            return self._finding("UNKNOWN", f"{answer.reason}; {len(rest.terms)} terms left of the difference")
        return self._finding("REFUTED", self._show(answer))

    def _show(self, answer: Answer) -> str:
        shown = []
        for number, value in sorted(answer.leaves.items())[:12]:
            array, at = self.elements.terms[number].params
            node = self.setup.dag.nodes[array]
            place = np.unravel_index(at, node.shape) if node.shape else ()
            shown.append(f"{node.owner} {node.label}[{', '.join(str(int(i)) for i in place)}] = {value}")
        return "at " + "; ".join(shown) + " and 0 elsewhere"


def _tournament_step(l: int) -> Finding:
    """The induction step of every tournament: merging two neighbouring runs gives the maximum of both."""
    answer = merge_lemma(l, Z3_SECONDS)
    if answer.holds:
        return Finding("PROVED", {"Z3", "induction over runs"}, "", {"induction: linked by hand"})
    status: Status = "UNKNOWN" if answer.holds is None else "REFUTED"
    return Finding(status, {"Z3"}, f"the step of the tournament: {answer.reason}", set())
