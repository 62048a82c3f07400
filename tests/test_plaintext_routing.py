"""The leaky rival: the same words as SecMoE and as the oracle, at its declared price, and the route in both views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.limits.plans import admitted
from protocols import functionalities as F
from protocols.baselines.plaintext_routing import (
    THE_ROUTE,
    RoutedPlan,
    RoutedWeights,
    plaintext_routing,
)
from protocols.broken.routed import moe_layer_route_told
from protocols.catalog import CATALOG
from protocols.entry import DECLARED
from protocols.he.ideal import IdealHe, IdealHeService
from protocols.he.noise import noise_report
from protocols.he.params import PARAM_SETS
from protocols.he.service import BfvServer, EpsilonBudget, HeService, query_cost
from protocols.layer_plan import LayerWeights
from protocols.model.config import MoeConfig
from protocols.model.tables import GELU_MINIMAX
from protocols.ot.ideal import IdealOtService
from protocols.ot.service import OtService
from secmoe.cli import main
from secmoe.kept import reader
from secmoe.layer import LayerRun, ProtocolOption
from secmoe.shape_bounds import ANY, query_charge, run_bounds
from sim.concrete import from_words, to_words
from sim.party import ProtocolDecl
from sim.ring import Z2, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution, Session
from tests.test_moe import Layer, layer
from transcripts.store import Transcript

TINY = PARAM_SETS["P64tiny"]
GATED = MoeConfig(d=4, f=8, E=3)
TWO = MoeConfig(d=3, f=5, E=5, k=2, gated=False, activation="relu", renormalise=True)


def execute(
    case: Layer, proto: ProtocolDecl[Any], plan: Any, prepare: Any, real: bool = False
) -> tuple[Execution, Session]:
    """A run on uniform shares."""
    service: Any = HeService(plan.plans) if real else IdealHeService(plan.plans)
    session = Session((OtService() if real else IdealOtService(), service), hybrid=not real)
    rng = np.random.default_rng()
    parts = []
    for value in (case.x, case.residual):
        mine = from_words(plan.ring, rng.integers(0, plan.ring.mask, value.shape, np.uint64, endpoint=True))
        parts.append((mine, from_words(plan.ring, value) - mine))
    client, server = ([pair[i] for pair in parts] for i in (0, 1))
    weights = prepare(service.prepare, plan, case.weights)
    return session.run(proto, [*client, None], [*server, weights], plan=plan), session


def routed(case: Layer, real: bool = False) -> tuple[Execution, Session]:
    plan = RoutedPlan(case.plan.shape, case.plan.tokens, case.plan.params, case.plan.activation)
    return execute(case, plaintext_routing, plan, RoutedWeights.prepare, real)


def output(execution: Execution) -> Any:
    return to_words(execution.outputs[CLIENT] + execution.outputs[SERVER])


def told(execution: Execution, word: str) -> dict[Role, Any]:
    """The words that each party receives in the messages of this name."""
    return {
        role: to_words(next(m.content for m in execution.view(role) if m.label.endswith(word)))  # type: ignore[arg-type]  # an array
        for role in Role
        if any(m.label.endswith(word) for m in execution.view(role))
    }


@pytest.mark.slow
@settings(max_examples=6)
@given(st.integers(2, 6), st.booleans(), st.integers(1, 2), st.integers(1, 3), st.integers(0, 2**32))
def test_the_output_is_the_oracles(E: int, gated: bool, k: int, tokens: int, seed: int) -> None:
    shape = MoeConfig(d=3, f=4, E=E, k=k, gated=gated, activation="gelu" if gated else "relu")
    case = layer(shape, tokens, GELU_MINIMAX if gated else "relu", seed)
    assert np.array_equal(output(routed(case)[0]), case.trace().output)


@pytest.mark.slow
def test_on_real_cryptography_as_well() -> None:
    case = layer(GATED, 2, GELU_MINIMAX, 5)
    assert np.array_equal(output(routed(case, real=True)[0]), case.trace().output)


def test_ties_go_to_the_lower_expert() -> None:
    case = layer(TWO, 3, "relu", 1)
    case.weights.router[:] = case.weights.router[0]
    assert np.array_equal(output(routed(case)[0]), case.trace().output)


@pytest.mark.parametrize(("shape", "activation"), [(GATED, GELU_MINIMAX), (TWO, "relu")])
def test_the_declared_cost_is_the_cost(shape: MoeConfig, activation: Any) -> None:
    plan = RoutedPlan(shape, 2, TINY, activation)
    x = blank(Spec(plan.ring, (2, shape.d)))
    session = Session((IdealOtService(), IdealHeService(plan.plans)), hybrid=True)
    counted = session.price(plaintext_routing, [x, x, None], [x, x, None], plan=plan).cost
    assert counted.row() == plaintext_routing.declared(x, x, None, plan=plan).row()


def test_both_parties_receive_the_route() -> None:
    case = layer(TWO, 3, "relu", 2)
    execution, _ = routed(case)
    shares = told(execution, "reveal/share")
    want = np.eye(TWO.E, dtype=np.uint64)[case.trace().routes]
    assert np.array_equal(shares[CLIENT] ^ shares[SERVER], want)


def test_it_declares_the_leak_and_is_never_proved() -> None:
    entry = next(e for e in CATALOG if e.proto is plaintext_routing)
    functionality = entry.realises
    assert entry.status == DECLARED and functionality.leaks_route
    assert functionality.leaks_client and functionality.leaks_server
    assert functionality.compute is F.SPARSE_MOE.compute


@pytest.mark.parametrize("rows", [[[0, 1, 0], [1, 0, 0]], [[0, 0, 1]]])
def test_a_row_takes_its_own_matrix_in_both_worlds(rows: list[list[int]]) -> None:
    """Prepared weights are looked up; the ring arrays of an ideal engine are multiplied with the one-hot row."""
    route = from_words(Z2, rows)
    names = [row.index(1) for row in rows]
    server: Any = BfvServer(None, EpsilonBudget(1.0))
    assert server.choose(("a", "b", "c"), route) == ["abc"[i] for i in names]
    arrays = tuple(from_words(GATED_RING, np.full((2, 2), 10 + i)) for i in range(3))
    for got, i in zip(IdealHe().choose(arrays, route), names, strict=True):
        assert (to_words(got) == 10 + i).all()


GATED_RING = RoutedPlan(GATED, 1, TINY, GELU_MINIMAX).ring


def test_epsilon_counts_the_worst_expert_for_every_token() -> None:
    case = layer(GATED, 2, GELU_MINIMAX, 3)
    plan = RoutedPlan(GATED, 2, TINY, GELU_MINIMAX)
    weights = RoutedWeights.prepare(HeService(plan.plans).prepare, plan, case.weights)
    per_row = sum(max(w.epsilon for w in m.experts) for m in weights.matrices)
    assert query_cost(weights.responses(plan)) == pytest.approx(weights.router.epsilon + 2 * per_row)


@pytest.mark.slow
def test_the_budget_is_charged_no_more_than_it_was_admitted_for() -> None:
    case = layer(GATED, 2, GELU_MINIMAX, 3)
    plan = RoutedPlan(GATED, 2, TINY, GELU_MINIMAX)
    weights = RoutedWeights.prepare(HeService(plan.plans).prepare, plan, case.weights)
    _, session = routed(case, real=True)
    spent = session.endpoints[SERVER].states["he"].budget.total
    assert 0 < spent <= query_cost(weights.responses(plan)) * (1 + 1e-9)


def test_the_planted_layer_is_correct_and_tells_the_server_the_route() -> None:
    case = layer(GATED, 3, GELU_MINIMAX, 7)
    execution, _ = execute(case, moe_layer_route_told, case.plan, LayerWeights.prepare)
    assert np.array_equal(output(execution), case.trace().output)
    logs = told(execution, "/log/share")
    assert set(logs) == {SERVER} and logs[SERVER].shape == (3, 1, GATED.E)
    assert moe_layer_route_told.realises is F.SPARSE_MOE


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--order", "literal"], "--order literal: plaintext-routing has no such order"),
        (["--truncation", "one-ulp"], "--truncation one-ulp: plaintext-routing has no such truncation"),
    ],
)
def test_options_that_it_does_not_have_are_refused(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "a.secmoe"
    assert main(["run", "hi", "--protocol", "plaintext-routing", "--out", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not out.exists()


def test_a_transcript_with_such_an_option_is_refused() -> None:
    run = LayerRun("plaintext-routing", "m", 0, 2, GATED, TINY, "gelu-minimax", "reassociated", "faithful")
    public = run.to_public()
    assert LayerRun.from_public(public) == run and run.declared is plaintext_routing
    with pytest.raises(ProtocolOption, match="no such truncation"):
        LayerRun.from_public({**public, "truncation": "one-ulp"})


def test_its_bounds_are_those_of_the_products_that_it_makes() -> None:
    """The charge of a query is that of the linear plans of one expert, not of the selections of all."""
    run = LayerRun("plaintext-routing", "", 0, 2, GATED, TINY, "gelu-minimax", "reassociated", "faithful")
    plan, charge = run.plan, query_charge(run)
    assert isinstance(plan, RoutedPlan) and charge is not None
    rows = ((plan.router, 1), (plan.expert_up, 2), (plan.expert_down, 2))
    want = sum(count * noise_report(one, float(admitted(one) or 0)).epsilon for one, count in rows)
    assert charge["bits"] == pytest.approx(-np.log2(want)) and charge["weights"] == ANY
    assert any("plaintext_routing" in bound["subject"] for bound in run_bounds(run))


@pytest.mark.slow
def test_a_run_tells_what_it_leaks_and_is_kept_like_any_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept, other = tmp_path / "a.secmoe", tmp_path / "b.secmoe"
    routed_run = ["run", "call me", "--protocol", "plaintext-routing", "--record-private", "--out"]
    assert main([*routed_run, str(kept)]) == 0
    told = capsys.readouterr().out
    assert "EXACT" in told and "order" not in told.splitlines()[1]
    for role in Role:
        assert f"LEAK (DECLARED): the {role.value} is told {THE_ROUTE}" in told
    assert main([*routed_run, str(other), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"] == "plaintext-routing" and found["exact_match"]
    assert found["declared_leakage"] == {"client": [THE_ROUTE], "server": [THE_ROUTE]}
    assert main(["replay", str(kept)]) == 0 and "CONFIRMED" in capsys.readouterr().out
    assert main(["diff", str(kept), str(other)]) == 0
    assert main(["inspect", str(kept), "--list"]) == 0 and "plaintext_routing/experts/reveal" in capsys.readouterr().out
    with Transcript(kept) as transcript:
        read, answers = reader(transcript.public), [h for h in transcript.headers if h.label.endswith("h2a/ct")]
        assert read is not None and answers
        assert all(read(h, transcript.message(h).payload or b"") is not None for h in answers)
    assert main(["prove", "--run", str(kept)]) == 2 and "tells it by design" in capsys.readouterr().err
    assert main(["report", str(kept)]) == 1
    told = capsys.readouterr().out
    assert "LEAK (DECLARED)" in told and "--protocol plaintext-routing" in told and "the certificates" not in told
