"""The ledger: every catalog case with its verdicts, and the statement that each of them stands for.

Privacy is judged against the policy, not against declared leakage: a protocol that opens a value (`reveal`) is
DECLARED, never PROVED. A protocol below the OT and HE interfaces has no verdict here; its status is ASSUMED or BOUNDED.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proofs.certificate import trace_case
from proofs.correct import NoTheorem, prove_correct
from proofs.private import Finding, prove_private
from proofs.trace import Trace
from proofs.verdict import Status, Verdict
from protocols.catalog import CATALOG, TESTED, Case, Entry
from sim.role import Role

MODEL = "semi-honest, static, hybrid world of ideal OT and ideal HE"
METHOD = "optimistic sampling"
DECLARED = "DECLARED"


class UnknownProtocol(ValueError):
    """A name that the catalog does not have."""


@dataclass(frozen=True)
class Row:
    """The verdicts of one case. exposed: per corrupted party, what its view still shows (empty when proved)."""

    entry: Entry
    case: Case
    correct: Verdict
    private: dict[Role, Verdict]
    declared: bool

    @property
    def holds(self) -> bool:
        """Whether nothing here fails the check: all proved, or opened by declaration."""
        privacy = self.declared or all(v.status == "PROVED" for v in self.private.values())
        return privacy and self.correct.status == "PROVED"

    def statement(self, role: Role) -> str:
        """The sentence that a PROVED verdict stands for."""
        shapes = ", ".join(f"{s.ring} {s.shape}" for s in self.case.secrets)
        return (
            f"{self.entry.name} ({self.case.name}): the view of a corrupted {role.value} has one law for all inputs "
            f"of its peer ({MODEL}; inputs {shapes}). HE responses: statistical, see the session's epsilon. OT "
            "extension and RLWE: assumed."
        )


def entries(name: str | None, rows: Sequence[Entry] = CATALOG) -> list[Entry]:
    """The rows above the interfaces, or those of one protocol; raises UnknownProtocol."""
    found = [e for e in rows if e.cases and e.status == TESTED and name in (None, e.name)]
    if not found:
        known = sorted({e.name for e in rows if e.cases and e.status == TESTED})
        raise UnknownProtocol(f"protocol: expected one of {', '.join(known)}, got {name!r}")
    return found


def ledger(chosen: Sequence[Entry], width: int | None = None) -> Iterator[Row]:
    """Prove case after case. width: prove correctness at this ring width instead of the case's own."""
    for entry in chosen:
        for case in entry.cases:
            yield prove_row(entry, case, width)


def prove_row(entry: Entry, case: Case, width: int | None = None) -> Row:
    """All verdicts of one case."""
    start = time.perf_counter()
    run = trace_case(entry, case)
    tracing = time.perf_counter() - start
    private = {role: private_verdict(run, role, tracing / 2) for role in Role}
    try:
        correct = prove_correct(entry, case, width)
    except NoTheorem as error:
        correct = Verdict("UNKNOWN", "correctness", "none", str(error), 0.0)
    return Row(entry, case, correct, private, entry.opened)


def private_verdict(run: Trace, role: Role, spent: float = 0.0) -> Verdict:
    """PROVED, or UNKNOWN with what stays exposed: a counterexample is a separate proof."""
    start = time.perf_counter()
    peeled = prove_private(run.dag, run.view(role), role)
    detail = "; ".join(_told(run, finding) for finding in peeled.findings[:3])
    status: Status = "UNKNOWN" if peeled.findings else "PROVED"
    seconds = spent + time.perf_counter() - start
    return Verdict(status, f"private against {role.value}", f"{METHOD}, {len(peeled.steps)} steps", detail, seconds)


def _told(run: Trace, finding: Finding) -> str:
    """The message, the secrets that reach it, and the path from the message to the first of them."""
    nodes = run.dag.nodes
    secrets = ", ".join(f"{nodes[n].owner}'s {nodes[n].label}" for n in finding.secrets[:4])
    path = " <- ".join(f"{nodes[n].op} at {nodes[n].line}" for n in finding.path[:4])
    return f"{finding.seen.label} depends on {secrets} ({path})"
