"""The load-time and session-level guards on the statistical distance of responses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.he.noise import noise_report
from protocols.he.packing import SelectPlan
from protocols.he.params import PARAM_SETS, InsecureParameters, ParameterRange
from protocols.he.service import DEFAULT_BUDGET, HeService, QueryBeyondBudget

P64S = PARAM_SETS["P64s"]


@pytest.mark.parametrize(
    "change",
    [
        {"kept": 0},
        {"kept": -1},
        {"kept": len(P64S.q_bits) + 1},
        {"kept": True},
        {"q_bits": ()},
        {"q_bits": (42, -1)},
        {"q_bits": (42, 51)},
        {"response_bits": ()},
        {"special_bits": (-5,)},
        {"special_bits": (50, 51)},
        {"special_bits": (50.0,)},
        {"q_bits": (20,) * 9, "special_bits": (50,)},
        {"q_bits": (20,) * 9, "special_bits": (20,) * 9},
        {"n": 16384.0},
        {"kappa": 39},
        {"kappa": 48.5},
        {"ring_bits": 8, "frac_bits": 2},
        {"ring_bits": 128},
        {"frac_bits": 0},
    ],
)
def test_fields_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ParameterRange):
        replace(P64S, name="planted", **change)  # type: ignore[arg-type]  # the point of the test


def test_a_modulus_beyond_the_cap_is_refused() -> None:
    for change in ({"q_bits": (50,) * 8}, {"n": 32768}):
        with pytest.raises(InsecureParameters):
            replace(P64S, name="planted", **change)  # type: ignore[arg-type]  # as above


def test_one_query_beyond_the_budget_is_refused_at_load() -> None:
    service = HeService([SelectPlan(P64S, "R", 2, 4, 4)])
    service.check_query(DEFAULT_BUDGET)
    with pytest.raises(QueryBeyondBudget, match="budget is 2"):
        service.check_query(2 * DEFAULT_BUDGET)


def test_the_figure_tells_no_more_than_whole_bits_of_the_norm() -> None:
    plan = SelectPlan(P64S, "R", 8, 32, 64)
    norms = [2.0**30 * (1 + i / 1000) for i in range(100)]
    assert len({noise_report(plan, norm).epsilon for norm in norms}) <= 2
