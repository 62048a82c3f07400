"""Privacy at full model size: the sparse layer of Switch-Base (d = 768, f = 3072), proved for both corrupted parties.

Judged against the policy: the secrets are all inputs of the honest party, so the router and the expert weights where
the client is corrupted, the hidden states where the server is; the choice of experts is a function of both.
"""

from __future__ import annotations

import pytest

from proofs.certificate import trace_case
from proofs.private import Peeled, prove_private
from proofs.symbolic import INPUT, Dag
from proofs.trace import Seen, Trace, trace
from protocols.catalog import CATALOG
from protocols.entry import Case, Secret
from protocols.expert_weights import ExpertWeights
from protocols.he.ideal import IdealHeService
from protocols.he.params import PARAM_SETS
from protocols.layer_plan import LITERAL, REASSOCIATED, LayerPlan, LayerWeights
from protocols.model.config import MoeConfig
from protocols.model.tables import GELU_MINIMAX
from protocols.moe import moe_layer
from protocols.ot.ideal import IdealOtService
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role

D, F = 768, 3072
SHAPES = [
    pytest.param(E, k, order, marks=[] if (E, k, order) == (128, 1, REASSOCIATED) else [pytest.mark.slow])
    for E in (8, 128)
    for k in (1, 2)
    for order in (REASSOCIATED, LITERAL)
]


def layer(E: int, k: int, order: str, n: int = 1) -> Trace:
    """The gated layer with GeLU on n tokens: shared hidden states and residual, the server's router and experts."""
    plan = LayerPlan(MoeConfig(d=D, f=F, E=E, k=k), n, PARAM_SETS["P64s"], GELU_MINIMAX, order)
    dag = Dag()

    def leaf(owner: Role, name: str, *shape: int) -> RingArray:
        return dag.leaf(owner.value, name, Spec(plan.ring, shape))

    experts = ExpertWeights(leaf(SERVER, "w1", E, 2 * F, D), leaf(SERVER, "w2", E, D, F))
    weights = LayerWeights(leaf(SERVER, "router", E, D), experts)
    ours, theirs = ([leaf(role, name, n, D) for name in ("x", "residual")] for role in (CLIENT, SERVER))
    services = [IdealOtService(), IdealHeService(plan.plans)]
    return trace(moe_layer, services, [*ours, None], [*theirs, weights], {"plan": plan}, dag)


def judged(run: Trace, role: Role) -> Peeled:
    return prove_private(run.dag, run.view(role), role)


@pytest.mark.parametrize(("E", "k", "order"), SHAPES)
def test_neither_party_learns_anything_at_real_shapes(E: int, k: int, order: str) -> None:
    run = layer(E, k, order)
    for role in Role:
        view = run.view(role)
        secrets = {node.label for node in run.dag.nodes if node.op == INPUT and node.owner != role.value}
        assert secrets >= ({"x", "residual", "router", "w1", "w2"} if role is CLIENT else {"x", "residual"})
        assert len(view) > 300
        found = judged(run, role)
        assert not found.findings and len(found.steps) > 1000


def test_nor_where_the_combination_is_encrypted() -> None:
    """Eight tokens: probabilities meet the experts' outputs under encryption."""
    run = layer(8, 1, REASSOCIATED, 8)
    assert any("crossing" in node.label for node in run.dag.nodes)
    for role in Role:
        assert not judged(run, role).findings


SIZE = (1 << 24) - 1
NORM = {"s": 18, "reach": 6, "eps": 1e-6}
TRIANGLE = tuple(tuple(j <= i for j in range(8)) for i in range(8))
ROWS = [
    ("layer_norm", Case("d = 768", (Secret(Ring(64), (1, D), None, -SIZE, SIZE),), NORM)),
    ("rms_norm", Case("d = 768", (Secret(Ring(64), (1, D), None, -SIZE, SIZE),), NORM)),
    ("softmax", Case("12 heads", (Secret(Ring(64), (12, 8, 8)),), {"s": 18, "l": 64})),
    ("softmax", Case("causal", (Secret(Ring(64), (2, 8, 8)),), {"s": 18, "l": 64, "allowed": TRIANGLE})),
]


@pytest.mark.parametrize(("name", "case"), ROWS, ids=[f"{name}, {case.name}" for name, case in ROWS])
def test_norms_and_softmax_are_private_at_real_shapes(name: str, case: Case) -> None:
    run = trace_case(next(entry for entry in CATALOG if entry.name == name), case)
    for role in Role:
        view = run.view(role)
        assert len(view) > 300
        assert not prove_private(run.dag, view, role).findings


@pytest.mark.slow
def test_one_secret_opened_in_the_same_layer_is_found() -> None:
    """The detector sees a leak at this size: twice an input of the peer, added to the view."""
    run = layer(8, 1, REASSOCIATED)
    for role in Role:
        view = run.view(role)
        leaf = next(n for n, node in enumerate(run.dag.nodes) if node.op == INPUT and node.owner != role.value)
        opened = run.dag.add(run.dag.nodes[leaf].ring, leaf, leaf)
        found = prove_private(run.dag, [*view, Seen("opened", opened, False)], role)
        assert [finding.seen.label for finding in found.findings] == ["opened"]
