"""What is looked at in a view: words, bits, pairs of words, sums of arrays, byte histograms. Which, is decided
before any run: by the layout and nothing else.

`Features.of(views)` gives one block's sufficient statistics; those of several blocks are added up.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.classes import generator
from transcripts.views import Layout, Source, Words

MOST_PAIRS = 1500
NEAR = 2  # columns of one array up to this far apart are a pair
TOP, LOW = 4, 4  # bits of the value bins
WIDE = 64
NEAR_KINDS = ("received", "output", "input", "result")  # what is closest to the protocol text
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def normalised(words: Words, bits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Signed representatives in [-1, 1); a bit as -1 or +1."""
    shift = np.uint64(WIDE) - bits.astype(np.uint64)
    signed = (words << shift).view(np.int64).astype(np.float64) / 2.0**63
    return np.where(bits == 1, 2.0 * words - 1.0, signed)


def histogram(cells: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """Counts per column, (columns, bins), of small integers (n, columns)."""
    columns = cells.shape[1]
    flat = (cells.astype(np.int64) + bins * np.arange(columns, dtype=np.int64)).reshape(-1)
    return np.bincount(flat, minlength=bins * columns).reshape(columns, bins)


def top(words: Words, bits: NDArray[np.int64], count: int) -> Words:
    """The highest `count` bits (all of a narrower word)."""
    return np.asarray(words >> np.maximum(bits - count, 0).astype(np.uint64))


def low(words: Words, count: int) -> Words:
    return np.asarray(words & np.uint64((1 << count) - 1))


def hashed(words: Words) -> Words:
    """Words into 16 bins by a multiplicative hash: what takes few values differs there, wherever its bits are."""
    return np.asarray((words * _GOLDEN) >> np.uint64(WIDE - 4))


def array_sums(words: Words, layout: Layout) -> tuple[Words, list[Source]]:
    """The ring sum of every array with more than one word (the parity, of bits), as further columns."""
    chosen = [i for i, s in enumerate(layout.sources) if s.size > 1 and not s.opaque]
    sums = np.zeros((len(words), len(chosen)), np.uint64)
    for k, i in enumerate(chosen):
        bits = layout.sources[i].bits
        total = words[:, layout.starts[i] : layout.starts[i + 1]].sum(1, dtype=np.uint64)
        sums[:, k] = total & np.uint64((1 << bits) - 1)
    return sums, [layout.sources[i] for i in chosen]


class Pairs:
    """Which pairs of columns are looked at: aligned words of two arrays of one width, neighbours in an array, and
    pairs without a reason; at most MOST_PAIRS, chosen by a generator that knows the layout only."""

    def __init__(self, layout: Layout) -> None:
        chosen: dict[tuple[int, int], None] = {}
        rng = generator("pairs", *layout.sources)
        for candidates in (_aligned(layout, NEAR_KINDS), _neighbours(layout), _aligned(layout), _any(layout, rng)):
            room = min(MOST_PAIRS // 3, MOST_PAIRS - len(chosen))
            if len(candidates) > room:
                candidates = candidates[np.sort(rng.choice(len(candidates), room, replace=False))]
            chosen.update(dict.fromkeys((int(i), int(j)) for i, j in candidates))
        pairs = np.array(list(chosen), np.int64).reshape(-1, 2)
        self.left, self.right = pairs[:, 0], pairs[:, 1]
        self.one_ring = (layout.bits[self.left] == layout.bits[self.right]) & (layout.bits[self.left] > 1)

    def __len__(self) -> int:
        return len(self.left)


def _neighbours(layout: Layout) -> NDArray[np.int64]:
    runs = [
        np.arange(start, stop - gap) for start, stop in pairwise(layout.starts.tolist()) for gap in range(1, NEAR + 1)
    ]
    gaps = np.repeat(np.tile(np.arange(1, NEAR + 1), len(layout.sources)), [len(run) for run in runs])
    left = np.concatenate(runs) if runs else np.zeros(0, np.int64)
    return np.stack([left, left + gaps], axis=1)


def _aligned(layout: Layout, kinds: tuple[str, ...] = ()) -> NDArray[np.int64]:
    """Word k of one array with word k of another of the same width (of these kinds): what a reused mask would join."""
    by_width: dict[int, list[int]] = {}
    for i, source in enumerate(layout.sources):
        if not source.opaque and (not kinds or source.kind in kinds):
            by_width.setdefault(source.bits, []).append(i)
    starts, sizes = layout.starts[:-1], np.diff(layout.starts)
    joined = [(i, j) for members in by_width.values() for a, i in enumerate(members) for j in members[a + 1 : a + 33]]
    ends = np.array(joined, np.int64).reshape(-1, 2)
    counts = np.minimum(sizes[ends].min(1, initial=8), 8)
    word = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(starts[ends], counts, axis=0) + word[:, None])


def _any(layout: Layout, rng: np.random.Generator) -> NDArray[np.int64]:
    width = layout.width
    if width < 2:
        return np.zeros((0, 2), np.int64)
    if width * (width - 1) // 2 <= MOST_PAIRS:
        return np.stack(np.triu_indices(width, 1), axis=1)
    drawn = np.sort(rng.integers(0, width, (MOST_PAIRS, 2)), axis=1)
    return np.asarray(drawn[drawn[:, 0] != drawn[:, 1]])


class Features:
    """The features of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.sums = array_sums(np.zeros((0, layout.width), np.uint64), layout)[1]
        self.bits = np.concatenate([layout.bits, np.array([s.bits for s in self.sums], np.int64)])

    @cached_property
    def pairs(self) -> Pairs:
        return Pairs(self.layout)

    def name(self, i: int) -> tuple[str, str]:
        """(label, word) of a column."""
        width = self.layout.width
        return self.layout.column(i) if i < width else (str(self.sums[i - width]), "sum of its words")

    def columns(self, words: Words) -> Words:
        """The table with the array sums beside it."""
        return np.concatenate([words, array_sums(words, self.layout)[0]], axis=1)

    def pair_name(self, i: int) -> tuple[str, str]:
        (a, x), (b, y) = (self.name(int(side[i])) for side in (self.pairs.left, self.pairs.right))
        return (a, f"{x} with {y}") if a == b else (f"{a} with {b}", f"{x} with {y}")


@lru_cache(maxsize=32)
def _features(sources: tuple[Source, ...]) -> Features:
    return Features(Layout(sources))


def features_of(layout: Layout) -> Features:
    """The features of a layout, made once."""
    return _features(layout.sources)
