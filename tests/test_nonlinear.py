"""ReLU, exponential and reciprocal: exhaustive in small formats, and their error against the real functions."""

from __future__ import annotations

import numpy as np
import pytest

from protocols import functionalities as F
from protocols.model import oracle
from protocols.model.fixed_point import FixedPoint
from protocols.nonlinear import exp, reciprocal, relu
from sim.ring import Ring
from tests.shared_runs import Ints, every_pair, pair, representatives, result, share, signed

SMALL = FixedPoint(16, 4)  # guard scale 6


def words(values: Ints) -> Ints:
    return np.asarray(values, dtype=np.int64).view(np.uint64)


@pytest.mark.parametrize("w", [2, 4])
def test_relu_of_every_sharing(w: int) -> None:
    ring = Ring(8)
    client, server = every_pair(ring)
    got = result(relu, pair(ring, client, server), w=w)
    assert np.array_equal(got, np.maximum(representatives(client + server, 8), 0))


def test_relu_of_extremes() -> None:
    x = np.array([-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 1])
    assert np.array_equal(signed(relu, share(Ring(64), x)), np.maximum(x, 0))


@pytest.mark.slow
def test_exp_of_every_word_of_a_small_format() -> None:
    """16 bits, 4 of them fractional: all of -2^14 < x <= 0, against the functionality and the oracle."""
    x = np.arange(-(2**14) + 1, 1)
    got = signed(exp, share(Ring(16), x), s=4, l=16)
    assert np.array_equal(got, F.EXPONENTIAL.compute(x, s=4, l=16))
    assert np.array_equal(got.astype(np.uint64), oracle.exponential(SMALL.wrap(words(x)), SMALL))


@pytest.mark.parametrize("l, s", [(64, 18), (32, 12), (24, 6)])
def test_exp_around_the_clip_and_at_the_ends(l: int, s: int) -> None:
    fp = FixedPoint(l, s)
    clip = -13 << s
    x = np.r_[-(2 ** (l - 2)) + 1, clip - 3 : clip + 4, -(1 << s) - 1 : -(1 << s) + 2, -3:1]
    got = signed(exp, share(Ring(l), x), s=s, l=l)
    assert np.array_equal(got, F.EXPONENTIAL.compute(x, s=s, l=l))
    assert np.array_equal(got.astype(np.uint64), oracle.exponential(fp.wrap(words(x)), fp))
    assert got[-1] == 1 << fp.guard  # exp(0) = 1 exactly
    assert not got[x <= clip].any()


@pytest.mark.parametrize("l, s, bound", [(64, 18, 5.7e-5), (32, 12, 5.6e-3)])
def test_the_error_of_exp_on_the_whole_grid(l: int, s: int, bound: float) -> None:
    """6 guard bits at l = 64; 2 at l = 32, where the floors of the squarings weigh more. Monotone, never above 1."""
    x = np.arange(-14 << s, 1, dtype=np.int64)
    y = F.EXPONENTIAL.compute(x, s=s, l=l)
    error = np.abs(y / 2.0 ** F.guard_bits(s, l) - np.exp(x / 2.0**s))
    assert bound / 1.2 < error.max() < bound
    assert (np.diff(y) >= 0).all()
    assert (y[0], y[-1]) == (0, 1 << F.guard_bits(s, l))


@pytest.mark.parametrize("spread", [1, 2, 3])
def test_reciprocal_of_every_word_of_a_small_format(spread: int) -> None:
    """Scale 6 in 16 bits: all of [1, 2^spread], both ends included, each under eight sharings."""
    x = np.repeat(np.arange(1 << 6, (1 << (6 + spread)) + 1), 8)
    got = signed(reciprocal, share(Ring(16), x), scale=6, spread=spread)
    assert np.array_equal(got, F.RECIPROCAL.compute(x, scale=6, spread=spread))
    assert np.array_equal(got.astype(np.uint64), oracle.reciprocal(words(x), 1 << spread, SMALL))


@pytest.mark.parametrize("l, s, spread", [(64, 18, 1), (64, 18, 7), (32, 12, 7)])
def test_reciprocal_around_the_powers_of_two(l: int, s: int, spread: int) -> None:
    fp = FixedPoint(l, s)
    ends = [1 << (fp.guard + i) for i in range(spread + 1)]
    x = np.unique(np.clip([e + o for e in ends for o in (-2, -1, 0, 1, 2)], ends[0], ends[-1]))
    got = signed(reciprocal, share(Ring(l), x), scale=fp.guard, spread=spread)
    assert np.array_equal(got, F.RECIPROCAL.compute(x, scale=fp.guard, spread=spread))
    assert np.array_equal(got.astype(np.uint64), oracle.reciprocal(words(x), 1 << spread, fp))


@pytest.mark.parametrize("scale", [24, 14])
@pytest.mark.parametrize("spread", [1, 3, 7])
def test_the_error_of_reciprocal(scale: int, spread: int) -> None:
    """At most 5.5e-5 relative, plus 2 units of the last place for the floors."""
    rng = np.random.default_rng(1)
    low, high = 1 << scale, 1 << (scale + spread)
    near = [np.arange((1 << (scale + i)) - 500, (1 << (scale + i)) + 500) for i in range(spread + 1)]
    x = np.clip(np.concatenate([*near, rng.integers(low, high, 200_000, endpoint=True)]), low, high)
    got = F.RECIPROCAL.compute(x, scale=scale, spread=spread) / 2.0**scale
    exact = 2.0**scale / x
    assert (np.abs(got - exact) <= 5.5e-5 * exact + 2 * 2.0**-scale).all()
    assert np.abs(got / exact - 1).max() > 5e-5  # the bound is not idle
