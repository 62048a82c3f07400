"""What a leak is worth: predict an item's label, and its tokens, from everything that a corrupted server sees.

One attack for all protocols. Columns of the view are ranked by their F statistic on the training items, the best ones
and the public length and place go to a logistic regression, and items it never saw decide. Every item is predicted
once, by the rule of the folds that do not hold it; how many columns a rule takes is learnt inside its folds. Beside it
stand the best constant guess and the same classifier on the public length and place alone: what anyone knows who sees
nothing of the content.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.classes import generator
from transcripts.extraction import Key
from transcripts.subjects import Items

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rows = Mapping[Key, NDArray[Any]]
FOLDS = 4
SIZES = (8, 32, 128)  # columns that go to the classifier: how many is learnt
PRODUCTS = 8  # of them are also multiplied with the place of the token
TOKENS_PER_ITEM = 5
Z95 = 1.959963984540054
PENALTY = 0.05  # inverse strength of the ridge


@dataclass(frozen=True)
class Score:
    """right of n held-out predictions, with the 95 % Wilson interval of the accuracy."""

    right: int
    n: int

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        n, p, z = self.n, self.accuracy, Z95
        centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)

    @property
    def half_width(self) -> float:
        low, high = self.interval
        return (high - low) / 2


@dataclass(frozen=True)
class Question:
    """What is predicted. rows: the item of each prediction; places: its token, or None for a question about items.
    truth: the answers. public: what anyone knows, (rows, columns): the length, and the place of the token. place: that
    place alone, one-hot; no columns for a question about items."""

    name: str
    rows: Ints
    places: Ints | None
    truth: Ints
    public: Floats
    place: Floats

    def of(self, keep: NDArray[np.bool_]) -> Question:
        """The question about some of the rows."""
        places = None if self.places is None else self.places[keep]
        return Question(self.name, self.rows[keep], places, self.truth[keep], self.public[keep], self.place[keep])


def label_question(items: Items) -> Question:
    """Which class an item has."""
    public = one_hot(items.lengths)
    return Question("label", np.arange(len(items)), None, items.labels, public, public[:, :0])


def token_question(items: Items, seed: str) -> Question:
    """Which of the known tokens stands at a place: TOKENS_PER_ITEM places of every item at most, drawn by the seed."""
    rng = generator(seed, "places")
    rows, places, truth = [], [], []
    for row, identity in enumerate(items.identities):
        known = np.flatnonzero(identity >= 0)
        for place in rng.permutation(known)[:TOKENS_PER_ITEM]:
            rows.append(row)
            places.append(int(place))
            truth.append(int(identity[place]))
    at, of = np.array(rows, np.int64), np.array(places, np.int64)
    place = (of[:, None] == np.unique(of)).astype(np.float64)
    public = np.concatenate([one_hot(items.lengths)[at], place], axis=1)
    return Question("token", at, of, np.array(truth, np.int64), public, place)


def one_hot(values: Ints) -> Floats:
    """A column per value; (n, 0) where there is one only."""
    known = np.unique(values)
    return np.asarray(values[:, None] == known[1:], np.float64)


def fold_of(runs: int, seed: str) -> Ints:
    """The fold of every item."""
    return np.asarray(generator(seed, "folds").permutation(runs) % FOLDS)


class Moments:
    """Sums and squares of every column by fold and class: what the F statistic of any set of folds needs."""

    def __init__(self, columns: Rows, truth: Ints, fold: Ints) -> None:
        classes = int(truth.max()) + 1
        cell = fold * classes + truth
        self._shape = (FOLDS, classes)
        hot = np.asarray(cell == np.arange(self._shape[0] * classes)[:, None])
        self._count = hot.sum(1).reshape(self._shape)
        self._sums: dict[Key, Floats] = {}
        self._squares: dict[Key, Floats] = {}
        by_fold = np.asarray(fold == np.arange(self._shape[0])[:, None])
        for key, part in columns.items():
            # Sums of bytes and of their squares are exact in single precision; other columns are few.
            kind = "float32" if part.dtype == np.int8 else "float64"
            x: Floats = part.astype(kind)
            if kind == "float64":
                x = x - x[:1]  # large sizes, of which only the differences count
            self._sums[key] = (hot.astype(kind) @ x).astype(np.float64)
            self._squares[key] = (by_fold.astype(kind) @ (x * x)).astype(np.float64)

    def f(self, training: Sequence[int]) -> dict[Key, Floats]:
        """F statistic of every column against the classes, over these folds; 0 for a constant one."""
        folds = list(training)
        count = self._count[folds].sum(0)
        kept = count > 0
        n, groups = int(count.sum()), int(kept.sum())
        found: dict[Key, Floats] = {}
        for key, sums in self._sums.items():
            by_class = sums.reshape(*self._shape, -1)[folds].sum(0)[kept]
            level = by_class.sum(0) ** 2 / n
            total = self._squares[key][folds].sum(0) - level
            between = (by_class**2 / count[kept, None]).sum(0) - level
            moving = total > 1e-9 * (level + 1)
            within = np.maximum(total - between, 1e-9 * np.maximum(total, 1e-9))
            f = (between / max(groups - 1, 1)) / (within / max(n - groups, 1))
            found[key] = np.where(moving, f, 0.0)
        return found


def best(found: Mapping[Key, Floats], columns: Rows, training: NDArray[np.bool_], most: int) -> list[tuple[Key, int]]:
    """The columns of the largest F, ties by key and place; of columns that are equal in training the first one."""
    keys = sorted(found)
    every = np.concatenate([found[key] for key in keys]) if keys else np.zeros(0)
    starts = np.cumsum([0, *(len(found[key]) for key in keys)])
    chosen: list[tuple[Key, int]] = []
    seen: set[bytes] = set()
    for i in np.argsort(-every, kind="stable")[: 8 * most]:
        at = int(np.searchsorted(starts, i, side="right")) - 1
        key, place = keys[at], int(i - starts[at])
        content = columns[key][training, place].tobytes()
        if every[i] > 0 and content not in seen and len(chosen) < most:
            seen.add(content)
            chosen.append((key, place))
    return chosen


def gathered(columns: Rows, chosen: list[tuple[Key, int]], question: Question) -> Floats:
    """The chosen columns, the public ones, and the products of the best ones with the place."""
    parts = [columns[key][:, place].astype(np.float64) for key, place in chosen]
    x = np.stack(parts, axis=1) if parts else np.zeros((len(question.truth), 0))
    products = x[:, :PRODUCTS, None] * question.place[:, None, :]
    return np.concatenate([x, question.public, products.reshape(len(x), -1)], axis=1)


def fit_and_guess(x: Floats, y: Ints, unseen: Floats) -> Ints:
    """Logistic regression on standardised columns; the most frequent class where there is nothing to learn from."""
    spread = x.std(0)
    x, unseen, spread = x[:, spread > 0], unseen[:, spread > 0], spread[spread > 0]
    if not x.shape[1] or not len(unseen) or len(np.unique(y)) < 2:
        return np.full(len(unseen), np.bincount(y).argmax())
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with sklearn, has no types

    centre = x.mean(0)
    rule = LogisticRegression(C=PENALTY, max_iter=200)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rule that has not quite converged is a rule
        rule.fit((x - centre) / spread, y)
        return np.asarray(rule.predict((unseen - centre) / spread), np.int64)


@dataclass(frozen=True)
class Answered:
    """A question's outcome for one protocol. used: the columns that the rules used most often, with how often."""

    score: Score
    used: tuple[tuple[str, int], ...]


class Learner:
    """How many columns, and which, from training folds alone: the last of them judges the sizes."""

    def __init__(self, columns: Rows, question: Question, fold: Ints) -> None:
        self._columns, self._question, self._fold = columns, question, fold
        self._moments = Moments(columns, question.truth, fold)

    def columns(self, training: Sequence[int]) -> list[tuple[Key, int]]:
        """The columns for a rule that learns from these folds."""
        *inner, judge = training
        learn, check = np.isin(self._fold, inner), self._fold == judge
        ranked = best(self._moments.f(inner), self._columns, learn, SIZES[-1])
        right = []
        for size in SIZES if ranked else SIZES[:1]:
            x = gathered(self._columns, ranked[:size], self._question)
            guess = fit_and_guess(x[learn], self._question.truth[learn], x[check])
            right.append(int((guess == self._question.truth[check]).sum()))
        size = SIZES[int(np.argmax(right))]
        return best(self._moments.f(training), self._columns, learn | check, size)

    def guess(self, training: Sequence[int], unseen: Floats, chosen: list[tuple[Key, int]]) -> Ints:
        """Answers for rows of the chosen columns, learnt from these folds."""
        learn = np.isin(self._fold, list(training))
        x = gathered(self._columns, chosen, self._question)
        return fit_and_guess(x[learn], self._question.truth[learn], unseen)


def attack(columns: Rows, question: Question, fold: Ints) -> Answered:
    """Predict every row from the folds that do not hold its item. columns: (rows of the question, words) per key."""
    own, right = fold[question.rows], 0
    learner = Learner(columns, question, own)
    used: dict[str, int] = {}
    for k in range(FOLDS):
        training = [(k + i) % FOLDS for i in range(1, FOLDS)]
        chosen = learner.columns(training)
        for key, _ in chosen:
            used[_said(key)] = used.get(_said(key), 0) + 1
        guess = learner.guess(training, gathered(columns, chosen, question)[own == k], chosen)
        right += int((guess == question.truth[own == k]).sum())
    most = sorted(used.items(), key=lambda item: (-item[1], item[0]))[:3]
    return Answered(Score(right, len(own)), tuple(most))


def transferred(learnt: Rows, question: Question, fold: Ints, other: Rows, asked: Question) -> Answered:
    """Learn from all rows of one set of views, predict those of another. Only columns that both have are used."""
    common = {key: part[:, : other[key].shape[1]] for key, part in learnt.items() if key in other}
    learner, folds = Learner(common, question, fold[question.rows]), list(range(FOLDS))
    chosen = learner.columns(folds)
    guess = learner.guess(folds, gathered(other, chosen, asked), chosen)
    score = Score(int((guess == asked.truth).sum()), len(guess))
    return Answered(score, tuple((_said(key), 1) for key, _ in chosen[:3]))


def _said(key: Key) -> str:
    kind, label, what = key
    return f"{kind} {label}, {what}"


def majority(question: Question) -> Score:
    """The best constant guess, in hindsight."""
    return Score(int(np.bincount(question.truth).max()), len(question.truth))


def public_only(question: Question, fold: Ints) -> Score:
    """The same classifier on the public columns alone."""
    return attack({}, question, fold).score
