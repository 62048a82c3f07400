"""Linear relations: sums modulo 2 of any number of lowest bits of a view that do not vary within a class.

A mask that is used twice, three messages whose masks cancel, pads that add up to zero: each makes some parity of the
view constant. The relations are learnt by Gaussian elimination on a part of one class, and tested on the rest of it
against the other class: a parity that is fixed there and random, or fixed otherwise, here is a leak of any weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from transcripts.analysers import Findings, Place, Summary, findings
from transcripts.statistics import Test, chi2
from transcripts.views import Layout, Source, Views

WINDOW = 512  # bits among which relations are sought
MOST_WINDOWS = 8
SPARE = 48  # runs beyond the number of bits: a chance relation survives with probability 2^-SPARE
FIRST_KINDS = ("received", "output", "input", "result", "sent", "draw")
Bits = NDArray[np.uint8]


def windows(layout: Layout) -> tuple[NDArray[np.int64], ...]:
    """Columns in which relations are sought: first those closest to the protocol text, small arrays before large ones;
    where that is not all of them, overlapping windows in the order of the view as well."""
    return _windows(layout.sources)


@lru_cache(maxsize=32)
def _windows(sources: tuple[Source, ...]) -> tuple[NDArray[np.int64], ...]:
    layout = Layout(sources)
    opaque = np.array([s.opaque for s in sources], bool)
    nearest = [FIRST_KINDS.index(s.kind) if s.kind in FIRST_KINDS else len(FIRST_KINDS) for s in sources]
    columns = np.flatnonzero(~opaque[layout.source])
    of = layout.source[columns]
    near = columns[np.lexsort((columns, np.array([s.size for s in sources])[of], np.array(nearest)[of]))]
    if len(columns) <= WINDOW:
        return (near,) if len(columns) else ()
    last = len(columns) - WINDOW
    count = min(MOST_WINDOWS, -(-2 * last // WINDOW) + 1)
    starts = np.linspace(0, last, count).astype(int)
    return near[:WINDOW], *(columns[start : start + WINDOW] for start in starts)


def relations(bits: Bits) -> Bits:
    """A basis of all z with z . row constant over the rows of a 0/1 matrix (n, m): (k, m)."""
    moved = bits ^ bits[:1]
    m = bits.shape[1]
    # Eliminate on the transpose beside an identity: rows that become zero carry the relations.
    left, right = np.packbits(moved.T, axis=1), np.packbits(np.eye(m, dtype=np.uint8), axis=1)
    work = np.concatenate([left, right], axis=1)
    at = 0
    for column in range(moved.shape[0]):
        byte, shift = column >> 3, 7 - (column & 7)
        hits = np.flatnonzero((work[at:, byte] >> shift) & 1) + at
        if not len(hits):
            continue
        if hits[0] != at:
            work[[at, hits[0]]] = work[[hits[0], at]]
        work[hits[1:]] ^= work[at]
        at += 1
        if at == m:
            break
    return np.unpackbits(work[at:, left.shape[1] :], axis=1)[:, :m]


class Parity:
    """See the module."""

    name = "parity"

    def collect(self, views: Views) -> Summary:
        lowest = (views.words & np.uint64(1)).astype(np.uint8)
        kept: Summary = {"n": np.array([views.n])}
        for k, columns in enumerate(windows(views.layout)):
            kept[f"rows{k}"] = np.packbits(lowest[:, columns], axis=1)
        return kept

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        chosen = windows(layout)
        tests: list[Test] = []
        members: list[NDArray[np.int64]] = []
        for k, columns in enumerate(chosen):
            a, b = (np.unpackbits(v[f"rows{k}"], axis=1)[:, : len(columns)] for v in (first, second))
            learnt = 3 * len(a) // 4
            columns = columns[: max(learnt - SPARE, 0)]
            a, b = a[:, : len(columns)], b[:, : len(columns)]
            if not len(columns):
                continue
            basis = relations(a[:learnt])
            if len(basis):
                tests.append(_parities(basis, a[learnt:], b))
                members += [columns[np.flatnonzero(z)] for z in basis]
        return _findings(tests, members, layout)


def _parities(basis: Bits, a: Bits, b: Bits) -> Test:
    """Per relation, how often the parity is one in each class."""
    ones = [((rows.astype(np.int64) @ basis.T.astype(np.int64)) & 1).sum(0) for rows in (a, b)]
    counts = [np.stack([len(rows) - one, one], axis=-1) for rows, one in zip((a, b), ones, strict=True)]
    return chi2(*counts)


def _findings(tests: Sequence[Test], members: Sequence[NDArray[np.int64]], layout: Layout) -> Findings:
    """All relations as ONE feature, its p-value corrected for their number: another sample has other relations."""
    if not tests:
        return findings(Parity.name, Test(np.ones(1), np.zeros(1), np.zeros(1, bool)), lambda i: ("", "parity"))
    p, effect = np.concatenate([t.p for t in tests]), np.concatenate([t.effect for t in tests])
    best = int(np.argmin(p))

    def place(i: int) -> Place:
        named = [layout.column(int(c)) for c in members[best][:4]]
        text = " + ".join(f"{label} {word}" for label, word in named)
        return text + (f" + {len(members[best]) - 4} more" if len(members[best]) > 4 else ""), "parity of lowest bits"

    corrected = np.array([min(1.0, float(p[best]) * len(p))])
    return findings(Parity.name, Test(corrected, effect[best : best + 1], np.ones(1, bool)), place)
