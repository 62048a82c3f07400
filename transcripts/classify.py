"""The classifier two-sample test: can a learnt rule tell the classes of held-out runs apart better than chance?

Gradient-boosted trees are fitted on half of the runs; the other half decides. Under the null the held-out labels are
exchangeable, so the permutation distribution of the right answers is hypergeometric and the p-value exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.analysers import Findings, Place, Summary, findings
from transcripts.classes import generator
from transcripts.features import normalised
from transcripts.statistics import Test, fisher
from transcripts.views import Layout, Views

COLUMNS = 48
MOST_RUNS = 2000  # of each class; more would cost time and buy little
TREES = 40


def chosen_columns(layout: Layout) -> NDArray[np.int64]:
    """At most COLUMNS words, spread over the arrays of the view: of every array its first, then its second, ..."""
    order = np.lexsort((layout.source, np.arange(layout.width) - layout.starts[layout.source]))
    return np.sort(order[:COLUMNS])


class Classifier:
    """See the module."""

    name = "classifier"

    def collect(self, views: Views) -> Summary:
        columns = chosen_columns(views.layout)
        return {"rows": normalised(views.words[:, columns], views.layout.bits[columns]).astype(np.float32)}

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        x, y = _balanced(first["rows"], second["rows"], seed)
        if len(x) < 40 or x.shape[1] == 0:
            return findings(self.name, Test(np.ones(1), np.zeros(1), np.zeros(1, bool)), _place)
        half = len(x) // 2
        guess = _guess(x[:half], y[:half], x[half:])
        truth = y[half:]
        table = [[int(((guess == g) & (truth == t)).sum()) for t in (1, 0)] for g in (1, 0)]
        right = (guess == truth).mean()
        return findings(self.name, Test(np.array([fisher(table)]), np.array([right - 0.5]), np.ones(1, bool)), _place)


def _place(i: int) -> Place:
    return "all arrays", "classifier's advantage on held-out runs"


def _balanced(a: NDArray[Any], b: NDArray[Any], seed: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Equally many runs of each class, shuffled."""
    size = min(len(a), len(b), MOST_RUNS)
    x = np.concatenate([a[:size], b[:size]])
    order = generator(seed, "classifier").permutation(2 * size)
    return x[order], np.repeat([0, 1], size)[order]


def _guess(x: NDArray[Any], y: NDArray[Any], held_out: NDArray[Any]) -> NDArray[Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # comes with sklearn

    rule = HistGradientBoostingClassifier(
        max_iter=TREES, max_leaf_nodes=8, learning_rate=0.2, early_stopping=False, random_state=0
    )
    with threadpool_limits(1):  # a few small trees: threads that wait for each other cost more than they do
        return np.asarray(rule.fit(x, y).predict(held_out))
