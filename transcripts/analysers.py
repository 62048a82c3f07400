"""Analysers: each looks at views in one way, keeps what it needs of a block, and compares two classes.

The interface is small, so that others can be added: `collect` turns the views of a block into named arrays (they are
added up over blocks; names that start with `rows` are joined), `compare` turns the arrays of two classes into p-values.
Analysers are plain objects without state: they are sent to worker processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transcripts.features import LOW, TOP, WIDE, features_of, hashed, histogram, low, normalised, top
from transcripts.statistics import Test, chi2, power_sums, welch
from transcripts.views import Layout, Views

Summary = dict[str, NDArray[Any]]
Place = tuple[str, str]  # label, feature
JOINED = "rows"


@dataclass(frozen=True)
class Findings:
    """p-value and effect of every feature of one analyser in one comparison. place: names of a feature, on demand."""

    analyser: str
    p: NDArray[np.float64]
    effect: NDArray[np.float64]
    tested: int
    place: Callable[[int], Place]

    def smallest(self, count: int) -> list[int]:
        """Indices of the smallest p-values."""
        order = np.argsort(self.p, kind="stable")
        return [int(i) for i in order[:count]]


class Analyser(Protocol):
    """One way to look at views."""

    @property
    def name(self) -> str: ...

    def collect(self, views: Views) -> Summary:
        """Sufficient statistics of the runs of one class in one block."""

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        """Two classes; `seed` for whatever randomness the comparison itself needs."""


def merge(parts: Sequence[Summary]) -> Summary:
    """The summary of all blocks, in the order given."""
    keys = dict.fromkeys(key for part in parts for key in part)
    merged: Summary = {}
    for key in keys:
        found = [part[key] for part in parts if key in part]
        merged[key] = np.concatenate(found) if key.startswith(JOINED) else np.sum(found, axis=0)
    return merged


def findings(name: str, test: Test, place: Callable[[int], Place]) -> Findings:
    return Findings(name, test.p.reshape(-1), test.effect.reshape(-1), int(test.tested.sum()), place)


class Structure:
    """Labels, order, kinds, sizes and causal depths of all messages, both ways: exact equality over all runs."""

    name = "structure"

    def collect(self, views: Views) -> Summary:
        counts = np.bincount(views.structures, minlength=len(views.kinds))
        texts = [json.dumps(kind) for kind in views.kinds]
        return {text: np.array([count]) for text, count in zip(texts, counts.tolist(), strict=True) if count}

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        kinds = sorted({*first, *second})
        a, b = (np.array([[int(v[k][0]) if k in v else 0 for k in kinds]]) for v in (first, second))
        test = chi2(a, b)
        told = _difference([json.loads(k) for k in kinds])
        return findings(self.name, test, lambda i: told)


def _difference(kinds: list[Any]) -> Place:
    """The first place at which two of the structures part."""
    for one, other in pairwise(kinds):
        for a, b in zip(one, other, strict=False):
            if a != b:
                field = next(i for i in range(len(a)) if a[i] != b[i])
                what = ("order", "order", "kind", "size", "round")[field]
                return f"{a[0]} {a[1]}", f"{what} of messages"
        if len(one) != len(other):
            longer = max(one, other, key=len)
            direction, label, *_ = longer[min(len(one), len(other))]
            return f"{direction} {label}", "number of messages"
    return "all messages", "structure"


class Words:
    """Single words and array sums: value bins at both ends of the word, every bit, mean and variance."""

    name = "words"

    def collect(self, views: Views) -> Summary:
        features = features_of(views.layout)
        columns = features.columns(views.words)
        wide = np.flatnonzero(features.bits > 1)
        values, bits = columns[:, wide], features.bits[wide]
        return {
            "bits": bit_counts(columns, features.bits),
            "n": np.array([views.n]),
            "top": histogram(top(values, bits, TOP), 1 << TOP),
            "low": histogram(low(values, LOW), 1 << LOW),
            "moments": power_sums(normalised(values, bits)),
        }

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        features = features_of(layout)
        wide = np.flatnonzero(features.bits > 1)
        each = [_two_bins(v["bits"], v["n"]) for v in (first, second)]
        tests = {
            "bit": chi2(*each),
            "high bins": chi2(first["top"], second["top"]),
            "low bins": chi2(first["low"], second["low"]),
            "mean": welch(first["moments"], second["moments"]),
            "variance": welch(first["moments"], second["moments"], order=2),
        }
        # a word that is constant in both classes, with two constants: an infinite t
        fixed = [((v[..., 0] == 0) | (v[..., 1] == 0)) for v in each]
        split = fixed[0] & fixed[1] & (each[0][:, 0] * each[1][:, 1] + each[0][:, 1] * each[1][:, 0] > 0)
        tests["bit"].p[split] = 0.0
        owner = np.repeat(np.arange(len(features.bits)), features.bits)
        start = np.cumsum(features.bits) - features.bits

        def place(kind: str, k: int) -> Place:
            column = int(owner[k]) if kind == "bit" else int(wide[k])
            label, word = features.name(column)
            return label, f"{kind} {k - int(start[column])} of {word}" if kind == "bit" else f"{kind} of {word}"

        return _joined(self.name, tests, place)


def bit_counts(columns: NDArray[np.uint64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ones per bit, the bits of all columns in one row: sum(bits)."""
    start = np.cumsum(bits) - bits
    counts = np.zeros(int(bits.sum()), np.int64)
    narrow, wide = np.flatnonzero(bits == 1), np.flatnonzero(bits > 1)
    counts[start[narrow]] = columns[:, narrow].sum(0)
    places = start[wide][:, None] + np.arange(WIDE)
    has = np.arange(WIDE) < bits[wide][:, None]
    counts[places[has]] = _ones(columns[:, wide])[has]
    return counts


def _ones(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many rows have each bit of each column: (columns, 64). Adders on whole words, 64 counters at a time."""
    counts, power = np.zeros((words.shape[1], WIDE), np.int64), 0
    while len(words):
        carries = []
        while len(words) > 1:
            third = max(len(words) // 3, 1)
            a, b, c, rest = np.split(words, [third, 2 * third, 3 * third])
            c = c if len(c) else np.zeros_like(a)
            both = a ^ b
            carries.append((a & b) | (both & c))
            words = np.concatenate([both ^ c, rest])
        digits = np.unpackbits(words[0].astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        counts += digits.astype(np.int64) << power
        words, power = np.concatenate(carries) if carries else words[:0], power + 1
    return counts


def _two_bins(ones: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([n[0] - ones, ones], axis=-1)


def _joined(name: str, tests: dict[str, Test], place: Callable[[str, int], Place]) -> Findings:
    """Several tests as one analyser's findings."""
    kinds = list(tests)
    sizes = np.array([len(tests[kind].p) for kind in kinds])
    ends = np.cumsum(sizes)

    def where(i: int) -> Place:
        at = int(np.searchsorted(ends, i, side="right"))
        return place(kinds[at], i - int(ends[at] - sizes[at]))

    joined = Test(*(np.concatenate([getattr(tests[k], part) for k in kinds]) for part in ("p", "effect", "tested")))
    return findings(name, joined, where)


class PairsOfWords:
    """Two words at a time: differences, sums and xors (a mask used twice), products, and tables of their bits."""

    name = "pairs"

    def collect(self, views: Views) -> Summary:
        features = features_of(views.layout)
        columns, pairs = features.columns(views.words), features.pairs
        left, right = columns[:, pairs.left], columns[:, pairs.right]
        bits = features.bits[pairs.left]
        mask = np.where(
            bits == 64, np.uint64(2**64 - 1), (np.uint64(1) << (bits % 64).astype(np.uint64)) - np.uint64(1)
        )
        ring = np.flatnonzero(pairs.one_ring)
        u, v, m, l = left[:, ring], right[:, ring], mask[ring], bits[ring]
        kept: Summary = {}
        for name, derived in (("difference", (u - v) & m), ("sum", (u + v) & m), ("xor", u ^ v)):
            kept[f"{name} high"] = histogram(top(derived, l, TOP), 1 << TOP)
            kept[f"{name} low"] = histogram(low(derived, TOP), 1 << TOP)
            kept[f"{name} hashed"] = histogram(hashed(derived), 16)
        other = features.bits[pairs.right]
        kept["low bits"] = histogram(low(left, 2) << np.uint64(2) | low(right, 2), 16)
        kept["high bits"] = histogram(top(left, bits, 2) << np.uint64(2) | top(right, other, 2), 16)
        kept["product"] = power_sums(normalised(left, bits) * normalised(right, other))
        return kept

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        features = features_of(layout)
        ring = np.flatnonzero(features.pairs.one_ring)
        tests = {k: chi2(first[k], second[k]) for k in first if k != "product"}
        tests["product"] = welch(first["product"], second["product"])

        def place(kind: str, k: int) -> Place:
            of_ring = kind.split(" ")[0] in ("difference", "sum", "xor")
            label, words = features.pair_name(int(ring[k]) if of_ring else k)
            return label, f"{kind} of {words}"

        return _joined(self.name, tests, place)


class Bytes:
    """Histograms of all bytes of long byte strings: the mean count of each byte value in a run."""

    name = "bytes"

    def collect(self, views: Views) -> Summary:
        kept: Summary = {}
        for label, counts in views.histograms.items():
            share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            kept[label] = power_sums(share)
        return kept

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        labels = sorted({*first} & {*second})
        tests = {label: welch(first[label], second[label]) for label in labels}
        if not tests:
            nothing = Test(np.zeros(0), np.zeros(0), np.zeros(0, bool))
            return findings(self.name, nothing, lambda i: ("", ""))
        return _joined(self.name, tests, lambda label, k: (f"received {label}", f"frequency of byte {k}"))
