"""Token embedding: rows of the server's table, or products with it, as shares; plus the server's positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.cleartext.attention import EMBEDDING
from protocols.he.interface import Addend
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.linear import linear
from protocols.sharing import own_share, prepared_share
from protocols.truncate import truncate
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER
from sim.shapes import blank

ONE_HOT = "one-hot"
VALUES = "values"
ROWS = "rows"


class UnknownInput(ValueError):
    """A kind of client input that is not built."""


@dataclass(frozen=True)
class EmbeddingPlan:
    """Public parameters: n tokens of `features` words each become n states of width d.

    inputs: what the client puts in. "one-hot": rows of a private table, chosen by one-hot rows without fractional bits;
    "values": numbers at s bits, times a private matrix; "rows": the table is public, the client has looked its rows up,
    at s bits (features = d).
    """

    params: ParamSet
    n: int
    features: int
    d: int
    inputs: str = ONE_HOT

    def __post_init__(self) -> None:
        if self.inputs not in (ONE_HOT, VALUES, ROWS) or (self.inputs == ROWS and self.features != self.d):
            raise UnknownInput(
                f"embedding: expected {ONE_HOT}, {VALUES}, or {ROWS} of width d = {self.d}, got {self.inputs!r} of "
                f"width {self.features}"
            )

    @cached_property
    def product(self) -> LinearPlan:
        """Of the client's words with the table."""
        return LinearPlan.fewest_bytes(self.params, self.n, self.features, self.d)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        return () if self.inputs == ROWS else (self.product,)

    @property
    def given(self) -> Spec:
        """Of the client's words."""
        return Spec(Ring(self.params.ring_bits), (self.n, self.features))

    @property
    def position(self) -> Addend:
        """What the server's engine makes of its positions."""
        return Addend(self.params, (self.n, self.d))


@dataclass(frozen=True)
class EmbeddingWeights:
    """The server's side, prepared by its engine. table: (d, features), None where it is public; position: (n, d)."""

    table: Any
    position: RingArray

    @classmethod
    def prepare(
        cls, prepare: Callable[[Any, Any], Any], plan: EmbeddingPlan, weights: Sequence[Any]
    ) -> EmbeddingWeights:
        """weights: table (unless public), positions; signed integers at s bits."""
        *table, position = weights
        return cls(prepare(plan.product, table[0]) if table else None, prepare(plan.position, position))

    @property
    def responses(self) -> list[tuple[Any, int]]:
        """What an engine answers: (prepared weights, rows)."""
        return [] if self.table is None else [(self.table, 1)]


def _embed_cost(features: object, weights: object, *, plan: EmbeddingPlan) -> Cost:
    if plan.inputs == ROWS:
        return FREE
    given, s = plan.given, plan.params.frac_bits
    cost = linear.declared(blank(given), None, plan=plan.product)
    out = blank(Spec(given.ring, plan.product.outputs))
    return cost + truncate.declared(out, f=s) if plan.inputs == VALUES else cost


@protocol(realises=EMBEDDING, cites="[Iron]", cost=_embed_cost)
async def embed(
    p: Party, features: RingArray | None, weights: EmbeddingWeights | None, *, plan: EmbeddingPlan
) -> RingArray:
    """Shared states (n, d) at s bits: the client's words (n, features) times the server's table, plus its positions.

    features: the client's (None at the server); weights: the server's, prepared (None at the client). Exact for one-hot
    rows; values are floored once. Neither party learns a word of the other's; with a public table there is no message.
    """
    state = own_share(p, CLIENT, features, plan.given)
    if plan.inputs != ROWS:
        state = await linear(p, state, None if weights is None else weights.table, plan=plan.product)
    if plan.inputs == VALUES:
        state = await truncate(p, state, f=plan.params.frac_bits)
    return state + prepared_share(p, SERVER, None if weights is None else weights.position, state.spec)
