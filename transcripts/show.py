"""Show a kept run in a terminal: summary, cost by scope, message list, one message. The plain first form.

Everything printed here is also available as JSON values: `summary`, `ScopeCost.to_json`, `row`, `detail`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.concrete import to_signed, to_words
from sim.network import NETWORKS
from sim.ring import Spec
from sim.role import CLIENT, Role
from sim.wire import decode, describe, spec_to_json
from transcripts.costs import ScopeCost, cost_by_scope, fold, inside, virtual_time
from transcripts.store import Header, Transcript

SHOWN_WORDS = 16
SHOWN_BYTES = 256
PLAIN_WIDTH = 120  # columns where the output is no terminal
COST_TITLES = ("c->s bytes", "s->c bytes", "messages", "rounds", "client s", "server s")


class NoSuchMessage(ValueError):
    """The transcript has no message of this number."""


class NoSuchScope(ValueError):
    """The transcript has no message in this scope."""


def summary(transcript: Transcript) -> dict[str, Any]:
    """The run in figures, phase by phase, as JSON values. Times of a network are virtual seconds."""
    phases = []
    for phase in transcript.phases:
        sent = transcript.phase(phase.name)
        phases.append(
            {
                "phase": phase.name,
                "client_to_server": sum(h.nbytes for h in sent if h.sender is CLIENT),
                "server_to_client": sum(h.nbytes for h in sent if h.sender is not CLIENT),
                "messages": len(sent),
                "rounds": max((h.depth for h in sent), default=0),
                "cpu_s": {r.value: sum(s for (who, _), s in phase.cpu_by_depth.items() if who is r) for r in Role},
                "network_s": {name: virtual_time(sent, phase.cpu_by_depth, net) for name, net in NETWORKS.items()},
                "reserved": dict(phase.reserved),
            }
        )
    return {
        "transcript": str(transcript.path),
        "created": transcript.created,
        "seeded": transcript.seeded,
        "public": transcript.public,
        "digest": transcript.chain.hex(),
        "seal": transcript.seal.hex(),
        "phases": phases,
    }


def scope_costs(transcript: Transcript, under: str = "", levels: int = 3) -> list[ScopeCost]:
    """Cost by scope, over all phases."""
    cpu = {key: s for phase in transcript.phases for key, s in phase.cpu_by_scope.items()}
    return cost_by_scope(transcript.headers, cpu, under=under, levels=levels)


def select(transcript: Transcript, scope: str = "", view: Role | None = None) -> list[Header]:
    """The messages inside a scope; with `view`, those that this party receives. Raises NoSuchScope."""
    found = [h for h in transcript.headers if inside(h.scope, scope) or inside(fold(h.scope), scope)]
    if scope and not found:
        known = ", ".join(sorted({fold(h.scope).split("/")[0] for h in transcript.headers}))
        raise NoSuchScope(f"{transcript.path}: expected a scope with messages, got {scope!r}; see those in {known}")
    return [h for h in found if view is None or h.sender is not view]


def row(header: Header) -> dict[str, Any]:
    """One message of a list, as JSON values."""
    return {
        "seq": header.seq,
        "phase": header.phase,
        "depth": header.depth,
        "sender": header.sender.value,
        "label": header.label,
        **spec_to_json(header.spec),
        "nbytes": header.nbytes,
        "digest": header.digest.hex(),
    }


def detail(transcript: Transcript, seq: int) -> dict[str, Any]:
    """One message with its content: `words` (unsigned) of a ring array, `hex` of the bytes. Raises NoSuchMessage."""
    header = _numbered(transcript, seq)
    message = transcript.message(header)
    words = None
    if isinstance(header.spec, Spec) and message.payload is not None:
        words = to_words(decode(message.payload, header.spec)).reshape(-1).tolist()
    content = None if message.payload is None else message.payload.hex()
    return {**row(header), "chain": header.chain.hex(), "words": words, "hex": content}


# -- terminal ----------------------------------------------------------------------------------------------------


def open_console() -> Console:
    """Standard output; wide enough for the tables when it is no terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def print_summary(console: Console, transcript: Transcript) -> None:
    """Parameters, and one line per phase."""
    facts = summary(transcript)
    console.print(Text(str(transcript.path), style="bold"), Text(f"recorded {transcript.created}"))
    if transcript.seeded:
        console.print(Text("SEEDED: whoever has the seed learns both parties' secrets", style="bold red"))
    # Public values may be a stranger's text: as ASCII JSON they can neither forge lines nor drive the terminal.
    public = sorted(transcript.public.items())
    console.print(Text("  ".join(f"{json.dumps(key)[1:-1]}={json.dumps(v, sort_keys=True)}" for key, v in public)))
    table = Table("phase", box=None, pad_edge=False)
    for name in (*COST_TITLES, *(f"{network} s" for network in NETWORKS)):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in facts["phases"]:
        figures = [phase["client_to_server"], phase["server_to_client"], phase["messages"], phase["rounds"]]
        seconds = [*phase["cpu_s"].values(), *phase["network_s"].values()]
        table.add_row(Text(phase["phase"]), *(f"{n:,}" for n in figures), *(f"{s:.3f}" for s in seconds))
    console.print(table)
    console.print(Text(f"digest {transcript.chain.hex()}\nseal   {transcript.seal.hex()}"))


def print_costs(console: Console, costs: Sequence[ScopeCost]) -> None:
    """Cost by scope, indented by depth."""
    table = Table(box=None, pad_edge=False)
    table.add_column("scope", no_wrap=True)
    for name in ("calls", *COST_TITLES):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in costs:
        parts = cost.scope.split("/")
        indented = Text("  " * (len(parts) - 1) + parts[-1])
        figures = [cost.calls, cost.client_to_server, cost.server_to_client, cost.messages, cost.rounds]
        table.add_row(indented, *(f"{n:,}" for n in figures), *(f"{cost.cpu[role]:.3f}" for role in Role))
    console.print(table)


def print_list(console: Console, headers: Iterable[Header]) -> None:
    """One line per message."""
    table = Table(box=None, pad_edge=False)
    for name in ("seq", "depth", "sender", "bytes"):
        table.add_column(name, justify="left" if name == "sender" else "right", no_wrap=True)
    table.add_column("content", no_wrap=True)
    table.add_column("label", overflow="fold")
    for h in headers:
        kind = spec_to_json(h.spec)
        content = f"{kind['dtype']} {kind['shape']}" if isinstance(h.spec, Spec) else kind["kind"]
        table.add_row(str(h.seq), str(h.depth), h.sender.value, f"{h.nbytes:,}", Text(content), Text(h.label))
    console.print(table)


def print_message(console: Console, transcript: Transcript, seq: int) -> None:
    """One message: header, decoded words of a ring array, hexdump. Raises NoSuchMessage."""
    header = _numbered(transcript, seq)
    message = transcript.message(header)
    lines = [
        f"message {header.seq}  {header.sender.value} -> {header.sender.peer.value}  {header.label}",
        f"phase   {header.phase}, depth {header.depth}",
        f"content {describe(header.spec)}",
        f"digest  {header.digest.hex()}",
        f"chain   {header.chain.hex()}",
    ]
    if message.payload is None:
        lines.append("no bytes: the sealed box of an ideal functionality, recorded by its header")
    else:
        if isinstance(header.spec, Spec):
            array = decode(message.payload, header.spec)
            pairs = zip(to_words(array).reshape(-1), to_signed(array).reshape(-1), strict=True)
            shown = [f"{word:#x} ({value})" for word, value in list(pairs)[:SHOWN_WORDS]]
            lines.append(f"values  {', '.join(shown)}{_more(array.size, SHOWN_WORDS, 'elements')}")
        lines += hexdump(message.payload[:SHOWN_BYTES])
        if len(message.payload) > SHOWN_BYTES:
            lines.append(f"        {_more(len(message.payload), SHOWN_BYTES, 'bytes').strip()}; --json gives all")
    console.print(Text("\n".join(lines)))


def hexdump(data: bytes) -> list[str]:
    """Offset, sixteen bytes, and their printable characters, per line."""
    lines = []
    for at in range(0, len(data), 16):
        chunk = data[at : at + 16]
        printable = "".join(chr(b) if 32 <= b < 127 else "." for b in chunk)
        lines.append(f"{at:06x}  {chunk.hex(' ', 1):<47}  {printable}")
    return lines


def _more(size: int, shown: int, what: str) -> str:
    return f" ... {size - shown:,} more {what}" if size > shown else ""


def _numbered(transcript: Transcript, seq: int) -> Header:
    if not 0 <= seq < len(transcript.headers):
        last = len(transcript.headers) - 1
        raise NoSuchMessage(f"{transcript.path}: expected a message from 0 to {last}, got {seq}")
    return transcript.headers[seq]
