"""The lines of SPU's link trace: one file, line by line, as calls of the link. The format is told in `.spu`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

RANKS = (0, 1)
MOST_FILE_BYTES = 1 << 28
MOST_LINES = 1 << 20
MOST_NAME_BYTES = 256  # of a key or a tag
SHOWN = 60  # characters of a foreign text in an error

_HEAD = re.compile(
    rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] \[trace\] \[info\] \[[\w.:/-]{0,200}\] \[spu link\] key=(.*)",
    re.DOTALL,
)
_KEY = re.compile(
    rb"(?P<context>.+):(?:P2P-(?P<p>[1-9]\d{0,8}):(?P<src>\d{1,9})->(?P<dst>\d{1,9})|(?P<n>[1-9]\d{0,8}):(?P<op>[A-Z_]+))",
    re.DOTALL,
)
SWAPS = ("ALLGATHER", "BARRIER")
ROOTED = ("GATHER", "BCAST")


class TraceTooLarge(ValueError):
    """A trace beyond the limits of this reader."""


class TraceLineRefused(ValueError):
    """A line that is no call of the link, or not one that can stand there."""


class ValueTooLong(ValueError):
    """A value that the stated content length would have cut."""


@dataclass(frozen=True)
class Call:
    """One line. key: as written. src: the sender of a P2P message, None for a collective."""

    line: int
    key: bytes
    context: bytes
    n: int
    op: str
    src: int | None
    tag: bytes
    content: bytes


@dataclass
class Trace:
    """The trace of one rank. counts: the last number per context and stream."""

    rank: int
    path: Path
    calls: dict[bytes, Call] = field(default_factory=dict)
    counts: Counter[tuple[bytes, int | None]] = field(default_factory=Counter)

    def at(self, call: Call) -> str:
        return f"{self.path}:{call.line}"


def read_trace(rank: int, path: Path, content_length: int) -> Trace:
    """All calls of one rank. Raises TraceTooLarge, TraceLineRefused and ValueTooLong, with file and line."""
    trace, size, number = Trace(rank, path), 0, 0
    with path.open("rb") as file:
        while line := file.readline(MOST_FILE_BYTES + 1):
            number += 1
            size += len(line)
            if size > MOST_FILE_BYTES or number > MOST_LINES:
                limit = f"at most {MOST_FILE_BYTES >> 20} MiB and {MOST_LINES:,} lines"
                raise TraceTooLarge(f"{path}:{number}: expected {limit} of trace; record a shorter run")
            call = _parse(f"{path}:{number}", number, line)
            _admit(trace, call, content_length)
            trace.calls[call.key] = call
    if not trace.calls:
        _refuse(f"{path}:1", "expected the trace of a run, got an empty file")
    return trace


def _refuse(where: str, what: str) -> NoReturn:
    raise TraceLineRefused(f"{where}: {what}")


def _parse(where: str, number: int, line: bytes) -> Call:
    """One line as a call; whether it can stand there is `_admit`'s question."""
    head, has_tag, rest = line.removesuffix(b"\n").partition(b", tag=")
    tag, has_value, digits = rest.rpartition(b", value=")
    found = _HEAD.fullmatch(head) if has_tag and has_value else None
    if found is None:
        _refuse(where, f"expected `[time] [trace] [info] [..] [spu link] key=K, tag=T, value=HEX`, got {shown(line)}")
    if not line.endswith(b"\n"):
        _refuse(where, "the last line is cut off; take a complete trace")
    key = found[1]
    if max(len(key), len(tag)) > MOST_NAME_BYTES:
        _refuse(where, f"expected a key and a tag of at most {MOST_NAME_BYTES} bytes, got {len(key)} and {len(tag)}")
    parts = _KEY.fullmatch(key)
    if parts is None:
        _refuse(where, f"expected a key CONTEXT:P2P-n:src->dst or CONTEXT:n:OPERATION, got {shown(key)}")
    try:
        content = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        content = b""
    if content.hex().encode() != digits:
        _refuse(where, f"expected a value of lower-case hexadecimal bytes, got {shown(digits)}")
    if parts["p"] is None:
        return Call(number, key, parts["context"], int(parts["n"]), parts["op"].decode(), None, tag, content)
    src, dst = int(parts["src"]), int(parts["dst"])
    if {src, dst} != set(RANKS):
        _refuse(where, f"expected a message between ranks 0 and 1, got {shown(key)}; other worlds are not read")
    return Call(number, key, parts["context"], int(parts["p"]), "P2P", src, tag, content)


def _admit(trace: Trace, call: Call, content_length: int) -> None:
    """Raise TraceLineRefused or ValueTooLong unless the call can follow those before it."""
    where = trace.at(call)
    if call.op not in ("P2P", *SWAPS, *ROOTED):
        why = "the trace does not hold what it sends" if call.op == "SCATTER" else "not an operation of this reader"
        _refuse(where, f"expected P2P, {', '.join((*SWAPS, *ROOTED))}, got {shown(call.op.encode())}: {why}")
    stream = (call.context, call.src)
    if call.n != trace.counts[stream] + 1:
        fault = (
            "twice: record each rank in a process of its own"
            if call.key in trace.calls
            else f"where number {trace.counts[stream] + 1} is due: lines are missing or mixed"
        )
        _refuse(where, f"{shown(call.key)} comes {fault}")
    trace.counts[stream] += 1
    if call.content and (call.op == "BARRIER" or call.src == 1 - trace.rank):
        told = "a barrier" if call.op == "BARRIER" else f"a receive of rank {trace.rank}"
        _refuse(where, f"expected no value in {told}, got {len(call.content)} bytes; give rank 0's trace first")
    if len(call.content) > content_length:
        raise ValueTooLong(
            f"{where}: expected at most {content_length} bytes of value, got {len(call.content)}; "
            "give the run's trace_content_length"
        )


def plain_text(raw: bytes) -> str:
    """Foreign bytes as printable text without `/`; injective."""
    text = raw.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() and c not in "/%" else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogateescape"))


def shown(raw: bytes) -> str:
    """Foreign bytes in an error."""
    text = plain_text(raw[: SHOWN + 1])
    return f"`{text}`" if len(raw) <= SHOWN else f"`{text[:SHOWN]}...`"
