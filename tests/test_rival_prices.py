"""What a rival pays beside its published row: a ratio against a worse one does not count."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from protocols.he.noise import noise_report
from protocols.he.params import PARAM_SETS
from protocols.he.service import DEFAULT_BUDGET
from protocols.pricing import published
from protocols.pricing.operators import Operators
from protocols.pricing.priced import Priced
from protocols.pricing.published import BUMBLEBEE, EXPERTS
from protocols.pricing.published import IRON as IRON_ROW
from protocols.pricing.shapes import SHAPES, SPARSE
from secmoe.layer_protocols import PROTOCOLS
from secmoe.names import ALL, CAT, IRON, IRON_CAT
from secmoe.priced_models import sparse_protocols
from sim.cost import Cost

DIGIT = 3  # of comparisons, in bits
SWITCH = SHAPES["switch-base"]
RMS = 0.1 * 2**18  # of the weights' words


@cache
def query(name: str, experts: int, params: str = "P64s") -> Operators:
    """Switch-Base on the published number of tokens."""
    protocol = sparse_protocols()[name]

    def plan(*shape: Any) -> Any:
        return replace(protocol.plan(*shape), w=DIGIT)

    shaped = SWITCH.with_experts(experts)
    return Operators(shaped, published.TOKENS, PARAM_SETS[params], replace(protocol, plan=plan), DIGIT)


@pytest.mark.parametrize(("name", "row"), [(ALL, BUMBLEBEE), (CAT, BUMBLEBEE), (IRON, IRON_ROW), (IRON_CAT, IRON_ROW)])
def test_no_rival_pays_more_than_a_tenth_above_its_row(name: str, row: str) -> None:
    """Of both ends of the published table, the extension of correlated OTs included."""
    for experts, gigabytes in zip(EXPERTS, published.GIGABYTES[row], strict=True):
        if experts in (EXPERTS[0], EXPERTS[-1]):
            assert Priced(query(name, experts)).online.nbytes <= 1.1e9 * gigabytes


@pytest.mark.parametrize("name", [ALL, CAT, IRON, IRON_CAT])
def test_a_whole_query_at_full_size_is_within_a_sessions_budget(name: str) -> None:
    """All responses of all sparse layers, for weights of an ordinary size."""
    spent, layers = 0.0, sum(width == SPARSE for width in (*SWITCH.encoder, *SWITCH.decoder))
    plan: Any = query(name, EXPERTS[-1]).sparse
    for product, rows in plan.answers:
        report = noise_report(product, product.n_out * product.columns * RMS**2)
        assert report.hides and report.decrypts
        spent += layers * rows * report.epsilon
    assert math.log2(spent) < math.log2(DEFAULT_BUDGET)


@pytest.mark.parametrize("name", [name for name, kind in PROTOCOLS.items() if kind.params is not None])
def test_a_set_of_its_own_makes_a_rival_cheaper(name: str) -> None:
    """Everything else keeps the query's set; and a query of another ring keeps it throughout."""
    found, own = query(name, EXPERTS[0]), PROTOCOLS[name].params
    assert found.sparse.params == own and found.head.params == found.params == PARAM_SETS["P64s"]

    def priced(params: Any) -> Cost:
        plan = replace(found.sparse, params=params)
        return PROTOCOLS[name].text.declared(found.states, found.states, None, plan=plan)

    assert priced(own).nbytes < priced(found.params).nbytes
    assert query(name, EXPERTS[0], "P32").sparse.params == PARAM_SETS["P32"]
