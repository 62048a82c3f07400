"""What a server answered in a session, with what went into each answer: evidence about protocols of several plans.

A watch on the server's engine notes for every row of a response the uploads, the server's shares and the weights behind
it. Nothing that the engine computes is taken over: an analyser computes the row again from what is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from protocols.he.interface import Plan
from protocols.he.packing import Layout, LinearPlan
from sim.concrete import to_words
from sim.message import Message
from sim.party import Party
from sim.ring import RingArray
from sim.role import CLIENT, SERVER
from sim.wire import BlobSpec
from sim.world import Execution, Session
from transcripts.lattice.evidence import Evidence, Run, Shares, UnreadableTranscript

Operand = tuple[bytes, Shares]  # one row: its upload, and the server's share


@dataclass(frozen=True)
class Noted:
    """A value of the engine's with the operands behind it, by word. weights: signed integers, once they are applied.
    fresh: they are words of the server's own, which no other answer meets.
    """

    value: Any
    operands: Mapping[str, Operand]
    weights: Any = None
    fresh: bool = False


@dataclass(frozen=True)
class Answer:
    """One row of a response. content: the whole response that it is row `row` of."""

    plan: Plan
    operands: Mapping[str, Operand]
    weights: Any
    content: bytes
    row: int
    fresh: bool

    def run(self, label: str) -> Run:
        """The row as a run of its own: its uploads, its part of the response `label`, the server's shares."""
        size = self.plan.response_nbytes
        scope = label.rpartition("/")[0]
        messages = [
            Message(CLIENT, f"{label}/{word}", scope, 1, BlobSpec("ciphertexts", len(data)), data)
            for word, (data, _) in sorted(self.operands.items())
        ]
        part = self.content[self.row * size : (self.row + 1) * size]
        messages.append(Message(SERVER, f"{label}[{self.row}]", scope, 2, BlobSpec("response", size), part))
        own = {word: share[None] for word, (_, share) in sorted(self.operands.items())}
        return Run(messages, own, self.weights if self.fresh else None)


class Watch:
    """The server's engine, with a note of every answer; see `protocols.he.interface.Engine`."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.answers: list[Answer] = []
        self._weights: list[tuple[Any, Any, bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def preparing(self, prepare: Callable[[Plan, Any], Any]) -> Callable[[Plan, Any], Any]:
        """`prepare`, with a note of what prepared weights were made of."""

        def noting(plan: Plan, weights: Any) -> Any:
            made = prepare(plan, weights)
            self._weights.append((made, weights, False))
            return made

        return noting

    def absorb(self, content: bytes, x: RingArray, layout: Layout) -> list[Noted]:
        size, words = layout.nbytes, to_words(x)
        rows = self._engine.absorb(content, x, layout)
        return [Noted(row, {"": (content[i * size : (i + 1) * size], words[i])}) for i, row in enumerate(rows)]

    def tensor(self, plan: Plan, t: Sequence[Noted], x: Sequence[Noted]) -> list[Noted]:
        products = self._engine.tensor(plan, [a.value for a in t], [b.value for b in x])
        both = [{"t": a.operands[""], "x": b.operands[""]} for a, b in zip(t, x, strict=True)]
        return [Noted(product, operands) for product, operands in zip(products, both, strict=True)]

    def linear(self, plan: Plan, x: Sequence[Noted]) -> list[Noted]:
        products = self._engine.linear(plan, [a.value for a in x])
        return [Noted(product, {"x": a.operands[""]}) for product, a in zip(products, x, strict=True)]

    def own(self, plan: LinearPlan, y: RingArray) -> Any:
        made = self._engine.own(plan, y)
        self._weights.append((made, made.values, True))
        return made

    def apply(self, plan: Plan, weights: Any, rows: Sequence[Noted]) -> list[Noted]:
        results = self._engine.apply(plan, weights, [row.value for row in rows])
        raw, fresh = next((integers, fresh) for made, integers, fresh in self._weights if made is weights)
        return [Noted(result, row.operands, raw, fresh) for result, row in zip(results, rows, strict=True)]

    def respond(self, p: Party, rows: Sequence[Noted], mask: RingArray, plan: Plan) -> bytes:
        content: bytes = self._engine.respond(p, [row.value for row in rows], mask, plan)
        self.answers += [Answer(plan, row.operands, row.weights, content, i, row.fresh) for i, row in enumerate(rows)]
        return content


@contextmanager
def watched(session: Session) -> Iterator[Watch]:
    """A watch on the server's engine for the time of some runs; the session's bytes do not change."""
    states = session.endpoints[SERVER].states
    engine = states["he"]
    states["he"] = notes = Watch(engine)
    try:
        yield notes
    finally:
        states["he"] = engine


def evidence_of(
    watch: Watch, plans: tuple[Plan, ...], session: Session, executions: Sequence[Execution], secret: Any
) -> Iterator[Evidence]:
    """One complete evidence for every plan and matrix, and for every plan of fresh matrices. Raises
    UnreadableTranscript where the wire has other bytes.
    """
    labels = {m.payload: m.label for e in executions for m in e.messages if getattr(m.spec, "kind", "") == "response"}
    groups: dict[tuple[Plan, int | None], list[Answer]] = {}
    for answer in watch.answers:
        if answer.content not in labels:
            raise UnreadableTranscript("a response of the server's engine is not on the wire: the text altered it")
        groups.setdefault((answer.plan, None if answer.fresh else id(answer.weights)), []).append(answer)
    for (plan, matrix), answers in groups.items():
        runs = [answer.run(labels[answer.content]) for answer in answers]
        yield Evidence(plan, session.setup.messages, runs, secret, matrix and answers[0].weights, plans)
