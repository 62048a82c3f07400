"""One greedy step of a decoder: the most likely next token, which only the client learns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protocols.cleartext.blocks import NEXT_TOKEN
from protocols.compare import DIGIT
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.linear import linear
from protocols.norms import rms_norm
from protocols.ot.ragged import correlate_ragged
from protocols.sharing import reveal_to
from protocols.softmax import argmax
from protocols.truncate import truncate_bounded
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT
from sim.shapes import blank


@dataclass(frozen=True)
class NextTokenPlan:
    """Public parameters: n states of width d, padding included, a head of `vocabulary` >= 2 rows. reach, epsilon: of
    the final norm, as in BlockPlan."""

    params: ParamSet
    n: int
    d: int
    vocabulary: int
    reach: int = 6
    epsilon: float = 1e-6
    w: int = DIGIT

    @cached_property
    def head(self) -> LinearPlan:
        return LinearPlan.balanced(self.params, 1, self.d, self.vocabulary)

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        return (self.head,)

    @property
    def row(self) -> Spec:
        """Of the state that the next token follows from."""
        return Spec(Ring(self.params.ring_bits), (1, self.d))

    @property
    def logits(self) -> Spec:
        return Spec(self.row.ring, (1, self.vocabulary))

    @property
    def digits(self) -> Spec:
        """Of the answer: Boolean, lowest first."""
        return Spec(Ring(1), (1, (self.vocabulary - 1).bit_length()))

    @property
    def norm(self) -> dict[str, Any]:
        """Public parameters of the norm."""
        return {"s": self.params.frac_bits, "reach": self.reach, "eps": self.epsilon, "w": self.w}


def _next_token_cost(x: RingArray, last: object, weights: object, *, plan: NextTokenPlan) -> Cost:
    rows = (plan.row.ring,)
    cost = correlate_ragged.declared(CLIENT, None, None, shape=(plan.n,), rings=rows, row=(plan.d,))
    row, logits = blank(plan.row), blank(plan.logits)
    cost += rms_norm.declared(row, **plan.norm) + linear.declared(row, None, plan=plan.head)
    cost += truncate_bounded.declared(logits, f=plan.params.frac_bits, w=plan.w) + argmax.declared(logits, w=plan.w)
    return cost + reveal_to.declared(CLIENT, blank(plan.digits))


@protocol(realises=NEXT_TOKEN, cites="[Mixtral]", cost=_next_token_cost)
async def next_token(p: Party, x: RingArray, last: RingArray | None, weights: Any, *, plan: NextTokenPlan) -> RingArray:
    """The index of the first largest logit after the client's last token, at the client; zeros at the server.

    x: shared (n, d) at s fractional bits over Z_{2^l}, below 2^reach; last: the client's one-hot bits (n,) over Z_2 of
    the last real token (None at the server): where it stands among n, and so how many tokens are real, stays hidden.
    weights: the server's head (vocabulary, d), prepared for plan.head (None at the client), its products with a normed
    row below 2^(l-2) in size. Returns the Boolean digits (1, ceil(log2 vocabulary)), lowest first, bit for bit
    NEXT_TOKEN. A bit takes its row of the server's share by one correlated OT.
    """
    client = p.role is CLIENT
    (crossed,) = await correlate_ragged(
        p,
        CLIENT,
        None if last is None else last.reshape(1, plan.n),
        None if client else [x],
        shape=(plan.n,),
        rings=(x.ring,),
        row=(plan.d,),
    )
    rows = -crossed
    if last is not None:
        rows = crossed + last.cast(x.ring).reshape(plan.n, 1).broadcast(*x.shape) * x
    state = await rms_norm(p, rows.sum(0).reshape(1, plan.d), **plan.norm)
    products = await linear(p, state, weights, plan=plan.head)
    logits = await truncate_bounded(p, products, f=plan.params.frac_bits, w=plan.w)
    return await reveal_to(p, CLIENT, await argmax(p, logits, w=plan.w))
