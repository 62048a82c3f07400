"""The theorems: correctness for all inputs and tapes, privacy of each corrupted party's view."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from proofs.correct import prove_correct
from proofs.counterexample import Counterexample, enumerated, judge, symbolic
from proofs.ledger import private_verdict
from proofs.symbolic import Dag
from proofs.verdict import Verdict
from protocols.catalog import CATALOG
from protocols.entry import DECLARED, Case, Entry
from secmoe.checks.outcome import (
    BRANCH,
    BRANCHLESS,
    LEAK,
    LISTED,
    PROVED,
    REFUTED,
    SCHEDULE,
    UNKNOWN,
    Outcome,
    Subject,
    broken,
    raised,
    shapes,
)
from secmoe.checks.tiny import instances
from secmoe.examples import flatten
from sim.ring import RingArray
from sim.role import Role

CORRECT = "correct"
WRITE_CONTRACT = "state the functionality on ring arrays: Entry(..., contract=lambda x, y: ...)"
UNREADABLE = "its functionality does not read as a formula of ring arrays"
MASK = "hide it under a fresh draw of its sender (p.draw), used once; or keep shares instead of sending"
NEXT = {
    LEAK: MASK,
    REFUTED: MASK,
    UNKNOWN: "is every message hidden by a uniform draw that its receiver does not know and that hides nothing else?",
    BRANCH: BRANCHLESS,
    SCHEDULE: "compute with ring operations only: what looks at words can let the schedule follow them",
}


def correct(subject: Subject) -> Outcome:
    """Reconstructed outputs equal the functionality, for all inputs and tapes, at the width of every case.

    Without a contract the functionality itself is taken for one: a formula of sums and products reads the same on
    integers and on ring arrays. Where it does not, there is no theorem to prove, and the check is listed.
    """
    entry = subject.entry
    about = f"hybrid model, all inputs and tapes; {shapes(entry.cases)}"
    known = entry.contract is not None or any(row.proto is entry.proto for row in CATALOG)
    if not known:
        entry = replace(entry, contract=entry.realises.compute)
    methods: set[str] = set()
    for case in entry.cases:
        problem = None if known else _unreadable(entry, case)
        if problem is not None:
            return Outcome(CORRECT, LISTED, about, f"{UNREADABLE}: {case.name}: {problem}", WRITE_CONTRACT)
        try:
            verdict = prove_correct(entry, case)
        except Exception as error:
            return broken(CORRECT, about, entry, error, case.name)
        methods |= set(verdict.method.split(", "))
        if verdict.status != PROVED:
            return _unproved(verdict, case, about, known)
    return Outcome(CORRECT, PROVED, f"{about}; by {', '.join(sorted(methods))}")


def _unreadable(entry: Entry, case: Case) -> str | None:
    """Why the functionality cannot be computed on ring arrays, or None."""
    dag = Dag()
    values = [dag.leaf("secret", f"x{i}", secret.spec) for i, secret in enumerate(case.secrets)]
    try:
        outputs = flatten(entry.realises.compute(*values, **case.public))
    except Exception as error:  # written for integers, it may do anything with something else
        return f"{type(error).__name__}: {error}"
    odd = [type(x).__name__ for x in outputs if not isinstance(x, RingArray)]
    return f"it gives {', '.join(odd)}" if odd else None


def _unproved(verdict: Verdict, case: Case, about: str, known: bool) -> Outcome:
    problem = f"{case.name}: {verdict.detail}"
    if not known and verdict.detail.startswith("contract's output"):
        return Outcome(CORRECT, LISTED, about, f"{UNREADABLE}: {problem}", WRITE_CONTRACT)
    if verdict.status == REFUTED:
        return Outcome(CORRECT, REFUTED, about, problem, "run the text on this input and tape")
    advice = "declare the ranges of the secrets, or call proved protocols where the text does arithmetic itself"
    return Outcome(CORRECT, verdict.status, about, problem, advice)


def private(subject: Subject, role: Role) -> Outcome:
    """The view of a corrupted party has one law for all inputs of its peer; but for what `reveal` opens, where the
    protocol declares a leak."""
    entry, check = subject.entry, f"private against {role.value}"
    about = f"hybrid model, semi-honest; {shapes(entry.cases)}"
    for case in entry.cases:
        try:
            kind, detail = _judged(subject, case, role)
        except Exception as error:
            return broken(check, about, entry, error, case.name)
        if kind != PROVED:
            return Outcome(check, kind, about, f"{case.name}: {detail}", NEXT[kind])
    return Outcome(check, *((DECLARED, about, "but for what reveal opens") if subject.declares else (PROVED, about)))


def _judged(subject: Subject, case: Case, role: Role) -> tuple[str, str]:
    """The verdict on one case. Where the engine is stuck, a leak may still show in the exact law of a tiny instance."""
    proto = subject.entry.proto
    if subject.declares:
        verdict = private_verdict(symbolic(proto, case), role, declared=True)
        return verdict.status, verdict.detail
    judgement = judge(proto, case, role)
    if judgement.kind in (BRANCH, SCHEDULE):
        try:
            symbolic(proto, case)
        except TypeError as error:  # once more, for the line
            return judgement.kind, raised(subject.entry, error)
    if judgement.kind == UNKNOWN:
        leak = next((leak for leak in _leaks(subject.entry, role) if leak is not None), None)
        if leak is not None:
            return LEAK, str(leak)
    return judgement.kind, judgement.detail


def _leaks(entry: Entry, role: Role) -> Iterator[Counterexample | None]:
    for tiny in instances(entry):
        with suppress(Exception):  # a call that was shrunk need not run
            yield enumerated(entry.proto, tiny, role)
