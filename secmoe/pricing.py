"""`secmoe cost`: what a private query of a model costs at full size, by operator and layer, without running it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.table import Table

from protocols.pricing.operators import Operators, SparseProtocol
from protocols.pricing.priced import Group, Priced
from protocols.pricing.shapes import ModelShape
from secmoe.exit import SUCCESS
from secmoe.inputs import read_params
from secmoe.networks import read_network
from secmoe.priced_models import MOST_EXPERTS, MOST_TOKENS, chosen_protocols, model_shape, numbers
from sim.network import Network
from transcripts.show import open_console

MB = 1e6
Json = dict[str, Any]


def run_cost(options: argparse.Namespace) -> int:
    """Raises what names an unknown model, protocol, network or parameter set, and what a shape that does not fit a set
    raises."""
    shape, network = model_shape(options.model), read_network(options.network)
    params = read_params(options.params)
    experts = shape.experts if options.experts is None else numbers(options.experts, "experts", MOST_EXPERTS)
    (tokens,) = numbers(str(options.tokens), "tokens", MOST_TOKENS)
    protocols = chosen_protocols(options.protocol)
    shapes = [shape.with_experts(E) for E in experts]
    priced = [Priced(Operators(s, tokens, params, protocol)) for protocol in protocols for s in shapes]
    for one in priced:
        _ = one.rows, one.online, one.keys  # what does not fit is refused before anything is printed
    if options.json:
        settings = {"model": shape.name, "source": shape.source, "left_out": shape.left_out, "tokens": tokens}
        told = settings | {"params": params.name, "network": vars(network), "runs": [to_json(one) for one in priced]}
        print(json.dumps(told))
        return SUCCESS
    _print(shape, tokens, protocols, priced, network)
    return SUCCESS


def to_json(priced: Priced) -> Json:
    """One query as JSON values: exact figures."""
    cost, operators = priced.online, priced.operators
    return {
        "protocol": operators.protocol.name,
        "experts": operators.shape.layer.E,
        "parameters": operators.shape.parameters,
        "online": {
            "bytes": cost.nbytes,
            "client_to_server": cost.c2s,
            "server_to_client": cost.s2c,
            "messages": cost.messages,
            "rounds": cost.rounds,
            "routing_bytes": priced.routing_nbytes,
            "extension_bytes": priced.pool.nbytes,
            "cots": {"client": cost.cot_client, "server": cost.cot_server},
        },
        "setup": {"bytes": priced.setup_nbytes, "keys": priced.keys.nbytes},
        "by_operator": [_group(group) for group in priced.by_operator],
        "by_layer": [_group(group) for group in priced.by_layer],
    }


def _group(group: Group) -> Json:
    return {
        "name": group.name,
        "bytes": group.nbytes,
        "client_to_server": group.total(lambda cost: cost.c2s),
        "server_to_client": group.total(lambda cost: cost.s2c),
        "extension_bytes": group.extension,
        "messages": group.total(lambda cost: cost.messages),
        "rounds": group.total(lambda cost: cost.rounds),
    }


def _print(
    shape: ModelShape, tokens: int, protocols: list[SparseProtocol], priced: list[Priced], network: Network
) -> None:
    console = open_console()
    params = priced[0].operators.params
    told = f"; left out: {shape.left_out}" if shape.left_out else ""
    console.print(f"{shape.name} ({shape.source}), {tokens} tokens, parameters {params.name}{told}", highlight=False)
    console.print("table of the embedding public; bytes of both directions, with what makes the correlated OTs (OT)")
    console.print(_summary(priced))
    for protocol in protocols:
        own = [one for one in priced if one.operators.protocol == protocol]
        console.print(f"\n{protocol.name}, MB by operator", highlight=False)
        console.print(_by_operator(own))
    if len(priced) == 1:
        console.print("\nby layer")
        console.print(_by_layer(priced[0]))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left")
    return table


def _summary(priced: list[Priced]) -> Table:
    titles = ("parameters", "MB online", "of it routing", "of it OT", "messages", "rounds", "set-up MB, once")
    table = _table("protocol, experts", *titles)
    for one in priced:
        cost, shape = one.online, one.operators.shape
        megabytes = [f"{n / MB:,.2f}" for n in (cost.nbytes, one.routing_nbytes, one.pool.nbytes)]
        figures = (*megabytes, f"{cost.messages:,}", f"{cost.rounds:,}", f"{one.setup_nbytes / MB:,.2f}")
        name = f"{one.operators.protocol.name}, {shape.layer.E}"
        table.add_row(name, f"{shape.parameters / 1e9:,.3f} B", *figures)
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
