"""What a leak is worth: predict an item's label, and its tokens, from everything that a corrupted server sees.

One attack for all protocols. Columns of the view are ranked by their F statistic on the training items, the best ones
and the public length and place go to a logistic regression, and items it never saw decide. Every item is predicted
once, by the rule of the folds that do not hold it; how many columns a rule takes is learnt inside its folds. Beside it
stand the best constant guess and the same classifier on the public length and place alone: what anyone knows who sees
nothing of the content. What a token is goes with its place, and a route says another thing at another place: for
tokens the ranking is within places, and the best columns also enter multiplied with the place.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from transcripts.classes import generator
from transcripts.extraction import Key
from transcripts.screening import Floats, Ints, Mask, Rows, best, f_statistics
from transcripts.subjects import Items

FOLDS = 4
SIZES = (8, 32, 128)  # columns that go to the classifier: how many is learnt
PRODUCTS = (0, 8)  # of them are also multiplied with the place of the token: how many is learnt
TOKENS_PER_ITEM = 5
Z95 = 1.959963984540054
PENALTY = 0.05  # inverse strength of the ridge


@dataclass(frozen=True)
class Score:
    """right of n held-out predictions, with the 95 % Wilson interval of the accuracy.

    design: by how much the variance exceeds that of n independent predictions; tokens of one item are not independent.
    """

    right: int
    n: int
    design: float = 1.0

    @classmethod
    def of(cls, right: Mask, rows: Ints) -> Score:
        """The score of these answers about these items, the design effect estimated from the items' sums."""
        n, p = len(right), float(right.mean())
        sums = np.bincount(rows, right - p)
        spread = n * p * (1 - p)
        return cls(int(right.sum()), n, max(1.0, float((sums**2).sum()) / spread) if spread else 1.0)

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        n, p, z = self.n / self.design, self.accuracy, Z95
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

    @property
    def strata(self) -> Ints:
        """Within what columns are ranked: the places."""
        return np.zeros_like(self.rows) if self.places is None else self.places

    def of(self, keep: Mask) -> Question:
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


@dataclass(frozen=True)
class Chosen:
    """What a rule looks at: columns, the best first, of which the first `products` also enter times the place."""

    columns: list[tuple[Key, int]]
    products: int

    def gathered(self, columns: Rows, question: Question) -> Floats:
        """The chosen columns, the public ones, and the products."""
        parts = [columns[key][:, place].astype(np.float64) for key, place in self.columns]
        x = np.stack(parts, axis=1) if parts else np.zeros((len(question.truth), 0))
        products = x[:, : self.products, None] * question.place[:, None, :]
        return np.concatenate([x, question.public, products.reshape(len(x), -1)], axis=1)


def fit_and_guess(x: Floats, y: Ints, unseen: Floats) -> Ints:
    """Logistic regression on standardised columns; the most frequent class where there is nothing to learn from."""
    spread = x.std(0)
    x, unseen, spread = x[:, spread > 0], unseen[:, spread > 0], spread[spread > 0]
    if not x.shape[1] or not len(unseen) or len(np.unique(y)) < 2:
        return np.full(len(unseen), np.bincount(y).argmax())
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # comes with sklearn

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
    """Which columns, and how many, from training folds alone: the last of them judges the numbers."""

    def __init__(self, columns: Rows, question: Question, fold: Ints) -> None:
        self._columns, self._question, self._fold = columns, question, fold

    def choose(self, training: Sequence[int]) -> Chosen:
        """The columns for a rule that learns from these folds."""
        *inner, judge = training
        learn, check = np.isin(self._fold, inner), self._fold == judge
        ranked = self._ranked(learn, SIZES[-1])
        sizes = [(0, 0)]
        if ranked:
            some = PRODUCTS if self._question.place.shape[1] else PRODUCTS[:1]
            sizes = [(size, products) for size in SIZES for products in some]
        right = []
        for size, products in sizes:
            x = Chosen(ranked[:size], products).gathered(self._columns, self._question)
            guess = fit_and_guess(x[learn], self._question.truth[learn], x[check])
            right.append(int((guess == self._question.truth[check]).sum()))
        size, products = sizes[int(np.argmax(right))]
        return Chosen(self._ranked(learn | check, size), products)

    def _ranked(self, learn: Mask, most: int) -> list[tuple[Key, int]]:
        found = f_statistics(self._columns, self._question.truth, self._question.strata, learn)
        return best(found, self._columns, learn, most)

    def guess(self, training: Sequence[int], unseen: Floats, chosen: Chosen) -> Ints:
        """Answers for rows of what was chosen, learnt from these folds."""
        learn = np.isin(self._fold, list(training))
        x = chosen.gathered(self._columns, self._question)
        return fit_and_guess(x[learn], self._question.truth[learn], unseen)


def attack(columns: Rows, question: Question, fold: Ints) -> Answered:
    """Predict every row from the folds that do not hold its item. columns: (rows of the question, words) per key."""
    own, right = fold[question.rows], np.zeros(len(question.rows), np.bool_)
    learner = Learner(columns, question, own)
    used: dict[str, int] = {}
    for k in range(FOLDS):
        training = [(k + i) % FOLDS for i in range(1, FOLDS)]
        chosen = learner.choose(training)
        for key, _ in chosen.columns:
            used[_said(key)] = used.get(_said(key), 0) + 1
        guess = learner.guess(training, chosen.gathered(columns, question)[own == k], chosen)
        right[own == k] = guess == question.truth[own == k]
    most = sorted(used.items(), key=lambda item: (-item[1], item[0]))[:3]
    return Answered(Score.of(right, question.rows), tuple(most))


def transferred(learnt: Rows, question: Question, fold: Ints, other: Rows, asked: Question) -> Answered:
    """Learn from all rows of one set of views, predict those of another. Only columns that both have are used."""
    common = {key: part[:, : other[key].shape[1]] for key, part in learnt.items() if key in other}
    learner, folds = Learner(common, question, fold[question.rows]), list(range(FOLDS))
    chosen = learner.choose(folds)
    guess = learner.guess(folds, chosen.gathered(other, asked), chosen)
    score = Score.of(guess == asked.truth, asked.rows)
    return Answered(score, tuple((_said(key), 1) for key, _ in chosen.columns[:3]))


def _said(key: Key) -> str:
    kind, label, what = key
    return f"{kind} {label}, {what}"


def majority(question: Question) -> Score:
    """The best constant guess, in hindsight."""
    return Score.of(question.truth == np.bincount(question.truth).argmax(), question.rows)


def public_only(question: Question, fold: Ints) -> Score:
    """The same classifier on the public columns alone."""
    return attack({}, question, fold).score
