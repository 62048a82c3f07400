"""One party of a session whose peer runs the same protocol text in another process.

`RemoteParty` is a `Session` with one party present and a channel where its peer would be. Before the set-up and before
each run the shapes interpretation says which messages the peer will send: label, depth, ring and shape. Nothing else is
taken from the wire, and no memory for more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sim.message import Message
from sim.party import ProtocolDecl
from sim.remote.channel import Channel
from sim.remote.frames import (
    DONE,
    SMALLEST_LIMIT,
    Done,
    UnexpectedMessage,
    abort_frame,
    message_frame,
    message_limit,
    read_frame,
)
from sim.role import Role
from sim.shapes import SHAPES
from sim.world import Execution, Service, Session


class Link:
    """What a driver needs of an absent peer: the messages that came, and where to send its own.

    log: every message of this session, sent and received, in the order of this end. awaited: the labels that the party
    waits for.
    """

    def __init__(self, channel: Channel, role: Role, on_message: Callable[[Message], None] | None = None) -> None:
        self.log: list[Message] = []
        self.awaited: list[str] = []
        self._channel, self._role, self._on_message = channel, role, on_message
        self._expected: dict[str, Message] = {}
        self._limits: dict[str, int] = {}  # bytes of the frame of each of them
        self._arrived: dict[str, Message] = {}

    def expect(self, messages: Iterable[Message]) -> None:
        """What the peer sends from now on, by the headers of all messages of the phase that begins."""
        self._expected |= {m.label: m for m in messages if m.sender is not self._role}
        self._limits = {label: message_limit(m) for label, m in self._expected.items()}

    def post(self, message: Message) -> None:
        """Send a message of the party; never blocks."""
        self._keep(message)
        self._channel.send(message_frame(message))

    def take(self, label: str) -> Message | None:
        """The message that came under this label, once; None while it has not come."""
        message = self._arrived.pop(label, None)
        if message is None:
            self.awaited.append(label)
        return message

    def wait(self) -> bool:
        """Read one more message. Raises what the channel and the frames raise, UnexpectedMessage at an early end."""
        what = f"{self.awaited[0]!r}" if self.awaited else "a message"
        limit = max(self._limits.values(), default=0)
        message = read_frame(self._channel.receive(max(limit, SMALLEST_LIMIT), what), self._expected)
        if isinstance(message, Done):
            raise UnexpectedMessage(f"expected {what}, the peer ended the session; the protocol texts differ")
        del self._expected[message.label], self._limits[message.label]
        self._arrived[message.label] = message
        self.awaited.clear()
        self._keep(message)
        return True

    def finish(self) -> None:
        """Say that this party is done and wait for the peer to say the same. Raises UnexpectedMessage."""
        self._channel.send(DONE)
        last = read_frame(self._channel.receive(SMALLEST_LIMIT, "the end of the session"), self._expected)
        left = sorted([*self._expected, *self._arrived])
        if not isinstance(last, Done) or left:
            raise UnexpectedMessage(f"expected every message to be sent and received once, left: {', '.join(left[:3])}")

    def _keep(self, message: Message) -> None:
        self.log.append(message)
        if self._on_message is not None:
            self._on_message(message)


class RemoteParty:
    """One party of a session over a channel that is secured and whose terms are agreed. Use as a context manager:
    leaving it with an error tells the peer that error's name, and either way closes the channel.

    services, key, shadow: as of `Session`; the set-up runs when the context is entered. on_message sees every message
    as it is sent or received, on_scope every scope as it is entered.
    """

    def __init__(
        self,
        channel: Channel,
        role: Role,
        services: Sequence[Service],
        *,
        key: bytes | None = None,
        shadow: Session | None = None,
        on_message: Callable[[Message], None] | None = None,
        on_scope: Callable[[Role, str], None] | None = None,
    ) -> None:
        self.role = role
        self.link = Link(channel, role, on_message)
        self.session: Session | None = None
        self._channel, self._services, self._key, self._on_scope = channel, services, key, on_scope
        self._shadow = shadow
        self._finished: list[Execution] = []

    def __enter__(self) -> RemoteParty:
        try:
            shadow = self._shadow or Session(self._services, seed=b"", backend=SHAPES)
            self.link.expect(shadow.setup.messages)
            self.session = Session(
                self._services,
                roles=(self.role,),
                keys={} if self._key is None else {self.role: self._key},
                sources={self.role.peer: self.link.take},
                wait=self.link.wait,
                on_send=self.link.post,
                on_scope=self._on_scope,
                shadow=shadow,
            )
        except BaseException as error:
            self._channel.close(abort_frame(error))
            raise
        self._finished.append(self.session.setup)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        self._channel.close(None if error is None else abort_frame(error))

    def run(self, proto: ProtocolDecl[Any], client: Sequence[Any], server: Sequence[Any], **public: Any) -> Execution:
        """As `Session.run`: this party's inputs, and its peer's by their public shapes."""
        session = self.opened
        self.link.expect(session.forecast(proto, client, server, **public))
        execution = session.run(proto, client, server, **public)
        self._finished.append(execution)
        return execution

    def finish(self) -> None:
        """Both parties have what they came for. Raises what the peer's failure is, so that nobody uses half a run."""
        self.link.finish()

    @property
    def opened(self) -> Session:
        """The session; it is open inside the context only."""
        if self.session is None:
            raise RuntimeError("a remote party was used before its context was entered")
        return self.session

    @property
    def phases(self) -> list[Execution]:
        """What this end knows of the session so far: the wire in both directions, its own times and draws. The last
        phase may be unfinished."""
        messages: dict[str, list[Message]] = {}
        for message in self.link.log:
            messages.setdefault(message.label.partition("/")[0], []).append(message)
        for wire in messages.values():
            wire.sort(key=lambda m: m.order)
        finished = {e.prefix: replace(e, messages=tuple(messages.pop(e.prefix, ()))) for e in self._finished}
        cut_off = [Execution({}, tuple(wire), {}, {}, {}, prefix) for prefix, wire in messages.items()]
        return [*finished.values(), *cut_off]
