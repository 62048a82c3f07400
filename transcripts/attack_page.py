"""The attack as a page: verdict, figures, picture, and what it does not show. The words are the terminal's as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from transcripts.attack_plot import drawing
from transcripts.attack_runs import Report, Row
from transcripts.page import render
from transcripts.report import BAD, GOOD, Line

# By question: what is predicted, and what the control beside the constant guess is told.
WORTH = {"label": ("label of the item", "length only"), "token": ("identity of a token", "place and length only")}
CAVEATS = (
    "One attack that finds nothing is no proof (secmoe prove); a better one may find more in the leaky protocols.",
    "Intervals are of 95 % (Wilson), widened by the design effect where several tokens are of one item; each row has "
    "its own, so that about one row in forty falls below or above by chance.",
    "One layer is attacked by a server that follows the protocol; times and caches are not looked at.",
)


def verdict_of(report: Report) -> Line:
    """The tone and the line of the whole."""
    if report.holds:
        return GOOD, (
            "AS CLAIMED: leaky routing gives labels and tokens away, SecMoE's view is worth no more than the controls"
        )
    return BAD, "NOT AS CLAIMED: see the rows marked NO"


def name_of(row: Row) -> str:
    """The protocol of a row, in words."""
    return "secmoe, route planted" if row.protocol == "planted" else row.protocol


def attack_page(report: Report, told: Mapping[str, Any], command: str, source: Mapping[str, str]) -> str:
    """The page. told: the figures as JSON values, by the keys of `secmoe attack --json`. command: repeats the attack.

    source: digest and version of the program.
    """
    what = [
        (row.question, name_of(row), row.world, row.answered.score, row.claim, row.holds, row.answered.used)
        for row in report.rows
    ]
    values = {
        "told": told,
        "worth": WORTH,
        "rows": what,
        "report": report,
        "verdicts": [verdict_of(report)],
        "picture": Markup(drawing(report)),
        "command": command,
        "source": source,
        "caveats": CAVEATS,
    }
    return render("attack", values)
