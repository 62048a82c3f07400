"""Executions and audits in a notebook: `show(x)` is an object with `_repr_html_`, and plain text elsewhere.

A fragment of HTML without script, style sheet or address: it needs no network, and a notebook may be passed on. Every
text in it is escaped, whoever wrote it. No value of a message and no output is shown: outputs are shares, secret both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from html import escape
from itertools import islice
from typing import Any

from sim.message import Message
from sim.network import NETWORKS
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.wire import describe
from sim.world import Execution
from transcripts.costs import cost_by_scope
from transcripts.report import BAD, GOOD, WARN, Line
from transcripts.verdicts import NO_LEAK, Audited, Verdict

LEVELS = 3  # of scopes
ROWS = 60  # of one table
LONGEST = 600  # characters of one text
PLAIN = "plain"
# To be read on light and on dark grounds; the words say it too.
COLOURS = {PLAIN: "inherit", GOOD: "#1a7f37", WARN: "#9a6700", BAD: "#cf222e"}
Cell = str | int | float


class NothingToShow(TypeError):
    """A value of a kind that has no display."""


@dataclass(frozen=True)
class Grid:
    """A table: numbers are right-aligned. more: rows that were left out."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    more: int = 0


@dataclass(frozen=True, repr=False)
class Shown:
    """A title, lines with a tone each (`plain`, `good`, `warn`, `bad`), and tables; a notebook shows it as HTML."""

    title: str
    lines: Sequence[Line]
    grids: Sequence[Grid]

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{_html(self.title)}</strong></p>"]
        parts += [f'<p style="color:{COLOURS[tone]};margin:0">{_html(text)}</p>' for tone, text in self.lines]
        parts += [_table(grid) for grid in self.grids]
        return f"<div>{''.join(parts)}</div>"

    def __repr__(self) -> str:
        """The same in columns, for a terminal."""
        parts = [_plain(self.title), *(_plain(text) for _, text in self.lines)]
        for grid in self.grids:
            rows = [[_plain(cell) for cell in row] for row in (grid.titles, *grid.rows)]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            parts += ["", _plain(grid.caption)]
            parts += ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
            parts += [_left_out(grid.more)] if grid.more else []
        return "\n".join(parts)


@singledispatch
def show(value: Any) -> Shown:
    """The display of an `Execution` or of an `Audited`, also of its single `Verdict`. Raises NothingToShow."""
    kind = type(value).__name__
    raise NothingToShow(f"expected an Execution, an Audited or a Verdict, got {kind}; give one of these")


@show.register
def _(execution: Execution) -> Shown:
    """Cost by scope and the first messages. bytes: of the wire; rounds: causal depths; seconds: CPU of a party."""
    cost = execution.cost
    times = ", ".join(f"{execution.time(network):.3f} s on {name}" for name, network in NETWORKS.items())
    outputs = "; ".join(f"{role.value}: {_kind(execution.outputs.get(role))}" for role in Role)
    lines = [
        f"{cost.c2s:,} bytes client to server, {cost.s2c:,} back, {cost.messages} messages, {cost.rounds} rounds",
        f"{times} (virtual time)",
        f"outputs, content not shown: {outputs}",
        f"digest {execution.digest}",
    ]
    titles = ("scope", "calls", "c->s bytes", "s->c bytes", "messages", "rounds", "client s", "server s")
    scopes = [
        (c.scope, c.calls, c.client_to_server, c.server_to_client, c.messages, c.rounds, c.cpu[CLIENT], c.cpu[SERVER])
        for c in cost_by_scope(execution.messages, execution.cpu_by_scope, levels=LEVELS)
    ]
    sent = [_row(message) for message in islice(execution.messages, ROWS)]
    return Shown(
        f"execution {execution.prefix}",
        [(PLAIN, line) for line in lines],
        (
            _grid("cost by scope", titles, scopes),
            Grid("messages", ("depth", "sender", "content", "label"), sent, len(execution.messages) - len(sent)),
        ),
    )


@show.register
def _(audited: Audited) -> Shown:
    """The verdicts of one family of tests, and what a pass does not show."""
    alarms, count = audited.nulls
    told = f"{alarms} of {count} audits of a class against itself raised an alarm"
    lines = [*map(_verdict_line, audited.verdicts[:ROWS]), (WARN if alarms else GOOD, told)]
    lines.append((PLAIN, "a pass shows that these tests found nothing with these runs; it is no proof"))
    about = ("protocol", "corrupted", "secret", "model")
    titles = (*about, "runs", "tests", "smallest p", "detectable sd", "power", "verdict")
    rows = [_verdict_row(verdict) for verdict in audited.verdicts]
    title = f"audit: one family of {audited.family} tests at level {audited.level:g}"
    return Shown(title, lines, (_grid("experiments", titles, rows),))


@show.register
def _(verdict: Verdict) -> Shown:
    return show(Audited((verdict,), verdict.family, verdict.level))


def _verdict_line(verdict: Verdict) -> Line:
    return GOOD if verdict.kind == NO_LEAK else BAD, str(verdict)


def _verdict_row(verdict: Verdict) -> tuple[Cell, ...]:
    examined = verdict.examined
    sampler = examined.sampler
    smallest = examined.suspects[0].p if examined.suspects else 1.0
    power = "not measured" if verdict.power is None else f"{verdict.power[0]} of {verdict.power[1]}"
    about = (str(sampler.target), sampler.corrupted.value, verdict.secret, sampler.model)
    return (*about, examined.runs, examined.tested, smallest, verdict.effect, power, verdict.kind)


def _row(message: Message) -> tuple[Cell, ...]:
    return message.depth, message.sender.value, describe(message.spec), message.label


def _kind(value: Any) -> str:
    """What an output is, without its content."""
    if isinstance(value, RingArray):
        return describe(value.spec)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_kind, value))})"
    return "nothing" if value is None else type(value).__name__


def _grid(caption: str, titles: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Grid:
    found = list(rows)
    return Grid(caption, titles, found[:ROWS], max(len(found) - ROWS, 0))


def _table(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{_html(title)}</th>' for title in grid.titles)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in grid.rows)
    more = f"<p>{_left_out(grid.more)}</p>" if grid.more else ""
    table = f"<caption>{_html(grid.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<table>{table}</table>{more}"


def _left_out(count: int) -> str:
    return f"... {count:,} more"


def _cell(value: Cell) -> str:
    side = "left" if isinstance(value, str) else "right"
    return f'<td style="text-align:{side}">{_html(value)}</td>'


def _html(value: Cell) -> str:
    return escape(_plain(value))


def _plain(value: Cell) -> str:
    """On one line; what does not print, or turns the direction of what follows, is spelled out."""
    if not isinstance(value, str):
        return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
    text = value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
