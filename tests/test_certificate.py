"""Certificates of the catalog: the same bytes every time, accepted by the checker; tampering changes no claim."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proofs.bijection import check_bijection
from proofs.certificate import (
    NotProved,
    Rebuilder,
    UnknownClaim,
    certificate,
    check_file,
    encode,
    find,
    rebuilt,
    restore,
    sources,
    step_json,
    trace_case,
)
from proofs.checker import JOINT, RULES, Rejected, canonical, check, digest, read, verify
from proofs.private import prove_private
from proofs.search import no_model
from proofs.symbolic import CONST, cone, evaluate
from protocols.broken import FAULTS, HARD, LEAK, Fault
from protocols.broken.secure import BOUNDED
from protocols.catalog import CATALOG
from protocols.entry import DECLARED, Case, Entry
from sim.role import CLIENT, SERVER, Role
from tests.harness import leads, nightly

ROWS = [(entry, case) for entry in CATALOG for case in entry.cases if entry.status != DECLARED]
IDS = [f"{entry.name}: {case.name}" for entry, case in ROWS]
SMALL = [row for row in ROWS if row[0].name in ("conjoin", "b2a", "mux", "mul", "choose", "linear", "one_hot", "drelu")]


def row(name: str, case: str) -> tuple[Entry, Case]:
    entry, found, _ = find({"protocol": name, "case": case, "corrupted": "client"})
    return entry, found


CONJOIN = row("conjoin", "two groups")
MADE = certificate(*CONJOIN, CLIENT)
TEXT = encode(MADE)


@pytest.mark.parametrize(
    ("entry", "case"),
    [
        pytest.param(*row, id=name, marks=pytest.mark.nightly if nightly(*row) or not leads(*row) else pytest.mark.slow)
        for row, name in zip(ROWS, IDS, strict=True)
    ],
)
def test_every_certificate_of_the_catalog_is_accepted(entry: Entry, case: Case) -> None:
    rebuild, run = Rebuilder(), trace_case(entry, case)
    for role in Role:
        made = certificate(entry, case, role, run)
        accepted = check(encode(made), rebuild)
        assert accepted.claim["corrupted"] == role.value
        assert accepted.steps == len(made["steps"])


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), SMALL, ids=[f"{entry.name}: {case.name}" for entry, case in SMALL])
def test_small_certificates_are_accepted(entry: Entry, case: Case) -> None:
    for role in Role:
        assert check(encode(certificate(entry, case, role)), Rebuilder()).nodes >= 0


@pytest.mark.slow
def test_the_same_source_gives_the_same_bytes_in_another_process() -> None:
    claims = [{"protocol": "conjoin", "case": "two groups", "corrupted": "client"},
              {"protocol": "drelu", "case": "8", "corrupted": "server"}]  # fmt: skip
    program = (
        "import sys; from proofs.certificate import certificate, encode, find\n"
        f"sys.stdout.write(''.join(encode(certificate(*find(claim))) for claim in {claims!r}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    sources.cache_clear()
    assert found.stdout == "".join(encode(certificate(*find(claim))) for claim in claims)


def test_the_statement_says_what_is_assumed() -> None:
    claim = certificate(*row("linear", "8 to 5"), CLIENT)["claim"]
    assert claim["epsilon_bits"] == 30
    assert "perfect view-independence of the server's inputs" in claim["statement"]
    assert "statistical distance 2^-30 per session; OT and HE: assumed" in claim["statement"]
    assert MADE["claim"]["epsilon_bits"] is None and "HE" not in MADE["claim"]["statement"]


def test_a_leak_has_no_certificate() -> None:
    with pytest.raises(NotProved, match=r"reveal .word., corrupted client: not proved private at r1/reveal/share"):
        certificate(*row("reveal", "word"), CLIENT)


def test_a_claim_about_nothing_in_the_catalog() -> None:
    for change in ({"protocol": "none"}, {"case": "none"}, {"corrupted": "nobody"}):
        with pytest.raises(UnknownClaim, match="`secmoe catalog` lists them"):
            Rebuilder()({**MADE["claim"], **change})


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "conjoin.json"
    path.write_text(TEXT)
    assert check_file(path).claim == MADE["claim"]
    for cut in (0, 1, len(TEXT) // 3, len(TEXT) - 2):
        path.write_text(TEXT[:cut])
        with pytest.raises(Rejected, match="truncated or damaged"):
            check_file(path)


def test_sources_cover_text_rings_front_end_and_checker() -> None:
    names = set(sources())
    assert {
        "sim/ring.py",
        "sim/driver.py",
        "protocols/moe.py",
        "protocols/ot/ideal.py",
        "protocols/he/ideal.py",
        "proofs/symbolic.py",
        "proofs/trace.py",
        "proofs/checker.py",
    } <= names
    altered = {**MADE, "sources": {**MADE["sources"], "protocols/boolean.py": "0" * 64}}
    with pytest.raises(Rejected, match=r"another source: sources differs in protocols/boolean\.py; prove it again"):
        check(encode(sealed(altered)), Rebuilder())


def test_the_stored_dag_computes_what_the_traced_one_does() -> None:
    entry, case = row("truncate", "8 by 3")
    run = trace_case(entry, case)
    made = certificate(entry, case, SERVER, run)
    dag, numbers = restore(made), cone(run.dag, [seen.node for seen in run.view(SERVER)])
    rng = np.random.default_rng(3)
    given = {
        (node.op, node.params): rng.integers(0, node.ring.mask, node.shape, np.uint64, endpoint=True)
        for node in dag.nodes
        if not node.args and node.op != CONST
    }
    ours = evaluate(dag, range(len(dag.nodes)), lambda node: given[node.op, node.params])
    theirs = evaluate(run.dag, numbers, lambda node: given[node.op, node.params])
    assert all(np.array_equal(ours[i], theirs[n]) for i, n in enumerate(numbers))


# -- tampering --------------------------------------------------------------------------------
def sealed(made: dict[str, Any]) -> dict[str, Any]:
    """With a digest that fits: what someone who knows the format would write."""
    body = {key: value for key, value in made.items() if key != "digest"}
    return {**body, "digest": digest(body)}


def tampered(rng: random.Random, made: dict[str, Any]) -> dict[str, Any]:
    """One change anywhere: a number, a name, an arity, a step added, dropped, moved or doubled."""
    made = copy.deepcopy(made)
    steps, kind = made["steps"], rng.randrange(11)
    one = rng.choice(steps)
    if kind == 0:
        steps.remove(one)
    elif kind == 1:
        steps.insert(rng.randrange(len(steps) + 1), copy.deepcopy(one))
    elif kind == 2:
        steps.append(steps.pop(rng.randrange(len(steps))))
    elif kind == 3:
        one[0] = rng.choice([*RULES, *JOINT, "trust", "", None, 0])
    elif kind == 4:
        place, by = rng.choice((1, 2)), rng.choice((-2, -1, 1, 2))
        if isinstance(one[place], list):
            group = one[place]
            group.pop() if by == 2 and len(group) > 1 else group.__setitem__(0, group[0] + by)
        else:
            one[place] += by
    elif kind == 5:
        one.append(0) if rng.random() < 0.5 else one.pop()
    elif kind == 6:
        node = rng.choice(made["dag"]["nodes"])
        node.append(0) if rng.random() < 0.5 or len(node) == 1 else node.pop()
    elif kind == 7:
        rng.choice(made["dag"]["kinds"])[rng.choice((0, 1, 2, 3))] = rng.choice(
            ["add", "draw", [], ["client", "r"], 1, [2]]
        )
    elif kind == 8:
        entry = rng.choice(made["view"])
        made["view"].remove(entry) if rng.random() < 0.5 else entry.__setitem__(-1, rng.choice([None, 0, 1]))
    elif kind == 9:
        made["claim"][rng.choice(sorted(made["claim"]))] = rng.choice(["client", "server", "conjoin", "", 0, None])
    else:
        made[rng.choice(["sources", "versions"])].popitem()
    return made


@pytest.mark.slow
def test_a_thousand_tamperings() -> None:
    """None is accepted that changes the claim; what is accepted at all is another order of steps that still hold."""
    rng = random.Random(7)
    originals = [
        MADE,
        certificate(*CONJOIN, SERVER),
        certificate(*row("mux", "8"), CLIENT),
        certificate(*row("one_hot", "E = 6"), SERVER),
        *(certificate(e, e.cases[0], SERVER) for e in HARD if e.name in ("odd_determinant", "disjoint_fields")),
        *(certificate(e, e.cases[0], CLIENT) for e in HARD if e.name == "precomputed_transfer"),
    ]
    fresh = {canonical(made["claim"]): made for made in originals}
    harmless = refused = 0

    def rebuild(claim: dict[str, Any]) -> dict[str, Any]:
        known = fresh.get(canonical(claim))
        return known if known is not None else Rebuilder((*CATALOG, *HARD))(claim)

    while refused + harmless < 1000:
        made = rng.choice(originals)
        forged = tampered(rng, made)
        if forged == made:
            continue
        with pytest.raises(Rejected, match="its digest differs"):
            read(encode({**forged, "digest": made["digest"]}))
        try:
            accepted = check(encode(sealed(forged)), rebuild)
        except (Rejected, UnknownClaim):
            refused += 1
            continue
        harmless += 1
        assert accepted.claim == made["claim"]
        assert all(forged[part] == made[part] for part in ("claim", "sources", "versions", "dag", "view"))
    assert refused > 800, (refused, harmless)


LEAKS = [fault for fault in FAULTS if fault.kind == LEAK and fault.symbolic]


@pytest.mark.slow
@pytest.mark.parametrize("fault", LEAKS, ids=[fault.name for fault in LEAKS])
def test_planted_faults_have_no_certificate_and_no_forged_one(fault: Fault) -> None:
    """The steps that the search does find, then anything along the edges of the DAG: refused every time."""
    rng, case = random.Random(13), fault.entry.cases[0]
    run = trace_case(fault.entry, case)
    for role in (role for role in Role if fault.leaks_to(role)):
        with pytest.raises(NotProved):
            certificate(fault.entry, case, role, run)
        view = run.view(role)
        place = {number: i for i, number in enumerate(cone(run.dag, [seen.node for seen in view]))}
        found = [step_json(step, place) for step in prove_private(run.dag, view, role).steps]
        body = {**rebuilt(fault.entry, case, run, role), "digest": ""}
        edges = [(a, t) for t, (_, *args) in enumerate(body["dag"]["nodes"]) for a in args]
        for _ in range(25 if edges else 1):
            more = [
                [rng.choice([*RULES, *JOINT]), *rng.choice(edges)] for _ in range(rng.randint(0, 2) if edges else 0)
            ]
            with pytest.raises(Rejected):
                verify({**body, "steps": [*found, *more]})


def test_hard_but_private_texts_are_certified_on_both_paths() -> None:
    """What the search proves of them, the checker accepts and Z3 confirms, where a step's inverse is written down."""
    open_ = set()
    for entry in HARD:
        for role in Role:
            made = certificate(entry, entry.cases[-1], role, trace_case(entry, entry.cases[-1]))
            assert check(encode(made), Rebuilder(HARD), no_model).claim["protocol"] == entry.name
            verdict = check_bijection(made)
            if any(step[0] == "injective" for step in made["steps"]):
                assert verdict.status == "UNKNOWN" and "a solver's word" in verdict.detail
                open_.add(entry.name)
            else:
                assert verdict.status == "PROVED", (entry.name, role, verdict)
    assert open_ == {"spread_mask"}


def test_a_solver_step_is_accepted_from_a_file(tmp_path: Path) -> None:
    entry = next(entry for entry in HARD if entry.name == "spread_mask")
    made = certificate(entry, entry.cases[0], SERVER)
    path = tmp_path / "spread_mask.json"
    path.write_text(encode(made))
    assert check_file(path, Rebuilder(HARD)).steps == len(made["steps"]) == 2
    with pytest.raises(Rejected, match="needs a solver"):
        check(encode(made), Rebuilder(HARD))


@pytest.mark.parametrize("entry", BOUNDED, ids=lambda entry: entry.name)
def test_a_statistical_proof_names_its_distance_and_its_premises(entry: Entry) -> None:
    case = entry.cases[0]
    made = certificate(entry, case, SERVER)
    claim = check(encode(made), Rebuilder(BOUNDED)).claim
    bits, *fraction = claim["masking"]
    span = case.secrets[0].ring.mask if case.secrets[0].low is None else case.secrets[0].range[1] * 2
    assert Fraction(*fraction) == Fraction(case.secrets[0].spec.size * span, 1 << case.public["mask"])
    assert Fraction(1, 1 << bits + 1) < Fraction(*fraction) <= Fraction(1, 1 << bits) < Fraction(1, 1 << 40)
    assert (
        f"statistical (distance at most 2^-{bits} from one law, inputs in range) view-independence"
        in claim["statement"]
    )
    assert claim["ranges"] == ([] if case.secrets[0].low is None else [["client", "x0", -1000, 1000]])
    assert check_bijection(made).detail.endswith("no bijection maps one to the other")
    assert certificate(entry, case, CLIENT)["claim"]["masking"] is None
    for masking in (None, [bits, 0, 1], [bits + 1, *fraction], [bits, *fraction, 1], [bits, 1.5, 2], "", 0, [None] * 3):
        with pytest.raises(Rejected):
            check(encode(sealed({**made, "claim": {**claim, "masking": masking}})), Rebuilder(BOUNDED))
    with pytest.raises(NotProved):
        certificate(entry, entry.cases[-1], SERVER)


def test_the_document_without_steps_is_the_one_the_checker_compares_with() -> None:
    body = rebuilt(*CONJOIN, trace_case(*CONJOIN), CLIENT)
    assert {**body, "steps": MADE["steps"]} == {key: value for key, value in MADE.items() if key != "digest"}
    assert json.loads(TEXT) == MADE
