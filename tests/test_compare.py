"""Comparison: every pair at 6 to 8 bits for every digit width, signs over every sharing, and the closed costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.compare import Digits, drelu, greater_than, less_than
from sim.concrete import from_words, to_words
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from tests.shared_runs import Ints, every_pair, every_sharing, opened, pair, representatives, result, run


def compared(x: Ints, y: Ints, bits: int, receiver: Role = CLIENT, **more: Any) -> Any:
    """x at the receiver, y of shape (fold, *x.shape) at its peer."""
    ring = Ring(bits)
    secrets = [(from_words(ring, x), None), (None, from_words(ring, y))]
    if receiver is SERVER:
        secrets = [(b, a) for a, b in secrets]
    public = {"shape": x.shape, "bits": bits, "fold": len(y), "receiver": receiver, **more}
    (total,) = opened(run(less_than, *secrets, **public))
    return to_words(total)


@pytest.mark.parametrize("w", range(1, 7))
@pytest.mark.parametrize("need_equal", [False, True])
def test_every_pair_of_6_bit_words(w: int, need_equal: bool) -> None:
    x, y = every_pair(Ring(6))
    got = compared(x, y[None], 6, w=w, need_equal=need_equal)
    want = np.stack([(y < x)[None], (y == x)[None]]) if need_equal else (y < x)[None]
    assert np.array_equal(got, want)


@pytest.mark.parametrize("w", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 7])
def test_every_pair_where_digits_do_not_divide(bits: int, w: int) -> None:
    x, y = every_pair(Ring(bits))
    receiver = SERVER if bits % 2 else CLIENT
    got = compared(x, y[None], bits, receiver, w=w, need_equal=True)
    assert np.array_equal(got, np.stack([(y < x)[None], (y == x)[None]]))


@pytest.mark.slow
@pytest.mark.parametrize("w", [2, 3, 4])
def test_every_pair_of_8_bit_words(w: int) -> None:
    x, y = every_pair(Ring(8))
    assert np.array_equal(compared(x, y[None], 8, w=w)[0], y < x)


def test_the_widest_digit() -> None:
    """One 1-of-256 OT is the whole comparison."""
    x, y = np.repeat(np.arange(256), 16), np.tile(np.r_[0:6, 126:130, 250:256], 256)
    assert np.array_equal(compared(x, y[None], 8, w=8)[0], y < x)


def test_one_choice_meets_several_values() -> None:
    x = np.arange(64)
    y = np.stack([(x + shift) % 64 for shift in (-2, -1, 0, 1, 2, 31)])
    got = compared(x.reshape(8, 8), y.reshape(6, 8, 8), 6, w=3, need_equal=True)
    assert np.array_equal(got, np.stack([y < x, y == x]).reshape(2, 6, 8, 8))


@pytest.mark.parametrize("bits", [46, 63, 64])
def test_words_that_differ_in_one_bit(bits: int) -> None:
    base = 0x5DEECE66D1234567 % 2**bits
    x = np.array([base] * (bits + 1), dtype=np.uint64)
    y = np.array([base ^ (1 << i) for i in range(bits)] + [base], dtype=np.uint64)
    for a, b in ((x, y), (y, x)):
        got = compared(a, b[None], bits, need_equal=True)
        assert np.array_equal(got, np.stack([(b < a)[None], (b == a)[None]]))


@pytest.mark.slow
@pytest.mark.parametrize("l, w", [(2, 1), (2, 4), (5, 2), (8, 2), (8, 3), (8, 4)])
def test_sign_of_every_sharing(l: int, w: int) -> None:
    ring = Ring(l)
    client, server = every_pair(ring)
    got = result(drelu, pair(ring, client, server), w=w)
    assert np.array_equal(got, representatives(client + server, l) >= 0)


@pytest.mark.slow
@pytest.mark.parametrize("w", [2, 4])
def test_thresholds_over_every_sharing(w: int) -> None:
    """|x - b| < 2^(l-1) for every x and b below: the declared range, to its ends."""
    thresholds = (-63, -5, -1, 0, 1, 62, 63)
    value, shares = every_sharing(Ring(8), np.arange(-64, 64))
    got = result(greater_than, shares, thresholds=thresholds, w=w)
    assert np.array_equal(got, np.stack([value > b for b in thresholds]))


def test_one_threshold_over_its_whole_range() -> None:
    for b in (-128, -127, -1, 0, 126):
        values = np.array([v for v in range(-128, 128) if -128 <= v - b - 1 <= 127])
        value, shares = every_sharing(Ring(8), values[:: 3 if b else 1])
        assert np.array_equal(result(greater_than, shares, thresholds=(b,)), (value > b)[None])


# -- digits and costs ------------------------------------------------------------------------------------------


@given(st.integers(1, 64), st.integers(1, 8), st.booleans())
def test_digits_cover_the_word_once(bits: int, w: int, need_equal: bool) -> None:
    digits = Digits.of(bits, w)
    assert sum(digits.widths) == bits
    assert all(width == w for width in digits.widths[1:]) and 1 <= digits.widths[0] <= w
    covered, equal = [], []
    for low, width, count, carries in digits.groups(need_equal):
        for i in range(count):
            covered.append((low + width * (count - 1 - i), width))
            equal.append(carries)
    assert [width for _, width in covered] == list(digits.widths)
    assert [low for low, _ in covered] == [sum(digits.widths[i + 1 :]) for i in range(len(digits.widths))]
    assert equal == [True] * (len(equal) - 1) + [need_equal]


@pytest.mark.parametrize("bits, w", [(0, 4), (8, 0), (8, 9), (8, -1)])
def test_other_digits_are_refused(bits: int, w: int) -> None:
    with pytest.raises(ValueError, match=f"got w = {w}, bits = {bits}"):
        Digits.of(bits, w)


@pytest.mark.parametrize("w, bits, flights", [(4, 594, 6), (3, 460, 7), (2, 424, 7)])
def test_the_price_of_a_sign_at_64_bits(w: int, bits: int, flights: int) -> None:
    cost = drelu.declared(blank(Spec(Ring(64), (8000,))), w=w)
    assert 8 * cost.nbytes == 8000 * bits
    assert cost.rounds == flights


@pytest.mark.parametrize("w", range(1, 9))
def test_flights_grow_with_the_logarithm_of_the_digits(w: int) -> None:
    for bits in range(1, 65):
        cost = less_than.declared(None, None, shape=(4,), bits=bits, w=w)
        assert cost.rounds == 2 + math.ceil(math.log2(-(-bits // w)))
