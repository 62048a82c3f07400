"""`secmoe report RUN` and `secmoe prove --run RUN`: what is known of the very shape of a kept run, joined.

A report never proves and never audits: it shows what `secmoe prove --run` and `secmoe audit` have kept for the very
source, protocol, shape and parameters, and is red where there is nothing. Bounds and assumptions are worked out anew.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from rich.text import Text

from proofs.assumptions import assumed, total_bits
from proofs.certificate import NotProved, certificate, encode, trace_case
from protocols.he.params import PARAM_SETS
from secmoe.checked import SOURCES, Checked, Store, lines, shown_path
from secmoe.exit import FAILED, SUCCESS
from secmoe.layer import LayerRun
from secmoe.names import SECMOE
from secmoe.proving import certificate_folder
from secmoe.report_parts import (
    DECLARED_LINE,
    assumption_rows,
    elsewhere,
    finished,
    read_run,
    refuted,
    source_of,
    subject,
)
from secmoe.result_file import AUDIT, Json, write_whole
from secmoe.shape_bounds import query_charge, run_bounds
from secmoe.shaped import row_of
from secmoe.whole import ModelRun, run_of
from sim.role import Role
from transcripts.facts import Selection, summary
from transcripts.page import checked_page, write_page
from transcripts.report import BAD, GOOD, NOT_SHOWN, Line, Report, print_report, report_page
from transcripts.run_page import INTACT
from transcripts.show import SEEDED, open_console
from transcripts.store import Transcript

GELU_OPTIONS = {"gelu-minimax": "minimax", "gelu-published": "published"}


class NoOtherOption(ValueError):
    """A run, and beside it what goes with a protocol."""


class NothingToProve(ValueError):
    """A run of a protocol whose functionality leaks the route."""


def prove_run(options: argparse.Namespace) -> int:
    """Prove a layer, or a whole model, private at the shape of a kept run, and keep the certificates. Exit 1 unless
    those against both parties hold.

    options: run, certificates (a folder for copies, or None), json.
    """
    asked = (options.protocol, options.width, options.graph, options.message, options.corrupted)
    if options.bounds or options.map or any(option is not None for option in asked):
        raise NoOtherOption("--run: expected no protocol and no option but --certificates and --json beside it")
    entry, case = row_of(read_run(options.run))
    if entry.realises.leaks_route:
        raise NothingToProve(
            f"--run {options.run}: expected a run of a protocol that hides the route, got one that tells it by design; "
            f"see what it tells with secmoe report {options.run}"
        )
    folder = certificate_folder(options.certificates)
    store, trace, rows = Store(), trace_case(entry, case), []
    command = f"secmoe prove --run {shlex.quote(Path(options.run).name)}"
    for role in Role:
        row: Json = {"corrupted": role.value, "status": "UNKNOWN", "detail": "", "kept": None, "digest": None}
        try:
            document = certificate(entry, case, role, trace)
        except NotProved as error:
            row["detail"] = str(error)
        else:
            kept = store.keep_certificate(document, command)
            row |= {"status": "PROVED", "detail": document["claim"]["statement"]}
            row |= {"kept": str(kept.path), "digest": kept.digest}
            if folder is not None:
                write_whole(folder / f"{Path(options.run).stem}.{role.value}.json", encode(document))
        rows.append(row)
    if options.json:
        print(json.dumps({"protocol": entry.name, "case": case.name, "source": store.source, "private": rows}))
    else:
        console = open_console()
        for row in rows:
            console.print(Text(f"{row['status']}, corrupted {row['corrupted']}: {row['detail']}"), soft_wrap=True)
            if row["kept"]:
                console.print(Text(f"certificate {row['digest']} in {row['kept']}"), soft_wrap=True)
    return SUCCESS if all(row["status"] == "PROVED" for row in rows) else FAILED


def report_run(options: argparse.Namespace) -> int:
    """The report of a kept run. options: transcript, html (a file or None), json. Exit 1 where a line is red."""
    if options.html is not None:
        checked_page(options.html)
    with Transcript(options.transcript) as transcript:
        report = run_report(transcript, Store())
    return show(report, options)


def show(report: Report, options: argparse.Namespace) -> int:
    """A report as a page, as JSON or in a terminal, as asked."""
    if options.html is not None:
        nbytes = write_page(options.html, report_page(report))
    if options.json:
        print(json.dumps(report))
    elif options.html is not None:
        open_console().print(Text(f"{options.html}: {nbytes:,} bytes"), soft_wrap=True)
    else:
        print_report(open_console(), report)
    return SUCCESS if report["holds"] else FAILED


def run_report(transcript: Transcript, store: Store) -> Report:
    """Everything that is known of the shape of a kept run at the installed source."""
    run = run_of(transcript.public)
    entry, case = row_of(run)
    facts = summary(Selection(transcript))
    bounds, charge = run_bounds(run), query_charge(run)
    found = store.lookup(entry, case)
    verdicts: list[Line] = [(GOOD, INTACT.format(len(transcript.headers))), _origin(transcript, store)]
    if transcript.seeded:
        verdicts.append((BAD, f"{SEEDED}; run it again without --seed"))
    verdicts += refuted(bounds)
    if charge is None or charge["queries"] == 0:
        verdicts.append((BAD, "one query's responses would take a session over its budget: it is refused at load"))
    name = transcript.path.name
    parameters = [(key, json.dumps(value, sort_keys=True)) for key, value in sorted(transcript.public.items())]
    return finished(
        Report(
            title=name,
            holds=False,
            verdicts=verdicts,
            source=source_of(store),
            subjects=[subject(entry, case, found, transcript.path)],
            run={"parameters": parameters, "phases": facts["phases"], "digest": facts["digest"], "seal": facts["seal"]},
            epsilon=charge,
            bounds=bounds,
            assumptions=assumption_rows(True),
            distance_bits=total_bits(assumed(True)),
            elsewhere=elsewhere(store),
            reproduce=_commands(run, transcript.path, transcript.seeded, found),
            not_shown=list(NOT_SHOWN),
        )
    )


def run_lines(transcript: Transcript) -> list[Line]:
    """What is known of the privacy of a kept run, in lines; all of it is red for a run of another source."""
    try:
        entry, case = row_of(run_of(transcript.public))
    except ValueError as error:
        return [(BAD, f"privacy NOT CHECKED: not a run of this program: {error}")]
    store = Store()
    declared = [DECLARED_LINE] if entry.realises.leaks_route else []
    return [*declared, *lines(store.lookup(entry, case), transcript.path), _origin(transcript, store)]


def _origin(transcript: Transcript, store: Store) -> Line:
    made_by = transcript.public.get(SOURCES)
    if made_by == store.source:
        return GOOD, f"made by the installed source {store.source[:16]}"
    other = f"another source ({made_by[:16]})" if isinstance(made_by, str) else "a source that it does not name"
    return (
        BAD,
        f"the run was made by {other}: what is said here is about the installed one, not about this run; run it again",
    )


def _commands(run: LayerRun | ModelRun, path: Path, seeded: bool, found: Checked) -> list[tuple[str, str]]:
    file = shown_path(path)
    routed = run.declared.realises.leaks_route
    options = f"--model {shlex.quote(run.model)} --order {run.order}"
    options += f" --answer {run.answer}" if isinstance(run, ModelRun) else f" --layer {run.layer}"
    if isinstance(run, LayerRun):
        options += f" --truncation {run.truncation}{f' --protocol {run.protocol}' if run.protocol != SECMOE else ''}"
    if run.activation in GELU_OPTIONS:
        options += f" --gelu {GELU_OPTIONS[run.activation]}"
    shipped = PARAM_SETS.get(run.params.name) == run.params
    options += f" --params {run.params.name if shipped else f'{run.params.name}.json (with the values above)'}"
    seed = " --seed N (the seed of the run; it is not in the transcript)" if seeded else ""
    audits = dict.fromkeys(result.command for result in found.results if result.kind == AUDIT)
    return [
        *([] if routed else [("the certificates", f"secmoe prove --run {file}")]),
        *(("the audit", command) for command in audits or (f"secmoe audit --run {file}",)),
        ("another run of the same shape", f"secmoe run TEXT {options}{seed}"),
        ("every byte of this run, with its private sides", f"secmoe replay {file}"),
        ("this report", f"secmoe report {file} --html report.html"),
    ]
