"""Two proofs that a view leaks, at any width, without enumeration: bits and sums that no unseen randomness reaches.

Both are statements on the DAG alone, and one-sided: what they find is independent of everything the corrupted party
does not know except the peer's secrets, so two evaluations that differ in it are a leak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.exhaustive import Exhaustive
from proofs.symbolic import CONST, DRAW, INPUT, Dag, Node, _thawed, cone, evaluate
from sim.role import Role

Words = NDArray[Any]
U64 = np.uint64
_BACKEND = Exhaustive()
_LIMIT = 1 << 17  # coefficients of one node
ROWS = 256  # messages' entries in one linear system
Coefficients = dict[int, Words | None]


def unseen(node: Node, role: Role) -> bool:
    """A draw that the corrupted party does not know."""
    return node.op == DRAW and node.owner != role.value


def _structure(node: Node, parts: Sequence[Words]) -> Words | None:
    """The result of an operation that moves entries, on arrays with one more axis behind; None of any other one."""
    operations: Mapping[str, Callable[[], Words]] = {
        "reshape": lambda: _BACKEND.reshape(parts[0], node.shape),
        "transpose": lambda: _BACKEND.transpose(parts[0], node.params),
        "index": lambda: _BACKEND.index(parts[0], _thawed(node.params[0])),
        "broadcast": lambda: _BACKEND.broadcast(parts[0], node.shape),
        "concat": lambda: _BACKEND.concat(parts, node.params[0]),
    }
    return operations[node.op]() if node.op in operations else None


# -- bits -------------------------------------------------------------------------------------------------------------
def _zeros(v: Words) -> NDArray[np.int64]:
    """Trailing zeros; 64 of zero."""
    low = np.asarray(v & (~v + U64(1)))
    return np.where(v == 0, 64, np.bitwise_count(low - U64(1)).astype(np.int64))


def _upward(low: NDArray[np.int64], mask: int) -> Words:
    """All bits from `low` on."""
    shift = np.minimum(low, 63).astype(U64)
    return np.asarray(np.where(low > 63, U64(0), (~U64(0) << shift) & U64(mask)))


def reached(dag: Dag, roots: Sequence[int], role: Role) -> dict[int, Words]:
    """Per node, the bits (as words of its shape) that unseen randomness may reach: sums carry upwards only."""
    touched: dict[int, Words] = {}
    even: dict[int, NDArray[np.int64]] = {}  # trailing zeros that every value has
    for n in cone(dag, roots):
        node = dag.nodes[n]
        parts = [touched[a][..., None] for a in node.args]
        bits, low = [touched[a] for a in node.args], [even[a] for a in node.args]
        none, always = np.zeros(node.shape, U64), np.zeros(node.shape, np.int64)
        moved = _structure(node, parts)
        if moved is not None:
            touched[n] = moved[..., 0]
            shifted = _structure(node, [v[..., None] for v in low])
            even[n] = shifted[..., 0] if shifted is not None else always
            continue
        if node.op == CONST:
            touched[n], even[n] = none, _zeros(dag.constants[n])
            continue
        even[n] = always
        if node.op == DRAW:
            touched[n] = none + U64(node.ring.mask) if unseen(node, role) else none
        elif node.op == INPUT:
            touched[n] = none
        elif node.op in ("add", "sub", "neg"):
            touched[n] = _upward(np.min([_zeros(b) for b in bits], axis=0), node.ring.mask)
            even[n] = np.min(low, axis=0)
        elif node.op == "mul":
            start = np.minimum(_zeros(bits[0]) + low[1], _zeros(bits[1]) + low[0])
            touched[n], even[n] = _upward(start, node.ring.mask), np.minimum(low[0] + low[1], 64)
        elif node.op == "sum":
            touched[n] = _upward(_zeros(bits[0]).min(axis=node.params[0], initial=64), node.ring.mask)
        elif node.op == "matmul":
            rows, columns = np.atleast_1d(bits[0].any(axis=1)), np.atleast_1d(bits[1].any(axis=0))
            touched[n] = np.where(rows[:, None] | columns[None, :], U64(node.ring.mask), none)
        elif node.op == "shl":
            touched[n] = (bits[0] << U64(node.params[0])) & U64(node.ring.mask)
            even[n] = np.minimum(low[0] + node.params[0], 64)
        elif node.op == "shr":
            touched[n] = bits[0] >> U64(node.params[0])
        elif node.op == "cast":
            touched[n], even[n] = bits[0] & U64(node.ring.mask), low[0]
        else:  # equality
            touched[n] = (bits[0] != 0).astype(U64)
    return touched


# -- sums -------------------------------------------------------------------------------------------------------------
def coefficients(
    dag: Dag, roots: Sequence[int], role: Role, known: Callable[[Node], Words]
) -> tuple[Coefficients, int]:
    """Per node its coefficients (*shape, symbols) on the entries of unseen draws; None where it is no affine function
    of them with coefficients that the corrupted party knows. known: values of its own leaves.
    """
    order = cone(dag, roots)
    places, count = {}, 0
    for n in order:
        if unseen(dag.nodes[n], role):
            places[n] = count
            count += max(1, int(np.prod(dag.nodes[n].shape)))
    free: set[int] = set()  # nodes without any unseen randomness
    for n in order:
        if n not in places and all(a in free for a in dag.nodes[n].args):
            free.add(n)
    own = _own_values(dag, order, role, known)
    result: Coefficients = {}
    for n in order:
        node = dag.nodes[n]
        size = int(np.prod(node.shape))
        if size * count > _LIMIT:
            result[n] = None
        elif n in places:
            each = np.zeros((size, count), U64)
            each[np.arange(size), places[n] + np.arange(size)] = 1
            result[n] = _BACKEND.cast(node.ring, node.ring, each.reshape(*node.shape, count)).astype(_word(node))
        elif n in free:
            result[n] = np.zeros((*node.shape, count), _word(node))
        else:
            result[n] = _affine(dag, node, [result[a] for a in node.args], own)
    return result, count


def _word(node: Node) -> type[np.uint8] | type[np.uint64]:
    return np.uint8 if node.ring.l <= 8 else np.uint64


def _own_values(dag: Dag, order: Sequence[int], role: Role, known: Callable[[Node], Words]) -> dict[int, Words]:
    """Values of the nodes that the corrupted party computes from its own input and tape."""
    mine: set[int] = set()
    for n in order:
        node = dag.nodes[n]
        if node.op == CONST or node.owner == role.value or (node.args and all(a in mine for a in node.args)):
            mine.add(n)
    return evaluate(dag, sorted(mine), known)


def _affine(dag: Dag, node: Node, parts: Sequence[Words | None], own: Mapping[int, Words]) -> Words | None:
    given = [part for part in parts if part is not None]
    if len(given) != len(parts):
        return None
    moved = _structure(node, given)
    if moved is not None:
        return moved
    ring, source = node.ring, dag.nodes[node.args[0]].ring
    if node.op in ("add", "sub"):
        return _BACKEND.add(ring, *given) if node.op == "add" else _BACKEND.sub(ring, *given)
    if node.op == "neg":
        return _BACKEND.neg(ring, given[0])
    if node.op == "sum":
        return _BACKEND.sum(ring, given[0], node.params[0])
    if node.op == "shl":
        return _BACKEND.shl(ring, given[0], node.params[0])
    if node.op == "cast" and ring.l <= source.l:
        return _BACKEND.cast(source, ring, given[0])
    if node.op == "mul":
        for a, coefficient in zip(node.args, reversed(given), strict=True):
            if a in own:
                return _BACKEND.mul(ring, coefficient, own[a].astype(_word(node))[..., None])
    return None


def annihilators(rows: Words, l: int) -> list[Words]:
    """Combinations of the rows that vanish modulo 2^l, by elimination with the least even pivot. rows: (m, symbols)."""
    mask = U64((1 << l) - 1)
    left = rows.astype(U64) & mask
    right = np.eye(len(rows), dtype=U64)
    found: list[Words] = []
    todo = list(range(len(rows)))
    while todo:
        part = left[todo]
        zeros = _zeros(part)
        if not part.size or zeros.min() >= 64:
            return found + [right[i] for i in todo]
        at, column = np.unravel_index(int(zeros.argmin()), zeros.shape)
        pivot, v = todo.pop(int(at)), int(zeros[at, column])
        inverse = U64(pow(int(left[pivot, column]) >> v, -1, 1 << 64))
        for i in todo:
            factor = (left[i, column : column + 1] >> U64(v)) * inverse
            left[i] = (left[i] - factor * left[pivot]) & mask
            right[i] = (right[i] - factor * right[pivot]) & mask
        if v:  # every entry of the pivot row is a multiple of 2^v
            found.append((right[pivot] << U64(l - v)) & mask)
    return found
