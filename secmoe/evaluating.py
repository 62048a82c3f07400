"""`secmoe evaluate`: the accuracy of a whole private model on held-out items, beside its plaintext."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocols.encoder import LOGITS
from protocols.model.evaluate import held_out_of
from secmoe.auditing import WORKERS_FROM, executor
from secmoe.checked import SOURCES, installed
from secmoe.evaluated import Evaluation, Item, Plan, evaluate
from secmoe.exit import FAILED, SUCCESS
from secmoe.inputs import read_params
from secmoe.progress import Blocks
from transcripts.campaign import Store
from transcripts.report import BAD, GOOD, STYLES
from transcripts.show import open_console
from transcripts.subjects import model_of

# What is told of every item's cost, with the unit that the terminal shows.
COSTS = ("client_to_server", "server_to_client", "messages", "rounds", "client_cpu_s", "server_cpu_s")
KINDS = {"private": "private", "fixed": "exact fixed point", "plain": "float"}
LISTED = 10  # items with a wrong answer


def run_evaluation(options: argparse.Namespace) -> int:
    """Exit 0 where every private answer is the exact fixed-point oracle's, 1 otherwise."""
    plan = Plan.of(options.model, options.n, str(options.seed), options.answer, read_params(options.params))
    with executor(options, WORKERS_FROM) as workers, Blocks() as progress:
        store = Store(Path(options.store) if options.store else None)
        try:
            found = evaluate(plan, workers, store, progress.told("evaluate"))
        finally:
            store.close()
    if options.json:
        print(json.dumps(to_json(found) | {SOURCES: installed()}))
    else:
        _print(open_console(), found)
    return SUCCESS if found.exact else FAILED


def to_json(found: Evaluation) -> dict[str, Any]:
    """The stable keys of `secmoe evaluate --json`."""
    plan, items = found.plan, found.items
    model = model_of(plan.model)
    classes = model.config.classes
    return {
        "model": model.config.name,
        "weights": plan.weights,
        "items": len(items),
        "held_out": len(held_out_of(model)),
        "seed": plan.seed,
        "answer": plan.answer,
        "params": plan.params.name,
        "exact_match": found.exact,
        "right": {kind: found.right(kind) for kind in KINDS},
        "accuracy": {kind: found.right(kind) / len(items) for kind in KINDS},
        "points_from_float": found.points,
        "same_class_as_float": sum(item.private == item.plain for item in items),
        "classes": list(classes),
        "confusion": found.confusion(len(classes)).tolist(),
        "per_item": {name: {"mean": _mean(items, name), "largest": _largest(items, name)} for name in COSTS},
        "setup": {"sessions": len(found.blocks), "bytes": found.blocks[0].setup_bytes, "cpu_s": _setup(found)},
        "cpu_s": sum(block.cpu_s for block in found.blocks),
        "numbers": [asdict(item) for item in items],
    }


def _mean(items: Sequence[Item], name: str) -> float:
    return fmean(getattr(item, name) for item in items)


def _largest(items: Sequence[Item], name: str) -> float:
    return float(max(getattr(item, name) for item in items))


def _setup(found: Evaluation) -> float:
    return fmean(block.setup_cpu_s for block in found.blocks)


def _print(console: Console, found: Evaluation) -> None:
    plan, items = found.plan, found.items
    model = model_of(plan.model)
    classes, n = model.config.classes, len(items)
    _line(
        console,
        f"{model.config.name}: {n} of {len(held_out_of(model))} held-out items, drawn by seed {plan.seed}; "
        f"the whole model in private, parameters {plan.params.name}, answer {plan.answer}",
    )
    _verdict(console, found)
    for kind, name in KINDS.items():
        right = found.right(kind)
        _line(console, f"accuracy {name:18}{right / n:8.2%}  {right} of {n}")
    same = sum(item.private == item.plain for item in items)
    _line(console, f"private - float {found.points:+.2f} points; same class as the float model for {same} of {n}")
    console.print()
    console.print(_confusion(found, classes))
    console.print()
    console.print(_costs(items))
    setup = found.blocks[0].setup_bytes
    _line(console, f"set-up of a session: {setup:,} bytes, {_setup(found):.2f} CPU s; {len(found.blocks)} sessions")
    _line(console, f"all work: {sum(block.cpu_s for block in found.blocks):,.0f} CPU s, comparison included")
    _line(console, "seeded runs on public items: figures of accuracy and cost, nothing on privacy")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _verdict(console: Console, found: Evaluation) -> None:
    what = "every logit is" if found.plan.answer == LOGITS else "the private class is"
    if found.exact:
        told = f"EXACT: {what} the fixed-point oracle's for all {len(found.items)} items"
        return _line(console, told, STYLES[GOOD])
    wrong = [item.number for item in found.items if not item.exact]
    some = ", ".join(map(str, wrong[:LISTED])) + (", ..." if len(wrong) > LISTED else "")
    told = f"MISMATCH: the answer differs from the fixed-point oracle's for {len(wrong)} items: {some}"
    return _line(console, told, STYLES[BAD])


def _confusion(found: Evaluation, classes: Sequence[str]) -> Table:
    table = Table("class, by private class", box=None, pad_edge=False)
    for name in classes:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for name, row in zip(classes, found.confusion(len(classes)).tolist(), strict=True):
        table.add_row(Text(name), *(str(count) for count in row))
    return table


def _costs(items: Sequence[Item]) -> Table:
    table = Table("online, per item", box=None, pad_edge=False)
    for title in ("c->s bytes", "s->c bytes", "messages", "rounds", "client s", "server s"):
        table.add_column(title, justify="right", no_wrap=True)
    for told, of in (("mean", _mean), ("largest", _largest)):
        figures = [of(items, name) for name in COSTS]
        table.add_row(told, *(f"{x:,.0f}" for x in figures[:4]), *(f"{x:.3f}" for x in figures[4:]))
    return table
