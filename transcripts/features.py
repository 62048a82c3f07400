"""What is looked at in a view: words, bits, pairs of words, sums of arrays, byte histograms. Which, is decided
before any run: by the layout and nothing else.

`Features.of(views)` gives one block's sufficient statistics; those of several blocks are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
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
        for candidates in (
            list(_aligned(layout, NEAR_KINDS)),
            list(_neighbours(layout)),
            list(_aligned(layout)),
            _any(layout, rng),
        ):
            room = min(MOST_PAIRS // 3, MOST_PAIRS - len(chosen))
            if len(candidates) > room:
                keep = np.sort(rng.choice(len(candidates), room, replace=False))
                candidates = [candidates[i] for i in keep]
            chosen.update(dict.fromkeys(candidates))
        pairs = np.array(list(chosen), np.int64).reshape(-1, 2)
        self.left, self.right = pairs[:, 0], pairs[:, 1]
        self.one_ring = (layout.bits[self.left] == layout.bits[self.right]) & (layout.bits[self.left] > 1)

    def __len__(self) -> int:
        return len(self.left)


def _neighbours(layout: Layout) -> Iterator[tuple[int, int]]:
    for i in range(len(layout.sources)):
        start, stop = int(layout.starts[i]), int(layout.starts[i + 1])
        for gap in range(1, NEAR + 1):
            yield from ((c, c + gap) for c in range(start, stop - gap))


def _aligned(layout: Layout, kinds: tuple[str, ...] = ()) -> Iterator[tuple[int, int]]:
    """Word k of one array with word k of another of the same width (of these kinds): what a reused mask would join."""
    by_width: dict[int, list[int]] = {}
    for i, source in enumerate(layout.sources):
        if not source.opaque and (not kinds or source.kind in kinds):
            by_width.setdefault(source.bits, []).append(i)
    for members in by_width.values():
        for a, i in enumerate(members):
            for j in members[a + 1 : a + 33]:
                size = min(int(layout.starts[i + 1] - layout.starts[i]), int(layout.starts[j + 1] - layout.starts[j]))
                yield from ((int(layout.starts[i]) + k, int(layout.starts[j]) + k) for k in range(min(size, 8)))


def _any(layout: Layout, rng: np.random.Generator) -> list[tuple[int, int]]:
    width = layout.width
    if width < 2:
        return []
    if width * (width - 1) // 2 <= MOST_PAIRS:
        return [(i, j) for i in range(width) for j in range(i + 1, width)]
    drawn = rng.integers(0, width, (MOST_PAIRS, 2))
    return [(int(min(i, j)), int(max(i, j))) for i, j in drawn if i != j]


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
