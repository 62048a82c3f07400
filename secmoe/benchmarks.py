"""Whole layers and blocks that `secmoe bench` runs for real, beside what a calibration predicts of them.

None of them is used in a calibration, which measures kernels alone. Every output is held against its exact oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.blocks import BlockPlan, BlockWeights, block
from protocols.cleartext.blocks import BLOCK
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.he.service import HeService
from protocols.hidden import RELU
from protocols.layer_plan import LITERAL, REASSOCIATED, LayerPlan
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import DEFAULT_TABLES
from protocols.ot.service import OtService, provision_cost
from secmoe.layer_protocols import PROTOCOLS
from secmoe.names import ROUTED, SECMOE
from sim.concrete import from_words, to_signed
from sim.cost import Cost
from sim.party import ProtocolDecl
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution, Session

Words = NDArray[np.int64]
SEED = 11


class WrongOutput(ValueError):
    """A benchmark whose output is not its oracle's."""


@dataclass(frozen=True)
class Subject:
    """Something to run: a protocol text, its plan, its prepared weights, the inputs of both parties, its oracle."""

    text: ProtocolDecl[Any]
    plan: Any
    client: list[Any]
    server: list[Any]
    service: HeService
    expected: Callable[[], Words]

    def run(self, session: Session) -> Execution:
        """Once, for real. Raises WrongOutput."""
        execution = session.run(self.text, self.client, self.server, plan=self.plan)
        if not np.array_equal(to_signed(execution.outputs[CLIENT] + execution.outputs[SERVER]), self.expected()):
            raise WrongOutput(f"{self.text.name}: the output is not the fixed-point oracle's; report this")
        return execution

    def session(self) -> Session:
        """A fresh one, set up."""
        return Session([OtService(), self.service])


class Item(Protocol):
    """What can be priced without running it, and run."""

    @property
    def name(self) -> str:
        """Tells it from the others."""

    @property
    def plan(self) -> Any:
        """Of its protocol, with `params`, its parameter set."""

    @property
    def cost(self) -> Cost:
        """By its closed forms, in a session of its own: what makes the correlated OTs included."""

    def subject(self) -> Subject:
        """With weights and inputs drawn."""


def whole(cost: Cost) -> Cost:
    """The cost of a protocol's first run in a session: what makes its correlated OTs included."""
    return provision_cost({"cot.client": cost.cot_client, "cot.server": cost.cot_server}) + cost


@dataclass(frozen=True)
class Layer:
    """A sparse layer on random weights of a real scale."""

    d: int
    f: int
    E: int
    n: int
    protocol: str = SECMOE
    order: str = REASSOCIATED
    params: str = "P64s"
    k: int = 1
    relu: bool = False

    @property
    def name(self) -> str:
        kind = "relu" if self.relu else "gated gelu"
        chosen = f", top-{self.k}" if self.k > 1 else ""
        order = f", {self.order}" if self.order != REASSOCIATED else ""
        return f"{self.protocol}{order}: {self.d}, {self.f}, {self.E}, {self.n}, {kind}{chosen}, {self.params}"

    @cached_property
    def plan(self) -> LayerPlan:
        shape = MoeConfig(self.d, self.f, self.E, self.k, not self.relu, "relu" if self.relu else "gelu")
        activation = RELU if self.relu else DEFAULT_TABLES["gelu"]
        return PROTOCOLS[self.protocol].plan(shape, self.n, PARAM_SETS[self.params], activation, self.order)

    @property
    def cost(self) -> Cost:
        states = blank(Spec(self.plan.ring, (self.n, self.d)))
        return whole(PROTOCOLS[self.protocol].text.declared(states, states, None, plan=self.plan))

    def subject(self) -> Subject:
        plan, kind = self.plan, PROTOCOLS[self.protocol]
        draw = Draw(plan.params)
        ups = [draw.words(self.E, self.f, self.d, scale=self.d**-0.5) for _ in range(1 if self.relu else 2)]
        router = draw.words(self.E, self.d, scale=self.d**-0.5)
        down = draw.words(self.E, self.d, self.f, scale=self.f**-0.5)
        weights = MoeWeights(router, ups[0], None if self.relu else ups[1], down)
        service = HeService(plan.plans)
        x, residual = draw.words(self.n, self.d), draw.words(self.n, self.d)
        shares = [draw.shared(v) for v in (x, residual)]
        prepared = kind.weights.prepare(service.prepare, plan, weights)

        def expected() -> Words:
            words: Words = kind.text.realises.compute(x, residual, router, *ups, down, plan=plan)
            return words

        client, server = ([share[role] for share in shares] for role in (CLIENT, SERVER))
        return Subject(kind.text, plan, [*client, None], [*server, prepared], service, expected)


@dataclass(frozen=True)
class Block:
    """A block of a Transformer on random weights of a real scale: an encoder block of a Switch Transformer, or with
    groups of heads one of Mixtral's form. What a column of weights adds has the variance of its input, as T5 starts."""

    d: int
    f: int
    E: int
    heads: int
    n: int
    groups: int = 0

    @property
    def name(self) -> str:
        kind, groups = ("Mixtral's form", f" in {self.groups} groups") if self.groups else ("Switch block", "")
        return f"{kind}: {self.d}, {self.f}, {self.E}, {self.n}, {self.heads} heads{groups}, P64s"

    @cached_property
    def plan(self) -> BlockPlan:
        params, d, f, E = PARAM_SETS["P64s"], self.d, self.f, self.E
        if self.groups:
            return BlockPlan.mixtral(params, d, f, E, self.heads, self.groups, self.n)
        return BlockPlan.switch(params, d, f, E, self.heads, self.n)

    @property
    def cost(self) -> Cost:
        return whole(block.declared(blank(self.plan.states), None, None, plan=self.plan))

    def subject(self) -> Subject:
        plan, draw, d, f, E = self.plan, Draw(self.plan.params), self.d, self.f, self.E
        pairs = 2 * plan.attention.key_heads * plan.attention.width
        stacked = draw.words(d + pairs, d, scale=d**-0.5)
        stacked[:d] //= round(plan.attention.width**0.5)
        bias = [draw.words(*plan.attention.scores.shape)] if plan.biased else []
        weights = [stacked, draw.words(d, d, scale=d**-0.5), *bias, draw.words(E, d, scale=d**-0.5)]
        weights += [draw.words(E, f, d, scale=d**-0.5) for _ in range(2 if plan.shape.gated else 1)]
        weights.append(draw.words(E, d, f, scale=f**-0.5))
        x, mask, service = draw.words(self.n, d), np.zeros(self.n, np.int64), HeService(plan.plans)
        share = draw.shared(x)
        prepared = BlockWeights.prepare(service.prepare, plan, weights)
        client, server = [share[CLIENT], from_words(draw.ring, mask), None], [share[SERVER], None, prepared]
        return Subject(
            block, plan, client, server, service, lambda: BLOCK.compute(x, mask, *weights, plan=plan)
        )


SUBJECTS: tuple[Item, ...] = (
    Layer(64, 128, 8, 1),
    Layer(64, 128, 16, 8),
    Layer(64, 128, 8, 4, relu=True),
    Layer(128, 512, 32, 2),
    Layer(64, 128, 16, 2, k=2),
    Layer(64, 128, 8, 2, params="P64tiny"),
    Layer(64, 128, 8, 4, protocol=ROUTED),
    Layer(64, 256, 8, 1, order=LITERAL),
    Layer(768, 3072, 8, 1),
    Block(64, 128, 8, 4, 4),
)


class Draw:
    """Random words: of weights and states, and their shares."""

    def __init__(self, params: ParamSet) -> None:
        self.rng, self.params, self.ring = np.random.Generator(np.random.Philox(SEED)), params, Ring(params.ring_bits)

    def words(self, *shape: int, scale: float = 1.0) -> Words:
        return np.rint(self.rng.normal(size=shape) * scale * 2.0**self.params.frac_bits).astype(np.int64)

    def shared(self, words: Words) -> dict[Role, Any]:
        drawn = self.rng.integers(0, 2**64, words.shape, dtype=np.uint64) & np.uint64(self.ring.mask)
        ours = from_words(self.ring, drawn)
        return {CLIENT: ours, SERVER: from_words(self.ring, words) - ours}
