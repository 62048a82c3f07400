"""`secmoe inspect`, `secmoe diff` and `secmoe replay`: kept runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from secmoe.exit import FAILED, SUCCESS
from secmoe.plain import printable
from sim.role import Role
from transcripts.ciphertexts import Homomorphic
from transcripts.diff import FRESH, Comparison, compare
from transcripts.facts import Reader, Selection, detail, row, summary
from transcripts.page import checked_page, write_page
from transcripts.replay import ReplayReport, replay
from transcripts.run_page import run_page
from transcripts.show import (
    open_console,
    print_answer,
    print_costs,
    print_list,
    print_message,
    print_summary,
)
from transcripts.sql import query
from transcripts.store import Transcript

SUMMARY_LEVELS = 4
SHOWN_CHANGES = 5  # of one scope


def inspect(options: argparse.Namespace) -> int:
    """Summary and costs; with --scope, --view or --list the messages; with --message one of them; with --sql the answer
    to a query; with --html a page. A view shows what its party receives, whatever else is asked."""
    console = open_console()
    if options.html is not None:
        checked_page(options.html)
    with Transcript(options.transcript) as transcript:
        view = None if options.view is None else Role(options.view)
        selection = Selection(transcript, options.scope, view)
        if options.sql is not None:
            _answer(console, selection, options)
        elif options.html is not None:
            _page(console, selection, options)
        elif options.message is not None:
            _message(console, selection, options)
        else:
            _overview(console, selection, options)
    return SUCCESS


def _overview(console: Console, selection: Selection, options: argparse.Namespace) -> None:
    listed = bool(selection.scope or selection.view or options.list)
    if options.json:
        facts = {**summary(selection), "scopes": selection.costs_json(SUMMARY_LEVELS)}
        print(json.dumps({**facts, "messages": [row(header) for header in selection.headers]} if listed else facts))
        return
    print_summary(console, selection)
    console.print()
    print_costs(console, selection.costs(SUMMARY_LEVELS), times=selection.view is None)
    if listed:
        console.print()
        print_list(console, selection.headers)


def _message(console: Console, selection: Selection, options: argparse.Namespace) -> None:
    read = reader(selection.transcript.public)
    if options.json:
        print(json.dumps(detail(selection, options.message, read)))
    else:
        print_message(console, selection, options.message, read)


def _answer(console: Console, selection: Selection, options: argparse.Namespace) -> None:
    answer = query(selection, options.sql)
    if options.json:
        print(json.dumps(answer.to_json()))
    else:
        print_answer(console, answer)


def _page(console: Console, selection: Selection, options: argparse.Namespace) -> None:
    from secmoe.leakage import run_lines  # loads the provers

    page = run_page(selection, reader(selection.transcript.public), run_lines(selection.transcript))
    nbytes = write_page(options.html, page)
    if options.json:
        print(json.dumps({"html": options.html, "bytes": nbytes, "messages": len(selection.headers)}))
    else:
        console.print(Text(f"{options.html}: {len(selection.headers)} messages, {nbytes:,} bytes"), soft_wrap=True)


def reader(public: Mapping[str, Any]) -> Reader | None:
    """Reads the homomorphic messages of a run of these parameters; None where they describe no layer of ours."""
    from secmoe.whole import run_of  # loads the cryptographic kernels

    try:
        run = run_of(public)
        return Homomorphic(run.params, run.answers)
    except ValueError:
        return None


def diff_runs(options: argparse.Namespace) -> int:
    """Two kept runs side by side: 0 where labels, order, sizes and rounds agree, 1 where they do not."""
    with Transcript(options.left) as left, Transcript(options.right) as right:
        found = compare(left, right)
    if options.json:
        print(json.dumps(found.to_json()))
    else:
        _print_comparison(open_console(), found)
    return SUCCESS if found.equal else FAILED


def _print_comparison(console: Console, found: Comparison) -> None:
    if found.equal:
        console.print(Text("EQUAL: labels, order, sizes and rounds of both runs", style="bold green"))
    else:
        console.print(Text(f"DIFFERENT: {len(found.changes)} differences of structure", style="bold red"))
    for scope, changes in found.scopes.items():
        console.print(Text(f"{printable(scope)}: {len(changes)}"), soft_wrap=True)
        for change in changes[:SHOWN_CHANGES]:
            console.print(Text(f"  {printable(str(change))}"), soft_wrap=True)
        if len(changes) > SHOWN_CHANGES:
            console.print(Text(f"  ... {len(changes) - SHOWN_CHANGES} more; --json gives all"))
    for name, ours, theirs in found.public:
        told = f"public parameter {json.dumps(name)[1:-1]}: {json.dumps(ours)} | {json.dumps(theirs)}"
        console.print(Text(told), soft_wrap=True)
    note = f"; {FRESH}" if found.differing else ""
    told = f"content: equal in {found.same} messages, different in {found.differing}{note}"
    console.print(Text(told), soft_wrap=True)
    if found.odd:
        told = f"equal and at least 16 bytes long: {len(found.odd)} messages; the same seed, or randomness used twice"
        console.print(Text(told, style="yellow"), soft_wrap=True)


def replay_run(options: argparse.Namespace) -> int:
    """Each party alone against the recorded messages of its peer."""
    from secmoe.whole import rebuild  # loads the cryptographic kernels

    with Transcript(options.transcript) as transcript:
        report = replay(transcript, rebuild)
    if options.json:
        print(json.dumps(_json(report)))
    else:
        _print(report)
    return SUCCESS if report.confirmed else FAILED


def _json(report: ReplayReport) -> dict[str, object]:
    return {
        "confirmed": report.confirmed,
        "parties": {p.role.value: {"messages": p.messages, "bytes": p.nbytes} for p in report.parties},
        "first_difference": None if report.first is None else vars(report.first) | {"role": report.first.role.value},
    }


def _print(report: ReplayReport) -> None:
    console = open_console()
    for party in report.parties:
        told = f"{party.role.value} alone: {party.messages} messages, {party.nbytes:,} bytes sent again as recorded"
        console.print(Text(told), soft_wrap=True)
    if report.first is None:
        console.print(Text("CONFIRMED: every byte of the transcript", style="bold green"))
    else:
        told = printable(str(report.first))
        console.print(Text(f"DIFFERENT: {told}", style="bold red"), soft_wrap=True)
