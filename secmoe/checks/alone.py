"""Isolation and replay: each party alone, from nothing but its inputs, its tape and what it received.

Replay repeats a recorded run from its transcript, each party by itself, and compares every byte sent and every draw.
Isolation does the same in a new process per party, which never held an object of the peer: what a text reads from
globals, closures or caches that its peer filled is not there.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from protocols.entry import Case, Entry
from secmoe.checks.outcome import FAILED, TESTED, Outcome, Subject, broken, shapes
from secmoe.declared import declaration
from secmoe.examples import Example, adjusted, arguments, both
from sim.role import CLIENT, SERVER, Role
from sim.world import Service, Session
from transcripts.classes import draw, generator
from transcripts.ordinary import REAL, services_of
from transcripts.private import PrivateSide, private_path
from transcripts.record import Recorder
from transcripts.replay import Repeat, Start, replay
from transcripts.store import Transcript

NAME = "run.secmoe"
Again = Callable[[Subject, list[Path]], str | None]  # the recorded runs of the cases, in order -> what differs


def isolation(subject: Subject) -> Outcome:
    """Each party alone, in a process of its own, sends the same bytes."""
    advice = "a party has its inputs, p.draw and what it received: look for globals, caches, clocks, other randomness"
    return _outcome("isolation", "each party in a process of its own", _in_processes, subject, advice)


def replayed(subject: Subject) -> Outcome:
    """Each party alone, repeated from the transcript of a run, sends the same bytes and draws the same words."""
    advice = "the text is no function of inputs, tape and messages: look for randomness that is not from p.draw"
    return _outcome("replay", "each party from its private side and the transcript", _in_this_process, subject, advice)


def _outcome(check: str, how: str, again: Again, subject: Subject, advice: str) -> Outcome:
    entry = subject.entry
    about = f"{how}, real cryptography; {shapes(entry.cases)}"
    with tempfile.TemporaryDirectory(prefix="secmoe-check-") as folder:
        try:
            paths = [recorded(entry, case, Path(folder) / str(i)) for i, case in enumerate(entry.cases)]
            problem = again(subject, paths)
        except Exception as error:
            return broken(check, about, entry, error)
    return Outcome(check, FAILED, about, problem, advice) if problem else Outcome(check, TESTED, about)


def example(case: Case, seed: str) -> Example:
    """Reproducible values of the declared ranges, and shares."""
    rng = generator(seed, case.name)
    values = adjusted(case, [draw(secret, rng, 1)[0] for secret in case.secrets])
    masks = [rng.integers(0, s.ring.mask, s.shape, np.uint64, endpoint=True) for s in case.secrets]
    return Example(values, tuple(masks))


def recorded(entry: Entry, case: Case, folder: Path) -> Path:
    """The transcript of one real run in a new folder, both private sides beside it."""
    folder.mkdir()
    given = example(case, "alone")
    session = Session(services_of(case.plans, REAL))
    client, server = both(case, given, getattr(session.services[-1], "prepare", None))
    execution = session.run(entry.proto, client, server, **case.public)
    sides = [
        PrivateSide(role, end.tape.key, given.held(case, role), dict(end.tape.draws))
        for role, end in session.endpoints.items()
    ]
    with Recorder(folder / NAME, {"protocol": entry.name, "case": case.name}, seeded=False) as recorder:
        recorder.add(session.setup)
        recorder.add(execution)
        recorder.seal(sides)
    return folder / NAME


def difference(entry: Entry, case: Case, path: Path, *roles: Role) -> str | None:
    """None, or where a party that is repeated alone leaves the record."""
    services = services_of(case.plans, REAL)

    def rebuild(public: Mapping[str, object]) -> Repeat:
        return lambda start, side: _repeat(entry, case, services, start, side)

    with Transcript(path) as transcript:
        first = replay(transcript, rebuild, roles).first
    return None if first is None else f"{case.name}: {first}"


def _repeat(entry: Entry, case: Case, services: tuple[Service, ...], start: Start, side: PrivateSide) -> None:
    session = start(services)
    prepare = getattr(services[-1], "prepare", None)
    given: dict[Role, list[Any]] = {
        role: arguments(case, role, dict(side.arrays) if role is side.role else None, prepare) for role in Role
    }
    session.run(entry.proto, given[CLIENT], given[SERVER], **case.public)


def _in_this_process(subject: Subject, paths: list[Path]) -> str | None:
    cases = zip(subject.entry.cases, paths, strict=True)
    found = (difference(subject.entry, case, path, *Role) for case, path in cases)
    return next((problem for problem in found if problem), None)


def _in_processes(subject: Subject, paths: list[Path]) -> str | None:
    """One process per party; in its folders lie the transcripts and its own private sides."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(Role), context, max_tasks_per_child=1) as pool:
        running = [pool.submit(_one_party, subject.what, role, _shown_to(role, paths)) for role in Role]
        try:
            found = [future.result() for future in running]
        except BrokenProcessPool:
            return "the process of a party died"
    return next((problem for problem in found if problem), None)


def _shown_to(role: Role, paths: list[Path]) -> list[Path]:
    shown = []
    for path in paths:
        folder = path.parent / role.value
        folder.mkdir()
        shutil.copy(path, folder)
        shutil.move(private_path(path, role), folder)
        shown.append(folder / path.name)
    return shown


def _one_party(what: str, role: Role, paths: list[Path]) -> str | None:
    """Body of a party's process."""
    entry = declaration(what)
    found = (difference(entry, case, path, role) for case, path in zip(entry.cases, paths, strict=True))
    return next((problem for problem in found if problem), None)
