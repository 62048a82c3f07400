"""`secmoe check MODULE:PROTOCOL`: everything the testbed can say of a protocol, in one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from secmoe.checks import alone, audited, enumerated, priced, proved
from secmoe.checks.outcome import LISTED, Check, Outcome, Subject, timed
from secmoe.declared import declaration
from secmoe.exit import FAILED, SUCCESS
from sim.role import CLIENT, SERVER
from transcripts.audit import require_runs
from transcripts.page import checked_page, render, write_page
from transcripts.report import BAD, GOOD
from transcripts.show import open_console

RUNS = 400  # of an audit, per corrupted party: about the fewest that show a shift of one standard deviation
SHOWN = 400  # characters of a finding in the table; --json has all of it


class NoHypothesis(ValueError):
    """Hypothesis, an extra, is not installed."""


class UnknownCheck(ValueError):
    """No check of this name."""


def _property_test(subject: Subject) -> Outcome:
    try:
        from secmoe.checks.tested import property_test
    except ModuleNotFoundError as error:
        raise NoHypothesis(f"check: needs {error.name}; install the extra: secmoe-testbed[test]") from error
    return property_test(subject)


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "property": _property_test,
        "cost": priced.cost,
        "isolation": alone.isolation,
        "replay": alone.replayed,
        "enumeration": enumerated.enumeration,
        "correct": proved.correct,
        "private against client": partial(proved.private, role=CLIENT),
        "private against server": partial(proved.private, role=SERVER),
        "audit, hybrid": audited.hybrid,
        "audit, real": audited.real,
    }
)


@dataclass(frozen=True)
class Checked:
    """The outcomes of all checks of one protocol. what: the MODULE:NAME it was found under."""

    what: str
    functionality: str
    outcomes: tuple[Outcome, ...]

    @property
    def holds(self) -> bool:
        """Whether no check fails; what is LISTED was not run, for the reason it gives."""
        return all(outcome.holds for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """CPU seconds of this process."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def line(self) -> str:
        """The table in one sentence."""
        failed = [outcome.check for outcome in self.outcomes if not outcome.holds]
        listed = [outcome.check for outcome in self.outcomes if outcome.verdict == LISTED]
        told = f"{self.what}: {len(self.outcomes) - len(failed) - len(listed)} of {len(self.outcomes)} checks hold"
        told += f"; NOT: {', '.join(failed)}" if failed else ""
        return told + (f"; listed, not run: {', '.join(listed)}" if listed else "")

    def __str__(self) -> str:
        console = Console(width=120, color_system=None)
        with console.capture() as text:
            show(console, self)
        return text.get().rstrip()

    def to_json(self) -> dict[str, Any]:
        """One object with stable keys."""
        rows = [outcome.to_json() for outcome in self.outcomes]
        told = {"protocol": self.what, "functionality": self.functionality, "holds": self.holds}
        return {**told, "seconds": self.seconds, "checks": rows}


def subject_of(what: str, runs: int = RUNS) -> Subject:
    """What there is to check; raises what `secmoe.declared.declaration` raises, and TooFewRuns."""
    require_runs(runs)
    return Subject(what, declaration(what), runs)


def outcomes(subject: Subject, names: Iterable[str]) -> Iterator[Outcome]:
    """Run the checks of these names, one after the other. Raises UnknownCheck, NoHypothesis."""
    for name in names:
        if name not in CHECKS:
            raise UnknownCheck(f"expected one of {', '.join(CHECKS)}, got {name!r}")
        yield timed(CHECKS[name], subject)


def check(what: str, runs: int = RUNS, told: Callable[[str], None] = lambda name: None) -> Checked:
    """Check MODULE:PROTOCOL in every way; `runs` of an audit per corrupted party. told: hears which check begins.

    Raises BadName, ImportFailed, NotAProtocol, NoExample (see `secmoe.declared`), TooFewRuns, NoHypothesis.
    """
    subject = subject_of(what, runs)
    found: list[Outcome] = []
    for name in CHECKS:
        told(name)
        found += outcomes(subject, [name])
    return Checked(what, subject.entry.realises.name, tuple(found))


def run_check(options: argparse.Namespace) -> int:
    """The command: prints the table, or JSON; exit 1 where a check fails."""
    if options.html is not None:
        checked_page(options.html)
    status = Status(options.protocol, console=Console(stderr=True))
    with status if sys.stderr.isatty() else nullcontext():
        checked = check(options.protocol, options.runs, lambda name: status.update(f"{options.protocol}: {name}"))
    if options.html is not None:
        write_page(options.html, page(checked))
    if options.json:
        print(json.dumps(checked.to_json()))
    else:
        show(open_console(), checked)
    return SUCCESS if checked.holds else FAILED


def show(console: Console, checked: Checked) -> None:
    """The table, and its summary in one line."""
    table = Table(box=None, pad_edge=False)
    for title, width in (("check", 22), ("verdict", 15)):
        table.add_column(title, min_width=width)
    for title in ("what was looked at", "why, and the next step"):
        table.add_column(title, overflow="fold", ratio=1)
    for outcome in checked.outcomes:
        advice = f"next: {outcome.advice}" if outcome.advice else ""
        why = "\n".join(part for part in (shorten(outcome.detail, SHOWN, placeholder=" ..."), advice) if part)
        table.add_row(*(Text(cell) for cell in (outcome.check, outcome.verdict, outcome.about, why)))
    console.print(table)
    console.print(Text(checked.line), soft_wrap=True)


def page(checked: Checked) -> str:
    """The table as an offline page."""
    return render("check", {"checked": checked, "verdicts": [(GOOD if checked.holds else BAD, checked.line)]})
