"""Bounds of whole shipped models: every product is there with the weights it meets; a query is charged for all."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs.limits.models import DEFAULT, model_plan, model_rows, model_uses
from proofs.limits.plans import squared_norm
from protocols.encoder import EncoderWeights, query_epsilon
from protocols.he.noise import WeightsOutOfBound, noise_report
from protocols.he.packing import LinearPlan
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.model.fixed_point import FixedPoint
from protocols.model.folded import fold
from protocols.model.store import known_models, load_model

P64S = PARAM_SETS[DEFAULT]


def test_every_bound_of_every_shipped_model_holds() -> None:
    rows = list(model_rows())
    assert {(row.name, row.subject.split(", ")[1]) for row in rows} == {
        (name, model) for name in ("plaintext modulus", "decryption", "flooding") for model in known_models()
    }
    assert all(row.holds for row in rows)
    assert all("up to 8 tokens" not in row.statement for row in rows)


@pytest.mark.parametrize("name", known_models())
def test_a_query_is_charged_for_all_its_responses(name: str) -> None:
    """Against the weights as a server loads them: no product is forgotten, none is made up."""
    plan, fp = model_plan(P64S, name), FixedPoint(64, 18)
    words = fold(load_model(name), fp).named(plan.tokens)
    signed = [fp.signed(x) for x in words.values()]
    prepared = EncoderWeights.prepare(HeService(plan.plans).prepare, plan, signed)
    responses = [(at if isinstance(at, LinearPlan) else at.plan, rows) for at, rows in prepared.responses(plan)]
    uses = model_uses(P64S, name)
    assert sorted((at.outputs, rows) for at, rows in responses) == sorted((u.plan.outputs, u.rows) for u in uses)
    charged = sum((u.rows * Fraction(noise_report(u.plan, float(u.norm or 0)).epsilon) for u in uses), Fraction(0))
    spent = Fraction(query_epsilon(prepared, plan))
    assert spent <= charged * (1 + Fraction(1, 1 << 40)) and charged <= 2 * spent


def test_weights_beyond_the_bound_have_no_norm() -> None:
    head = model_plan(P64S, "sms").head
    words = np.ones((head.f, head.d), np.int64)
    assert squared_norm(head, words) == head.d * min(head.f, head.n_out)
    with pytest.raises(WeightsOutOfBound):
        squared_norm(head, words << 50)
