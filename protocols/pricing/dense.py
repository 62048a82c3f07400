"""The closed form of a dense feed-forward, from those of its steps: product, hidden units, product, floor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from protocols.feed_forward import hidden_cost
from protocols.he.interface import a2h, h2a
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.model.tables import Table
from protocols.select import Arithmetic
from protocols.truncate import truncate
from sim.cost import Cost
from sim.ring import Ring, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class DensePlan:
    """Public parameters: n tokens of width d, hidden width f; gated: two matrices meet the upload of the states."""

    params: ParamSet
    n: int
    d: int
    f: int
    gated: bool
    activation: Table | str
    w: int

    @cached_property
    def up(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.n, self.d, self.f, answers=2 if self.gated else 1)

    @cached_property
    def down(self) -> LinearPlan:
        return LinearPlan.cheapest(self.params, self.n, self.f, self.d)

    @cached_property
    def cost(self) -> Cost:
        """Of the unit on shared states, without norm and residual."""
        ring, a = Ring(self.params.ring_bits), Arithmetic(self.params.frac_bits, w=self.w)
        x, hidden = blank(Spec(ring, (1, self.n, self.d))), blank(Spec(ring, (1, self.n, self.f)))
        products = blank(Spec(ring, (2 if self.gated else 1, self.n, self.f)))
        answer = h2a.declared(None, plan=self.up, count=1)
        cost = a2h.declared(x, layout=self.up.operand("x")) + (answer | answer if self.gated else answer)
        cost += hidden_cost(products, None, activation=self.activation, a=a)
        cost += a2h.declared(hidden, layout=self.down.operand("x")) + h2a.declared(None, plan=self.down, count=1)
        return cost + truncate.declared(x, f=a.s, mode=a.mode, w=a.w)
