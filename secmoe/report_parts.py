"""The parts that leakage reports of runs and of audits share: subjects, assumptions, source."""

from __future__ import annotations

from pathlib import Path

from proofs.assumptions import assumed
from proofs.certificate import versions
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry, declared_cost
from secmoe.checked import Checked, Store, lines, told
from secmoe.layer import LayerRun
from secmoe.result_file import AUDIT, CERTIFICATE, Json
from secmoe.version import program_version
from secmoe.whole import ModelRun, run_of
from sim.role import Role
from transcripts.report import BAD, Line, Report, Subject, holds
from transcripts.store import Transcript

DECLARED_LINE: Line = (BAD, "LEAK (DECLARED): what it leaks by design depends on the expert choice")


def read_run(path: str) -> LayerRun | ModelRun:
    """The public parameters of a kept run, verified; raises what `Transcript` and `run_of` raise."""
    with Transcript(path) as transcript:
        return run_of(transcript.public)


def subject(entry: Entry, case: Case, checked: Checked, run: Path) -> Subject:
    """A subject of which everything is known from the store. run: a kept run of this shape."""
    results = {kind: [r for role in Role for r in checked.of(kind, role)] for kind in (CERTIFICATE, AUDIT)}
    certificates = [
        proved_row(r.corrupted, r.digest, r.content["statement"], r.content["steps"], r.content["nodes"])
        for r in results[CERTIFICATE]
    ]
    audits = [{**r.content, "digest": r.digest, "command": r.command} for r in results[AUDIT]]
    refused = [vars(r) for r in checked.refused]
    return joined(entry.name, entry, case, list(lines(checked, run)), certificates, audits, refused)


def proved_row(role: Role, digest: str, statement: str, steps: int, nodes: int) -> Json:
    """One certificate that the checker has accepted."""
    return {
        "corrupted": role.value,
        "verdict": "PROVED",
        "statement": statement,
        "steps": steps,
        "nodes": nodes,
        "digest": digest,
    }


def joined(
    protocol: str,
    entry: Entry,
    case: Case,
    verdicts: list[Line],
    certificates: list[Json],
    audits: list[Json],
    refused: list[Json],
) -> Subject:
    """A subject of its parts, with what the functionality declares and what the protocol costs."""
    functionality = entry.realises
    leakage = {"client": list(functionality.leaks_client), "server": list(functionality.leaks_server)}
    if functionality.leaks_route:
        verdicts = [*verdicts, DECLARED_LINE]
    return Subject(
        protocol=protocol,
        case=case.name,
        functionality=functionality.name,
        leakage=leakage,
        verdicts=verdicts,
        certificates=certificates,
        audits=audits,
        refused=refused,
        cost=_cost(entry, case),
    )


def _cost(entry: Entry, case: Case) -> dict[str, int] | None:
    """The closed form; None of a protocol that declares none, as a planted fault does not."""
    if entry.proto.cost is None:
        return None
    cost = declared_cost(entry, case)
    sizes = {"client_to_server": cost.c2s, "server_to_client": cost.s2c}
    return {**sizes, "messages": cost.messages, "rounds": cost.rounds}


def elsewhere(store: Store) -> list[Json]:
    """Kept audits of the catalog's own cases at this source."""
    found = []
    for entry in CATALOG:
        for case in entry.cases:
            for result in store.lookup(entry, case, certificates=False).results:
                line = f"{entry.name} ({case.name}), corrupted {result.corrupted.value}: {told(result)}"
                found.append({"protocol": entry.name, "case": case.name, "line": line, **result.to_json()})
    return found


def refuted(bounds: list[Json]) -> list[Line]:
    """A red line for every bound that does not hold."""
    return [
        (BAD, f"bound {b['name']}, {b['subject']}: REFUTED: {b['statement']}")
        for b in bounds
        if b["verdict"] == "REFUTED"
    ]


def assumption_rows(with_he: bool) -> list[Json]:
    """What the verdicts rest on."""
    return [vars(a) for a in assumed(with_he)]


def source_of(store: Store) -> dict[str, str]:
    """Which program speaks."""
    return {"installed": store.source, "version": program_version(), **versions()}


def finished(report: Report) -> Report:
    """The report with its overall verdict."""
    return {**report, "holds": holds(report)}
