"""`secmoe audit broken.NAME` for a fault below the interfaces: its text is honest, so whole sessions are examined."""

from __future__ import annotations

import argparse
import json

from rich.text import Text

from protocols.broken import FAULTS, REAL, Fault
from protocols.entry import Case
from secmoe.exit import FAILED, SUCCESS
from transcripts.finding import LEAK, NO_LEAK, Finding
from transcripts.sessions import examine, leaks
from transcripts.show import open_console
from transcripts.targets import PLANTED

MOST_RUNS = 48  # of one session: what the weakest planted fault needs


def fault_below(name: str | None) -> Fault | None:
    """The fault that `broken.NAME` names, if it lies below the interfaces."""
    if name is None or not name.startswith(PLANTED):
        return None
    return next((f for f in FAULTS if f.kind == REAL and f.name == name.removeprefix(PLANTED)), None)


def audit_below(fault: Fault, options: argparse.Namespace) -> int:
    """Examine one session of the fault's first case on real bytes; exit 1 if anything leaks.

    options: runs (at most MOST_RUNS are made), seed, json.
    """
    if fault.services is None:
        raise TypeError(f"{fault.name}: expected a fault with services of its own")
    case, runs = fault.entry.cases[0], min(int(options.runs), MOST_RUNS)
    found = examine(fault.entry, case, runs, str(options.seed), fault.services)
    leaking = leaks(found)
    if options.json:
        print(json.dumps(_json(fault, case, runs, found)))
    else:
        _print(fault, case, runs, leaking, sum(len(findings) for findings in found.values()))
    return FAILED if leaking else SUCCESS


def _print(fault: Fault, case: Case, runs: int, leaking: list[tuple[str, Finding]], count: int) -> None:
    console = open_console()
    parties = " and ".join(name for name, told in (("client", fault.client), ("server", fault.server)) if told)
    verdict = LEAK if leaking else NO_LEAK
    console.print(Text(f"{verdict}: {PLANTED}{fault.name}: {case.name}, real model, n = {runs} runs of one session"))
    for detector, finding in leaking:
        console.print(Text(f"  {detector}: {finding}"))
    console.print(Text(f"planted: {fault.what}; it tells the {parties}; {fault.found_in}"))
    console.print(Text(f"{count} analyses of a session; the text of the protocol is honest, its engine is not"))


def _json(fault: Fault, case: Case, runs: int, found: dict[str, list[Finding]]) -> dict[str, object]:
    rows = [{"detector": detector, **f.to_json()} for detector, findings in found.items() for f in findings]
    leaking = any(row["verdict"] == LEAK for row in rows)
    return {
        "verdict": LEAK if leaking else NO_LEAK,
        "protocol": PLANTED + fault.name,
        "case": case.name,
        "model": "real",
        "runs": runs,
        "findings": rows,
    }
