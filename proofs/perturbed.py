"""Mutants of a run: one draw, message or delivery of it is changed, whatever the text.

The perturbation sits between the text and its world: at the tape (the party's own draws and those of ideal
functionalities, which are the pads of oblivious transfer), at the wire and at the outputs of functionalities. A point
is named by its owner and its label, so that it is the same one in every interpretation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from proofs.symbolic import DRAW
from proofs.trace import Trace, arrays
from sim.driver import Driver
from sim.party import Party
from sim.ring import Ring, RingArray, Shape, Spec, concat
from sim.role import Role
from sim.wire import AnySpec, Blob, BlobSpec, Payload
from sim.world import FUNCTIONALITY, Endpoint, Execution, Session

ZERO, REUSE, SHORT, SPREAD, SHOWN, RENAMED = (
    "drop a draw",
    "reuse a draw",
    "shorten a draw",
    "one draw for all entries",
    "send a draw in clear",
    "swap two draws",
)
DROP, REPEAT, CUT, HALVES, SWAP = (
    "drop a message",
    "repeat a message",
    "shorten a message",
    "swap the halves of a message",
    "swap two messages",
)
STALE = "deliver an earlier output"
DRAWS, MESSAGES = (ZERO, REUSE, SHORT, SPREAD, SHOWN, RENAMED), (DROP, REPEAT, CUT, HALVES, SWAP)


@dataclass(frozen=True)
class Perturbation:
    """operator at the point (owner, label); other: a second label, or the party that is shown a draw."""

    operator: str
    owner: str
    label: str
    other: str = ""

    @property
    def name(self) -> str:
        return f"{self.operator}: {self.owner}'s {self.label}" + (f", {self.other}" if self.other else "")

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The perturbation in place, for every run inside."""
        with ExitStack() as stack:
            if self.operator in DRAWS:
                stack.enter_context(self._at_the_tapes())
            elif self.operator == STALE:
                stack.enter_context(self._at_deliveries())
            else:
                stack.enter_context(self._at_the_wire())
            yield

    # -- draws ---------------------------------------------------------------------------------------------------------
    @contextmanager
    def _at_the_tapes(self) -> Iterator[None]:
        own, ideal, execute = Party.draw, Session._ideal_draw, Session._execute
        drawn: dict[str, RingArray] = {}

        def party_draw(p: Party, word: str, ring: Ring, shape: Shape) -> RingArray:
            if p.role.value != self.owner:
                return own(p, word, ring, shape)
            return self._changed(bare(p.label(word)), own(p, word, ring, shape), drawn)

        def functionality_draw(s: Session, label: str, word: str, ring: Ring, shape: Shape) -> RingArray:
            if self.owner != FUNCTIONALITY:
                return ideal(s, label, word, ring, shape)
            run, _, rest = f"{label}/{word}".partition("/")
            scope, _, last = self._source(rest).rpartition("/")
            return self._changed(rest, ideal(s, f"{run}/{scope}", last, ring, shape), drawn)

        def shown(s: Session, *args: Any) -> Execution:
            execution = execute(s, *args)
            if self.operator != SHOWN or self.label not in drawn:
                return execution
            event = (f"{execution.prefix}/{self.label}/shown", {r: _told(self, r, drawn) for r in Role})
            return _with_ideals(execution, event)

        with (
            patch.object(Party, "draw", party_draw),
            patch.object(Session, "_ideal_draw", functionality_draw),
            patch.object(Session, "_execute", shown),
        ):
            yield

    def _source(self, label: str) -> str:
        """The label under which a functionality's draw is really made."""
        if self.operator != RENAMED:
            return label
        return {self.label: self.other, self.other: self.label}.get(label, label)

    def _changed(self, label: str, value: RingArray, drawn: dict[str, RingArray]) -> RingArray:
        if label in (self.label, self.other):
            drawn[label] = value
        if label != self.label:
            return value
        if self.operator == ZERO:
            return value.const(0, value.shape)
        if self.operator == REUSE:
            return drawn[self.other]
        if self.operator == SHORT:
            return value.cast(Ring(value.ring.l - 1)).cast(value.ring)
        if self.operator == SPREAD:
            return value.reshape(-1)[:1].broadcast(value.size).reshape(*value.shape)
        return value

    # -- messages ------------------------------------------------------------------------------------------------------
    @contextmanager
    def _at_the_wire(self) -> Iterator[None]:
        send = Driver.send

        def changed(driver: Driver, endpoint: Endpoint, label: str, scope: str, payload: Payload) -> None:
            run, _, rest = label.partition("/")
            if endpoint.role.value != self.owner or rest not in (self.label, self.other):
                return send(driver, endpoint, label, scope, payload)
            if self.operator == SWAP:
                other = self.other if rest == self.label else self.label
                return send(driver, endpoint, f"{run}/{other}", scope, payload)
            if self.operator == DROP:
                return None
            if self.operator == REPEAT:
                send(driver, endpoint, label, scope, payload)
            reshaped = {CUT: _cut, HALVES: _turned}.get(self.operator)
            return send(driver, endpoint, label, scope, reshaped(payload) if reshaped else payload)

        with patch.object(Driver, "send", changed):
            yield

    # -- outputs of functionalities ------------------------------------------------------------------------------------
    @contextmanager
    def _at_deliveries(self) -> Iterator[None]:
        call = Party.ideal
        kept: dict[str, Any] = {}

        async def delivered(p: Party, word: str, step: Any, mine: Any) -> Any:
            output = await call(p, word, step, mine)
            label = bare(p.label(word))
            if p.role.value != self.owner or label not in (self.label, self.other):
                return output
            kept[label] = output
            return kept.get(self.other, output) if label == self.label else output

        with patch.object(Party, "ideal", delivered):
            yield


def bare(label: str) -> str:
    """A label without the number of the run."""
    return label.partition("/")[2]


def _told(mutant: Perturbation, role: Role, drawn: dict[str, RingArray]) -> Any:
    return drawn[mutant.label] if role.value == mutant.other else []


def _with_ideals(execution: Execution, event: tuple[str, dict[Role, Any]]) -> Execution:
    return replace(execution, ideals=(*execution.ideals, event))


def _reshaped(payload: Payload, flat: Any) -> Payload:
    """The payload with its array changed; a sealed box keeps its size on the wire."""
    if isinstance(payload, RingArray):
        changed: RingArray = flat(payload.reshape(-1))
        return changed.reshape(*payload.shape) if changed.size == payload.size else changed
    if isinstance(payload.data, RingArray):
        content: RingArray = flat(payload.data.reshape(-1)).reshape(*payload.data.shape)
        return Blob(payload.spec, content, payload.sealed)
    return payload


def _turned(payload: Payload) -> Payload:
    return _reshaped(payload, lambda x: concat(x[x.size // 2 :], x[: x.size // 2]))


def _cut(payload: Payload) -> Payload:
    if isinstance(payload, RingArray):
        return _reshaped(payload, lambda x: x[:-1])
    spec: AnySpec = payload.spec
    shorter = BlobSpec(spec.kind, spec.nbytes - 1) if isinstance(spec, BlobSpec) else _less(spec)
    return Blob(shorter, payload.data, payload.sealed)


def _less(spec: Spec) -> Spec:
    return Spec(spec.ring, (*spec.shape[:-1], spec.shape[-1] - 1))


# -- all points of a run -----------------------------------------------------------------------------------------------
def perturbations(run: Trace) -> list[Perturbation]:
    """Every perturbation that has a meaning at some point of an unchanged symbolic run."""
    return [*_of_draws(run), *_of_messages(run), *_of_deliveries(run)]


def _of_draws(run: Trace) -> Iterator[Perturbation]:
    known = {role: {seen.node for seen in run.view(role)} for role in Role}
    last: dict[tuple[str, Spec], str] = {}
    for number, node in enumerate(run.dag.nodes):
        if node.op != DRAW:
            continue
        label, spec = bare(node.label), Spec(node.ring, node.shape)
        yield Perturbation(ZERO, node.owner, label)
        if node.ring.l > 1:
            yield Perturbation(SHORT, node.owner, label)
        if spec.size > 1:
            yield Perturbation(SPREAD, node.owner, label)
        for role in Role:
            if node.owner != role.value and number not in known[role]:
                yield Perturbation(SHOWN, node.owner, label, role.value)
        earlier = last.get((node.owner, spec))
        if earlier is not None:
            yield Perturbation(REUSE, node.owner, label, earlier)
            if node.owner == FUNCTIONALITY:
                yield Perturbation(RENAMED, node.owner, label, earlier)
        last[node.owner, spec] = label


def _of_messages(run: Trace) -> Iterator[Perturbation]:
    mine: dict[Role, list[Any]] = {role: [] for role in Role}
    for message in run.execution.messages:
        owner, label = message.sender.value, bare(message.label)
        content = message.content.data if isinstance(message.content, Blob) else message.content
        mine[message.sender].append(message)
        yield Perturbation(DROP, owner, label)
        yield Perturbation(REPEAT, owner, label)
        yield Perturbation(CUT, owner, label)
        if isinstance(content, RingArray) and content.size > 1:
            yield Perturbation(HALVES, owner, label)
    for role, messages in mine.items():
        for first, second in pairwise(messages):
            if first.spec != second.spec or isinstance(first.content, RingArray):
                yield Perturbation(SWAP, role.value, bare(first.label), bare(second.label))


def _of_deliveries(run: Trace) -> Iterator[Perturbation]:
    last: dict[tuple[Role, tuple[Spec, ...]], str] = {}
    for label, outputs in run.execution.ideals:
        for role in Role:
            specs = tuple(x.spec for x in arrays(outputs[role]))
            earlier = last.get((role, specs))
            if earlier is not None:
                yield Perturbation(STALE, role.value, bare(label), earlier)
            last[role, specs] = bare(label)
