"""The deterministic driver: a trampoline that performs the effects of the parties' coroutines.

Not asyncio and not threads: one party runs until it blocks, then the other, so a run is a pure function of inputs and
tapes. The driver knows messages and depths; it never looks into a party's values.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sim.concrete import CONCRETE
from sim.message import Message
from sim.party import Fork, Ideal, Receive
from sim.ring import Ring, RingArray, Shape
from sim.role import Role
from sim.shapes import blank
from sim.wire import AnySpec, Blob, BlobSpec, Payload, WireMismatch, decode, describe, encode, spec_of

if TYPE_CHECKING:
    from sim.world import Endpoint


class Deadlock(RuntimeError):
    """Every party waits for a message that nobody will send."""


class UnreceivedMessage(RuntimeError):
    """A message was sent that the peer's protocol text never received."""


class DuplicateLabel(RuntimeError):
    """A party sent two messages under one label."""


# Where an absent party's messages come from: label -> message, or None when it is not there (yet); never blocks.
Source = Callable[[str], Message | None]
# Blocks until an absent party may have sent something more; False when nothing will come any more.
Wait = Callable[[], bool]


@dataclass(eq=False)
class _Task:
    role: Role
    coro: Coroutine[Any, Any, Any]
    depth: int
    scopes: list[str]
    parent: _Task | None = None
    slot: int = 0
    children: int = 0
    results: list[Any] = field(default_factory=list)
    waiting: Receive | None = None


# Randomness of ideal functionalities: (label of the call, word, ring, shape) -> uniform elements.
FunctionalityDraw = Callable[[str, str, Ring, Shape], RingArray]
OnResult = Callable[[Role, str, Any], None]  # who, the scope that ends, what it returns to its caller


class Driver:
    """Runs one coroutine per party present; collects messages, CPU seconds and final values."""

    def __init__(
        self,
        sources: Mapping[Role, Source] | None = None,
        wait: Wait | None = None,
        functionality: FunctionalityDraw | None = None,
        on_send: Callable[[Message], None] | None = None,
        on_scope: Callable[[Role, str], None] | None = None,
        on_result: OnResult | None = None,
    ) -> None:
        self.messages: list[Message] = []
        self.ideals: list[tuple[str, dict[Role, Any]]] = []
        self.cpu_by_scope: dict[tuple[Role, str], float] = {}
        self.cpu_by_depth: dict[tuple[Role, int], float] = {}
        self._sources = sources or {}
        self._wait_for_peer = wait
        self._functionality = functionality
        self._on_send = on_send
        self._on_scope = on_scope
        self._on_result = on_result
        self._inbox: dict[tuple[Role, str], tuple[Message, Payload]] = {}
        self._sent: set[tuple[Role, str]] = set()
        self._ready: dict[Role, deque[tuple[_Task, Any]]] = {role: deque() for role in Role}
        self._blocked: dict[tuple[Role, str], _Task] = {}
        self._meeting: dict[str, tuple[_Task, Ideal]] = {}
        self._unstarted: dict[tuple[Role, str], Coroutine[Any, Any, Any]] = {}
        self._current: _Task | None = None
        self._mark = 0.0

    # -- called by party handles ---------------------------------------------------------------------------------
    def send(self, endpoint: Endpoint, label: str, scope: str, payload: Payload) -> None:
        role, task = endpoint.role, self._task()
        if (role, label) in self._sent:
            raise DuplicateLabel(f"{role.value} sent two messages under label {label!r}; every message needs its own")
        self._sent.add((role, label))
        content: bytes | None = None
        if isinstance(payload, Blob):
            content = payload.data if isinstance(payload.data, bytes) else None
        elif payload.backend is CONCRETE:
            content = encode(payload)
            payload = decode(content, payload.spec)
        if content is not None and len(content) != payload.spec.nbytes:
            raise WireMismatch(
                f"{role.value} sent {len(content)} bytes under {label!r} for {describe(payload.spec)}: "
                "the sender's declared size is wrong"
            )
        message = Message(role, label, scope, task.depth + 1, spec_of(payload), content, payload)
        self.messages.append(message)
        if self._on_send is not None:
            self._on_send(message)
        if role.peer not in self._sources:
            self._deliver(role.peer, message, payload)

    def opened(self, role: Role, scope: str, coro: Coroutine[Any, Any, Any]) -> None:
        """A scope that will be entered when its coroutine starts; after an error it never does."""
        self._unstarted[role, scope] = coro

    def enter(self, scope: str) -> None:
        self._charge()
        task = self._task()
        self._unstarted.pop((task.role, scope), None)
        task.scopes.append(scope)
        if self._on_scope is not None:
            self._on_scope(task.role, scope)

    def returned(self, scope: str, result: Any) -> None:
        if self._on_result is not None:
            self._on_result(self._task().role, scope, result)

    def leave(self) -> None:
        if self._current is not None:  # None while coroutines are being closed after an error
            self._charge()
            self._current.scopes.pop()

    def blame(self, error: Exception) -> None:
        """Note party and scope on an error, where it passes the innermost scope."""
        noted = any(note.startswith("raised by ") for note in getattr(error, "__notes__", ()))
        if self._current is not None and not noted:
            error.add_note(f"raised by {self._current.role.value} in scope {self._current.scopes[-1]!r}")

    def _task(self) -> _Task:
        if self._current is None:
            raise RuntimeError("a party handle was used outside its driver")
        return self._current

    # -- running -------------------------------------------------------------------------------------------------
    def run(self, roots: Mapping[Role, Coroutine[Any, Any, Any]]) -> dict[Role, Any]:
        """Drive the parties given to the end; returns each one's result."""
        results: dict[Role, Any] = {}
        for role, coro in roots.items():
            self._ready[role].append((_Task(role, coro, 0, [""]), None))
        try:
            while len(results) < len(roots):
                if not any(self._ready[role] for role in roots) and not self._pull(roots):
                    raise Deadlock(self._deadlock())
                for role in roots:
                    while self._ready[role]:
                        task, value = self._ready[role].popleft()
                        self._step(task, value, results)
        except BaseException:
            for coro in self._unstarted.values():  # calls that their caller had made and not yet awaited
                coro.close()
            raise
        finally:
            self._close(roots)
        if self._inbox:
            names = [f"{message.sender.value}: {label!r}" for (_, label), (message, _) in sorted(self._inbox.items())]
            raise UnreceivedMessage("messages sent but never received: " + "; ".join(names))
        return results

    def _step(self, task: _Task, value: Any, results: dict[Role, Any]) -> None:
        self._current, self._mark = task, time.process_time()
        try:
            effect = task.coro.send(value)
        except StopIteration as stop:
            self._charge()
            self._finish(task, stop.value, results)
            return
        except Exception as error:
            self.blame(error)
            raise
        finally:
            self._current = None
        self._charge(task)
        if isinstance(effect, Fork):
            self._fork(task, effect)
        elif isinstance(effect, Ideal):
            self._meet(task, effect)
        else:
            self._wait(task, effect)

    def _charge(self, task: _Task | None = None) -> None:
        task = task or self._current
        now = time.process_time()
        if task is not None:
            spent = now - self._mark
            at = (task.role, task.scopes[-1])
            self.cpu_by_scope[at] = self.cpu_by_scope.get(at, 0.0) + spent
            level = (task.role, task.depth)
            self.cpu_by_depth[level] = self.cpu_by_depth.get(level, 0.0) + spent
        self._mark = now

    def _fork(self, task: _Task, fork: Fork) -> None:
        task.children, task.results = len(fork.children), [None] * len(fork.children)
        for slot, coro in enumerate(fork.children):
            self._ready[task.role].append((_Task(task.role, coro, task.depth, list(task.scopes), task, slot), None))
        if not fork.children:
            self._ready[task.role].append((task, []))

    def _meet(self, task: _Task, call: Ideal) -> None:
        """Rendezvous at an ideal functionality: the second party's call answers both."""
        if self._functionality is None:
            raise RuntimeError(f"{call.label!r}: ideal functionalities exist in hybrid sessions only")
        other = self._meeting.pop(call.label, None)
        if other is None:
            self._meeting[call.label] = (task, call)
            return
        first, mine = other
        if first.role is task.role:
            raise DuplicateLabel(f"{task.role.value} called the ideal functionality {call.label!r} twice")
        inputs = {first.role: mine.mine, task.role: call.mine}
        outputs = call.step(partial(self._functionality, call.label), inputs[Role.CLIENT], inputs[Role.SERVER])
        self.ideals.append((call.label, dict(zip((Role.CLIENT, Role.SERVER), outputs, strict=True))))
        for party, output in zip((Role.CLIENT, Role.SERVER), outputs, strict=True):
            self._ready[party].append((first if first.role is party else task, output))

    def _finish(self, task: _Task, value: Any, results: dict[Role, Any]) -> None:
        parent = task.parent
        if parent is None:
            results[task.role] = value
            return
        parent.results[task.slot] = value
        parent.children -= 1
        parent.depth = max(parent.depth, task.depth)
        if parent.children == 0:
            self._ready[task.role].append((parent, parent.results))

    def _wait(self, task: _Task, effect: Receive) -> None:
        key = (task.role, effect.label)
        task.waiting = effect
        if key in self._inbox:
            self._resume(task, *self._inbox.pop(key))
        elif key in self._blocked:
            raise DuplicateLabel(f"{task.role.value} waits twice for label {effect.label!r}")
        else:
            self._blocked[key] = task

    def _deliver(self, role: Role, message: Message, payload: Payload) -> None:
        waiting = self._blocked.pop((role, message.label), None)
        if waiting is None:
            self._inbox[role, message.label] = (message, payload)
        else:
            self._resume(waiting, message, payload)

    def _resume(self, task: _Task, message: Message, payload: Payload) -> None:
        expected = task.waiting.spec if task.waiting else None
        if expected != spec_of(payload):
            raise WireMismatch(
                f"{task.role.value} expected {describe(expected) if expected else 'nothing'} under {message.label!r}, "
                f"{message.sender.value} sent {describe(spec_of(payload))}: the two sides of the protocol text disagree"
            )
        task.waiting = None
        task.depth = max(task.depth, message.depth)
        self._ready[task.role].append((task, payload))

    def _pull(self, roots: Iterable[Role]) -> bool:
        """Fetch awaited messages of absent parties; True if any came. Waits for the first where it can."""
        while not self._fetch(roots):
            if self._wait_for_peer is None or not self._wait_for_peer():
                return False
        return True

    def _fetch(self, roots: Iterable[Role]) -> bool:
        came = False
        for role, label in list(self._blocked):
            source = self._sources.get(role.peer) if role.peer not in roots else None
            message = source(label) if source is not None else None
            if message is not None:
                self._deliver(role, message, _payload(message))
                came = True
        return came

    def _deadlock(self) -> str:
        lines = [
            f"{role.value} waits for {label!r} ({describe(task.waiting.spec) if task.waiting else ''})"
            for (role, label), task in sorted(self._blocked.items())
        ]
        lines += [
            f"{task.role.value} waits at the functionality {label!r}" for label, (task, _) in self._meeting.items()
        ]
        unread = [f"{m.sender.value} sent {label!r}, unread" for (_, label), (m, _) in sorted(self._inbox.items())]
        return "; ".join(lines + unread) or "no party can go on"

    def _close(self, roots: Mapping[Role, Coroutine[Any, Any, Any]]) -> None:
        for task in [*self._blocked.values(), *(task for task, _ in self._meeting.values())]:
            task.coro.close()
        for queue in self._ready.values():
            for task, _ in queue:
                task.coro.close()
        for coro in roots.values():
            coro.close()


def _payload(message: Message) -> Payload:
    spec: AnySpec = message.spec
    if isinstance(spec, BlobSpec):
        return Blob(spec, message.payload)
    if message.payload is None:
        return blank(spec)
    array: RingArray = decode(message.payload, spec)
    return array
