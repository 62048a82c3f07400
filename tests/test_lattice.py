"""The analysers of ciphertexts: quiet on the real engine, and each one beside the smallest leak that it must see."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.broken import FAULTS
from protocols.broken.engine import Answering, homomorphic
from protocols.broken.fault import Services
from protocols.broken.responses import (
    BROAD,
    FEW,
    MANY,
    PAIR,
    FloodHalved,
    ZeroOmitted,
    ZeroShort,
    selection_case,
)
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from protocols.he.params import PARAM_SETS
from protocols.he.ring_q import Basis
from protocols.linear import linear
from protocols.ot.service import OtService
from protocols.select import select_product
from sim.concrete import to_words
from sim.role import SERVER
from transcripts.finding import LEVEL, NO_LEAK, NOTHING_TESTED, Finding, bins_for, exact, statistical
from transcripts.lattice import keys, noise, randomisers, security, words
from transcripts.lattice.columns import client_columns, compared
from transcripts.lattice.evidence import Evidence, UnreadableTranscript, centred
from transcripts.lattice.reduction import reduced
from transcripts.sessions import honest, observe

HONEST: list[tuple[Any, Case, int]] = [
    (linear, MANY, 4),
    (linear, FEW, 2),
    (linear, BROAD, 2),
    (select_product, PAIR, 2),
]


@cache
def _evidence(name: str, case_name: str, runs: int, seed: str = "lattice") -> Evidence:
    fault = next(f for f in FAULTS if f.name == name)
    case = next(c for c in fault.entry.cases if c.name == case_name)
    assert fault.services is not None
    found = observe(fault.entry, case, fault.services, runs, seed).evidence
    assert found is not None
    return found


@cache
def _honest(case: str, runs: int, seed: str = "honest") -> Evidence:
    proto, chosen, _ = next(row for row in HONEST if row[1].name == case)
    found = observe(Entry(proto, (chosen,)), chosen, honest, runs, seed).evidence
    assert found is not None
    return found


def everything(evidence: Evidence) -> list[Finding]:
    return [found for analyser in (noise, randomisers, keys, words) for found in analyser.analyse(evidence)]


@pytest.mark.slow
@pytest.mark.parametrize(("proto", "case", "runs"), HONEST, ids=lambda v: getattr(v, "name", v))
def test_nothing_is_found_in_the_real_engine(proto: Any, case: Case, runs: int) -> None:
    evidence = _honest(case.name, runs)
    found = everything(evidence)
    assert not [str(f) for f in found if f.leak]
    untested = {f.analyser for f in found if f.verdict == NOTHING_TESTED}
    assert ("a-part recovery" in untested) == (case is not FEW)
    assert untested <= {"a-part recovery", *(() if case in (MANY, BROAD) else ("noise law", "decrypted words"))}
    assert all(f.blind for f in found) and not security.parameters(case.plans[0].params).leak


# analyser -> (fault, its case, runs) that this analyser must see
CAUGHT: dict[str, tuple[Callable[[Evidence], Finding], tuple[str, str, int]]] = {
    "a-part": (randomisers.omitted, ("zero_omitted", "many outputs", 1)),
    "a-part, weights recovered": (lambda e: randomisers.recovered(e)[0], ("zero_omitted", "few weights", 1)),
    "zero reused, weights recovered": (lambda e: randomisers.recovered(e)[1], ("zero_reused", "few weights", 2)),
    "a-part law": (randomisers.uniform, ("zero_omitted", "many outputs", 1)),
    "zero reused in a session": (randomisers.reused, ("zero_reused", "many outputs", 2)),
    "zero reused in a response": (randomisers.reused, ("zero_reused_in_pairs", "two rows", 1)),
    "zero guessed": (randomisers.guessable, ("zero_short", "many outputs", 6)),
    "flooding missing": (noise.law, ("flood_missing", "many outputs", 1)),
    "flooding short": (noise.law, ("flood_short", "many outputs", 1)),
    "flooding halved": (noise.law, ("flood_halved", "many outputs", 1)),
    "flooding one-sided": (noise.law, ("flood_one_sided", "many outputs", 1)),
    "flooding once": (noise.across, ("flood_once", "many outputs", 2)),
    "flooding broadcast": (noise.within, ("flood_broadcast", "many outputs", 4)),
    "noise follows the weights": (lambda e: noise.regression(e)[0], ("flood_missing", "wide response", 1)),
    "noise follows them under short flooding": (lambda e: noise.regression(e)[0], ("flood_short", "wide response", 1)),
    "unmasked coefficients": (words.repeated, ("all_coefficients", "eight columns", 2)),
    "unmasked coefficients, in one response": (words.uniform, ("all_coefficients", "eight columns", 1)),
    "no upload error": (lambda e: keys.error_law(e)[0], ("error_omitted", "many outputs", 1)),
    "one-sided upload error": (lambda e: keys.error_law(e)[0], ("error_one_sided", "many outputs", 1)),
    "upload error from the seed": (lambda e: keys.public_errors(e)[0], ("error_from_seed", "many outputs", 1)),
    "upload error twice": (lambda e: keys.public_errors(e)[1], ("upload_repeated", "many outputs", 2)),
    "key error from the seed": (lambda e: keys.public_errors(e)[2], ("key_error_from_seed", "two rows", 1)),
    "key divides": (keys.divided, ("key_error_omitted", "two rows", 1)),
    "key divides after its error": (keys.divided, ("key_error_from_seed", "two rows", 1)),
    "no key error": (lambda e: keys.error_law(e)[1], ("key_error_omitted", "two rows", 1)),
    "skewed secret": (keys.secret_law, ("secret_skewed", "many outputs", 1)),
    "binary secret": (keys.secret_law, ("secret_binary", "many outputs", 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CAUGHT)
def test_each_analyser_sees_its_leak(what: str) -> None:
    analyser, where = CAUGHT[what]
    finding = analyser(_evidence(*where))
    assert finding.leak and finding.n > 0 and finding.where, finding


@pytest.mark.slow
@pytest.mark.parametrize(
    ("analyser", "where"),
    [
        (lambda e: noise.regression(e)[1], ("switch_first", "many outputs", 40)),
        (lambda e: keys.error_law(e)[0], ("error_short", "many outputs", 12)),
    ],
    ids=["rounding of the switch", "off-by-one in the error"],
)
def test_weak_leaks_are_seen_with_more_runs(
    analyser: Callable[[Evidence], Finding], where: tuple[str, str, int]
) -> None:
    assert analyser(_evidence(*where)).leak


@pytest.mark.slow
def test_the_weights_come_out_of_bad_responses_and_not_out_of_honest_ones() -> None:
    for name, responses in (("zero_omitted", (0,)), ("zero_reused", (0, 1))):
        evidence = _evidence(name, "few weights", 2)
        guess = randomisers.weights_from(evidence, responses)
        assert guess is not None and np.array_equal(guess, np.asarray(evidence.weights).reshape(-1))
    evidence = _evidence("zero_reused", "few weights", 2)
    for found, responses in ((evidence, (0,)), (_honest("few weights", 2), (0,)), (_honest("few weights", 2), (0, 1))):
        guess = randomisers.weights_from(found, responses)
        assert guess is None or not np.array_equal(guess, np.asarray(found.weights).reshape(-1))


def test_a_division_of_keys_gives_the_very_secret() -> None:
    evidence = _evidence("key_error_omitted", "two rows", 1)
    for row in evidence.key_rows:
        assert evidence.secret is not None and np.array_equal(next(keys._secrets(evidence, row)), evidence.secret)


@pytest.mark.slow
def test_two_servers_share_no_randomness_unless_it_has_a_default_seed() -> None:
    entry = Entry(linear, (MANY,))
    one, two = (observe(entry, MANY, honest, 2, "twins", tapes).evidence for tapes in ({}, {SERVER: "again"}))
    assert one is not None and two is not None
    assert not noise.shared(one, two).leak and not randomisers.shared(one, two).leak
    for name, compare in (("zero_default_seed", randomisers.shared), ("flood_default_seed", noise.shared)):
        fault = next(f for f in FAULTS if f.name == name)
        assert fault.services is not None
        one, two = (
            observe(fault.entry, MANY, fault.services, 2, "twins", tapes).evidence for tapes in ({}, {SERVER: "again"})
        )
        assert one is not None and two is not None and compare(one, two).leak


def test_parameters_below_the_table_are_named() -> None:
    assert not any(security.parameters(params).leak for params in PARAM_SETS.values())
    for name in ("ring_too_small", "special_prime_uncounted", "test_set_in_use"):
        plan = next(f for f in FAULTS if f.name == name).entry.cases[0].plans[0]
        assert "bits, at most" in security.parameters(plan.params).where


def test_messages_of_another_plan_are_refused() -> None:
    evidence = _honest("many outputs", 4)
    with pytest.raises(UnreadableTranscript, match="expected a multiple of"):
        _ = Evidence(FEW.plans[0], evidence.setup, evidence.runs).responses
    with pytest.raises(UnreadableTranscript, match="private side"):
        noise.noises(Evidence(evidence.plan, evidence.setup, evidence.runs))


def _is_reduced(rows: list[list[int]]) -> bool:
    """Gram-Schmidt in fractions: every coefficient at most 1/2, and the condition of Lovasz with 3/4."""
    orthogonal: list[list[Fraction]] = []
    norms: list[Fraction] = []
    for k, row in enumerate(rows):
        rest = [Fraction(v) for v in row]
        gaps = []
        for other, norm in zip(orthogonal, norms, strict=True):
            gaps.append(sum((a * b for a, b in zip(row, other, strict=True)), Fraction(0)) / norm)
            rest = [a - gaps[-1] * b for a, b in zip(rest, other, strict=True)]
        norm = sum((a * a for a in rest), Fraction(0))
        if any(abs(gap) > Fraction(1, 2) for gap in gaps):
            return False
        if k and norm < (Fraction(3, 4) - gaps[-1] ** 2) * norms[-1]:
            return False
        orthogonal.append(rest)
        norms.append(norm)
    return True


# -- arithmetic of the analysers ---------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(1 << 80), 1 << 80), min_size=1, max_size=8))
def test_centred_residues_are_the_integers(values: list[int]) -> None:
    params = PARAM_SETS["P64tiny"]
    basis = Basis(params.primes, (0, 1, 2))
    residues = np.array([[v % p for v in values] for p in basis.primes], dtype=np.float64)
    assert centred(residues, basis).tolist() == [float(v) for v in values]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_reduction_gives_a_reduced_basis_of_the_same_lattice(rows: list[list[int]]) -> None:
    flint = pytest.importorskip("flint")
    before = flint.fmpz_mat(rows)
    if before.rank() < len(rows):
        return
    after = flint.fmpz_mat(reduced(rows))
    assert after.hnf() == before.hnf()
    assert _is_reduced([[int(v) for v in row] for row in after.tolist()])


def test_bins_hold_enough_values_each() -> None:
    assert [bins_for(n, 32) for n in (0, 19, 20, 40, 79, 640, 10**6)] == [1, 1, 1, 2, 2, 32, 32]


def test_verdicts_follow_statistic_and_limit() -> None:
    assert exact("a", "b", 3, [], "c").verdict == NO_LEAK and exact("a", "b", 0, [], "c").verdict == NOTHING_TESTED
    assert exact("a", "b", 3, ["here", "there"], "c").leak and exact("a", "b", 3, ["here"], "c").where == "here"
    assert statistical("a", "b", 3, LEVEL / 2, "here", "c").leak and not statistical("a", "b", 3, LEVEL, "x", "c").leak
    assert "p = 1e-09" in str(statistical("a", "b", 3, 1e-9, "here", "c"))
    assert "2 hits" in str(exact("a", "b", 1, ["x", "y"], ""))


DEFAULT_SET = selection_case("default set", PARAM_SETS["P64s"], 1, 8, 96, 1536)


def _at_the_default_set(services: Services) -> Evidence:
    found = observe(Entry(select_product, (DEFAULT_SET,)), DEFAULT_SET, services, 1, "P64s").evidence
    assert found is not None and found.plan.a > 0 and found.plan.b > 0
    return found


@pytest.mark.slow
def test_nothing_is_found_at_the_default_parameter_set() -> None:
    """Expansion, packing and the modulus switch: one selected product at P64s."""
    found = everything(_at_the_default_set(honest))
    assert not [str(f) for f in found if f.leak]
    assert next(f.n for f in found if f.analyser == "noise law") == 1536


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "analyser"),
    [(ZeroOmitted, randomisers.omitted), (ZeroShort, randomisers.guessable), (FloodHalved, noise.law)],
)
def test_leaks_are_found_at_the_default_parameter_set(
    server: type[Answering], analyser: Callable[[Evidence], Finding]
) -> None:
    evidence = _at_the_default_set(homomorphic(server))
    guessed = server is ZeroShort and randomisers.omitted(evidence).leak  # one ternary number in three is zero
    assert guessed or analyser(evidence).leak


@pytest.mark.nightly
def test_statistical_findings_keep_their_level() -> None:
    """40 honest sessions, 14 p-values each: none below the limit, and the small ones are as rare as they should be."""
    found: list[Finding] = []
    for seed in range(40):
        evidence = observe(Entry(linear, (MANY,)), MANY, honest, 4, f"level {seed}").evidence
        assert evidence is not None
        found += [f for f in everything(evidence) if f.kind == "p" and f.n]
    assert not [str(f) for f in found if f.leak]
    assert sum(f.statistic < 0.01 for f in found) <= 0.01 * len(found) + 5 * (0.01 * len(found)) ** 0.5


def test_the_columns_of_a_client_are_its_noise_and_its_residues() -> None:
    evidence = _honest("many outputs", 4)
    assert evidence.secret is not None
    columns = dict(client_columns(evidence))
    assert [label.split(" of ")[0] for label in columns] == ["noise", "a-part"] * 4
    shown, residues, *_ = columns.values()
    flood, rounding = noise.scales(evidence)
    back = (to_words(shown) / 2.0**31 - 1) * (flood + 8 * rounding)
    assert np.allclose(back, noise.noises(evidence)[0], atol=1e-2)
    assert set(to_words(residues).tolist()) <= set(evidence.responses[0].c1[0].astype(np.uint64).tolist())


@pytest.mark.slow
def test_answers_on_other_inputs_are_compared() -> None:
    """Quiet between two sessions of the real engine; a flooding of another law in one of them is another law."""
    honest_, other = (_honest("many outputs", 4, seed) for seed in ("honest", "other"))
    assert [f.verdict for f in compared([honest_], [other])] == [NO_LEAK, NO_LEAK]
    noises, residues = compared([honest_], [_evidence("flood_halved", "many outputs", 1)])
    assert noises.leak and noises.n > 0 and not residues.leak


@pytest.mark.slow
@pytest.mark.parametrize("name", ["select_then_compute", "plaintext_routing"])
def test_every_answer_of_a_protocol_of_several_plans_is_evidence(name: str) -> None:
    """Top-2 with uploads that serve several products, and rows of several experts. Where an engine leaves out the
    encryption of zero, every a-part is that of the plain result: uploads, shares and weights belong together."""
    entry = next(e for e in CATALOG if e.name == name)
    case = entry.cases[1]
    engine = next(f for f in FAULTS if f.name == "zero_omitted").services
    assert engine is not None
    seen = observe(entry, case, honest, 2, "answers")
    bad = observe(entry, case, lambda plans: (OtService(), *engine(plans)), 2, "answers")
    assert seen.evidence is None and {part.plan for part in seen.answers} == set(case.plans)
    for good, leaky in zip(seen.answers, bad.answers, strict=True):
        assert good.complete and randomisers.omitted(good).verdict == NO_LEAK
        assert randomisers.omitted(leaky).statistic == len(leaky.responses) > 0
        assert not [str(f) for f in noise.analyse(good) if f.leak]
