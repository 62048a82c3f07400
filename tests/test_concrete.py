"""The concrete interpretation against plain Python integers, in every ring."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.concrete import CONCRETE, from_words, to_signed, to_words
from sim.ring import Ring, RingArray, Shape
from sim.shapes import SHAPES, blank
from tests.operations import OPERATIONS, Objects, Operation

IDS = [op.name for op in OPERATIONS]


def integers(ring: Ring, shape: Shape) -> st.SearchStrategy[Objects]:
    """Object arrays of Python integers in [0, 2^l), edge words forced in."""
    edges = sorted({0, 1, ring.mask, ring.modulus >> 1, (ring.modulus >> 1) - 1, 2 % ring.modulus})
    size = int(np.prod(shape))
    element = st.one_of(st.sampled_from(edges), st.integers(0, ring.mask))
    if size > 20:
        element = st.sampled_from(edges)
    each = st.lists(element, min_size=size, max_size=size)
    return each.map(lambda vs: np.array([*vs, 0], dtype=object)[:-1].reshape(shape))


def ring_array(ring: Ring, values: Objects) -> RingArray:
    x = from_words(ring, values.astype(np.uint64))
    x.value.flags.writeable = False  # an operation in place would fail
    return x


@pytest.mark.parametrize("op", OPERATIONS, ids=IDS)
@settings(max_examples=15)
@given(data=st.data())
def test_operation_equals_python_integers(op: Operation, data: st.DataObject) -> None:
    ring = Ring(data.draw(st.one_of(st.sampled_from([op.low, op.high]), st.integers(op.low, op.high))))
    values = [data.draw(integers(ring, shape)) for shape in op.shapes]
    operands = [ring_array(ring, v) for v in values]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = op.apply(ring.l, *operands)
    assert result.ring == op.result(ring)
    want = np.asarray(op.slow(ring.l, *values), dtype=object)
    assert result.shape == want.shape
    assert to_words(result).tolist() == np.array(want % result.ring.modulus, dtype=object).tolist()
    for operand, value in zip(operands, values, strict=True):
        assert to_words(operand).tolist() == value.tolist()


@pytest.mark.parametrize("op", OPERATIONS, ids=IDS)
def test_the_value_has_the_announced_shape_and_type(op: Operation) -> None:
    for l in {op.low, op.high}:
        operands = [from_words(Ring(l), np.zeros(shape, np.uint64)) for shape in op.shapes]
        result = op.apply(l, *operands)
        assert isinstance(result.value, np.ndarray)
        assert result.value.shape == result.shape
        assert result.value.dtype == (np.uint8 if result.ring.l == 1 else np.uint64)


@given(data=st.data(), l=st.integers(1, 64))
def test_signed_representatives(data: st.DataObject, l: int) -> None:
    ring = Ring(l)
    low, high = -(ring.modulus >> 1), (ring.modulus >> 1) - 1
    edges = [v for v in (low, -1, 0, 1, high) if low <= v <= high]
    values = data.draw(st.lists(st.one_of(st.sampled_from(edges), st.integers(low, high)), min_size=1))
    x = from_words(ring, np.array(values, dtype=np.int64))
    assert to_signed(x).tolist() == values
    assert to_words(x).tolist() == [v % ring.modulus for v in values]


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1), st.integers(1, 64))
def test_words_may_be_nested_lists_of_any_integers(values: list[int], l: int) -> None:
    assert to_words(from_words(Ring(l), values)).tolist() == [v % 2**l for v in values]


@pytest.mark.parametrize("value", [1.5, [1.0, 2.0], np.array([1.0]), [2**63, 0.5], ["1"], None])
def test_what_is_no_integer_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        from_words(Ring(64), value)


def test_words_are_copied_in() -> None:
    words = np.arange(3, dtype=np.uint64)
    x = from_words(Ring(64), words)
    words[0] = 9
    assert to_words(x).tolist() == [0, 1, 2]


def test_words_of_another_interpretation_are_refused() -> None:
    x = blank(from_words(Ring(8), [1]).spec)
    assert x.backend is SHAPES
    with pytest.raises(TypeError, match="shapes"):
        to_words(x)
    with pytest.raises(TypeError, match="interpretations: concrete, shapes"):
        _ = from_words(Ring(8), [1]) + x
    assert from_words(Ring(8), [1]).backend is CONCRETE
