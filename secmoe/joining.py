"""`secmoe join`: the records of both sides of one session, made into the transcript of the session.

Each side has written what it sent and what it received. Where the two agree on every byte, the joined transcript is the
one that a run of both parties in one process writes for the same tape keys: same messages, same digest, same seal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from secmoe.conversing import SIDE
from sim.role import CLIENT, SERVER, Role
from sim.wire import describe
from sim.world import Execution
from transcripts.facts import UNFINISHED
from transcripts.private import PrivateSide, private_path, read_private
from transcripts.record import Recorder, checked_output
from transcripts.store import Header, Transcript


class NotASide(ValueError):
    """A transcript that is no finished record of one side of a session."""


class SidesDiffer(ValueError):
    """Two records that are not the two sides of one session."""


def join(client: Path, server: Path, out: Path) -> Recorder:
    """Write the joined transcript, with the private sides where both lie beside the records; returns its recorder, for
    chain and seal. Raises NotASide, SidesDiffer, PrivateFileError, OutputError and what makes a transcript unreadable.
    """
    checked_output(out)
    with ExitStack() as stack:
        files = {role: stack.enter_context(Transcript(path)) for role, path in ((CLIENT, client), (SERVER, server))}
        public = _agreed(files)
        _same_messages(files)
        kept = [private_path(files[role].path, role).exists() for role in files]
        private = tuple(files) if all(kept) else ()
        with Recorder(out, public, seeded=files[CLIENT].seeded, private=private) as recorder:
            for phase in _phases(files):
                recorder.add(phase)
            recorder.seal([_side(files[role], role) for role in private])
    return recorder


def _agreed(files: Mapping[Role, Transcript]) -> dict[str, Any]:
    """The public parameters of the session, without what is of one side. Raises NotASide, SidesDiffer."""
    sessions = {}
    for role, file in files.items():
        side = file.public.get(SIDE)
        if not isinstance(side, dict) or side.get("role") != role.value:
            raise NotASide(
                f"{file.path}: expected the {role.value}'s record of a served query; give CLIENT, then SERVER"
            )
        if file.public.get(UNFINISHED) is not None:
            raise NotASide(f"{file.path}: this session ended in an error; only finished ones can be joined")
        sessions[role] = {**file.public, SIDE: side.get("session"), "seeded": file.seeded}
    ours, theirs = sessions[CLIENT], sessions[SERVER]
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            what = "session" if name == SIDE else name
            raise SidesDiffer(f"{what}: the client has {ours.get(name)!r}, the server {theirs.get(name)!r}")
    return {name: value for name, value in files[CLIENT].public.items() if name != SIDE}


def _same_messages(files: Mapping[Role, Transcript]) -> None:
    ours, theirs = (_by_place(files[role].headers) for role in (CLIENT, SERVER))
    for place in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(place), theirs.get(place)
        if mine is None or other is None:
            keeper = CLIENT if other is None else SERVER
            raise SidesDiffer(f"{place[2]!r} of the {place[1]}: only the {keeper.value} has recorded it")
        if mine.digest != other.digest:
            told = f"{describe(mine.spec)} at depth {mine.depth}"
            raise SidesDiffer(f"{place[2]!r} of the {place[1]}: the records differ in it; the client has {told}")
    reserved = [[(p.name, dict(p.reserved)) for p in files[role].phases] for role in (CLIENT, SERVER)]
    if reserved[0] != reserved[1]:
        raise SidesDiffer("the two sides have reserved different amounts of randomness")


def _by_place(headers: tuple[Header, ...]) -> dict[tuple[str, str, str], Header]:
    return {(h.phase, h.sender.value, h.label): h for h in headers}


def _phases(files: Mapping[Role, Transcript]) -> Iterator[Execution]:
    """Each phase with the times that both sides measured."""
    client, server = files[CLIENT], files[SERVER]
    for ours, theirs in zip(client.phases, server.phases, strict=True):
        scopes = {**ours.cpu_by_scope, **theirs.cpu_by_scope}
        levels = {**ours.cpu_by_depth, **theirs.cpu_by_depth}
        yield Execution({}, tuple(client.messages(ours.name)), scopes, levels, dict(ours.reserved), ours.name)


def _side(file: Transcript, role: Role) -> PrivateSide:
    return read_private(private_path(file.path, role), role, file.seal)
