"""The cost: declared closed form, shapes interpretation and wire, with no tolerance."""

from __future__ import annotations

from typing import Any

from protocols.entry import Case, Entry, declared_cost
from secmoe.checks.outcome import FAILED, TESTED, Outcome, Subject, broken, shapes
from secmoe.examples import both, zeros
from sim.cost import Cost
from sim.role import CLIENT, Role
from sim.world import Session
from transcripts.ordinary import REAL, services_of

FIGURES = (
    "bytes to the server",
    "bytes to the client",
    "messages",
    "COTs to the client",
    "COTs to the server",
    "rounds",
)


def cost(subject: Subject) -> Outcome:
    """The same bytes, messages, correlated transfers and rounds in all three."""
    entry = subject.entry
    closed = entry.proto.cost is not None
    about = f"{'closed form = ' if closed else ''}shapes = wire; {shapes(entry.cases)}"
    for case in entry.cases:
        try:
            problem = _differs(entry, case)
        except Exception as error:
            return broken("cost", about, entry, error, case.name)
        if problem is not None:
            advice = "write the closed form from the text, call by call; message sizes may depend on shapes only"
            return Outcome("cost", FAILED, about, f"{case.name}: {problem}", advice)
    detail = "" if closed else "no closed form is declared"
    advice = "" if closed else "@protocol(cost=...): a function of the same arguments"
    return Outcome("cost", TESTED, about, detail, advice)


def _differs(entry: Entry, case: Case) -> str | None:
    session = Session(services_of(case.plans, REAL))
    client, server = both(case, zeros(case), getattr(session.services[-1], "prepare", None))
    priced = session.price(entry.proto, client, server, **case.public)
    if entry.proto.cost is not None:
        problem = _row_differs(declared_cost(entry, case), priced.cost)
        if problem is not None:
            return problem
    execution = session.run(entry.proto, client, server, **case.public)
    sent = execution.scope(f"{execution.prefix}/{entry.name}")
    ours, theirs = (
        sorted((m.sender.value, m.label.partition("/")[2], m.spec.nbytes) for m in messages)
        for messages in (sent, priced.messages)
    )
    if ours != theirs:
        (sender, label, nbytes), *_ = [m for m in ours if m not in theirs] or [m for m in theirs if m not in ours]
        return f"{sender}'s {label} of {nbytes} bytes is on the wire or in the shapes run only"
    for role in Role:
        wire = sum(len(m.payload or b"") for m in sent if m.sender is role)
        want = priced.cost.c2s if role is CLIENT else priced.cost.s2c
        if wire != want:
            return f"{role.value} sent {wire} bytes, the shapes run says {want}"
    return None


def _row_differs(declared: Cost, priced: Cost) -> str | None:
    pairs: list[tuple[str, Any, Any]] = list(zip(FIGURES, declared.row(), priced.row(), strict=True))
    told = [f"{name}: declared {a}, priced {b}" for name, a, b in pairs if a != b]
    return "; ".join(told) or None
