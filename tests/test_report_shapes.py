"""A run's own shape as a catalog row: its name is the whole shape, any process finds it, and it is proved as it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.certificate import NotProved, Rebuilder, UnknownClaim, certificate, encode, trace_case
from proofs.checker import Rejected, check
from protocols.broken import FAULTS
from protocols.embedding import ONE_HOT, VALUES
from protocols.encoder import ANSWERS, query_epsilon
from protocols.he.params import PARAM_SETS
from protocols.hidden import RELU
from protocols.layer_plan import ORDERS, REASSOCIATED
from protocols.model.config import MoeConfig
from protocols.model.store import load_model
from protocols.model.tables import TABLES
from protocols.truncate import FAITHFUL, MODES, ONE_ULP
from secmoe import shaped
from secmoe.layer import LayerRun
from secmoe.names import ROUTED, SECMOE
from secmoe.shape_bounds import _model_uses, _run_products, query_charge, run_bounds
from secmoe.shaped import row_of, shape_name, shape_of, target_of
from secmoe.whole import ModelRun, arrays_of, words_of
from sim.role import Role
from tests.report_runs import ANOTHER, MODEL, TINY

SHAPES = st.builds(
    LayerRun,
    st.just(SECMOE),
    st.just(""),
    st.just(0),
    st.integers(1, 1 << 20),
    st.builds(
        MoeConfig,
        *(st.integers(2, 1 << 20) for _ in range(3)),
        st.just(1),
        st.booleans(),
        st.sampled_from(["gelu", "relu", "silu"]),
    ),
    st.sampled_from([*PARAM_SETS.values(), ANOTHER]).filter(lambda params: not params.insecure_test),
    st.sampled_from([*TABLES, RELU]),
    st.sampled_from(sorted(ORDERS)),
    st.sampled_from(MODES),
)
MODEL_SHAPES = st.builds(
    lambda run, sizes, embedding, answer: ModelRun(
        "", run.tokens, run.shape, *sizes, embedding, answer, run.params, run.activation, run.order
    ),
    SHAPES,
    st.tuples(*(st.integers(1, 1 << 20) for _ in range(4))),
    st.sampled_from([ONE_HOT, VALUES]),
    st.sampled_from(ANSWERS),
)
ROUTED_SHAPES = SHAPES.map(lambda run: replace(run, protocol=ROUTED, order=REASSOCIATED, truncation=FAITHFUL))


@given(SHAPES | ROUTED_SHAPES | MODEL_SHAPES, SHAPES | ROUTED_SHAPES | MODEL_SHAPES)
def test_a_name_is_the_shape(run: LayerRun | ModelRun, other: LayerRun | ModelRun) -> None:
    assert shape_of(shape_name(run)) == run
    assert (shape_name(run) == shape_name(other)) == (run == other)


def test_model_and_layer_are_no_part_of_it() -> None:
    assert shape_name(replace(TINY, model="<b>", layer=7)) == shape_name(TINY)
    assert shape_name(replace(MODEL, model="<b>")) == shape_name(MODEL)


GOOD, WHOLE = shape_name(TINY), shape_name(MODEL)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "n=1",
        GOOD.replace("n=1", "n=01"),
        GOOD.replace("n=1", "n=-1"),
        GOOD.replace("n=1", "n=1" + "0" * 7),
        GOOD.replace("n=1", "n=\N{SUPERSCRIPT TWO}"),
        GOOD.replace("k=1", "k=9"),
        GOOD.replace("gated=0", "gated=2"),
        GOOD.replace("P32tiny", "P65"),
        GOOD.replace("P32tiny", "{"),
        GOOD.replace("P32tiny", json.dumps({"name": "x"})),
        GOOD.replace("faithful", "careless"),
        GOOD.replace("reassociated", "sideways"),
        GOOD.replace("protocol=secmoe", "protocol=none"),
        GOOD.replace("activation=relu", "activation=step"),
        GOOD + ", more=1",
        GOOD.replace("protocol=secmoe", "protocol=encoder"),
        WHOLE.replace("protocol=encoder", "protocol=secmoe"),
        WHOLE.replace("layers=1", "layers=x"),
        WHOLE.replace("features=5", "features=05"),
        GOOD.replace(", ", ",, "),
    ],
)
def test_what_is_no_shape_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected|is not"):
        row_of(shape_of(name))
    assert not hasattr(shaped, name)


def test_a_worker_finds_the_row_by_name() -> None:
    entry, case = target_of(TINY).resolve()
    assert (entry.name, case.name, case.plans) == ("moe_layer", GOOD, TINY.plan.plans)
    assert entry.proto is TINY.declared and case.public == {"plan": TINY.plan}
    entry, case = target_of(MODEL).resolve()
    assert (entry.name, case.name, case.plans) == ("encoder", WHOLE, MODEL.plan.plans)
    assert entry.proto is MODEL.declared and case.public == {"plan": MODEL.plan}


@pytest.fixture(scope="module")
def certificates() -> dict[Role, str]:
    entry, case = row_of(TINY)
    run = trace_case(entry, case)
    return {role: encode(certificate(entry, case, role, run)) for role in Role}


@pytest.mark.slow
def test_the_shape_is_proved_against_both_parties(certificates: dict[Role, str]) -> None:
    rebuild = Rebuilder([row_of(TINY)[0]])
    for role, text in certificates.items():
        accepted = check(text, rebuild)
        assert accepted.claim["corrupted"] == role.value and accepted.claim["case"] == GOOD
        assert "(1, 2)" in accepted.claim["statement"] and accepted.steps > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        replace(TINY, tokens=2),
        replace(TINY, params=ANOTHER),
        replace(TINY, order="literal"),
        replace(TINY, truncation=ONE_ULP),
        replace(TINY, shape=replace(TINY.shape, f=4)),
    ],
)
def test_a_certificate_of_one_shape_says_nothing_of_another(certificates: dict[Role, str], other: LayerRun) -> None:
    with pytest.raises(UnknownClaim):
        check(certificates[Role.CLIENT], Rebuilder([row_of(other)[0]]))
    renamed = json.loads(certificates[Role.CLIENT])["claim"] | {"case": shape_name(other)}
    assert renamed["case"] != GOOD
    forged = {**json.loads(certificates[Role.CLIENT]), "claim": renamed}
    with pytest.raises(Rejected):
        check(json.dumps(forged), Rebuilder([row_of(other)[0]]))


@settings(max_examples=20)
@given(st.sampled_from(["P64s", "P64tiny"]), st.integers(1, 12), st.sampled_from(sorted(ORDERS)))
def test_the_charge_of_a_query_is_that_of_the_flooding_bound(params: str, tokens: int, order: str) -> None:
    run = replace(TINY, params=PARAM_SETS[params], tokens=tokens, order=order)
    charge, rows = query_charge(run), _run_products(run, None)
    (row,) = (row for row in rows if row.name == "flooding")
    assert charge is not None and f"admits {charge['queries']}" in row.statement and charge["queries"] > 0
    assert "up to 8" not in " ".join(row.statement for row in rows)
    assert all(row.holds for row in rows)


def test_the_bounds_of_a_run_are_of_every_kind() -> None:
    rows = run_bounds(TINY)
    kinds = ["security", "plaintext modulus", "decryption", "flooding", "session", "range"]
    assert [row["name"] for row in rows][:6] == kinds
    assert {row["name"] for row in rows[6:]} == {"approximation", "truncation"} and len(rows) == 8
    assert all(list(row) == ["name", "subject", "verdict", "statement", "method", "assumptions"] for row in rows)


def test_a_set_that_admits_no_weights_is_refuted() -> None:
    run = replace(TINY, params=replace(ANOTHER, kappa=128))
    assert query_charge(run) is None
    assert {row.name for row in _run_products(run, None) if not row.holds} >= {"flooding"}


def test_what_is_not_proved_has_no_certificate() -> None:
    fault = next(f for f in FAULTS if f.name == "share_echoed")
    with pytest.raises(NotProved):
        certificate(fault.entry, fault.entry.cases[0], Role.CLIENT if fault.client else Role.SERVER)


# -- whole models ------------------------------------------------------------------------------------------------------
def test_a_whole_models_bounds_are_of_every_response() -> None:
    run = ModelRun.of(load_model("sms").config, 3, "class", PARAM_SETS["P64s"], "gelu-minimax", "reassociated")
    prepared = run.inputs(
        Role.SERVER, arrays_of(run, *words_of(run, load_model("sms"), np.array([2, 3, 4])))[Role.SERVER]
    )
    charge = query_charge(run)
    assert charge is not None and charge["weights"] == "the shipped weights of sms"
    assert charge["bits"] == pytest.approx(-math.log2(query_epsilon(prepared[-1], run.plan)))
    assert len(_model_uses(run, "sms")) == len(prepared[-1].responses(run.plan)) == 12
    rows = {row["name"]: row for row in run_bounds(run)}
    assert all(row["verdict"] != "REFUTED" for row in rows.values())
    assert "of 3 tokens" in rows["decryption"]["subject"] and "one query of 3 tokens" in rows["flooding"]["statement"]
    assert [row["subject"][:12] for row in run_bounds(run) if row["name"] == "range"] == [
        "sms, layer 0",
        "sms, layer 1",
    ]
    other = query_charge(replace(run, layers=3))
    assert other is not None and other["weights"].startswith("any weights") and other["bits"] < charge["bits"]
