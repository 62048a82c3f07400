"""The attack on all three protocols: volume from hybrid runs, confirmed on real ones, over any executor, resumable."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.attack import (
    Answered,
    Ints,
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
from transcripts.campaign import Inline, Store, source_digest
from transcripts.extraction import METADATA, Columns, Key, Table, columns
from transcripts.ordinary import HYBRID, REAL
from transcripts.ordinary import Model as World
from transcripts.subjects import LEAKY, PROTOCOLS, Items, Name, Subject, items_of

HYBRID_BLOCK, REAL_BLOCK = 25, 5
LEAST_RUNS = 40
LABEL = "label"
Told = Callable[[int, int], None]  # blocks done, blocks in all


class RunsOutOfRange(ValueError):
    """Too few runs to learn from, or more than there are items."""


@dataclass(frozen=True)
class Plan:
    """What is attacked. runs: items, each run once per protocol in the hybrid world; real: the first so many of them
    are run for real as well."""

    model: str
    layer: int
    runs: int
    real: int
    seed: str

    def items(self) -> Items:
        """The items, checked. Raises RunsOutOfRange, NoItems."""
        items = _items(self.model, self.runs)
        if self.runs < LEAST_RUNS:
            raise RunsOutOfRange(
                f"--runs: expected at least {LEAST_RUNS}, got {self.runs}; it learns from three quarters of them"
            )
        if len(items) < self.runs:
            raise RunsOutOfRange(f"--runs: expected at most {len(items)}, the items of {self.model}, got {self.runs}")
        if self.real > self.runs // 2:
            raise RunsOutOfRange(f"--real: expected at most {self.runs // 2}, half of --runs, got {self.real}")
        return items


@dataclass(frozen=True)
class Block:
    """Runs of items of one length. rows: their numbers."""

    subject: Subject
    rows: tuple[int, ...]
    runs: int

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
class Report:
    """constant: per question, the best constant guess. public: per question, the classifier on length and place."""

    plan: Plan
    unseen: int
    constant: dict[str, Score]
    public: dict[str, Score]
    rows: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        """Whether every line came as claimed."""
        return all(row.holds for row in self.rows)


@cache
def _items(model: str, most: int) -> Items:
    return items_of(model, most)


def blocks(subject: Subject, items: Items, count: int, runs: int) -> list[Block]:
    """The first `count` items, by length, in blocks."""
    size = HYBRID_BLOCK if subject.world == HYBRID else REAL_BLOCK
    lengths = items.lengths[:count]
    found = []
    for n in np.unique(lengths):
        rows = np.flatnonzero(lengths == n).tolist()
        found += [Block(subject, tuple(rows[at : at + size]), runs) for at in range(0, len(rows), size)]
    return found


def work(block: Block) -> bytes:
    """Run a block; its columns, packed."""
    items = _items(block.subject.model, block.runs)
    tokens = [items.tokens[row] for row in block.rows]
    parts = [columns(seen, len(tokens[0])) for seen in block.subject.seen(tokens, str(block.rows))]
    return pack(parts)


def pack(parts: Sequence[Columns]) -> bytes:
    """Columns as bytes: arrays without pickle, their keys beside them as JSON."""
    keys = list(dict.fromkeys(key for part in parts for key in (*part.parts, *part.sizes)))
    arrays = [np.concatenate([{**p.parts, **p.sizes}[key] for p in parts]) for key in keys]
    file = io.BytesIO()
    head = np.frombuffer(json.dumps([parts[0].tokens, keys]).encode(), np.uint8)
    np.savez(file, head, *arrays, allow_pickle=False)
    return file.getvalue()


def unpack(data: bytes) -> Columns:
    """Inverse of `pack`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        tokens, keys = json.loads(file["arr_0"].tobytes())
        arrays = {(k[0], k[1], k[2]): file[f"arr_{i + 1}"] for i, k in enumerate(keys)}
    sizes = {key: array for key, array in arrays.items() if key[0] == METADATA}
    return Columns({key: array for key, array in arrays.items() if key not in sizes}, sizes, tokens)


class Bench:
    """Computes blocks over an executor; finished ones are in the store."""

    def __init__(self, executor: Executor | None = None, store: Store | None = None, told: Told | None = None) -> None:
        self._executor, self._store, self._told = executor or Inline(), store or Store(), told

    def compute(self, wanted: Sequence[Block]) -> None:
        """All blocks that are missing, each kept as soon as it is done."""
        missing = [block for block in wanted if not self._store.has(block.key)]
        done = len(wanted) - len(missing)
        inline = isinstance(self._executor, Inline)
        for group in [[block] for block in missing] if inline else [missing]:
            futures = {self._executor.submit(work, block): block for block in group}
            for future in as_completed(futures):
                self._store.put(futures[future].key, future.result())
                done += 1
                if self._told is not None:
                    self._told(done, len(wanted))

    def table(self, wanted: Sequence[Block], count: int) -> Table:
        """The columns of all blocks."""
        return Table({block.rows: unpack(self._store.get(block.key)) for block in wanted}, count)


def run(plan: Plan, bench: Bench) -> Report:
    """Run, attack and judge. Raises RunsOutOfRange, NoItems."""
    items = plan.items()
    questions = [label_question(items), token_question(items, plan.seed)]
    fold = fold_of(len(items), plan.seed)
    constant = {q.name: majority(q) for q in questions}
    public = {q.name: public_only(q, fold) for q in questions}
    names: tuple[Name, ...] = tuple(PROTOCOLS)
    worlds: list[tuple[World, int]] = [(HYBRID, plan.runs), (REAL, plan.real)]
    wanted = {
        (name, world): blocks(Subject(name, plan.model, plan.layer, world, plan.seed), items, count, plan.runs)
        for world, count in worlds
        for name in names
    }
    bench.compute([block for group in wanted.values() for block in group])
    rows: list[Row] = []
    for name in names:
        hybrid = bench.table(wanted[name, HYBRID], plan.runs)
        real = bench.table(wanted[name, REAL], plan.real) if plan.real else None
        for question in questions:
            control = max(constant[question.name], public[question.name], key=lambda score: score.accuracy)
            volume = attack(_columns(hybrid, question), question, fold)
            rows.append(Row(name, question.name, HYBRID, volume, *judged(name, question.name, volume.score, control)))
            if real is not None:
                found = _confirmed(hybrid, real, question, fold, plan.real)
                rows.append(Row(name, question.name, REAL, found, *confirmed(found.score, volume.score)))
    return Report(plan, items.unseen, constant, public, tuple(rows))


def _columns(table: Table, question: Question) -> dict[Key, NDArray[Any]]:
    return table.of_runs() if question.places is None else table.of_tokens(question.rows, question.places)


def _confirmed(hybrid: Table, real: Table, question: Question, fold: Ints, count: int) -> Answered:
    """Learnt from hybrid runs of the other items, asked of the real runs."""
    known, asked = question.of(question.rows >= count), question.of(question.rows < count)
    learnt = _columns(hybrid, known)
    if question.places is None:
        learnt = {key: part[known.rows] for key, part in learnt.items()}
    return transferred(learnt, known, fold, _columns(real, asked), asked)


def judged(name: Name, question: str, score: Score, control: Score) -> tuple[str, bool]:
    """SecMoE's interval must reach the control; a leaky protocol must give the label away, beyond both intervals.

    How far it gives a token away is reported without a claim: the place alone says much of what a token is.
    """
    if name not in LEAKY:
        return "at chance", score.interval[0] <= control.accuracy
    if question != LABEL:
        return "no claim", True
    return "beats chance", score.interval[0] > control.interval[1]


def confirmed(real: Score, hybrid: Score) -> tuple[str, bool]:
    """Real runs agree where the intervals overlap."""
    low, high = hybrid.interval
    return "as hybrid", real.interval[0] <= high and low <= real.interval[1]


def half_widths(report: Report) -> Iterator[float]:
    """Of every interval from hybrid runs, the controls' included."""
    yield from (row.answered.score.half_width for row in report.rows if row.world == HYBRID)
    yield from (score.half_width for scores in (report.constant, report.public) for score in scores.values())
