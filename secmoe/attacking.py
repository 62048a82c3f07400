"""`secmoe attack`: what a leak of the route is worth, and what SecMoE's transcripts are worth to the same attack."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from secmoe.auditing import WORKERS_FROM, _told, executor
from secmoe.exit import FAILED, SUCCESS
from transcripts.attack import Score
from transcripts.attack_plot import checked_plot, plot
from transcripts.attack_runs import Bench, Plan, Report, Row, half_widths, run
from transcripts.campaign import Store
from transcripts.ordinary import REAL
from transcripts.show import open_console
from transcripts.subjects import LEAKY, PARAMS

LAYER = 1  # the last one of both models: its routes tell most
DEFAULT_RUNS = {"digits": 600, "sms": 878}
WORTH = {"label": "label of the item", "token": "identity of a token"}


def run_attack(options: argparse.Namespace) -> int:
    """Exit 0 where the leaky protocols give the route away and SecMoE does not, 1 otherwise."""
    place = checked_plot(options.plot) if options.plot else None
    runs = DEFAULT_RUNS[options.model] if options.runs is None else options.runs
    plan = Plan(options.model, LAYER, runs, options.real, str(options.seed))
    plan.items()
    with executor(options, WORKERS_FROM) as workers:
        store = Store(Path(options.store) if options.store else None)
        try:
            report = run(plan, Bench(workers, store, _told("attack")))
        finally:
            store.close()
    if place is not None:
        place.write_text(plot(report), encoding="utf-8")
    if options.json:
        print(json.dumps(to_json(report)))
    else:
        _print(report, place)
    return SUCCESS if report.holds else FAILED


def to_json(report: Report) -> dict[str, Any]:
    """The stable keys of `secmoe attack --json`."""
    plan = report.plan
    return {
        "model": plan.model,
        "layer": plan.layer,
        "params": PARAMS.name,
        "corrupted": "server",
        "runs": {"hybrid": plan.runs, "real": plan.real, "unseen_by_the_model": report.unseen},
        "seed": plan.seed,
        "holds": report.holds,
        "largest_half_width": max(half_widths(report)),
        "controls": {
            name: {"constant": _score(report.constant[name]), "length_only": _score(report.public[name])}
            for name in report.constant
        },
        "rows": [
            {
                "protocol": row.protocol,
                "question": row.question,
                "model": row.world,
                **_score(row.answered.score),
                "claim": row.claim,
                "holds": row.holds,
                "columns": [name for name, _ in row.answered.used],
            }
            for row in report.rows
        ],
    }


def _score(score: Score) -> dict[str, Any]:
    low, high = score.interval
    return {"right": score.right, "n": score.n, "accuracy": score.accuracy, "low": low, "high": high}


def _print(report: Report, place: Path | None) -> None:
    console, plan = open_console(), report.plan
    said = (
        f"{plan.model}, layer {plan.layer}, parameters {PARAMS.name}, corrupted server, its whole view with metadata\n"
        f"{plan.runs} items, each once per protocol: hybrid runs (ideal OT and HE) for volume; {plan.real} also real\n"
        f"{report.unseen} of the items the model never saw; items that teach the attack and items that judge it "
        "are never the same"
    )
    console.print(Text(said), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("protocol", "predicts", "runs"):
        table.add_column(title, no_wrap=True)
    for title in ("n", "accuracy", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("expected", no_wrap=True)
    table.add_column("", no_wrap=True)
    for question, what in WORTH.items():
        for row in report.rows:
            if row.question == question:
                table.add_row(_name(row), what, row.world, *_figures(row.answered.score), row.claim, _came(row))
        table.add_row("control: length only", what, "", *_figures(report.public[question]))
        table.add_row("control: constant guess", what, "", *_figures(report.constant[question]))
    console.print(table)
    for row in report.rows:
        if row.world != REAL and row.protocol in LEAKY and row.question == "label":
            console.print(Text(f"{_name(row)}: what gave it away: {row.answered.used[0][0]}"), soft_wrap=True)
    if report.holds:
        verdict = (
            "AS CLAIMED: the leaky protocols give the label away, SecMoE's view is worth no more than the controls"
        )
    else:
        verdict = "NOT AS CLAIMED: see the rows marked NO"
    console.print(Text(verdict, style="bold green" if report.holds else "bold red"), soft_wrap=True)
    console.print(Text("one attack that finds nothing is no proof (secmoe prove)"))
    if place is not None:
        console.print(Text(f"plot {place}"), soft_wrap=True)


def _name(row: Row) -> str:
    return "secmoe, route planted" if row.protocol == "planted" else row.protocol


def _came(row: Row) -> Text:
    if row.claim == "no claim":
        return Text("-")
    return Text("yes", style="green") if row.holds else Text("NO", style="bold red")


def _figures(score: Score) -> tuple[str, str, str]:
    low, high = score.interval
    return f"{score.n}", f"{score.accuracy:.3f}", f"{low:.3f} .. {high:.3f}"
