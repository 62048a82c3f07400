"""`secmoe serve`: the server of a model's private layer, in a process of its own.

Queries are answered one after the other. Each gets a session of its own: keys, oblivious transfers, randomness; what
one client does ends its own session and nothing else. The weights are read once. The statistical distance that
responses cost adds up over all sessions of the process, the failed ones included, and the budget is for all of them.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.he.noise import EpsilonBudget
from protocols.he.service import DEFAULT_BUDGET, HeService, query_cost
from protocols.layer_plan import LayerWeights
from protocols.model.architecture import Model
from protocols.model.fixed_point import quantise_weights
from protocols.ot.service import OtService
from secmoe.conversing import LOOPBACK, converse, front_digest, keep_side, side_path, terms_of
from secmoe.layer import WEIGHT_NAMES, LayerRun
from sim.concrete import from_words
from sim.remote.channel import Channel
from sim.remote.cipher import PresharedKey
from sim.remote.frames import abort_frame
from sim.remote.handshake import Terms, agree_keys, answer_terms
from sim.remote.party import RemoteParty
from sim.role import SERVER
from sim.shapes import SHAPES
from sim.world import Session

HELLO_SECONDS = 10.0  # a stranger may keep a server that answers one after the other busy for so long
LISTENING = 16
OWN = ("sim", "protocols", "transcripts", "secmoe")  # whose errors say nothing of a secret


class PortError(ValueError):
    """A port that cannot be listened on."""


class TokensRefused(ValueError):
    """A length that the model does not take."""


@dataclass
class Served:
    """One query, answered or not. error: what ended it. cpu: seconds of this process. epsilon_bits: of all queries so
    far."""

    number: int
    tokens: int | None = None
    session: str | None = None
    received: int = 0
    sent: int = 0
    cpu: float = 0.0
    epsilon_bits: float = math.inf
    record: Path | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The stable keys of one line of `secmoe serve --json`."""
        return {
            "query": self.number,
            "answered": self.error is None,
            "tokens": self.tokens,
            "session": self.session,
            "bytes": {"client_to_server": self.received, "server_to_client": self.sent},
            "cpu_s": self.cpu,
            "epsilon_bits": None if math.isinf(self.epsilon_bits) else self.epsilon_bits,
            "transcript": None if self.record is None else str(self.record),
            "error": self.error,
        }


class LayerServer:
    """Holds the weights of one layer and answers queries on it.

    largest: the public parameters at the model's greatest length; a query on a text may be shorter. timeout: seconds
    that a client may take for anything awaited. records: the folder for this side's transcripts; None keeps none.
    keep_private: its private sides as well. Raises QueryBeyondBudget and WeightsOutOfBound for weights that cannot
    serve the greatest length.
    """

    def __init__(
        self,
        model: Model,
        largest: LayerRun,
        key: PresharedKey,
        *,
        timeout: float,
        records: Path | None = None,
        keep_private: bool = False,
    ) -> None:
        self.budget = EpsilonBudget(DEFAULT_BUDGET)
        self.timeout = timeout
        self._largest, self._key = largest, key
        self._records, self._keep_private = records, keep_private
        self._least = 1 if model.config.task == "text" else largest.tokens
        self._front = front_digest(model, largest.layer)
        words = quantise_weights(model.moe_weights(largest.layer), largest.fixed_point)
        matrices = {name: getattr(words, name) for name in WEIGHT_NAMES}
        self._matrices = {name: matrix for name, matrix in matrices.items() if matrix is not None}
        self._prepared(largest)  # refused here rather than in a session
        self._shadows: dict[int, Session] = {}  # by number of tokens: the prices of every run of that length
        self._count = 0

    def answer(self, connection: socket.socket, tape_key: bytes | None = None) -> Served:
        """One query over a connection, which is closed at the end. A failure is part of the result: no client ends the
        server. tape_key: for tests; a real session draws a fresh one.
        """
        self._count += 1
        served, begun = Served(self._count), time.process_time()
        channel = Channel(connection, min(self.timeout, HELLO_SECONDS))
        try:
            self._answer(channel, served, tape_key)
        except Exception as error:  # whatever a client brings about
            served.error = _told(error)
            channel.close(abort_frame(error))
        finally:
            channel.close()
        served.received, served.sent = channel.received, channel.sent
        served.cpu, served.epsilon_bits = time.process_time() - begun, self.budget.bits
        return served

    def _answer(self, channel: Channel, served: Served, tape_key: bytes | None) -> None:
        session = agree_keys(channel, SERVER, self._key).session
        served.session = session.hex()
        terms = answer_terms(channel, lambda theirs: terms_of(self._run(theirs), self._front))
        run = self._run(terms)
        channel.timeout, served.tokens = self.timeout, run.tokens
        weights = self._prepared(run)
        self.budget.admit(query_cost(weights.responses(run.plan)))
        services = (OtService(), HeService(run.plan.plans, self.budget.remaining))
        if run.tokens not in self._shadows:
            self._shadows[run.tokens] = Session(services, seed=b"", backend=SHAPES)
        party = RemoteParty(channel, SERVER, services, key=tape_key, shadow=self._shadows[run.tokens])
        fault = None
        try:
            with party:
                nothing = from_words(run.ring, np.zeros((run.tokens, run.shape.d), np.uint64))
                converse(party, run, [nothing, nothing, weights])
        except BaseException as error:
            fault = error
            raise
        finally:
            self._spend(party)
            if self._records is not None:
                path = side_path(self._records, run, SERVER, session)
                arrays = self._arrays(run) if self._keep_private else None
                keep_side(path, run, party, session, arrays=arrays, seeded=tape_key is not None, error=fault)
                served.record = path

    def _run(self, theirs: Terms) -> LayerRun:
        """This server's run at the length that the client asks for. Raises TokensRefused."""
        asked, most = theirs.get("tokens"), self._largest.tokens
        if not isinstance(asked, int) or not self._least <= asked <= most:
            raise TokensRefused(
                f"tokens: expected a number from {self._least} to {most}, the client asks for {asked!r}"
            )
        return replace(self._largest, tokens=asked)

    def _prepared(self, run: LayerRun) -> LayerWeights:
        """The weights for a run of this length: how tokens share a ciphertext depends on their number."""
        weights: LayerWeights = run.inputs(SERVER, self._arrays(run))[2]
        return weights

    def _arrays(self, run: LayerRun) -> dict[str, NDArray[Any]]:
        nothing = np.zeros((run.tokens, run.shape.d), np.uint64)
        return {"x": nothing, "residual": nothing, **self._matrices}

    def _spend(self, party: RemoteParty) -> None:
        """What the responses of a session have cost, whether it came to its end or not."""
        states = {} if party.session is None else party.session.endpoints[SERVER].states
        if "he" in states:
            self.budget.total += states["he"].budget.total


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback interface; port 0 takes a free one. Raises PortError."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=LISTENING)
    except (OSError, OverflowError) as error:
        raise PortError(f"--port {port}: cannot listen there ({error}); choose another, or 0 for a free one") from error


def serve(listener: socket.socket, server: LayerServer, limit: int | None, tell: Callable[[Served], None]) -> None:
    """Answer connections one after the other until `limit` queries were answered; for ever where it is None."""
    answered = 0
    while limit is None or answered < limit:
        connection, _ = listener.accept()
        served = server.answer(connection)
        answered += served.error is None
        tell(served)


def _told(error: Exception) -> str:
    kind = type(error)
    own = kind.__module__.split(".")[0] in OWN
    return f"{kind.__name__}: {error}" if own else kind.__name__
