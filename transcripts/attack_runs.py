"""The attack on all three protocols: volume from hybrid runs, confirmed on real ones, over any executor, resumable.

Which layer is attacked is decided on some items, with plaintext routing alone, and judged on others: the first `choice`
items of a model choose, and what is scored is drawn by the seed from those with number `start` on. All other settings
are constants of the program.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.attack import (
    Answered,
    Question,
    Score,
    attack,
    fold_of,
    label_question,
    majority,
    public_only,
    token_question,
    transferred,
)
from transcripts.campaign import Inline, Store, finish, source_digest
from transcripts.classes import generator
from transcripts.extraction import Columns, Key, Table, columns
from transcripts.ordinary import HYBRID, REAL
from transcripts.ordinary import Model as World
from transcripts.screening import Ints
from transcripts.subjects import LEAKY, PROTOCOLS, Name, Subject, items_of, model_of

HYBRID_BLOCK, REAL_BLOCK = 25, 5
LEAST_RUNS = 40
Told = Callable[[int, int], None]  # blocks done, blocks in all


class RunsOutOfRange(ValueError):
    """Too few runs to learn from, or more than there are items."""


@dataclass(frozen=True)
class Plan:
    """What is attacked. choice: the first so many items choose the layer; start: from this number on items are scored.
    runs: how many are, each run once per protocol in the hybrid world; real: the first so many of them are run for real
    as well."""

    model: str
    choice: int
    start: int
    runs: int
    real: int
    seed: str

    def scored(self) -> Ints:
        """The numbers of the scored items, checked. Raises RunsOutOfRange, NoItems."""
        last = len(items_of(self.model))
        if self.runs < LEAST_RUNS:
            raise RunsOutOfRange(
                f"--runs: expected at least {LEAST_RUNS}, got {self.runs}; it learns from three quarters of them"
            )
        if last - self.start < self.runs:
            raise RunsOutOfRange(
                f"--runs: expected at most {last - self.start}, the items of {self.model} that no choice was made on, "
                f"got {self.runs}"
            )
        if self.real > self.runs // 2:
            raise RunsOutOfRange(f"--real: expected at most {self.runs // 2}, half of --runs, got {self.real}")
        return self.start + generator(self.seed, "scored").permutation(last - self.start)[: self.runs]


@dataclass(frozen=True)
class Block:
    """Runs of items of one length. items: their numbers."""

    subject: Subject
    items: tuple[int, ...]

    @property
    def key(self) -> str:
        """Digest of the block and of the program."""
        return hashlib.blake2b(f"{source_digest()} {self!r}".encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class Row:
    """One line of the report. claim: what was expected of this protocol; holds: whether it came so."""

    protocol: Name
    question: str
    world: World
    answered: Answered
    claim: str
    holds: bool


@dataclass(frozen=True)
class Choice:
    """The layer to attack. scores: by layer, of the label under plaintext routing, on items that are not scored."""

    layer: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Report:
    """unseen: how many scored items the model never saw. constant: per question, the best constant guess. public: per
    question, the classifier on length and place."""

    plan: Plan
    choice: Choice
    unseen: int
    constant: dict[str, Score]
    public: dict[str, Score]
    rows: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        """Whether every line came as claimed."""
        return all(row.holds for row in self.rows)


def blocks(subject: Subject, lengths: Ints, numbers: Ints) -> list[Block]:
    """The items of these numbers, by length, in blocks. lengths: of all items of the model."""
    size = HYBRID_BLOCK if subject.world == HYBRID else REAL_BLOCK
    found = []
    for n in np.unique(lengths[numbers]):
        rows = numbers[lengths[numbers] == n].tolist()
        found += [Block(subject, tuple(rows[at : at + size])) for at in range(0, len(rows), size)]
    return found


def work(block: Block) -> bytes:
    """Run a block; its columns, packed."""
    items = items_of(block.subject.model)
    tokens = [items.tokens[number] for number in block.items]
    parts = [columns(seen, len(tokens[0])) for seen in block.subject.seen(tokens, str(block.items))]
    return pack(parts)


def pack(parts: Sequence[Columns]) -> bytes:
    """Columns as bytes: one array of all bytes and one of all sizes, their keys and widths before them as JSON."""
    small_widths, small = _joined([part.parts for part in parts])
    size_widths, sizes = _joined([part.sizes for part in parts])
    head = np.frombuffer(json.dumps([parts[0].tokens, small_widths, size_widths]).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, head=head, small=small, sizes=sizes, allow_pickle=False)
    return file.getvalue()


def _joined(parts: Sequence[Mapping[Key, NDArray[Any]]]) -> tuple[list[tuple[Key, int]], NDArray[Any]]:
    """All keys with their widths, and the columns side by side; what a part does not have is zero."""
    every = {key: x for part in reversed(parts) for key, x in part.items()}
    widths = [(key, x.shape[1]) for key, x in every.items()]
    rows = [len(next(iter(part.values()))) for part in parts]
    full = [
        np.concatenate([part.get(key, np.zeros((n, width), every[key].dtype)) for key, width in widths], axis=1)
        for part, n in zip(parts, rows, strict=True)
    ]
    return widths, np.concatenate(full)


def unpack(data: bytes) -> Columns:
    """Inverse of `pack`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        tokens, *widths = json.loads(file["head"].tobytes())
        small, sizes = (_split(file[name], of) for name, of in zip(("small", "sizes"), widths, strict=True))
    return Columns(small, sizes, tokens)


def _split(whole: NDArray[Any], widths: Sequence[tuple[Sequence[str], int]]) -> dict[Key, NDArray[Any]]:
    ends = np.cumsum([width for _, width in widths])
    return {
        (key[0], key[1], key[2]): whole[:, end - width : end] for (key, width), end in zip(widths, ends, strict=True)
    }


class Bench:
    """Computes blocks over an executor; finished ones are in the store."""

    def __init__(self, executor: Executor | None = None, store: Store | None = None, told: Told | None = None) -> None:
        self._executor, self._store, self._told = executor or Inline(), store or Store(), told

    def compute(self, wanted: Sequence[Block]) -> None:
        """All blocks that are missing, each kept as soon as it is done."""
        finish(wanted, work, self._executor, self._store, self._told)

    def table(self, wanted: Sequence[Block], numbers: Ints) -> Table:
        """The columns of all blocks, the items in the order of `numbers`."""
        row = {int(number): at for at, number in enumerate(numbers)}
        found = {tuple(row[i] for i in block.items): unpack(self._store.get(block.key)) for block in wanted}
        return Table(found, len(numbers))


def choose(plan: Plan, bench: Bench) -> Choice:
    """The layer whose plaintext routing tells most of the label, on the items that choose; of equal ones the first."""
    items, numbers = items_of(plan.model), np.arange(plan.choice)
    layers = range(model_of(plan.model).config.layers)
    wanted = [
        blocks(Subject("plaintext-routing", plan.model, layer, HYBRID, plan.seed), items.lengths, numbers)
        for layer in layers
    ]
    bench.compute([block for group in wanted for block in group])
    question, fold = label_question(items.of(numbers)), fold_of(plan.choice, plan.seed)
    tables = (bench.table(group, numbers) for group in wanted)
    scores = tuple(attack(_columns(table, question), question, fold).score for table in tables)
    return Choice(int(np.argmax([score.right for score in scores])), scores)


def run(plan: Plan, bench: Bench) -> Report:
    """Choose, run, attack and judge. Raises RunsOutOfRange, NoItems."""
    numbers = plan.scored()
    choice, everything = choose(plan, bench), items_of(plan.model)
    items = everything.of(numbers)
    questions = [label_question(items), token_question(items, plan.seed)]
    fold = fold_of(len(items), plan.seed)
    constant = {q.name: majority(q) for q in questions}
    public = {q.name: public_only(q, fold) for q in questions}
    names: tuple[Name, ...] = tuple(PROTOCOLS)
    worlds: list[tuple[World, Ints]] = [(HYBRID, numbers), (REAL, numbers[: plan.real])]
    wanted = {
        (name, world): blocks(Subject(name, plan.model, choice.layer, world, plan.seed), everything.lengths, some)
        for world, some in worlds
        for name in names
    }
    bench.compute([block for group in wanted.values() for block in group])
    rows: list[Row] = []
    for name in names:
        hybrid = bench.table(wanted[name, HYBRID], numbers)
        real = bench.table(wanted[name, REAL], numbers[: plan.real]) if plan.real else None
        for question in questions:
            control = max(constant[question.name], public[question.name], key=lambda score: score.accuracy)
            volume = attack(_columns(hybrid, question), question, fold)
            rows.append(Row(name, question.name, HYBRID, volume, *judged(name, volume.score, control)))
            if real is not None:
                found = _confirmed(hybrid, real, question, fold, plan.real)
                rows.append(Row(name, question.name, REAL, found, *confirmed(found.score, volume.score)))
    return Report(plan, choice, int(items.unseen.sum()), constant, public, tuple(rows))


def _columns(table: Table, question: Question) -> dict[Key, NDArray[Any]]:
    return table.of_runs() if question.places is None else table.of_tokens(question.rows, question.places)


def _confirmed(hybrid: Table, real: Table, question: Question, fold: Ints, count: int) -> Answered:
    """Learnt from hybrid runs of the other items, asked of the real runs."""
    known, asked = question.of(question.rows >= count), question.of(question.rows < count)
    learnt = _columns(hybrid, known)
    if question.places is None:
        learnt = {key: part[known.rows] for key, part in learnt.items()}
    return transferred(learnt, known, fold, _columns(real, asked), asked)


def judged(name: Name, score: Score, control: Score) -> tuple[str, bool]:
    """SecMoE's interval must reach the better control; a leaky protocol must beat it, beyond both intervals."""
    if name in LEAKY:
        return "beats chance", score.interval[0] > control.interval[1]
    return "at chance", score.interval[0] <= control.accuracy


def confirmed(real: Score, hybrid: Score) -> tuple[str, bool]:
    """Real runs agree where the intervals overlap."""
    low, high = hybrid.interval
    return "as hybrid", real.interval[0] <= high and low <= real.interval[1]


def half_widths(report: Report) -> Iterator[float]:
    """Of every interval from hybrid runs, the controls' included."""
    yield from (row.answered.score.half_width for row in report.rows if row.world == HYBRID)
    yield from (score.half_width for scores in (report.constant, report.public) for score in scores.values())
