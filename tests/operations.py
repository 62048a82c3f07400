"""The conformance table of the closed operation set: every operation with operands and its meaning on Python integers.

One row per operation that protocol text can write. `through` names the backend methods it must go through, so that the
table covers every method of `sim.ring.Backend`; a method without a row, or a row without a method, fails the build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.ring import Ring, RingArray, Shape, concat, stack

Objects = Any  # numpy arrays of plain Python integers


@dataclass(frozen=True)
class Operation:
    """shapes: of the operands. apply: the operation on ring arrays, given l. slow: on object arrays of Python integers,
    read modulo the result's ring. low, high: the widths it is defined for. result: the ring of the result."""

    name: str
    through: frozenset[str]
    shapes: tuple[Shape, ...]
    apply: Callable[..., RingArray]
    slow: Callable[..., Objects]
    low: int = 1
    high: int = 64
    result: Callable[[Ring], Ring] = lambda ring: ring


def _op(name: str, through: str, shapes: tuple[Shape, ...], apply: Any, slow: Any, **more: Any) -> Operation:
    return Operation(name, frozenset(through.split()), shapes, apply, slow, **more)


def _each(f: Callable[..., int]) -> Callable[..., Objects]:
    each: Callable[..., Objects] = np.frompyfunc(f, f.__code__.co_argcount, 1)
    return each


def _matmul(a: Objects, b: Objects) -> Objects:
    rows, inner, columns = len(a), len(b), b.shape[1]
    out = np.empty((rows, columns), dtype=object)
    for i in range(rows):
        for j in range(columns):
            out[i, j] = sum(a[i, k] * b[k, j] for k in range(inner))
    return out


def _total(a: Objects, axis: int) -> Objects:
    out = np.zeros(np.delete(np.array(a.shape), axis), dtype=object)
    for part in np.moveaxis(a, axis, 0):
        out = out + part
    return out


S = (2, 3)
CONSTANT = [[0, 1, -1], [2**64 - 1, 2**63, -(2**63)]]
COLUMN = [[5], [-1]]

OPERATIONS: tuple[Operation, ...] = (
    _op(
        "x.const(int, shape)", "const", (S,), lambda l, x: x.const(-3, (2, 2)), lambda l, x: np.full((2, 2), -3, object)
    ),
    _op("x.const(nested)", "const", (S,), lambda l, x: x.const(CONSTANT), lambda l, x: np.array(CONSTANT, object)),
    _op(
        "x.const(nested, shape)",
        "const",
        (S,),
        lambda l, x: x.const(COLUMN, (2, 4)),
        lambda l, x: np.repeat(np.array(COLUMN, object), 4, axis=1),
    ),
    _op("x + y", "add", (S, S), lambda l, x, y: x + y, lambda l, x, y: x + y),
    _op("x + c", "const add", (S,), lambda l, x: x + -7, lambda l, x: x - 7),
    _op("c + x", "const add", (S,), lambda l, x: 2**70 + 9 + x, lambda l, x: x + 2**70 + 9),
    _op("x - y", "sub", (S, S), lambda l, x, y: x - y, lambda l, x, y: x - y),
    _op("x - c", "const sub", (S,), lambda l, x: x - 5, lambda l, x: x - 5),
    _op("c - x", "const sub", (S,), lambda l, x: 5 - x, lambda l, x: 5 - x),
    _op("x * y", "mul", (S, S), lambda l, x, y: x * y, lambda l, x, y: x * y),
    _op("x * c", "const mul", (S,), lambda l, x: x * -3, lambda l, x: x * -3),
    _op("c * x", "const mul", (S,), lambda l, x: (2**63 + 1) * x, lambda l, x: x * (2**63 + 1)),
    _op("-x", "neg", (S,), lambda l, x: -x, lambda l, x: -x),
    _op("x @ y", "matmul", ((2, 3), (3, 4)), lambda l, x, y: x @ y, lambda l, x, y: _matmul(x, y)),
    _op("x @ y, inner 0", "matmul", ((2, 0), (0, 3)), lambda l, x, y: x @ y, lambda l, x, y: _matmul(x, y)),
    _op("x ^ y", "add", (S, S), lambda l, x, y: x ^ y, lambda l, x, y: _each(lambda a, b: a ^ b)(x, y), high=1),
    _op("x & y", "mul", (S, S), lambda l, x, y: x & y, lambda l, x, y: _each(lambda a, b: a & b)(x, y), high=1),
    _op("~x", "const add", (S,), lambda l, x: ~x, lambda l, x: 1 - x, high=1),
    _op("x << 0", "shl", (S,), lambda l, x: x << 0, lambda l, x: x),
    _op("x << l - 1", "shl", (S,), lambda l, x: x << (l - 1), lambda l, x: x * 2 ** (l - 1)),
    _op("x << l // 2", "shl", (S,), lambda l, x: x << (l // 2), lambda l, x: x * 2 ** (l // 2)),
    _op("x >> l - 1", "shr", (S,), lambda l, x: x >> (l - 1), lambda l, x: x // 2 ** (l - 1)),
    _op("x >> l // 2", "shr", (S,), lambda l, x: x >> (l // 2), lambda l, x: x // 2 ** (l // 2)),
    *(
        _op(
            f"cast to {k}",
            "cast",
            (S,),
            lambda l, x, k=k: x.cast(Ring(k)),
            lambda l, x: x,
            result=lambda r, k=k: Ring(k),
        )
        for k in (1, 2, 8, 33, 63, 64)
    ),
    _op("bit 0", "shr cast", (S,), lambda l, x: x.bit(0), lambda l, x: x % 2, result=lambda r: Ring(1)),
    _op("bit l - 1", "shr cast", (S,), lambda l, x: x.bit(l - 1), lambda l, x: x >> (l - 1), result=lambda r: Ring(1)),
    _op(
        "field",
        "shr cast",
        (S,),
        lambda l, x: x.field(l // 3, l - l // 3 - 1),
        lambda l, x: x >> (l // 3),
        low=3,
        result=lambda r: Ring(r.l - r.l // 3 - 1),
    ),
    *(
        _op(
            f"equals {c}",
            "equals",
            (S,),
            lambda l, x, c=c: x.equals(c),
            lambda l, x, c=c: _each(lambda a: int((a - c) % 2**l == 0))(x),
            result=lambda r: Ring(1),
        )
        for c in (0, 1, -1, 2**63)
    ),
    _op("reshape", "reshape", (S,), lambda l, x: x.reshape(3, 1, 2), lambda l, x: x.reshape(3, 1, 2)),
    _op("reshape -1", "reshape", (S,), lambda l, x: x.reshape(3, -1), lambda l, x: x.reshape(3, 2)),
    _op("reshape to ()", "reshape", ((1, 1),), lambda l, x: x.reshape(), lambda l, x: x.reshape(())),
    _op("transpose", "transpose", (S,), lambda l, x: x.transpose(), lambda l, x: x.T),
    _op(
        "transpose axes",
        "transpose",
        ((2, 3, 4),),
        lambda l, x: x.transpose(1, 2, 0),
        lambda l, x: x.transpose(1, 2, 0),
    ),
    _op("index int", "index", (S,), lambda l, x: x[1], lambda l, x: x[1]),
    _op("index slice", "index", ((5, 2),), lambda l, x: x[1::2], lambda l, x: x[1::2]),
    _op("index tuple", "index", ((2, 3, 4),), lambda l, x: x[..., None, 1], lambda l, x: x[..., None, 1]),
    _op("index element", "index", (S,), lambda l, x: x[1, 2], lambda l, x: np.array(x[1, 2], object)),
    _op("index nothing", "index", (S,), lambda l, x: x[:, 3:], lambda l, x: x[:, 3:]),
    _op(
        "broadcast",
        "broadcast",
        ((2, 1),),
        lambda l, x: x.broadcast(4, 2, 3),
        lambda l, x: np.broadcast_to(x, (4, 2, 3)),
    ),
    _op("broadcast ()", "broadcast", ((),), lambda l, x: x.broadcast(3), lambda l, x: np.broadcast_to(x, (3,))),
    _op("concat", "concat", ((2, 3), (1, 3)), lambda l, x, y: concat(x, y), lambda l, x, y: np.concatenate([x, y])),
    _op(
        "concat last axis",
        "concat",
        ((2, 3), (2, 0), (2, 1)),
        lambda l, *xs: concat(*xs, axis=-1),
        lambda l, *xs: np.concatenate(xs, axis=1),
    ),
    _op("stack", "reshape concat", (S, S), lambda l, x, y: stack(x, y), lambda l, x, y: np.stack([x, y])),
    _op("stack last", "reshape concat", (S, S), lambda l, *xs: stack(*xs, axis=-1), lambda l, *xs: np.stack(xs, -1)),
    _op("sum", "sum", ((2, 5),), lambda l, x: x.sum(), lambda l, x: _total(x, 1)),
    _op("sum axis 0", "sum", ((300, 2),), lambda l, x: x.sum(0), lambda l, x: _total(x, 0)),
    _op("sum of nothing", "sum", ((0, 2),), lambda l, x: x.sum(0), lambda l, x: np.zeros(2, object)),
    _op("scalars", "add mul neg sub", ((), ()), lambda l, x, y: -(x + y) * x - y, lambda l, x, y: -(x + y) * x - y),
)
