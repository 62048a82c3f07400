"""The view of a corrupted party, as data: what it was given, drew, sent, received and put out, run by run.

A view never contains a time. Its STRUCTURE is the list of messages in both directions with label, order, kind, size and
causal depth; its CONTENT is a table of words, one column per word, in the arrangement (`Layout`) of a reference run.
Arrays are their ring elements, byte strings their bytes; of long ones an even choice of places is kept, because a test
per byte of a megabyte would cost the others their power, and a histogram of all bytes beside it.
A content that the view does not have (sealed in the hybrid world) is no column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim.concrete import to_words
from sim.message import Message
from sim.ring import RingArray, Spec
from sim.role import Role
from sim.wire import AnySpec, Blob
from sim.world import Execution
from transcripts.batch import Batch

Kind = Literal["input", "draw", "sent", "received", "functionality", "result", "output"]
Words = NDArray[np.uint64]
LONG_BYTES = 64  # columns kept of one byte string
LONG_WORDS = 1024  # columns kept of one array
_RUN = re.compile(r"^r[0-9]+/")
# A description of a message without its content: direction, label, kind, dtype, sizes, depth.
Fact = tuple[str, str, str, tuple[int, ...], int]


@dataclass(frozen=True)
class Source:
    """One array of a view. bits: width of its words (8: bytes of a byte string, `opaque`). size: words it has."""

    kind: Kind
    label: str
    bits: int
    size: int
    opaque: bool = False

    @property
    def places(self) -> NDArray[np.int64]:
        """The words that are kept, evenly spread."""
        most = LONG_BYTES if self.opaque else LONG_WORDS
        return np.arange(self.size) if self.size <= most else np.linspace(0, self.size - 1, most).astype(np.int64)

    def __str__(self) -> str:
        return f"{self.kind} {self.label}"


class Layout:
    """The columns of a table of views: sources in order, each with its kept words."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.index = {(s.kind, s.label): i for i, s in enumerate(self.sources)}
        sizes = [len(s.places) for s in self.sources]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.bits = np.repeat(np.array([s.bits for s in self.sources], np.int64), sizes)
        self.source = np.repeat(np.arange(len(self.sources)), sizes)

    @property
    def width(self) -> int:
        return int(self.starts[-1])

    def column(self, i: int) -> tuple[str, str]:
        """(label with kind, place) of a column."""
        at = int(self.source[i])
        source = self.sources[at]
        place = int(source.places[i - int(self.starts[at])])
        return str(source), f"{'byte' if source.opaque else 'word'} {place}"


@dataclass(frozen=True)
class Raw:
    """One run's view before it is a table. arrays: (source, its kept words). facts: the structure."""

    facts: tuple[Fact, ...]
    arrays: list[tuple[Source, Words]]
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Views:
    """Runs of one class. words: (n, layout.width). structures: per run, an index into `kinds`.

    histograms: received byte strings, label -> (n, 256) counts. messages: per run all messages (real runs only).
    """

    layout: Layout
    words: Words
    structures: NDArray[np.int64]
    kinds: tuple[tuple[Fact, ...], ...]
    histograms: dict[str, NDArray[np.int64]]
    messages: tuple[tuple[Message, ...], ...] = ()
    corrupted: Role = Role.CLIENT

    @property
    def n(self) -> int:
        return len(self.words)

    def take(self, rows: NDArray[np.int64]) -> Views:
        """The views of some of the runs."""
        return Views(
            self.layout,
            self.words[rows],
            self.structures[rows],
            self.kinds,
            {label: counts[rows] for label, counts in self.histograms.items()},
            tuple(self.messages[i] for i in rows) if self.messages else (),
            self.corrupted,
        )


def bare(label: str) -> str:
    """A label without the number of its run."""
    return _RUN.sub("", label)


def leaves(value: Any) -> Iterator[RingArray]:
    """The ring arrays of a nested value, in order."""
    if isinstance(value, RingArray):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)


def fact_of(direction: str, label: str, spec: AnySpec, depth: int) -> Fact:
    """One message of a structure."""
    kind = f"z2^{spec.ring.l}" if isinstance(spec, Spec) else spec.kind
    return direction, bare(label), kind, (*spec.shape, spec.nbytes), depth


def _fact(message: Message, corrupted: Role) -> Fact:
    direction = "sent" if message.sender is corrupted else "received"
    return fact_of(direction, message.label, message.spec, message.depth)


def _content(message: Message, corrupted: Role) -> tuple[list[RingArray], bytes | None]:
    """What a message says to a party: arrays, or bytes, or nothing.

    The arrays in a byte string of the hybrid world are for the receiver alone: its sender holds a ciphertext.
    """
    content = message.content
    if not isinstance(content, Blob):
        return list(leaves(content)), None
    if content.sealed:
        return [], None
    if isinstance(content.data, bytes):
        return [], content.data
    return ([] if message.sender is corrupted else list(leaves(content.data))), None


Given = Sequence[tuple[Kind, str, Any]]  # kind, label, array or bytes: what the party has besides messages


def raw_view(execution: Execution, corrupted: Role, given: Given) -> Raw:
    """One ordinary run."""
    collected = list(_walk(execution, corrupted, given))
    arrays: list[tuple[Source, Words]] = []
    histograms: dict[str, NDArray[np.int64]] = {}
    for kind, label, content in collected:
        if isinstance(content, RingArray):
            source = Source(kind, label, content.ring.l, content.size)
            words = to_words(content).reshape(-1)
        else:
            source = Source(kind, label, 8, len(content), opaque=True)
            words = np.frombuffer(content, np.uint8)
            if kind == "received" and len(content) > LONG_BYTES:
                histograms[label] = np.bincount(words, minlength=256)
        arrays.append((source, words[source.places].astype(np.uint64)))
    return Raw(_facts(execution, corrupted), arrays, histograms)


def _facts(execution: Execution, corrupted: Role) -> tuple[Fact, ...]:
    return tuple(_fact(message, corrupted) for message in execution.messages)


def _walk(execution: Execution, corrupted: Role, given: Given) -> Iterator[tuple[Kind, str, Any]]:
    """(kind, label, array or bytes) of everything in a view, with labels that are unique per kind."""
    yield from given
    for message in execution.messages:
        kind: Kind = "sent" if message.sender is corrupted else "received"
        arrays, data = _content(message, corrupted)
        yield from ((kind, _numbered(bare(message.label), i), x) for i, x in enumerate(arrays))
        if data is not None:
            yield kind, bare(message.label), data
    for label, outputs in execution.ideals:
        for i, x in enumerate(leaves(outputs[corrupted])):
            yield "functionality", _numbered(bare(label), i), x
    for i, x in enumerate(leaves(execution.outputs[corrupted])):
        yield "output", _numbered("result", i), x


def _numbered(label: str, i: int) -> str:
    return f"{label}.{i + 1}" if i else label


def tabulate(
    raws: Sequence[Raw], layout: Layout, corrupted: Role, messages: Sequence[tuple[Message, ...]] = ()
) -> Views:
    """Ordinary runs as a table. A run of another structure has zeros where it lacks a column; its facts tell."""
    words = np.zeros((len(raws), layout.width), np.uint64)
    kinds: dict[tuple[Fact, ...], int] = {}
    structures = np.array([kinds.setdefault(raw.facts, len(kinds)) for raw in raws], np.int64)
    labels = sorted({label for raw in raws for label in raw.histograms})
    histograms = {label: np.zeros((len(raws), 256), np.int64) for label in labels}
    for i, raw in enumerate(raws):
        for source, found in raw.arrays:
            at = layout.index.get((source.kind, source.label))
            if at is not None and layout.sources[at] == source:
                words[i, layout.starts[at] : layout.starts[at + 1]] = found
        for label, counts in raw.histograms.items():
            histograms[label][i] = counts
    return Views(layout, words, structures, tuple(kinds), histograms, tuple(messages), corrupted)


def layout_of(raw: Raw) -> Layout:
    """The arrangement of a reference run."""
    return Layout([source for source, _ in raw.arrays])


def batch_views(execution: Execution, corrupted: Role, given: Given, batch: Batch) -> Views:
    """All lanes of a batched run: one structure, by construction."""
    sources: list[Source] = []
    columns: list[Words] = []
    for kind, label, x in _walk(execution, corrupted, given):
        if not isinstance(x, RingArray):
            raise TypeError(f"{kind} {label}: a batched run has ring arrays only, got {type(x).__name__}")
        source = Source(kind, label, x.ring.l, x.size)
        sources.append(source)
        columns.append(batch.lower(x)[:, source.places])
    words = np.concatenate(columns, axis=1) if columns else np.zeros((batch.lanes, 0), np.uint64)
    structure = _facts(execution, corrupted)
    return Views(Layout(sources), words, np.zeros(batch.lanes, np.int64), (structure,), {}, (), corrupted)
