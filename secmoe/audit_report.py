"""What becomes of a finished audit: verdicts kept for later reports, and `secmoe audit --html`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from proofs.assumptions import assumed, total_bits
from proofs.certificate import NotProved, Rebuilder, certificate, trace_case
from proofs.checker import Rejected
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from secmoe.checked import Store, audit_tone, installed, rechecked
from secmoe.examining import Examination
from secmoe.report_parts import assumption_rows, finished, joined, proved_row, read_run, refuted, source_of
from secmoe.result_file import Json
from secmoe.shape_bounds import case_bounds
from secmoe.shaped import row_of, target_of
from sim.role import Role
from transcripts.page import checked_page, write_page
from transcripts.power import Power
from transcripts.report import BAD, GOOD, NOT_SHOWN, WARN, Line, Report, Subject, report_page
from transcripts.targets import Target, targets
from transcripts.verdicts import LEAK, Audited, to_json


class TwoSubjects(ValueError):
    """A run, and beside it a protocol."""


def after_audit(
    options: argparse.Namespace,
    audited: Audited,
    powers: Mapping[int, Power],
    untouched: Sequence[Target],
    sessions: Mapping[Target, Examination],
) -> Report | None:
    """Keep every verdict about a row of this source, of the catalog or of a run's own shape; with --html, write a page
    and return its report.

    options: protocol, run, runs, model, against, seed, no_power, html.
    """
    command, store, kept = audit_command(options), Store(), list[Json]()
    for verdict, row in zip(audited.verdicts, verdicts_json(audited, powers), strict=True):
        target = verdict.examined.sampler.target
        entry, case = target.resolve()
        shaped = target.protocol.startswith(f"{row_of.__module__}:")
        if shaped:
            row |= {"protocol": entry.name}
        session = sessions.get(target)
        row |= {"against": options.against, "session": session.to_json() if session else None}
        if shaped or any(entry is known for known in CATALOG):
            digest = store.keep_audit(entry.name, case.name, row, command).digest
        else:
            digest = ""
        kept.append({**row, "digest": digest, "command": command})
    if options.html is None:
        return None
    report = audit_report(audited, kept, untouched, command, store)
    write_page(options.html, report_page(report))
    return report


def audit_command(options: argparse.Namespace) -> str:
    """The command that repeats an audit, seed included. Of a run's path its name alone: a report is passed on."""
    about = f"--run {shlex.quote(Path(options.run).name)}" if options.run else options.protocol
    words = ["secmoe audit", *([about] if about else []), f"--runs {options.runs} --model {options.model}"]
    words.append(f"--against {options.against} --seed {options.seed}{' --no-power' if options.no_power else ''}")
    return " ".join(words)


def audited_targets(options: argparse.Namespace) -> list[Target]:
    """What is to be audited, and the place of the page checked: raises before anything is run.

    The source is read now: a file that is edited while a long audit runs is not the one that was audited.
    """
    installed()
    if options.html is not None:
        checked_page(options.html)
    if options.run is None:
        return targets(options.protocol)
    if options.protocol is not None:
        raise TwoSubjects(f"--run: expected no protocol beside it, got {options.protocol!r}; leave one of them out")
    return [target_of(read_run(options.run))]


def verdicts_json(audited: Audited, powers: Mapping[int, Power]) -> list[Json]:
    """Every verdict with the planted faults that were found and missed."""
    rows: list[Json] = to_json(audited)["verdicts"]
    faults = {i: {"found": list(power.found), "missed": list(power.missed)} for i, power in powers.items()}
    return [{**row, "faults": faults.get(i)} for i, row in enumerate(rows)]


def audit_report(
    audited: Audited, kept: Sequence[Json], untouched: Sequence[Target], command: str, store: Store
) -> Report:
    """The report of an audit: one subject per protocol and case, with the certificates that are made of it now.

    kept: the verdicts as JSON values, with their digests where they were kept.
    """
    rows: dict[Target, list[Json]] = {target: [] for target in untouched}
    for verdict, row in zip(audited.verdicts, kept, strict=True):
        rows.setdefault(verdict.examined.sampler.target, []).append(row)
    subjects, bounds = [], {}
    for target, verdicts in rows.items():
        entry, case = target.resolve()
        name = entry.name if target.protocol.startswith(f"{row_of.__module__}:") else target.protocol
        subjects.append(audited_subject(name, entry, case, verdicts))
        bounds.update({(b["name"], b["subject"]): b for b in case_bounds(case)})
    alarms, count = audited.nulls
    family: Line = (
        WARN if alarms else GOOD,
        f"{count} audits, one family of {audited.family} tests at level {audited.level:g}; {alarms} of {count} audits "
        "of a class against itself raised an alarm",
    )
    of = f"{subjects[0]['protocol']}: {subjects[0]['case']}" if len(subjects) == 1 else f"{len(subjects)} shapes"
    with_he = any(target.resolve()[1].plans for target in rows)
    return finished(
        Report(
            title=f"audit of {of}",
            holds=False,
            verdicts=[family, *refuted(list(bounds.values()))],
            source=source_of(store),
            subjects=subjects,
            run=None,
            epsilon=None,
            bounds=list(bounds.values()),
            assumptions=assumption_rows(with_he),
            distance_bits=total_bits(assumed(with_he)),
            elsewhere=[],
            reproduce=[("this audit", command)],
            not_shown=list(NOT_SHOWN),
        )
    )


def audited_subject(protocol: str, entry: Entry, case: Case, verdicts: list[Json]) -> Subject:
    """A subject whose audits are at hand and whose certificates are made, and checked, on the spot."""
    found, problems = [], []
    if entry.has_theorem:
        trace, rebuild = trace_case(entry, case), Rebuilder([entry])
        for role in Role:
            try:
                accepted = rechecked(certificate(entry, case, role, trace), rebuild)
            except (NotProved, Rejected) as error:
                problems.append(f"no certificate: {error}")
            else:
                told_, steps, nodes = accepted.claim["statement"], accepted.steps, accepted.nodes
                found.append(proved_row(role, accepted.digest, told_, steps, nodes))
    else:
        problems.append("no certificate: below the interfaces, where protocols are assumed, not proved")
    marks: list[Line] = [(GOOD, f"PROVED against a corrupted {c['corrupted']}") for c in found]
    marks += [(BAD, text) for text in problems]
    marks += [(audit_tone(row), row["line"]) for row in verdicts]
    sessions = dict.fromkeys(row["session"]["line"] for row in verdicts if row["session"])
    marks += [(BAD if line.startswith(LEAK) else GOOD, line) for line in sessions]
    if not verdicts:
        marks.append((WARN, "not audited: no party has a secret"))
    return joined(protocol, entry, case, marks, found, verdicts, [])
