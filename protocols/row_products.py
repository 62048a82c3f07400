"""Products along the rows of a shared matrix under encryption: sums of squares, and rows times a factor of their own.

The words of many rows fill a ciphertext, so that wide rows cost fewer bytes than by correlated OT. [SecMoE, Iron]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from protocols.cleartext.norms import SUMS_OF_SQUARES, NormRange
from protocols.crossing import CrossingPlan, crossing, met, met_cost
from protocols.he.packing import LinearPlan
from protocols.he.params import ParamSet
from protocols.matmul import matmul
from protocols.products import square
from sim.cost import Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.shapes import blank


@dataclass(frozen=True)
class RowPlan:
    """Public parameters of a norm's products: n rows of d words over the Z_{2^l} of a parameter set.

    squares, scaling: whether the squares, and the products with a row's factor, are computed under encryption.
    """

    params: ParamSet
    n: int
    d: int
    squares: bool = True
    scaling: bool = True

    @classmethod
    def fewest_bytes(cls, params: ParamSet, n: int, d: int, r: NormRange) -> RowPlan:
        """Under encryption what sends fewer bytes so than by correlated OT in the rings of a norm, whose extension is
        not counted; nothing where those rings are wider than the parameter set's."""
        plan = cls(params, n, d)
        if max(r.square, r.product) > params.ring_bits:
            return cls(params, n, d, False, False)
        words, squared = blank(plan.words), blank(Spec(Ring(r.square), (n, d)))
        factor, scaled = (blank(Spec(Ring(r.product), (n, 1, m))) for m in (1, d))
        squares = row_squares.declared(words, plan=plan).nbytes < square.declared(squared).nbytes
        return cls(params, n, d, squares, scaled_cost(plan).nbytes < matmul.declared(factor, scaled).nbytes)

    @property
    def words(self) -> Spec:
        """Ring and shape of the rows."""
        return Spec(Ring(self.params.ring_bits), (self.n, self.d))

    @cached_property
    def inner(self) -> LinearPlan:
        """The client's rows meet the server's own."""
        return CrossingPlan(self.params, self.n, 1, self.d, 1).left

    @cached_property
    def outer(self) -> CrossingPlan:
        """Factors times rows."""
        return CrossingPlan(self.params, self.n, 1, 1, self.d)

    @property
    def answers(self) -> list[tuple[LinearPlan, int]]:
        """Responses: (plan, rows)."""
        inner = [(self.inner, self.n // self.inner.parts)] if self.squares else []
        return [*inner, *(self.outer.answers if self.scaling else [])]

    @property
    def plans(self) -> tuple[LinearPlan, ...]:
        """Those of the responses."""
        return tuple(plan for plan, _ in self.answers)


def _squares_cost(x: RingArray, *, plan: RowPlan) -> Cost:
    return met_cost(x.reshape(plan.n, 1, plan.d), plan.inner)


@protocol(realises=SUMS_OF_SQUARES, cites="[SecMoE, Iron]", cost=_squares_cost)
async def row_squares(p: Party, x: RingArray, *, plan: RowPlan) -> RingArray:
    """The sum of squares of each row, (n, d) to (n,), over the plan's Z_{2^l}.

    x_C^2 + x_S^2 + 2 x_C x_S: one product of the client's share with the server's. Exact mod 2^l, 2 flights.
    """
    rows = x.reshape(plan.n, 1, plan.d)
    both = await met(p, rows, rows, plan=plan.inner)
    return (x * x).sum(1) + (both.reshape(plan.n) << 1)


def scaled_cost(plan: RowPlan) -> Cost:
    """Of `scaled`."""
    factor, rows = (blank(Spec(plan.words.ring, (plan.n, 1, m))) for m in (1, plan.d))
    return crossing.declared(factor, rows, plan=plan.outer)


async def scaled(p: Party, factor: RingArray, x: RingArray, *, plan: RowPlan) -> RingArray:
    """Row i of x (n, d) times factor i of (n,), a sharing in a narrower ring: exact in that ring.

    Each share of a factor is lifted as it is: what it is off is a multiple of the narrower modulus.
    """
    lifted = factor.cast(x.ring).reshape(plan.n, 1, 1)
    product = await crossing(p, lifted, x.reshape(plan.n, 1, plan.d), plan=plan.outer)
    return product.reshape(plan.n, plan.d).cast(factor.ring)
