"""`secmoe attack`: what a leak of the route is worth, and what SecMoE's transcripts are worth to the same attack."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from secmoe.auditing import WORKERS_FROM, executor
from secmoe.checked import SOURCES, installed
from secmoe.exit import FAILED, SUCCESS
from secmoe.progress import Blocks
from secmoe.version import program_version
from transcripts.attack import TOKENS_PER_ITEM, Score
from transcripts.attack_page import CAVEATS, WORTH, attack_page, name_of, verdict_of
from transcripts.attack_plot import checked_plot, plot
from transcripts.attack_runs import Bench, Plan, Report, half_widths, run
from transcripts.campaign import Store
from transcripts.page import checked_page, write_page
from transcripts.report import STYLES
from transcripts.show import open_console
from transcripts.subjects import PARAMS, identity_told

DEFAULT_RUNS = {"digits": 480, "sms": 560}  # intervals of labels reach less than .03 to each side
# Items that choose the layer, and the number from which items are scored. Below it the attack was tried while its
# settings were found: 600 digits, 200 texts.
SPLITS = {"digits": (120, 600), "sms": (200, 200)}


def run_attack(options: argparse.Namespace) -> int:
    """Exit 0 where the leaky protocols give the route away and SecMoE does not, 1 otherwise."""
    place = checked_plot(options.plot) if options.plot else None
    page = checked_page(options.html) if options.html else None
    runs = DEFAULT_RUNS[options.model] if options.runs is None else options.runs
    plan = Plan(options.model, *SPLITS[options.model], runs, options.real, str(options.seed))
    plan.scored()
    source = {"installed": installed(), "version": program_version()}
    with executor(options, WORKERS_FROM) as workers, Blocks() as progress:
        store = Store(Path(options.store) if options.store else None)
        try:
            report = run(plan, Bench(workers, store, progress.told("attack")))
        finally:
            store.close()
    if place is not None:
        place.write_text(plot(report), encoding="utf-8")
    if page is not None:
        write_page(page, attack_page(report, to_json(report), attack_command(plan), source))
    if options.json:
        print(json.dumps(to_json(report) | {SOURCES: source["installed"]}))
    else:
        _print(report, [("plot", place), ("page", page)])
    return SUCCESS if report.holds else FAILED


def attack_command(plan: Plan) -> str:
    """The command that repeats an attack, seed included."""
    return f"secmoe attack --model {plan.model} --runs {plan.runs} --real {plan.real} --seed {plan.seed}"


def to_json(report: Report) -> dict[str, Any]:
    """The stable keys of `secmoe attack --json`."""
    plan = report.plan
    return {
        "model": plan.model,
        "layer": report.choice.layer,
        "params": PARAMS.name,
        "corrupted": "server",
        "runs": {"hybrid": plan.runs, "real": plan.real},
        "seed": plan.seed,
        "chosen_on": {
            "items": plan.choice,
            "from": 0,
            "protocol": "plaintext-routing",
            "question": "label",
            "layers": [_score(score) for score in report.choice.scores],
        },
        "scored_on": {"items": plan.runs, "drawn_from": plan.start, "unseen_by_the_model": report.unseen},
        "token_identity": identity_told(plan.model),
        "tokens_per_item": TOKENS_PER_ITEM,
        "holds": report.holds,
        "largest_half_width": max(half_widths(report)),
        "controls": {
            name: {"constant": _score(report.constant[name]), "public_only": _score(report.public[name])}
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
    figures = {"right": score.right, "n": score.n, "accuracy": score.accuracy, "low": low, "high": high}
    return {**figures, "design_effect": score.design}


def _print(report: Report, places: list[tuple[str, Path | None]]) -> None:
    console, plan = open_console(), report.plan
    by_layer = ", ".join(f"layer {i} {score.accuracy:.3f}" for i, score in enumerate(report.choice.scores))
    said = (
        f"{plan.model}, layer {report.choice.layer}, parameters {PARAMS.name}, corrupted server, its whole view with "
        "metadata\n"
        f"layer chosen on {plan.choice} items: the label from plaintext routing, {by_layer}\n"
        f"scored on {plan.runs} others, drawn from number {plan.start} on; never seen by the model: {report.unseen}\n"
        f"each once per protocol in hybrid runs (ideal OT and HE) for volume; {plan.real} of them real as well\n"
        f"token: {identity_told(plan.model)}; at most {TOKENS_PER_ITEM} of an item"
    )
    console.print(Text(said), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("protocol", "predicts", "runs"):
        table.add_column(title, no_wrap=True)
    for title in ("n", "accuracy", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("expected", no_wrap=True)
    table.add_column("", no_wrap=True)
    for question, (what, public) in WORTH.items():
        for row in report.rows:
            if row.question == question:
                came = Text("yes", style="green") if row.holds else Text("NO", style="bold red")
                table.add_row(name_of(row), what, row.world, *_figures(row.answered.score), row.claim, came)
        table.add_row(f"control: {public}", what, "", *_figures(report.public[question]))
        table.add_row("control: constant guess", what, "", *_figures(report.constant[question]))
    console.print(table)
    tone, verdict = verdict_of(report)
    console.print(Text(verdict, style=STYLES[tone]), soft_wrap=True)
    for text in CAVEATS:
        console.print(Text(text), soft_wrap=True)
    for what, place in places:
        if place is not None:
            console.print(Text(f"{what} {place}"), soft_wrap=True)


def _figures(score: Score) -> tuple[str, str, str]:
    low, high = score.interval
    return f"{score.n}", f"{score.accuracy:.3f}", f"{low:.3f} .. {high:.3f}"
