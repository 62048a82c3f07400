"""The exported strategies: what they draw is what they say, and the edges are reached."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from protocols.catalog import CATALOG
from protocols.entry import Case, Secret
from secmoe import strategies
from secmoe.examples import Example, arguments, both, expected, plain
from sim.concrete import from_words, to_words
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from tests.own_protocols import entry

CASES = [(row, case) for row in CATALOG for case in row.cases]


@given(st.data())
def test_values_and_shares_are_in_range(data: st.DataObject) -> None:
    secret = data.draw(strategies.secrets())
    low, high = secret.range
    value = data.draw(strategies.values(secret))
    assert value.shape == secret.shape and ((value >= low) & (value <= high)).all()
    share = data.draw(strategies.shares(secret.ring, secret.shape))
    assert share.shape == secret.shape and (share <= secret.ring.mask).all()


@given(st.data())
def test_elements_are_inside_their_bounds(data: st.DataObject) -> None:
    ring = data.draw(strategies.rings())
    low, high = sorted([data.draw(strategies.elements(ring)) for _ in range(2)])
    assert low <= data.draw(strategies.elements(ring, low, high)) <= high or ring.l == 1
    assert data.draw(strategies.words(ring)) in range(ring.modulus)


@given(strategies.specs(16))
def test_specs_are_small(spec: Spec) -> None:
    assert spec.ring.l <= 16 and len(spec.shape) <= 3 and all(1 <= n <= 4 for n in spec.shape)


@pytest.mark.parametrize("edge", strategies.edges(-(1 << 62), (1 << 62) - 1))
def test_edge_values_are_drawn(edge: int) -> None:
    """Uniform draws of 63 bits alone would not meet them."""
    drawn = strategies.elements(Ring(64), -(1 << 62), (1 << 62) - 1)
    assert find(drawn, lambda v: v == edge, settings=settings(max_examples=200, database=None)) == edge


@pytest.mark.parametrize("edge", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_edge_words_are_drawn(edge: int) -> None:
    drawn = strategies.words(Ring(64))
    assert find(drawn, lambda v: v == edge, settings=settings(max_examples=200, database=None)) == edge


def test_edges_outside_the_range_are_not_forced() -> None:
    assert strategies.edges(5, 9) == [5, 6, 8, 9]
    assert strategies.edges(0, 1) == [0, 1]


@given(st.data())
@settings(max_examples=5)
def test_examples_satisfy_the_joint_precondition(data: st.DataObject) -> None:
    case = next(case for row, case in CASES if row.name == "probabilities")
    logits, winners = data.draw(strategies.examples(case)).values
    assert (winners[:, 0] == logits.max(axis=1)).all()


# -- the calls made of them -------------------------------------------------------------------------------------------
def _example(case: Case, first: int, second: int, mask: int) -> Example:
    shape = case.secrets[0].shape
    return Example((np.full(shape, first), np.full(shape, second)), (np.full(shape, mask, np.uint64),) * 2)


@given(st.integers(-(1 << 62), (1 << 62) - 1), st.integers(0, (1 << 64) - 1))
def test_both_parties_hold_shares_of_the_value(value: int, mask: int) -> None:
    case = entry.cases[0]
    client, server = both(case, _example(case, value, -1, mask))
    assert (to_words(client[0]) == np.uint64(mask)).all()
    assert (plain(client[0] + server[0]) == value).all() and (plain(client[1] + server[1]) == -1).all()


@pytest.mark.parametrize("role", list(Role))
def test_an_absent_party_is_known_by_its_shapes_only(role: Role) -> None:
    secrets = (Secret(Ring(8), (2,)), Secret(Ring(4), (3,), CLIENT), Secret(Ring(4), (1, 2), SERVER))
    given = arguments(Case("c", secrets), role, None)
    present = [x.spec for x in given if isinstance(x, RingArray)]
    assert present == [s.spec for s in secrets if s.owner in (None, role)]
    assert all(x.backend.name == "shapes" for x in given if isinstance(x, RingArray))


def test_what_a_party_holds_is_its_own() -> None:
    secrets = (Secret(Ring(8), (1,)), Secret(Ring(8), (1,), CLIENT), Secret(Ring(8), (1,), SERVER, weight=True))
    one = Example((np.array([5]), np.array([-1]), np.array([7])), (np.array([250], np.uint64),) * 3)
    case = Case("c", secrets)
    held = {role: {k: v.tolist() for k, v in one.held(case, role).items()} for role in Role}
    assert held == {CLIENT: {"x0": [250], "x1": [255]}, SERVER: {"x0": [11], "w2": [7]}}


def test_the_functionality_is_asked_for_plain_values() -> None:
    case = entry.cases[0]
    (want,) = expected(entry, case, _example(case, -3, 4, 9))
    assert want.tolist() == [4, 4]
    assert to_words(from_words(Ring(64), want)).tolist() == [4, 4]
