"""Products of shared matrices: exact for every shape and share, and never dearer than word by word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.matmul import matmul
from protocols.ot.ragged import correlate_ragged
from protocols.products import mul
from sim.concrete import from_words, to_words
from sim.cost import Cost
from sim.ring import Z2, Ring, ShapeMismatch, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import blank
from sim.world import Session
from tests.harness import session

_RNG = np.random.default_rng()
R64 = Ring(64)


def uniform(ring: Ring, *shape: int) -> np.ndarray:
    return _RNG.integers(0, ring.mask, shape, np.uint64, endpoint=True)


@settings(max_examples=25)
@given(
    ring=st.sampled_from([Ring(1), Ring(7), Ring(32), R64]),
    batch=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    extreme=st.booleans(),
)
def test_product_is_exact(ring: Ring, batch: tuple[int, ...], sizes: tuple[int, int, int], extreme: bool) -> None:
    n, m, r = sizes
    x, y = uniform(ring, *batch, n, m), uniform(ring, *batch, m, r)
    if extreme:
        x, y = np.full_like(x, ring.mask), np.full_like(y, ring.modulus >> 1)
    mine = [from_words(ring, uniform(ring, *v.shape)) for v in (x, y)]
    theirs = [from_words(ring, v) - share for v, share in zip((x, y), mine, strict=True)]
    execution = session().run(matmul, mine, theirs)
    got = execution.outputs[CLIENT] + execution.outputs[SERVER]
    assert got.shape == (*batch, n, r)
    want = (x.astype(object) @ y.astype(object)) % ring.modulus
    assert np.array_equal(to_words(got).astype(object), want)


def cost(n: int, m: int, r: int) -> Cost:
    return matmul.declared(blank(Spec(R64, (n, m))), blank(Spec(R64, (m, r))))


@given(sizes=st.tuples(*[st.integers(1, 64)] * 3))
def test_closed_form_and_symmetry(sizes: tuple[int, int, int]) -> None:
    n, m, r = sizes
    found = cost(n, m, r)
    assert found.cot_client == found.cot_server == 64 * m * min(n, r)
    assert found.nbytes == 2 * (-(-64 * m * min(n, r) // 8) + -(-n * m * r * 64 * 65 // 2 // 8))
    assert found.rounds == 2
    assert cost(r, m, n).row() == found.row()


def test_a_product_of_single_words_costs_what_mul_does() -> None:
    one = blank(Spec(R64, (1,)))
    assert cost(1, 1, 1).row() == mul.declared(one, one).row()


@pytest.mark.parametrize(("left", "right"), [((2, 3), (2, 3)), ((2, 2, 3), (1, 3, 2)), ((3,), (3, 1))])
def test_shapes_that_do_not_meet_are_refused(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    inputs = [from_words(R64, np.zeros(shape, np.uint64)) for shape in (left, right)]
    with pytest.raises(ShapeMismatch, match="matrix product"):
        Session(session().services, seed=b"shapes").run(matmul, inputs, inputs)


def test_one_choice_bit_serves_its_row_and_no_other() -> None:
    """Rows of words under independent pads: the sender's words are all different, whatever the row."""
    rings, bits = (R64,), from_words(Z2, np.zeros((1, 64), int))
    deltas = [from_words(R64, np.zeros((64, 5), np.uint64))]
    run = session().run(
        correlate_ragged, [CLIENT, bits, None], [CLIENT, None, deltas], shape=(64,), rings=rings, row=(5,)
    )
    assert len(np.unique(to_words(run.outputs[SERVER][0]))) == 64 * 5
