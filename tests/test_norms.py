"""Norms and the reciprocal square root: bit for bit the oracle, and their error against the real functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.cleartext import norms as F
from protocols.cleartext.norms import NormRange, NormWidths
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.model import normalising as oracle
from protocols.model.fixed_point import FixedPoint
from protocols.norms import layer_norm, rms_norm, rsqrt
from protocols.ot.service import OtService
from protocols.row_products import RowPlan
from protocols.truncate import ONE_ULP
from sim.concrete import from_words, to_signed
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import blank
from sim.world import Execution, Session
from tests.shared_runs import Ints, share, signed

FORMATS = [(64, 18), (32, 12)]
EPS = 1e-5


def words(values: Ints, fp: FixedPoint) -> Any:
    return fp.wrap(np.asarray(values, dtype=np.int64).view(np.uint64))


def real_norm(x: Ints, s: int, eps: float, *, mean: bool) -> Any:
    v = x / 2.0**s
    v = v - v.mean(-1, keepdims=True) if mean else v
    return v / np.sqrt((v * v).mean(-1, keepdims=True) + eps)


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, int, int, Ints]:
    """(l, s, reach, one row or two): any width, spread from nothing to the whole range, ends included."""
    l, s = draw(st.sampled_from(FORMATS))
    reach = draw(st.integers(0, 4))
    size = (1 << (reach + s)) - 1
    d = draw(st.sampled_from([2, 3, 4, 7, 16]))
    narrow = draw(st.integers(0, reach + s))
    word = st.one_of(
        st.sampled_from([-size, size, 0, 1, -1]), st.integers(-size, size), st.integers(0, 1 << narrow)
    ).map(lambda v: max(-size, min(size, v)))
    values = draw(st.lists(word, min_size=2 * d, max_size=2 * d))
    return l, s, reach, np.array(values, dtype=np.int64).reshape(2, d)


@settings(max_examples=6)
@given(case=rows())
def test_norms_are_the_oracles_bit_for_bit(case: tuple[int, int, int, Ints]) -> None:
    l, s, reach, x = case
    fp, public = FixedPoint(l, s), {"s": s, "reach": reach, "eps": EPS}
    got = signed(layer_norm, share(Ring(l), x), **public)
    assert np.array_equal(words(got, fp), oracle.layer_norm(words(x, fp), reach, EPS, fp))
    got = signed(rms_norm, share(Ring(l), x), **public)
    assert np.array_equal(words(got, fp), oracle.rms_norm(words(x, fp), EPS, fp))


@settings(max_examples=300)
@given(case=rows())
def test_functionalities_are_the_oracles_bit_for_bit(case: tuple[int, int, int, Ints]) -> None:
    l, s, reach, x = case
    fp, public = FixedPoint(l, s), {"s": s, "reach": reach, "eps": EPS}
    assert np.array_equal(words(F.LAYER_NORM.compute(x, **public), fp), oracle.layer_norm(words(x, fp), reach, EPS, fp))
    assert np.array_equal(words(F.RMS_NORM.compute(x, **public), fp), oracle.rms_norm(words(x, fp), EPS, fp))


@pytest.mark.parametrize("l, s", FORMATS)
def test_a_constant_row_and_a_spike(l: int, s: int) -> None:
    """Centred, a constant is zero (for d = 3 the mean rounds to it); one word apart from the rest is sqrt(d - 1)."""
    x = np.array([[3 << s] * 3, [-(3 << s)] * 3, [1 << s, 0, 0]])
    got = signed(layer_norm, share(Ring(l), x), s=s, reach=2, eps=EPS) / 2.0**s
    assert not got[:2].any()
    assert np.abs(got[2] - [2**0.5, -(0.5**0.5), -(0.5**0.5)]).max() < 2e-4 + 2.0 ** (2 - s)


@pytest.mark.parametrize("name, mean", [("LAYER_NORM", True), ("RMS_NORM", False)])
@pytest.mark.parametrize("l, s, factor", [(64, 18, 7.8e-5), (32, 12, 1.1e-4)])
@pytest.mark.parametrize("d", [3, 64, 768])
def test_the_error_of_norms(name: str, mean: bool, l: int, s: int, factor: float, d: int) -> None:
    """At most `factor` relative, a unit for the last floor, and what 3/4 ulp of the mean are worth after the scaling;
    with the variance that this adds. Rows of every spread, from one ulp to the whole range."""
    rng, reach, ulp = np.random.default_rng(d), 3, 2.0**-s
    sizes = np.exp2(rng.uniform(0, reach + s, (400, 1)))
    x = np.clip(np.rint(rng.normal(size=(400, d)) * sizes / 3 + rng.choice([0, 1], (400, 1)) * sizes), -sizes, sizes)
    x = x.astype(np.int64)
    got = getattr(F, name).compute(x, s=s, reach=reach, eps=EPS) / 2.0**s
    exact = real_norm(x, s, EPS, mean=mean)
    v = x / 2.0**s
    root = np.sqrt(((v - v.mean(-1, keepdims=True) * mean) ** 2).mean(-1, keepdims=True) + EPS)
    slip = 0.75 * ulp * mean / root
    epsilon = abs(round(EPS * 4**s) / 4.0**s - EPS) / EPS / 2
    limit = (factor + epsilon + slip**2) * (np.abs(exact) + slip) + slip + ulp
    assert (np.abs(got - exact) <= limit).all()
    assert (np.abs(got - exact) / limit).max() > 0.3  # the bound is not idle


@pytest.mark.parametrize("spread", [1, 2, 5])
def test_rsqrt_around_the_powers_of_two(spread: int) -> None:
    """Odd and even octaves; both ends; against the oracle's integers."""
    low, unit, bits = 29, 3 << 30, 24
    ends = [1 << (low + i) for i in range(spread + 1)]
    x = np.unique(np.clip([e + o for e in ends for o in (-2, -1, 0, 1, 2)], ends[0], ends[-1] - 1))
    public = {"unit": unit, "low": low, "high": low + spread, "bits": bits, "scale": bits}
    got = signed(rsqrt, share(Ring(48), x), **public)
    assert got.tolist() == [oracle.inverse_root(int(v), unit, bits - 6) for v in x]
    assert np.abs(got / 2.0**bits * np.sqrt(x / unit) - 1).max() < 7.6e-5


def test_one_ulp_norms_are_near_the_faithful_ones() -> None:
    x = np.random.default_rng(2).integers(-(2 << 18), 2 << 18, (4, 9))
    public = {"s": 18, "reach": 2, "eps": EPS}
    for proto, functionality in ((layer_norm, F.LAYER_NORM), (rms_norm, F.RMS_NORM)):
        got = signed(proto, share(Ring(64), x), **public, mode=ONE_ULP)
        assert np.abs(got - functionality.compute(x, **public)).max() <= 6


def run_under_encryption(x: Ints, plan: RowPlan, public: dict[str, Any]) -> Execution:
    masks = np.random.default_rng().integers(0, 2**64, x.shape, np.uint64)
    mine, whole = from_words(plan.words.ring, masks), from_words(plan.words.ring, x.view(np.uint64))
    session = Session([OtService(), HeService(plan.plans, 1.0)])
    return session.run(rms_norm, [whole - mine], [mine], plan=plan, **public)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [(True, True), (True, False), (False, True)])
def test_norms_under_encryption_are_the_oracles_at_a_real_width(choice: tuple[bool, bool]) -> None:
    """Rows at the end of the range, of one size, and of all sizes; priced to the byte."""
    n, d, public = 4, 768, {"s": 18, "reach": 6, "eps": 1e-6}
    plan = RowPlan(PARAM_SETS["P64s"], n, d, *choice)
    x = np.random.default_rng(4).integers(-(1 << 24) + 1, 1 << 24, (n, d))
    x[0], x[1] = (1 << 24) - 1, 1 << 18
    x[2] >>= 18
    execution = run_under_encryption(x, plan, public)
    got = to_signed(execution.outputs[CLIENT] + execution.outputs[SERVER])
    assert np.array_equal(got, F.RMS_NORM.compute(x, **public))
    pool = execution.scope(f"{execution.prefix}/pool")
    declared = rms_norm.declared(blank(plan.words), **public, plan=plan)
    assert execution.cost.nbytes - sum(m.nbytes for m in pool) == declared.nbytes


def test_wide_rows_are_squared_and_scaled_under_encryption() -> None:
    params = PARAM_SETS["P64s"]
    wide, narrow = (NormRange.of(d, 18, 6, 1e-6, centred=False) for d in (768, 32))
    plan = RowPlan.fewest_bytes(params, 8, 768, wide)
    assert plan.squares and plan.scaling and RowPlan.fewest_bytes(params, 8, 32, narrow).answers == []
    price = [rms_norm.declared(blank(plan.words), s=18, reach=6, eps=1e-6, plan=one).nbytes for one in (None, plan)]
    assert price[1] < 0.6 * price[0]
    assert (
        RowPlan.fewest_bytes(PARAM_SETS["P32"], 8, 768, NormRange.of(768, 12, 6, 2.0**-12, centred=False)).plans == ()
    )


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(NormWidths, match="declare a smaller reach"):
        NormRange.of(768, 18, 12, EPS, centred=False)
    with pytest.raises(NormWidths, match="needs 65"):
        NormRange.of(4096, 18, 6, EPS, centred=True)  # the mean; without one it fits
    assert NormRange.of(4096, 18, 6, EPS, centred=False).square == 62
    with pytest.raises(NormWidths, match="2 words or more"):
        NormRange.of(1, 18, 3, EPS, centred=False)
    with pytest.raises(NormWidths, match="6 fractional bits or more"):
        NormRange.of(8, 5, 3, 0.1, centred=False)
    with pytest.raises(NormWidths, match=r"at least 2\^-24"):
        NormRange.of(8, 12, 3, 1e-9, centred=False)


def test_the_price_per_word_falls_with_the_width() -> None:
    """What is per row is shared: bytes per word at d = 768 against d = 8, in rows of residual streams."""
    price = {d: layer_norm.declared(blank(Spec(Ring(64), (4, d))), s=18, reach=6, eps=EPS) for d in (8, 768)}
    each = {d: cost.nbytes / (4 * d) for d, cost in price.items()}
    assert each[768] < 600 < 800 < each[8]
    assert abs(price[8].rounds - price[768].rounds) <= 6  # of wider rings only
