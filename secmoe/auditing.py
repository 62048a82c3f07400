"""`secmoe audit`: does a view depend on the honest party's secrets, and what would have been seen if it did?"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from secmoe.audit_report import after_audit, audited_targets
from secmoe.below import audit_below, fault_below
from secmoe.examining import Examination, examined, lines, with_session
from secmoe.exit import FAILED, SUCCESS
from secmoe.inputs import RUNS
from secmoe.progress import Blocks
from secmoe.simulation import CertifiedSimulator, simulator_power
from sim.ring import SecretControlFlow
from sim.role import CLIENT
from transcripts.audit import audit, require_runs
from transcripts.campaign import Campaign, Inline, Store
from transcripts.power import Bench, Power, measure
from transcripts.sampling import HYBRID, REAL, RunFailed, Sampler
from transcripts.show import open_console
from transcripts.simulated import AgainstSimulator
from transcripts.targets import PLANTED, Target, audited_roles, honest_secrets
from transcripts.verdicts import INCONCLUSIVE, NO_LEAK, Audited, Verdict, to_json

WORKERS_FROM = 4000  # runs of the whole audit below which processes are not worth their start
ENOUGH = 0.95
MOST_WORKERS = 1024
RUNS_OF_A_CASE, SHAPE_RUNS = 2000, 520
EXPERTS, SIMULATOR = "experts", "simulator"


class NoSimulator(ValueError):
    """What is to be audited has no certificate that a simulator could be taken from."""


class TooManyWorkers(ValueError):
    """More processes than one machine is asked for."""


class BadCluster(ValueError):
    """No cluster answers at this address, or there is no client for it."""


def run_audit(options: argparse.Namespace) -> int:
    """Audit one protocol or all; exit 1 unless every verdict is NO LEAK FOUND."""
    _defaults(options)
    require_runs(options.runs)
    planted = fault_below(options.protocol)
    if planted is not None:
        return audit_below(planted, options)
    chosen = audited_targets(options)
    samplers = _samplers(options, chosen)
    try:
        audited, powers, sessions = _audited(options, samplers)
    except RunFailed as error:
        if SecretControlFlow.__name__ not in str(error):
            raise
        print(f"LEAK: {samplers[0].target} branches on a secret, which every interpretation refuses to run")
        return FAILED
    verdicts = tuple(
        with_session(_with_power(v, powers.get(i)), sessions.get(v.examined.sampler.target))
        for i, v in enumerate(audited.verdicts)
    )
    audited = replace(audited, verdicts=verdicts)
    untouched = [t for t in chosen if t not in {s.target for s in samplers}]
    after_audit(options, audited, powers, untouched, sessions)
    _print(options, audited, powers, untouched, sessions)
    leaking = any(session.leaks for session in sessions.values())
    return SUCCESS if audited.clean and not leaking else FAILED


def _defaults(options: argparse.Namespace) -> None:
    """What was left open: of a recorded shape, larger than any case of the catalog, as many hybrid runs as show a shift
    of one standard deviation and all planted faults."""
    runs, model = (SHAPE_RUNS, HYBRID) if options.run is not None else (RUNS_OF_A_CASE, REAL)
    options.runs = runs if options.runs is None else options.runs
    options.model = options.model or model


def _audited(
    options: argparse.Namespace, samplers: Sequence[Sampler]
) -> tuple[Audited, dict[int, Power], dict[Target, Examination]]:
    with executor(options, len(samplers) * options.runs) as workers, Blocks() as progress:
        store = Store(Path(options.store) if options.store else None)
        notes = _notes()
        try:
            sessions = _sessions(options, samplers, workers)
            campaign = Campaign(options.runs, workers, store, told=progress.told("audit"))
            audited = audit(samplers, options.runs, campaign.gather, secrets=_secret, declared=_declared)
            powers: dict[int, Power] = {}
            if not (options.protocol or "").startswith(PLANTED) and not options.no_power:
                bench = Bench(
                    options.runs,
                    _round_up(audited.family),
                    executor=workers,
                    store=store,
                    notes=notes,
                    told=progress.told("power"),
                )
                powers = {
                    i: _power(v.examined.sampler, bench) for i, v in enumerate(audited.verdicts) if v.kind == NO_LEAK
                }
            found = {target: session.result() for target, session in sessions.items()}
        finally:
            store.close()
            notes.close()
    return audited, powers, {target: examination for target, examination in found.items() if examination is not None}


def _sessions(
    options: argparse.Namespace, samplers: Sequence[Sampler], workers: Executor
) -> dict[Target, Future[Examination | None]]:
    """One real session of every target with a homomorphic layer: beside real runs, and beside a recorded shape."""
    planted = (options.protocol or "").startswith(PLANTED)
    if planted or options.against != EXPERTS or (options.model == HYBRID and options.run is None):
        return {}
    every = dict.fromkeys(sampler.target for sampler in samplers)
    return {target: workers.submit(examined, target, str(options.seed), options.run is not None) for target in every}


def _power(sampler: Sampler, bench: Bench) -> Power:
    return simulator_power(sampler, bench) if isinstance(sampler, AgainstSimulator) else measure(sampler, bench)


def _notes() -> Store:
    """Figures of power, remembered beside the transcripts for as long as the program does not change."""
    RUNS.mkdir(exist_ok=True)
    return Store(RUNS / "audit-power.sqlite")


def _samplers(options: argparse.Namespace, chosen: Sequence[Target]) -> list[Sampler]:
    """One experiment per case and party that has something to learn, or that has a certified simulator."""
    pairs = [(target, role) for target in chosen for role in audited_roles(target.resolve()[1])]
    seed = str(options.seed)
    if options.against == EXPERTS:
        return [Sampler(target, role, options.model, seed) for target, role in pairs]
    if options.model != HYBRID:
        raise NoSimulator(
            "--against simulator: a certificate's simulator makes up views with ideal OT and HE; what stands for them "
            "on real bytes is assumed, not simulated; add --model hybrid"
        )
    simulators = [CertifiedSimulator(target, role) for target, role in pairs]
    found = [AgainstSimulator(s.target, s.corrupted, HYBRID, seed, simulate=s) for s in simulators if s.exists]
    if not found:
        raise NoSimulator(f"{options.protocol}: no privacy certificate, so no simulator; use --against experts")
    return list(found)


def _round_up(family: int) -> int:
    """The next power of two: figures of power are remembered for families of about one size."""
    return 1 << max(family - 1, 1).bit_length()


def _with_power(verdict: Verdict, power: Power | None) -> Verdict:
    if power is None or not power.counts[1]:
        return verdict
    found, planted = power.counts
    verdict = replace(verdict, power=power.counts)
    if found >= ENOUGH * planted:
        return verdict
    advice = f"planted faults were missed ({power.missed[0]}); use --runs {4 * verdict.examined.runs}"
    return replace(verdict, kind=INCONCLUSIVE, advice=advice)


def _secret(sampler: Sampler) -> str:
    """What varies, in words."""
    if isinstance(sampler, AgainstSimulator):
        return "all inputs, against the simulator of the certificate"
    _, case = sampler.target.resolve()
    owned, shared, weights = 0, 0, 0
    for i in honest_secrets(case, sampler.corrupted):
        secret = case.secrets[i]
        weights += secret.weight
        owned += secret.owner is not None and not secret.weight
        shared += secret.owner is None
    parts = [
        f"{count} {name}{'s' if count > 1 else ''}"
        for count, name in (
            (shared, "shared value"),
            (owned, f"{sampler.corrupted.peer.value} input"),
            (weights, "weight"),
        )
        if count
    ]
    routed = ", every route" if sampler.classes().routed else ""
    return " and ".join(parts) + routed


def _declared(sampler: Sampler) -> bool:
    """Whether the functionality hands the value itself to this party, or says that it leaks to it."""
    entry, _ = sampler.target.resolve()
    told = entry.realises.leaks_client if sampler.corrupted is CLIENT else entry.realises.leaks_server
    return entry.opened or bool(told) or entry.realises.leaks_route


@contextmanager
def executor(options: argparse.Namespace, runs: int) -> Iterator[Executor]:
    """Who does the work: a cluster, a pool of processes, or this process for small audits."""
    if options.cluster:
        with _cluster(options.cluster) as workers:
            yield workers
        return
    count = options.workers if options.workers is not None else (os.cpu_count() or 1 if runs >= WORKERS_FROM else 1)
    if count > MOST_WORKERS:
        raise TooManyWorkers(f"--workers: expected at most {MOST_WORKERS} processes, got {count}; use --cluster")
    if count <= 1:
        yield Inline()
        return
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise BadCluster("--cluster: needs the extra `cluster` (dask.distributed); install it") from error
    try:
        make: Any = Client
        client = make(address, timeout="5s")
    except Exception as error:  # distributed raises OSError, ValueError, TypeError or its own, by the address
        raise BadCluster(f"--cluster: expected the address of a scheduler, tcp://HOST:PORT, got {address!r}") from error
    try:
        yield client.get_executor()
    finally:
        client.close()


def _print(
    options: argparse.Namespace,
    audited: Audited,
    powers: dict[int, Power],
    untouched: list[Target],
    sessions: dict[Target, Examination],
) -> None:
    if options.json:
        told = to_json(audited)
        for i, power in powers.items():
            told["verdicts"][i]["faults"] = {"found": power.found, "missed": power.missed}
        told["sessions"] = {str(target): examination.to_json() for target, examination in sessions.items()}
        print(json.dumps({**told, "without_secret": [str(t) for t in untouched]}))
        return
    console = open_console()
    for verdict in audited.verdicts:
        console.print(Text(str(verdict)), soft_wrap=True)
    for line in lines(sessions):
        console.print(Text(line), soft_wrap=True)
    for target in untouched:
        console.print(
            Text(f"not audited: {target} ({'no secret' if options.against == EXPERTS else 'no certificate'})")
        )
    alarms, count = audited.nulls
    console.print(
        Text(
            f"{count} audits, one family of {audited.family} tests at level {audited.level:g}; "
            f"{alarms} of {count} audits of a class against itself raised an alarm"
        )
    )
    console.print(Text("a pass shows that these tests found nothing with these runs; it is no proof (secmoe prove)"))
