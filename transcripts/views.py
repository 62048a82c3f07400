"""The view of a corrupted party, as data: what it was given, drew, sent, received and put out, run by run.

A view never contains a time. Its STRUCTURE is the list of messages in both directions with label, order, kind, size and
causal depth; its CONTENT is a table of words, one column per word, in the arrangement (`Layout`) of a reference run.
Arrays are their ring elements, byte strings their bytes. Of long ones a choice of places is kept, because a test per
byte of a megabyte would cost the others their power, and a histogram of all bytes beside it; of a view of many words
every array keeps its share of MOST_COLUMNS. The places of words are drawn by a generator that knows the array alone.
A content that the view does not have (sealed in the hybrid world) is no column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim.concrete import to_words
from sim.message import Message
from sim.ring import RingArray, Spec
from sim.role import Role
from sim.wire import AnySpec, Blob
from sim.world import Execution
from transcripts.batch import Batch, Strings
from transcripts.classes import generator

Kind = Literal["input", "draw", "sent", "received", "functionality", "result", "output"]
Words = NDArray[np.uint64]
LONG_BYTES = 64  # columns kept of one byte string
LONG_WORDS = 1024  # columns kept of one array
MOST_COLUMNS = 1 << 14  # columns kept of a whole view, unless it has more arrays
_RUN = re.compile(r"^r[0-9]+/")
# A description of a message without its content: direction, label, kind, dtype, sizes, depth.
Fact = tuple[str, str, str, tuple[int, ...], int]


@dataclass(frozen=True)
class Source:
    """One array of a view. bits: width of its words (8: bytes of a byte string, `opaque`). size: words it has.

    most: how many of them are kept.
    """

    kind: Kind
    label: str
    bits: int
    size: int
    opaque: bool = False
    most: int = LONG_WORDS

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The words that are kept: of bytes evenly spread ones, of words a fixed choice without a period."""
        most = min(self.most, LONG_BYTES) if self.opaque else self.most
        if self.size <= most:
            return np.arange(self.size)
        if self.opaque:
            return np.linspace(0, self.size - 1, most).astype(np.int64)
        rng = generator("places", self.kind, self.label, self.size)
        return np.sort(rng.choice(self.size, most, replace=False))

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

    @property
    def words(self) -> int:
        """How many words the view has, of which `width` are kept."""
        return sum(source.size for source in self.sources)

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

    histograms: received byte strings, label -> (n, 256) counts.
    """

    layout: Layout
    words: Words
    structures: NDArray[np.int64]
    kinds: tuple[tuple[Fact, ...], ...]
    histograms: dict[str, NDArray[np.int64]]
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


def _content(message: Message, corrupted: Role) -> tuple[list[RingArray], bytes | Strings | None]:
    """What a message says to a party: arrays, or bytes (of every lane), or nothing.

    The arrays in a byte string of the hybrid world are for the receiver alone: its sender holds a ciphertext.
    """
    content = message.content
    if not isinstance(content, Blob):
        return list(leaves(content)), None
    if content.sealed:
        return [], None
    if isinstance(content.data, bytes | Strings):
        return [], content.data
    return ([] if message.sender is corrupted else list(leaves(content.data))), None


def thinned(sources: Sequence[Source]) -> list[Source]:
    """The sources with the largest `most` that all of them can have within MOST_COLUMNS: one at least."""
    sizes = [len(source.places) for source in sources]
    if sum(sizes) <= MOST_COLUMNS:
        return list(sources)
    low, high = 1, LONG_WORDS
    while low < high:
        middle = (low + high + 1) // 2
        fits = sum(min(size, middle) for size in sizes) <= MOST_COLUMNS
        low, high = (middle, high) if fits else (low, middle - 1)
    return [replace(source, most=low) for source in sources]


Given = Sequence[tuple[Kind, str, Any]]  # kind, label, array or bytes: what the party has besides messages


def raw_view(execution: Execution, corrupted: Role, given: Given) -> Raw:
    """One ordinary run."""
    collected = list(contents(execution, corrupted, given))
    arrays: list[tuple[Source, Words]] = []
    histograms: dict[str, NDArray[np.int64]] = {}
    sources = thinned([_source(*entry) for entry in collected])
    for source, (kind, label, content) in zip(sources, collected, strict=True):
        if isinstance(content, RingArray):
            words = to_words(content).reshape(-1)[source.places]
        else:
            string = np.frombuffer(content, np.uint8)
            words = string[source.places].astype(np.uint64)
            if kind == "received" and len(content) > LONG_BYTES:
                histograms[label] = byte_counts(string)
        arrays.append((source, words))
    return Raw(_facts(execution, corrupted), arrays, histograms)


def _source(kind: Kind, label: str, content: RingArray | bytes | Strings) -> Source:
    if isinstance(content, RingArray):
        return Source(kind, label, content.ring.l, content.size)
    return Source(kind, label, 8, len(content[0] if isinstance(content, Strings) else content), opaque=True)


def byte_counts(words: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often every byte value occurs. Two bytes are counted at a time: that is what `bincount` takes longest for."""
    even = len(words) & ~1
    pairs = np.bincount(np.ascontiguousarray(words[:even]).view(np.uint16), minlength=1 << 16).reshape(256, 256)
    return np.asarray(pairs.sum(0) + pairs.sum(1) + np.bincount(words[even:], minlength=256))


def _facts(execution: Execution, corrupted: Role) -> tuple[Fact, ...]:
    return tuple(_fact(message, corrupted) for message in execution.messages)


def contents(execution: Execution, corrupted: Role, given: Given) -> Iterator[tuple[Kind, str, Any]]:
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


def tabulate(raws: Sequence[Raw], layout: Layout, corrupted: Role) -> Views:
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
    return Views(layout, words, structures, tuple(kinds), histograms, corrupted)


def layout_of(raw: Raw) -> Layout:
    """The arrangement of a reference run."""
    return Layout([source for source, _ in raw.arrays])


def batch_views(execution: Execution, corrupted: Role, given: Given, batch: Batch) -> Views:
    """All lanes of a batched run: one structure, by construction."""
    collected = list(contents(execution, corrupted, given))
    sources = thinned([_source(*entry) for entry in collected])
    columns: list[Words] = []
    histograms: dict[str, NDArray[np.int64]] = {}
    for source, (kind, label, content) in zip(sources, collected, strict=True):
        if isinstance(content, RingArray):
            columns.append(batch.lower(content)[:, source.places])
        elif isinstance(content, Strings):
            rows = [np.frombuffer(data, np.uint8) for data in content]
            columns.append(np.stack([row[source.places] for row in rows]).astype(np.uint64))
            if kind == "received" and source.size > LONG_BYTES:
                histograms[label] = np.stack([byte_counts(row) for row in rows])
        else:
            raise TypeError(f"{kind} {label}: expected content of every lane, got {type(content).__name__}")
    words = np.concatenate(columns, axis=1) if columns else np.zeros((batch.lanes, 0), np.uint64)
    structure = _facts(execution, corrupted)
    return Views(Layout(sources), words, np.zeros(batch.lanes, np.int64), (structure,), histograms, corrupted)


def stacked(parts: Sequence[Views]) -> Views:
    """The views of several batched runs of one layout, one after the other."""
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(kind for part in parts for kind in part.kinds))}
    structures = [np.array([kinds[kind] for kind in part.kinds], np.int64)[part.structures] for part in parts]
    labels = parts[0].histograms
    return Views(
        parts[0].layout,
        np.concatenate([part.words for part in parts]),
        np.concatenate(structures),
        tuple(kinds),
        {label: np.concatenate([part.histograms[label] for part in parts]) for label in labels},
        parts[0].corrupted,
    )
