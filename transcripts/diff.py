"""Compare two transcripts: labels, order, sizes and rounds, scope by scope, and the public parameters.

Content is counted, not judged: two runs on equal inputs draw fresh masks, so that their messages differ in every byte
that a mask covers. Equal content is what would be odd.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sim.role import Role
from sim.wire import describe
from transcripts.costs import fold
from transcripts.store import Header, Transcript

ODD_BYTES = 16  # equal content of that length does not come by chance
FRESH = "fresh masks: equal inputs differ in content, and that difference means nothing"

Key = tuple[str, Role]


@dataclass(frozen=True)
class Change:
    """One structural difference. kind: missing (not in B), added (not in A), size (or type), order, rounds, depth."""

    kind: str
    scope: str
    label: str
    left: str
    right: str

    def to_json(self) -> dict[str, str]:
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.kind}: {self.label or self.scope}: {self.left} | {self.right}"


@dataclass(frozen=True)
class Comparison:
    """Two transcripts side by side.

    public: parameters that differ, (name, left, right). same: messages of equal content, differing: of other content,
    among those that both have with equal size. odd: equal ones of at least `ODD_BYTES` bytes.
    """

    changes: list[Change]
    public: list[tuple[str, Any, Any]]
    same: int
    differing: int
    odd: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Labels, order, sizes and rounds agree."""
        return not self.changes

    @property
    def scopes(self) -> dict[str, list[Change]]:
        """The changes of each scope, repeated calls folded, in the order in which they first occur."""
        found: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            found[fold(change.scope)].append(change)
        return dict(found)

    def to_json(self) -> dict[str, Any]:
        """Stable keys of `secmoe diff --json`."""
        return {
            "structurally_equal": self.equal,
            "changes": [change.to_json() for change in self.changes],
            "public": [{"name": name, "left": left, "right": right} for name, left, right in self.public],
            "content": {"equal": self.same, "different": self.differing, "equal_and_long": self.odd, "note": FRESH},
        }


def compare(left: Transcript, right: Transcript) -> Comparison:
    """Everything in which two transcripts differ."""
    ours, theirs = ({(h.label, h.sender): h for h in t.headers} for t in (left, right))
    both = [(h, theirs[key]) for key, h in ours.items() if key in theirs]
    changes = [Change("missing", h.scope, h.label, describe(h.spec), "-") for k, h in ours.items() if k not in theirs]
    changes += [Change("added", h.scope, h.label, "-", describe(h.spec)) for k, h in theirs.items() if k not in ours]
    changes += [
        Change("size", a.scope, a.label, describe(a.spec), describe(b.spec)) for a, b in both if a.spec != b.spec
    ]
    changes += _order(both) + _rounds(left.headers, right.headers, both)
    alike = [(a, b) for a, b in both if a.spec == b.spec and a.payload is not None and b.payload is not None]
    same = [a for a, b in alike if left.message(a).payload == right.message(b).payload]
    odd = [h.label for h in same if h.nbytes >= ODD_BYTES]
    public = _public("", left.public, right.public)
    place = {h.label: (0, h.seq) for h in left.headers} | {
        h.label: (1, h.seq) for h in right.headers if (h.label, h.sender) not in ours
    }
    changes.sort(key=lambda change: place.get(change.label, (2, 0)))
    return Comparison(changes, public, len(same), len(alike) - len(same), odd)


def _order(both: list[tuple[Header, Header]]) -> list[Change]:
    """The first message that comes at another place among those that both have, and its depth."""
    theirs = sorted((b for _, b in both), key=lambda h: h.seq)
    for (a, _), b in zip(both, theirs, strict=True):
        if (a.label, a.sender) != (b.label, b.sender):
            return [Change("order", a.scope, a.label, f"message {a.seq}", f"there {b.label}, message {b.seq}")]
    return []


def _rounds(left: Iterable[Header], right: Iterable[Header], both: list[tuple[Header, Header]]) -> list[Change]:
    """Scopes that take another number of rounds, with everything below them; failing that, the first message that
    comes at another depth."""
    ours, theirs = _depths(left), _depths(right)
    found = [
        Change("rounds", scope, "", f"{len(depths)} rounds", f"{len(theirs[scope])} rounds")
        for scope, depths in ours.items()
        if scope in theirs and len(depths) != len(theirs[scope])
    ]
    moved = [Change("depth", a.scope, a.label, f"{a.depth}", f"{b.depth}") for a, b in both if a.depth != b.depth]
    return found or moved[:1]


def _depths(headers: Iterable[Header]) -> dict[str, set[int]]:
    """The depths at which each scope talks, itself or below."""
    found: dict[str, set[int]] = defaultdict(set)
    for header in headers:
        parts = header.scope.split("/")
        for n in range(len(parts)):
            found["/".join(parts[: n + 1])].add(header.depth)
    return found


def _public(path: str, left: Any, right: Any) -> list[tuple[str, Any, Any]]:
    """Leaves of two JSON values that differ, by dotted name."""
    if isinstance(left, dict) and isinstance(right, dict):
        names = sorted(left.keys() | right.keys())
        return [found for n in names for found in _public(f"{path}.{n}" if path else n, left.get(n), right.get(n))]
    return [] if left == right and type(left) is type(right) else [(path, left, right)]
