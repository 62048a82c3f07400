"""`secmoe cost`: what a private query of a model costs at full size, by operator and layer, without running it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.table import Table

from protocols.pricing.operators import Operators, SparseProtocol
from protocols.pricing.priced import Priced
from secmoe.calibration import DEFAULT, Calibration, read_calibration
from secmoe.cost_plot import checked_plot, plot
from secmoe.exit import SUCCESS
from secmoe.inputs import read_params
from secmoe.networks import read_network
from secmoe.price_report import MB, Report
from secmoe.priced_models import MOST_EXPERTS, MOST_TOKENS, chosen_protocols, model_shape, numbers
from transcripts.page import checked_page, write_page
from transcripts.show import open_console


def run_cost(options: argparse.Namespace) -> int:
    """Raises what names an unknown model, protocol, network or parameter set, and what a shape that does not fit a set
    raises."""
    shape, network = model_shape(options.model), read_network(options.network)
    params = read_params(options.params)
    experts = shape.experts if options.experts is None else numbers(options.experts, "experts", MOST_EXPERTS)
    (tokens,) = numbers(str(options.tokens), "tokens", MOST_TOKENS)
    protocols, calibration = chosen_protocols(options.protocol), _calibration(options.calibration)
    if options.plot is not None:
        checked_plot(options.plot)
    if options.html is not None:
        checked_page(options.html)
    shapes = [shape.with_experts(E) for E in experts]
    priced = [Priced(Operators(s, tokens, params, protocol)) for protocol in protocols for s in shapes]
    for one in priced:
        _ = one.rows, one.online, one.keys  # what does not fit is refused before anything is printed
    report = Report(priced, network, calibration)
    if options.plot is not None:
        Path(options.plot).write_text(plot(report.title, report.panels), encoding="utf-8")
    if options.html is not None:
        write_page(options.html, report.page)
    if options.json:
        print(json.dumps(report.to_json()))
    else:
        _print(report, protocols)
    return SUCCESS


def _calibration(given: str | None) -> Calibration | None:
    """The one given, or the one that lies where the measurement puts it, or none."""
    if given is None and not DEFAULT.exists():
        return None
    return read_calibration(DEFAULT if given is None else Path(given))


def _print(report: Report, protocols: list[SparseProtocol]) -> None:
    console, told, priced = open_console(), report.settings, report.priced
    left_out = f"; left out: {told['left_out']}" if told["left_out"] else ""
    _line(f"{report.title} ({told['source']}), parameters {told['params']}, embedding: public table{left_out}")
    _line("bytes of both directions; OT: what makes the correlated OTs, in every row with its share")
    console.print(_summary(report))
    _line(report.timing)
    for protocol in protocols:
        own = [one for one in priced if one.operators.protocol == protocol]
        own_set = own[0].operators.sparse.params.name
        _line(f"\n{protocol.name}, sparse layers with {own_set}, MB by operator")
        console.print(_by_operator(own))
    if len(priced) == 1:
        _line("\nby layer")
        console.print(_by_layer(priced[0]))


def _line(text: str) -> None:
    open_console().print(text, highlight=False, markup=False)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left", no_wrap=not i)
    return table


def _summary(report: Report) -> Table:
    titles = ["parameters", "MB online", "of it routing", "of it OT", "messages", "rounds", "set-up MB, once"]
    timed = ["CPU s, predicted", f"s on {report.network.name}"] if report.calibration is not None else []
    table = _table("protocol, experts", *titles, *timed)
    for one in report.priced:
        cost, shape = one.online, one.operators.shape
        megabytes = [f"{n / MB:,.2f}" for n in (cost.nbytes, one.routing_nbytes, one.pool.nbytes)]
        figures = (*megabytes, f"{cost.messages:,}", f"{cost.rounds:,}", f"{one.setup_nbytes / MB:,.2f}")
        seconds = [f"{t:,.1f}" for t in (report.cpu(one), report.seconds(one)) if t is not None]
        name = f"{one.operators.protocol.name}, {shape.layer.E}"
        table.add_row(name, f"{shape.parameters / 1e9:,.3f} B", *figures, *seconds)
    return table


def _by_operator(priced: list[Priced]) -> Table:
    """MB of each operator for every number of experts, and the messages and rounds for the last one."""
    table = _table("", *(f"E = {one.operators.shape.layer.E}" for one in priced), "messages", "rounds")
    for groups in zip(*(one.by_operator for one in priced), strict=True):
        last = groups[-1]
        counted = [f"{last.total(lambda c: c.messages):,}", f"{last.total(lambda c: c.rounds):,}"]
        table.add_row(last.name, *(f"{group.nbytes / MB:,.3f}" for group in groups), *counted)
    return table


def _by_layer(priced: Priced) -> Table:
    table = _table("", "MB", "messages", "rounds")
    for group in priced.by_layer:
        counted = [f"{group.total(lambda c: c.messages):,}", f"{group.total(lambda c: c.rounds):,}"]
        table.add_row(group.name, f"{group.nbytes / MB:,.3f}", *counted)
    return table
