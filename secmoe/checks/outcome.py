"""What one check says: a verdict, what it is about, and the next step where it does not hold."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from protocols.entry import DECLARED, Case, Entry
from secmoe.declared import raised_at
from sim.ring import SecretControlFlow
from transcripts.verdicts import NO_LEAK

TESTED = "TESTED"  # it held for everything that was tried
FAILED = "FAILED"
PROVED, REFUTED, UNKNOWN = "PROVED", "REFUTED", "UNKNOWN"
LEAK, BRANCH, SCHEDULE = "LEAK", "BRANCH", "SCHEDULE"
LISTED = "LISTED"  # it could not be run, for the reason given
BRANCHLESS = "control flow may depend on public values only: compute both sides and choose with mux"
MEND = "mend that line first"
HOLDING = (TESTED, PROVED, DECLARED, LISTED, NO_LEAK)


@dataclass(frozen=True)
class Subject:
    """What is checked: an entry, the MODULE:NAME it was found under, and the runs per corrupted party of an audit."""

    what: str
    entry: Entry
    runs: int

    @property
    def declares(self) -> bool:
        """Whether the protocol says that it leaks: it is then judged but for that, and never green."""
        says = self.entry.realises
        return self.entry.status == DECLARED or bool(says.leaks_client or says.leaks_server or says.leaks_route)


@dataclass(frozen=True)
class Outcome:
    """about: model, shapes, n. detail: what was found, or why nothing was run. advice: the next step.

    seconds: CPU time of this process.
    """

    check: str
    verdict: str
    about: str
    detail: str = ""
    advice: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.verdict in HOLDING

    def __str__(self) -> str:
        parts = (f"{self.check}: {self.verdict}", self.about, self.detail, self.advice and f"next: {self.advice}")
        return "; ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """One object with stable keys."""
        return {**vars(self), "holds": self.holds}


Check = Callable[[Subject], Outcome]


def timed(check: Check, subject: Subject) -> Outcome:
    """The outcome with the CPU seconds it took."""
    start = time.process_time()
    outcome = check(subject)
    return replace(outcome, seconds=time.process_time() - start)


def shapes(cases: Iterable[Case]) -> str:
    """The cases' names with the rings and shapes of their secrets."""
    told = []
    for case in cases:
        specs = dict.fromkeys(f"{s.ring} {list(s.shape)}" for s in case.secrets)
        told.append(f"{case.name} ({', '.join(specs)})" if specs else case.name)
    return "; ".join(told)


def broken(check: str, about: str, entry: Entry, error: BaseException, where: str = "") -> Outcome:
    """The outcome where the text cannot be run: it raised, or its control flow asks for a secret."""
    branches = isinstance(error, SecretControlFlow)
    told = f"{where}: {raised(entry, error)}" if where else raised(entry, error)
    return Outcome(check, BRANCH if branches else FAILED, about, told, BRANCHLESS if branches else MEND)


def raised(entry: Entry, error: BaseException) -> str:
    """An error of the protocol's text: where in its own file, whose fault, what."""
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()) if note.startswith("raised by "))
    return " ".join(f"{raised_at(error, inspect.getsourcefile(entry.proto.run))}{notes}".split())
