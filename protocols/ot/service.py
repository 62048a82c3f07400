"""The session service "ot": set-up once, then a pool of correlated OTs per direction and run.

A direction is named by its receiver, as are the pooled resources `cot.client` and `cot.server`. The state counts the
COTs of a direction over the whole session; that count is the hash tweak, so no tweak ever repeats under one Delta.
Few COTs come from SoftSpoken, many from Ferret: `making` decides by public counts. What Ferret makes beyond a run stays
for the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from protocols.ot.aes import KEY_BYTES, TweakableHash, derive
from protocols.ot.amounts import Making, making
from protocols.ot.base import base_cost, base_ot
from protocols.ot.ferret import Iteration, mark, mark_delta, marks
from protocols.ot.functionalities import COT
from protocols.ot.kernels import U64, Bits
from protocols.ot.lpn import Preset
from protocols.ot.softspoken import (
    BASE_OTS,
    TREE_BYTES,
    LeafStreams,
    base_choices,
    extend_receiver,
    extend_sender,
    extension_bits,
    grow_punctured,
    grow_trees,
)
from protocols.ot.work_kinds import SOFT, iteration
from sim.concrete import to_words
from sim.cost import FREE, Cost, computed, message, sequence, swap, together
from sim.party import Party, protocol
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.wire import Blob, BlobSpec
from sim.work import Work

NONCE = Ring(64)
NONCE_WORDS = 2
BATCH = 1 << 14  # COTs hashed at a time: key and pad blocks of a batch stay in the second-level cache


class PoolExceeded(RuntimeError):
    """A slice beyond the pool of this run was asked for."""


class PoolReuse(RuntimeError):
    """A correlated OT was taken a second time."""


class WrongEnd(ValueError):
    """A message for the COT sender's end of a direction came to the receiver's."""


class StockMismatch(RuntimeError):
    """The COTs that are left of earlier runs are not as many as the protocol was told."""


class Pool:
    """One party's end of one direction: the streams that make COTs, this run's pool, what is left for later runs.

    keys: t at the receiver, q at the sender, (n, 2) words. choices: the receiver's random bits, else None. delta: the
    sender's (2,) words, else None; marked (see `ferret.mark`) in a run that has COTs of Ferret. stock: marked keys that
    no run has used.
    """

    def __init__(self, pads: TweakableHash, streams: LeafStreams, delta: bytes | None) -> None:
        self.hash = pads
        self.delta: U64 | None = None if delta is None else np.frombuffer(delta, np.uint64)
        self.keys: U64 = np.empty((0, 2), np.uint64)
        self.choices: Bits = np.empty(0, np.uint8)
        self.first = 0
        self.stock: U64 = np.empty((0, 2), np.uint64)
        self._delta = self.delta
        self._streams = streams
        self._numbers = count()  # of the iterations of Ferret, each once
        self._made: U64 = self.stock
        self._size = 0
        self._plain = True
        self._taken: Bits = np.empty(0, np.uint8)

    def begin(self, plan: Making) -> None:
        """Make room for the COTs of a run, and drop those of the one before. Raises StockMismatch."""
        if len(self.stock) != plan.start:
            raise StockMismatch(f"COT pool: expected {plan.start} COTs of earlier runs, there are {len(self.stock)}")
        self.first += len(self.keys)
        self.stock = self._made = self.stock.copy()  # no more a part of the keys, which are not needed any longer
        self.keys, self.choices = np.empty((0, 2), np.uint64), np.empty(0, np.uint8)
        self._plain, self._size = plan.plain, plan.start
        self.delta = self._delta
        if not plan.plain:
            self.delta = None if self._delta is None else mark_delta(self._delta)
            self._made = np.empty((plan.total, 2), np.uint64)
            self._made[: plan.start] = self.stock

    def request(self, n: int) -> bytes:
        """Receiver: n COTs by SoftSpoken; gives the extension message."""
        d, choices, keys = extend_receiver(self._streams, n)
        self._append(keys, choices)
        return d

    def answer(self, d: Blob, n: int) -> None:
        """Sender: n COTs by SoftSpoken from the receiver's message."""
        if self._delta is None:
            raise WrongEnd("OT extension: expected the COT sender's end of a direction, got the receiver's")
        self._append(extend_sender(self._streams, self._delta.tobytes(), d.data, n), None)

    def _append(self, keys: U64, choices: Bits | None) -> None:
        if self._plain:
            self._made, self.choices = keys, self.choices if choices is None else choices
        else:
            mark(keys, choices)
            self._made[self._size : self._size + len(keys)] = keys
        self._size += len(keys)

    def send_trees(self, preset: Preset) -> bytes:
        """Sender: an iteration of Ferret; gives its message."""
        if self.delta is None:
            raise WrongEnd("Ferret: expected the COT sender's end of a direction, got the receiver's")
        iteration, reserve, out = self._iterate(preset)
        return iteration.sender(self.delta, reserve, out)

    def take_trees(self, message: Blob, preset: Preset) -> None:
        """Receiver: an iteration of Ferret, from the sender's message."""
        iteration, reserve, out = self._iterate(preset)
        iteration.receiver(reserve, message.data, out)

    def _iterate(self, preset: Preset) -> tuple[Iteration, U64, U64]:
        """The next iteration, the reserve that it consumes, and the place of what it makes."""
        iteration = Iteration(self.hash.pi.key, next(self._numbers), preset)
        start = self._size - preset.reserve
        reserve = self._made[start : self._size].copy()
        self._size = start + preset.outputs
        return iteration, reserve, self._made[start : self._size]

    def open(self, n: int) -> None:
        """The first n COTs made become the run's pool, the others the stock."""
        self.keys, self.stock = self._made[:n], self._made[n : self._size]
        if self._delta is None and not self._plain:
            self.choices = marks(self.keys)
        self._made, self._taken = self.stock, np.zeros(n, np.uint8)

    def beside(self) -> Pool:
        """A pool that draws on the same streams and numbers of iterations, for COTs of its own."""
        return copy(self)

    def join(self, pools: Sequence[Pool]) -> None:
        """The pools of runs side by side become this one, one after the other; what they have in stock is dropped."""
        self.delta = pools[0].delta
        self.first += len(self.keys)
        self.keys = np.concatenate([pool.keys for pool in pools])
        self.choices = np.concatenate([pool.choices for pool in pools])
        self._taken = np.zeros(len(self.keys), np.uint8)

    def take(self, offset: int, n: int) -> CotSlice:
        """COTs offset .. offset + n - 1 of this run's pool, once. Raises PoolExceeded, PoolReuse."""
        if not 0 <= offset <= offset + n <= len(self.keys):
            raise PoolExceeded(f"COT pool of {len(self.keys)}: expected a slice inside, got {n} from {offset}")
        if self._taken[offset : offset + n].any():
            raise PoolReuse(f"COT pool: some of the {n} COTs from {offset} were taken before; reserve another slice")
        self._taken[offset : offset + n] = 1
        at = slice(offset, offset + n)
        return CotSlice(self.hash, self.first + offset, self.keys[at], self.choices[at], self.delta)


@dataclass(frozen=True)
class CotSlice:
    """COTs that one label took: `first` is the session-wide number of the first one."""

    hash: TweakableHash
    first: int
    keys: U64 = field(repr=False)
    choices: Bits = field(repr=False)
    delta: U64 | None = field(repr=False)

    def streams(self, low: int, high: int, blocks: int) -> U64:
        """Hashed streams of COTs low .. high - 1, `blocks` 128-bit blocks each; hash a COT once only.

        Receiver: (1, high - low, 2 blocks), of the keys t. Sender: (2, high - low, 2 blocks), of q and of q ^ Delta.
        """
        keys = np.ascontiguousarray(self.keys[low:high])
        variants = [keys] if self.delta is None else [keys, keys ^ self.delta]
        return np.stack([self.hash(x, self.first + low, blocks) for x in variants])

    def batches(self, blocks: int, unit: int = 1) -> Iterator[tuple[int, int, U64]]:
        """(low, high, streams) over the whole slice, in batches of a multiple of `unit` COTs."""
        step = max(BATCH // blocks // unit, 1) * unit
        for low in range(0, len(self.keys), step):
            high = min(low + step, len(self.keys))
            yield low, high, self.streams(low, high, blocks)


@dataclass
class OtState:
    """One party's state: its end of both directions, by receiver; None in the shapes interpretation."""

    pools: dict[Role, Pool | None]

    def take(self, receiver: Role, offset: int, n: int) -> CotSlice:
        pool = self.pools[receiver]
        if pool is None:
            raise PoolExceeded("COT pool: the shapes interpretation has no content")
        return pool.take(offset, n)


def extend_cost(receiver: Role, *, n: int, start: int = 0) -> Cost:
    """n COTs in one direction, where `start` are left of earlier runs: at most one message of the receiver's, then one
    of the sender's for every iteration of Ferret."""
    plan = making(n, start)
    soft = message(receiver, extension_bits(plan.soft)) + computed(Work({SOFT: plan.soft})) if plan.soft else FREE
    trees = [
        message(receiver.peer, 8 * preset.nbytes) + computed(Work({iteration(preset.name): 1}))
        for preset in plan.iterations
    ]
    return sequence(soft, *trees)


def provision_cost(amounts: Mapping[str, int], stocks: Mapping[str, int] | None = None) -> Cost:
    """Traffic of a run's pools. stocks: what earlier runs of the session left, by resource."""
    names = [(role, f"cot.{role.value}") for role in Role]
    stocks = stocks or {}
    sizes = [(role, amounts.get(name, 0), stocks.get(name, 0)) for role, name in names]
    return together(*[extend_cost(role, n=n, start=start) for role, n, start in sizes if n])


def setup_cost() -> Cost:
    """Traffic of the session set-up, once: nonces, then base OTs and tree sums in both directions."""
    each = [base_cost(role, n=BASE_OTS) + message(role, 8 * TREE_BYTES) for role in Role]
    return swap(NONCE_WORDS * NONCE.l) + together(*each)


def _extend_cost(receiver: Role, pool: object, *, n: int, start: int = 0) -> Cost:
    return extend_cost(receiver, n=n, start=start)


@protocol(realises=COT, cites="[Roy22, Ferret, HalfTree]", cost=_extend_cost)
async def extend(p: Party, receiver: Role, pool: Pool | None, *, n: int, start: int = 0) -> int:
    """n random COTs into the pool, on top of a set-up direction; replaces what the run before has left of its own.

    start: COTs that earlier runs left in stock. Gives what is in stock afterwards. Raises StockMismatch.
    """
    return await carry_out(p, receiver, pool, making(n, start))


async def carry_out(p: Party, receiver: Role, pool: Pool | None, plan: Making) -> int:
    """The messages of a plan; gives what is in stock afterwards."""
    p.local(_begin, pool, plan)
    if plan.soft:
        spec = BlobSpec("cot", extension_bits(plan.soft) // 8)
        if p.role is receiver:
            p.send("d", p.compute(spec, _request, pool, plan.soft))
        else:
            d: Blob = await p.recv("d", spec)
            p.local(_answer, pool, d, plan.soft)
    for number, preset in enumerate(plan.iterations):
        word, spec = f"trees-{number}", BlobSpec("trees", preset.nbytes)
        if p.role is receiver:
            sums: Blob = await p.recv(word, spec)
            p.local(_take_trees, pool, sums, preset)
        else:
            p.send(word, p.compute(spec, _send_trees, pool, preset))
    p.local(_open, pool, plan.n)
    return plan.left


def _direction_cost(receiver: Role, session: object) -> Cost:
    return base_cost(receiver, n=BASE_OTS) + message(receiver, 8 * TREE_BYTES)


@protocol(realises=COT, cites="[Roy22]", cost=_direction_cost)
async def set_up(p: Party, receiver: Role, session: bytes | None) -> Pool | None:
    """Base OTs (the COT receiver sends them) and the trees of one direction."""
    spec = BlobSpec("tree sums", TREE_BYTES)
    if p.role is receiver:
        keys = await base_ot(p, receiver, None, session, n=BASE_OTS)
        prg = p.local(_hash, session, receiver, "trees")
        grown = p.local(grow_trees, prg, keys)
        p.send("sums", p.compute(spec, _message, grown))
        return p.local(_receiver_pool, session, receiver, prg, grown)
    delta = p.local(p.draw_bytes, "delta", KEY_BYTES)
    keys = await base_ot(p, receiver, p.local(base_choices, delta), session, n=BASE_OTS)
    sums: Blob = await p.recv("sums", spec)
    return p.local(_sender_pool, session, receiver, delta, keys, sums)


class OtService:
    """Oblivious transfer as a service of a session: see `sim.world.Service`. Holds no state of its own."""

    name = "ot"

    async def setup(self, p: Party) -> OtState:
        """Agree on a session id, then set up both directions side by side."""
        mine = p.draw("nonce", NONCE, (NONCE_WORDS,))
        theirs = await p.swap("nonce", mine)
        session = p.local(_session_id, p.role, mine, theirs)
        pools = await p.gather(*[set_up(p, receiver, session) for receiver in (CLIENT, SERVER)])
        return OtState(dict(zip((CLIENT, SERVER), pools, strict=True)))

    async def provision(self, p: Party, state: OtState, amounts: Mapping[str, int]) -> None:
        """The run's pools: exactly amounts["cot.client"] and amounts["cot.server"] COTs, side by side."""
        await provision(p, amounts, lambda role, n, start: extend(p, role, state.pools[role], n=n, start=start))


async def provision(
    p: Party, amounts: Mapping[str, int], extended: Callable[[Role, int, int], Coroutine[Any, Any, int]]
) -> None:
    """Both directions of a run's pools by extended(receiver, n, start), and the new stocks."""
    wanted = [(role, f"cot.{role.value}") for role in (CLIENT, SERVER) if amounts.get(f"cot.{role.value}", 0)]
    left = await p.gather(*[extended(role, amounts[name], p.stocks.get(name, 0)) for role, name in wanted])
    for (_, name), n in zip(wanted, left, strict=True):
        p.stocks[name] = n


def _session_id(role: Role, mine: RingArray, theirs: RingArray) -> bytes:
    client, server = (mine, theirs) if role is CLIENT else (theirs, mine)
    nonces = to_words(client).tobytes() + to_words(server).tobytes()
    return hashlib.blake2b(nonces, digest_size=32, person=b"secmoe ot sid").digest()


def _hash(session: bytes, receiver: Role, purpose: str) -> TweakableHash:
    return TweakableHash(derive(session, receiver.value, purpose))


def _message(grown: tuple[U64, bytes]) -> bytes:
    return grown[1]


def _receiver_pool(session: bytes, receiver: Role, prg: TweakableHash, grown: tuple[U64, bytes]) -> Pool:
    return Pool(_hash(session, receiver, "pads"), LeafStreams(prg, grown[0], None), None)


def _sender_pool(session: bytes, receiver: Role, delta: bytes, keys: Bits, sums: Blob) -> Pool:
    prg = _hash(session, receiver, "trees")
    leaves = grow_punctured(prg, delta, keys, sums.data)
    return Pool(_hash(session, receiver, "pads"), LeafStreams(prg, leaves, delta), delta)


def _begin(pool: Pool, plan: Making) -> None:
    pool.begin(plan)


def _request(pool: Pool, n: int) -> bytes:
    return pool.request(n)


def _answer(pool: Pool, d: Blob, n: int) -> None:
    pool.answer(d, n)


def _send_trees(pool: Pool, preset: Preset) -> bytes:
    return pool.send_trees(preset)


def _take_trees(pool: Pool, sums: Blob, preset: Preset) -> None:
    pool.take_trees(sums, preset)


def _open(pool: Pool, n: int) -> None:
    pool.open(n)


def slice_of(p: Party, word: str, receiver: Role, n: int) -> Any:
    """Reserve n COTs under the label of `word` and take them; None in the shapes interpretation."""
    offset = p.reserve(word, f"cot.{receiver.value}", n)
    state: OtState = p.service("ot")
    return p.local(state.take, receiver, offset, n)
