"""Products of shared matrices under encryption: exact for every shape, share and digit; the noise known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.crossing import CrossingPlan, crossing, product_cost
from protocols.he.noise import WeightsOutOfBound
from protocols.he.own import crossing_plan, own_norm, own_report, own_weights, signed_digits
from protocols.he.packing import LinearPlan, ShapeDoesNotFit
from protocols.he.params import INSECURE_TEST, PARAM_SETS, ParamSet
from protocols.he.service import HeService
from protocols.matmul import matmul, swapped
from sim.concrete import from_words, to_words
from sim.ring import Ring, ShapeMismatch, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import blank
from sim.world import Execution, Session

Words = NDArray[np.uint64]
_RNG = np.random.default_rng()
SETS = ("P64s", "P64", "P64tiny", "P32", "P32tiny")
EDGES = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2**31, 2**64 - 1], np.uint64)


def words(ring: Ring, edge: bool, *shape: int) -> Words:
    drawn = _RNG.choice(EDGES, shape) if edge else _RNG.integers(0, 2**64, shape, np.uint64)
    return drawn & np.uint64(ring.mask)


def ran(plan: CrossingPlan, edge: bool) -> tuple[Execution, Words, Words]:
    ring, service = Ring(plan.params.ring_bits), HeService([plan.left, plan.right], 1.0)
    shapes = ((plan.rows, plan.n, plan.m), (plan.rows, plan.m, plan.r))
    shares = [[words(ring, edge, *shape) for shape in shapes] for _ in range(2)]
    inputs = [[from_words(ring, v) for v in own] for own in shares]
    execution = Session([service], seed=b"crossing").run(crossing, *inputs, plan=plan)
    x, y = (np.add(*pair) & np.uint64(ring.mask) for pair in zip(*shares, strict=True))
    return execution, x, y


def exact(execution: Execution, x: Words, y: Words, ring: Ring) -> bool:
    got = to_words(execution.outputs[CLIENT] + execution.outputs[SERVER]).astype(object)
    return np.array_equal(got, (x.astype(object) @ y.astype(object)) % ring.modulus)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), sizes=st.tuples(*[st.integers(1, 12)] * 3), edge=st.booleans())
def test_product_is_exact(rows: int, sizes: tuple[int, int, int], edge: bool) -> None:
    plan = CrossingPlan(INSECURE_TEST, rows, *sizes)
    execution, x, y = ran(plan, edge)
    assert exact(execution, x, y, Ring(64))
    blanks = (blank(Spec(Ring(64), v.shape)) for v in (x, y))
    assert execution.cost.row() == crossing.declared(*blanks, plan=plan).row()


@pytest.mark.slow
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_product_is_exact_at_every_parameter_set(name: str, edge: bool) -> None:
    plan = CrossingPlan(PARAM_SETS[name], 3, 9, 8, 7)
    assert exact(*ran(plan, edge), Ring(plan.params.ring_bits))


@given(st.sampled_from([INSECURE_TEST, *PARAM_SETS.values()]), st.integers(1, 4), st.booleans())
def test_digits_make_up_the_word(params: ParamSet, digits: int, edge: bool) -> None:
    ring = Ring(params.ring_bits)
    if ring.l // digits > 40:
        return  # no set admits such long digits
    plan, y = LinearPlan(params, 1, 3, 2, 0, digits), words(ring, edge, 2, 3)
    found = signed_digits(plan, y)
    assert found.shape == (2, plan.columns) and np.abs(found).max() <= 1 << (plan.digit_bits - 1)
    parts = [found[:, 3 * i : 3 * i + 3].astype(object) << plan.digit_bits * i for i in range(digits)]
    assert np.array_equal(sum(parts) % ring.modulus, y.astype(object))
    rows = [(found[low : low + plan.n_out].astype(object) ** 2).sum() for low in range(0, 2, plan.n_out)]
    assert max(rows) <= own_norm(plan)


def test_noise_is_known_before_the_words_are() -> None:
    """Two words of equal size in fewer digits would not pass, and the report never depends on them."""
    plan = crossing_plan(PARAM_SETS["P64s"], 39, 8, 39)
    assert plan.digits == 2 and own_report(plan).hides and own_report(plan).decrypts
    reports = {id(own_weights(plan, words(Ring(64), edge, 1, 39, 8)).report) for edge in (False, True)}
    assert len(reports) == 1
    with pytest.raises(WeightsOutOfBound):
        own_report(LinearPlan(PARAM_SETS["P64s"], 39, 8, 39, 0, 1))
    with pytest.raises(ShapeDoesNotFit, match="split the columns"):
        crossing_plan(PARAM_SETS["P64s"], 1, 1 << 14, 1)


def test_products_side_by_side_are_the_blocks_of_a_diagonal() -> None:
    plan = CrossingPlan(PARAM_SETS["P64s"], 12, 8, 64, 8).left
    assert plan.parts == 12 and plan.digits == 2
    drawn = words(Ring(64), True, 12, 8, 64)
    found = own_weights(plan, drawn).values[0].reshape(12, 8, 2, 12, 64)
    for i, j in np.ndindex(12, 12):
        block = np.concatenate([found[i, :, digit, j] for digit in range(2)], axis=1)
        assert np.array_equal(block, signed_digits(plan, drawn[i]) if i == j else np.zeros((8, 128)))
    alone = crossing_plan(PARAM_SETS["P64s"], 8, 64, 8)
    assert plan.nbytes < 12 * alone.nbytes / 9


def test_parts_divide_rows_and_columns() -> None:
    with pytest.raises(ShapeDoesNotFit, match="multiples of its parts"):
        LinearPlan(PARAM_SETS["P64s"], 1, 4, 3, parts=2)


def test_the_shorter_way_is_taken() -> None:
    params, x = PARAM_SETS["P64s"], blank(Spec(Ring(64), (4, 39, 8)))
    long, short = CrossingPlan(params, 4, 39, 8, 39), CrossingPlan(params, 4, 3, 8, 3)
    assert long.pays and not short.pays
    assert product_cost(x, swapped(x), long) == crossing.declared(x, swapped(x), plan=long)
    small = x[:, :3]
    assert product_cost(small, swapped(small), short) == matmul.declared(small, swapped(small))


def test_shapes_that_do_not_match_are_refused() -> None:
    plan = CrossingPlan(INSECURE_TEST, 1, 2, 3, 4)
    x = from_words(Ring(64), np.zeros((1, 2, 3), np.uint64))
    with pytest.raises(ShapeMismatch, match="matrix product"):
        Session([HeService([plan.left], 1.0)], seed=b"shape").run(crossing, [x, x], [x, x], plan=plan)
