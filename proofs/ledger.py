"""The ledger: every catalog case with its verdicts, and the statement that each of them stands for.

Privacy is judged against the policy, not against declared leakage: a protocol that opens a value is DECLARED, never
PROVED. What it may open is the messages of `reveal` and `reveal_to` and nothing else: the rest of the view is held to
the same proof. (With what is opened, the rest tells no more if that is a function of the inputs: the peer's share is
then that value less one's own.) A protocol below the OT and HE interfaces has no verdict here; its status is ASSUMED
or BOUNDED. UNKNOWN fails unless it is LISTED with its reason; what is listed and proved has to leave the list.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from proofs.assumptions import Assumption, assumed
from proofs.certificate import trace_case
from proofs.correct import NoTheorem, prove_correct
from proofs.counterexample import refute
from proofs.private import Finding, prove_private
from proofs.refreshing import refreshing
from proofs.trace import Seen, Trace
from proofs.verdict import Status, Verdict
from proofs.widths import width_case
from protocols.catalog import CATALOG
from protocols.entry import DECLARED, Case, Entry
from protocols.sharing import reveal, reveal_to
from sim.role import Role

MODEL = "semi-honest, static, hybrid world of ideal OT and ideal HE"
METHOD = "optimistic sampling"

_REACH = (
    "what a norm demands of its row, and that the residual stream stays below its declared reach, does not follow from "
    "intervals of weights; all blocks have theorems of their own, and runs agree bit for bit with the functionality "
    "and with the independent oracle"
)
# (protocol, case, kind of the verdict) -> why it is not proved.
LISTED: Mapping[tuple[str, str, str], str] = MappingProxyType(
    {
        (
            "probabilities",
            "32 bits",
            "correct",
        ): "with 14 guard bits the bounds do not show that the sum of exponentials "
        "is in the range of the reciprocal; exhaustively it is (every word of the exponential's domain is tested)",
        ("encoder", "class", "correct"): _REACH,
        ("encoder", "logits", "correct"): _REACH,
    }
)


class UnknownProtocol(ValueError):
    """A name that the catalog does not have."""


@dataclass(frozen=True)
class Row:
    """The verdicts of one case. refreshing: optional, per party: whether its output shares are uniform (J3)."""

    entry: Entry
    case: Case
    correct: Verdict
    private: dict[Role, Verdict]
    declared: bool
    refreshing: dict[Role, Verdict] = field(default_factory=dict)
    listed: Mapping[tuple[str, str, str], str] = field(default_factory=lambda: LISTED)

    @property
    def judged(self) -> tuple[Verdict, ...]:
        """The verdicts that have to hold. Privacy of a declared row is that of its view without what it opens."""
        return (self.correct, *self.private.values())

    def reason(self, verdict: Verdict) -> str | None:
        """Why a verdict is listed as unknown, or None."""
        return self.listed.get((self.entry.name, self.case.name, verdict.kind))

    @property
    def holds(self) -> bool:
        """Whether nothing here fails the check: every verdict is PROVED, or UNKNOWN and listed."""
        return all(v.status == "PROVED" or (v.status == "UNKNOWN" and self.reason(v)) for v in self.judged)

    @property
    def outdated(self) -> list[str]:
        """Kinds that are listed as unknown and proved all the same: they must leave the list."""
        return [v.kind for v in self.judged if v.status == "PROVED" and self.reason(v)]

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        return assumed(bool(self.case.plans))

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
    found = [e for e in rows if e.has_theorem and name in (None, e.name)]
    if not found:
        known = sorted({e.name for e in rows if e.has_theorem})
        raise UnknownProtocol(f"protocol: expected one of {', '.join(known)}, got {name!r}")
    return found


def rows_of(chosen: Sequence[Entry], width: int | None = None) -> list[tuple[Entry, Case]]:
    """What there is to prove: all cases, or one call over Z_{2^width} of every protocol that has this width.

    Raises NoTheorem where a width is asked of one protocol that does not have it.
    """
    if width is None:
        return [(entry, case) for entry in chosen for case in entry.cases]
    at_width = [(entry, width_case(entry.name, entry.share_level, width)) for entry in chosen]
    found = [(entry, case) for entry, case in at_width if case is not None]
    if not found:
        names = ", ".join(sorted({entry.name for entry in chosen}))
        raise NoTheorem(f"{names}: there is no theorem at {width} bits; expected another --width, or none")
    return found


def ledger(rows: Sequence[tuple[Entry, Case]]) -> Iterator[Row]:
    """Prove case after case."""
    return (prove_row(entry, case) for entry, case in rows)


def prove_row(entry: Entry, case: Case) -> Row:
    """All verdicts of one case."""
    start = time.perf_counter()
    run = trace_case(entry, case)
    tracing = time.perf_counter() - start
    declared = entry.status == DECLARED
    private = {role: private_verdict(run, role, tracing / 2, declared=declared) for role in Role}
    refreshed = {role: refreshing(run, role) for role in Role}
    return Row(entry, case, prove_correct(entry, case), private, declared, refreshed)


def private_verdict(run: Trace, role: Role, spent: float = 0.0, declared: bool = False) -> Verdict:
    """PROVED; REFUTED with two secrets that the view tells apart; UNKNOWN with what stays exposed.

    declared: judge the view without the messages of `reveal` and `reveal_to`.
    """
    start = time.perf_counter()
    view = run.view(role)
    kept = [seen for seen in view if not (declared and _opens(seen))]
    peeled = prove_private(run.dag, kept, role)
    status: Status = "UNKNOWN" if peeled.findings else "PROVED"
    detail = "; ".join(_told(run, finding) for finding in peeled.findings[:3])
    if declared and not peeled.findings:
        detail = f"but for what is opened: {', '.join(seen.label for seen in view if _opens(seen))}"
    leak = refute(run, role) if peeled.findings and not declared else None
    if leak is not None:
        status, detail = "REFUTED", f"LEAK: {leak}"
    seconds = spent + time.perf_counter() - start
    return Verdict(status, f"private against {role.value}", f"{METHOD}, {len(peeled.steps)} steps", detail, seconds)


def _opens(seen: Seen) -> bool:
    """A message of `reveal` or `reveal_to`."""
    return not {reveal.name, reveal_to.name}.isdisjoint(seen.label.split("/")[:-1]) and not seen.ideal


def _told(run: Trace, finding: Finding) -> str:
    """The message, the secrets that reach it, and the path from the message to the first of them."""
    nodes = run.dag.nodes
    secrets = ", ".join(f"{nodes[n].owner}'s {nodes[n].label}" for n in finding.secrets[:4])
    path = " <- ".join(f"{nodes[n].op} at {nodes[n].line}" for n in finding.path[:4])
    return f"{finding.seen.label} depends on {secrets} ({path})"
