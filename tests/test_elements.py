"""Scalar terms: they compute what the array nodes do, and terms that are called alike are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.elements import LEAF, Elements
from proofs.symbolic import CONST, Dag, evaluate
from sim.ring import Ring, RingArray, Spec, concat
from sim.tape import Tape

WIDTH = 5
SHAPE = (2, 3)


def value(elements: Elements, number: int, leaves: dict[int, int]) -> int:
    """A term by the meaning of its operation."""
    op, args, params, l = elements.terms[number]
    if op == CONST:
        return params[0]
    if op == LEAF:
        return leaves[number]
    a, *b = (value(elements, n, leaves) for n in args)
    results = {
        "add": lambda: a + b[0],
        "sub": lambda: a - b[0],
        "mul": lambda: a * b[0],
        "neg": lambda: -a,
        "shl": lambda: a << params[0],
        "shr": lambda: a >> params[0],
        "cast": lambda: a,
        "equals": lambda: int(a == params[0]),
    }
    return results[op]() % (1 << l)


def program(x: RingArray, y: RingArray) -> RingArray:
    """All operations on two arrays, one array of two columns out."""
    z = concat((x @ y.transpose()).reshape(4), (x * y).sum(1), -x[0], (x - y)[:, 1] << 1).reshape(-1)
    bits = (z.bit(1) ^ z.equals(3)).cast(z.ring)
    return concat(z + bits, (z >> 2) + 3).reshape(2, -1).transpose()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**WIDTH - 1), min_size=12, max_size=12))
def test_terms_compute_what_arrays_do(words: list[int]) -> None:
    dag = Dag()
    x, y = (dag.leaf("client", name, Spec(Ring(WIDTH), SHAPE)) for name in "xy")
    out = program(x, y)
    given_ = dict(zip("xy", np.array(words, dtype=np.uint64).reshape(2, *SHAPE), strict=True))
    want = evaluate(dag, [out.value], lambda node: given_[node.label])[out.value]
    elements = Elements(dag)
    numbers = elements.array(out.value)
    leaves = {
        n: int(given_[dag.nodes[t.params[0]].label].flat[t.params[1]])
        for n, t in enumerate(elements.terms)
        if t.op == LEAF
    }
    got = [value(elements, int(n), leaves) for n in numbers.flat]
    assert got == want.reshape(-1).tolist()


@pytest.fixture
def secrets() -> tuple[Elements, RingArray, RingArray, RingArray]:
    dag = Dag()
    x, y = (dag.leaf("secret", name, Spec(Ring(WIDTH), (4,))) for name in "xy")
    other = dag.leaf("client", "x", Spec(Ring(WIDTH), (4,)))
    return Elements(dag), x, y, other


def images(elements: Elements, first: RingArray, candidates: RingArray) -> list[bool]:
    """Of candidates, entry by entry, whether they are images of the first entry of `first`."""
    root = int(elements.array(first.value).flat[0])
    found: list[bool] = elements.images([root], elements.array(candidates.value).reshape(-1, 1)).tolist()
    return found


def test_an_image_puts_leaves_for_leaves(secrets: tuple[Elements, RingArray, RingArray, RingArray]) -> None:
    elements, x, y, other = secrets
    assert images(elements, x * x + y, x * x + y) == [True] * 4
    assert images(elements, x * y, y * x) == [False] * 4  # another order: not tried
    assert images(elements, x + 1, x + 2) == [False] * 4
    assert images(elements, x, other) == [False] * 4  # another owner: perhaps another range
    assert images(elements, x >> 1, x >> 2) == [False] * 4
    assert images(elements, x.cast(Ring(3)), x.cast(Ring(4))) == [False] * 4


def test_a_substitution_is_a_function_but_need_not_be_injective(
    secrets: tuple[Elements, RingArray, RingArray, RingArray],
) -> None:
    """What holds of a b for all a, b holds of a a; not the other way round."""
    elements, x, _, _ = secrets
    mixed = concat(x[:2] * x[2:], x[:2] * x[:2])
    assert images(elements, mixed[:1], mixed) == [True] * 4
    assert images(elements, mixed[2:3], mixed) == [False, False, True, True]
    shared = concat((x[:2] + x[2:]) * x[:2], (x[:2] + x[2:]) * x[2:])
    assert images(elements, shared[:1], shared) == [True, True, False, False]


def test_draws_are_all_alike() -> None:
    dag = Dag()
    tape = Tape(bytes(32), "client")
    spec = Spec(Ring(WIDTH), (2,))
    r, s = (RingArray(dag, spec.ring, spec.shape, dag.draw(spec, tape, name)) for name in "rs")
    elements = Elements(dag)
    assert images(elements, r + 1, s + 1) == [True, True]


def test_a_shape_is_the_same_in_another_dag_and_tells_ranges_apart() -> None:
    found = []
    for names, ranges in ((("a", "b"), (0, 7)), (("c", "d"), (0, 7)), (("c", "d"), (0, 6))):
        dag = Dag()
        x, y = (dag.leaf("secret", name, Spec(Ring(WIDTH), (3,))) for name in names)
        elements = Elements(dag)
        rows = elements.array((x * y + x).value)
        marks = {x.value: ranges}
        found += [elements.shape_of([int(n)], marks.get) for n in rows]
    assert len(set(found[:6])) == 1 and len(set(found)) == 2


def test_missing_terms_stop_at_known_ones(secrets: tuple[Elements, RingArray, RingArray, RingArray]) -> None:
    elements, x, y, _ = secrets
    inner, outer = (int(elements.array(a.value)[0]) for a in (x * y, (x * y) + x))
    whole = elements.cone([outer])
    assert elements.missing(outer, ()) == whole and elements.missing(outer, {outer}) == []
    assert elements.missing(outer, set(elements.cone([inner]))) == [outer]
