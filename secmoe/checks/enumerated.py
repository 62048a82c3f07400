"""Exact enumeration of tiny instances: all inputs and all tapes, so every output and the whole law of every view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from proofs.composed import Composed
from proofs.enumerate import LIMIT, Joint, TooManyLanes
from proofs.instances import Instance, signed
from protocols.entry import DECLARED, Case, Entry
from secmoe.checks.outcome import (
    FAILED,
    LEAK,
    LISTED,
    PROVED,
    REFUTED,
    Outcome,
    Subject,
    broken,
    raised,
    shapes,
)
from secmoe.checks.tiny import instances
from sim.ring import SecretControlFlow
from sim.role import Role

CHECK = "enumeration"
FIT = "give a call that fits 22 bits of input and tape: Entry(..., tiny=(Case(...),))"
SHRUNK_LIMIT = 20  # bits of input and tape of an instance that nobody asked for


def enumeration(subject: Subject) -> Outcome:
    """All inputs and tapes: every output right, and one law of each view for all secrets.

    Every tiny call that the entry gives is enumerated; without one, the first shrunk case that runs, is right and fits.
    """
    entry = subject.entry
    if not entry.tiny:
        return _shrunk(subject)
    outcomes = []
    for case in entry.tiny:
        try:
            outcomes.append(_enumerated(subject, case))
        except TooManyLanes as error:
            return Outcome(CHECK, FAILED, "hybrid model", str(error), FIT)
        except Exception as error:
            return broken(CHECK, f"hybrid model, {case.name}", entry, error)
        if not outcomes[-1].holds:
            return outcomes[-1]
    return replace(outcomes[0], about="; ".join(outcome.about for outcome in outcomes))


def _shrunk(subject: Subject) -> Outcome:
    tried = "homomorphic encryption has no tiny form that could be guessed"
    for case in instances(subject.entry):
        try:
            outcome = _enumerated(subject, case)
        except TooManyLanes as error:
            tried = str(error)
        except SecretControlFlow as error:
            return broken(CHECK, f"hybrid model, {case.name}", subject.entry, error)
        except Exception as error:
            tried = f"{case.name}: {raised(subject.entry, error)}"
        else:
            if outcome.verdict != REFUTED:
                return outcome
            tried = f"{case.name}: {outcome.detail}"  # shrinking may have broken a precondition
    return Outcome(CHECK, LISTED, "hybrid model", tried, FIT)


def _enumerated(subject: Subject, case: Case) -> Outcome:
    entry = replace(subject.entry, cases=(case,))
    joint, callees = _joint(entry, case)
    lanes = f"2^{joint.bits} runs = all inputs and tapes{callees}"
    about = f"hybrid model, {shapes([case])}, {lanes}"
    if entry.relation is None and not entry.difference:
        problem = _not_right(Instance(entry, case, exact=True), joint)
        if problem is not None:
            return Outcome(CHECK, REFUTED, about, problem, "the text computes something else: run it on this input")
    laws = [joint.law(role) for role in Role]
    leaks = [f"corrupted {law.role.value}, distance {law.distance}: {law.leak}" for law in laws if law.leak]
    if not leaks:
        return Outcome(CHECK, PROVED, f"{about}: total variation distance 0")
    if subject.declares:
        return Outcome(CHECK, DECLARED, about, leaks[0])
    return Outcome(CHECK, LEAK, about, leaks[0], "mask that message, or declare what it tells")


def _joint(entry: Entry, case: Case) -> tuple[Joint, str]:
    """All runs; where they are too many, all runs around callees that are functionalities."""
    limit = LIMIT if entry.tiny else SHRUNK_LIMIT
    try:
        return Joint(entry.proto, case, limit), ""
    except TooManyLanes:
        return Composed(entry.proto, case, limit), ", callees ideal"


def _not_right(instance: Instance, joint: Joint) -> str | None:
    """An input inside the declared ranges on which some tape gives a wrong output, or None."""
    good = instance.right((joint.execution, len(joint.lane)))
    values = _values(instance)
    inside = np.ones(len(good), dtype=bool)
    for secret, value in zip(instance.case.secrets, values, strict=True):
        low, high = secret.range
        inside &= ((value >= low) & (value <= high)).reshape(-1, len(good)).all(axis=0)
    bad = np.flatnonzero(inside & ~good)
    if not len(bad):
        return None
    lane = int(bad[0])
    told = ", ".join(f"x{i} = {v[..., lane].reshape(-1).tolist()}" for i, v in enumerate(values))
    return f"wrong outputs for {len(bad)} of {int(inside.sum())} inputs, the first {told}"


def _values(instance: Instance) -> list[NDArray[np.int64]]:
    """The secrets of every input lane, signed, lanes last."""
    given, _, count = instance.lanes
    found = []
    for i, secret in enumerate(instance.case.secrets):
        name = f"{'w' if secret.weight else 'x'}{i}"
        parts = [words.astype(np.uint64) for (_, key), words in given.items() if key == name]
        total = np.zeros((*secret.shape, count), np.uint64)
        for part in parts:
            total = total + part
        found.append(signed(total & np.uint64(secret.ring.mask), secret.ring.l))
    return found
