"""What serving and querying have in common: the terms, the conversation of one query, and each side's own record.

A query is (protocol, inputs, plan) of a `LayerRun`, then `deliver`. The input is the client's, so its sharing is the
client's words and the server's zeros; nothing is sent for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.model.architecture import Model
from protocols.model.store import in_front
from secmoe.checked import SOURCES, installed
from secmoe.delivery import deliver
from secmoe.layer import DELIVERED, LayerRun
from sim.remote.handshake import Scalar, flat
from sim.remote.party import RemoteParty
from sim.role import CLIENT, Role
from sim.shapes import blank
from transcripts.facts import UNFINISHED
from transcripts.private import PrivateSide
from transcripts.record import Recorder

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 7433
DEFAULT_KEY = "secmoe.key"
DEFAULT_TIMEOUT = 60.0
SIDE = "side"
SHOWN_SESSION = 16  # hexadecimal digits in file names

Arrays = Mapping[str, NDArray[Any]]


def front_digest(model: Model, layer: int) -> str:
    """What the client computes with before the layer, in 32 hexadecimal digits: both ends must have the same."""
    front = [name for name in sorted(model.parameters) if in_front(name, layer)]
    h = hashlib.blake2b(digest_size=16)
    for name in front:
        h.update(name.encode() + np.ascontiguousarray(model.parameters[name]).tobytes())
    return h.hexdigest()


def public_of(run: LayerRun) -> dict[str, Any]:
    """The public parameters of a served query, as both sides record them."""
    return {**run.to_public(), SOURCES: installed(), DELIVERED: True}


def terms_of(run: LayerRun, front: str) -> dict[str, Scalar]:
    """What must be equal at both ends, field by field."""
    return {**flat(public_of(run)), "front": front}


def converse(party: RemoteParty, run: LayerRun, own: list[Any]) -> Any:
    """One query inside the party's context: the protocol, the delivery, the end. The output at the client; None at the
    server. Nothing is returned unless the peer came to the end as well.
    """
    role, absent = party.role, run.absent()
    client, server = (own, absent) if role is CLIENT else (absent, own)
    share = party.run(run.declared, client, server, plan=run.plan).outputs[role]
    missing = blank(share.spec)
    pair = ([share], [missing]) if role is CLIENT else ([missing], [share])
    output = party.run(deliver, *pair).outputs[role]
    party.finish()
    return output


def keep_side(
    path: Path,
    run: LayerRun,
    party: RemoteParty,
    session: bytes,
    *,
    arrays: Arrays | None = None,
    seeded: bool = False,
    error: BaseException | None = None,
) -> str:
    """Write what one side saw: every message it sent or received. Returns the seal.

    arrays: keep its private side as well, with these inputs. error: what ended the session; the record says so and
    keeps no private side, for a session that did not end has none that could be replayed.
    """
    public = {**public_of(run), SIDE: {"role": party.role.value, "session": session.hex()}}
    private: Collection[Role] = () if arrays is None or error is not None else (party.role,)
    if error is not None:
        awaited = party.link.awaited[:1]
        public[UNFINISHED] = {"error": type(error).__name__, "waiting_for": awaited[0] if awaited else None}
    with Recorder(path, public, seeded=seeded, private=private) as recorder:
        for phase in party.phases:
            recorder.add(phase)
        return recorder.seal([_private(party, arrays)] if private and arrays is not None else []).hex()


def _private(party: RemoteParty, arrays: Arrays) -> PrivateSide:
    tape = party.opened.endpoints[party.role].tape
    return PrivateSide(party.role, tape.key, arrays, dict(tape.draws))


def side_path(folder: Path, run: LayerRun, role: Role, session: bytes) -> Path:
    """The place of one side's record; both sides of a session share all of the name but the role."""
    return folder / f"{run.model}-{session.hex()[:SHOWN_SESSION]}-{role.value}.secmoe"
