"""Show a kept run in a terminal: summary, cost by scope, message list, one message, the answer to a query.

Everything printed here is also available as JSON values: see `transcripts.facts` and `transcripts.sql`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from sim.concrete import to_signed, to_words
from sim.network import NETWORKS
from sim.ring import RingArray, Spec
from sim.role import Role
from sim.wire import decode, describe, spec_to_json
from transcripts.ciphertexts import told
from transcripts.costs import ScopeCost
from transcripts.facts import Reader, Selection, public_line, summary
from transcripts.layout import is_imported
from transcripts.sql import Answer
from transcripts.store import Header

SHOWN_WORDS = 16
SHOWN_BYTES = 256
SHOWN_PARTS = 4
SHOWN_VALUE = 120  # characters of one value of a query's answer
PLAIN_WIDTH = 120  # columns where the output is no terminal
COST_TITLES = ("c->s bytes", "s->c bytes", "messages", "rounds", "client s", "server s")
SEEDED = "SEEDED: whoever has the seed learns both parties' secrets"
NO_BYTES = "no bytes: the sealed box of an ideal functionality, recorded by its header"
NOT_TRACED = "no bytes: the trace that was imported does not hold all of them; label, order and length are recorded"


def open_console() -> Console:
    """Standard output; wide enough for the tables when it is no terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def print_summary(console: Console, selection: Selection) -> None:
    """Parameters, and one line per phase."""
    facts, view = summary(selection), selection.view
    console.print(Text(facts["transcript"], style="bold"), Text(f"recorded {facts['created']}"))
    if facts["seeded"]:
        console.print(Text(SEEDED, style="bold red"))
    if facts["unfinished"] is not None:
        last = selection.headers[-1].label if selection.headers else None
        told = f"UNFINISHED: {json.dumps(facts['unfinished'], sort_keys=True)}; last message {json.dumps(last)}"
        console.print(Text(told, style="bold red"), soft_wrap=True)
    console.print(Text(public_line(facts["public"])))
    if view is not None:
        console.print(Text(f"the view of the {view.value}: what it receives"))
    table = Table("phase", box=None, pad_edge=False)
    for name in COST_TITLES[:4] if view else (*COST_TITLES, *(f"{network} s" for network in NETWORKS)):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in facts["phases"]:
        figures = [phase["client_to_server"], phase["server_to_client"], phase["messages"], phase["rounds"]]
        seconds = [] if view else [*phase["cpu_s"].values(), *phase["network_s"].values()]
        table.add_row(Text(phase["phase"]), *(f"{n:,}" for n in figures), *(f"{s:.3f}" for s in seconds))
    console.print(table)
    digests = [f"view   {facts['view_digest']}"] if view else [f"digest {facts['digest']}", f"seal   {facts['seal']}"]
    console.print(Text("\n".join(digests)))


def print_costs(console: Console, costs: Sequence[ScopeCost], *, times: bool = True) -> None:
    """Cost by scope, indented by depth; `times` with the CPU seconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("scope", no_wrap=True)
    for name in ("calls", *(COST_TITLES if times else COST_TITLES[:4])):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in costs:
        parts = cost.scope.split("/")
        indented = Text("  " * (len(parts) - 1) + parts[-1])
        figures = [cost.calls, cost.client_to_server, cost.server_to_client, cost.messages, cost.rounds]
        seconds = [f"{cost.cpu[role]:.3f}" for role in Role] if times else []
        table.add_row(indented, *(f"{n:,}" for n in figures), *seconds)
    console.print(table)


def print_list(console: Console, headers: Iterable[Header]) -> None:
    """One line per message; plain lines, of which ten thousand take no time."""
    rows = [("seq", "depth", "sender", "bytes", "content", "label")]
    for h in headers:
        kind = spec_to_json(h.spec)
        content = f"{kind['dtype']} {kind['shape']}" if isinstance(h.spec, Spec) else kind["kind"]
        rows.append((str(h.seq), str(h.depth), h.sender.value, f"{h.nbytes:,}", content, h.label))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = ("sender", "content", "label")
    align = ["<" if name in left else ">" for name in rows[0]]
    lines = ("  ".join(f"{v:{a}{w}}" for v, a, w in zip(r, align, widths, strict=True)).rstrip() for r in rows)
    console.out("\n".join(lines), highlight=False)


def print_message(console: Console, selection: Selection, seq: int, read: Reader | None = None) -> None:
    """One message: header, decoded words of a ring array or what `read` tells, hexdump. Raises NoSuchMessage."""
    header = selection.numbered(seq)
    payload = selection.transcript.message(header).payload
    lines = [
        f"message {header.seq}  {header.sender.value} -> {header.sender.peer.value}  {header.label}",
        f"phase   {header.phase}, depth {header.depth}",
        f"content {describe(header.spec)}",
        f"digest  {header.digest.hex()}",
    ]
    lines += [] if selection.view else [f"chain   {header.chain.hex()}"]
    lines += content_lines(header, payload, read, is_imported(selection.transcript.public))
    if payload is not None:
        lines += hexdump(payload[:SHOWN_BYTES])
        if len(payload) > SHOWN_BYTES:
            lines.append(f"        {more(len(payload), SHOWN_BYTES, 'bytes')}; --json gives all")
    console.print(Text("\n".join(lines)), soft_wrap=True)


def content_lines(header: Header, payload: bytes | None, read: Reader | None, imported: bool = False) -> list[str]:
    """What the content of a message is, in words. imported: of a foreign trace."""
    if payload is None:
        return [NOT_TRACED if imported else NO_BYTES]
    if isinstance(header.spec, Spec):
        return [f"values  {', '.join(shown_values(decode(payload, header.spec)))}"]
    known: Mapping[str, Any] | None = read(header, payload) if read is not None else None
    return [] if known is None else told(known, SHOWN_PARTS)


def shown_values(array: RingArray) -> list[str]:
    """The first elements as unsigned words and signed representatives, and how many more there are."""
    words, values = to_words(array).reshape(-1)[:SHOWN_WORDS], to_signed(array).reshape(-1)[:SHOWN_WORDS]
    shown = [f"{word:#x} ({value})" for word, value in zip(words, values, strict=True)]
    return shown + ([more(array.size, SHOWN_WORDS, "elements")] if array.size > SHOWN_WORDS else [])


def print_answer(console: Console, answer: Answer) -> None:
    """The answer to a query: a table where it fits, else a block for each row. Long values are cut; values from the
    file cannot drive the terminal."""
    names = [_safe(name) for name in answer.columns]
    rows = [[_safe("NULL" if value is None else str(value)) for value in values] for values in answer.rows]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) <= console.width:
        table = Table(*(Column(Text(name), no_wrap=True) for name in names), box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        widest = max(map(len, names))
        for row in rows:
            block = "\n".join(f"{name:<{widest}}  {value}" for name, value in zip(names, row, strict=True))
            console.print(Text(block + "\n"), soft_wrap=True)
    console.print(Text(f"{len(rows)} rows{', and more' if answer.more else ''}"))


def _safe(text: str) -> str:
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: SHOWN_VALUE + 1])
    return plain if len(text) <= SHOWN_VALUE else f"{plain[:SHOWN_VALUE]} ... {len(text):,} characters"


def hexdump(data: bytes) -> list[str]:
    """Offset, sixteen bytes, and their printable characters, per line."""
    lines = []
    for at in range(0, len(data), 16):
        chunk = data[at : at + 16]
        printable = "".join(chr(b) if 32 <= b < 127 else "." for b in chunk)
        lines.append(f"{at:06x}  {chunk.hex(' ', 1):<47}  {printable}")
    return lines


def more(size: int, shown: int, what: str) -> str:
    """How much is left out."""
    return f"... {size - shown:,} more {what}"
