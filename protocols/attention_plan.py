"""What is public of attention, and what the server's engine makes of its matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.compare import DIGIT
from protocols.crossing import CrossingPlan
from protocols.he.interface import Addend
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from sim.ring import Ring, RingArray, Spec

# Bits of the ring above a turned product: its sign, the quarter that its floor asks for, the root of 2, and values
# below 2^7.
TURN_ROOM = 10
FEWEST_TURN_BITS = 8


class HeadCount(ValueError):
    """Heads that do not divide the width, or groups that do not divide the heads."""


class RotaryRange(ValueError):
    """Rotary positions that a plan has no room for, or that its attention cannot have."""


@dataclass(frozen=True)
class AttentionPlan:
    """All public parameters of one attention block: n tokens of width d, `heads` heads of d / heads words each.

    causal: token i attends to tokens 0 .. i. biased: the server adds a private table (heads, n, keys) to the scores,
    such as a relative position bias. w: digit width of the comparisons. groups: heads of keys and values, each of them
    for heads / groups heads of queries (0: one for each) [GQA]. memory: keys and values are those of another stream, of
    so many tokens (0: of the stream itself). rotary: the base of rotary positions, such as 1e6 (0: none) [RoFormer].
    """

    params: ParamSet
    n: int
    d: int
    heads: int
    causal: bool = False
    biased: bool = False
    w: int = DIGIT
    groups: int = 0
    memory: int = 0
    rotary: float = 0.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.d % self.heads:
            raise HeadCount(f"attention: expected heads to divide d = {self.d}, got {self.heads}: change one of them")
        if self.groups < 0 or self.heads % self.key_heads:
            raise HeadCount(
                f"attention: expected groups to divide the {self.heads} heads, got {self.groups}: change one of them"
            )
        if self.memory and (self.causal or self.rotary):
            raise RotaryRange("attention to another stream: expected neither a causal mask nor rotary positions")
        if self.rotary and (self.width % 2 or self.turn < FEWEST_TURN_BITS or self.rotary < 1):
            raise RotaryRange(
                f"rotary positions: expected a base from 1, an even number of words in a head and room for "
                f"{FEWEST_TURN_BITS} bits of a cosine, got base {self.rotary}, {self.width} words and {self.turn} bits "
                f"with {self.params.name}: change the heads or take a wider ring"
            )

    @property
    def width(self) -> int:
        """Words in a head."""
        return self.d // self.heads

    @property
    def key_heads(self) -> int:
        return self.groups or self.heads

    @property
    def keys(self) -> int:
        """Tokens that are attended to."""
        return self.memory or self.n

    @property
    def turn(self) -> int:
        """Fractional bits of the public cosines and sines; 0 without rotary positions.

        Queries and keys are turned before they are floored, at 2 s bits: there is room for values below 2^7.
        """
        s, l = self.params.frac_bits, self.params.ring_bits
        return min(s, l - 2 * s - TURN_ROOM) if self.rotary else 0

    @cached_property
    def stacked(self) -> LinearPlan:
        """Queries, keys and values in one product; queries alone where the keys are another stream's."""
        further = 0 if self.memory else 2 * self.key_heads * self.width
        return LinearPlan.balanced(self.params, self.n, self.d, self.d + further)

    @cached_property
    def remembered(self) -> LinearPlan:
        """Keys and values of another stream."""
        return LinearPlan.balanced(self.params, self.memory, self.d, 2 * self.key_heads * self.width)

    @cached_property
    def merging(self) -> LinearPlan:
        """The output projection."""
        return LinearPlan.balanced(self.params, self.n, self.d, self.d)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        """Those with weights, then the others."""
        weighted = self.stacked, self.merging, *([self.remembered] if self.memory else [])
        return *weighted, *(plan for plan, _ in self.answers)

    @property
    def together(self) -> int:
        """Queries that share a head of keys."""
        return self.heads // self.key_heads * self.n

    @cached_property
    def scoring(self) -> CrossingPlan:
        """Queries times keys."""
        return CrossingPlan(self.params, self.key_heads, self.together, self.width, self.keys)

    @cached_property
    def mixing(self) -> CrossingPlan:
        """Shares of attention times values."""
        return CrossingPlan(self.params, self.key_heads, self.together, self.keys, self.width)

    @cached_property
    def answers(self) -> list[tuple[LinearPlan, int]]:
        """Responses beside those of the projections: (plan, rows)."""
        return [answer for part in (self.scoring, self.mixing) if part.pays for answer in part.answers]

    @property
    def states(self) -> Spec:
        """Of the tokens: ring and shape (n, d)."""
        return Spec(Ring(self.params.ring_bits), (self.n, self.d))

    @property
    def others(self) -> Spec:
        """Of the other stream: ring and shape (memory, d)."""
        return Spec(self.states.ring, (self.memory, self.d))

    @property
    def scores(self) -> Spec:
        """Of the scores: ring and shape (heads, n, keys)."""
        return Spec(self.states.ring, (self.heads, self.n, self.keys))

    @property
    def bias(self) -> Addend:
        """What the server's engine makes of the table of a biased block."""
        return Addend(self.params, self.scores.shape)

    @property
    def allowed(self) -> tuple[tuple[bool, ...], ...] | None:
        """Which token attends to which; None for all to all."""
        return tuple(tuple(j <= i for j in range(self.n)) for i in range(self.n)) if self.causal else None


@dataclass(frozen=True)
class AttentionWeights:
    """The server's side, prepared by its engine. stacked: rows of queries, keys, values, (d + 2 groups d / heads, d),
    the queries' scaled by 1 / sqrt(d / heads) where the model scales its scores; merging: (d, d); bias: the table of a
    biased block, at s bits, else None; remembered: rows of keys and values of another stream, else None, and then
    stacked has the queries' alone."""

    stacked: Any
    merging: Any
    bias: RingArray | None = None
    remembered: Any = None

    @classmethod
    def prepare(
        cls, prepare: Callable[[Any, Any], Any], plan: AttentionPlan, weights: Sequence[Any]
    ) -> AttentionWeights:
        """weights: stacked, merging, the bias of a biased block, the rows for another stream; signed integers at s
        bits."""
        rest = iter(weights)
        stacked, merging = prepare(plan.stacked, next(rest)), prepare(plan.merging, next(rest))
        bias = prepare(plan.bias, next(rest)) if plan.biased else None
        return cls(stacked, merging, bias, prepare(plan.remembered, next(rest)) if plan.memory else None)

    @property
    def responses(self) -> list[tuple[Any, int]]:
        """What an engine answers: (prepared weights, rows)."""
        return [(w, 1) for w in (self.stacked, self.merging, self.remembered) if w is not None]
