"""Products of shared matrices by correlated OT: a bit of one factor takes a whole row of the other. [Gilboa, ALSZ13]

X Y = X_C Y_C + X_S Y_S + (X_C Y_S + X_S Y_C). In a cross term each bit of x_ij, at one party, chooses the row j of the
other's matrix: n m l correlated OTs with rows of r words, in place of n m r l OTs of one word each. Or, by transposing,
each bit of y_jk chooses a column of X: r m l of them with n words each. The words sent are the same, the fewer OTs win.
"""

from __future__ import annotations

from protocols.cleartext.attention import MATRIX_PRODUCT
from protocols.ot.ragged import correlate_ragged
from protocols.products import ladder
from sim.cost import Cost, together
from sim.party import Party, protocol
from sim.ring import RingArray, ShapeMismatch, Spec, stack
from sim.role import Role


def check_shapes(x: RingArray, y: RingArray) -> None:
    """Raises ShapeMismatch unless x y is a product of matrices with equal leading axes."""
    if min(x.ndim, y.ndim) < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
        raise ShapeMismatch(f"matrix product: expected (..., n, m) and (..., m, r), got {x.shape} and {y.shape}")


def _by_rows(x: RingArray, y: RingArray) -> bool:
    """Whether the bits of x choose rows of y, rather than the bits of y columns of x."""
    return x.shape[-2] <= y.shape[-1]


def _cross_cost(x: RingArray | None, y: RingArray | None, *, receiver: Role, left: Spec, right: Spec) -> Cost:
    rings, row = ladder(left.ring), right.shape[-1:]
    return correlate_ragged.declared(receiver, None, None, shape=left.shape, rings=rings, row=row)


@protocol(realises=MATRIX_PRODUCT, cites="[Gilboa, ALSZ13]", cost=_cross_cost)
async def cross_matmul(
    p: Party, x: RingArray | None, y: RingArray | None, *, receiver: Role, left: Spec, right: Spec
) -> RingArray:
    """Shares of x y, x (..., n, m) of `left` known to the receiver, y (..., m, r) of `right` to its peer.

    The bits of x choose rows of y: n m l correlated OTs, n m r l (l + 1) / 2 bits of rows. Exact mod 2^l, 2 flights.
    """
    ring, rings, r = left.ring, ladder(left.ring), right.shape[-1]
    wide, bits, deltas = (*left.shape, r), None, None
    if p.role is receiver and x is not None:
        bits = stack(*(x.bit(i) for i in range(len(rings))))
    if p.role is not receiver and y is not None:
        *batch, m, _ = right.shape
        spread = y.reshape(*batch, 1, m, r).broadcast(*wide)
        deltas = [spread.cast(narrow) for narrow in rings]
    shares = await correlate_ragged(p, receiver, bits, deltas, shape=left.shape, rings=rings, row=(r,))
    total = shares[0]
    for i, share in enumerate(shares[1:], start=1):
        total = total + (share.cast(ring) << i)
    product = total.sum(-2)
    return product if p.role is receiver else -product


def _matmul_cost(x: RingArray, y: RingArray) -> Cost:
    left, right = (x, y) if _by_rows(x, y) else (swapped(y), swapped(x))
    return together(
        *(cross_matmul.declared(None, None, receiver=role, left=left.spec, right=right.spec) for role in Role)
    )


@protocol(realises=MATRIX_PRODUCT, cites="[Gilboa, ALSZ13]", cost=_matmul_cost)
async def matmul(p: Party, x: RingArray, y: RingArray) -> RingArray:
    """x y of shared matrices, (..., n, m) times (..., m, r), with equal leading axes. Returns (..., n, r).

    Exact mod 2^l, 2 flights. Per direction and leading index: min(n, r) m l correlated OTs, as many bits of choices and
    n m r l (l + 1) / 2 bits of rows. Raises ShapeMismatch.
    """
    check_shapes(x, y)
    rows = _by_rows(x, y)
    left, right = (x, y) if rows else (swapped(y), swapped(x))
    to_client, to_server = await p.gather(
        *(
            cross_matmul(
                p, *((left, None) if p.role is role else (None, right)), receiver=role, left=left.spec, right=right.spec
            )
            for role in Role
        )
    )
    crossed = to_client + to_server
    return local_product(x, y) + (crossed if rows else swapped(crossed))


def local_product(x: RingArray, y: RingArray) -> RingArray:
    """x y of matrices that one party holds."""
    *batch, n, m = x.shape
    wide = (*batch, n, m, y.shape[-1])
    left, right = x.reshape(*batch, n, m, 1), y.reshape(*batch, 1, m, y.shape[-1])
    return (left.broadcast(*wide) * right.broadcast(*wide)).sum(-2)


def swapped(x: RingArray) -> RingArray:
    """The last two axes exchanged."""
    return x.transpose(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
