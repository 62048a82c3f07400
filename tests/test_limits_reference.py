"""Rational enclosures and the references made of them, against Arb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.limits import enclosure
from proofs.limits.enclosure import EnclosureRange
from proofs.limits.reference import (
    EXP,
    FUNCTIONS,
    GELU,
    SCALE,
    SIGMOID,
    SILU,
    Function,
    Reference,
    at,
    derivative,
    hermite,
    logistic,
    times,
)


def ball(x: Fraction) -> flint.arb:
    return flint.arb(flint.fmpq(x.numerator, x.denominator))


def inside(pair: tuple[Fraction, Fraction], exact: flint.arb) -> bool:
    """Whether a ball lies within an enclosure."""
    return bool(ball(pair[0]) <= exact) and bool(exact <= ball(pair[1]))


def normal(x: flint.arb) -> flint.arb:
    return (1 + (x / flint.arb(2).sqrt()).erf()) / 2


ARB: dict[str, Callable[[flint.arb], flint.arb]] = {
    "gelu": lambda x: x * normal(x),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "silu": lambda x: x / (1 + (-x).exp()),
    "exp": lambda x: x.exp(),
}
RANGES = {"gelu": (-8, 8), "sigmoid": (-8, 8), "silu": (-8, 8), "exp": (-13, 0)}


@pytest.fixture(autouse=True)
def precision() -> None:
    flint.ctx.prec = 300


@given(st.fractions(min_value=-8, max_value=8, max_denominator=1 << 18))
def test_enclosures_hold_the_exact_value_and_are_narrow(x: Fraction) -> None:
    flint.ctx.prec = 300
    density = (-(ball(x) ** 2) / 2).exp() / (2 * flint.arb.pi()).sqrt()
    for pair, exact in (
        (enclosure.exp(x), ball(x).exp()),
        (enclosure.density(x), density),
        (enclosure.normal(x), normal(ball(x))),
        (enclosure.pi(), flint.arb.pi()),
    ):
        assert inside(pair, exact)
        assert pair[1] - pair[0] < Fraction(1, 1 << 100)


def test_enclosures_refuse_what_their_series_do_not_reach() -> None:
    assert inside(enclosure.exp(Fraction(16)), flint.arb(16).exp())
    assert inside(enclosure.exp(Fraction(-16)), flint.arb(-16).exp())
    with pytest.raises(EnclosureRange, match="saturate"):
        enclosure.exp(Fraction(17))


@pytest.mark.slow
@pytest.mark.parametrize("s", [12, 18])
@pytest.mark.parametrize("function", [*FUNCTIONS.values(), EXP], ids=lambda f: f.name)
def test_references_are_within_their_error_of_arb(function: Function, s: int) -> None:
    low, high = RANGES[function.name]
    reference = Reference(function, s, low, high)
    assert reference.error < 128  # of 2^40
    rng = np.random.default_rng(s)
    edges = [(i << (s - 5)) + k for i in range((low << 5) + 1, high << 5, 37) for k in (-1, 0, 1, 1 << (s - 6))]
    x = np.array([low << s, high << s, *edges, *rng.integers(low << s, high << s, 300)])
    for word, value in zip(x.tolist(), reference.values(x).tolist(), strict=True):
        exact = ARB[function.name](ball(Fraction(word, 1 << s)))
        near = Fraction(value - reference.error, 1 << SCALE), Fraction(value + reference.error, 1 << SCALE)
        assert inside(near, exact), (word, value)


def test_a_reference_with_a_wrong_derivative_is_caught_by_arb() -> None:
    """The comparison above sees an error of one part in a million in one coefficient."""
    wrong = replace(EXP, derivatives=lambda x: [enclosure.exp(x + Fraction(1, 10**6))] * 5)
    value = int(Reference(wrong, 12, -13, 0).values(np.array([-1]))[0])
    near = Fraction(value - 26, 1 << SCALE), Fraction(value + 26, 1 << SCALE)
    assert not inside(near, ball(Fraction(-1, 4096)).exp())


def test_derivatives_by_their_closed_forms() -> None:
    assert hermite(3) == (0, -4, 0, 1) and hermite(4) == (-4, 0, 7, 0, -1) and hermite(5) == (0, 18, 0, -11, 0, 1)
    u = (0, 1, -1)
    square = times(u, u)
    assert logistic(4) == times(times(u, (1, -2)), (1, -12, 12))
    fifth = [a - 30 * b for a, b in zip((1, 0, 0, 0, 0), (*u, 0, 0), strict=True)]
    assert logistic(5) == times(u, tuple(a + 120 * b for a, b in zip(fifth, square, strict=True)))
    assert derivative((7,)) == (0,) and at((1, 2, 3), Fraction(2)) == 17


@pytest.mark.parametrize("function", [GELU, SIGMOID, SILU], ids=lambda f: f.name)
def test_remainders_and_tails_bound_a_dense_sample(function: Function) -> None:
    grid = [Fraction(i, 8) for i in range(-64, 65)]
    ahead = {x: function.derivatives(x)[4][0] for x in grid}
    slopes = [abs(b - a) * 8 for a, b in zip(ahead.values(), list(ahead.values())[1:], strict=False)]
    assert max(slopes) <= function.fifth
    for x in (8, 9, 12, 16):
        right, left = ARB[function.name](flint.arb(x)), ARB[function.name](flint.arb(-x))
        limit = flint.arb(1) if function.name == "sigmoid" else flint.arb(x)
        for distance in (limit - right, left, -left):
            assert bool(distance <= ball(function.tail))
