"""A model's price by layer and operator, and how the operators follow one another.

A row is one operator of one layer, by the closed form of its protocol. Correlated OTs are counted here and become bytes
where the whole query's pool is known: see `priced`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from protocols.attention import attention, cross_attention
from protocols.attention_plan import AttentionPlan
from protocols.cleartext.norms import NormRange
from protocols.compare import DIGIT
from protocols.feed_forward import FeedForwardPlan, feed_forward
from protocols.generation import NextTokenPlan, next_token
from protocols.he.interface import Plan
from protocols.he.params import ParamSet
from protocols.hidden import RELU
from protocols.layer_plan import LayerPlan
from protocols.model.config import MoeConfig
from protocols.model.tables import DEFAULT_TABLES, Table
from protocols.moe import combination_cost, route_cost
from protocols.norms import rms_norm
from protocols.pricing.shapes import SPARSE, ModelShape
from protocols.routing import probabilities
from protocols.row_products import RowPlan
from sim.cost import FREE, Cost, sequence
from sim.party import ProtocolDecl
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank

EMBEDDING, NORMS, ATTENTION, CROSS = "embedding", "norms", "attention", "cross-attention"
ROUTING, PROBABILITIES, EXPERTS = "routing", "probabilities", "selection and experts"
DENSE, SHARED, HEAD = "dense feed-forward", "shared experts", "head"
OPERATORS = (EMBEDDING, NORMS, ATTENTION, CROSS, ROUTING, PROBABILITIES, EXPERTS, SHARED, DENSE, HEAD)
PARTS = (ROUTING, PROBABILITIES, EXPERTS)  # of a sparse layer
OF_ROUTING = PARTS[:2]
SPARSE_LAYER = "sparse layer"
REACH = 6  # the residual stream stays below 2^6, as in the blocks

LayerPlans = Callable[[MoeConfig, int, ParamSet, Table | str], LayerPlan]


@dataclass(frozen=True)
class SparseProtocol:
    """A protocol for sparse layers, `(p, x, residual, weights, *, plan)`, and what makes its plan."""

    name: str
    text: ProtocolDecl[Any]
    plan: LayerPlans


@dataclass(frozen=True)
class Row:
    """One operator of one layer; layer: such as "encoder 3"."""

    layer: str
    operator: str
    cost: Cost


@dataclass(frozen=True)
class Operators:
    """All operators of a model on n tokens, under a parameter set and a protocol for its sparse layers."""

    shape: ModelShape
    n: int
    params: ParamSet
    protocol: SparseProtocol
    w: int = DIGIT

    @property
    def activation(self) -> Table | str:
        name = self.shape.layer.activation
        return RELU if name == RELU else DEFAULT_TABLES[name]

    @cached_property
    def sparse(self) -> LayerPlan:
        return self.protocol.plan(self.shape.layer, self.n, self.params, self.activation)

    def attention(self, memory: bool = False, causal: bool = False) -> AttentionPlan:
        s, n = self.shape, self.n
        if memory:
            return AttentionPlan(self.params, n, s.layer.d, s.heads, w=self.w, groups=s.groups, memory=n)
        biased = s.rotary == 0
        return AttentionPlan(self.params, n, s.layer.d, s.heads, causal, biased, self.w, s.groups, rotary=s.rotary)

    @cached_property
    def head(self) -> NextTokenPlan:
        s = self.shape
        return NextTokenPlan(self.params, self.n, s.layer.d, s.vocabulary, REACH, s.epsilon, self.w)

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """Of everything under encryption: they say which keys a session needs."""
        found: list[Plan] = [*self.normed.plans]
        if self.shape.encoder:
            found += self.attention().plans
        if self.shape.decoder:
            found += [*self.attention(causal=True).plans, *self.head.plans]
        if self.shape.encoder and self.shape.decoder:
            found += self.attention(memory=True).plans
        blocks = (*self.shape.encoder, *self.shape.decoder)
        if SPARSE in blocks:
            found += self.sparse.plans
        for dense in self._dense.values():
            found += dense.plans
        return tuple(found)

    @cached_property
    def states(self) -> RingArray:
        return blank(self.attention().states)

    @cached_property
    def normed(self) -> RowPlan:
        """Of the norms' products."""
        return _normed(self.params, self.n, self.shape.layer.d, self.shape.epsilon)

    @cached_property
    def norm(self) -> Cost:
        return _norm(self.normed, self.params.frac_bits, self.shape.epsilon, self.w)

    @cached_property
    def layer(self) -> Cost:
        """The whole sparse layer."""
        return self.protocol.text.declared(self.states, self.states, None, plan=self.sparse)

    @cached_property
    def parts(self) -> tuple[Cost, Cost, Cost]:
        """Routing, probabilities, and the rest of a sparse layer, whose rounds are those beside the probabilities."""
        shape, a, n, l = self.shape.layer, self.sparse.arithmetic, self.n, self.params.ring_bits
        ring = self.states.ring
        logits, winners = blank(Spec(ring, (n, shape.E))), blank(Spec(ring, (n, shape.k)))
        wants = {"renormalise": shape.renormalise, "mode": a.mode}
        routing = route_cost(self.sparse) + combination_cost(self.sparse)
        weights = probabilities.declared(logits, winners, s=a.s, l=l, w=a.w, **wants)
        return routing, weights, _rest(self.layer, routing, weights)

    @property
    def rows(self) -> Iterator[Row]:
        """In the order of computation; of a sparse layer its parts."""
        for layer, operator, cost in self._steps:
            if operator == SPARSE_LAYER:
                yield from (Row(layer, *part) for part in zip(PARTS, self.parts, strict=True))
            else:
                yield Row(layer, operator, cost)

    @property
    def cost(self) -> Cost:
        """Of all of them, without what makes their correlated OTs."""
        return sequence(*(cost for _, _, cost in self._steps))

    @cached_property
    def _steps(self) -> tuple[tuple[str, str, Cost], ...]:
        """(layer, operator, cost), one after the other."""
        return tuple(self._made())

    def _made(self) -> Iterator[tuple[str, str, Cost]]:
        yield "embedding", EMBEDDING, FREE
        for stream, blocks in (("encoder", self.shape.encoder), ("decoder", self.shape.decoder)):
            causal = stream == "decoder"
            for i, width in enumerate(blocks):
                yield from ((f"{stream} {i}", *step) for step in self._block(width, causal))
            if blocks and not causal:
                yield "encoder norm", NORMS, self.norm
        if self.shape.decoder:
            yield "head", HEAD, _next(self.head)

    def _block(self, width: int, causal: bool) -> Iterator[tuple[str, Cost]]:
        yield NORMS, self.norm
        yield ATTENTION, self._attention[causal]
        if causal and self.shape.encoder:
            yield NORMS, self.norm
            yield CROSS, self._cross
        yield NORMS, self.norm
        if width != SPARSE:
            yield DENSE, _fed(self._dense[width])
            return
        yield SPARSE_LAYER, self.layer
        if self.shape.shared:
            yield SHARED, _fed(self._dense[self.shape.shared])

    @cached_property
    def _dense(self) -> dict[int, FeedForwardPlan]:
        """By hidden width."""
        shape, widths = self.shape.layer, {*self.shape.encoder, *self.shape.decoder, self.shape.shared} - {SPARSE}
        kinds = shape.gated, self.activation
        return {f: FeedForwardPlan(self.params, self.n, shape.d, f, *kinds, w=self.w) for f in sorted(widths)}

    @cached_property
    def _attention(self) -> dict[bool, Cost]:
        """By whether it is causal."""
        kinds = [kind for kind, blocks in ((False, self.shape.encoder), (True, self.shape.decoder)) if blocks]
        return {causal: _attended(self.attention(causal=causal)) for causal in kinds}

    @cached_property
    def _cross(self) -> Cost:
        return _crossed(self.attention(memory=True))


# What does not depend on experts is priced once for all numbers of them.


@lru_cache
def _normed(params: ParamSet, n: int, d: int, eps: float) -> RowPlan:
    return RowPlan.fewest_bytes(params, n, d, NormRange.of(d, params.frac_bits, REACH, eps, centred=False))


@lru_cache
def _norm(plan: RowPlan, s: int, eps: float, w: int) -> Cost:
    return rms_norm.declared(blank(plan.words), s=s, reach=REACH, eps=eps, w=w, plan=plan)


@lru_cache
def _attended(plan: AttentionPlan) -> Cost:
    return attention.declared(blank(plan.states), None, None, plan=plan)


@lru_cache
def _crossed(plan: AttentionPlan) -> Cost:
    return cross_attention.declared(blank(plan.states), blank(plan.others), None, None, plan=plan)


@lru_cache
def _fed(plan: FeedForwardPlan) -> Cost:
    return feed_forward.declared(blank(Spec(Ring(plan.params.ring_bits), (plan.tokens, plan.d))), None, plan=plan)


@lru_cache
def _next(plan: NextTokenPlan) -> Cost:
    return next_token.declared(blank(Spec(plan.row.ring, (plan.n, plan.d))), None, None, plan=plan)


def _rest(whole: Cost, before: Cost, beside: Cost) -> Cost:
    """A layer without its routing; its rounds are those that routing and combination leave."""
    left = whole.rounds - before.rounds
    return Cost(
        whole.c2s - before.c2s - beside.c2s,
        whole.s2c - before.s2c - beside.s2c,
        whole.messages - before.messages - beside.messages,
        whole.cot_client - before.cot_client - beside.cot_client,
        whole.cot_server - before.cot_server - beside.cot_server,
        ((left, left), (left, left)),
        whole.work - before.work - beside.work,
    )
