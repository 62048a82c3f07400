"""Real runs side by side: one run of a protocol text drives many real runs of one session, each with its own bytes.

What a text does between two messages is done for all lanes at once, as in `transcripts.batch`. Below the interfaces
every lane has its own: COTs out of the session's pool, with their own tweaks and pads; ciphertexts, errors, fresh
encryptions of zero, flooding. The kernels are those of an ordinary session, so a lane is a run that happens at the same
time as the others; with one lane every message is byte for byte the ordinary one. What is saved is the text's own work,
which costs as much for twenty runs as for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.he.interface import Addend, Plan
from protocols.he.packing import Layout, LinearPlan, SelectPlan
from protocols.ot.amounts import Making, making
from protocols.ot.chosen import bit_triples, choose, correlate_wide
from protocols.ot.ragged import correlate_ragged
from protocols.ot.service import CotSlice, OtState, Pool, carry_out, extend
from protocols.ot.softspoken import extension_bits
from sim.concrete import CONCRETE
from sim.message import Message
from sim.party import Party
from sim.ring import Ring, RingArray, Shape, Spec
from sim.role import Role
from sim.tape import Tape
from sim.wire import Blob, BlobSpec, WireMismatch
from sim.world import Body, Execution
from transcripts.batch import Batch, Strings

Bits = NDArray[np.uint8]
BYTE, WORD = Ring(8), Ring(64)
EXTENSION = "cot"  # kind of the message that makes correlated OTs


class Lanes(Batch):
    """The lanes of one run of a text. Its draws below the interfaces are in the ledger `draws` as bytes.

    slices: (resource, label) -> (first COT of a lane's own pool, number, leading axes that the lanes come after).
    apart: resource -> COTs of a lane, for pools that every lane has made by itself, one lane after the other.
    """

    def __init__(self, lanes: int) -> None:
        super().__init__(lanes)
        self.slices: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.apart: dict[str, int] = {}
        self._drawn: dict[tuple[str, str], bytes] = {}

    def bytes(self, tape: Tape, label: str, n: int, lane: int) -> bytes:
        """One lane's part of the bytes that all lanes draw under a label."""
        key = tape.owner, label
        if key not in self._drawn:
            self._drawn[key] = data = tape.bytes(label, n * self.lanes)
            ring, words = (WORD, np.frombuffer(data, "<u8")) if n % 8 == 0 else (BYTE, np.frombuffer(data, np.uint8))
            words = words.reshape(self.lanes, -1).astype(np.uint64)
            self.draws.append((tape.owner, label, Spec(ring, words.shape[1:]), words))
        return self._drawn[key][lane * n : (lane + 1) * n]

    def split(self, x: RingArray) -> list[RingArray]:
        """The concrete array of every lane."""
        words = np.broadcast_to(x.value, (self.lanes, *x.shape))
        return [RingArray(CONCRETE, x.ring, x.shape, row) for row in words]

    def join(self, ring: Ring, shape: Shape, words: Any) -> RingArray:
        """An array from its words, (lanes, *shape)."""
        return RingArray(self, ring, shape, words)


# -- homomorphic encryption: every lane has ciphertexts of its own --------------------------------------------------


class _Lane(Party):
    """A handle whose draws are one lane's."""

    __slots__ = ("_lane", "_lanes")

    def __init__(self, p: Party, lanes: Lanes, lane: int) -> None:
        super().__init__(p._driver, p.endpoint, p.scope)
        self._lanes, self._lane = lanes, lane

    def draw_bytes(self, word: str, n: int) -> bytes:
        return self._lanes.bytes(self.endpoint.tape, self.label(word), n, self._lane)


@dataclass(frozen=True)
class LaneWeights:
    """Prepared weights with the lanes that they belong to."""

    groups: tuple[tuple[Any, tuple[int, ...]], ...]


class LaneEngine:
    """One party's real engine, lane by lane; see `protocols.he.interface.Engine`. Operands are one per row and lane."""

    def __init__(self, engine: Any, lanes: Lanes) -> None:
        self._engine, self._lanes = engine, lanes

    def _each(self, p: Party) -> Iterator[_Lane]:
        return (_Lane(p, self._lanes, lane) for lane in range(self._lanes.lanes))

    def encrypt(self, p: Party, x: RingArray, layout: Layout) -> Blob:
        pairs = zip(self._each(p), self._lanes.split(x), strict=True)
        spec = BlobSpec("ciphertexts", x.shape[0] * layout.nbytes)
        return _strings(spec, [self._engine.encrypt(own, row, layout) for own, row in pairs])

    def absorb(self, content: Strings, x: RingArray, layout: Layout) -> list[list[Any]]:
        pairs = zip(content, self._lanes.split(x), strict=True)
        return _by_row([self._engine.absorb(data, row, layout) for data, row in pairs])

    def tensor(self, plan: SelectPlan, t: Sequence[list[Any]], x: Sequence[list[Any]]) -> list[list[Any]]:
        return [self._engine.tensor(plan, a, b) for a, b in zip(t, x, strict=True)]

    def linear(self, plan: LinearPlan, x: Sequence[list[Any]]) -> list[list[Any]]:
        return [self._engine.linear(plan, a) for a in x]

    def apply(self, plan: Plan, weights: LaneWeights, rows: Sequence[list[Any]]) -> list[list[Any]]:
        found: list[list[Any]] = [[None] * self._lanes.lanes for _ in rows]
        for prepared, lanes in weights.groups:
            results = iter(self._engine.apply(plan, prepared, [row[lane] for row in rows for lane in lanes]))
            for row in found:
                for lane in lanes:
                    row[lane] = next(results)
        return found

    def own(self, plan: LinearPlan, y: RingArray) -> LaneWeights:
        rows = self._lanes.split(y)
        return LaneWeights(tuple((self._engine.own(plan, row), (lane,)) for lane, row in enumerate(rows)))

    def choose(self, weights: Sequence[LaneWeights], hot: RingArray) -> list[LaneWeights]:
        """Every lane's own: a row may name other weights in each."""
        rows = np.stack([lane.value.argmax(axis=1) for lane in self._lanes.split(hot)], axis=1)
        return [_named(weights, row.tolist()) for row in rows]

    def admit(self, responses: Sequence[tuple[LaneWeights | LinearPlan, int]]) -> None:
        every = tuple(range(self._lanes.lanes))
        groups = ((x.groups if isinstance(x, LaneWeights) else ((x, every),), n) for x, n in responses)
        self._engine.admit([(one, n * len(lanes)) for found, n in groups for one, lanes in found])

    def respond(self, p: Party, rows: Sequence[list[Any]], mask: RingArray, plan: Plan) -> Blob:
        each = zip(self._each(p), zip(*rows, strict=True), self._lanes.split(mask), strict=True)
        spec = BlobSpec("response", len(rows) * plan.response_nbytes)
        return _strings(spec, [self._engine.respond(own, results, m, plan) for own, results, m in each])

    def decrypt(self, content: Strings, plan: Plan, spec: Spec) -> RingArray:
        words = [self._engine.decrypt(data, plan, spec).value for data in content]
        return self._lanes.join(spec.ring, spec.shape, np.stack(words))


def _named(weights: Sequence[LaneWeights], places: Sequence[int]) -> LaneWeights:
    """In every lane, the weights at its place."""
    named = (
        (prepared, tuple(lane for lane in lanes if places[lane] == i))
        for i, each in enumerate(weights)
        for prepared, lanes in each.groups
    )
    return LaneWeights(tuple((prepared, lanes) for prepared, lanes in named if lanes))


def _strings(spec: BlobSpec, strings: Sequence[bytes]) -> Blob:
    wrong = next((len(data) for data in strings if len(data) != spec.nbytes), None)
    if wrong is not None:
        raise WireMismatch(f"{spec.kind}: expected {spec.nbytes} bytes in every lane, got {wrong}")
    return Blob(spec, Strings(strings))


def _by_row(lanes: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(row) for row in zip(*lanes, strict=True)]


def prepared(service: Any, lanes: Lanes, plan: Plan | Addend, weights: NDArray[Any]) -> LaneWeights | RingArray:
    """The weights of all lanes, (lanes, *shape), checked once for equal ones; or their addends, as words."""
    if isinstance(plan, Addend):
        return lanes.lift(Ring(plan.params.ring_bits), weights)
    equal: dict[bytes, list[int]] = {}
    for lane, matrix in enumerate(weights):
        equal.setdefault(matrix.tobytes(), []).append(lane)
    return LaneWeights(tuple((service.prepare(plan, weights[at[0]]), tuple(at)) for at in equal.values()))


# -- oblivious transfer: the lanes are one more axis of the arrays --------------------------------------------------


class _Tall(Party):
    """A handle of a protocol at the OT interface that runs on concrete arrays, in which the lanes are an axis.

    axis: where, before any other; `masked` messages of ladders of rings are flat, with a segment for every ring.
    """

    __slots__ = ("_ladder", "_lanes")

    def __init__(self, p: Party, ladder: tuple[Ring, ...] = ()) -> None:
        super().__init__(p._driver, p.endpoint, p.scope)
        if not isinstance(p.backend, Lanes):
            raise TypeError(f"expected runs side by side, got the {p.backend.name} interpretation")
        self._lanes, self._ladder = p.backend, ladder

    def shape(self, shape: Shape) -> Shape:
        return (self._lanes.lanes, *shape)

    def tall(self, x: RingArray | None, axis: int = 0) -> RingArray | None:
        """All lanes as one concrete array."""
        if x is None:
            return None
        words = np.moveaxis(np.broadcast_to(x.value, (self._lanes.lanes, *x.shape)), 0, axis)
        return RingArray(CONCRETE, x.ring, words.shape, np.ascontiguousarray(words))

    def lanes(self, x: RingArray, axis: int = 0) -> RingArray:
        """Inverse of `tall`."""
        words = np.moveaxis(x.value, axis, 0)
        return self._lanes.join(x.ring, words.shape[1:], words)

    def send(self, word: str, payload: Any) -> None:
        flat = self._ladder and word == "masked"
        super().send(word, self._by_lane(payload) if flat else self.lanes(payload, axis=1 if self._ladder else 0))

    async def recv(self, word: str, spec: Any) -> Any:
        """The peer's message: of every lane, as one array of the shape that the protocol expects."""
        lanes = self._lanes.lanes
        if self._ladder and word == "masked":
            return self._by_ring(await super().recv(word, Spec(spec.ring, (spec.size // lanes,))))
        axis = 1 if self._ladder else 0
        shape = (*spec.shape[:axis], *spec.shape[axis + 1 :])
        return self.tall(await super().recv(word, Spec(spec.ring, shape)), axis)

    def reserve(self, word: str, resource: str, n: int) -> int:
        offset = super().reserve(word, resource, n)
        lanes = self._lanes.lanes
        place = offset // lanes, n // lanes, max(len(self._ladder), 1)
        self._lanes.slices[resource, self.label(word)] = place
        return offset

    def service(self, name: str) -> Any:
        """The state of "ot", of which a slice has every lane's own COTs in the order of the arrays."""
        found = super().service(name)
        return _LaneCots(found, self._lanes, max(len(self._ladder), 1)) if name == "ot" else found

    def _by_lane(self, flat: RingArray) -> RingArray:
        parts = np.split(flat.value, self._ends(flat.size))
        words = np.concatenate([part.reshape(self._lanes.lanes, -1) for part in parts], axis=1)
        return self._lanes.join(flat.ring, words.shape[1:], words)

    def _by_ring(self, x: RingArray) -> RingArray:
        parts = np.split(x.value, self._ends(x.size), axis=1)
        words = np.concatenate([part.reshape(-1) for part in parts])
        return RingArray(CONCRETE, x.ring, words.shape, words)

    def _ends(self, size: int) -> NDArray[np.int64]:
        """Where the segments of all rings but the last one end, in a message of so many bits."""
        widths = np.array([ring.l for ring in self._ladder])
        return np.cumsum(widths)[:-1] * (size // int(widths.sum()))


@dataclass(frozen=True)
class _LaneCots:
    """COTs of a session whose lanes are an axis of the arrays, after `outer` segments."""

    state: OtState
    lanes: Lanes
    outer: int

    def take(self, receiver: Role, offset: int, n: int) -> CotSlice:
        cots, pool = self.state.take(receiver, offset, n), self.state.pools[receiver]
        each = self.lanes.apart.get(f"cot.{receiver.value}")
        if each is None or pool is None:
            return cots
        lanes = self.lanes.lanes
        own = np.arange(offset // lanes, (offset + n) // lanes).reshape(self.outer, 1, -1)
        at = (own + each * np.arange(lanes).reshape(1, lanes, 1)).reshape(-1)
        return replace(cots, keys=pool.keys[at], choices=pool.choices[at] if len(pool.choices) else pool.choices)


async def _extend(p: Party, receiver: Role, pool: Pool, *, n: int, start: int = 0) -> int:
    """Every lane makes its COTs as the first run of a session does; nothing stays for later runs."""
    lanes = p.backend
    if not isinstance(lanes, Lanes):
        raise TypeError(f"expected runs side by side, got the {lanes.name} interpretation")
    plan, resource = making(n // lanes.lanes, start), f"cot.{receiver.value}"
    if plan.plain:
        lanes.apart.pop(resource, None)
        return await carry_out(p, receiver, pool, Making(n, 0, n, ()))  # for all lanes at once: see `by_lane`
    lanes.apart[resource] = plan.n
    pools = [pool.beside() for _ in range(lanes.lanes)]
    for own in pools:
        own.begin(plan)
    soft = BlobSpec(EXTENSION, extension_bits(plan.soft) // 8)
    trees = [(f"trees-{i}", BlobSpec("trees", preset.nbytes)) for i, preset in enumerate(plan.iterations)]
    if p.role is receiver:
        p.send("d", _strings(soft, [own.request(plan.soft) for own in pools]))
        each = [list((await p.recv(word, spec)).data) for word, spec in trees]
        for own, messages in zip(pools, zip(*each, strict=True), strict=True):
            for preset, (_, spec), data in zip(plan.iterations, trees, messages, strict=True):
                own.take_trees(Blob(spec, data), preset)
            own.open(plan.n)
    else:
        d: Blob = await p.recv("d", soft)
        rows = []
        for own, data in zip(pools, d.data, strict=True):
            own.answer(Blob(soft, data), plan.soft)
            rows.append([own.send_trees(preset) for preset in plan.iterations])
            own.open(plan.n)
        for (word, spec), strings in zip(trees, zip(*rows, strict=True), strict=True):
            p.send(word, _strings(spec, strings))
    pool.join(pools)
    return 0


async def _choose(
    p: Party, receiver: Role, index: Any, table: Any, *, shape: Shape, n_choices: int, width: int
) -> RingArray:
    h = _Tall(p)
    sizes = {"shape": h.shape(shape), "n_choices": n_choices, "width": width}
    return h.lanes(await choose.run(h, receiver, h.tall(index), h.tall(table), **sizes))


async def _correlate_wide(
    p: Party, receiver: Role, bits: Any, deltas: Any, *, shape: Shape, rings: tuple[Ring, ...]
) -> tuple[RingArray, ...]:
    h = _Tall(p)
    tall = None if deltas is None else tuple(h.tall(delta) for delta in deltas)
    out = await correlate_wide.run(h, receiver, h.tall(bits), tall, shape=h.shape(shape), rings=rings)
    return tuple(h.lanes(x) for x in out)


async def _correlate_ragged(
    p: Party, receiver: Role, bits: Any, deltas: Any, *, shape: Shape, rings: Sequence[Ring], row: Shape = ()
) -> list[RingArray]:
    h = _Tall(p, ladder=tuple(rings))
    tall = None if deltas is None else [h.tall(delta) for delta in deltas]
    sizes = {"shape": h.shape(shape), "rings": rings, "row": row}
    out = await correlate_ragged.run(h, receiver, h.tall(bits, axis=1), tall, **sizes)
    return [h.lanes(x) for x in out]


async def _bit_triples(p: Party, *, shape: Shape, right: int) -> tuple[RingArray, ...]:
    h = _Tall(p)
    return tuple(h.lanes(x) for x in await bit_triples.run(h, shape=h.shape(shape), right=right))


FORMS: Mapping[Body, Body] = {
    choose.run: _choose,
    correlate_wide.run: _correlate_wide,
    correlate_ragged.run: _correlate_ragged,
    bit_triples.run: _bit_triples,
    extend.run: _extend,
}


# -- what a lane sees -----------------------------------------------------------------------------------------------


def by_lane(execution: Execution, lanes: Lanes) -> Execution:
    """The execution with the OT extension messages, which are made for all lanes at once, split among them."""
    return replace(execution, messages=tuple(_split_extension(m, lanes) for m in execution.messages))


def _split_extension(message: Message, lanes: Lanes) -> Message:
    """A lane's part: of every plane the bits of its own COTs, in the order of an ordinary run."""
    content = message.content
    if not isinstance(content, Blob) or message.spec != BlobSpec(EXTENSION, message.nbytes):
        return message
    if isinstance(content.data, Strings):  # every lane has made its own
        return message
    resource = f"cot.{message.sender.value}"
    slices = [place for (of, _), place in lanes.slices.items() if of == resource]
    each = sum(n for _, n, _ in slices)
    planes = extension_bits(1) // 8
    rows = np.frombuffer(content.data, np.uint8).reshape(planes, -1)
    bits = np.unpackbits(rows, axis=1, bitorder="little")
    own = np.zeros((lanes.lanes, planes, each), np.uint8)
    for first, n, outer in slices:
        part = bits[:, lanes.lanes * first : lanes.lanes * (first + n)].reshape(planes, outer, lanes.lanes, n // outer)
        own[:, :, first : first + n] = np.moveaxis(part, 2, 0).reshape(lanes.lanes, planes, n)
    packed = np.packbits(own, axis=2, bitorder="little")
    spec = BlobSpec(EXTENSION, extension_bits(each) // 8)
    return replace(message, spec=spec, payload=None, content=_strings(spec, [row.tobytes() for row in packed]))
