"""Audits: does a corrupted party's view depend on its peer's secrets, in many runs?"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.entry import Case
from secmoe.checks.outcome import LISTED, Outcome, Subject, broken, shapes
from secmoe.declared import target
from secmoe.examples import both, zeros
from sim.world import Session
from transcripts.audit import audit
from transcripts.campaign import Campaign
from transcripts.ordinary import HYBRID, REAL, Model, services_of
from transcripts.sampling import RunFailed, Sampler
from transcripts.targets import audited_roles
from transcripts.verdicts import DECLARED, INCONCLUSIVE, LEAK, NO_LEAK

SEED = "check"
NEXT = {
    LEAK: "find that message in the text: a fresh draw, used once, has to hide what it is computed from",
    DECLARED: "a declared leak is never green: return shares instead, or live with what the functionality says",
}
WORST = (LEAK, DECLARED, INCONCLUSIVE, NO_LEAK)


def hybrid(subject: Subject) -> Outcome:
    """Every case with ideal oblivious transfer and encryption: the text alone."""
    return _audited(subject, HYBRID, subject.entry.cases)


def real(subject: Subject) -> Outcome:
    """The first case on real bytes, where there are kernels below the text; else there is nothing more to see."""
    try:
        below = _has_kernels(subject)
    except Exception as error:
        return broken(_name(REAL), "real model", subject.entry, error)
    if not below:
        return Outcome(_name(REAL), LISTED, "real model", "no kernel below the text: hybrid runs are real ones")
    return _audited(subject, REAL, subject.entry.cases[:1])


def _name(model: Model) -> str:
    return f"audit, {model}"


def _has_kernels(subject: Subject) -> bool:
    """Whether the protocol uses correlations or homomorphic encryption."""
    case = subject.entry.cases[0]
    if case.plans:
        return True
    session = Session(services_of((), HYBRID), seed=b"", hybrid=True)
    client, server = both(case, zeros(case))
    return bool(session.price(subject.entry.proto, client, server, **case.public).reserved)


def _audited(subject: Subject, model: Model, cases: Sequence[Case]) -> Outcome:
    check = _name(model)
    samplers = [
        Sampler(target(subject.what, case), role, model, SEED) for case in cases for role in audited_roles(case)
    ]
    about = f"{model} model, n = {subject.runs} per corrupted party; {shapes(cases)}"
    if not samplers:
        return Outcome(check, LISTED, about, "no party has a secret of its peer to learn")
    campaign = Campaign(subject.runs)
    try:
        audited = audit(samplers, subject.runs, campaign.gather, declared=lambda _: subject.declares)
    except RunFailed as error:
        return broken(check, about, subject.entry, error.__cause__ or error)
    finally:
        campaign.store.close()
    worst = min(audited.verdicts, key=lambda v: WORST.index(v.kind))
    if worst.kind == NO_LEAK:
        effect = max(v.effect for v in audited.verdicts)
        return Outcome(check, NO_LEAK, f"{about}; smallest effect found {effect:.2g} sd over {audited.family} tests")
    sampler = worst.examined.sampler
    where = f"{sampler.target.case}, corrupted {sampler.corrupted.value}{f': {worst.leak}' if worst.leak else ''}"
    return Outcome(check, worst.kind, about, where, worst.advice or NEXT[worst.kind])
