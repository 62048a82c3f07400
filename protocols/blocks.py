"""Blocks of a Transformer with normalisation first: attention, attention to another stream, the sparse layer.

One text for several architectures: what differs is in the plan. `BlockPlan.switch` has the encoder and decoder blocks
of a Switch Transformer (T5's norms and unscaled scores, a relative position bias, experts with ReLU, top-1),
`BlockPlan.mixtral` the decoder block of Mixtral (rotary positions, grouped keys, SwiGLU, top-2 renormalised). Gains of
norms are folded into the matrices that read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from protocols.attention import attention, cross_attention
from protocols.attention_plan import AttentionPlan, AttentionWeights
from protocols.cleartext.blocks import BLOCK, DECODER_BLOCK
from protocols.cleartext.norms import NormRange
from protocols.compare import DIGIT
from protocols.expert_weights import Prepare
from protocols.he.interface import Engine
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import ParamSet
from protocols.layer_plan import REASSOCIATED, LayerPlan, LayerWeights
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import SILU_MINIMAX, Table
from protocols.moe import moe_layer
from protocols.norms import rms_norm
from protocols.polynomial import CHEAPEST
from protocols.row_products import RowPlan
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class BlockPlan:
    """All public parameters of one block on n tokens; see AttentionPlan and LayerPlan for those of its parts.

    memory: tokens of another stream, to which a second attention is paid (0: none). reach: the residual stream stays
    below 2^reach in absolute value; beyond, the norms are wrong. epsilon: of the norms.
    """

    shape: MoeConfig
    tokens: int
    heads: int
    params: ParamSet
    activation: Table | str
    causal: bool = False
    biased: bool = False
    groups: int = 0
    memory: int = 0
    rotary: float = 0.0
    order: str = REASSOCIATED
    w: int = DIGIT
    form: str = CHEAPEST
    reach: int = 6
    epsilon: float = 1e-6

    @classmethod
    def switch(
        cls, params: ParamSet, d: int, f: int, E: int, heads: int, tokens: int, memory: int = 0, reach: int = 6
    ) -> BlockPlan:
        """An encoder block, or with a memory a decoder block, of a Switch Transformer. [Switch]"""
        shape = MoeConfig(d, f, E, gated=False, activation="relu")
        return cls(shape, tokens, heads, params, "relu", memory > 0, True, memory=memory, reach=reach)

    @classmethod
    def mixtral(
        cls, params: ParamSet, d: int, f: int, E: int, heads: int, groups: int, tokens: int, rotary: float = 1e6
    ) -> BlockPlan:
        """A decoder block of Mixtral. [Mixtral]"""
        shape = MoeConfig(d, f, E, k=2, activation="silu", renormalise=True)
        return cls(shape, tokens, heads, params, SILU_MINIMAX, True, groups=groups, rotary=rotary, epsilon=1e-5)

    @cached_property
    def attention(self) -> AttentionPlan:
        d, n = self.shape.d, self.tokens
        return AttentionPlan(
            self.params, n, d, self.heads, self.causal, self.biased, self.w, self.groups, rotary=self.rotary
        )

    @cached_property
    def cross(self) -> AttentionPlan:
        """Of the attention to another stream: without positions."""
        d, n = self.shape.d, self.tokens
        return AttentionPlan(self.params, n, d, self.heads, w=self.w, groups=self.groups, memory=self.memory)

    @cached_property
    def layer(self) -> LayerPlan:
        return LayerPlan(self.shape, self.tokens, self.params, self.activation, self.order, w=self.w, form=self.form)

    @cached_property
    def rows(self) -> RowPlan:
        """Of the norms' products."""
        params, d = self.params, self.shape.d
        found = NormRange.of(d, params.frac_bits, self.reach, self.epsilon, centred=False)
        return RowPlan.fewest_bytes(params, self.tokens, d, found)

    @property
    def norms(self) -> int:
        """How many there are."""
        return 3 if self.memory else 2

    @property
    def plans(self) -> tuple[LinearPlan | SelectPlan, ...]:
        cross = self.cross.plans if self.memory else ()
        return *self.attention.plans, *cross, *self.layer.plans, *self.rows.plans

    @property
    def states(self) -> Spec:
        """Of the residual stream: ring and shape (n, d)."""
        return self.attention.states

    @property
    def norm(self) -> dict[str, Any]:
        """Public parameters of the norms."""
        public = {"s": self.params.frac_bits, "reach": self.reach, "eps": self.epsilon, "w": self.w}
        return public | {"plan": self.rows}


@dataclass(frozen=True)
class BlockWeights:
    """The server's side of a block, prepared by its engine. cross: None without a memory."""

    attention: AttentionWeights
    cross: AttentionWeights | None
    moe: LayerWeights

    @classmethod
    def prepare(cls, prepare: Prepare, plan: BlockPlan, weights: Sequence[Any]) -> BlockWeights:
        """weights: those of attention, of the attention to a memory, router and experts; signed integers at s bits."""
        rest = iter(weights)
        own = AttentionWeights.prepare(prepare, plan.attention, list(islice(rest, 3 if plan.biased else 2)))
        cross = AttentionWeights.prepare(prepare, plan.cross, list(islice(rest, 3))) if plan.memory else None
        router, w1, *gate, w2 = rest
        experts = MoeWeights(router, w1, gate[0] if gate else None, w2)
        return cls(own, cross, LayerWeights.prepare(prepare, plan.layer, experts))

    def responses(self, plan: BlockPlan) -> list[tuple[Any, int]]:
        """What an engine answers in one query: (prepared weights, rows)."""
        crossed = [] if self.cross is None else [*self.cross.responses, *plan.cross.answers]
        layer, norms = self.moe.responses(plan.layer), plan.rows.answers * plan.norms
        return [*self.attention.responses, *plan.attention.answers, *crossed, *layer, *norms]


def _first_cost(plan: BlockPlan) -> Cost:
    states = blank(plan.states)
    return rms_norm.declared(states, **plan.norm) + attention.declared(states, None, None, plan=plan.attention)


def _last_cost(plan: BlockPlan) -> Cost:
    states = blank(plan.states)
    return rms_norm.declared(states, **plan.norm) + moe_layer.declared(states, states, None, plan=plan.layer)


def _block_cost(x: RingArray, mask: object, weights: object, *, plan: BlockPlan) -> Cost:
    return _first_cost(plan) + _last_cost(plan)


@protocol(realises=BLOCK, cites="[SecMoE, Switch, Mixtral]", cost=_block_cost)
async def block(
    p: Party, x: RingArray, mask: RingArray | None, weights: BlockWeights | None, *, plan: BlockPlan
) -> RingArray:
    """x <- x + Attention(RMSNorm(x)); x <- x + MoE(RMSNorm(x)).

    x: shared (n, d) at s fractional bits over Z_{2^l}, below 2^reach; mask: the client's (n,), what is added to all
    scores of a token as a key (None at the server); weights: the server's, prepared (None at the client). Returns
    (n, d), bit for bit BLOCK. Nothing is opened.
    """
    if weights is not None:
        p.local(_admit, p.service("he"), weights, plan)  # the whole query, before its first response
    x = x + await _attended(p, x, mask, weights, plan)
    return await _sparse(p, x, weights, plan)


def _decoder_block_cost(
    x: RingArray, memory: RingArray, mask: object, memory_mask: object, weights: object, *, plan: BlockPlan
) -> Cost:
    crossed = cross_attention.declared(x, memory, None, None, plan=plan.cross)
    return _first_cost(plan) + rms_norm.declared(x, **plan.norm) + crossed + _last_cost(plan)


@protocol(realises=DECODER_BLOCK, cites="[SecMoE, Switch]", cost=_decoder_block_cost)
async def decoder_block(
    p: Party,
    x: RingArray,
    memory: RingArray,
    mask: RingArray | None,
    memory_mask: RingArray | None,
    weights: BlockWeights | None,
    *,
    plan: BlockPlan,
) -> RingArray:
    """As `block`, with x <- x + CrossAttention(RMSNorm(x), memory) between its two steps.

    memory: shared (plan.memory, d) at s fractional bits, the encoder's output after its norm; memory_mask: the client's
    (plan.memory,), for its tokens (None at the server). Returns (n, d), bit for bit DECODER_BLOCK.
    """
    if weights is not None:
        p.local(_admit, p.service("he"), weights, plan)  # the whole query, before its first response
    x = x + await _attended(p, x, mask, weights, plan)
    asks, cross = await rms_norm(p, x, **plan.norm), None if weights is None else weights.cross
    x = x + await cross_attention(p, asks, memory, memory_mask, cross, plan=plan.cross)
    return await _sparse(p, x, weights, plan)


def _admit(he: Engine, weights: BlockWeights, plan: BlockPlan) -> None:
    he.admit(weights.responses(plan))


async def _attended(
    p: Party, x: RingArray, mask: RingArray | None, weights: BlockWeights | None, plan: BlockPlan
) -> RingArray:
    normed, own = await rms_norm(p, x, **plan.norm), None if weights is None else weights.attention
    return await attention(p, normed, mask, own, plan=plan.attention)


async def _sparse(p: Party, x: RingArray, weights: BlockWeights | None, plan: BlockPlan) -> RingArray:
    normed = await rms_norm(p, x, **plan.norm)
    return await moe_layer(p, normed, x, None if weights is None else weights.moe, plan=plan.layer)
