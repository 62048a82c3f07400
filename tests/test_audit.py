"""Audits of real and hybrid runs: planted faults are leaks, honest protocols are not; and the command around them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from protocols.broken import FAULTS
from protocols.entry import DECLARED as DECLARES
from protocols.entry import Case, Entry, Secret
from secmoe.auditing import _declared
from secmoe.cli import main
from secmoe.simulation import CertifiedSimulator
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Z2, Ring, Spec
from sim.role import CLIENT, SERVER, Role
from tests.view_tables import smallest
from transcripts.analysers import Findings, Structure, Summary, Test
from transcripts.audit import ANALYSERS, TooFewRuns, audit
from transcripts.campaign import Campaign
from transcripts.power import HALF, LAST, SHORT, ZERO, Bench, Weaken, audit_fault, measure, related
from transcripts.sampling import HYBRID, REAL, Model, Sampler
from transcripts.simulated import AgainstSimulator, Told
from transcripts.statistics import binomial_interval, threshold
from transcripts.targets import Target, audited_roles, targets
from transcripts.verdicts import DECLARED, INCONCLUSIVE, LEAK, NO_LEAK, Audited, to_json
from transcripts.views import Layout, Views

QUICK_FAULTS = ("mask_reused", "mask_even", "share_echoed", "secret_order", "hint_sent", "response_half_masked")
RUNS = 240


def audited(target: Target, runs: int = RUNS, model: Model = HYBRID, seed: str = "1", **options: Any) -> Audited:
    samplers = [Sampler(target, role, model, seed) for role in Role]
    return audit(samplers, runs, Campaign(runs).gather, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK_FAULTS)
def test_a_planted_fault_leaks_to_whom_it_leaks_and_to_nobody_else(name: str) -> None:
    (fault,) = (f for f in FAULTS if f.name == name)
    for verdict in audit_fault(fault, RUNS, "faults").verdicts:
        leaks = fault.leaks_to(verdict.examined.sampler.corrupted)
        assert (verdict.kind == LEAK) == leaks, str(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask_from_peer", "comparison_told", "route_opened", "mask_zero_sum", "raw_key_pads"])
def test_more_planted_faults(name: str) -> None:
    (fault,) = (f for f in FAULTS if f.name == name)
    for verdict in audit_fault(fault, 800, "faults").verdicts:
        assert (verdict.kind == LEAK) == fault.leaks_to(verdict.examined.sampler.corrupted), str(verdict)


@pytest.mark.slow
def test_a_planted_fault_is_found_in_real_bytes() -> None:
    (fault,) = (f for f in FAULTS if f.name == "hint_sent")
    kinds = {v.examined.sampler.corrupted: v.kind for v in audit_fault(fault, 120, "real", REAL).verdicts}
    assert kinds[CLIENT] == LEAK and kinds[SERVER] != LEAK


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [Target("b2a", "64"), Target("correlate", "19 bits"), Target("linear", "8 to 5")], ids=str
)
def test_an_honest_protocol_is_no_leak(target: Target) -> None:
    found = audited(target, 400)
    assert not any(v.kind in (LEAK, DECLARED) for v in found.verdicts)
    assert found.nulls[0] == 0


def test_what_is_opened_is_a_declared_leak() -> None:
    found = audited(Target("reveal", "word"), declared=lambda s: True)
    assert [v.kind for v in found.verdicts] == [DECLARED, DECLARED]
    assert not found.clean


def test_a_verdict_says_who_what_where_and_how_sure() -> None:
    (fault,) = (f for f in FAULTS if f.name == "mask_reused")
    (verdict,) = (v for v in audit_fault(fault, RUNS, "1").verdicts if v.kind == LEAK)
    text = str(verdict)
    for part in ("corrupted server", "hybrid model", "n = 240", "mask_reused", "effect", "p = ", "fresh runs"):
        assert part in text
    quiet = str(audited(Target("b2a", "2"), 400).verdicts[0])
    for part in (NO_LEAK, "n = 400", "smallest effect found", "at level 0.001 over", "null quiet"):
        assert part in quiet
    assert "secure" not in text + quiet


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    one, again, other = (to_json(audited(Target("b2a", "2"), 120, seed=seed)) for seed in ("1", "1", "2"))
    assert one == again
    assert one["verdicts"][0]["smallest_p"] != other["verdicts"][0]["smallest_p"]


@pytest.mark.slow
def test_too_few_runs_are_refused_and_few_runs_are_inconclusive_with_the_number_that_would_do() -> None:
    with pytest.raises(TooFewRuns, match="at least 80"):
        audited(Target("b2a", "2"), 40)
    (verdict, _) = audited(Target("b2a", "2"), 80).verdicts
    assert verdict.kind == INCONCLUSIVE
    wanted = int(verdict.advice.split("--runs ")[1])
    assert audited(Target("b2a", "2"), wanted).verdicts[0].kind == NO_LEAK


class Capricious:
    """Rejects in the runs of the search, never in those of the confirmation."""

    name = "capricious"

    def collect(self, views: Views) -> Summary:
        return {"n": np.array([views.n])}

    def compare(self, first: Summary, second: Summary, layout: Layout, seed: str) -> Findings:
        p = np.array([0.5 if seed.endswith("confirm") else 0.0])
        return Findings(self.name, p, np.ones(1), 1, lambda i: ("nowhere", "whim"))


def test_what_fresh_runs_do_not_confirm_is_no_leak() -> None:
    class Both(Capricious):
        pass

    analysers = (Structure(), Both())
    samplers = [Sampler(Target("b2a", "2"), CLIENT, HYBRID, "1")]
    found = audit(samplers, 400, Campaign(400, analysers=analysers).gather, analysers=analysers)
    (verdict,) = found.verdicts
    assert verdict.kind == INCONCLUSIVE
    assert "not confirmed" in verdict.advice and "--runs 1600" in verdict.advice


@pytest.mark.slow
def test_the_family_is_everything_that_was_tested() -> None:
    samplers = [Sampler(t, role, HYBRID, "1") for t in targets("correlate")[:2] for role in Role]
    together = audit(samplers, 120, Campaign(120).gather)
    assert together.family == sum(v.examined.tested for v in together.verdicts)
    alone = [audit([s], 120, Campaign(120).gather).family for s in samplers]
    assert sum(alone) == together.family


@pytest.mark.slow
def test_a_weakened_draw_of_the_protocol_is_seen_and_the_power_says_so() -> None:
    sampler = Sampler(Target("linear", "8 to 5"), CLIENT, HYBRID, "1")
    power = measure(sampler, Bench(400, 1 << 17))
    assert "server: linear/h2a/mask, a bit short" in power.found
    assert not power.missed
    few = measure(sampler, Bench(80, 1 << 17, level=1e-40))
    assert few.counts[0] < few.counts[1]


def test_weakening_hits_its_draw_alone() -> None:
    base = Sampler(Target("linear", "8 to 5"), SERVER, HYBRID, "w")
    weak = replace(base, tamper=Weaken("server", "linear/h2a/mask", "zero"))
    honest, zero = (s.block(0, 8)["first"] for s in (base, weak))
    drawn = honest.layout.index["draw", "linear/h2a/mask"]
    columns = slice(honest.layout.starts[drawn], honest.layout.starts[drawn + 1])
    assert honest.words[:, columns].any() and not zero.words[:, columns].any()


@pytest.mark.parametrize(("how", "bits"), [(ZERO, 0), (SHORT, 63), (HALF, 32), (LAST, 1)])
def test_a_weakened_draw_keeps_its_low_bits(how: str, bits: int) -> None:
    words = np.full((4, 3), 2**64 - 1, np.uint64)
    weak = Weaken("server", "mask", how)("server", "r1/mask", Spec(Ring(64), (3,)), words)
    assert (weak == 2**bits - 1).all()
    kept = Weaken("server", "mask", how)("client", "r1/mask", Spec(Ring(64), (3,)), words)
    assert (kept == words).all()
    odd = Weaken("server", "mask", how)("server", "r1/mask", Spec(Z2, (3,)), np.ones((4, 3), np.uint8))
    assert odd.sum(1).tolist() == ([0, 0, 0, 0] if how == ZERO else [0, 3, 0, 3])


def test_faults_of_a_protocol_are_those_of_what_it_calls() -> None:
    names = {f.name for f in related(Target("relu", "8"), CLIENT)}
    assert {"triple_reused"} <= names
    assert all(f.leaks_to(CLIENT) for f in related(Target("relu", "8"), CLIENT))


# -- a protocol of a user ------------------------------------------------------------------------------------------


@protocol(realises=Functionality("nothing", lambda x: x))
async def tell_it(p: Party, x: Any) -> Any:
    """The client's bit goes to the server."""
    if p.role is CLIENT:
        p.send("bit", x)
        return x
    await p.recv("bit", Spec(Z2, (1,)))
    return None


USERS = Entry(tell_it, (Case("bit", (Secret(Z2, (1,), CLIENT),)),))


def test_an_entry_of_any_module_can_be_audited() -> None:
    (target,) = targets("tests.test_audit:USERS")
    (verdict,) = audit([Sampler(target, SERVER, HYBRID, "u")], 120, Campaign(120).gather).verdicts
    assert verdict.kind == LEAK
    assert verdict.leak is not None and verdict.leak.label.startswith("received tell_it/bit")


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command keeps what it finds in ./runs."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    try:
        return main(["audit", "--workers", "1", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_the_command_finds_a_fault_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("broken.mask_reused", "--runs", "240", "--model", "hybrid") == 1
    assert "LEAK: broken.mask_reused" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_passes_an_honest_protocol_with_its_power(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("correlate", "--runs", "1200", "--model", "hybrid", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {v["verdict"] for v in told["verdicts"]} == {NO_LEAK}
    assert all(v["power"]["found"] == v["power"]["planted"] > 0 for v in told["verdicts"] if v["power"])
    assert any(v["power"] for v in told["verdicts"])
    with patch("transcripts.power._measured", side_effect=AssertionError("measured again")):
        assert run("correlate", "--runs", "1200", "--model", "hybrid", "--json") == 0
    assert json.loads(capsys.readouterr().out) == told


def test_a_branch_on_a_secret_is_refused_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("broken.branch_on_truth", "--runs", "80", "--model", "hybrid") == 1
    assert capsys.readouterr().out.startswith("LEAK: broken.branch_on_truth: large branches on a secret")


@pytest.mark.slow
def test_an_opening_is_declared_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reveal", "--runs", "120", "--model", "hybrid", "--no-power") == 1
    out = capsys.readouterr().out
    assert out.count(DECLARED) == 4


def test_a_protocol_without_secrets_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bit_triples", "--model", "hybrid") == 0
    assert "not audited: bit_triples: left with 2 (no secret)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nonsense",), "expected broken.NAME or one of"),
        (("mux", "--runs", "12"), "expected at least 80, got 12"),
        (("mux", "--model", "hybrid", "--cluster", "not an address"), "--cluster"),
        (("mux", "--model", "hybrid", "--store", "/dev/null/x"), "choose another place"),
        (("mux", "--model", "imaginary"), "invalid choice"),
        (("mux", "--against", "simulator"), "add --model hybrid"),
        (("reveal", "--against", "simulator", "--model", "hybrid"), "no privacy certificate"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    err = capsys.readouterr().err.strip()
    assert told in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_real_views_are_not_told_from_the_certificates_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("linear", "--model", "hybrid", "--against", "simulator", "--runs", "400", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [v["verdict"] for v in told["verdicts"]] == [NO_LEAK, NO_LEAK]
    client, server = told["verdicts"]
    assert client["power"]["found"] == client["power"]["planted"] > 0, client["faults"]
    assert all(name.startswith("simulator of ") for name in client["faults"]["found"])
    assert server["power"] is None  # it receives ciphertexts alone, in which a simulator can get nothing wrong


@dataclass(frozen=True)
class Careless:
    """A simulator that forgets the highest bit of what it makes up."""

    careful: CertifiedSimulator

    @property
    def draws(self) -> Mapping[str, Spec]:
        return self.careful.draws

    def __call__(self, inputs: Any, draws: Any, tape: Any) -> list[Told]:
        made = self.careful(inputs, draws, tape)
        return [
            (label, depth, spec, None if x is None else x.field(0, x.ring.l - 1).cast(x.ring))
            for label, depth, spec, x in made
        ]


@pytest.mark.slow
def test_a_bad_simulator_is_told_from_the_real_view() -> None:
    target = Target("linear", "8 to 5")
    careless = Careless(CertifiedSimulator(target, CLIENT))
    sampler = AgainstSimulator(target, CLIENT, HYBRID, "1", simulate=careless)
    (verdict,) = audit([sampler], 240, Campaign(240).gather).verdicts
    assert verdict.kind == LEAK
    assert verdict.leak is not None and verdict.leak.label.startswith("received linear/h2a/ct")


def test_every_analyser_has_a_name_of_its_own() -> None:
    assert len({a.name for a in ANALYSERS}) == len(ANALYSERS)
    views = Sampler(Target("b2a", "2"), CLIENT, HYBRID, "n").block(0, 160)
    assert all(smallest(a, views["first"], views["again"]) > 1e-6 for a in ANALYSERS)
    assert isinstance(Test(np.ones(1), np.zeros(1), np.ones(1, bool)).p, np.ndarray)


@pytest.mark.nightly
def test_the_catalog_is_clean_as_one_family() -> None:
    samplers = [
        Sampler(target, role, HYBRID, "nightly")
        for target in targets(None)
        for role in audited_roles(target.resolve()[1])
    ]
    found = audit(samplers, 2000, Campaign(2000).gather, declared=_declared)
    for verdict in found.verdicts:
        sampler = verdict.examined.sampler
        assert (verdict.kind == DECLARED) == _told(sampler) and verdict.kind in (DECLARED, NO_LEAK), verdict


def _told(sampler: Sampler) -> bool:
    """Whether this party learns something by design: of `reveal_to` its receiver alone, of an answer the client."""
    entry, case = sampler.target.resolve()
    if entry.name in ("reveal_to", "encoder", "next_token"):
        return sampler.corrupted is (case.leading[0] if entry.name == "reveal_to" else CLIENT)
    return entry.status == DECLARES


@pytest.mark.nightly
def test_500_audits_of_a_class_against_itself_raise_no_more_alarms_than_the_level_allows() -> None:
    alarms = 0
    for i in range(500):
        (verdict,) = audit(
            [Sampler(Target("b2a", "2"), CLIENT, HYBRID, f"null {i}")], 400, Campaign(400).gather
        ).verdicts
        alarms += verdict.examined.null_p <= threshold(0.05, verdict.examined.null_tested)
    assert binomial_interval(alarms, 500, 0.99)[0] <= 0.05
