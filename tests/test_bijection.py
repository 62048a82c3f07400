"""The second proof path: tape bijections of small shapes at 8, 16 and 64 bits; what is not private is refuted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from proofs.bijection import check_bijection
from proofs.certificate import certificate, find
from protocols.boolean import conjoin
from protocols.compare import drelu, less_than
from protocols.convert import b2a, mux, mux_public
from protocols.entry import Case, Entry, Secret
from protocols.nonlinear import relu
from protocols.ot.chosen import bit_triples, choose, correlate
from protocols.products import cross, mul, square
from protocols.truncate import ONE_ULP, truncate, truncate_known_sign
from sim.party import ProtocolDecl
from sim.ring import Z2, Ring, Spec
from sim.role import CLIENT, SERVER, Role
from tests.checker_corpus import GENUINE, Row, document, draw, op, secret

BIT, ONE = Secret(Z2, (1,)), (1,)


def small(l: int) -> list[tuple[ProtocolDecl[Any], Case]]:
    """Elementwise protocols on one entry of l bits."""
    ring = Ring(l)
    word = Secret(ring, ONE)
    owned = (Secret(ring, ONE, CLIENT), Secret(ring, ONE, SERVER))
    return [
        (conjoin, Case("one", (BIT, Secret(Z2, (1, 2))))),
        (b2a, Case("one", (BIT,), {"ring": ring})),
        (mux, Case("one", (BIT, word))),
        (mux_public, Case("one", (BIT,), {"constants": (5, -2), "ring": ring})),
        (choose, Case("one", (Secret(Ring(2), ONE, CLIENT), Secret(Z2, (1, 4, l), SERVER)),
                      {"shape": ONE, "n_choices": 4, "width": l}, (CLIENT,))),
        (correlate, Case("one", (Secret(Z2, ONE, CLIENT), owned[1]), {"shape": ONE, "ring": ring}, (CLIENT,))),
        (bit_triples, Case("one", (), {"shape": ONE, "right": 2})),
        (cross, Case("one", owned, {"receiver": CLIENT, "spec": Spec(ring, ONE)})),
        (mul, Case("one", (word, word))),
        (square, Case("one", (word,))),
        (less_than, Case("one", (owned[0], Secret(ring, (1, 1), SERVER)), {"shape": ONE, "bits": l, "w": 2})),
        (drelu, Case("one", (word,))),
        (relu, Case("one", (word,))),
        (truncate, Case("faithful", (word,), {"f": l // 3})),
        (truncate, Case("one-ulp", (word,), {"f": l // 3, "mode": ONE_ULP})),
        (truncate_known_sign, Case("one", (word,), {"f": l // 3})),
    ]  # fmt: skip


LONG = (less_than, drelu, relu, truncate)  # over 10 s at 64 bits


def marks(proto: ProtocolDecl[Any], l: int) -> list[pytest.MarkDecorator]:
    if l == 64 and proto in LONG:
        return [pytest.mark.nightly]
    return [pytest.mark.slow] if l > 8 or proto in LONG else []


CASES = [
    pytest.param(proto, case, id=f"{proto.name}: {case.name}, {l} bits", marks=marks(proto, l))
    for l in (8, 16, 64)
    for proto, case in small(l)
]


@pytest.mark.parametrize(("proto", "case"), CASES)
def test_the_tape_bijection_holds(proto: ProtocolDecl[Any], case: Case) -> None:
    for role in Role:
        verdict = check_bijection(certificate(Entry(proto, (case,)), case, role))
        assert verdict.status == "PROVED", (role, verdict)


@pytest.mark.parametrize("name", ["linear", "select_product"])
def test_homomorphic_products_at_64_bits(name: str) -> None:
    case = {"linear": "8 to 5", "select_product": "order R"}[name]
    for role in ("client", "server"):
        found = certificate(*find({"protocol": name, "case": case, "corrupted": role}))
        verdict = check_bijection(found)
        assert verdict.status == "PROVED", verdict


@pytest.mark.parametrize(("name", "genuine"), GENUINE, ids=[name for name, _ in GENUINE])
def test_every_rule_has_its_inverse(name: str, genuine: dict[str, Any]) -> None:
    assert check_bijection(genuine).status == "PROVED"


LEAKS: list[tuple[str, list[Row], list[int], list[Any]]] = [
    ("one mask, two values", [draw(), secret(), secret(label="y"), op("add", 0, 1), op("add", 0, 2)], [3, 4],
     [("add", 0, 3)]),
    ("mask revealed", [draw(), secret(), op("add", 0, 1)], [0, 2], [("add", 0, 2)]),
    ("no step", [draw(), secret(), op("mul", 0, 1)], [2], []),
    ("in clear", [secret()], [0], []),
    ("a triangle", [draw(), draw(label="q"), secret(), op("add", 0, 2), op("add", 3, 1), op("sub", 0, 1)], [4, 5],
     [("add", 1, 4), ("sub", 0, 5)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "view", "steps"), LEAKS, ids=[leak[0] for leak in LEAKS])
def test_leaks_are_refuted_whatever_the_steps_say(
    name: str, rows: list[Row], view: list[int], steps: list[Any]
) -> None:
    assert check_bijection(document(rows, view, steps)).status == "REFUTED"


def test_a_proof_with_a_step_dropped_is_refuted() -> None:
    made = certificate(*find({"protocol": "mux", "case": "8", "corrupted": "client"}))
    assert check_bijection(made).status == "PROVED"
    forged = copy.deepcopy(made)
    forged["steps"] = []
    verdict = check_bijection(forged)
    assert verdict.status == "REFUTED" and verdict.detail.startswith("with [")


def test_too_large_is_unknown() -> None:
    made = certificate(*find({"protocol": "mux", "case": "8", "corrupted": "client"}))
    verdict = check_bijection(made, limit=3)
    assert verdict.status == "UNKNOWN" and verdict.detail.endswith("array entries, expected at most 3")
