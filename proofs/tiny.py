"""Which rows of the catalog the exact oracle enumerates, on which instances, and which it does not and why."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from protocols.boolean import conjoin
from protocols.broken.homomorphic import sealed_params
from protocols.compare import drelu, greater_than, less_than
from protocols.convert import b2a, mux, mux_public, mux_rows
from protocols.crossing import CrossingPlan, crossing
from protocols.entry import Case, Entry, Secret
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.linear import linear
from protocols.locate import locate
from protocols.look_up import bits_at, table_at
from protocols.matmul import cross_matmul, matmul
from protocols.nonlinear import relu
from protocols.ot.chosen import bit_triples, choose, correlate, correlate_wide
from protocols.ot.ragged import correlate_ragged
from protocols.products import cross, mul, square
from protocols.routing import one_hot, top_k
from protocols.row_products import RowPlan, row_squares
from protocols.select import select_product
from protocols.sharing import reveal
from protocols.softmax import argmax, maximum
from protocols.truncate import ONE_ULP, truncate, truncate_bounded, truncate_known_sign
from sim.ring import Z2, Ring, Spec
from sim.role import CLIENT, SERVER, Role

R2, R3 = Ring(2), Ring(3)


def _word(ring: Ring, *shape: int, owner: Role | None = None) -> Secret:
    return Secret(ring, shape or (1,), owner)


def _bit(*shape: int, owner: Role | None = None) -> Secret:
    return Secret(Z2, shape or (1,), owner)


def _case(name: str, *secrets: Secret, leading: tuple[Any, ...] = (), **public: Any) -> Case:
    return Case(name, secrets, public, leading)


def _together(arguments: list[Any]) -> list[Any]:
    bits, *deltas = arguments
    return [bits, None if deltas[0] is None else tuple(deltas)]


def _products(*, ragged: bool, receiver: Role) -> Case:
    peer = receiver.peer
    bits = _bit(2, 1, owner=receiver) if ragged else _bit(owner=receiver)
    secrets = (bits, _word(R3, owner=peer), _word(R2, owner=peer))
    return Case("3 and 2 bits", secrets, {"shape": (1,), "rings": (R3, R2)}, (receiver,), arrange=_together)


def _rows(receiver: Role) -> Case:
    secrets = (_bit(1, 1, owner=receiver), _word(R2, 1, 2, owner=receiver.peer))
    public = {"shape": (1,), "rings": (R2,), "row": (2,)}
    return Case("2 bits, rows of 2", secrets, public, (receiver,), arrange=_together)


def _cross(ring: Ring, receiver: Role) -> Case:
    public = {"receiver": receiver, "spec": Spec(ring, (1,))}
    owners = (receiver, receiver.peer)
    return Case(f"{ring.l} bits to {receiver.value}", tuple(_word(ring, owner=o) for o in owners), public)


def _crossed(receiver: Role) -> Case:
    left, right = Spec(R2, (1, 1)), Spec(R2, (1, 2))
    secrets = (_word(R2, *left.shape, owner=receiver), _word(R2, *right.shape, owner=receiver.peer))
    return Case(f"2 bits to {receiver.value}", secrets, {"receiver": receiver, "left": left, "right": right})


def _less(bits: int, w: int, fold: int = 1, equal: bool = False) -> Case:
    secrets = (_word(Ring(bits), owner=CLIENT), _word(Ring(bits), fold, 1, owner=SERVER))
    public = {"shape": (1,), "bits": bits, "fold": fold, "w": w, "need_equal": equal}
    return Case(f"{bits} bits, w = {w}, {fold} at once{', equal' if equal else ''}", secrets, public)


def _homomorphic(plan: LinearPlan | SelectPlan, *secrets: Secret) -> Case:
    return Case(
        f"{plan.params.ring_bits} bits",
        secrets,
        {"plan": plan},
        plans=(plan,),
        prepare=lambda prepare, weights: prepare(plan, weights[0]),
    )


def _crossing(plan: CrossingPlan) -> Case:
    return Case("2 bits", (_word(R2, 1, 1, 1), _word(R2, 1, 1, 1)), {"plan": plan}, plans=plan.plans)


def _squares(plan: RowPlan) -> Case:
    return Case("2 bits", (_word(R2, 1, 1),), {"plan": plan}, plans=plan.plans)


def _weight(*shape: int) -> Secret:
    return Secret(R2, shape, SERVER, weight=True)


_PARAMS = sealed_params(2)
_RINGS = (R2, R3)

ENUMERATED: tuple[Entry, ...] = (
    Entry(reveal, tuple(_case(f"{r.l} bits", _word(r)) for r in _RINGS), opened=True),
    Entry(conjoin, (_case("one group", _bit(), _bit(1, 1)), _case("two rights", _bit(), _bit(1, 2)))),
    Entry(b2a, tuple(_case(f"{r.l} bits", _bit(2), ring=r, receiver=o) for r in _RINGS for o in Role)),
    Entry(mux, tuple(_case(f"{r.l} bits", _bit(), _word(r)) for r in _RINGS)),
    Entry(mux_rows, tuple(_case(f"{r.l} bits", _bit(), _word(r, 1, 2)) for r in (R2,))),
    Entry(mux_public, tuple(_case(f"{r.l} bits", _bit(), ring=r, constants=(1, 3)) for r in _RINGS)),
    Entry(less_than, (_less(1, 1), _less(2, 1), _less(2, 2, 2), _less(2, 2, 1, True), _less(3, 1), _less(3, 2))),
    Entry(drelu, tuple(_case(f"{r.l} bits, w = {w}", _word(r), w=w) for r in _RINGS for w in (1, 4))),
    Entry(greater_than, (_case("3 bits", _word(R3), thresholds=(-1, 0)),)),
    Entry(locate, tuple(_case(f"3 bits, among {t}", _word(R3), thresholds=t, w=1) for t in ((0,), (-1, 1)))),
    Entry(
        truncate,
        (
            _case("3 bits by 1", _word(R3), f=1, w=2),
            _case("3 bits by 1 into 2", _word(R3), f=1, w=2, into=R2),
            _case("one-ulp, 3 bits by 1", _word(R3), f=1, w=2, mode=ONE_ULP),
        ),
    ),
    Entry(
        truncate_known_sign,
        (
            _case("3 bits by 1", _word(R3), f=1),
            _case("3 bits by 1, negative", _word(R3), f=1, negative=True),
            _case("one-ulp, 3 bits by 1", _word(R3), f=1, mode=ONE_ULP),
        ),
    ),
    Entry(
        truncate_bounded,
        (
            _case("3 bits by 1", _word(R3), f=1),
            _case("3 bits by 1 into 2", _word(R3), f=1, into=R2),
            _case("one-ulp, 3 bits by 1", _word(R3), f=1, mode=ONE_ULP),
        ),
    ),
    Entry(cross, tuple(_cross(r, o) for r in _RINGS for o in Role)),
    Entry(mul, (_case("2 bits", _word(R2), _word(R2)),)),
    Entry(cross_matmul, tuple(_crossed(o) for o in Role)),
    Entry(matmul, (_case("2 bits, bits of x", _word(R2, 1, 1), _word(R2, 1, 1)),)),
    Entry(square, tuple(_case(f"{r.l} bits", _word(r)) for r in _RINGS)),
    Entry(relu, tuple(_case(f"{r.l} bits", _word(r), w=2) for r in _RINGS)),
    Entry(top_k, (_case("E = 2, k = 1", _word(R2, 1, 2), k=1, l=2),)),
    *(Entry(meet, (_case("2 of 2 bits", _word(R2, 1, 2)),)) for meet in (maximum, argmax)),
    Entry(one_hot, (_case("E = 2", _bit(1, 1), E=2), _case("E = 3", _bit(1, 2), E=3), _case("E = 4", _bit(1, 2), E=4))),
    Entry(
        choose,
        tuple(
            _case(
                f"1 of {1 << w} to {o.value}",
                _word(Ring(w), owner=o),
                _bit(1, 1 << w, 2, owner=o.peer),
                leading=(o,),
                shape=(1,),
                n_choices=1 << w,
                width=2,
            )
            for w in (1, 2)
            for o in Role
        ),
    ),
    Entry(
        correlate,
        tuple(
            _case(f"{r.l} bits to {o.value}", _bit(owner=o), _word(r, owner=o.peer), leading=(o,), shape=(1,), ring=r)
            for r in (Z2, *_RINGS)
            for o in Role
        ),
    ),
    Entry(correlate_wide, tuple(_products(ragged=False, receiver=o) for o in Role)),
    Entry(correlate_ragged, (*(_products(ragged=True, receiver=o) for o in Role), _rows(SERVER))),
    Entry(bit_triples, (_case("left with 2", shape=(1,), right=2),)),
    Entry(bits_at, (_case("2 from bit 1, 3 bits", _word(R3), f=1, ring=R2),)),
    Entry(table_at, (_case("2 entries", _bit(), entries=(1, 2), ring=R2),)),
    Entry(linear, (_homomorphic(LinearPlan(_PARAMS, 1, 1, 2), _word(R2, 1, 1), _weight(2, 1)),)),
    Entry(crossing, (_crossing(CrossingPlan(_PARAMS, 1, 1, 1, 1)),)),
    Entry(row_squares, (_squares(RowPlan(_PARAMS, 1, 1)),)),
    Entry(
        select_product,
        tuple(
            _homomorphic(SelectPlan(_PARAMS, order, 2, 1, 1), _word(R2, 1, 2), _word(R2, 1, 1), _weight(2, 1, 1))
            for order in ("R", "L")
        ),
    ),
)

# Enumerated with their callees replaced by functionalities (`proofs.composed`), beyond the instances above.
COMPOSED: tuple[Entry, ...] = (
    Entry(mul, (_case("3 bits", _word(R3), _word(R3)),)),
    Entry(relu, tuple(_case(f"{r.l} bits", _word(r)) for r in _RINGS)),
    Entry(
        top_k,
        (
            _case("E = 2, k = 1, 3 bits", _word(R3, 1, 2), k=1, l=3),
            _case("E = 3, k = 1, 2 bits", _word(R2, 1, 3), k=1, l=2),
        ),
    ),
)

_CALLEES = (
    "its bits of randomness exceed the limit, and its arithmetic has no instance of 2 or 3 bits; the protocols it "
    "calls are enumerated, or called by rows that say the same"
)
NOT_ENUMERATED = MappingProxyType(
    {
        "exp": _CALLEES,
        "reciprocal": _CALLEES,
        "rsqrt": _CALLEES,
        "softmax": _CALLEES,
        "layer_norm": _CALLEES,
        "rms_norm": _CALLEES,
        "reveal_to": "one of the two messages of reveal, which is enumerated",
        "piecewise": _CALLEES,
        "probabilities": _CALLEES,
        "select_then_compute": _CALLEES,
        "moe_layer": _CALLEES,
        "embed": "a linear layer of owned words; linear is enumerated",
        "attention": _CALLEES,
        "cross_attention": _CALLEES,
        "block": _CALLEES,
        "decoder_block": _CALLEES,
        "next_token": _CALLEES,
        "encoder": _CALLEES,
        "plaintext_routing": _CALLEES,
        "rectify": "its smallest instance, 3 bits, exceeds the limit; the protocols it calls are enumerated",
        "look_up": _CALLEES,
        "feed_forward": _CALLEES,
        "evaluate_all": _CALLEES,
        "evaluate_concatenated": _CALLEES,
        "scatter": _CALLEES,
        "cryptomoe": _CALLEES,
        "base_ot": "below the interface of oblivious transfer",
        "set_up": "below the interface of oblivious transfer",
        "extend": "below the interface of oblivious transfer",
        "a2h": "its message is a ciphertext, without content at the server; enumerated inside linear",
        "h2a": "enumerated inside linear and select_product",
    }
)
