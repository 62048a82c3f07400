"""The shapes interpretation gives the same rings and shapes as the concrete one, for every operation there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim.concrete import CONCRETE, Concrete, from_words
from sim.ring import Backend, Ring, RingArray, Shape, Spec, constant
from sim.shapes import SHAPES, Shapes, blank
from tests.operations import OPERATIONS, Operation

MEMBERS = {name for name, member in vars(Backend).items() if callable(member) and not name.startswith("_")}
METHODS = MEMBERS - {"draw"}  # draws have no operands: tests/test_party.py holds them against the tape
WIDTHS = (1, 2, 7, 8, 33, 63, 64)


class Spy:
    """A backend that notes which methods of another are called."""

    name = "spy"

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self.backend, name)


def uncovered(operations: tuple[Operation, ...]) -> set[str]:
    return METHODS - {method for op in operations for method in op.through}


def test_the_table_covers_the_closed_set_exactly() -> None:
    assert uncovered(OPERATIONS) == set()
    for backend in (Concrete, Shapes):
        assert {name for name in vars(backend) if not name.startswith("_")} - {"name"} == MEMBERS


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_missing_operation_is_noticed(method: str) -> None:
    assert method in uncovered(tuple(op for op in OPERATIONS if method not in op.through))


def public_operations() -> set[str]:
    """Members of RingArray whose results are ring arrays: their annotation says so."""
    return {
        name
        for name, member in vars(RingArray).items()
        if callable(member) and getattr(member, "__annotations__", {}).get("return") == "RingArray" and name != "_new"
    }


def test_every_operation_of_ring_arrays_is_in_the_table() -> None:
    """Run the whole table on a subclass that notes which members are called."""
    reached: set[str] = set()

    class Traced(RingArray):
        __slots__ = ()

        def _new(self, shape: Shape, value: Any, ring: Ring | None = None) -> RingArray:
            return Traced(self.backend, ring or self.ring, shape, value)

    def noting(name: str) -> Callable[..., Any]:
        def call(self: Traced, *args: Any, **kwargs: Any) -> Any:
            if name.startswith("__r") and isinstance(args[0], RingArray):
                return NotImplemented  # Python asks a subclass's reflected operator first
            reached.add(name)
            return getattr(super(Traced, self), name)(*args, **kwargs)

        return call

    for name in public_operations():
        setattr(Traced, name, noting(name))
    for op in OPERATIONS:
        op.apply(op.high, *(Traced(SHAPES, Ring(op.high), shape, None) for shape in op.shapes))
    assert public_operations() == reached


@pytest.mark.parametrize("op", OPERATIONS, ids=[op.name for op in OPERATIONS])
def test_same_specs_in_both_interpretations(op: Operation) -> None:
    for l in WIDTHS:
        if op.low <= l <= op.high:
            ring = Ring(l)
            concrete = op.apply(l, *(from_words(ring, np.zeros(shape, np.uint64)) for shape in op.shapes))
            shaped = op.apply(l, *(blank(Spec(ring, shape)) for shape in op.shapes))
            assert shaped.backend is SHAPES
            assert shaped.value is None
            assert shaped.spec == concrete.spec
            assert concrete.backend is CONCRETE


@pytest.mark.parametrize("op", OPERATIONS, ids=[op.name for op in OPERATIONS])
def test_an_operation_goes_through_its_methods(op: Operation) -> None:
    spy = Spy(CONCRETE)
    ring = Ring(op.high)
    operands = [from_words(ring, np.zeros(shape, np.uint64)) for shape in op.shapes]
    op.apply(op.high, *(RingArray(spy, ring, x.shape, x.value) for x in operands))
    assert spy.called == op.through


REFUSED: dict[str, Any] = {
    "reshape": lambda x: x.reshape(4),
    "reshape to negative": lambda x: x.reshape(-2, -3),
    "transpose": lambda x: x.transpose(0, 0),
    "transpose too few": lambda x: x.transpose(0),
    "broadcast": lambda x: x.broadcast(3, 3),
    "broadcast to fewer axes": lambda x: x.broadcast(3),
    "sum": lambda x: x.sum(2),
    "sum, negative": lambda x: x.sum(-3),
    "index": lambda x: x[2],
    "index, too many": lambda x: x[0, 0, 0],
    "matmul": lambda x: x @ x,
    "matmul of a vector": lambda x: x @ x[0],
    "const": lambda x: x.const([1, 2, 3, 4], (2, 3)),
    "const, too deep": lambda x: x.const([[[1]]], (2, 3)),
    "shift": lambda x: x << 8,
    "shift, negative": lambda x: x >> -1,
    "field": lambda x: x.field(4, 5),
    "bit": lambda x: x.bit(8),
    "add": lambda x: x + x[0],
    "float constant": lambda x: x.const(1.5),
    "float operand": lambda x: x + 1.5,
    "set operand": lambda x: x + {1},
    "truth operand": lambda x: x + True,
    "matmul with an integer": lambda x: x @ 2,
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_same_calls_are_refused_in_both_interpretations(name: str) -> None:
    kinds = []
    for x in (constant(CONCRETE, Ring(8), 0, (2, 3)), blank(Spec(Ring(8), (2, 3)))):
        with pytest.raises((ValueError, TypeError, IndexError)) as caught:
            REFUSED[name](x)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]
