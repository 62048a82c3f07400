"""`secmoe query`: the client of a served layer, in a process of its own.

It reads of the model only what comes before the layer's experts, computes the hidden states of its input in the clear,
and learns the layer's output. The server learns the number of tokens.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.model.architecture import Model, Tokens
from protocols.model.fixed_point import quantise
from secmoe.conversing import LOOPBACK, converse, front_digest, keep_side, side_path, terms_of
from secmoe.layer import LayerRun
from secmoe.progress import Progress
from sim.concrete import to_words
from sim.cost import Cost
from sim.remote.channel import Channel
from sim.remote.cipher import PresharedKey
from sim.remote.frames import abort_frame
from sim.remote.handshake import agree_keys, offer_terms
from sim.remote.party import RemoteParty
from sim.remote.records import RemoteError
from sim.role import CLIENT
from sim.world import Execution


class NoServer(RemoteError):
    """Nobody listens at the port."""


@dataclass(frozen=True)
class Answer:
    """What the client has at the end. output: words (tokens, d). seconds: on the clock, the set-up included."""

    run: LayerRun
    output: NDArray[np.uint64] = field(repr=False)
    phases: tuple[Execution, ...]
    session: str
    sent: int
    received: int
    seconds: float
    record: Path
    seal: str

    @property
    def costs(self) -> Cost:
        """Messages of all phases one after the other."""
        return sum((phase.cost for phase in self.phases[1:]), self.phases[0].cost)

    @property
    def digest(self) -> str:
        """BLAKE2b-256 of the output's words, little-endian."""
        return hashlib.blake2b(self.output.astype("<u8").tobytes(), digest_size=32).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `secmoe query --json`. bytes: of messages; wire: with frames, encryption and handshake."""
        run, functionality, costs = self.run, self.run.declared.realises, self.costs
        return {
            "model": run.model,
            "protocol": run.protocol,
            "layer": run.layer,
            "tokens": run.tokens,
            "params": run.params.name,
            "order": run.order,
            "activation": run.activation,
            "truncation": run.truncation,
            "output": run.fixed_point.signed(self.output).tolist(),
            "output_digest": self.digest,
            "session": self.session,
            "bytes": {"client_to_server": costs.c2s, "server_to_client": costs.s2c},
            "wire": {"client_to_server": self.sent, "server_to_client": self.received},
            "messages": costs.messages,
            "rounds": costs.rounds,
            "cpu_s": sum(phase.cpu(CLIENT) for phase in self.phases),
            "seconds": self.seconds,
            "declared_leakage": {
                "client": list(functionality.leaks_client),
                "server": list(functionality.leaks_server),
            },
            "transcript": str(self.record),
            "seal": self.seal,
        }


def connect(port: int, timeout: float) -> socket.socket:
    """A connection to the server on this machine. Raises NoServer."""
    try:
        return socket.create_connection((LOOPBACK, port), timeout)
    except (OSError, OverflowError) as error:
        raise NoServer(f"--port {port}: no server answers there ({error}); start one with secmoe serve") from error


def query(
    connect: Callable[[], socket.socket],
    model: Model,
    tokens: Tokens,
    run: LayerRun,
    key: PresharedKey,
    out: Path | None,
    folder: Path,
    *,
    timeout: float,
    keep_private: bool = False,
    progress: Progress,
    tape_key: bytes | None = None,
) -> Answer:
    """One query over a new connection, which is closed at the end.

    out: this side's transcript (None: a fresh name in `folder`, made if it is missing); it is written for a session
    that ends in an error as well, marked unfinished. tape_key: for tests; a real session draws a fresh one. Raises
    TermsMismatch, ForeignPeer, RemoteError and its kinds, and what the protocol raises.
    """
    hidden, residual = model.moe_inputs(tokens, run.layer)
    arrays = {"x": quantise(hidden, run.fixed_point), "residual": quantise(residual, run.fixed_point)}
    begun = time.monotonic()
    channel = Channel(connect(), timeout)
    try:
        session = agree_keys(channel, CLIENT, key).session
        offer_terms(channel, terms_of(run, front_digest(model, run.layer)))
    except BaseException as error:
        channel.close(abort_frame(error))
        raise
    party = RemoteParty(
        channel, CLIENT, run.services(), key=tape_key, on_message=progress.on_send, on_scope=progress.on_scope
    )
    if out is None:
        folder.mkdir(exist_ok=True)
    path = side_path(folder, run, CLIENT, session) if out is None else out
    seeded = tape_key is not None
    try:
        with progress, party:
            words = to_words(converse(party, run, run.inputs(CLIENT, arrays)))
    except Exception as error:
        keep_side(path, run, party, session, seeded=seeded, error=error)
        error.add_note(f"unfinished transcript {path}")
        raise
    seconds = time.monotonic() - begun
    seal = keep_side(path, run, party, session, arrays=arrays if keep_private else None, seeded=seeded)
    phases = tuple(party.phases)
    return Answer(run, words, phases, session.hex(), channel.sent, channel.received, seconds, path, seal)
