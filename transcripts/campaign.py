"""Campaigns: many blocks of runs over any executor, resumable, with results that do not depend on who computed what.

A block is a pure function of its job, so a finished one is kept under the digest of the job and of the program's
source. A campaign that was killed finds what it had finished; one whose program has changed starts anew. What is kept
are the analysers' sufficient statistics, never a view: the seed regenerates the rest. A block that fails is kept with
its job and error.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from transcripts.analysers import Analyser, Summary, merge
from transcripts.audit import ANALYSERS, ByClass
from transcripts.classes import QUARTERS
from transcripts.sampling import REAL, RunFailed, Sampler
from transcripts.targets import Target
from transcripts.views import Layout, Source

ROOT = Path(__file__).parents[1]
HEAVY_BLOCK, REAL_BLOCK, VAST_BLOCK, WIDE_BLOCK, HYBRID_BLOCK = 100, 200, 32, 136, 400
WIDE, VAST = 1 << 12, 1 << 16  # words that a case is called with
OWN = (
    *("analysers", "batch", "classes", "classify", "features", "lanes", "ordinary", "parity", "sampling"),
    *("statistics", "targets", "views"),
)
Told = Callable[[int, int], None]  # blocks done, blocks in all


class StoreError(ValueError):
    """The file for finished blocks cannot be used."""


@dataclass(frozen=True)
class Job:
    """One block. size: runs in it, a multiple of four."""

    sampler: Sampler
    number: int
    size: int
    analysers: tuple[Analyser, ...]

    @property
    def key(self) -> str:
        """Digest of the job and of the program."""
        names = [analyser.name for analyser in self.analysers]
        told = f"{source_digest()} {self.sampler!r} {self.number} {self.size} {names}"
        return hashlib.blake2b(told.encode(), digest_size=20).hexdigest()


def words_of(target: Target) -> int:
    """How many words the case is called with."""
    return sum(secret.spec.size for secret in target.resolve()[1].secrets)


def is_wide(target: Target) -> bool:
    """Whether a run takes so long, and so much memory, that fewer are made: larger than any case of the catalog."""
    return words_of(target) > WIDE


def jobs(sampler: Sampler, runs: int, analysers: Sequence[Analyser] = ANALYSERS) -> list[Job]:
    """The blocks of an experiment; the number of runs is rounded up to a multiple of four."""
    runs = -(-runs // len(QUARTERS)) * len(QUARTERS)
    words = words_of(sampler.target)
    block = HYBRID_BLOCK if words <= WIDE else WIDE_BLOCK if words <= VAST else VAST_BLOCK
    if sampler.model == REAL:
        block = HEAVY_BLOCK if sampler.target.resolve()[1].plans else REAL_BLOCK
    starts = range(0, runs, block)
    return [Job(sampler, i, min(block, runs - start), tuple(analysers)) for i, start in enumerate(starts)]


def work(job: Job) -> bytes:
    """Run a block: the statistics of its classes, packed."""
    views = job.sampler.block(job.number, job.size)
    layout = next(iter(views.values())).layout
    found = {name: {a.name: a.collect(v) for a in job.analysers} for name, v in views.items()}
    return pack(found, layout)


def pack(found: ByClass, layout: Layout) -> bytes:
    """Statistics and layout as bytes: an index in JSON and raw little-endian arrays, lightly compressed."""
    arrays = [(c, a, k, x) for c, by in found.items() for a, summary in by.items() for k, x in summary.items()]
    index = {
        "arrays": [[c, a, k, x.dtype.str, x.shape] for c, a, k, x in arrays],
        "analysers": [[c, a] for c in found for a in found[c]],
        "sources": [[s.kind, s.label, s.bits, s.size, s.opaque, s.most] for s in layout.sources],
    }
    head = json.dumps(index).encode()
    body = b"".join(np.ascontiguousarray(x).tobytes() for *_, x in arrays)
    return zlib.compress(len(head).to_bytes(8, "little") + head + body, level=1)


def unpack(data: bytes) -> tuple[dict[str, dict[str, Summary]], Layout]:
    """Inverse of `pack`."""
    raw = zlib.decompress(data)
    at = 8 + int.from_bytes(raw[:8], "little")
    index = json.loads(raw[8:at])
    found: dict[str, dict[str, Summary]] = {}
    for c, a in index["analysers"]:
        found.setdefault(c, {})[a] = {}
    for c, a, k, dtype, shape in index["arrays"]:
        size = math.prod(shape)
        found[c][a][k] = np.frombuffer(raw, np.dtype(dtype), size, at).reshape(shape)
        at += found[c][a][k].nbytes
    return found, Layout([Source(*row) for row in index["sources"]])


class Store:
    """Finished blocks in an SQLite file; every block is one transaction. path None: a temporary file.

    Raises StoreError where the path cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="secmoe-audit-") if path is None else None
        self.path = path or Path(self._folder.name if self._folder else "") / "blocks.sqlite"
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS block (key TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT")
            self._db.execute("CREATE TABLE IF NOT EXISTS failure (key TEXT, job TEXT, error TEXT) STRICT")
            self._db.execute("CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: not a file for audit blocks ({error}); choose another place") from error

    def has(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM block WHERE key = ?", (key,)).fetchone() is not None

    def get(self, key: str) -> bytes:
        row = self._db.execute("SELECT content FROM block WHERE key = ?", (key,)).fetchone()
        return bytes(row[0])

    def put(self, key: str, content: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO block VALUES (?, ?)", (key, content))

    def failed(self, job: Keyed, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        self._db.execute("INSERT INTO failure VALUES (?, ?, ?)", (job.key, repr(job), text))

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(job, error) of every block that failed."""
        return list(self._db.execute("SELECT job, error FROM failure"))

    def note(self, key: str) -> Any:
        """A remembered figure (JSON), or None."""
        row = self._db.execute("SELECT content FROM note WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remember(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, json.dumps(value)))

    def close(self) -> None:
        self._db.close()
        if self._folder is not None:
            self._folder.cleanup()


class Inline(Executor):
    """An executor without workers: work is done when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Keyed(Protocol):
    """A piece of work under the digest of all that its result depends on."""

    @property
    def key(self) -> str: ...


K = TypeVar("K", bound=Keyed)


def finish(
    wanted: Sequence[K], work: Callable[[K], bytes], executor: Executor, store: Store, told: Told | None = None
) -> None:
    """Do what the store does not have, and keep each result as soon as it is there. Raises RunFailed, after all other
    work was kept.
    """
    missing = [job for job in wanted if not store.has(job.key)]
    done, failure = len(wanted) - len(missing), None
    # One job at a time where there are no workers, so that each is kept before the next begins.
    for group in [[job] for job in missing] if isinstance(executor, Inline) else [missing]:
        futures = {executor.submit(work, job): job for job in group}
        for future in as_completed(list(futures)):
            job = futures.pop(future)  # its result is in the store from here on
            error = future.exception()
            if error is not None:
                store.failed(job, error)
                failure = failure or error
                continue
            store.put(job.key, future.result())
            done += 1
            if told is not None:
                told(done, len(wanted))
    if failure is not None:
        raise failure if isinstance(failure, RunFailed) else RunFailed(f"{type(failure).__name__}: {failure}")


class Campaign:
    """Runs experiments over an executor and a store; an instance's `gather` is what `transcripts.audit.audit` needs."""

    def __init__(
        self,
        runs: int,
        executor: Executor | None = None,
        store: Store | None = None,
        analysers: Sequence[Analyser] = ANALYSERS,
        told: Told | None = None,
    ) -> None:
        self.runs, self.store = runs, store or Store()
        self._executor, self._analysers, self._told = executor or Inline(), tuple(analysers), told
        self.computed = 0

    def gather(self, samplers: Sequence[Sampler]) -> Iterator[tuple[ByClass, Layout]]:
        """The statistics of every experiment, in order. Raises RunFailed, after all other blocks were kept."""
        plans = [jobs(sampler, self.runs, self._analysers) for sampler in samplers]
        every = [job for plan in plans for job in plan]
        finish(every, work, self._executor, self.store, self._count)
        for plan in plans:
            yield self._merged(plan)

    def _count(self, done: int, total: int) -> None:
        self.computed += 1
        if self._told is not None:
            self._told(done, total)

    def _merged(self, plan: Sequence[Job]) -> tuple[ByClass, Layout]:
        parts = [unpack(self.store.get(job.key)) for job in plan]
        layout = parts[0][1]
        names = [a.name for a in self._analysers]
        return {c: {a: merge([found[c][a] for found, _ in parts]) for a in names} for c in QUARTERS}, layout


@cache
def source_digest() -> str:
    """Digest of every module that a block's content depends on."""
    h = hashlib.blake2b(digest_size=16)
    own = [ROOT / "transcripts" / f"{name}.py" for name in OWN]
    for path in (*sorted((ROOT / "sim").rglob("*.py")), *sorted((ROOT / "protocols").rglob("*.py")), *own):
        h.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return h.hexdigest()
