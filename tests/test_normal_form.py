"""Normal forms and bounds: whatever they say holds on concrete words."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.bounds import Bounds
from proofs.elements import LEAF, Elements
from proofs.normal_form import Form, Forms, Normaliser
from proofs.symbolic import Dag, evaluate
from sim.ring import Ring, RingArray, Spec, stack

WIDTH = 4
LEAVES = 3
UNARY: tuple[Callable[[RingArray], RingArray], ...] = (
    lambda x: -x,
    lambda x: x + 5,
    lambda x: x * 6,
    lambda x: x << 1,
    lambda x: x >> 1,
    lambda x: x >> 3,
    lambda x: x.equals(3).cast(Ring(WIDTH)),
    lambda x: x.bit(0).cast(Ring(WIDTH)),
    lambda x: x.bit(WIDTH - 1).cast(Ring(WIDTH)),
    lambda x: x.cast(Ring(2)).cast(Ring(WIDTH)),
    lambda x: (x.cast(Ring(3)).cast(Ring(WIDTH))) << 1,
    lambda x: x.cast(Ring(6)).field(1, WIDTH),
)
BINARY: tuple[Callable[[RingArray, RingArray], RingArray], ...] = (
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: (x.bit(1) & y.bit(2)).cast(Ring(WIDTH)),
    lambda x, y: (x.bit(WIDTH - 1) ^ y.bit(0)).cast(Ring(WIDTH)),
    lambda x, y: stack(x, y).sum(0),
)


def leaves(dag: Dag) -> list[RingArray]:
    return [dag.leaf("secret", f"x{i}", Spec(Ring(WIDTH), ())) for i in range(LEAVES)]


@st.composite
def programs(draw: st.DrawFn) -> tuple[Dag, list[RingArray]]:
    """A random program over three words; every value it computed."""
    dag = Dag()
    values = leaves(dag)
    for _ in range(draw(st.integers(1, 9))):
        a, b = (values[draw(st.integers(0, len(values) - 1))] for _ in range(2))
        pick = draw(st.integers(0, len(UNARY) + len(BINARY) - 1))
        values.append(UNARY[pick](a) if pick < len(UNARY) else BINARY[pick - len(UNARY)](a, b))
    return dag, values


def number(elements: Elements, x: RingArray) -> int:
    return int(elements.array(x.value).flat[0])


def truth(dag: Dag, values: list[RingArray], words: tuple[int, ...]) -> list[int]:
    """What the concrete interpretation computes."""
    table = evaluate(dag, [x.value for x in values], lambda node: np.array(words[int(node.label[1:])]))
    return [int(table[x.value]) for x in values]


def value_of(forms: Forms, form: Form, elements: Elements, dag: Dag, words: tuple[int, ...]) -> int:
    """A form evaluated by the meaning of its atoms, written down a second time."""

    def atom(a: int) -> int:
        node = forms.atoms[a]
        args = [value_of(forms, f, elements, dag, words) for f in node.args]
        if node.op == LEAF:
            array = elements.terms[node.params[0]].params[0]
            return words[int(dag.nodes[array].label[1:])]
        meanings: dict[str, Callable[[], int]] = {
            "bit": lambda: args[0] >> node.params[0] & 1,
            "shr": lambda: args[0] >> node.params[0],
            "ext": lambda: args[0],
            "equal": lambda: int(args[0] == 0),
            "product": lambda: args[0] * args[1] % (1 << node.width),
            "named": lambda: args[0],
        }
        return meanings[node.op]()

    total = 0
    for mono, c in form.terms.items():
        for a in mono:
            c *= atom(a)
        total += c
    return total % (1 << form.l)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(programs(), st.tuples(*[st.integers(0, 2**WIDTH - 1)] * LEAVES))
def test_a_form_has_the_value_of_its_term(program: tuple[Dag, list[RingArray]], words: tuple[int, ...]) -> None:
    dag, values = program
    elements = Elements(dag)
    normal = Normaliser(elements)
    for x, expected in zip(values, truth(dag, values, words), strict=True):
        form = normal.form(number(elements, x))
        assert value_of(normal.forms, form, elements, dag, words) == expected
        assert value_of(normal.forms, normal.forms.expanded(form), elements, dag, words) == expected


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(programs(), st.data())
def test_arcs_contain_every_value(program: tuple[Dag, list[RingArray]], data: st.DataObject) -> None:
    dag, values = program
    elements = Elements(dag)
    normal = Normaliser(elements)
    bounds = Bounds(elements, normal)
    ranges = []
    for x in values[:LEAVES]:
        low = data.draw(st.integers(-(2 ** (WIDTH - 1)), 2 ** (WIDTH - 1) - 1))
        high = data.draw(st.integers(low, 2 ** (WIDTH - 1) - 1))
        bounds.assume(number(elements, x), low, high)
        ranges.append((low, high))
    arcs = [bounds.arc(number(elements, x)) for x in values]
    for _ in range(8):
        words = tuple(data.draw(st.integers(low, high)) % 2**WIDTH for low, high in ranges)
        for (low, high), actual in zip(arcs, truth(dag, values, words), strict=True):
            assert (actual - low) % 2**WIDTH <= high - low
            shown = normal.forms
        for x, actual in zip(values, truth(dag, values, words), strict=True):
            form = normal.form(number(elements, x))
            assert value_of(shown, form, elements, dag, words) == actual  # implications hold inside the ranges


def forms_of(*xs: RingArray) -> list[Form]:
    dag: Any = xs[0].backend
    elements = Elements(dag)
    normal = Normaliser(elements)
    return [normal.forms.expanded(normal.form(number(elements, x))) for x in xs]


def test_identities_that_correctness_rests_on() -> None:
    x, y, z = leaves(Dag())
    bits = [x.bit(i).cast(x.ring) << i for i in range(WIDTH)]
    total = bits[0] + bits[1] + bits[2] + bits[3]
    a, b = forms_of(total * y - x * y, x * 0)
    assert a == b  # a word is the sum of its bits
    b_c, b_s = x.bit(0), y.bit(0)
    half = Ring(WIDTH - 1)
    cross = (b_c.cast(half) * b_s.cast(half)).cast(x.ring) << 1
    a, b = forms_of((b_c ^ b_s).cast(x.ring), b_c.cast(x.ring) + b_s.cast(x.ring) - cross)
    assert a == b  # lifting of an exclusive or
    a, b = forms_of((x + y - z) * (x + z), (x + z) * (y + x) - z * (z + x))
    assert a == b


def test_different_values_have_different_forms() -> None:
    x, y, _ = leaves(Dag())
    for a, b in ((x, y), (x >> 1, x >> 2), (x * y, x * x), (x.cast(Ring(3)).cast(x.ring), x), (x.bit(1), x.bit(2))):
        p, q = forms_of(a, b)
        assert p != q


def test_a_shift_inside_another_shift_counts_in_both() -> None:
    """Bounds of (x >> 1) + (((x >> 1) + y) >> 1), by words: the inner shift stands in the sum twice."""
    dag = Dag()
    x, y = (dag.leaf("secret", name, Spec(Ring(8), ())) for name in ("x0", "x1"))
    for total in ((x >> 1) + (((x >> 1) + y) >> 1), (((x >> 1) + y) >> 1) + (x >> 1)):
        elements = Elements(dag)
        normal = Normaliser(elements)
        bounds = Bounds(elements, normal)
        for leaf, high in ((x, 40), (y, 6)):
            bounds.assume(number(elements, leaf), 0, high)
        low, high = bounds.arc(number(elements, total))
        values = [(a >> 1) + (((a >> 1) + b) >> 1) for a in range(41) for b in range(7)]
        assert low <= min(values) and max(values) <= high
        form = normal.form(number(elements, total))
        poly, scale, below, above = bounds._relaxed(dict(form.terms), 8)
        low_, high_ = (Fraction(end) / scale for end in bounds._by_cases(poly, 8))
        assert low_ + below <= min(values) and max(values) <= high_ + above


@given(st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127), st.integers(-40, 40), st.booleans())
def test_a_wide_sign_narrows_a_narrower_ring(low: int, high: int, least: int, offset: int, two: bool) -> None:
    """[word > least] (word + offset) modulo 2^6, the word in 8 bits: each value that occurs lies in its arc."""
    low, high = min(low, high), max(low, high)
    dag = Dag()
    x, y = (dag.leaf("secret", name, Spec(Ring(8), ())) for name in ("x0", "x1"))
    word = x - y if two else x
    sign = (word - least).bit(7) ^ 1
    narrow = sign.cast(Ring(6)) * (word + offset).cast(Ring(6))
    elements = Elements(dag)
    normal = Normaliser(elements)
    bounds = Bounds(elements, normal)
    bounds.assume(number(elements, word), low, high)
    first, last = bounds.arc(number(elements, narrow))
    for value in range(low, high + 1):
        found = (value + offset) % 64 if (value - least) % 256 < 128 else 0
        assert (found - first) % 64 <= last - first


def test_a_wide_sign_bounds_a_parabola_in_a_narrower_ring() -> None:
    """z^2 - 6 z in 10 bits, of a word that its sign keeps between 0 and 5 in 16: the minimum at 3 is seen."""
    dag = Dag()
    word = dag.leaf("secret", "x0", Spec(Ring(16), ()))
    narrow = (((word + 5).bit(15) ^ 1).cast(Ring(16)) * (word + 5)).cast(Ring(10))
    elements = Elements(dag)
    normal = Normaliser(elements)
    bounds = Bounds(elements, normal)
    bounds.assume(number(elements, word), -(1 << 14), 0)
    assert bounds.arc(number(elements, narrow * narrow - narrow * 6)) == (-9, 0)
