"""Whole private models on many held-out items: real runs over any executor, resumable.

Items of one length share a session and run side by side (`transcripts.lanes`): each has ciphertexts, correlated OTs and
masks of its own, and what crosses the wire for it is what an ordinary run would send. A block of them is a pure
function of its items and the seed, but for the CPU times. Nothing is recorded.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.encoder import LOGITS, EncoderWeights
from protocols.he.params import ParamSet
from protocols.model.architecture import Model
from protocols.model.encoder import encoder as oracle
from protocols.model.evaluate import held_out_of
from secmoe.in_range import require_range
from secmoe.layer import activation_name
from secmoe.whole import CLIENT_ARRAYS, ModelRun, arrays_of, words_of
from sim.concrete import to_words
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES
from sim.world import Execution, Session
from transcripts.campaign import ROOT, Inline, Store, Told, finish, source_digest
from transcripts.classes import generator
from transcripts.lanes import FORMS, LaneEngine, Lanes, by_lane, prepared
from transcripts.subjects import model_of

MOST = 8  # items side by side: the text's own work is shared by then, and a block should not take long
HELD = 1 << 28  # bytes of messages of all items side by side, which are held at once with what they are made of
OWN = ("evaluated", "layer", "whole")


class ItemCount(ValueError):
    """Fewer items than one, or more than are held out."""


class ModelChanged(RuntimeError):
    """A worker has another model than the one that is evaluated."""


@dataclass(frozen=True)
class Plan:
    """What is evaluated. model: a name or a path; weights: digest of its parameters and held-out items; n: how many
    items; answer, params: how every item runs."""

    model: str
    weights: str
    n: int
    seed: str
    answer: str
    params: ParamSet

    @classmethod
    def of(cls, name: str, n: int, seed: str, answer: str, params: ParamSet) -> Plan:
        """Checked: ItemError for a model without held-out items, ItemCount; what the run of its longest item refuses is
        refused here (WeightsOutOfBound, QueryBeyondBudget, OutOfRange, what `fold` raises)."""
        model = model_of(name)
        held = len(held_out_of(model))
        if not 0 < n <= held:
            raise ItemCount(f"--n: expected 1 to {held}, the held-out items of {model.config.name}, got {n}")
        plan = cls(name, weights_digest(model), n, seed, answer, params)
        items = plan.items
        longest = max(items, key=lambda i: len(model.tokens_from_item(i)))
        tokens = model.tokens_from_item(longest)
        run = plan.run(len(tokens))
        run.inputs(SERVER, arrays_of(run, *words_of(run, model, tokens))[SERVER])
        require_range(model, run)
        return plan

    @property
    def items(self) -> list[int]:
        """The numbers of the items, drawn by the seed; those of a smaller n are the first of a larger."""
        drawn: NDArray[np.int64] = generator(self.seed, "evaluate").permutation(len(held_out_of(model_of(self.model))))
        return [int(i) for i in drawn[: self.n]]

    def run(self, tokens: int) -> ModelRun:
        """How an item of so many tokens runs."""
        config = model_of(self.model).config
        activation = activation_name(config, None)
        return ModelRun.of(config, tokens, self.answer, self.params, activation, "reassociated")

    def blocks(self) -> list[Block]:
        """The items by length, in blocks."""
        by_length: dict[int, list[int]] = {}
        for i in self.items:
            by_length.setdefault(len(model_of(self.model).tokens_from_item(i)), []).append(i)
        found = []
        for tokens, items in sorted(by_length.items()):
            run = self.run(tokens)
            step = side_by_side(run)
            some = (tuple(items[at : at + step]) for at in range(0, len(items), step))
            found += [Block(self.model, self.weights, run, part, self.seed) for part in some]
        return found


def weights_digest(model: Model) -> str:
    """Digest of all that a model computes with, and of its held-out items."""
    held, h = held_out_of(model), hashlib.blake2b(repr(model.config).encode(), digest_size=16)
    arrays = {**model.parameters, "held-out items": held.items, "held-out labels": held.labels}
    for name, x in sorted(arrays.items()):
        h.update(f"{name} {x.dtype.str} {x.shape} ".encode() + np.ascontiguousarray(x).tobytes())
    return h.hexdigest()


def side_by_side(run: ModelRun) -> int:
    """How many items go through the text at once."""
    return max(1, min(MOST, HELD // run.declared.declared(None, None, None, None, plan=run.plan).nbytes))


@dataclass(frozen=True)
class Block:
    """Items of one length that run side by side, in a session of their own."""

    model: str
    weights: str
    run: ModelRun
    items: tuple[int, ...]
    seed: str

    @property
    def key(self) -> str:
        """Digest of the block, of the model and of the program."""
        told = (self.weights, self.run.to_public(), self.items, self.seed)
        return hashlib.blake2b(f"{source_digest()} {_own_digest()} {told!r}".encode(), digest_size=20).hexdigest()


@cache
def _own_digest() -> str:
    own = (ROOT / "secmoe" / f"{name}.py" for name in OWN)
    return hashlib.blake2b(b"".join(path.read_bytes() for path in own), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Item:
    """One item. truth, private, fixed, plain: its class, as labelled, as the client learned it, by the exact
    fixed-point oracle and by the float model. exact: every word of the answer is the oracle's. Costs are online, of
    this item alone; CPU seconds are its share of what ran side by side."""

    number: int
    tokens: int
    truth: int
    private: int
    fixed: int
    plain: int
    exact: bool
    client_to_server: int
    server_to_client: int
    messages: int
    rounds: int
    client_cpu_s: float
    server_cpu_s: float


@dataclass(frozen=True)
class Done:
    """A finished block. setup_*: of its session; cpu_s: all the process time that the block took."""

    items: tuple[Item, ...]
    setup_bytes: int
    setup_cpu_s: float
    cpu_s: float


def work(block: Block) -> bytes:
    """Run a block; its figures as JSON. Raises ModelChanged."""
    began = time.process_time()
    model, run = model_of(block.model), block.run
    if weights_digest(model) != block.weights:
        raise ModelChanged(f"{block.model}: expected the model of digest {block.weights}, found another; start again")
    fp = run.fixed_point
    words = [words_of(run, model, model.tokens_from_item(i)) for i in block.items]
    session, lanes, online = _together(block, [arrays_of(run, *pair) for pair in words])
    answers = [to_words(row).reshape(-1) for row in lanes.split(online.outputs[CLIENT])]
    costs, items = online.cost, []
    for number, (client, server), answer in zip(block.items, words, answers, strict=True):
        exact, label = oracle(client, server, model.config, fp, run.polynomial), run.label(answer)
        items.append(
            Item(
                number,
                run.tokens,
                truth=int(held_out_of(model).labels[number]),
                private=label,
                fixed=exact.label,
                plain=int(model.forward(model.tokens_from_item(number)).logits.argmax()),
                exact=bool((answer == exact.logits).all()) if run.answer == LOGITS else label == exact.label,
                client_to_server=costs.c2s,
                server_to_client=costs.s2c,
                messages=costs.messages,
                rounds=costs.rounds,
                client_cpu_s=online.cpu(CLIENT) / len(answers),
                server_cpu_s=online.cpu(SERVER) / len(answers),
            )
        )
    setup = session.setup
    seconds = setup.cpu(CLIENT) + setup.cpu(SERVER)
    done = Done(tuple(items), setup.cost.nbytes, seconds, time.process_time() - began)
    return json.dumps(asdict(done)).encode()


def _together(block: Block, arrays: Sequence[dict[Role, dict[str, NDArray[Any]]]]) -> tuple[Session, Lanes, Execution]:
    """One pass through the text for all items of a block. arrays: of every item; the server's are equal."""
    run, size = block.run, len(arrays)
    tape = f"evaluate/{block.seed}/{block.weights}/{block.items}".encode()
    session, lanes = Session(run.services(), seed=tape, shadow=_shadow(run)), Lanes(size)
    session.widen(lanes, size, FORMS)
    for endpoint in session.endpoints.values():
        endpoint.states["he"] = LaneEngine(endpoint.states["he"], lanes)
    own = [lanes.lift(run.ring, np.stack([x[CLIENT][name] for x in arrays])) for name in CLIENT_ARRAYS]
    prepare = partial(prepared, run.he, lanes)
    signed = [run.fixed_point.signed(words) for words in arrays[0][SERVER].values()]
    weights = EncoderWeights.prepare(
        lambda plan, x: prepare(plan, np.broadcast_to(x, (size, *x.shape))), run.plan, signed
    )
    inputs: dict[Role, list[Any]] = {CLIENT: [*own, None], SERVER: [None, None, None, weights]}
    return session, lanes, by_lane(run.run(session, inputs), lanes)


@cache
def _shadow(run: ModelRun) -> Session:
    """What prices every session of these parameters; one per process."""
    return Session(run.services(), seed=b"", backend=SHAPES)


@dataclass(frozen=True)
class Evaluation:
    """All items, in the order of their numbers."""

    plan: Plan
    blocks: tuple[Done, ...]

    @property
    def items(self) -> list[Item]:
        return sorted((item for block in self.blocks for item in block.items), key=lambda item: item.number)

    @property
    def exact(self) -> bool:
        """Whether every private answer is the fixed-point oracle's."""
        return all(item.exact for item in self.items)

    def right(self, kind: str) -> int:
        """How many classes of a kind (`private`, `fixed`, `plain`) are the labelled ones."""
        return sum(getattr(item, kind) == item.truth for item in self.items)

    @property
    def points(self) -> float:
        """Private accuracy less that of the float model, in points."""
        return 100 * (self.right("private") - self.right("plain")) / len(self.items)

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """How many items of each labelled class (row) got each private class (column)."""
        table = np.zeros((classes, classes), np.int64)
        for item in self.items:
            table[item.truth, item.private] += 1
        return table


def evaluate(
    plan: Plan, executor: Executor | None = None, store: Store | None = None, told: Told | None = None
) -> Evaluation:
    """Run what the store does not have. Raises RunFailed, after all other blocks were kept."""
    blocks, kept = plan.blocks(), store or Store()
    finish(blocks, work, executor or Inline(), kept, told)
    return Evaluation(plan, tuple(_read(kept.get(block.key)) for block in blocks))


def _read(data: bytes) -> Done:
    told = json.loads(data)
    return Done(**{**told, "items": tuple(Item(**item) for item in told["items"])})
