"""Truncation: the exact floor over every sharing at 8 bits, and the one-ulp mode against its share-level rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import functionalities as F
from protocols.truncate import FAITHFUL, MODES, ONE_ULP, TruncationMode, truncate, truncate_bounded, truncate_known_sign
from sim.concrete import from_words
from sim.ring import Ring, Spec
from sim.shapes import blank
from tests.shared_runs import Ints, every_pair, every_sharing, pair, representatives, result, signed


def carry(client: Ints, server: Ints, f: int) -> Ints:
    """[the low f bits of the two shares overflow]: what the one-ulp mode leaves out."""
    return np.asarray((client % (1 << f) + server % (1 << f)) >> f)


SLOW = pytest.mark.slow
SOME = [1, 4, 6, *(pytest.param(f, marks=SLOW) for f in (2, 3, 5))]


@pytest.mark.slow
@pytest.mark.parametrize("w", [pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW), 3, 4])
@pytest.mark.parametrize("f", SOME)
def test_exact_floor_of_every_sharing(f: int, w: int) -> None:
    ring = Ring(8)
    client, server = every_pair(ring)
    got = result(truncate, pair(ring, client, server), f=f, w=w)
    assert np.array_equal(got, (representatives(client + server, 8) >> f) % 256)


@pytest.mark.slow
@pytest.mark.parametrize("f", SOME)
def test_one_ulp_is_the_floor_less_the_carry_of_the_shares(f: int) -> None:
    """Exhaustive at 8 bits: never anything but the floor or one ulp below, and which of them is a function of the
    shares."""
    ring = Ring(8)
    client, server = every_pair(ring)
    got = result(truncate, pair(ring, client, server), f=f, mode=ONE_ULP)
    floor = representatives(client + server, 8) >> f
    assert np.array_equal(got, (floor - carry(client, server, f)) % 256)
    rule = F.FLOOR_SHIFT_ONE_ULP.compute(representatives(client, 8), representatives(server, 8), f=f, l=8)
    assert np.array_equal(got, rule % 256)


@pytest.mark.parametrize("l, f", [(3, 1), (4, 1), (4, 2), (5, 3), (7, 2), (7, 5)])
def test_other_small_rings(l: int, f: int) -> None:
    ring = Ring(l)
    client, server = every_pair(ring)
    floor = representatives(client + server, l) >> f
    for mode, low in ((FAITHFUL, 0), (ONE_ULP, carry(client, server, f))):
        got = result(truncate, pair(ring, client, server), f=f, mode=mode)
        assert np.array_equal(got, (floor - low) % ring.modulus)


@pytest.mark.parametrize("mode", [FAITHFUL, ONE_ULP])
@pytest.mark.parametrize("l, f, into", [(5, 2, 3), (5, 2, 1), (6, 1, 5), (5, 3, 4), (5, 2, 9), (4, 1, 64)])
def test_into_another_ring(l: int, f: int, into: int, mode: str) -> None:
    """Narrower down to the floor's own bits and below, in between, and wider, with its sign."""
    client, server = every_pair(Ring(l))
    floor = representatives(client + server, l) >> f
    low = carry(client, server, f) if mode == ONE_ULP else 0
    got = result(truncate, pair(Ring(l), client, server), f=f, mode=mode, into=Ring(into))
    expected = (floor - low).astype(np.uint64) & np.uint64(Ring(into).mask)
    assert np.array_equal(np.asarray(got).astype(np.uint64), expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [FAITHFUL, ONE_ULP])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("f", range(1, 7))
def test_known_sign_over_every_sharing(f: int, negative: bool, mode: str) -> None:
    ring = Ring(8)
    value, shares = every_sharing(ring, np.arange(-128, 0) if negative else np.arange(128))
    got = signed(truncate_known_sign, shares, f=f, negative=negative, mode=mode)
    client = np.repeat(np.arange(256), 128)
    low = carry(client, value - client, f) if mode == ONE_ULP else 0
    assert np.array_equal(got, (value >> f) - low)


INTO = [(0, 7), (0, 64), (1, 7), (4, 9), (4, 64), (3, 6), (1, 5), (2, 4), (2, 3), (3, 1), (4, 5)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("f, into", INTO)
def test_known_sign_into_another_ring(f: int, into: int, negative: bool, mode: str) -> None:
    """Every sharing of 6 bits: f = 0 only widens; at the floor's own bits and below no wrap is left."""
    values = np.arange(-32, 0) if negative else np.arange(32)
    expect_floor(truncate_known_sign, values, f, into, mode, negative=negative)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f, into", INTO)
def test_bounded_into_another_ring(f: int, into: int, mode: str) -> None:
    """Every sharing of every word below a quarter of 6 bits."""
    expect_floor(truncate_bounded, np.arange(-16, 16), f, into, mode)


def expect_floor(proto: Any, values: Ints, f: int, into: int, mode: str, **public: Any) -> None:
    """Of the values of a 6-bit ring in all sharings, in another ring: the floor, less what the mode leaves out."""
    ring = Ring(6)
    value, shares = every_sharing(ring, values)
    client = np.repeat(np.arange(ring.modulus), len(values))
    low = carry(client, value - client, f) if mode == ONE_ULP else 0
    got = np.asarray(result(proto, shares, f=f, mode=mode, into=Ring(into), **public)).astype(np.uint64)
    assert np.array_equal(got, ((value >> f) - low).astype(np.uint64) & np.uint64(Ring(into).mask))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", [1, 3, 6])
def test_bounded_over_every_sharing(f: int, mode: str) -> None:
    value, shares = every_sharing(Ring(8), np.arange(-64, 64))
    client = np.repeat(np.arange(256), 128)
    low = carry(client, value - client, f) if mode == ONE_ULP else 0
    assert np.array_equal(signed(truncate_bounded, shares, f=f, mode=mode), (value >> f) - low)


def test_beyond_a_quarter_the_bounded_floor_is_wrong() -> None:
    """The domain is no formality: 2^(l-2) itself floors to a word of the other sign."""
    value, shares = every_sharing(Ring(6), np.array([-17, -16, 15, 16]))
    right = signed(truncate_bounded, shares, f=2) == value >> 2
    assert right[(value >= -16) & (value < 16)].all() and not right[(value < -16) | (value >= 16)].all()


@settings(max_examples=12)
@given(l=st.integers(8, 64), data=st.data())
def test_edge_shares_in_every_ring(l: int, data: st.DataObject) -> None:
    """Against Python integers, faithful, with the sign unknown and known."""
    ring, half = Ring(l), 1 << (l - 1)
    f = data.draw(st.integers(1, l - 2))
    edges = [0, 1, half - 1, half, ring.mask, (1 << f) - 1, 1 << f, ring.modulus - (1 << f)]
    word = st.one_of(st.sampled_from(edges), st.integers(0, ring.mask))
    rows = data.draw(st.lists(st.tuples(word, word), min_size=1, max_size=4))
    values = [(a + b + half) % ring.modulus - half for a, b in rows]
    client, server = (np.array(column, dtype=np.uint64) for column in zip(*rows, strict=True))
    got = result(truncate, pair(ring, client, server), f=f)
    assert got.tolist() == [(v >> f) % ring.modulus for v in values]
    for negative in (False, True):
        kept = [i for i, v in enumerate(values) if (v < 0) == negative]
        if kept:
            shares = pair(ring, client[kept], server[kept])
            got = result(truncate_known_sign, shares, f=f, negative=negative)
            assert got.tolist() == [(values[i] >> f) % ring.modulus for i in kept]


@settings(max_examples=12)
@given(l=st.integers(8, 64), data=st.data())
def test_edges_of_the_quarter_in_every_ring(l: int, data: st.DataObject) -> None:
    """Against Python integers: the ends of the domain, zero, multiples of 2^f and their neighbours, any share."""
    ring, quarter = Ring(l), 1 << (l - 2)
    f = data.draw(st.integers(1, l - 2))
    step = data.draw(st.integers(-quarter >> f, (quarter - 1) >> f)) << f
    edges = [-quarter, 1 - quarter, -1, 0, 1, quarter - 2, quarter - 1, *(step + i for i in (-1, 0, 1))]
    values = [min(max(v, -quarter), quarter - 1) for v in edges]
    shares = data.draw(st.lists(st.integers(0, ring.mask), min_size=len(values), max_size=len(values)))
    client = np.array(shares, dtype=np.uint64)
    server = np.array([(v - r) % ring.modulus for v, r in zip(values, shares, strict=True)], dtype=np.uint64)
    got = result(truncate_bounded, pair(ring, client, server), f=f)
    assert got.tolist() == [(v >> f) % ring.modulus for v in values]


@pytest.mark.parametrize("proto", [truncate, truncate_known_sign, truncate_bounded], ids=lambda p: p.name)
def test_what_is_no_truncation_is_refused(proto: object) -> None:
    x = from_words(Ring(8), [1])
    for f in (0, -1, 7, 8):
        with pytest.raises(ValueError, match=f"truncation by f bits in Z_2\\^8: expected 1 <= f < 7, got {f}"):
            result(proto, (x, x), f=f)  # type: ignore[arg-type]
    with pytest.raises(TruncationMode, match="expected one of faithful, one-ulp, got 'local'"):
        result(proto, (x, x), f=3, mode="local")  # type: ignore[arg-type]


def test_prices() -> None:
    """One-ulp with a known sign: f + 1 bits and 2 flights. Faithful: one comparison of l bits, not of l + f."""
    x = blank(Spec(Ring(64), (800,)))
    cheap = truncate_known_sign.declared(x, f=18, mode=ONE_ULP)
    assert (8 * cheap.nbytes, cheap.rounds) == (800 * 19, 2)
    exact, rough = (truncate.declared(x, f=18, mode=mode) for mode in (FAITHFUL, ONE_ULP))
    assert rough.nbytes < exact.nbytes < 1.25 * rough.nbytes
    bounded, known = (proto.declared(x, f=18) for proto in (truncate_bounded, truncate_known_sign))
    assert bounded == known and 2.5 * bounded.nbytes < exact.nbytes and bounded.rounds < exact.rounds
