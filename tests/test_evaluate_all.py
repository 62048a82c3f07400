"""Rivals that evaluate every expert: SecMoE's own words, at their declared price, and no word of the route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.he.ideal import IdealHeService
from protocols.he.params import PARAM_SETS
from protocols.model.config import MoeConfig
from protocols.model.tables import GELU_LOOK_UP, GELU_MINIMAX
from protocols.ot.ideal import IdealOtService
from secmoe.cli import main
from secmoe.layer_protocols import PROTOCOLS
from secmoe.names import ALL, CAT, IRON, IRON_CAT
from sim.ring import Spec
from sim.shapes import blank
from sim.world import Execution, Session
from tests.test_moe import Layer, layer
from tests.test_plaintext_routing import execute, output

RIVALS = [ALL, CAT, IRON, IRON_CAT]
TINY = PARAM_SETS["P64tiny"]
GATED = MoeConfig(d=4, f=8, E=3)
TWO = MoeConfig(d=3, f=5, E=5, k=2, gated=False, activation="relu", renormalise=True)


def run(name: str, case: Layer, real: bool = False) -> Execution:
    """Real: with the parameter set that the protocol is priced at."""
    kind = PROTOCOLS[name]
    params = kind.params if real and kind.params is not None else case.plan.params
    plan = kind.plan(case.plan.shape, case.plan.tokens, params, case.plan.activation)
    return execute(case, kind.text, plan, kind.weights.prepare, real)[0]


@pytest.mark.parametrize("name", [CAT, *(pytest.param(name, marks=pytest.mark.slow) for name in (ALL, IRON, IRON_CAT))])
@settings(max_examples=3)
@given(
    st.integers(2, 5), st.booleans(), st.sampled_from(["gelu", "relu"]), st.integers(1, 2), st.integers(1, 3),
    st.integers(0, 2**32),
)  # fmt: skip
def test_the_output_is_the_oracles(name: str, E: int, gated: bool, kind: Any, k: int, tokens: int, seed: int) -> None:
    shape = MoeConfig(d=3, f=4, E=E, k=k, gated=gated, activation=kind)
    case = layer(shape, tokens, GELU_MINIMAX if kind == "gelu" else "relu", seed)
    assert np.array_equal(output(run(name, case)), case.trace().output)


@pytest.mark.parametrize("name", [IRON, IRON_CAT])
def test_activations_by_look_up_are_the_oracles(name: str) -> None:
    case = layer(GATED, 2, GELU_LOOK_UP, 6)
    assert np.array_equal(output(run(name, case)), case.trace().output)
    assert not np.array_equal(case.trace().output, layer(GATED, 2, GELU_MINIMAX, 6).trace().output)


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_on_real_cryptography_as_well(name: str) -> None:
    case = layer(TWO, 2, "relu", 5)
    assert np.array_equal(output(run(name, case, real=True)), case.trace().output)


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_ties_go_to_the_lower_expert(name: str) -> None:
    case = layer(TWO, 3, "relu", 1)
    case.weights.router[:] = case.weights.router[0]
    assert np.array_equal(output(run(name, case)), case.trace().output)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize(("shape", "activation"), [(GATED, GELU_MINIMAX), (TWO, "relu")])
def test_the_declared_cost_is_the_cost(name: str, tokens: int, shape: MoeConfig, activation: Any) -> None:
    kind = PROTOCOLS[name]
    plan = kind.plan(shape, tokens, TINY, activation)
    x = blank(Spec(plan.ring, (tokens, shape.d)))
    session = Session((IdealOtService(), IdealHeService(plan.plans)), hybrid=True)
    counted = session.price(kind.text, [x, x, None], [x, x, None], plan=plan).cost
    assert counted.row() == kind.text.declared(x, x, None, plan=plan).row()


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_no_message_depends_on_the_route(name: str) -> None:
    """Other routes, the same labels, order and lengths; and nothing is opened."""
    logs = []
    for seed in (1, 2):
        execution = run(name, layer(GATED, 2, GELU_MINIMAX, seed))
        logs.append([(m.label, m.sender, m.nbytes) for m in execution.messages])
    assert logs[0] == logs[1] and not any("reveal" in label for label, *_ in logs[0])


@pytest.mark.slow
def test_a_rival_runs_from_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --layer: layer 0. Exact by the oracle of its own activation; its report names the protocol."""
    out = tmp_path / "rival.secmoe"
    assert main(["run", "win", "--protocol", IRON_CAT, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["protocol"], found["layer"], found["activation"]) == (IRON_CAT, 0, "gelu-lookup")
    assert found["exact_match"] and found["declared_leakage"] == {"client": [], "server": []}
    assert main(["report", str(out), "--json"]) == 1  # nothing is proved or audited yet
    report = json.loads(capsys.readouterr().out)
    assert any(f"--protocol {IRON_CAT} " in command for _, command in report["reproduce"])
    assert any("prove --run" in command for _, command in report["reproduce"])


@pytest.mark.parametrize(("option", "value"), [("--order", "literal"), ("--truncation", "one-ulp")])
def test_options_that_a_rival_lacks(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "win", "--protocol", CAT, option, value]) == 2
    assert f"{option} {value}: {CAT} has no such {option[2:]}" in capsys.readouterr().err
