"""One suite that both homomorphic engines pass: same labels, same order, same bytes, same results.

BFV is the real layer; IdealHe is the sealed box with which hybrid runs and proofs replace it. They meet at the message
level, in `linear` and `select_product` (a2h, local work, h2a).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.he.ideal import IdealHeService
from protocols.he.interface import Plan
from protocols.he.noise import EpsilonExhausted
from protocols.he.packing import LinearPlan, SelectPlan, ShapeDoesNotFit
from protocols.he.params import INSECURE_TEST, PARAM_SETS
from protocols.he.reading import ReadPlan
from protocols.he.service import BfvServer, HeService
from protocols.layer_plan import LITERAL, REASSOCIATED, LayerPlan, LayerWeights
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.moe import moe_layer
from protocols.ot.service import OtService
from protocols.select import select_product
from sim.concrete import from_words, to_words
from sim.message import Message
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec
from sim.world import Execution, Session

TINY = PARAM_SETS["P64tiny"]
R64 = Ring(64)
Words = NDArray[np.uint64]
Service = Callable[[list[Plan]], Any]
SERVICES: dict[str, Service] = {"bfv": lambda plans: HeService(plans, 1.0), "ideal": IdealHeService}


@dataclass(frozen=True)
class Request:
    """One product: the plan, how many rows, and what seeds its inputs. bound: largest absolute weight."""

    plan: Plan
    rows: int = 1
    bound: int = 1 << 18
    seed: int = 0

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        if isinstance(self.plan, LinearPlan):
            return [(self.plan.n, self.plan.d)]
        n = self.rows * self.plan.n
        return [(n, self.plan.experts), (n, self.plan.d)]

    def weights(self) -> NDArray[np.int64]:
        plan = self.plan
        size = (plan.f, plan.d) if isinstance(plan, LinearPlan) else (plan.experts, plan.f, plan.d)
        w = np.random.default_rng(self.seed).integers(-self.bound, self.bound, size, endpoint=True)
        w.flat[0], w.flat[-1] = self.bound, -self.bound
        return w

    def shares(self) -> list[tuple[Words, Words]]:
        """Both parties' uniform shares of every operand."""
        rng = np.random.default_rng(self.seed + 1)
        return [tuple(rng.integers(0, 2**64, shape, np.uint64) for _ in Role) for shape in self.shapes]  # type: ignore[misc]


@cache
def run(request: Request, engine: str) -> tuple[Session, Execution]:
    """In a session of its own, from one seed."""
    session = Session([SERVICES[engine]([request.plan])], seed=b"conformance")
    return session, run_in(session, request, engine)


def run_in(session: Session, request: Request, engine: str) -> Execution:
    service = SERVICES[engine]([request.plan])
    client, server = ([from_words(R64, pair[i]) for pair in request.shares()] for i in (0, 1))
    proto: Any = linear if isinstance(request.plan, LinearPlan) else select_product
    weights = service.prepare(request.plan, request.weights())
    return session.run(proto, [*client, None], [*server, weights], plan=request.plan)


def expected(request: Request) -> list[list[int]]:
    """Plain Python integers mod 2^64."""
    w = request.weights().astype(object)
    values = [(a.astype(object) + b.astype(object)) for a, b in request.shares()]
    if isinstance(request.plan, LinearPlan):
        y = values[0] @ w.T
    else:
        t, x = values
        y = np.array([sum(t[i, e] * (w[e] @ x[i]) for e in range(len(w))) for i in range(len(x))])
    return [[int(v) % 2**64 for v in row] for row in y]


REQUESTS = {
    "linear, one token": Request(LinearPlan(TINY, 1, 4, 3)),
    "linear, one column": Request(LinearPlan(TINY, 2, 1, 3)),
    "linear, three tokens": Request(LinearPlan(TINY, 3, 8, 5)),
    "linear, two ciphertexts": Request(LinearPlan(TINY, 3, 64, 64)),
    "linear, three responses": Request(LinearPlan(TINY, 1, 512, 40)),
    "linear, packed": Request(LinearPlan(INSECURE_TEST, 3, 16, 20)),
    "linear, columns split": Request(LinearPlan(INSECURE_TEST, 3, 300, 20, 2, split=64)),
    "linear, columns split, not packed": Request(LinearPlan(INSECURE_TEST, 3, 20, 9, 3, split=16, packed=False)),
    **{
        f"select {order}, E = {E}": Request(SelectPlan(TINY, order, E, 4, 8), rows=2, seed=E)
        for order in "RL"
        for E in range(1, 10)
    },
    "select R, three responses": Request(SelectPlan(TINY, "R", 9, 64, 20), bound=1 << 17),
    "select R, expanded and packed": Request(SelectPlan(INSECURE_TEST, "R", 3, 16, 20), rows=2),
    "select L, expanded and packed": Request(SelectPlan(INSECURE_TEST, "L", 3, 16, 20), rows=2),
    "select R, four levels": Request(SelectPlan(INSECURE_TEST, "R", 9, 16, 40)),
    "select L, four levels": Request(SelectPlan(INSECURE_TEST, "L", 9, 16, 40)),
    "select R, groups of responses": Request(SelectPlan(INSECURE_TEST, "R", 2, 5, 300)),
    "select L, groups of responses": Request(SelectPlan(INSECURE_TEST, "L", 2, 5, 300)),
    "select R, tokens side by side": Request(SelectPlan(INSECURE_TEST, "R", 2, 4, 6, 7, 4), rows=2),
    "select L, tokens side by side": Request(SelectPlan(INSECURE_TEST, "L", 2, 4, 6, 7, 4), rows=2),
    "select R, selectors together": Request(SelectPlan(INSECURE_TEST, "R", 3, 16, 20, 5), rows=2),
    "select L, answers together": Request(SelectPlan(INSECURE_TEST, "L", 3, 16, 20, 5), rows=2),
    "select R, vectors together": Request(SelectPlan(INSECURE_TEST, "R", 16, 25, 9, 5), rows=2),
    "select R, compact": Request(SelectPlan(INSECURE_TEST, "R", 3, 16, 20, compact=True), rows=2),
    "select R, compact, together": Request(SelectPlan(INSECURE_TEST, "R", 3, 16, 20, 5, compact=True)),
    "select R, compact, side by side": Request(SelectPlan(INSECURE_TEST, "R", 2, 4, 6, 7, 4, True)),
    "read, expanded": Request(ReadPlan.of(SelectPlan(INSECURE_TEST, "R", 9, 21, 40), 9)),
    "read, answers together": Request(ReadPlan.of(SelectPlan(INSECURE_TEST, "R", 3, 16, 20, 5), 20)),
    "read, tokens side by side": Request(ReadPlan.of(SelectPlan(INSECURE_TEST, "R", 2, 4, 6, 7, 4), 9)),
    "read, selection in order L": Request(ReadPlan.of(SelectPlan(INSECURE_TEST, "L", 3, 16, 20, 5), 40)),
    "read, no Galois keys": Request(ReadPlan.of(SelectPlan(TINY, "R", 9, 64, 20), 9)),
    "read, tokens without packing": Request(ReadPlan.of(SelectPlan(TINY, "R", 3, 4, 8, 9, 8), 5)),
    "select R, tokens without packing": Request(SelectPlan(TINY, "R", 3, 4, 8, 9, 8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", SERVICES)
@pytest.mark.parametrize("name", REQUESTS)
def test_the_product_is_exact(name: str, engine: str) -> None:
    request = REQUESTS[name]
    _, execution = run(request, engine)
    total = execution.outputs[CLIENT] + execution.outputs[SERVER]
    assert to_words(total).tolist() == expected(request)
    assert execution.cost.row() == priced(request).row()


def priced(request: Request) -> Any:
    client = [from_words(R64, pair[0]) for pair in request.shares()]
    proto: Any = linear if isinstance(request.plan, LinearPlan) else select_product
    return proto.declared(*client, None, plan=request.plan)


def headers(messages: tuple[Message, ...]) -> list[Any]:
    return [(m.order, m.scope, m.spec, m.nbytes) for m in messages]


def check_both(request: Request) -> None:
    (real_session, real), (ideal_session, ideal) = run(request, "bfv"), run(request, "ideal")
    for a, b in ((real_session.setup, ideal_session.setup), (real, ideal)):
        assert headers(a.messages) == headers(b.messages)
        assert all(m.payload is not None and len(m.payload) == m.nbytes for m in a.messages)
        assert all(m.payload is None for m in b.messages)  # a sealed box has no bytes to record
        assert {m.spec.kind for m in b.messages if isinstance(m.spec, BlobSpec)} <= {"keys", "ciphertexts", "response"}
    for role in Role:  # the server's share is the negative mask, which both engines draw under one label
        assert np.array_equal(to_words(real.outputs[role]), to_words(ideal.outputs[role]))


@pytest.mark.slow
@pytest.mark.parametrize("name", REQUESTS)
def test_same_labels_order_bytes_and_shares(name: str) -> None:
    check_both(REQUESTS[name])


@pytest.mark.slow
@settings(max_examples=12)
@given(
    order=st.sampled_from("RL"),
    experts=st.integers(1, 9),
    d=st.integers(1, 20),
    f=st.integers(1, 40),
    rows=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_any_small_selection(order: Any, experts: int, d: int, f: int, rows: int, seed: int) -> None:
    request = Request(fitting(lambda: SelectPlan(INSECURE_TEST, order, experts, d, f)), rows, 1 << 14, seed)
    check_both(request)
    _, execution = run(request, "bfv")
    assert to_words(execution.outputs[CLIENT] + execution.outputs[SERVER]).tolist() == expected(request)


@pytest.mark.slow
@settings(max_examples=12)
@given(n=st.integers(1, 20), d=st.integers(1, 40), f=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_any_small_linear_layer(n: int, d: int, f: int, seed: int) -> None:
    request = Request(fitting(lambda: LinearPlan(INSECURE_TEST, n, d, f)), 1, 1 << 16, seed)
    check_both(request)
    _, execution = run(request, "bfv")
    assert to_words(execution.outputs[CLIENT] + execution.outputs[SERVER]).tolist() == expected(request)


def fitting(build: Callable[[], Plan]) -> Plan:
    try:
        return build()
    except ShapeDoesNotFit:
        assume(False)
        raise


@pytest.mark.parametrize("engine", SERVICES)
def test_keys_serve_any_number_of_runs(engine: str) -> None:
    request = REQUESTS["select R, expanded and packed"]
    session = Session([SERVICES[engine]([request.plan])], seed=b"conformance")
    first, second = (run_in(session, request, engine) for _ in range(2))
    assert [m.nbytes for m in first.messages] == [m.nbytes for m in second.messages]
    totals = [to_words(e.outputs[CLIENT] + e.outputs[SERVER]).tolist() for e in (first, second)]
    assert totals[0] == totals[1] == expected(request)
    masks = [to_words(e.outputs[SERVER]).tolist() for e in (first, second)]
    assert masks[0] != masks[1]


def test_every_response_is_fresh() -> None:
    """Equal rows of one request: no ciphertext, and no half of one, occurs twice on the wire."""
    plan = SelectPlan(INSECURE_TEST, "R", 3, 16, 20)
    one = Request(plan, rows=1)
    service = HeService([plan], 1.0)
    session = Session([service], seed=b"fresh")
    rows = [[np.repeat(share, 3, axis=0) for share in pair] for pair in one.shares()]
    client, server = ([from_words(R64, pair[i]) for pair in rows] for i in (0, 1))
    execution = session.run(select_product, [*client, None], [*server, service.prepare(plan, one.weights())], plan=plan)
    for message in execution.messages:
        assert message.payload is not None
        size = message.nbytes // 3
        parts = [message.payload[i * size : (i + 1) * size] for i in range(3)]
        assert len({part[at : at + 32] for part in parts for at in (0, size // 2, size - 32)}) == 9
    share = to_words(execution.outputs[SERVER]).tolist()
    assert len({tuple(row) for row in share}) == 3


# -- the statistical distance that a session may spend ---------------------------------------------------------


def budgeted(request: Request, budget: float) -> tuple[HeService, Session, list[Message]]:
    service = HeService([request.plan], budget)
    sent: list[Message] = []
    return service, Session([service], on_send=sent.append), sent


def query(request: Request, service: HeService, session: Session) -> Execution:
    client, server = ([from_words(R64, pair[i]) for pair in request.shares()] for i in (0, 1))
    weights = service.prepare(request.plan, request.weights())
    return session.run(select_product, [*client, None], [*server, weights], plan=request.plan)


def ledger(session: Session) -> float:
    server: BfvServer = session.endpoints[SERVER].service("he")
    return server.budget.total


@pytest.mark.parametrize("rows", [1, 3])
def test_the_query_over_the_budget_is_refused_before_anything_leaves(rows: int) -> None:
    request = Request(SelectPlan(INSECURE_TEST, "R", 3, 16, 20), rows=rows)
    each = HeService([request.plan]).prepare(request.plan, request.weights()).epsilon
    service, session, sent = budgeted(request, 2.5 * rows * each)
    for number in (1, 2):
        query(request, service, session)
        assert ledger(session) == pytest.approx(number * rows * each, rel=1e-9, abs=0)
    before = len(sent)
    with pytest.raises(EpsilonExhausted, match="budget is") as caught:
        query(request, service, session)
    assert caught.value.__notes__ == ["raised by server in scope 'r3/select_product/h2a'"]
    assert all(m.sender is CLIENT for m in sent[before:])
    assert ledger(session) == pytest.approx(2 * rows * each, rel=1e-9, abs=0)


def test_a_budget_below_one_response_admits_none() -> None:
    request = Request(SelectPlan(INSECURE_TEST, "L", 3, 16, 20))
    each = HeService([request.plan]).prepare(request.plan, request.weights()).epsilon
    service, session, sent = budgeted(request, 0.99 * each)
    with pytest.raises(EpsilonExhausted):
        query(request, service, session)
    assert {m.sender for m in sent if not m.label.startswith("setup")} == {CLIENT}
    assert ledger(session) == 0


LAYER = MoeConfig(d=4, f=8, E=3, k=2, gated=True, activation="relu", renormalise=True)


def layer_inputs(service: Any, plan: LayerPlan) -> tuple[list[Any], list[Any], LayerWeights]:
    rng = np.random.default_rng(5)
    d, f, E = plan.shape.d, plan.shape.f, plan.shape.E
    sizes: list[tuple[int, ...]] = [(E, d), (E, f, d), (E, f, d), (E, d, f)]
    matrices = [rng.integers(-(1 << 18), 1 << 18, size) for size in sizes]
    weights = LayerWeights.prepare(service.prepare, plan, MoeWeights(*matrices))

    def share() -> RingArray:
        return from_words(R64, rng.integers(-(1 << 19), 1 << 19, (plan.tokens, d)))

    return [share(), share(), None], [share(), share(), weights], weights


@pytest.mark.slow
@pytest.mark.parametrize("order", [REASSOCIATED, LITERAL])
def test_a_whole_layer_is_admitted_or_refused_at_once(order: str) -> None:
    """The ledger of a layer is what was admitted; a query that cannot be answered to its end gets no answer at all."""
    plan = LayerPlan(LAYER, 2, TINY, "relu", order)
    client, server, weights = layer_inputs(HeService(plan.plans), plan)
    experts = weights.experts
    whole = weights.router.epsilon + plan.rows * (experts.w1.epsilon + experts.w2.epsilon)
    sent: list[Message] = []
    session = Session([OtService(), HeService(plan.plans, 1.5 * whole)], on_send=sent.append)
    session.run(moe_layer, client, server, plan=plan)
    assert ledger(session) == pytest.approx(whole, rel=1e-9, abs=0)
    before = len(sent)
    with pytest.raises(EpsilonExhausted) as caught:
        session.run(moe_layer, client, server, plan=plan)
    assert caught.value.__notes__ == ["raised by server in scope 'r2/moe_layer'"]
    assert all(m.sender is CLIENT for m in sent[before:] if m.scope.startswith("r2/moe_layer"))
    assert ledger(session) == pytest.approx(whole, rel=1e-9, abs=0)


@pytest.mark.slow
def test_conformance_of_the_whole_layer() -> None:
    plan = LayerPlan(LAYER, 2, TINY, "relu")
    executions = []
    for service in (HeService(plan.plans, 1.0), IdealHeService(plan.plans)):
        client, server, _ = layer_inputs(service, plan)
        executions.append(Session([OtService(), service], seed=b"layer").run(moe_layer, client, server, plan=plan))
    real, ideal = executions
    assert headers(real.messages) == headers(ideal.messages)
    for role in Role:
        assert np.array_equal(to_words(real.outputs[role]), to_words(ideal.outputs[role]))
    boxes = {m.label for m in ideal.messages if isinstance(m.spec, BlobSpec) and m.spec.kind != "cot"}
    assert boxes and all((m.payload is None) == (m.label in boxes) for m in ideal.messages)
    same = [a.payload == b.payload for a, b in zip(real.messages, ideal.messages, strict=True) if b.payload is not None]
    assert all(same)  # everything outside the boxes is byte for byte the same


def test_the_box_shows_its_size_only() -> None:
    """What an observer of the wire is given of a sealed box: label and length, no bytes."""
    request = REQUESTS["linear, one token"]
    seen: list[Message] = []
    service = IdealHeService([request.plan])
    session = Session([service], on_send=seen.append)
    run_in(session, request, "ideal")
    assert [m.label.rpartition("/")[2] for m in seen] == ["keys", "ct", "ct"]
    assert all(m.payload is None and m.nbytes > 0 for m in seen)
