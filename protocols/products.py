"""Products of shared words by correlated OT [Gilboa].

x y = x_C y_C + x_S y_S + (x_C y_S + x_S y_C): each cross term is one correlated OT per bit of its receiver's factor;
bit i contributes modulo 2^(l-i) only. The product of the two private words is used directly: a Beaver triple made the
same way would cost the same and two openings on top.
"""

from __future__ import annotations

from protocols import functionalities as F
from protocols.ot.ragged import correlate_ragged
from sim.cost import Cost, together
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, stack
from sim.role import CLIENT, SERVER, Role


def ladder(ring: Ring) -> tuple[Ring, ...]:
    """The rings that the bits of a factor contribute in, lowest bit first."""
    return tuple(Ring(ring.l - i) for i in range(ring.l))


def _cross_cost(x: RingArray | None, y: RingArray | None, *, receiver: Role, spec: Spec) -> Cost:
    return correlate_ragged.declared(receiver, None, None, shape=spec.shape, rings=ladder(spec.ring))


@protocol(realises=F.PRODUCT, cites="[Gilboa]", cost=_cross_cost)
async def cross(p: Party, x: RingArray | None, y: RingArray | None, *, receiver: Role, spec: Spec) -> RingArray:
    """Shares of x * y, x known to the receiver, y to its peer; both of `spec`. Exact, 2 flights, l (l + 3) / 2 bits."""
    rings = ladder(spec.ring)
    bits = stack(*(x.bit(i) for i in range(len(rings)))) if p.role is receiver and x is not None else None
    deltas = [y.cast(ring) for ring in rings] if p.role is not receiver and y is not None else None
    shares = await correlate_ragged(p, receiver, bits, deltas, shape=spec.shape, rings=rings)
    total = shares[0]
    for i, share in enumerate(shares[1:], start=1):
        total = total + (share.cast(spec.ring) << i)
    return total if p.role is receiver else -total


def _mul_cost(x: RingArray, y: RingArray) -> Cost:
    return together(*(cross.declared(None, None, receiver=r, spec=x.spec) for r in Role))


@protocol(realises=F.PRODUCT, cites="[Gilboa]", cost=_mul_cost)
async def mul(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """x * y of two shared arrays of one ring and shape. Exact, 2 flights, l (l + 3) bits per element."""
    terms = await p.gather(
        cross(p, *((x, None) if p.role is CLIENT else (None, y)), receiver=CLIENT, spec=x.spec),
        cross(p, *((x, None) if p.role is SERVER else (None, y)), receiver=SERVER, spec=x.spec),
    )
    product: RingArray = x * y + terms[0] + terms[1]
    return product


def _square_cost(x: RingArray) -> Cost:
    return cross.declared(None, None, receiver=CLIENT, spec=Spec(Ring(x.ring.l - 1), x.shape))


@protocol(realises=F.SQUARE, cites="[Gilboa]", cost=_square_cost)
async def square(p: Party, x: RingArray) -> RingArray:
    """x^2 = x_C^2 + x_S^2 + 2 x_C x_S; the cross term is needed modulo 2^(l-1). l >= 2. Exact, 2 flights."""
    half = Ring(x.ring.l - 1)
    mine = x.cast(half)
    args = (mine, None) if p.role is CLIENT else (None, mine)
    both = await cross(p, *args, receiver=CLIENT, spec=Spec(half, x.shape))
    return x * x + (both.cast(x.ring) << 1)
