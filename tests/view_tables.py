"""Tables of views without a run: planted leaks of known size for the tests of the analysers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.analysers import Analyser, Findings
from transcripts.views import Fact, Layout, Source, Views

Columns = Mapping[str, tuple[int, NDArray[Any]]]  # label -> (bits, words (n, size))
FACTS: tuple[Fact, ...] = (("received", "word", "z2^8", (1, 1), 1),)


def table(columns: Columns, structures: tuple[tuple[Fact, ...], ...] = (FACTS,), of: Any = None) -> Views:
    """Received arrays with these words. of: per run, which of the structures it has."""
    layout = Layout([Source("received", label, bits, words.shape[1]) for label, (bits, words) in columns.items()])
    words = np.concatenate([np.asarray(w).astype(np.uint64) for _, w in columns.values()], axis=1)
    kinds = np.zeros(len(words), np.int64) if of is None else np.asarray(of)
    return Views(layout, words, kinds, structures, {})


def noise(rng: np.random.Generator, n: int, *arrays: tuple[int, int]) -> dict[str, tuple[int, NDArray[Any]]]:
    """Uniform arrays (bits, size)."""
    return {
        f"noise{i}": (bits, rng.integers(0, (1 << bits) - 1, (n, size), np.uint64, endpoint=True))
        for i, (bits, size) in enumerate(arrays)
    }


def compare(analyser: Analyser, first: Views, second: Views) -> Findings:
    return analyser.compare(analyser.collect(first), analyser.collect(second), first.layout, "seed")


def smallest(analyser: Analyser, first: Views, second: Views) -> float:
    """The smallest p-value, corrected for the features of this analyser alone."""
    found = compare(analyser, first, second)
    return min(1.0, float(found.p.min(initial=1.0)) * max(found.tested, 1))
