"""Whole sessions on real bytes, and every analyser that looks below the views: lattice, reuse, parameters.

The runs of a session have the same inputs, shares included, and fresh randomness: what repeats is not random. A second
session has one party's tape again and another tape of its peer: what repeats there is not the peer's randomness. All
analysers are exact or have a stated level; none of them compares secrets, so they complement an audit of views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.broken import FAULTS
from protocols.entry import Case, Entry
from protocols.he.interface import Plan
from protocols.he.packing import LinearPlan
from protocols.he.service import HeService
from protocols.ot.service import OtService
from sim.concrete import from_words, to_words
from sim.message import Message
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.tape import derive_key
from sim.world import Execution, Service, Session
from transcripts.answers import evidence_of, watched
from transcripts.classes import Inputs, arguments, draw, generator
from transcripts.finding import Finding
from transcripts.lattice import columns, keys, noise, randomisers, security, words
from transcripts.lattice.evidence import Evidence, Run
from transcripts.reuse import fixed_differences, repeated_blocks, same_in_two_sessions, same_secrets, shown_draws
from transcripts.targets import PLANTED, Target
from transcripts.tweaks import Ledger, correlations, hashed, tweaks, watch

BUDGET = 2.0**-16  # of a session under observation: it answers more often than one that is meant to protect weights
LATTICE, REUSE, PARAMETERS = "lattice", "reuse", "parameters"
Services = Callable[[tuple[Plan, ...]], tuple[Service, ...]]


def honest(plans: tuple[Plan, ...]) -> tuple[Service, ...]:
    """The real services."""
    return (OtService(), HeService(plans, BUDGET)) if plans else (OtService(),)


@dataclass(frozen=True)
class Observed:
    """A session and its runs, all on the same inputs. others: runs in it on other inputs.

    uploads: the homomorphic layer with all its uploads. answers: one complete evidence for every plan and matrix of the
    server's (where one plan serves the whole protocol, `uploads` is that as well); `others`' answers beside them.
    """

    session: Session
    executions: tuple[Execution, ...]
    others: tuple[Execution, ...]
    uploads: tuple[Evidence, ...]
    answers: tuple[Evidence, ...]
    answers_of_others: tuple[Evidence, ...]
    ledgers: list[Ledger]

    @property
    def evidence(self) -> Evidence | None:
        """The homomorphic layer where one plan serves the whole protocol."""
        return self.answers[0] if self.uploads and self.uploads == self.answers else None

    @property
    def messages(self) -> list[Message]:
        """Everything that crossed the wire, set-up first."""
        return [m for e in (self.session.setup, *self.executions, *self.others) for m in e.messages]

    @property
    def secrets(self) -> dict[str, bytes]:
        """Private values of the session, by name."""
        found: dict[str, bytes] = {}
        for role, endpoint in self.session.endpoints.items():
            if role is CLIENT and "he" in endpoint.states:
                found["the client's secret key"] = _secret_key(self.session).tobytes()
            for receiver, pool in (endpoint.states["ot"].pools if "ot" in endpoint.states else {}).items():
                if pool.delta is not None:
                    found[f"{role.value}'s correlation in the direction to the {receiver.value}"] = pool.delta.tobytes()
        return found


def _secret_key(session: Session) -> Any:
    """The coefficients of the client's key, from its private side."""
    return session.endpoints[CLIENT].states["he"].keys.secret.coefficients


def observe(
    entry: Entry,
    case: Case,
    services: Services,
    runs: int,
    seed: str,
    tapes: Mapping[Role, str] | None = None,
    others: int = 0,
) -> Observed:
    """`runs` runs in one session on the same inputs, then `others` on other inputs. The seed decides the inputs and,
    where `tapes` does not, each party's tape.
    """
    names = {role: (tapes or {}).get(role, seed) for role in Role}
    engines = services(case.plans)
    session = Session(engines, keys={role: derive_key(name.encode(), role.value) for role, name in names.items()})
    ledgers = watch(session) if "ot" in session.endpoints[CLIENT].states else []
    executions, (server, weights), answers = _runs(entry, case, session, engines[-1], runs, seed, "session")
    again, _, more = _runs(entry, case, session, engines[-1], others, seed, "other inputs")
    if not case.plans:
        return Observed(session, executions, again, (), (), (), ledgers)
    setup, secret = session.setup.messages, _secret_key(session)
    (plan, *further) = case.plans
    if not further and len(weights) == 1 and _uploaded(plan, server[0]):
        own = {"x": to_words(server[0])[None]}
        if not isinstance(plan, LinearPlan):
            own = {"t": to_words(server[0]), "x": to_words(server[1])}
        whole = (Evidence(plan, setup, [Run(e.messages, own) for e in executions], secret, weights[0]),)
        return Observed(session, executions, again, whole, whole, tuple(more), ledgers)
    kept = [[m for m in e.messages if getattr(m.spec, "kind", "") == "ciphertexts"] for e in executions]
    uploads = Evidence(case.plans[0], setup, [Run(messages) for messages in kept], secret, plans=case.plans)
    return Observed(session, executions, again, (uploads,), tuple(answers), tuple(more), ledgers)


def _uploaded(plan: Plan, share: RingArray | None) -> bool:
    """Whether this argument of the server's is its share of what the plan multiplies, as it is."""
    return share is not None and (not isinstance(plan, LinearPlan) or share.shape == plan.operand("x").shape)


def _runs(
    entry: Entry, case: Case, session: Session, engine: Any, runs: int, seed: str, which: str
) -> tuple[tuple[Execution, ...], tuple[Sequence[Any], list[Any]], list[Evidence]]:
    """Runs on inputs of their own: the executions, (the server's arguments, its weights), the server's answers."""
    rng = generator(seed, entry.name, case.name, which)
    values = [draw(secret, rng, 1)[0] for secret in case.secrets]
    values = list(values if case.adjust is None else case.adjust(values))
    masks = [rng.integers(0, s.ring.mask, (1, *s.shape), np.uint64, endpoint=True) for s in case.secrets]
    given = Inputs(tuple(np.asarray(v)[None] for v in values), tuple(masks))
    if not case.plans:
        client, server, _ = arguments(case, given, from_words, None, 0)
        return tuple(session.run(entry.proto, client, server, **case.public) for _ in range(runs)), (server, []), []
    with watched(session) as notes:
        client, server, _ = arguments(case, given, from_words, notes.preparing(engine.prepare), 0)
        executions = tuple(session.run(entry.proto, client, server, **case.public) for _ in range(runs))
    weights = [v for secret, v in zip(case.secrets, values, strict=True) if secret.weight]
    answers = evidence_of(notes, case.plans, session, executions, _secret_key(session))
    return executions, (server, weights), list(answers)


def examine(
    entry: Entry, case: Case, runs: int, seed: str, services: Services = honest, others: int = 0
) -> dict[str, list[Finding]]:
    """What every analyser says of a session, by detector. runs: two at least, or differences are not tested.

    others: further runs on other inputs, whose decrypted noise and a-parts are compared with the first ones'.
    """
    one = observe(entry, case, services, runs, seed, others=others)
    found: dict[str, list[Finding]] = {LATTICE: [], REUSE: _reuse(entry, case, services, one, seed), PARAMETERS: []}
    if case.plans:
        found[PARAMETERS].append(security.parameters(case.plans[0].params))
    for part in one.uploads:
        found[LATTICE] += keys.analyse(part)
    for part in one.answers:
        for analyser in (noise, randomisers, words):
            found[LATTICE] += analyser.analyse(part)
    if len(one.answers) > 1:
        found[LATTICE].append(noise.law(*one.answers))  # pooled: a small product alone has too few outputs for it
    if one.answers_of_others:
        found[LATTICE] += columns.compared(one.answers, one.answers_of_others)
    return found


def examine_target(target: Target, runs: int, seed: str) -> dict[str, list[Finding]]:
    """`examine` of what an audit names: a fault below the interfaces runs with its own services, all else with the real
    ones.
    """
    entry, case = target.resolve()
    planted = {PLANTED + fault.name: fault.services for fault in FAULTS if fault.services is not None}
    return examine(entry, case, runs, seed, planted.get(target.protocol, honest))


def _reuse(entry: Entry, case: Case, services: Services, one: Observed, seed: str) -> list[Finding]:
    tapes = {role: one.session.endpoints[role].tape for role in Role}
    found = [
        repeated_blocks(one.messages),
        fixed_differences([e.messages for e in one.executions]),
        shown_draws(one.messages, tapes),
    ]
    if one.ledgers:
        found += [tweaks(one.ledgers), correlations(one.ledgers), hashed(one.ledgers, list(one.executions))]
    for role in Role:
        two = observe(entry, case, services, min(2, len(one.executions)), seed, {role: f"{seed}, again"})
        found.append(same_in_two_sessions(one.messages, two.messages, role))
        for part, again in zip(one.answers, two.answers, strict=True):
            if role is SERVER:
                found.append(noise.shared(part, again))
                found += [randomisers.shared(part, again)] if part.complete else []
    other = observe(entry, case, services, 1, seed, {role: f"{seed}, other" for role in Role})
    found.append(same_secrets(one.secrets, other.secrets))
    return found


def leaks(found: Mapping[str, Sequence[Finding]]) -> list[tuple[str, Finding]]:
    """The findings that are leaks, with their detector."""
    return [(name, finding) for name, findings in found.items() for finding in findings if finding.leak]
