"""The catalog: every protocol with its functionality, example cases and honest status.

One row gives tests (property, cost, isolation), a price, and a line of `secmoe catalog`. A case says which secrets go
in and with which public parameters; `Secret.owner` None means shared between the parties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protocols import functionalities as F
from protocols.baselines.plaintext_routing import RoutedPlan, RoutedWeights, plaintext_routing
from protocols.boolean import conjoin
from protocols.compare import drelu, greater_than, less_than
from protocols.convert import b2a, mux, mux_public
from protocols.he.interface import Plan, a2h, h2a
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import PARAM_SETS
from protocols.linear import linear
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED
from protocols.moe import LITERAL, REASSOCIATED, LayerPlan, LayerWeights, moe_layer
from protocols.nonlinear import exp, reciprocal, relu
from protocols.ot.base import base_cost, base_ot
from protocols.ot.chosen import bit_triples, choose, correlate, correlate_wide
from protocols.ot.ragged import correlate_ragged
from protocols.ot.service import extend, extend_cost, set_up
from protocols.ot.softspoken import BASE_OTS
from protocols.polynomial import piecewise
from protocols.products import cross, mul, square
from protocols.routing import one_hot, probabilities, top_k
from protocols.select import ExpertWeights, select_product, select_then_compute
from protocols.sharing import reveal
from protocols.truncate import ONE_ULP, truncate, truncate_known_sign
from sim.cost import FREE, Cost
from sim.functionality import Functionality
from sim.party import ProtocolDecl
from sim.ring import Z2, Ring, Shape, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank

R64 = Ring(64)
PROVED = "PROVED"  # correct, and private against both parties, in the hybrid model: the ledger of proofs decides
DECLARED = "DECLARED"  # correct, and opens what it says it opens
BOUNDED = "BOUNDED"
ASSUMED = "ASSUMED"


@dataclass(frozen=True)
class Secret:
    """One secret argument. low, high: inclusive signed range of its values (None: the whole ring).

    weight: a matrix of the server's; all weights of a case together make ONE prepared argument.
    """

    ring: Ring
    shape: Shape
    owner: Role | None = None
    low: int | None = None
    high: int | None = None
    weight: bool = False

    @property
    def spec(self) -> Spec:
        return Spec(self.ring, self.shape)

    @property
    def range(self) -> tuple[int, int]:
        """Inclusive bounds of the signed representative (Z_2: 0 and 1)."""
        if self.ring.l == 1:
            return 0, 1
        half = 1 << (self.ring.l - 1)
        return (-half if self.low is None else self.low), (half - 1 if self.high is None else self.high)


Values = Sequence[NDArray[np.int64]]
Adjust = Callable[[Values], Values]  # makes drawn values satisfy a precondition that binds several of them
Arrange = Callable[[list[Any]], list[Any]]  # one party's arguments, one per secret -> the protocol's positional ones
Prepare = Callable[
    [Callable[[Any, Any], Any], Values], Any
]  # the engine's prepare, the weights -> the server's argument


@dataclass(frozen=True)
class Case:
    """An example call: secrets in argument order, public keyword arguments (and leading positional ones).

    plans: what the session's homomorphic layer must serve (none: no such layer). prepare: makes the weights' argument.
    """

    name: str
    secrets: tuple[Secret, ...]
    public: dict[str, Any] = field(default_factory=dict)
    leading: tuple[Any, ...] = ()
    adjust: Adjust | None = None
    plans: tuple[Plan, ...] = ()
    prepare: Prepare | None = None
    arrange: Arrange | None = None


@dataclass(frozen=True)
class Entry:
    """A catalog row. `opened`: outputs are the value itself at both parties, not shares of it.

    `difference`: the outputs are r at `case.leading[0]`'s peer and r + value at that role (correlated OT).
    `relation`: what holds between the outputs where they are random (triples). `price`: of rows without cases, which
    are exercised by their own tests: steps whose output is a ciphertext or a key, and the set-up of a session.
    """

    proto: ProtocolDecl[Any]
    cases: tuple[Case, ...]
    status: str = PROVED
    opened: bool = False
    difference: bool = False
    relation: Callable[[Values], bool] | None = None
    price: Cost | None = None
    functionality: Functionality | None = None
    share_level: bool = False

    @property
    def name(self) -> str:
        return self.proto.name

    @property
    def has_theorem(self) -> bool:
        """Whether the row is above the OT and HE interfaces."""
        return bool(self.cases) and self.status in (PROVED, DECLARED)

    @property
    def realises(self) -> Functionality:
        return self.functionality or self.proto.realises

    def example(self) -> tuple[str, Cost]:
        """The row's first case with its declared cost; of a row without cases, its price."""
        if self.cases:
            return self.cases[0].name, declared_cost(self, self.cases[0])
        return "one call", self.price or FREE


def _word(*shape: int, ring: Ring = R64, low: int | None = None, high: int | None = None) -> Secret:
    return Secret(ring, shape, None, low, high)


def _bit(*shape: int) -> Secret:
    return Secret(Z2, shape)


def _owned(owner: Role, ring: Ring, *shape: int) -> Secret:
    return Secret(ring, shape, owner)


R8, R32 = Ring(8), Ring(32)
EXP64 = {"s": 18, "l": 64}
EXP32 = {"s": 12, "l": 32}
GELU_RANGE = (1 << 31) - 1


def _winners(values: Values) -> Values:
    """The second secret becomes the k largest of the first."""
    logits, k = values[0], values[1].shape[1]
    return logits, -np.sort(-logits, axis=1)[:, :k]


SHARES: tuple[Entry, ...] = (
    Entry(reveal, (Case("word", (_word(3),)), Case("7-bit", (_word(3, ring=Ring(7)),))), DECLARED, opened=True),
    Entry(conjoin, (Case("two groups", (_bit(4), _bit(4, 2), _bit(3), _bit(3, 1))),)),
    Entry(b2a, (Case("64", (_bit(5),), {"ring": R64}), Case("2", (_bit(5),), {"ring": Ring(2)}))),
    Entry(mux, (Case("64", (_bit(4), _word(4))), Case("8", (_bit(4), _word(4, ring=R8))))),
    Entry(mux_public, (Case("two", (_bit(4),), {"constants": (5, -(1 << 40)), "ring": R64}),)),
    Entry(
        less_than,
        tuple(
            Case(
                f"{bits} bits, w = {w}{', equal' if eq else ''}",
                (_owned(CLIENT, Ring(bits), 3), _owned(SERVER, Ring(bits), 2, 3)),
                {"shape": (3,), "bits": bits, "fold": 2, "w": w, "need_equal": eq},
            )
            for bits, w, eq in ((63, 4, False), (18, 3, False), (46, 4, True), (8, 2, False), (1, 4, False))
        ),
    ),
    Entry(drelu, (Case("64", (_word(4),)), Case("64, w = 2", (_word(4),), {"w": 2}), Case("8", (_word(4, ring=R8),)))),
    Entry(
        greater_than,
        (
            Case(
                "5 thresholds", (_word(3, low=-(1 << 62), high=(1 << 62) - 1),), {"thresholds": (-5, -3, 0, 1, 1 << 40)}
            ),
        ),
    ),
    Entry(
        truncate,
        (
            Case("64 by 18", (_word(4),), {"f": 18}),
            Case("32 by 12", (_word(4, ring=R32),), {"f": 12}),
            Case("8 by 3", (_word(4, ring=R8),), {"f": 3, "w": 2}),
        ),
    ),
    Entry(
        truncate,
        (Case("one-ulp, 64 by 18", (_word(4),), {"f": 18, "mode": ONE_ULP}),),
        functionality=F.FLOOR_SHIFT_ONE_ULP,
        share_level=True,
    ),
    Entry(
        truncate_known_sign,
        (
            Case("64 by 24", (_word(4, low=0),), {"f": 24}),
            Case("64 by 24, negative", (_word(4, high=-1),), {"f": 24, "negative": True}),
            Case("8 by 3", (_word(4, ring=R8, low=0),), {"f": 3}),
        ),
    ),
    Entry(
        cross,
        (
            Case(
                "64",
                (_owned(CLIENT, R64, 3), _owned(SERVER, R64, 3)),
                {"receiver": CLIENT, "spec": Spec(R64, (3,))},
            ),
        ),
    ),
    Entry(mul, (Case("64", (_word(3), _word(3))), Case("8", (_word(3, ring=R8), _word(3, ring=R8))))),
    Entry(square, (Case("64", (_word(3),)), Case("8", (_word(3, ring=R8),)))),
    Entry(relu, (Case("64", (_word(4),)), Case("8", (_word(4, ring=R8),)))),
    Entry(
        exp,
        (
            Case("64", (_word(3, low=-(1 << 61), high=0),), EXP64),
            Case("32", (_word(3, ring=R32, low=-(1 << 29), high=0),), EXP32),
        ),
    ),
    Entry(
        reciprocal,
        (
            Case("64, to 8", (_word(3, low=1 << 24, high=8 << 24),), {"scale": 24, "spread": 3}),
            Case("32, to 128", (_word(3, ring=R32, low=1 << 14, high=128 << 14),), {"scale": 14, "spread": 7}),
        ),
    ),
    Entry(
        piecewise,
        tuple(
            Case(
                f"{table.name}, {form}",
                (_word(3, low=-GELU_RANGE, high=GELU_RANGE),),
                {"table": table, "s": 18, "form": form},
            )
            for table in (GELU_PUBLISHED, GELU_MINIMAX)
            for form in ("cheapest", "mux")
        ),
    ),
    Entry(
        top_k,
        tuple(
            Case(f"E = {E}, k = {k}", (_word(2, E, low=-(1 << 61), high=(1 << 61) - 1),), {"k": k, "l": 64})
            for E, k in ((2, 1), (5, 2), (8, 1), (13, 1))
        ),
    ),
    Entry(one_hot, (Case("E = 6", (_bit(3, 3),), {"E": 6}), Case("E = 2", (_bit(3, 1),), {"E": 2}))),
    Entry(
        probabilities,
        tuple(
            Case(
                f"E = {E}, k = {k}{', renormalised' if renorm else ''}",
                (_word(2, E, low=-(1 << 40), high=0), _word(2, k, low=0, high=1 << 40)),
                {**EXP64, "renormalise": renorm},
                adjust=_winners,
            )
            for E, k, renorm in ((5, 1, False), (4, 2, False), (4, 2, True))
        ),
    ),
)


def _deltas_as_one(arguments: list[Any]) -> list[Any]:
    bits, *deltas = arguments
    return [bits, None if deltas[0] is None else tuple(deltas)]


def _is_triple(outputs: Values) -> bool:
    a, b, c = outputs
    return np.array_equal(a[..., None] & b, c)


OBLIVIOUS_TRANSFER: tuple[Entry, ...] = (
    Entry(
        choose,
        tuple(
            Case(
                f"1 of {1 << w}, {width} bits",
                (_owned(r, Ring(w), 3), _owned(r.peer, Z2, 3, 1 << w, width)),
                {"shape": (3,), "n_choices": 1 << w, "width": width},
                (r,),
            )
            for r, w, width in ((CLIENT, 4, 2), (SERVER, 1, 1), (CLIENT, 4, 10))
        ),
        status=ASSUMED,
        functionality=F.LOOK_UP,
    ),
    Entry(
        correlate,
        tuple(
            Case(f"{ring.l} bits", (_owned(r, Z2, 4), _owned(r.peer, ring, 4)), {"shape": (4,), "ring": ring}, (r,))
            for r, ring in ((CLIENT, R64), (SERVER, Ring(19)), (CLIENT, Z2))
        ),
        status=ASSUMED,
        difference=True,
        functionality=F.MULTIPLEXER,
    ),
    Entry(
        correlate_wide,
        (
            Case(
                "64 and 7 bits",
                (_owned(CLIENT, Z2, 4), _owned(SERVER, R64, 4), _owned(SERVER, Ring(7), 4)),
                {"shape": (4,), "rings": (R64, Ring(7))},
                (CLIENT,),
                arrange=_deltas_as_one,
            ),
        ),
        status=ASSUMED,
        difference=True,
        functionality=F.SHARED_BIT_PRODUCTS,
    ),
    Entry(
        correlate_ragged,
        (
            Case(
                "8, 7 and 6 bits",
                (_owned(SERVER, Z2, 3, 4), *(_owned(CLIENT, Ring(l), 4) for l in (8, 7, 6))),
                {"shape": (4,), "rings": (R8, Ring(7), Ring(6))},
                (SERVER,),
                arrange=_deltas_as_one,
            ),
        ),
        status=ASSUMED,
        difference=True,
        functionality=F.BIT_PRODUCTS,
    ),
    Entry(
        bit_triples,
        (Case("left with 2", (), {"shape": (5,), "right": 2}),),
        status=ASSUMED,
        relation=_is_triple,
    ),
)


def _matrix(*shape: int, bound: int = 1 << 20) -> Secret:
    return Secret(R64, shape, SERVER, -bound, bound, weight=True)


def _state(*shape: int) -> Secret:
    return _word(*shape, low=-(1 << 20), high=1 << 20)


def _only(plan: Plan) -> Prepare:
    return lambda prepare, weights: prepare(plan, weights[0])


def _product_case(order: Literal["R", "L"]) -> Case:
    plan = SelectPlan(TINY, order, 3, 4, 8)
    secrets = (_word(2, 3), _word(2, 4), _matrix(3, 8, 4))
    return Case(f"order {order}", secrets, {"plan": plan}, plans=(plan,), prepare=_only(plan))


def _layer_plan(k: int, gated: bool, order: str) -> LayerPlan:
    shape = MoeConfig(
        d=4, f=8, E=3, k=k, gated=gated, activation="gelu" if gated else "relu", renormalise=k > 1 and not gated
    )
    return LayerPlan(shape, 2, TINY, GELU_MINIMAX if gated else "relu", order)


def _expert_secrets(gated: bool) -> tuple[Secret, ...]:
    up, down = _matrix(3, 8, 4), _matrix(3, 4, 8)
    return (up, up, down) if gated else (up, down)


def _expert_weights(plan: LayerPlan) -> Prepare:
    def build(prepare: Callable[[Any, Any], Any], weights: Values) -> ExpertWeights:
        w1, *gate, w2 = weights
        v = prepare(plan.up, gate[0]) if gate else None
        return ExpertWeights(prepare(plan.up, w1), v, prepare(plan.down, w2))

    return build


def _layer_weights(plan: LayerPlan) -> Prepare:
    def build(prepare: Callable[[Any, Any], Any], weights: Values) -> LayerWeights:
        return LayerWeights(prepare(plan.router, weights[0]), _expert_weights(plan)(prepare, weights[1:]))

    return build


def _one_hot_rows(values: Values) -> Values:
    """The first secret becomes one-hot rows."""
    t = values[0]
    hot = (np.arange(t.shape[-1]) == (t.sum(-1) % t.shape[-1])[..., None]).astype(np.int64)
    return [hot, *values[1:]]


def _expert_case(name: str, k: int, gated: bool, order: str) -> Case:
    plan = _layer_plan(k, gated, order)
    public = {
        "up": plan.up,
        "down": plan.down,
        "activation": plan.activation,
        "gated": gated,
        "arithmetic": plan.arithmetic,
    }
    secrets = (_word(2, k, 3, low=0, high=1 << 20), _state(2, 4), *_expert_secrets(gated))
    return Case(name, secrets, public, (), _one_hot_rows, (plan.up, plan.down), _expert_weights(plan))


def _layer_case(name: str, k: int, gated: bool, order: str) -> Case:
    plan = _layer_plan(k, gated, order)
    secrets = (_state(2, 4), _state(2, 4), _matrix(3, 4), *_expert_secrets(gated))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=_layer_weights(plan))


TINY = PARAM_SETS["P64tiny"]
LINEAR_PLAN = LinearPlan(TINY, 3, 8, 5)
HOMOMORPHIC: tuple[Entry, ...] = (
    Entry(
        linear,
        (
            Case(
                "8 to 5",
                (_word(3, 8), _matrix(5, 8)),
                {"plan": LINEAR_PLAN},
                plans=(LINEAR_PLAN,),
                prepare=_only(LINEAR_PLAN),
            ),
        ),
    ),
    Entry(select_product, (_product_case("R"), _product_case("L"))),
    Entry(
        select_then_compute,
        (
            _expert_case("gated GeLU, top-1", 1, True, REASSOCIATED),
            _expert_case("ReLU, top-2, literal", 2, False, LITERAL),
        ),
    ),
    Entry(
        moe_layer,
        (
            _layer_case("gated GeLU, top-1", 1, True, REASSOCIATED),
            _layer_case("ReLU, top-2 renormalised, literal", 2, False, LITERAL),
        ),
    ),
)


def _routed_case(name: str, k: int, gated: bool) -> Case:
    like = _layer_plan(k, gated, REASSOCIATED)
    plan = RoutedPlan(like.shape, like.tokens, like.params, like.activation)

    def build(prepare: Callable[[Any, Any], Any], weights: Values) -> RoutedWeights:
        router, w1, *gate, w2 = weights
        return RoutedWeights.prepare(prepare, plan, MoeWeights(router, w1, gate[0] if gate else None, w2))

    secrets = (_state(2, 4), _state(2, 4), _matrix(3, 4), *_expert_secrets(gated))
    return Case(name, secrets, {"plan": plan}, plans=plan.plans, prepare=build)


BASELINES: tuple[Entry, ...] = (
    Entry(
        plaintext_routing,
        (_routed_case("gated GeLU, top-1", 1, True), _routed_case("ReLU, top-2 renormalised", 2, False)),
        DECLARED,
    ),
)
INTERFACES: tuple[Entry, ...] = (
    Entry(base_ot, (), ASSUMED, price=base_cost(CLIENT, n=BASE_OTS)),
    Entry(set_up, (), ASSUMED, price=set_up.declared(CLIENT, None)),
    Entry(extend, (), ASSUMED, price=extend_cost(CLIENT, n=1 << 10)),
    Entry(a2h, (), ASSUMED, price=a2h.declared(blank(Spec(R64, (1, 3, 8))), layout=LINEAR_PLAN.operand("x"))),
    Entry(h2a, (), BOUNDED, price=h2a.declared(None, plan=LINEAR_PLAN, count=1)),
)
CATALOG: tuple[Entry, ...] = SHARES + OBLIVIOUS_TRANSFER + HOMOMORPHIC + BASELINES + INTERFACES


def declared_cost(entry: Entry, case: Case) -> Cost:
    """The closed form of a case, from shapes alone."""
    arguments: list[Any] = [blank(s.spec) for s in case.secrets if not s.weight]
    arguments = case.arrange(arguments) if case.arrange else arguments
    arguments += [None] if case.prepare else []
    return entry.proto.declared(*case.leading, *arguments, **case.public)
