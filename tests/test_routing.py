"""Routing: winners, one-hot rows and probabilities for every kind of row, and nothing of it in the traffic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.model import oracle
from protocols.model.config import MoeConfig
from protocols.model.fixed_point import FixedPoint
from protocols.routing import index_of, one_hot, probabilities, spread_of, top_k
from sim.concrete import from_words, to_signed, to_words
from sim.message import Message
from sim.ring import Z2, Ring, Spec
from sim.shapes import blank
from sim.world import Execution
from tests.shared_runs import Ints, opened, pair, run, share

R64 = Ring(64)
SUNK = -(2**62)
EXPERTS = [2, 3, 5, 8, 13, 16, 33, 64, 128]


def ranked(row: list[int], k: int, sunk: int = SUNK) -> list[int]:
    """Indices of the k largest, ties to the lower index; a winner sinks to `sunk` before the next."""
    left, chosen = list(row), []
    for _ in range(k):
        chosen.append(max(range(len(left)), key=lambda i: (left[i], -i)))
        left[chosen[-1]] = sunk
    return chosen


def check(values: Ints, k: int, ring: Ring = R64) -> Execution:
    execution = run(top_k, share(ring, values), k=k, l=ring.l)
    winners, hot = opened(execution)
    rows, sunk = values.tolist(), -(1 << (ring.l - 2))
    routes = [ranked(row, k, sunk) for row in rows]
    assert to_words(hot).tolist() == [
        [[int(i == r) for i in range(len(row))] for r in rs] for row, rs in zip(rows, routes, strict=True)
    ]
    got = to_signed(winners).tolist()
    for row, rs, won in zip(rows, routes, got, strict=True):
        assert won == [row[r] if r not in rs[:j] else sunk for j, r in enumerate(rs)]
    return execution


def rows_of_all_kinds(E: int) -> Ints:
    """Distinct, rising, falling, all equal, pairs of equals, equal maxima at both ends, and extremes."""
    rng = np.random.default_rng(E)
    low, high = -(2**62), 2**62 - 1
    rows = [
        rng.permutation(E) - E // 2,
        np.arange(E),
        -np.arange(E),
        np.zeros(E, np.int64),
        np.full(E, high),
        np.full(E, low + 1),
        np.arange(E) // 2,
        (np.arange(E) % (E - 1) == 0) * 5,
        rng.choice([low, high], E),
        np.where(np.arange(E) == E - 1, high, low),
        np.where(np.arange(E) == 0, high, low),
        rng.integers(low, high, E, endpoint=True),
        rng.integers(0, 2, E),
        rng.integers(0, 3, E) - 1,
    ]
    return np.stack(rows).astype(np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("E, k", [*((E, 2) for E in EXPERTS), (2, 1), (5, 1), (128, 1)])
def test_every_kind_of_row(E: int, k: int) -> None:
    """Differences up to 2^63 - 1: the end of the declared range."""
    check(rows_of_all_kinds(E), k)


@pytest.mark.nightly
@pytest.mark.parametrize("E", [E for E in range(2, 129) if E not in EXPERTS])
def test_every_kind_of_row_for_the_other_numbers_of_experts(E: int) -> None:
    check(rows_of_all_kinds(E), 2)


@pytest.mark.slow
@pytest.mark.parametrize("E", [2, 3, 4])
def test_every_row_of_a_small_ring(E: int) -> None:
    """8 bits: all rows over values whose differences stay below 2^7, ends included; k = 1 to E."""
    grid = [-64, -3, 0, 1, 63] if E > 2 else list(range(-64, 64))
    values = np.stack(np.meshgrid(*[grid] * E, indexing="ij"), -1).reshape(-1, E)
    for k in range(1, min(E, 2 if E == 2 else E) + 1):
        check(values, k, Ring(8))


@pytest.mark.slow
@settings(max_examples=6)
@given(E=st.integers(2, 24), k=st.integers(1, 4), data=st.data())
def test_rows_with_ties(E: int, k: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-2, 2), min_size=3 * E, max_size=3 * E))
    check(np.array(values).reshape(3, E), min(k, E))


def test_the_oracle_agrees() -> None:
    for E in (2, 5, 16, 33):
        values = rows_of_all_kinds(E)
        for k in (1, 2):
            routes = oracle.top_k(values.view(np.uint64), k, FixedPoint())
            assert routes.tolist() == [ranked(row, k) for row in values.tolist()]


def headers(messages: tuple[Message, ...]) -> list[Any]:
    return [(m.depth, m.sender, m.label.partition("/")[2], m.spec) for m in messages]


@pytest.mark.parametrize("E, k", [(5, 2), (13, 1)])
def test_traffic_does_not_depend_on_the_values(E: int, k: int) -> None:
    """Ties in particular: 8 equal values and 8 distinct ones give the same labels, sizes and rounds."""
    seen = [headers(check(row[None], k).messages) for row in rows_of_all_kinds(E)[[0, 3, 8]]]
    assert all(other == seen[0] for other in seen[1:])


# -- indices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("E", [*range(1, 18), 63, 64, 65, 128])
def test_index_and_one_hot_are_inverse(E: int) -> None:
    """index_of is local and linear: it may be taken on the shares of a one-hot row."""
    hot = np.eye(E, dtype=np.int64)
    shares = share(Z2, hot)
    mine, theirs = (index_of(s) for s in shares if s is not None)
    digits = to_words(mine ^ theirs)
    width = max(1, (E - 1).bit_length())
    assert digits.tolist() == [[i >> j & 1 for j in range(width)] for i in range(E)]
    (back,) = opened(run(one_hot, (mine, theirs), E=E))
    assert np.array_equal(to_words(back), hot)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_one_hot_of_every_sharing_of_every_index(bits: int) -> None:
    """Positions beyond E give an empty row."""
    index, mask = (a.reshape(-1) for a in np.meshgrid(np.arange(1 << bits), np.arange(1 << bits)))
    digits, masks = ((v[:, None] >> np.arange(bits)) & 1 for v in (index, mask))
    for E in range((1 << bits) // 2 + 1, (1 << bits) + 1):
        (hot,) = opened(run(one_hot, pair(Z2, masks, digits ^ masks), E=E))
        assert np.array_equal(to_words(hot), index[:, None] == np.arange(E))


def test_one_hot_takes_log2_e_minus_1_rounds() -> None:
    for bits in range(1, 8):
        assert one_hot.declared(blank(Spec(Z2, (2, bits))), E=1 << bits).rounds == bits - 1


def test_the_local_index_is_of_booleans() -> None:
    assert to_words(index_of(from_words(Z2, [[0, 0, 1, 0]]))).tolist() == [[0, 1]]


# -- probabilities ---------------------------------------------------------------------------------------------


def check_probabilities(logits: Ints, k: int, renormalise: bool, fp: FixedPoint) -> Ints:
    """The protocol on the k largest logits against the oracle, bit for bit; gives the probabilities as reals."""
    routes = np.array([ranked(row, k, -(1 << (fp.l - 2))) for row in logits.tolist()])
    winners = np.take_along_axis(logits, routes, 1)
    ring = Ring(fp.l)
    (p,) = opened(
        run(probabilities, share(ring, logits), share(ring, winners), s=fp.s, l=fp.l, renormalise=renormalise)
    )
    E = logits.shape[1]
    config = MoeConfig(d=1, f=1, E=E, k=k, renormalise=renormalise)
    _, _, want = oracle.probabilities(fp.wrap(logits.view(np.uint64)), routes, config, fp)
    assert np.array_equal(to_words(p), want)
    return to_signed(p) / 2.0**fp.s


@pytest.mark.slow
@pytest.mark.parametrize("E", [2, 13, 128])
@pytest.mark.parametrize("k, renormalise", [(1, False), (2, False), (2, True)])
def test_probabilities_against_oracle_and_float(E: int, k: int, renormalise: bool) -> None:
    fp = FixedPoint()
    rng = np.random.default_rng(E)
    logits = np.concatenate(
        [
            rng.integers(-(8 << 18), 8 << 18, (3, E)),
            np.zeros((1, E), np.int64),
            np.where(np.arange(E) == E // 2, 0, -(2**61))[None],
            rng.integers(-2, 3, (1, E)),
            np.full((1, E), 2**60),
        ]
    )
    got = check_probabilities(logits, k, renormalise, fp)
    v = logits / 2.0**18
    e = np.exp(v - v.max(1, keepdims=True))
    top = -np.sort(-e, axis=1)[:, :k]
    exact = top / (top if renormalise else e).sum(1, keepdims=True)
    assert np.abs(got - exact).max() < 1.5e-4
    assert (got <= 1).all() and (got >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("E, k, renormalise", [(5, 1, False), (5, 2, False), (5, 2, True), (2, 2, True)])
def test_probabilities_in_32_bits(E: int, k: int, renormalise: bool) -> None:
    fp = FixedPoint(32, 12)
    logits = np.random.default_rng(E).integers(-(6 << 12), 6 << 12, (6, E))
    logits[0], logits[1, 1:] = 7, -(2**29)
    check_probabilities(logits, k, renormalise, fp)


def test_equal_logits_share_evenly() -> None:
    got = check_probabilities(np.full((1, 8), 12345), 2, False, FixedPoint())
    assert np.abs(got - 1 / 8).max() < 2.0**-13


def test_a_renormalised_top_1_is_the_constant_1() -> None:
    logits = np.array([[3, 1], [-5, 2**40]])
    execution = run(probabilities, share(R64, logits), share(R64, logits.max(1)[:, None]), s=18, l=64, renormalise=True)
    (p,) = opened(execution)
    assert to_signed(p).tolist() == [[1 << 18], [1 << 18]]
    assert execution.messages == ()


def test_the_spread_covers_any_sum() -> None:
    for terms in range(1, 300):
        assert 2 ** spread_of(terms) >= terms
        assert terms <= 2 or 2 ** (spread_of(terms) - 1) < terms
        assert spread_of(terms) == oracle.reciprocal_steps(terms)
