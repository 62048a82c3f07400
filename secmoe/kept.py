"""`secmoe inspect` and `secmoe replay`: kept runs."""

from __future__ import annotations

import argparse
import json

from rich.text import Text

from secmoe.exit import FAILED, SUCCESS
from secmoe.plain import printable
from sim.role import Role
from transcripts.replay import ReplayReport, replay
from transcripts.show import (
    detail,
    open_console,
    print_costs,
    print_list,
    print_message,
    print_summary,
    row,
    scope_costs,
    select,
    summary,
)
from transcripts.store import Transcript

SUMMARY_LEVELS = 4


def inspect(options: argparse.Namespace) -> int:
    """Summary and costs; with --scope, --view or --list the messages; with --message one of them."""
    view = None if options.view is None else Role(options.view)
    console = open_console()
    with Transcript(options.transcript) as transcript:
        listed = bool(options.scope or view or options.list)
        headers = select(transcript, options.scope, view) if listed else []
        costs = scope_costs(transcript, options.scope, SUMMARY_LEVELS)
        if options.message is not None:
            if options.json:
                print(json.dumps(detail(transcript, options.message)))
            else:
                print_message(console, transcript, options.message)
        elif options.json:
            facts = {**summary(transcript), "scopes": [cost.to_json() for cost in costs]}
            print(json.dumps({**facts, "messages": [row(header) for header in headers]} if listed else facts))
        else:
            print_summary(console, transcript)
            console.print()
            print_costs(console, costs)
            if listed:
                console.print()
                print_list(console, headers)
    return SUCCESS


def replay_run(options: argparse.Namespace) -> int:
    """Each party alone against the recorded messages of its peer."""
    from secmoe.layer import rebuild  # loads the cryptographic kernels

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
