"""SPU's link trace, as SecretFlow SPU 0.9.5 writes it with `trace_log_path` and a large `trace_content_length`.

Two parties, one trace file each, recorded in two processes. A line is a call of the link, in the order of the calls:

    [time] [trace] [info] [file:line] [spu link] key=KEY, tag=TAG, value=HEX

KEY = CONTEXT:P2P-n:src->dst is a send in the file of src, and in the file of dst the beginning of a receive (no value).
KEY = CONTEXT:n:OP is a collective, in both files. n counts from 1 per context: per direction, and over collectives.

- ALLGATHER: both parties send their value. BARRIER: both send an empty message.
- GATHER, BCAST: one party sends, and the trace does not say which. Unless a root is given, what both contributed is
  recorded, as `gather input` and `bcast input`, not certain to have crossed: bytes are then an upper bound.
- SCATTER: the trace does not have what was sent; refused.

A value is cut, without a mark, after `trace_content_length` bytes (SPU's default 100). A value of just that length is
recorded as `..., cut`: its length is a lower bound.

A log has no checksum: lines that are missing, doubled, mixed or cut are refused, a changed digit of a value is not;
and that two traces are of one run shows in their keys only, which must be the same.

Label: TAG/op, TAG/op.2, ... by the sender's tag, in the order of its sends and collectives; below `link-X` in a context
SESSION-X, which was spawned from the session's. Labels depend neither on other tags nor on the session's name. Bytes of
a tag that do not print, `/` and `%` are written %XX.

Depth: a send comes after what its party received before it in the same context. Contexts may run in parallel threads
and the trace does not order them: each starts at depth 1. Nothing waits for a GATHER or BCAST of unknown root. Depths
are lower bounds therefore.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.role import CLIENT, SERVER, Role
from transcripts.importers import ForeignMessage
from transcripts.importers.spu_lines import RANKS, ROOTED, SWAPS, Call, Trace, plain_text, read_trace, shown

DEFAULT_CONTENT_LENGTH = 100


class TraceCount(ValueError):
    """Not one trace per rank."""


class TracesDisagree(ValueError):
    """The two traces are not of one run, or one of them is not complete."""


class OptionRefused(ValueError):
    """An option that does not fit the trace."""


@dataclass(frozen=True)
class Step:
    """What a call does: send the message of this key, or wait for the peer's."""

    sends: bool
    call: Call


@dataclass(frozen=True)
class SpuImporter:
    """Options. client_rank: the rank that is shown as the client. content_length: the run's `trace_content_length`, in
    bytes. roots: the root rank of rooted collectives, by key (`root:6:GATHER`) or by tag; the key goes first."""

    client_rank: int = 0
    content_length: int = DEFAULT_CONTENT_LENGTH
    roots: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.client_rank not in RANKS or any(root not in RANKS for root in self.roots.values()):
            raise OptionRefused("expected rank 0 or 1 for the client and for every root")
        if self.content_length < 1:
            raise OptionRefused(f"expected a content length from 1 byte, got {self.content_length}")

    @property
    def framework(self) -> str:
        return "SPU link trace"

    def public(self) -> Mapping[str, Any]:
        """The options, and what depth means."""
        return {
            "client_rank": self.client_rank,
            "trace_content_length": self.content_length,
            "roots": dict(self.roots),
            "depth": "lower bound: order within each link context",
        }

    def messages(self, paths: Sequence[Path]) -> Iterator[ForeignMessage]:
        """The messages of the traces of rank 0 and rank 1. Raises TraceCount, TraceTooLarge, TraceLineRefused,
        ValueTooLong, TracesDisagree and OptionRefused."""
        if len(paths) != len(RANKS):
            raise TraceCount(f"expected the traces of rank 0 and of rank 1, in this order, got {len(paths)} files")
        if paths[0].samefile(paths[1]):
            raise TraceCount(f"{paths[0]}: expected the traces of rank 0 and of rank 1, got one file twice")
        ranks = [read_trace(rank, path, self.content_length) for rank, path in zip(RANKS, paths, strict=True)]
        for ours, theirs in (ranks, ranks[::-1]):
            _match(ours, theirs)
        self._require_roots(ranks)
        steps = [self._steps(rank) for rank in ranks]
        names = _context_names({call.context for rank in ranks for call in rank.calls.values()})
        for context in sorted(names):
            depths = _depths(ranks, [steps[rank].get(context, []) for rank in RANKS])
            for rank in RANKS:
                yield from self._sent(rank, names[context], steps[rank].get(context, []), depths)

    def _steps(self, rank: Trace) -> dict[bytes, list[Step]]:
        """What each context of a rank does, in order."""
        found: dict[bytes, list[Step]] = defaultdict(list)
        for call in rank.calls.values():
            root = self._root(call)
            if call.src is not None:
                does = [call.src == rank.rank]
            elif call.op in SWAPS:
                does = [True, False]
            elif root is None:
                does = [True]
            else:
                does = [(rank.rank == root) == (call.op == "BCAST")]
            found[call.context] += [Step(sends, call) for sends in does]
        return found

    def _require_roots(self, ranks: Sequence[Trace]) -> None:
        """Raise OptionRefused where a root names no rooted collective of the trace."""
        rooted = [call for rank in ranks for call in rank.calls.values() if call.op in ROOTED]
        known = {raw.decode("utf-8", "replace") for call in rooted for raw in (call.key, call.tag)}
        if unknown := sorted(self.roots.keys() - known):
            raise OptionRefused(
                f"expected the key or the tag of a {' or '.join(ROOTED)} in the trace, got {unknown[0]!r}"
            )

    def _root(self, call: Call) -> int | None:
        if call.op not in ROOTED:
            return None
        by_tag = self.roots.get(call.tag.decode("utf-8", "replace"))
        return self.roots.get(call.key.decode("utf-8", "replace"), by_tag)

    def _sent(
        self, rank: int, name: str, steps: list[Step], depths: Mapping[tuple[int, bytes], int]
    ) -> Iterator[ForeignMessage]:
        sender: Role = CLIENT if rank == self.client_rank else SERVER
        counts: Counter[str] = Counter()
        for call in (step.call for step in steps if step.sends or step.call.op in ROOTED):
            base = f"{name}{plain_text(call.tag) or 'untagged'}/{call.op.lower()}"
            counts[base] += 1  # by calls: the number of a collective does not depend on who sends
            if (rank, call.key) not in depths:
                continue
            label = base if counts[base] == 1 else f"{base}.{counts[base]}"
            certain = call.op not in ROOTED or self._root(call) is not None
            whole = len(call.content) < self.content_length
            kind = call.op.lower() + ("" if certain else " input") + ("" if whole else ", cut")
            depth = depths[rank, call.key]
            yield ForeignMessage(sender, label, depth, kind, len(call.content), call.content, whole, certain)


def _match(ours: Trace, theirs: Trace) -> None:
    for key, call in ours.calls.items():
        if key not in theirs.calls:
            raise TracesDisagree(
                f"{ours.at(call)}: expected {shown(key)} in {theirs.path} too; give both complete traces of one run"
            )


def _depths(ranks: Sequence[Trace], steps: Sequence[Sequence[Step]]) -> dict[tuple[int, bytes], int]:
    """Causal depth of each message (sending rank, key) of one context."""
    found: dict[tuple[int, bytes], int] = {}
    clock, place = [0, 0], [0, 0]
    moved = True
    while moved:
        moved = False
        for rank in RANKS:
            while place[rank] < len(steps[rank]):
                step = steps[rank][place[rank]]
                awaited = (1 - rank, step.call.key)
                if step.sends:
                    found[rank, step.call.key] = clock[rank] + 1
                elif awaited in found:
                    clock[rank] = max(clock[rank], found[awaited])
                else:
                    break
                place[rank] += 1
                moved = True
    stuck = [ranks[r].at(steps[r][place[r]].call) for r in RANKS if place[r] < len(steps[r])]
    if stuck:
        raise TracesDisagree(f"{stuck[0]}: waits for what is sent only later, at {stuck[-1]}; lines are out of order")
    return found


def _context_names(contexts: set[bytes]) -> dict[bytes, str]:
    """The scope of each context, with its `/`; none for the session's own, from which all others were spawned."""
    session = min(contexts, key=lambda c: (len(c), c), default=b"")
    if all(c == session or c.startswith(session + b"-") for c in contexts):
        return {c: "" if c == session else f"link{plain_text(c[len(session) :])}/" for c in contexts}
    return {c: f"{plain_text(c)}/" for c in contexts}
