"""Security, scales and the numbers that rows print, against planted parameter sets and plans."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.limits import PROVED, REFUTED
from proofs.limits.plans import (
    PUBLISHED,
    Use,
    aligned,
    decryption,
    flooding,
    plaintext_modulus,
    scales_agree,
    shape_rows,
    uses,
)
from proofs.limits.row import bits, bounded, decimal, power_of_half, root_up, security_tenths, sqrt_up
from proofs.limits.security import security
from protocols.he.packing import Layout, SelectPlan
from protocols.he.params import INSECURE_TEST, PARAM_SETS, ParamSet
from protocols.layer_plan import CompactPlan
from protocols.model.config import MoeConfig
from tests.limit_sets import P32TINY, P64S, P64TINY, log2, planted

# Security and the plaintext modulus


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (planted(P64TINY, q_bits=(44,) * 5), "220 bits, the table's 218"),
        (planted(P64TINY, special_bits=(43,)), "258 bits, the table's 218"),
        (planted(P32TINY, n=4096), "148 bits, the table's 109"),
        (planted(P64S, q_bits=(50,) * 8), "490 bits, the table's 438"),
        (INSECURE_TEST, "no entry in the table"),
    ],
)
def test_weak_parameters_are_refuted(params: ParamSet, told: str) -> None:
    row = security(params)
    assert row.verdict == REFUTED and told in row.statement
    assert all(security(shipped_set).verdict == PROVED for shipped_set in PARAM_SETS.values())


def test_a_narrow_error_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofs.limits.security.ERROR_VARIANCE", 8.0)
    assert security(P64S).verdict == REFUTED


class Shallow(SelectPlan):
    """The expanded operand is encoded without room for one of its levels."""

    def operand(self, word: str) -> Layout:
        layout = super().operand(word)
        return replace(layout, scale=layout.scale - 1) if word == "x" else layout


class Askew(SelectPlan):
    """Outputs a little beside the coefficients that packing doubles."""

    @property
    def response_positions(self) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ...]:
        return tuple(places + 1 for places in super().response_positions)


def test_scales_and_places_that_do_not_fit_are_refuted() -> None:
    sizes = ("R", 8, 768, 3072)
    good, shallow, askew = (kind(P64S, *sizes) for kind in (SelectPlan, Shallow, Askew))
    assert scales_agree(good) and aligned(good) and scales_agree(askew) and aligned(shallow)
    assert not scales_agree(shallow) and not aligned(askew)
    for plan, verdict in ((good, PROVED), (shallow, REFUTED), (askew, REFUTED)):
        assert plaintext_modulus("test", [Use(plan, 1, None)])[0].verdict == verdict


@pytest.mark.parametrize(("experts", "tokens"), [(8, 1), (128, 8)])
def test_compact_uploads_keep_all_bounds(experts: int, tokens: int) -> None:
    used = uses(CompactPlan(MoeConfig(768, 3072, experts), tokens, P64S, "relu"), None)
    assert used[1].plan.operand("t").levels == 14
    assert all(row("test", used)[0].holds for row in (plaintext_modulus, decryption, flooding))


def test_an_upload_modulus_without_room_is_refuted() -> None:
    tight = planted(P64TINY, q_bits=(40,), kept=1)
    row, _ = plaintext_modulus("test", [Use(SelectPlan(tight, "R", 2, 4, 4), 1, None)])
    assert row.verdict == REFUTED and "q0 / 2^65" in row.statement


def test_every_shape_has_rows_or_a_refusal() -> None:
    for shape in PUBLISHED:
        rows = list(shape_rows(P64TINY, shape))
        assert [row.name for row in rows] in (["shape"], ["plaintext modulus", "decryption", "flooding"])
        assert rows[0].name != "shape" or "too small" in rows[0].statement


# Arithmetic of the rows


@given(st.fractions(min_value=Fraction(1, 10**9), max_value=10**9))
def test_roots_and_powers_are_bounds(value: Fraction) -> None:
    assert value <= sqrt_up(value) ** 2 <= value + Fraction(3, 1 << 19) * (1 + value)
    if value <= 1:
        k = security_tenths(value)
        assert value**10 <= Fraction(1, 1 << k) and value**10 > Fraction(1, 1 << (k + 1))


@given(st.fractions(min_value=0, max_value=500))
def test_powers_of_a_half_are_upper_bounds(exponent: Fraction) -> None:
    bound = power_of_half(exponent)
    assert -exponent - 1e-9 <= log2(bound) <= -exponent + 1 / 16 + 1 / 8


@given(st.integers(0, 10**30), st.integers(2, 16))
def test_integer_roots_round_up(value: int, degree: int) -> None:
    root = root_up(value, degree)
    assert root**degree >= value and (root == 0 or (root - 1) ** degree < value)


def test_numbers_are_printed_rounded_up() -> None:
    assert bits(Fraction(1, 1 << 40)) == "2^-40.0" and bits(1 << 63) == "2^63.0" and bits(0) == "0"
    assert bits((1 << 63) + 1) == "2^63.1" and bits(3) == "2^1.6"
    assert bounded(Fraction(1, 3)) == "BOUNDED(2^-1.5)" and bounded(Fraction(0)) == PROVED
    assert bounded(Fraction(1)) == REFUTED
    assert decimal(Fraction(117801, 10**7)) == "1.18e-2" and decimal(Fraction(9999, 10**4)) == "1.00"
    assert decimal(Fraction(0)) == "0" and decimal(Fraction(25), 2) == "2.5e1"
