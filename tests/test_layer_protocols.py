"""The table of protocols that run one layer: every name has a row, every plan says what its weights answer."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService, query_cost
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import GELU_MINIMAX
from secmoe.layer_protocols import PROTOCOLS, protocol_of
from secmoe.names import COMPACT, LAYER_PROTOCOLS

PARAMS = PARAM_SETS["P64tiny"]


def test_every_name_has_its_row() -> None:
    assert list(PROTOCOLS) == list(LAYER_PROTOCOLS)
    assert len({found.plan for found in PROTOCOLS.values()}) == len(PROTOCOLS)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("gated", [True, False])
def test_a_plan_says_what_its_weights_answer(name: str, gated: bool) -> None:
    """What the bounds count from the plan is what the engine is asked to admit: alike weights, alike cost."""
    shape = MoeConfig(4, 8, 3, 2, gated, "gelu" if gated else "relu")
    params = PARAM_SETS["P64s"] if name == COMPACT else PARAMS
    plan = PROTOCOLS[name].plan(shape, 2, params, GELU_MINIMAX if gated else "relu")
    assert protocol_of(plan) is PROTOCOLS[name]
    up, down = np.ones((3, 8, 4), np.int64), np.ones((3, 4, 8), np.int64)
    weights = MoeWeights(np.ones((3, 4), np.int64), up, up if gated else None, down)
    service = HeService(plan.plans)
    prepared = PROTOCOLS[name].weights.prepare(service.prepare, plan, weights)
    same = {at: service.prepare(at, np.ones(_size(at), np.int64)) for at in plan.plans}
    expected = query_cost([(same[at], rows) for at, rows in plan.answers])
    assert query_cost(prepared.responses(plan)) == pytest.approx(expected) and expected > 0


def _size(plan: object) -> tuple[int, ...]:
    f, d, experts = (getattr(plan, name) for name in ("f", "d", "experts"))
    return (experts, f, d) if experts > 1 else (f, d)
