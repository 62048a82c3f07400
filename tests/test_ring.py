"""Rings, specs, and what a ring array refuses: control flow and implicit shapes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.concrete import CONCRETE, from_words, to_words
from sim.ring import Z2, Ring, RingArray, RingMismatch, SecretControlFlow, ShapeMismatch, Spec, concat, constant, stack
from sim.shapes import SHAPES


def both(ring: Ring, shape: tuple[int, ...]) -> list[RingArray]:
    """One array in each interpretation."""
    return [constant(backend, ring, 1, shape) for backend in (CONCRETE, SHAPES)]


@pytest.mark.parametrize("l", [0, 65, -1])
def test_rings_have_1_to_64_bits(l: int) -> None:
    with pytest.raises(ValueError, match=f"got l = {l}"):
        Ring(l)


@given(l=st.integers(1, 64), shape=st.lists(st.integers(0, 9), max_size=4).map(tuple))
def test_spec_sizes(l: int, shape: tuple[int, ...]) -> None:
    spec = Spec(Ring(l), shape)
    assert spec.size == math.prod(shape)
    assert spec.bits == l * spec.size
    assert 8 * spec.nbytes - 8 < spec.bits <= 8 * spec.nbytes
    assert Ring(l).mask == Ring(l).modulus - 1 == 2**l - 1
    x = constant(SHAPES, Ring(l), 0, shape)
    assert (x.spec, x.size, x.ndim) == (spec, spec.size, len(shape))


REFUSED: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "if": lambda x: 1 if x else 2,
    "not": lambda x: not x,
    "and": lambda x: x and x,
    "any": lambda x: any(x for _ in range(1)),
    "int": int,
    "float": float,
    "complex": complex,
    "index": lambda x: [1, 2][x],
    "range": range,
    "bytes": bytes,
    "equal": lambda x: x == x,
    "equal to a constant": lambda x: x == 0,
    "constant equal": lambda x: 0 == x,  # noqa: SIM300  # the reflected comparison is the point
    "not equal": lambda x: x != x,
    "in": lambda x: 0 in x,
    "in a list": lambda x: x in [0],
    "iteration": list,
    "unpacking": lambda x: [*x],
    "sum of parts": sum,
    "max of parts": max,
    "as constant": lambda x: x.const(x),
    "shift by": lambda x: x << operator_index(x),
    "formatted": lambda x: f"{x:d}",
    "dictionary key": lambda x: {x: 1},
    "set element": lambda x: {x},
    "hash": hash,
    "length": len,
    "less": lambda x: x < x,
    "less or equal": lambda x: x <= 0,
    "sorted": lambda x: sorted([x, x]),
    "round": round,
    "subscript": lambda x: x[x],
    "shift": lambda x: x << x,
    "numpy beside": lambda x: np.arange(3) + x,
    "numpy after": lambda x: x * np.arange(3),
    "numpy comparison": lambda x: np.arange(3) == x,
    "numpy scalar": lambda x: np.uint64(1) + x,
    "numpy function": np.exp,
}
CONTROL_FLOW = {
    "bool", "if", "not", "and", "any", "int", "float", "complex", "index", "range", "equal",
    "equal to a constant", "constant equal", "not equal", "in", "in a list", "iteration", "unpacking", "sum of parts",
    "max of parts", "as constant", "shift by",
}  # fmt: skip


def operator_index(x: Any) -> int:
    return range(10).index(x)


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("ring", [Z2, Ring(64)], ids=repr)
@pytest.mark.parametrize("shape", [(), (1,), (3,)], ids=str)
def test_no_way_from_a_ring_array_to_a_python_value(what: str, ring: Ring, shape: tuple[int, ...]) -> None:
    for x in both(ring, shape):
        with pytest.raises(SecretControlFlow if what in CONTROL_FLOW else (TypeError, IndexError)):
            REFUSED[what](x)


@pytest.mark.parametrize("l", [1, 8, 64])
def test_a_printed_array_shows_no_content(l: int) -> None:
    x, y = (from_words(Ring(l), [v]) for v in (0, 1))
    assert repr(x) == repr(y) == str(y) == f"RingArray(Z_2^{l}, shape=(1,), concrete)"


@pytest.mark.parametrize("name", ["+", "-", "*", "@", "concat", "stack"])
def test_rings_do_not_mix(name: str) -> None:
    ops: dict[str, Callable[[RingArray, RingArray], RingArray]] = {
        "+": lambda x, y: x + y,
        "-": lambda x, y: x - y,
        "*": lambda x, y: x * y,
        "@": lambda x, y: x @ y,
        "concat": concat,
        "stack": stack,
    }
    for x, y in zip(both(Ring(8), (2, 2)), both(Ring(7), (2, 2)), strict=True):
        with pytest.raises(RingMismatch, match="Z_2\\^8 and Z_2\\^7"):
            ops[name](x, y)
    concrete, shaped = both(Ring(8), (2, 2))
    with pytest.raises(TypeError, match="interpretations"):
        ops[name](concrete, shaped)


@pytest.mark.parametrize("shapes", [((3,), (1,)), ((2, 3), (3,)), ((1,), ()), ((2,), (3,)), ((2, 1), (1, 2))], ids=str)
def test_elementwise_operands_have_equal_shapes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    for x, y in zip(both(Z2, shapes[0]), both(Z2, shapes[1]), strict=True):
        for op in (operator.add, operator.sub, operator.mul, operator.xor, operator.and_):
            with pytest.raises(ShapeMismatch, match="broadcast explicitly"):
                op(x, y)
            with pytest.raises(ShapeMismatch, match="broadcast explicitly"):
                op(y, x)


def test_xor_and_not_belong_to_z2() -> None:
    for x in both(Ring(2), (2,)):
        with pytest.raises(RingMismatch, match="xor is defined in Z_2, got Z_2"):
            _ = x ^ x
        with pytest.raises(RingMismatch, match="and is defined in Z_2, got Z_2"):
            _ = x & x
        with pytest.raises(RingMismatch, match="not is defined in Z_2, got Z_2"):
            _ = ~x


@pytest.mark.parametrize("axis", [-3, 2, 5])
def test_axes_outside_the_array_are_refused(axis: int) -> None:
    for x in both(Ring(8), (2, 3)):
        with pytest.raises(ShapeMismatch):
            x.sum(axis)
        with pytest.raises(ShapeMismatch):
            concat(x, x, axis=axis)
        with pytest.raises(ShapeMismatch):
            stack(x, x, axis=axis + (1 if axis > 0 else -1))
        with pytest.raises(ShapeMismatch):
            concat(x, x[:, :2], axis=0)
        with pytest.raises(ShapeMismatch):
            stack(x, x[:1])


@given(st.integers(1, 64), st.integers(-(2**80), 2**80))
def test_a_constant_is_reduced(l: int, value: int) -> None:
    x = constant(CONCRETE, Ring(l), value, (2,))
    assert to_words(x).tolist() == [value % 2**l] * 2
    assert to_words(constant(CONCRETE, Ring(l), [[value], [-value]])).tolist() == [[value % 2**l], [-value % 2**l]]


def test_nothing_is_done_in_place() -> None:
    x = y = from_words(Ring(8), [1, 2])
    x += 1
    x *= 3
    x -= 1
    x <<= 1
    x >>= 1
    assert to_words(y).tolist() == [1, 2]
    with pytest.raises(TypeError):
        y[0] = 3  # type: ignore[index]  # the missing method is the point
    with pytest.raises(AttributeError):
        y.other = 3  # type: ignore[attr-defined]  # slots only
