"""The local rules of the privacy checker: a node t of the array DAG is uniform when a symbol r is that only t uses.

Each rule argues its soundness beside its conditions. `Live` is what the rules look at: the DAG while steps are
replayed. Standard library only; no search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

Interval = tuple[int, int]


class Rejected(ValueError):
    """The certificate proves nothing: it is unreadable, about other sources, or a step of it does not hold."""


def need(holds: bool, otherwise: str) -> None:
    """Every condition of the checker goes through here."""
    if not holds:
        raise Rejected(otherwise)


class Node(NamedTuple):
    """One array operation: entries over Z_{2^width}."""

    op: str
    args: tuple[int, ...]
    params: tuple[Any, ...]
    width: int
    shape: tuple[int, ...]


def nodes_of(dag: dict[str, Any]) -> list[Node]:
    """The nodes that a certificate lists."""
    nodes = []
    for kind, *args in dag["nodes"]:
        op, params, width, shape, _line = dag["kinds"][kind]
        nodes.append(Node(op, tuple(args), tuple(params), width, tuple(shape)))
    return nodes


class Live:
    """The DAG while steps are replayed. live: uses by the view and by live nodes that are not cut off.

    leaves: nodes that no longer depend on their operands. fresh: those of them that became symbols.
    distance: statistical distance spent so far. ranges: declared bounds of inputs, a premise of the claim.
    """

    def __init__(self, nodes: Sequence[Node], roots: Sequence[int], corrupted: str) -> None:
        self.nodes, self.corrupted = nodes, corrupted
        self.fresh: set[int] = set()
        self.leaves: set[int] = set()
        self.distance = Fraction(0)
        self.ranges: dict[tuple[str, str], Interval] = {}
        self.live = [0] * len(nodes)
        for root in roots:
            self.live[root] += 1
        for number in reversed(range(len(nodes))):
            if self.live[number]:
                for a in nodes[number].args:
                    self.live[a] += 1

    def is_symbol(self, number: int) -> bool:
        """Fresh, or a draw that the corrupted party does not know."""
        node = self.nodes[number]
        return number in self.fresh or (node.op == "draw" and node.params[0] != self.corrupted)

    def is_cut(self, number: int) -> bool:
        """Whether the node no longer depends on its operands."""
        return number in self.leaves

    def cut(self, targets: Sequence[int]) -> None:
        """Edges below these nodes (cut off by now) are no longer uses; nor are those below what dies with them."""
        dropped = list(targets)
        while dropped:
            for a in self.nodes[dropped.pop()].args:
                self.live[a] -= 1
                if self.live[a] == 0 and a not in self.leaves:
                    dropped.append(a)

    def between(self, symbols: Sequence[int], targets: Sequence[int]) -> list[int]:
        """The nodes at or below the targets that depend on the symbols, operands first."""
        seen, stack = set(targets), list(targets)
        while stack:
            number = stack.pop()
            below = set() if self.is_cut(number) else {*self.nodes[number].args} - seen
            seen |= below
            stack += below
        found = set(symbols)
        for number in sorted(seen):
            if not self.is_cut(number) and any(a in found for a in self.nodes[number].args):
                found.add(number)
        return sorted(found & seen)

    def is_entrywise(self, number: int) -> bool:
        """Whether each entry is computed from the operands' entries at the same place, a cast aside in one ring."""
        node = self.nodes[number]
        operands = [self.nodes[a] for a in node.args]
        return all(a.shape == node.shape and (a.width == node.width or node.op in ("cast", "equals")) for a in operands)


# -- local rules: why t is uniform, for every value of everything but r, when r is ------------------------------------
def additive(state: Live, r: int, t: int) -> None:
    """t = e + r, e - r, r - e or -r, entry by entry: for every e a bijection of r on Z_{2^l}. r is not in e: it has
    one use. In Z_2 this is xor."""
    node = state.nodes[t]
    for a in node.args:
        need(state.nodes[a].width == node.width, "operands of another width")
        need(state.nodes[a].shape == node.shape, "operands of another shape")


def odd(state: Live, r: int, t: int) -> None:
    """t = c r with every entry of the public c odd: c is invertible modulo 2^l, so r -> c r is a bijection."""
    additive(state, r, t)
    others = [state.nodes[a] for a in state.nodes[t].args if a != r]
    need(others[0].op == "const", "the factor is not public")
    need(all(word & 1 for word in words(others[0])), "the factor is even")


def words(node: Node) -> list[int]:
    """The entries of a constant; one where all are equal."""
    value = node.params[0]
    if type(value) is int:
        return [value]
    data = bytes.fromhex(value)
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


def reshape(state: Live, r: int, t: int) -> None:
    """The same entries in the same order under another shape of equal size: a bijection."""
    old, new = state.nodes[r], state.nodes[t]
    need(old.width == new.width, "reshape changes the width")
    need(math.prod(old.shape) == math.prod(new.shape), "reshape changes the size")


def transpose(state: Live, r: int, t: int) -> None:
    """Entries in another order, by a permutation of the axes: a bijection."""
    old, new = state.nodes[r], state.nodes[t]
    need(old.width == new.width, "transpose changes the width")
    need(sorted(new.params) == list(range(len(old.shape))), "the axes are not a permutation")
    need(new.shape == tuple(old.shape[i] for i in new.params), "transpose has another shape")


def index(state: Live, r: int, t: int) -> None:
    """Integers, slices, new axes and an ellipsis select DISTINCT entries: some coordinates of a uniform vector are
    uniform. The shape is recomputed, so nothing is repeated."""
    old, new = state.nodes[r], state.nodes[t]
    need(old.width == new.width, "index changes the width")
    need(new.shape == selected(old.shape, new.params[0])[0], "index has another shape")


def cast(state: Live, r: int, t: int) -> None:
    """The low bits of a uniform word are uniform. (To a wider ring the high bits would be zero.)"""
    old, new = state.nodes[r], state.nodes[t]
    need(new.width <= old.width, "a wider ring: the high bits are not uniform")
    need(old.shape == new.shape, "cast changes the shape")


def concat(state: Live, r: int, t: int) -> None:
    """All parts are symbols used nowhere else, hence independent and uniform together; t holds each part's entries
    once. One use each also makes the parts distinct."""
    node, parts = state.nodes[t], [state.nodes[a] for a in state.nodes[t].args]
    need(all(state.is_symbol(a) for a in node.args), "a part is not uniform and unseen")
    need(all(state.live[a] == 1 for a in node.args), "a part has other uses")
    need(all(part.width == node.width for part in parts), "a part of another width")
    need(math.prod(node.shape) == sum(math.prod(part.shape) for part in parts), "parts of another total size")


def sum_(state: Live, r: int, t: int) -> None:
    """Each entry of t is the sum of its own, at least one, independent uniform entries of r."""
    old, new, axis = state.nodes[r], state.nodes[t], state.nodes[t].params[0]
    need(old.width == new.width, "sum changes the width")
    need(new.shape == old.shape[:axis] + old.shape[axis + 1 :], "sum has another shape")
    need(old.shape[axis] > 0, "an empty sum is zero")


def selected(shape: tuple[int, ...], key: Any) -> tuple[tuple[int, ...], list[Sequence[int]]]:
    """The shape of a basic selection, and the places that it takes along each old axis; raises Rejected on any other
    key."""
    parts = key[1:] if isinstance(key, list) and key[:1] == ["tuple"] else [key]
    gap = len(shape) - sum(type(part) is int or isinstance(part, list) for part in parts)
    result: list[int] = []
    taken: list[Sequence[int]] = []
    rest = list(shape)
    for part in [*parts, *([] if "..." in parts else ["..."])]:
        if part is None:
            result.append(1)
        elif part == "...":
            result, taken, rest = result + rest[:gap], taken + [range(n) for n in rest[:gap]], rest[gap:]
        elif type(part) is int:
            need(-rest[0] <= part < rest[0], "an index out of range")
            taken.append([part % rest.pop(0)])
        else:
            need(part[0] == "slice", f"expected integers and slices, got {part!r}")
            taken.append(range(*slice(*part[1:]).indices(rest.pop(0))))
            result.append(len(taken[-1]))
    return tuple(result), taken


Local = Callable[[Live, int, int], None]

# rule -> (operation of the node, number of its operands or None for any, side conditions)
RULES: dict[str, tuple[str, int | None, Local]] = {
    "add": ("add", 2, additive),
    "sub": ("sub", 2, additive),
    "neg": ("neg", 1, additive),
    "odd": ("mul", 2, odd),
    "reshape": ("reshape", 1, reshape),
    "transpose": ("transpose", 1, transpose),
    "index": ("index", 1, index),
    "cast": ("cast", 1, cast),
    "concat": ("concat", None, concat),
    "sum": ("sum", 1, sum_),
}
