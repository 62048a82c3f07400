"""`secmoe bench`: what the kernels take on this machine, and how well that predicts whole runs."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.table import Table

from protocols.he.params import PARAM_SETS
from secmoe.benchmarks import SUBJECTS, Item
from secmoe.calibration import DEFAULT, Calibration, measure, middle, read_calibration, waiting
from secmoe.exit import SUCCESS
from secmoe.extension_benchmark import extension_rows
from secmoe.large_benchmarks import EXTENSION, TABLES, measured
from secmoe.result_file import write_whole
from sim.network import LAN
from sim.role import Role
from transcripts.show import open_console

RUNS = 3
IN_TURNS = {"shares": 3, "kernels": 3}  # repeats of a calibration between runs
PERCENT = 100
Json = dict[str, Any]


def run_bench(options: argparse.Namespace) -> int:
    """With --calibrate: measure the kernels and keep them. Without: predict whole runs, and run them."""
    path = DEFAULT if options.calibration is None else Path(options.calibration)
    if options.calibrate:
        found = measure()
        write_whole(path, json.dumps(found.to_json(), indent=1) + "\n")
        if options.json:
            print(json.dumps(found.to_json() | {"file": str(path)}))
        else:
            console = open_console()
            console.print(_rates(found))
            console.print(f"{found.machine}, {found.made} UTC; kept in {path}", highlight=False)
        return SUCCESS
    if options.table is not None:
        name = options.table
        told = extension_rows() if name == EXTENSION else [measured(item) for item in TABLES[name]]
        if options.json:
            print(json.dumps({"table": name, "rows": told}))
        else:
            open_console().print(_plain(told))
        return SUCCESS
    given = None if options.calibration is None else read_calibration(path)
    found_rows, calibrations = zip(*(compared(item, given) for item in SUBJECTS), strict=True)
    rows = list(found_rows)
    if options.json:
        rates = given or middle([*calibrations, _others()])
        print(json.dumps({"calibration": rates.to_json(), "runs": rows}))
    else:
        open_console().print(_table(rows))
    return SUCCESS


def compared(item: Item, given: Calibration | None = None) -> tuple[Json, Calibration]:
    """Prediction and the median of real runs, in CPU seconds of both parties and virtual seconds on a LAN.

    given: the rates to predict from. Else the kernels are measured in turns with the runs, so that both meet the
    machine in the same state: the median of each rate. No time of a run goes into a rate.
    """
    subject, cost, params = item.subject(), item.cost, [item.plan.params]
    runs, found = [], [] if given is not None else [measure(params, IN_TURNS)]
    for _ in range(RUNS):
        runs.append(subject.run(subject.session()))  # each without what another has left
        if given is None:
            found.append(measure(params, IN_TURNS))
    calibration = given or middle(found)
    cpu = statistics.median(sum(run.cpu(role) for role in Role) for run in runs)
    lan = statistics.median(run.time(LAN) for run in runs)
    predicted = calibration.cpu(cost)
    return {
        "name": item.name,
        "bytes": runs[0].cost.nbytes,
        "priced_bytes": cost.nbytes,
        "cpu_s": cpu,
        "predicted_cpu_s": predicted,
        "error": predicted / cpu - 1,
        "lan_s": lan,
        "predicted_lan_s": predicted + waiting(cost, LAN),
        "lan_error": (predicted + waiting(cost, LAN)) / lan - 1,
    }, calibration


def _others() -> Calibration:
    """Of the parameter sets that no subject has: prices of rivals need them."""
    used = {item.plan.params for item in SUBJECTS}
    return measure([params for params in PARAM_SETS.values() if params not in used], IN_TURNS)


def _plain(rows: list[Json]) -> Table:
    """Every figure of rows that have the same names."""
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(f"{value:,.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


def _rates(calibration: Calibration) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("kernel")
    table.add_column("us", justify="right")
    for kernel, rate in calibration.nanoseconds.items():
        table.add_row(kernel, f"{rate / 1e3:,.3f}")
    return table


def _table(rows: list[Json]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("d, f, experts, tokens")
    for title in ("MB", "CPU s", "predicted", "error", "LAN s", "predicted", "error"):
        table.add_column(title, justify="right")
    for row in rows:
        seconds = (f"{row['cpu_s']:.2f}", f"{row['predicted_cpu_s']:.2f}", f"{PERCENT * row['error']:+.0f}%")
        lan = (f"{row['lan_s']:.2f}", f"{row['predicted_lan_s']:.2f}", f"{PERCENT * row['lan_error']:+.0f}%")
        table.add_row(row["name"], f"{row['bytes'] / 1e6:.2f}", *seconds, *lan)
    return table
