"""From views to columns: one extractor for every protocol, which knows no label and looks for nothing in particular.

It takes the whole view of a corrupted server: its shares, draws, everything received, and what the protocols it calls
return to it. A word gives its top and its low byte, a bit itself; of arrays beyond SHORT words an even choice is kept.
Arrays that the party holds in the scope of a message it receives are also added to that message, in their ring: two
shares of one value are its value. Arrays with a part per token are also summed over the tokens. Labels, sizes and
depths of all messages are columns as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.concrete import to_words
from sim.ring import RingArray
from sim.role import SERVER
from transcripts.subjects import Seen
from transcripts.views import bare, contents

SHORT = 512
KEPT = 64
PER_TOKEN = 64  # words per token up to which an array is summed over the tokens
METADATA = "metadata"
Key = tuple[str, str, str]  # kind, label, what of it
Bytes = NDArray[np.int8]


@dataclass(frozen=True)
class Columns:
    """Columns of some runs of one length. parts: per key (runs, words) small integers; sizes: metadata, (runs, 2) bytes
    and depth per message, or a number. tokens: the length.
    """

    parts: Mapping[Key, Bytes]
    sizes: Mapping[Key, NDArray[np.float32]]
    tokens: int

    @property
    def runs(self) -> int:
        return len(next(iter(self.parts.values())))


def columns(seen: Seen, tokens: int) -> Columns:
    """All columns of one run, or of the lanes of a batched one."""
    arrays = list(_arrays(seen))
    parts: dict[Key, Bytes] = {}
    for kind, label, bits, words in [*arrays, *_sums(arrays)]:
        size = words.shape[1]
        if size % tokens == 0 and 0 < size // tokens <= PER_TOKEN and bits != 8:
            total = words.reshape(len(words), tokens, -1).sum(1, dtype=np.uint64)
            parts[kind, label, "sum over tokens"] = _low(total)
        if size > SHORT:
            words = words[:, np.linspace(0, size - 1, KEPT).astype(np.int64)]
        suffix = "" if size <= SHORT else f" ({KEPT}, evenly)"
        if bits == 1:
            parts[kind, label, "bits" + suffix] = (2 * words.astype(np.int8) - 1).astype(np.int8)
            continue
        parts[kind, label, "low bytes" + suffix] = _low(words)
        if bits > 8:
            parts[kind, label, "top bytes" + suffix] = _low(words >> np.uint64(bits - 8))
    return Columns(parts, _metadata(seen), tokens)


Array = tuple[str, str, int, NDArray[np.uint64]]  # kind, label, bits, (runs, words)


def _arrays(seen: Seen) -> Iterator[Array]:
    """Every array of the view once, under the first of its names."""
    named: set[int] = set()
    for kind, label, content in contents(seen.execution, SERVER, seen.given):
        if id(content) in named and kind != "sent":
            continue
        named.add(id(content))
        if not isinstance(content, RingArray):
            yield kind, label, 8, np.frombuffer(content, np.uint8)[None].astype(np.uint64)
        elif seen.batch is not None:
            yield kind, label, content.ring.l, seen.batch.lower(content)
        else:
            yield kind, label, content.ring.l, to_words(content).reshape(1, -1)


def _sums(arrays: list[Array]) -> Iterator[Array]:
    """Every array received, plus an array of one shape that the party sent under the same label or holds in its scope.

    An input of the party belongs to the scope of the outermost protocol.
    """
    held: dict[tuple[str, int, int], list[Array]] = {}
    for array in arrays:
        kind, label, bits, words = array
        if kind != "received":
            where = label if kind == "sent" else _scope(label)
            held.setdefault((where, bits, words.shape[1]), []).append(array)
    for kind, label, bits, words in arrays:
        if kind == "received":
            for place in (label, _scope(label)):
                for other, own, _, more in held.get((place, bits, words.shape[1]), []):
                    mask = np.uint64((1 << bits) - 1)
                    yield "sum", f"{label} + {other} {own}", bits, (words + more) & mask


def _scope(label: str) -> str:
    return label.rpartition("/")[0]


def _low(words: NDArray[np.uint64]) -> Bytes:
    return np.ascontiguousarray((words & np.uint64(255)).astype(np.uint8)).view(np.int8)


def _metadata(seen: Seen) -> dict[Key, NDArray[np.float32]]:
    runs = 1 if seen.batch is None else seen.batch.lanes
    messages = seen.execution.messages
    found = {
        (METADATA, bare(m.label), "sent" if m.sender is SERVER else "received"): [m.nbytes, m.depth] for m in messages
    }
    found[METADATA, "", "messages and bytes"] = [len(messages), sum(m.nbytes for m in messages)]
    return {key: np.tile(np.array(row, np.float32), (runs, 1)) for key, row in found.items()}


class Table:
    """The columns of many runs, of any lengths, one under the other; what a run does not have is zero."""

    def __init__(self, blocks: Mapping[tuple[int, ...], Columns], runs: int) -> None:
        """blocks: the numbers of its runs -> columns. runs: how many rows."""
        self.runs = runs
        self.parts: dict[Key, NDArray[Any]] = {}
        self.per_token: dict[Key, int] = {}
        for rows, block in blocks.items():
            every: dict[Key, NDArray[Any]] = {**block.parts, **block.sizes}
            for key, values in every.items():
                self._put(list(rows), key, values, block.tokens)

    def _put(self, rows: list[int], key: Key, values: NDArray[Any], tokens: int) -> None:
        width = values.shape[1]
        part = self.parts.get(key)
        if part is None or part.shape[1] < width:
            wider = np.zeros((self.runs, width), values.dtype)
            if part is not None:
                wider[:, : part.shape[1]] = part
            self.parts[key] = part = wider
        part[rows, :width] = values
        if key[0] != METADATA and key[2] in ("bits", "low bytes", "top bytes") and width % tokens == 0:
            whole = self.per_token.setdefault(key, width // tokens)
            if whole != width // tokens:
                self.per_token[key] = 0

    def of_runs(self, keys: frozenset[Key] | None = None) -> dict[Key, NDArray[Any]]:
        """Columns by run, of all keys or these."""
        return {key: part for key, part in self.parts.items() if keys is None or key in keys}

    def of_tokens(
        self, rows: NDArray[np.int64], places: NDArray[np.int64], keys: frozenset[Key] | None = None
    ) -> dict[Key, NDArray[Any]]:
        """Columns by token: of every array with equally many words per token, those of token places[i] of rows[i]."""
        found = {}
        for key, size in self.per_token.items():
            if not 0 < size <= PER_TOKEN or (keys is not None and key not in keys):
                continue
            part, at = self.parts[key], places[:, None] * size + np.arange(size)
            inside = at < part.shape[1]
            found[key] = np.where(inside, part[rows[:, None], np.where(inside, at, 0)], 0).astype(part.dtype)
        return found

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(self.parts)
