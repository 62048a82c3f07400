"""Prices as figures, with the times that a calibration predicts: JSON values, bars and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from protocols.pricing.operators import PROBABILITIES, Row
from protocols.pricing.priced import Group, Priced, PricedRow
from secmoe.calibration import Calibration, waiting
from secmoe.cost_plot import Bar, Panel, drawing
from sim.network import Network
from transcripts.page import render

NO_CALIBRATION = "no calibration: run secmoe bench --calibrate"
MB = 1e6
Json = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """Queries of one model and length under one parameter set. calibration: None without one."""

    priced: Sequence[Priced]
    network: Network
    calibration: Calibration | None

    @property
    def title(self) -> str:
        operators = self.priced[0].operators
        return f"{operators.shape.name}, {operators.n} tokens"

    @property
    def settings(self) -> Json:
        """What all queries have in common."""
        operators = self.priced[0].operators
        shape = operators.shape
        settings = {"model": shape.name, "source": shape.source, "left_out": shape.left_out, "tokens": operators.n}
        return settings | {"params": operators.params.name, "embedding": "public table", "network": vars(self.network)}

    @property
    def timing(self) -> str:
        """Where times come from, in words."""
        if self.calibration is None:
            return NO_CALIBRATION
        told = f"CPU time of both parties as kernels took on {self.calibration.machine}, {self.calibration.made} UTC"
        return f"{told}; seconds on {self.network.name}: that, a latency for each round, every byte at its bandwidth"

    def cpu(self, priced: Priced) -> float | None:
        """Predicted CPU seconds of both parties; None without a calibration."""
        return None if self.calibration is None else self.calibration.cpu(priced.online)

    def seconds(self, priced: Priced) -> float | None:
        """Predicted virtual seconds on the network; None without a calibration."""
        cpu = self.cpu(priced)
        return None if cpu is None else cpu + waiting(priced.online, self.network)

    def to_json(self) -> Json:
        """Every figure."""
        made = None if self.calibration is None else self.calibration.to_json()
        return self.settings | {"calibration": made, "runs": [self._run(one) for one in self.priced]}

    def _run(self, priced: Priced) -> Json:
        cost, operators = priced.online, priced.operators
        return {
            "protocol": operators.protocol.name,
            "experts": operators.shape.layer.E,
            "parameters": operators.shape.parameters,
            "sparse_params": operators.sparse.params.name,
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
            "setup": {"bytes": priced.setup_nbytes, "keys": priced.keys_nbytes},
            "waiting_s": waiting(cost, self.network),
            "predicted": {"cpu_s": self.cpu(priced), "seconds": self.seconds(priced)},
            "by_operator": [self._group(group) for group in priced.by_operator],
            "by_layer": [self._group(group) for group in priced.by_layer],
        }

    def _group(self, group: Group) -> Json:
        cpu = None if self.calibration is None else sum(self.calibration.cpu(row.row.cost) for row in group.rows)
        return {
            "name": group.name,
            "bytes": group.nbytes,
            "client_to_server": group.total(lambda cost: cost.c2s),
            "server_to_client": group.total(lambda cost: cost.s2c),
            "extension_bytes": group.extension,
            "messages": group.total(lambda cost: cost.messages),
            "rounds": group.total(lambda cost: cost.rounds),
            "cpu_s": cpu,
        }

    @property
    def panels(self) -> list[Panel]:
        """Bytes, and seconds: predicted, or without a calibration what the network alone takes."""
        timed = "seconds" if self.calibration is not None else "seconds, without computation"
        return [
            Panel("MB online, both directions, by operator", "MB", self._bars(_megabytes)),
            Panel(f"{timed}, on {self.network.name}, by operator", "s", self._bars(self._row_seconds)),
        ]

    def _bars(self, value: Callable[[Priced, PricedRow], float]) -> tuple[Bar, ...]:
        return tuple(
            Bar(
                one.operators.protocol.name,
                one.operators.shape.layer.E,
                tuple((group.name, sum(value(one, row) for row in group.rows)) for group in one.by_operator),
            )
            for one in self.priced
        )

    def _row_seconds(self, query: Priced, priced: PricedRow) -> float:
        """Of one operator, with its share of the pool; probabilities share the rounds of what is beside them."""
        row: Row = priced.row
        rounds, cpu = 0 if row.operator == PROBABILITIES else row.cost.rounds, 0.0
        if self.calibration is not None:
            share = priced.extension / max(query.pool.nbytes, 1)
            cpu = self.calibration.cpu(row.cost) + share * self.calibration.cpu(query.pool)
        return cpu + rounds * self.network.latency_s + 8 * priced.nbytes / self.network.bandwidth

    @property
    def page(self) -> str:
        """One offline page."""
        told = self.settings
        left_out = f" · left out: {told['left_out']}" if told["left_out"] else ""
        settings = f"{told['source']} · parameters {told['params']} · table of the embedding public{left_out}"
        figures = {"title": self.title, "settings": settings, "timing": self.timing, "network": self.network.name}
        picture = Markup(drawing(self.title, self.panels))
        return render("cost", figures | {"picture": picture, "runs": self.to_json()["runs"], "verdicts": []})


def _megabytes(query: Priced, row: PricedRow) -> float:
    """Whatever the query."""
    return row.nbytes / MB
