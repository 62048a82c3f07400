"""What a rival pays per expert, beside its published row: a ratio against a worse one does not count."""

from __future__ import annotations

import math
from typing import Any

import pytest

from protocols.baselines.parameters import PACKED, UNPACKED
from protocols.he.noise import noise_report
from protocols.he.params import ParamSet
from protocols.he.service import DEFAULT_BUDGET
from protocols.model.config import MoeConfig
from secmoe.layer_protocols import PROTOCOLS
from secmoe.names import ALL, CAT, IRON, IRON_CAT
from sim.ring import Spec
from sim.shapes import blank

TOKENS, LAYERS, DIGIT = 8, 12, 2
BUMBLEBEE, IRON_ROW = 0.0393e9, 0.154e9  # published bytes per expert: Switch-Base, 8 tokens, 12 sparse layers
RMS = 0.1 * 2**18  # of the weights' words


def plan_of(name: str, params: ParamSet, experts: int) -> Any:
    shape = MoeConfig(768, 3072, experts, 1, gated=False, activation="relu")
    return PROTOCOLS[name].plan(shape, TOKENS, params, "relu", w=DIGIT)


def slope(name: str, params: ParamSet, cot_bits: float) -> float:
    """Bytes per expert of the whole model's sparse layers."""
    found = []
    for experts in (16, 128):
        plan = plan_of(name, params, experts)
        x = blank(Spec(plan.ring, (TOKENS, 768)))
        cost = PROTOCOLS[name].text.declared(x, x, None, plan=plan)
        found.append(cost.nbytes + (cost.cot_client + cost.cot_server) * cot_bits / 8)
    return LAYERS * (found[1] - found[0]) / (128 - 16)


@pytest.mark.parametrize(
    ("name", "params", "cot_bits", "published"),
    [
        (CAT, PACKED, 1.4, BUMBLEBEE),
        (ALL, PACKED, 0.6, BUMBLEBEE),
        (IRON_CAT, UNPACKED, 15, IRON_ROW),
        (IRON, UNPACKED, 0.4, IRON_ROW),
    ],
)
def test_no_rival_pays_more_than_a_tenth_above_its_row(
    name: str, params: ParamSet, cot_bits: float, published: float
) -> None:
    """cot_bits: of the extension; where SoftSpoken's 15 are too many, what a silent one must stay below."""
    assert slope(name, params, cot_bits) <= 1.1 * published


@pytest.mark.parametrize(("name", "params"), [(CAT, PACKED), (ALL, PACKED), (IRON, UNPACKED), (IRON_CAT, UNPACKED)])
def test_the_sets_answer_a_whole_query_at_full_size(name: str, params: ParamSet) -> None:
    plan, spent = plan_of(name, params, 128), 0.0
    for product, rows in plan.answers:
        report = noise_report(product, product.n_out * product.columns * RMS**2)
        assert report.hides and report.decrypts
        spent += rows * report.epsilon
    assert math.log2(spent) < math.log2(DEFAULT_BUDGET)
