"""What is attacked: three ways to run one layer of a trained model, and the items that go through it.

`Subject.views` runs a block of items and gives what a corrupted server saw of each. Hybrid runs are batched: one run of
the protocol text computes all items of a block under independent tapes. Real runs are ordinary sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protocols.baselines.plaintext_routing import RoutedPlan, RoutedWeights, plaintext_routing
from protocols.broken.routed import moe_layer_route_told
from protocols.he.ideal import IdealHeService
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.layer_plan import LayerPlan, LayerWeights
from protocols.model.architecture import Model, Tokens
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, quantise, quantise_weights
from protocols.model.store import load_model
from protocols.model.tables import DEFAULT_TABLES
from protocols.model.tokens import PAD, RESERVED, patches
from protocols.model.training.data import digits
from protocols.moe import moe_layer
from protocols.ot.ideal import IdealOtService
from protocols.ot.service import OtService
from sim.concrete import from_words
from sim.party import ProtocolDecl
from sim.ring import RingArray
from sim.role import SERVER
from sim.world import Execution, Session
from transcripts.batch import Batch
from transcripts.classes import generator
from transcripts.ordinary import BUDGET, HYBRID, Results
from transcripts.ordinary import Model as World
from transcripts.views import Given, Kind, bare

Words = NDArray[np.uint64]
Name = Literal["plaintext-routing", "secmoe", "planted"]
LEAKY: tuple[Name, ...] = ("plaintext-routing", "planted")
PROTOCOLS: dict[Name, ProtocolDecl[Any]] = {
    "plaintext-routing": plaintext_routing,
    "secmoe": moe_layer,
    "planted": moe_layer_route_told,
}
PARAMS = PARAM_SETS["P64s"]
KNOWN_TOKENS = 16  # words that token identity is a choice among
INK = (0.02, 0.3, 0.6)  # mean grey values between the four shades that are a patch's identity


class NoItems(ValueError):
    """A model without items to attack."""


@dataclass(frozen=True)
class Items:
    """What goes through the layer. tokens: one input per item. labels: their classes. unseen: whether training never
    saw it. identities: per item, for every token its number among the KNOWN_TOKENS, or -1."""

    tokens: tuple[Tokens, ...]
    labels: NDArray[np.int64]
    unseen: NDArray[np.bool_]
    identities: tuple[NDArray[np.int64], ...]

    def of(self, numbers: NDArray[np.int64]) -> Items:
        """These items, in this order."""
        tokens, identities = (tuple(part[i] for i in numbers) for part in (self.tokens, self.identities))
        return Items(tokens, self.labels[numbers], self.unseen[numbers], identities)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(t) for t in self.tokens], np.int64)

    def __len__(self) -> int:
        return len(self.tokens)


@cache
def model_of(name: str) -> Model:
    """The model, loaded once per process."""
    return load_model(name)


@cache
def items_of(name: str) -> Items:
    """All items of a model, read once per process: the held-out ones; of `digits`, then those of its training part.

    Raises NoItems.
    """
    model = model_of(name)
    held = model.held_out
    if held is None or not len(held):
        raise NoItems(f"--model {name}: expected a model with held-out items beside it, found none")
    rows: NDArray[Any] = held.items
    labels, unseen = held.labels, len(held)
    if name == "digits":
        data = digits()
        known = slice(0, data.training)
        rows, labels = np.concatenate([rows, data.items[known]]), np.concatenate([labels, data.labels[known]])
    if model.config.task == "image":
        side, patch = model.config.side, model.config.patch
        tokens: tuple[Tokens, ...] = tuple(patches(row.astype(np.uint8), side, patch) for row in rows)
    else:
        tokens = tuple(row[row != PAD].astype(np.int64) for row in rows)
    seen = np.arange(len(rows)) >= unseen
    return Items(tokens, np.asarray(labels, np.int64), ~seen, tuple(identities(model, t) for t in tokens))


def identities(model: Model, tokens: Tokens) -> NDArray[np.int64]:
    """Which of the KNOWN_TOKENS each token is. Text: the most frequent words of the vocabulary, -1 for another one.
    Image: how dark a patch is, in four shades (few patches occur twice)."""
    if model.config.task == "image":
        return np.asarray(np.digitize(tokens.mean(axis=1), INK), np.int64)
    number = tokens.astype(np.int64) - len(RESERVED)  # the vocabulary is in order of frequency
    return np.where((number >= 0) & (number < KNOWN_TOKENS), number, -1)


def identity_told(name: str) -> str:
    """What the identity of a token is, in words."""
    if model_of(name).config.task == "image":
        return f"shade of an image patch: its mean grey value, between {', '.join(map(str, INK))}"
    return f"which of the {KNOWN_TOKENS} most frequent words"


@dataclass(frozen=True)
class Seen:
    """A run, or lanes of runs, as the corrupted server saw them. batch: None for one ordinary run."""

    execution: Execution
    given: Given
    batch: Batch | None


@dataclass(frozen=True)
class Subject:
    """One protocol on one layer of a model, in one world, from one seed."""

    name: Name
    model: str
    layer: int
    world: World
    seed: str

    def seen(self, tokens: Sequence[Tokens], block: str) -> list[Seen]:
        """The runs of items of one length; `block` names them, and decides their randomness with the seed."""
        model, fp = model_of(self.model), FixedPoint(PARAMS.ring_bits, PARAMS.frac_bits)
        rng = generator(self.seed, self.name, self.model, self.layer, self.world, block)
        tape = f"{self.seed}/{self.name}/{self.model}/{self.layer}/{self.world}/{block}".encode()
        states = [model.moe_inputs(t, self.layer) for t in tokens]
        secrets = [np.stack([quantise(pair[i], fp) for pair in states]) for i in (0, 1)]
        masks = [rng.integers(0, fp.mask, s.shape, np.uint64, endpoint=True) for s in secrets]
        weights = quantise_weights(model.moe_weights(self.layer), fp)
        signed = MoeWeights(
            fp.signed(weights.router),
            fp.signed(weights.w1),
            None if weights.v is None else fp.signed(weights.v),
            fp.signed(weights.w2),
        )
        plan = self._plan(model, len(tokens[0]))
        if self.world == HYBRID:
            return [_batched(self.name, plan, secrets, masks, signed, tape)]
        return _ordinary(self.name, plan, secrets, masks, signed, tape)

    def _plan(self, model: Model, n: int) -> LayerPlan:
        shape = MoeConfig(**{name: getattr(model.config, name) for name in MoeConfig.__dataclass_fields__})
        activation = "relu" if shape.activation == "relu" else DEFAULT_TABLES[shape.activation]
        kind = RoutedPlan if self.name == "plaintext-routing" else LayerPlan
        return kind(shape, n, PARAMS, activation)


def _prepared(name: Name, plan: LayerPlan, prepare: Any, weights: MoeWeights) -> Any:
    if isinstance(plan, RoutedPlan):
        return RoutedWeights.prepare(prepare, plan, weights)
    return LayerWeights.prepare(prepare, plan, weights)


def _batched(
    name: Name, plan: LayerPlan, secrets: list[Words], masks: list[Words], weights: MoeWeights, tape: bytes
) -> Seen:
    batch, results = Batch(len(secrets[0])), Results(SERVER)
    services = (IdealOtService(), IdealHeService(plan.plans))
    session = Session(services, seed=tape, backend=batch, hybrid=True, on_result=results)
    results.taken()  # of the set-up

    def prepare(at: Any, matrix: Any) -> RingArray:
        return batch.lift(plan.ring, matrix[None])

    client = [batch.lift(plan.ring, m) for m in masks]
    server = [batch.lift(plan.ring, s - m) for s, m in zip(secrets, masks, strict=True)]
    prepared = _prepared(name, plan, prepare, weights)
    execution = session.run(PROTOCOLS[name], [*client, None], [*server, prepared], plan=plan)
    given = _inputs(name, server)
    for owner, label, spec, words in batch.draws:
        if owner == SERVER.value:
            given.append(("draw", bare(label), RingArray(batch, spec.ring, spec.shape, words)))
    given += [("result", label, x) for label, x in results.taken() if x.backend is batch]
    return Seen(execution, given, batch)


def _ordinary(
    name: Name, plan: LayerPlan, secrets: list[Words], masks: list[Words], weights: MoeWeights, tape: bytes
) -> list[Seen]:
    service = HeService(plan.plans, BUDGET)
    results = Results(SERVER)
    session = Session((OtService(), service), seed=tape, on_result=results)
    results.taken()  # of the set-up
    prepared = _prepared(name, plan, service.prepare, weights)
    found = []
    for i in range(len(secrets[0])):
        client = [from_words(plan.ring, m[i]) for m in masks]
        server = [from_words(plan.ring, s[i] - m[i]) for s, m in zip(secrets, masks, strict=True)]
        execution = session.run(PROTOCOLS[name], [*client, None], [*server, prepared], plan=plan)
        given = _inputs(name, server)
        given += [("result", label, x) for label, x in results.taken()]
        found.append(Seen(execution, given, None))
    return found


def _inputs(name: Name, own: Sequence[RingArray]) -> list[tuple[Kind, str, Any]]:
    scope = PROTOCOLS[name].name
    return [("input", f"{scope}/{word}", x) for word, x in zip(("x", "residual"), own, strict=True)]
