"""The leakage report: one object with stable keys, as an offline page, in a terminal, and as JSON.

It says what is known of one or more shapes at the installed source, and what is not: a line is red wherever a shape
lacks a certificate or an audit, an audit found something, or a bound does not hold. Whoever makes a report joins the
parts; here they are shown. No line says "secure".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from rich.console import Console
from rich.text import Text

from transcripts.page import render

GOOD, WARN, BAD = "good", "warn", "bad"
STYLES = {GOOD: "bold green", WARN: "yellow", BAD: "bold red"}
NOT_SHOWN = (
    "A certificate is about the protocol's text with ideal oblivious transfer and ideal encryption; what stands below "
    "rests on the assumptions listed.",
    "An audit that found nothing shows that its tests found nothing with so many runs; smaller effects than the one "
    "named, and what no test looks for, stay possible.",
    "Parties follow the protocol. A deviating client can learn the model; times and caches are not looked at.",
    "The digest of an audit's file detects accidents, not forgery: repeat the command with its seed to be sure.",
)
Line = tuple[str, str]  # tone, text


class Subject(TypedDict):
    """One protocol at one shape. certificates, audits, refused: as JSON values, see `secmoe.checked`. cost: where it is
    declared."""

    protocol: str
    case: str
    functionality: str
    leakage: dict[str, list[str]]
    verdicts: list[Line]
    certificates: list[dict[str, Any]]
    audits: list[dict[str, Any]]
    refused: list[dict[str, str]]
    cost: dict[str, int] | None


class Report(TypedDict):
    """title: a run or what was audited. holds: no red line. run: parameters and phases of a kept run, else None.

    epsilon: of the responses of one query, or None. distance_bits: x where all assumed statistical distances of a
    session add up to at most 2^-x. elsewhere: audits of other shapes at this source, which say nothing of this one.
    reproduce: (what, command).
    """

    title: str
    holds: bool
    verdicts: list[Line]
    source: dict[str, str]
    subjects: list[Subject]
    run: dict[str, Any] | None
    epsilon: dict[str, Any] | None
    bounds: list[dict[str, Any]]
    assumptions: list[dict[str, Any]]
    distance_bits: int | None
    elsewhere: list[dict[str, Any]]
    reproduce: list[tuple[str, str]]
    not_shown: list[str]


def report_page(report: Report) -> str:
    """The page. Everything in it comes from `report`; it carries no path but those in its commands."""
    most = max((p["client_to_server"] + p["server_to_client"] for p in _phases(report)), default=0)
    return render("report", {"report": report, "verdicts": top_lines(report), "most": most, "phases": _phases(report)})


def _phases(report: Report) -> list[dict[str, Any]]:
    run = report["run"]
    return [] if run is None else run["phases"]


def top_lines(report: Report) -> list[Line]:
    """The verdict of the whole: that of a single subject is spelled out, of several it is counted."""
    if len(report["subjects"]) == 1:
        return [*report["subjects"][0]["verdicts"], *report["verdicts"]]
    lines = list(report["verdicts"])
    red = [s for s in report["subjects"] if any(tone == BAD for tone, _ in s["verdicts"])]
    if red:
        lines.insert(0, (BAD, f"{len(red)} of {len(report['subjects'])} shapes have a red line"))
    elif report["subjects"]:
        lines.insert(0, (GOOD, f"none of {len(report['subjects'])} shapes has a red line"))
    return lines


def holds(report: Report) -> bool:
    """Whether nothing in the report is red."""
    lines = [*report["verdicts"], *(line for s in report["subjects"] for line in s["verdicts"])]
    return all(tone != BAD for tone, _ in lines)


def print_report(console: Console, report: Report) -> None:
    """The report in a terminal: verdicts first, one fact a line."""
    for tone, text in top_lines(report):
        console.print(Text(text, style=STYLES[tone]), soft_wrap=True)
    for text in _facts(report):
        console.print(Text(text), soft_wrap=True)


def _facts(report: Report) -> Iterator[str]:
    several: Sequence[Subject] = report["subjects"] if len(report["subjects"]) > 1 else ()
    for subject in several:
        for tone, text in subject["verdicts"]:
            yield f"{'RED ' if tone == BAD else ''}{subject['protocol']} ({subject['case']}): {text}"
    for subject in report["subjects"]:
        for role, learned in subject["leakage"].items():
            told = ", ".join(learned) or "nothing beyond its shares"
            yield f"{subject['protocol']}: the {role} learns by design ({subject['functionality']}): {told}"
    if (epsilon := report["epsilon"]) is not None:
        yield (
            f"epsilon of one query's responses: 2^-{epsilon['bits']:.1f} for {epsilon['weights']}; "
            f"budget of a session 2^-{epsilon['budget_bits']}, spent after {epsilon['queries']:,} such queries"
        )
    for bound in report["bounds"]:
        yield f"bound: {bound['name']}: {bound['verdict']}: {bound['statement']}"
    for a in report["assumptions"]:
        yield f"assumed ({a['where']}, {a['kind']}): {a['name']} [{a['source']}]"
    if (bits := report["distance_bits"]) is not None:
        yield f"assumed statistical distances in total: at most 2^-{bits} per session"
    for other in report["elsewhere"]:
        yield f"another shape: {other['line']}"
    for what, command in report["reproduce"]:
        yield f"{what}: {command}"
    yield f"source {report['source']['installed']}"
