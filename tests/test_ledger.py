"""The ledger: what holds, what is listed, what is assumed, and what refreshes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proofs.assumptions import OF_HE, OF_OT, assumed, total_bits
from proofs.certificate import find, trace_case
from proofs.correct import NoTheorem
from proofs.enumerate import Joint
from proofs.ledger import LISTED, Row, entries, private_verdict, prove_row, rows_of
from proofs.private import prove_private
from proofs.refreshing import refreshing
from proofs.tiny import ENUMERATED
from proofs.verdict import Verdict
from proofs.widths import WIDTHS
from protocols import functionalities as F
from protocols.broken import FAULTS
from protocols.entry import DECLARED, PROVED, Case, Entry
from sim.role import CLIENT, SERVER, Role

UNKNOWN = Verdict("UNKNOWN", "correct", "normal form", "one term left", 0.0)
REASON = {("b2a", "64", "correct"): "a reason"}


@pytest.fixture(scope="module")
def row() -> Row:
    entry, case, _ = find({"protocol": "b2a", "case": "64", "corrupted": "client"})
    return prove_row(entry, case)


def test_an_unknown_verdict_fails_unless_it_is_listed(row: Row) -> None:
    assert row.holds and not row.outdated
    unknown = replace(row, correct=UNKNOWN)
    assert not unknown.holds
    assert replace(unknown, listed=REASON).holds
    assert replace(unknown, listed=REASON).reason(UNKNOWN) == "a reason"


def test_a_refuted_verdict_fails_though_it_is_listed(row: Row) -> None:
    refuted = replace(UNKNOWN, status="REFUTED")
    assert not replace(row, correct=refuted, listed=REASON).holds


def test_what_is_listed_and_proved_is_outdated(row: Row) -> None:
    assert replace(row, listed=REASON).outdated == ["correct"]


def test_the_list_is_about_the_catalog() -> None:
    known = {(entry.name, case.name) for width in (None, *WIDTHS) for entry, case in rows_of(entries(None), width)}
    assert {(name, case) for name, case, _ in LISTED} <= known
    assert all(LISTED.values())


@pytest.mark.nightly
def test_what_is_listed_is_still_unknown() -> None:
    for name, case, kind in LISTED:
        rows = [
            (e, c) for w in (None, *WIDTHS) for e, c in rows_of(entries(None), w) if (e.name, c.name) == (name, case)
        ]
        found = [v for row in rows for v in prove_row(*row).judged if v.kind == kind]
        assert found and all(v.status == "UNKNOWN" for v in found), (name, case, kind)


def test_the_listed_demand_holds_for_every_word() -> None:
    """A sum of up to 2^spread exponentials, the largest of them exp(0), is in the range of the reciprocal."""
    for s, l in ((12, 32), (18, 64)):
        one = 1 << F.guard_bits(s, l)
        every = F.exp_fixed(np.arange((F.EXP_FLOOR << s) - 2, 1, dtype=np.int64), s=s, l=l)
        assert every.min() == 0 and every.max() == every[-1] == one


# Their correctness is proved in tests/test_correct.py, their privacy in tests/test_certificate.py (of what opens,
# below): the row of the ledger that has both is nightly work.
ELSEWHERE = {
    *("exp", "reciprocal", "piecewise", "rsqrt", "top_k", "probabilities", "softmax", "layer_norm", "rms_norm"),
    *("attention", "select_then_compute", "moe_layer", "plaintext_routing"),
}
# Minutes: of encoders and Mixtral blocks correctness is listed as unknown, and the decoder block is a block and an
# attention across, which have rows here.
LONG = {("encoder", "class"), ("encoder", "logits"), ("block", "Mixtral decoder"), ("decoder_block", "Switch decoder")}
# Rivals' experts in their second case run the lines of the first one, gated and by a table, but for ReLU (`rectify`).
RIVALS = "evaluate_all", "evaluate_concatenated", "scatter", "cryptomoe"
LONG |= {(name, "ReLU, top-2 renormalised") for name in RIVALS}


@pytest.mark.parametrize(
    ("entry", "case"),
    [
        pytest.param(entry, case, id=f"{entry.name}: {case.name}", marks=mark)
        for entry, case in rows_of(entries(None))
        for later in [entry.name in ELSEWHERE or (entry.name, case.name) in LONG]
        for mark in [pytest.mark.nightly if later else pytest.mark.slow]
    ],
)
def test_every_row_of_the_catalog_is_what_its_status_says(entry: Entry, case: Case) -> None:
    """PROVED: correct, and private against both parties at every case. DECLARED: opens by declared openings only."""
    found = prove_row(entry, case)
    assert found.holds and not found.outdated, (entry.name, case.name, found.correct, found.private)
    assert {v.status for v in found.judged if not found.reason(v)} == {"PROVED"}
    assert found.declared == (entry.status == DECLARED) and entry.status in (PROVED, DECLARED)


TO_CLIENT = {"reveal_to", "encoder", "next_token"}
OPENING = [entry for entry in entries(None) if entry.status == DECLARED]


@pytest.mark.parametrize(
    "entry",
    [
        # The search for what an encoder's answer depends on takes minutes.
        pytest.param(entry, id=entry.name, marks=pytest.mark.nightly if entry.name == "encoder" else pytest.mark.slow)
        for entry in OPENING
    ],
)
def test_a_row_that_opens_is_declared(entry: Entry) -> None:
    run = trace_case(entry, entry.cases[0])
    for role in Role:
        assert private_verdict(run, role, declared=True).status == "PROVED"
    told = [role for role in Role if prove_private(run.dag, run.view(role), role).findings]
    assert told == ([CLIENT] if entry.name in TO_CLIENT else list(Role))


@pytest.mark.slow
def test_an_encoder_is_private_but_for_its_answer() -> None:
    entry, case, _ = find({"protocol": "encoder", "case": "logits", "corrupted": "client"})
    run = trace_case(entry, case)
    assert {private_verdict(run, role, declared=True).status for role in Role} == {"PROVED"}


def test_nothing_else_is_exempt() -> None:
    assert {entry.name for entry in OPENING} == {"reveal", "plaintext_routing"} | TO_CLIENT
    opening = next(f for f in FAULTS if f.name == "share_echoed")  # opens without `reveal`
    run = trace_case(opening.entry, opening.entry.cases[0])
    assert any(private_verdict(run, role, declared=True).status != "PROVED" for role in Role)


def test_a_leak_is_refuted_with_two_secrets() -> None:
    fault = next(f for f in FAULTS if f.name == "mask_reused")
    run = trace_case(fault.entry, fault.entry.cases[0])
    found = private_verdict(run, SERVER)
    assert found.status == "REFUTED" and found.detail.startswith("LEAK: corrupted server")
    assert private_verdict(run, CLIENT).status == "PROVED"


def test_rows_at_a_width() -> None:
    assert {case.secrets[0].ring.l for _, case in rows_of(entries("mux"), 16)} <= {1, 16}
    assert len(rows_of(entries(None), 8)) >= 15
    with pytest.raises(NoTheorem, match="expected another --width"):
        rows_of(entries("moe_layer"), 16)


def test_assumptions_follow_the_calls() -> None:
    assert assumed(False) == OF_OT and assumed(True) == OF_OT + OF_HE
    assert total_bits(OF_OT) is None
    bits = total_bits(OF_HE)
    assert bits is not None and 2.0**-bits >= sum(a.distance for a in OF_HE) > 2.0 ** -(bits + 1)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENUMERATED, ids=lambda entry: entry.name)
def test_refreshing_agrees_with_enumeration(entry: Entry) -> None:
    """Where the engine says so, every output share of the tiny instance is uniform for every input."""
    for case in entry.cases:
        run = trace_case(entry, case)
        proved = {role for role in Role if refreshing(run, role).status == "PROVED"}
        if proved:
            joint = Joint(entry.proto, case)
            for role in proved:
                assert joint.uniform_output(role), (entry.name, case.name, role)
