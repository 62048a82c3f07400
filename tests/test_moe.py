"""The sparse MoE layer over the ideal homomorphic engine: bit for bit the independent oracle, for every kind of shape,
tie and extreme; and its bytes at real size, which do not depend on the number of experts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols import functionalities as F
from protocols.catalog import CATALOG
from protocols.he.ideal import IdealHeService
from protocols.he.packing import LinearPlan
from protocols.he.params import INSECURE_TEST, PARAM_SETS
from protocols.he.reading import ReadPlan
from protocols.he.service import HeService
from protocols.layer_plan import LITERAL, ORDERS, REASSOCIATED, CompactPlan, LayerPlan, LayerWeights, UnknownOrder
from protocols.model.config import ACTIVATIONS, Activation, MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint
from protocols.model.oracle import LayerTrace, sparse_moe_layer
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, SILU_MINIMAX, Approximation, Table
from protocols.moe import moe_layer
from protocols.ot.service import OtService
from protocols.polynomial import FORMS
from protocols.select import select_then_compute
from secmoe.interval import one_ulp_bound
from sim.concrete import from_words, to_words
from sim.cost import Cost
from sim.message import Message
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import SHAPES, blank
from sim.world import Execution, Session
from tests.harness import TEST_BUDGET

Ints = NDArray[np.int64]
TINY, TINY32 = PARAM_SETS["P64tiny"], PARAM_SETS["P32tiny"]


@cache
def opened_session(plan: LayerPlan) -> tuple[Session, IdealHeService]:
    service = IdealHeService(plan.plans)
    return Session([OtService(), service]), service


@dataclass(frozen=True)
class Layer:
    """A plan with its inputs: signed integers at s fractional bits."""

    plan: LayerPlan
    x: Ints
    residual: Ints
    weights: MoeWeights

    @property
    def fp(self) -> FixedPoint:
        return FixedPoint(self.plan.params.ring_bits, self.plan.params.frac_bits)

    def trace(self) -> LayerTrace:
        """The independent oracle."""
        table = None if isinstance(self.plan.activation, str) else self.plan.activation
        return sparse_moe_layer(
            self._words(self.x), self._words(self.residual), self.weight_words(), self.plan.shape, self.fp, table
        )

    def weight_words(self) -> MoeWeights:
        w = self.weights
        v = None if w.v is None else self._words(w.v)
        return MoeWeights(self._words(w.router), self._words(w.w1), v, self._words(w.w2))

    def _words(self, v: Ints) -> NDArray[np.uint64]:
        return self.fp.wrap(np.ascontiguousarray(v, np.int64).view(np.uint64))

    def run(self) -> Execution:
        """On uniform shares, with real oblivious transfer and the ideal homomorphic engine."""
        session, service = opened_session(self.plan)
        weights = LayerWeights.prepare(service.prepare, self.plan, self.weights)
        return session.run(moe_layer, *self.sides(weights), plan=self.plan)

    def sides(self, weights: LayerWeights) -> tuple[list[Any], list[Any]]:
        """Both parties' inputs, on uniform shares."""
        rng, ring = np.random.default_rng(), self.plan.ring
        parts = []
        for value in (self.x, self.residual):
            mine = from_words(ring, rng.integers(0, ring.mask, value.shape, np.uint64, endpoint=True))
            parts.append((mine, from_words(ring, value) - mine))
        client, server = ([pair[i] for pair in parts] for i in (0, 1))
        return [*client, None], [*server, weights]

    def output(self) -> NDArray[np.uint64]:
        execution = self.run()
        return to_words(execution.outputs[CLIENT] + execution.outputs[SERVER])


def layer(
    shape: MoeConfig,
    tokens: int = 2,
    activation: Approximation | str = GELU_MINIMAX,
    seed: int = 0,
    params: Any = TINY,
    **plan: Any,
) -> Layer:
    """A layer with weights in [-1, 1] and states in [-4, 4], or less where the ring has no room for their products."""
    rng = np.random.default_rng(seed)
    one, d, f, E = 1 << params.frac_bits, shape.d, shape.f, shape.E

    def draw(limit: int, *size: int) -> Ints:
        return rng.integers(-limit * one, limit * one, size, endpoint=True)

    v = draw(1, E, f, d) if shape.gated else None
    weights = MoeWeights(draw(1, E, d), draw(1, E, f, d), v, draw(1, E, d, f))
    plan_ = LayerPlan(shape, tokens, params, activation, **plan)
    x, residual = draw(4, tokens, d), draw(4, tokens, d)
    while largest(x / one, weights, one) > 2.0 ** (params.ring_bits - 2 - 2 * params.frac_bits) * 0.99:
        x //= 2
    return Layer(plan_, x, residual, weights)


def largest(x: NDArray[np.float64], weights: MoeWeights, one: int) -> float:
    """What any expert's products of these states come to at most: they are floored, see `truncate_bounded`."""
    hidden = np.abs(x @ weights.w1.transpose(0, 2, 1) / one)
    gate = hidden if weights.v is None else np.abs(x @ weights.v.transpose(0, 2, 1) / one)
    gated = hidden if weights.v is None else hidden * gate
    y = gated @ np.abs(weights.w2 / one).transpose(0, 2, 1)
    return float(max(part.max() for part in (hidden, gate, gated, y)))


def check(case: Layer) -> LayerTrace:
    """Protocol, oracle and functionality agree bit for bit."""
    trace, w = case.trace(), case.weights
    experts = [m for m in (w.w1, w.v, w.w2) if m is not None]
    ideal = F.SPARSE_MOE.compute(case.x, case.residual, w.router, *experts, plan=case.plan)
    assert np.array_equal(case._words(ideal), trace.output)
    assert np.array_equal(case.output(), trace.output)
    return trace


TABLES: dict[str, Any] = {"gelu": st.sampled_from([GELU_MINIMAX, GELU_PUBLISHED]), "silu": st.just(SILU_MINIMAX)}


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    E = draw(st.integers(2, 16))
    k = draw(st.integers(1, 2))
    activation: Activation = draw(st.sampled_from(ACTIVATIONS))
    shape = MoeConfig(
        d=draw(st.integers(1, 5)),
        f=draw(st.integers(1, 6)),
        E=E,
        k=k,
        gated=draw(st.booleans()),
        activation=activation,
        renormalise=k > 1 and draw(st.booleans()),
    )
    table = "relu" if activation == "relu" else draw(TABLES[activation])
    return layer(
        shape,
        draw(st.integers(1, 3)),
        table,
        draw(st.integers(0, 2**32)),
        draw(st.sampled_from([TINY, TINY32])),
        order=draw(st.sampled_from(list(ORDERS))),
        form=draw(st.sampled_from(FORMS)),
        w=draw(st.integers(2, 5)),
    )


@pytest.mark.slow
@settings(max_examples=10)
@given(layers())
def test_any_layer_equals_the_oracle(case: Layer) -> None:
    check(case)


@pytest.mark.nightly  # more of the same
@settings(max_examples=40)
@given(layers())
def test_many_layers_equal_the_oracle(case: Layer) -> None:
    check(case)


SHAPES_: dict[str, tuple[MoeConfig, Table | str]] = {
    "gated GeLU, top-1": (MoeConfig(d=4, f=8, E=5), GELU_PUBLISHED),
    "ReLU, top-1": (MoeConfig(d=4, f=8, E=5, gated=False, activation="relu"), "relu"),
    "gated GeLU, top-2": (MoeConfig(d=4, f=8, E=6, k=2), GELU_MINIMAX),
    "ReLU, top-2 renormalised": (
        MoeConfig(d=3, f=5, E=7, k=2, gated=False, activation="relu", renormalise=True),
        "relu",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES_)
def test_ties_in_the_router_go_to_the_lower_index(name: str) -> None:
    """Equal router rows: every expert scores alike, for every token."""
    shape, activation = SHAPES_[name]
    case = layer(shape, 3, activation, 1)
    case.weights.router[:] = case.weights.router[0]
    assert (check(case).routes == np.arange(shape.k)).all()


@pytest.mark.slow
def test_a_tie_for_the_first_place_behind_a_lower_expert() -> None:
    """Experts 1 to E - 1 tie: expert 1 wins where expert 0 scores less, and comes second where it scores more."""
    shape, activation = SHAPES_["gated GeLU, top-2"]
    case = layer(shape, 2, activation, 1, order=LITERAL)
    case.weights.router[:] = 0
    case.weights.router[0] = 1 << 18
    case.x[0], case.x[1] = 1 << 18, -(1 << 18)
    assert check(case).routes.tolist() == [[0, 1], [1, 2]]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES_)
def test_equal_and_extreme_hidden_states(name: str) -> None:
    """States whose entries are all one value (zero, one ulp, the largest usual ones), and states as large as products
    below a quarter of the ring allow, with residuals at the edge of the ring: the sum with them may wrap."""
    shape, activation = SHAPES_[name]
    case = layer(shape, 10, activation, 2)
    most = 2**26 if shape.gated else 2**38
    equal = [0, 0, 1, -1, (4 << 18) - 1, -(4 << 18), most, -most, most - 1, 1 - most]
    case.x[:] = np.array(equal)[:, None]
    case.x[8:, ::2] *= -1
    case.residual[6:] = np.array([2**63 - 1, -(2**63), -1, 0])[:, None]
    assert (check(case).routes[:2] == np.arange(shape.k)).all()


@pytest.mark.slow
def test_every_expert_is_reached() -> None:
    """One token per expert, E not a power of two: token e points along router row e."""
    E = 11
    shape = MoeConfig(d=E, f=3, E=E)
    case = layer(shape, E, GELU_MINIMAX, 4)
    case.weights.router[:] = np.eye(E, dtype=np.int64) << 18
    case.x[:] = np.eye(E, dtype=np.int64) << 20
    assert check(case).routes[:, 0].tolist() == list(range(E))


@pytest.mark.parametrize(
    "E", [33, pytest.param(64, marks=pytest.mark.nightly), pytest.param(128, marks=pytest.mark.slow)]
)
def test_many_experts(E: int) -> None:
    check(layer(MoeConfig(d=2, f=2, E=E, k=2), 1, GELU_MINIMAX, E))


@pytest.mark.slow
def test_galois_layouts() -> None:
    """With expansion and packing, at different depths in the two directions: the selector is uploaded once all the
    same."""
    case = layer(MoeConfig(d=4, f=128, E=5), 1, GELU_MINIMAX, 5, INSECURE_TEST)
    up, down = case.plan.up, case.plan.down
    assert min(up.a, up.b, down.a, down.b) > 0
    assert up.b != down.b
    assert up.operand("t") == down.operand("t")
    check(case)


@pytest.mark.parametrize("k, tokens", [(1, 3), (2, 2)])
def test_the_combination_is_encrypted_where_that_sends_less(k: int, tokens: int) -> None:
    """Its responses are of the plan, of what is admitted, and of the price."""
    shape = MoeConfig(d=64, f=3, E=3, k=k, activation="relu", gated=False)
    case = layer(shape, tokens, "relu", 7, INSECURE_TEST)
    plan = case.plan
    assert plan.combining and plan.answers[-len(plan.combining) :] == plan.combining
    inputs = [blank(Spec(plan.ring, (tokens, 64)))] * 2
    session = Session([OtService(), IdealHeService(plan.plans)], backend=SHAPES)
    counted = session.price(moe_layer, [*inputs, None], [*inputs, None], plan=plan).cost
    assert counted.row() == moe_layer.declared(*inputs, None, plan=plan).row()
    execution = case.run()
    assert np.array_equal(to_words(execution.outputs[CLIENT] + execution.outputs[SERVER]), case.trace().output)
    sent = sorted(m.nbytes for m in execution.messages if "/h2a" in m.label)
    assert sent == sorted(rows * one.response_nbytes for one, rows in plan.answers)
    weights = LayerWeights.prepare(opened_session(plan)[1].prepare, plan, case.weights)
    assert sum(rows for _, rows in weights.responses(plan)) == sum(rows for _, rows in plan.answers)
    assert not layer(MoeConfig(d=4, f=3, E=3, k=k), tokens).plan.combining


@pytest.mark.slow
def test_an_encrypted_combination_on_real_cryptography() -> None:
    case = layer(MoeConfig(d=64, f=3, E=3, k=2, activation="relu", gated=False), 2, "relu", 8, INSECURE_TEST)
    assert case.plan.combining
    service = HeService(case.plan.plans, TEST_BUDGET)
    weights = LayerWeights.prepare(service.prepare, case.plan, case.weights)
    execution = Session([OtService(), service]).run(moe_layer, *case.sides(weights), plan=case.plan)
    assert np.array_equal(to_words(execution.outputs[CLIENT] + execution.outputs[SERVER]), case.trace().output)


@pytest.mark.slow
@settings(max_examples=2)
@given(layers())
def test_one_ulp_mode_stays_within_its_bound(case: Layer) -> None:
    shape, params = case.plan.shape, case.plan.params
    assume(shape.activation != "silu")
    plan = LayerPlan(shape, case.plan.tokens, params, case.plan.activation, case.plan.order, "one-ulp")
    rough = Layer(plan, case.x, case.residual, case.weights)
    table = plan.activation if isinstance(plan.activation, Table) else None
    bound = one_ulp_bound(case._words(case.x), case._words(case.residual), case.weight_words(), shape, case.fp, table)
    assert bound.admits(rough.output())


def test_a_row_of_the_catalog_has_compact_uploads() -> None:
    """Eight coefficients go up in place of a ciphertext, two tokens' selectors; the server expands all levels."""
    (case,) = (case for entry in CATALOG if entry.proto is moe_layer for case in entry.cases if "compact" in case.name)
    plan = case.public["plan"]
    selectors = plan.up.operand("t")
    assert plan.up.operand("t") == plan.down.operand("t") and selectors.levels == plan.params.n.bit_length() - 1
    assert selectors.nbytes == 32 + 8 * plan.params.q0_bits // 8
    ordinary = LayerPlan(plan.shape, plan.tokens, plan.params, plan.activation)
    assert ordinary.up.operand("t").nbytes == 32 + plan.params.n * plan.params.q0_bits // 8


def test_the_router_reads_the_upload_of_the_selection_where_that_sends_less() -> None:
    """One upload less; one of its own where many tokens leave room for shorter responses, or vectors interleave."""
    shape = MoeConfig(d=768, f=3072, E=128)
    for tokens, order in ((1, REASSOCIATED), (8, REASSOCIATED), (8, LITERAL)):
        plan = LayerPlan(shape, tokens, REAL, GELU_MINIMAX, order)
        assert plan.reads and plan.router.operand("x") == plan.up.operand("x")
        assert plan.router.response_nbytes == (16384 + tokens * 128) * 76 // 8
    assert not CompactPlan(shape, 8, REAL, GELU_MINIMAX).reads and CompactPlan(shape, 1, REAL, GELU_MINIMAX).reads
    small = [LayerPlan(MoeConfig(d=32, f=64, E=8), tokens, TINY, GELU_MINIMAX) for tokens in (1, 8)]
    assert [plan.reads for plan in small] == [True, False]
    for plan in small:
        assert plan.router.nbytes == min(
            LinearPlan.fewest_bytes(TINY, plan.tokens, 32, 8).nbytes, ReadPlan.of(plan.up, 8).response_nbytes
        )


@pytest.mark.parametrize("tokens", [1, 8])
def test_a_layer_is_the_oracles_whether_its_router_reads_or_not(tokens: int) -> None:
    case = layer(MoeConfig(d=32, f=64, E=8, activation="relu", gated=False), tokens, "relu", tokens)
    assert case.plan.reads == (tokens == 1)
    assert sum("a2h" in message.label for message in case.run().messages) == (3 if tokens == 1 else 4)
    check(case)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(UnknownOrder, match="expected one of reassociated, literal, got 'fast'"):
        LayerPlan(MoeConfig(d=2, f=2, E=2), 1, TINY, "relu", "fast")


def headers(messages: tuple[Message, ...]) -> list[Any]:
    return [(m.depth, m.sender, m.label.partition("/")[2], m.spec) for m in messages]


@pytest.mark.slow
def test_traffic_does_not_depend_on_the_route() -> None:
    """Same shape, tokens forced to different experts, ties included: same labels, sizes, order and depths."""
    shape = MoeConfig(d=5, f=3, E=5, k=2)
    seen = []
    for expert in (0, 3):
        case = layer(shape, 1, GELU_MINIMAX, 6)
        case.weights.router[:] = np.eye(5, dtype=np.int64) << 18
        case.x[:] = np.eye(5, dtype=np.int64)[expert] << 20
        seen.append(headers(case.run().messages))
    case.weights.router[:] = 0
    seen.append(headers(case.run().messages))  # every expert ties
    assert all(other == seen[0] for other in seen[1:])


# -- bytes at real size, from the shapes interpretation --------------------------------------------------------

REAL = PARAM_SETS["P64s"]


def priced(
    E: int, order: str, tokens: int, activation: Table | str = GELU_MINIMAX, gated: bool = True, run: bool = True
) -> Cost:
    """Steps 4 to 9 at d = 768, f = 3072: the closed form, held against a run without content when `run`."""
    shape = MoeConfig(d=768, f=3072, E=E, gated=gated, activation="gelu" if gated else "relu")
    plan = LayerPlan(shape, tokens, REAL, activation, order)
    t, x = blank(Spec(Ring(64), (tokens, 1, E))), blank(Spec(Ring(64), (tokens, 768)))
    public = {
        "up": plan.up,
        "down": plan.down,
        "activation": activation,
        "arithmetic": plan.arithmetic,
    }
    declared = select_then_compute.declared(t, x, None, **public)
    if run:
        session = Session([OtService(), IdealHeService(plan.plans)], backend=SHAPES)
        counted = session.price(select_then_compute, [t, x, None], [t, x, None], **public).cost
        assert counted.row() == declared.row()
    return declared


SOME = (2, 3, 8, 33, 128)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_bytes_at_real_size_do_not_depend_on_the_number_of_experts(order: str) -> None:
    """Every E from 2 to 128 by the closed form, some of them by a run."""
    assert len({priced(E, order, 1, run=E in SOME).row() for E in range(2, 129)}) == 1


@pytest.mark.nightly  # what the test before does of some numbers and for both orders
def test_the_closed_form_holds_for_every_number_of_experts() -> None:
    assert len({priced(E, REASSOCIATED, 1).row() for E in range(2, 129)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_bytes_of_several_tokens(order: str) -> None:
    """n tokens: less than n times the bytes of one, by the uploads of selectors and the second components of responses
    that tokens share; flat in E, in the same rounds."""
    one, upload = priced(2, order, 1), 30_752
    for tokens in (2, 5):
        several = [priced(E, order, tokens) for E in (2, 3, 8, 32, 64, 65, 100, 128)]
        assert len({cost.row() for cost in several}) == 1
        saved = (tokens - 1) * upload if order == REASSOCIATED else 0
        for held, alone in ((6144, 214_016), (768, 162_944)):
            groups = [min(2, tokens - low) for low in range(0, tokens, 2)] if held == 6144 else [tokens]
            saved += tokens * alone - sum((16384 + size * held) * 76 // 8 for size in groups)
        assert abs(several[0].nbytes - tokens * one.nbytes + saved) < several[0].messages * tokens
        assert several[0].rounds == one.rounds


def test_the_non_gated_relu_layer_is_flat_as_well() -> None:
    for order in ORDERS:
        assert len({priced(E, order, 1, "relu", False).row() for E in (2, 3, 8, 32, 64, 65, 128)}) == 1


def test_the_orders_differ_in_the_upload_of_the_selectors_alone() -> None:
    ours, literal = (priced(8, order, 1) for order in (REASSOCIATED, LITERAL))
    assert literal.nbytes - ours.nbytes == 491_552 - 30_752
    assert (literal.messages, literal.rounds) == (ours.messages, ours.rounds)
