"""Rivals that leak nothing: scattered inputs give SecMoE's words, a balanced capacity its own functionality's."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proofs.contracts.capacity import places_of
from protocols.baselines.cryptomoe import BalancedPlan, DoublePlan, RoomierPlan, cryptomoe
from protocols.baselines.every_expert import EveryExpert
from protocols.baselines.scatter import ScatterPlan, scatter
from protocols.cleartext.capacity import BALANCED_MOE, kept
from protocols.he.ideal import IdealHeService
from protocols.he.params import PARAM_SETS
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.model.config import MoeConfig, balanced_capacity
from protocols.model.evaluate import FACTORS, capacity_figures, fixed_moe
from protocols.model.fixed_point import FixedPoint
from protocols.model.oracle import sparse_moe_layer, with_room
from protocols.model.store import load_model
from protocols.model.tables import GELU_MINIMAX
from protocols.moe import moe_layer
from protocols.ot.ideal import IdealOtService
from secmoe.cli import main
from sim.concrete import from_words, to_words
from sim.party import ProtocolDecl
from sim.ring import Ring, Spec
from sim.shapes import blank
from sim.world import Execution, Session
from tests.test_moe import Layer, layer
from tests.test_plaintext_routing import execute, output

TINY = PARAM_SETS["P64tiny"]
FP = FixedPoint(64, 18)
KINDS = (BalancedPlan, RoomierPlan, DoublePlan)
SEEDS = st.integers(0, 9)
GATED = MoeConfig(d=4, f=8, E=3)
TWO = MoeConfig(d=3, f=5, E=5, k=2, gated=False, activation="relu", renormalise=True)


def run(case: Layer, kind: type[LayerPlan], real: bool = False) -> tuple[Execution, LayerPlan]:
    plan = kind(case.plan.shape, case.plan.tokens, case.plan.params, case.plan.activation)
    rival: tuple[ProtocolDecl[Any], Any] = (cryptomoe, EveryExpert)
    if kind is ScatterPlan:
        rival = (scatter, LayerWeights)
    return execute(case, rival[0], plan, rival[1].prepare, real)[0], plan


def balanced(case: Layer, plan: Any) -> Any:
    """The two oracles, held against each other."""
    w = case.weights
    experts = [m for m in (w.w1, w.v, w.w2) if m is not None]
    ideal = BALANCED_MOE.compute(case.x, case.residual, w.router, *experts, plan=plan)
    table = case.plan.activation if case.plan.shape.activation == "gelu" else None
    words = [FP.wrap(v.astype(np.int64).view(np.uint64)) for v in (case.x, case.residual)]
    model = type(w)(*(None if m is None else m.astype(np.int64).view(np.uint64) for m in (w.router, w.w1, w.v, w.w2)))
    found = sparse_moe_layer(*words, model, case.plan.shape, FP, table, plan.capacity).output  # type: ignore[arg-type]
    assert np.array_equal(found, ideal.view(np.uint64))
    return found


def crowded(case: Layer) -> Layer:
    """Every token comes to the same experts."""
    case.weights.router[:] = case.weights.router[0]
    return case


@pytest.mark.slow
@settings(max_examples=5)
@given(st.integers(2, 6), st.booleans(), st.integers(1, 2), st.integers(1, 4), st.sampled_from(KINDS), SEEDS)
def test_the_output_is_the_oracles(E: int, gated: bool, k: int, tokens: int, kind: Any, seed: int) -> None:
    shape = MoeConfig(d=3, f=4, E=E, k=k, gated=gated, activation="gelu" if gated else "relu")
    case = layer(shape, tokens, GELU_MINIMAX if gated else "relu", seed)
    execution, plan = run(case, kind)
    assert np.array_equal(output(execution), balanced(case, plan))
    assert np.array_equal(output(run(case, ScatterPlan)[0]), case.trace().output)


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_are_dropped(kind: Any) -> None:
    """All of five tokens come to the experts 0 and 1, which have room for two, three or four of them."""
    case = crowded(layer(TWO, 5, "relu", 1))
    execution, plan = run(case, kind)
    out, room = output(execution), plan.capacity  # type: ignore[attr-defined]
    assert room == {BalancedPlan: 2, RoomierPlan: 3, DoublePlan: 4}[kind]
    assert np.array_equal(out, balanced(case, plan))
    free = case.trace().output
    assert np.array_equal(out[:room], free[:room]) and (out[:room] != case.residual[:room].view(np.uint64)).any()
    assert np.array_equal(out[room:], case.residual[room:].view(np.uint64))


@pytest.mark.slow
def test_nothing_dropped_gives_the_words_of_the_layer() -> None:
    """One token always has room; so have two at twice the capacity of two experts."""
    for tokens, shape, kind in ((1, GATED, BalancedPlan), (2, MoeConfig(d=4, f=8, E=2), DoublePlan)):
        case = layer(shape, tokens, GELU_MINIMAX, 4)
        assert np.array_equal(output(run(case, kind)[0]), case.trace().output)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ScatterPlan, RoomierPlan])
def test_on_real_cryptography_as_well(kind: Any) -> None:
    case = crowded(layer(GATED, 3, GELU_MINIMAX, 5))
    execution, plan = run(case, kind, real=True)
    expected = case.trace().output if kind is ScatterPlan else balanced(case, plan)
    assert np.array_equal(output(execution), expected)


def test_slots_beyond_the_ring_degree() -> None:
    """They lie in several ciphertexts, whose products the server adds up."""
    shape = MoeConfig(d=2048, f=2, E=7, gated=False, activation="relu")
    case = layer(shape, 1, "relu", 6)
    execution, plan = run(case, ScatterPlan)
    assert isinstance(plan, ScatterPlan) and plan.expert_up.d > plan.params.n and plan.expert_up.operand("x").count > 1
    assert np.array_equal(output(execution), case.trace().output)


# -- who has room -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), st.integers(1, 7), st.integers(1, 5), st.sampled_from(FACTORS))
def test_three_ways_to_say_who_has_room(data: Any, n: int, E: int, factor: Fraction) -> None:
    """Prefix sums, a loop over arrivals, and the circuit of the contract; a row of it holds one token or none."""
    k = data.draw(st.integers(1, min(2, E)))
    routes = np.array([data.draw(st.permutations(range(E)))[:k] for _ in range(n)])
    hot = (routes[..., None] == np.arange(E)).astype(np.int64)
    plan = BalancedPlan(MoeConfig(2, 2, max(2, E), k), n, TINY, "relu", factor=factor)
    room = balanced_capacity(n, k, max(2, E), factor)
    assert room == plan.capacity and 1 <= room <= n
    served = with_room(routes, room)
    assert np.array_equal(kept(hot, room), served)
    places = to_words(places_of(from_words(Ring(1), hot), plan)).astype(np.int64)
    assert places.shape == (E, room, n) and places.sum(2).max() <= 1
    assert np.array_equal(places.sum(1).T, (hot * served[..., None]).sum(1))
    order = [[row.argmax() for row in rows if row.any()] for rows in places]
    assert all(list(one) == sorted(one) for one in order)


@given(st.integers(1, 300))
@example(1)
def test_keys_hold_every_arrival(n: int) -> None:
    """Inside the range that top_k asks for, in a ring of few bits."""
    keys = BalancedPlan(GATED, n, TINY, "relu").keys
    assert n < 1 << keys.l - 2 <= 2 * n


# -- what it costs, and what it shows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "activation"), [(GATED, GELU_MINIMAX), (TWO, "relu")])
@pytest.mark.parametrize("kind", [ScatterPlan, *KINDS])
@pytest.mark.parametrize("params", ["P64tiny", "P64s"])
def test_the_declared_cost_is_the_cost(shape: MoeConfig, activation: Any, kind: Any, params: str) -> None:
    proto = scatter if kind is ScatterPlan else cryptomoe
    plan = kind(shape, 3, PARAM_SETS[params], activation)
    x = blank(Spec(plan.ring, (3, shape.d)))
    session = Session((IdealOtService(), IdealHeService(plan.plans)), hybrid=True)
    counted = session.price(proto, [x, x, None], [x, x, None], plan=plan).cost
    assert counted.row() == proto.declared(x, x, None, plan=plan).row()


def priced(kind: Any, E: int, d: int, n: int) -> int:
    plan = kind(MoeConfig(d=d, f=2 * d, E=E), n, PARAM_SETS["P64s"], GELU_MINIMAX)
    x = blank(Spec(plan.ring, (n, d)))
    proto = scatter if kind is ScatterPlan else moe_layer
    cost = proto.declared(x, x, None, plan=plan)
    return cost.nbytes


def test_where_scattering_on_shares_sends_less() -> None:
    """Many tokens and small slots: fewer bytes than the encrypted form; large slots: more."""
    assert priced(ScatterPlan, 8, 64, 16) < priced(LayerPlan, 8, 64, 16)
    assert priced(ScatterPlan, 64, 768, 1) > priced(LayerPlan, 64, 768, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ScatterPlan, BalancedPlan])
def test_messages_do_not_depend_on_the_route(kind: Any) -> None:
    """All tokens at one expert, or spread: the same labels, order, sizes."""
    shapes = []
    for arrange in (crowded, lambda case: case):
        messages = run(arrange(layer(GATED, 3, GELU_MINIMAX, 8)), kind)[0].messages
        shapes.append([(m.label, m.sender, m.depth, m.nbytes) for m in messages])
    assert shapes[0] == shapes[1]


# -- the command, and accuracy ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scatter", "cryptomoe"])
def test_a_run_is_exact_and_leaks_nothing(name: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kept_run = tmp_path / "a.secmoe"
    assert main(["run", "call me now", "--protocol", name, "--params", "P64tiny", "--out", str(kept_run)]) == 0
    told = capsys.readouterr().out
    assert "EXACT" in told and "LEAK" not in told


def test_accuracy_by_capacity() -> None:
    """More room drops less; without a limit nothing is dropped."""
    model = load_model("sms")
    assert model.held_out is not None
    found = capacity_figures(model, 24)
    drops = [found[f"dropped_capacity_{name}"] for name in ("1", "1.5", "2")]
    assert drops[0] > 0.1 and drops == sorted(drops, reverse=True) and drops[0] > drops[2]
    undropped = [model.forward(model.tokens_from_item(i), fixed_moe(model, FP)).logits.argmax() for i in range(24)]
    assert found["accuracy_undropped"] == float((np.array(undropped) == model.held_out.labels[:24]).mean())
