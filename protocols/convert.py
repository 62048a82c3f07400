"""From Boolean to arithmetic shares, and multiplexers, by correlated OT."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from protocols import functionalities as F
from protocols.ot.chosen import correlate, correlate_wide
from protocols.ot.ragged import correlate_ragged
from sim.cost import FREE, Cost, together
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, Role


def bit_times(
    p: Party, receiver: Role, bit: RingArray | None, x: RingArray | None, spec: Spec
) -> Coroutine[Any, Any, RingArray]:
    """Shares of bit * x over spec.ring, where `receiver` alone knows the bit and its peer alone knows x.

    A plain function, so that the scope of the OT is opened at the call and several may run side by side.
    """
    call = correlate(p, receiver, bit, x, shape=spec.shape, ring=spec.ring)

    async def signed() -> RingArray:
        share = await call
        return share if p.role is receiver else -share

    return signed()


def _b2a_cost(b: RingArray, *, ring: Ring, receiver: Role = CLIENT) -> Cost:
    return correlate.declared(receiver, None, None, shape=b.shape, ring=Ring(ring.l - 1)) if ring.l > 1 else FREE


@protocol(realises=F.BOOLEAN_TO_ARITHMETIC, cites="[CrypTFlow2]", cost=_b2a_cost)
async def b2a(p: Party, b: RingArray, *, ring: Ring, receiver: Role = CLIENT) -> RingArray:
    """Arithmetic shares of a shared bit, b = b_C + b_S - 2 b_C b_S. b: over Z_2; ring: 2^l.

    The product is needed modulo 2^(l-1) only (not at all in Z_2). Exact, 2 flights, l bits per element.
    """
    if ring.l == 1:
        return b
    mine = b.cast(ring)
    half = Ring(ring.l - 1)
    cross = await bit_times(
        p,
        receiver,
        b if p.role is receiver else None,
        None if p.role is receiver else b.cast(half),
        Spec(half, b.shape),
    )
    return mine - (cross.cast(ring) << 1)


def _mux_cost(b: RingArray, x: RingArray) -> Cost:
    return together(*(correlate.declared(r, None, None, shape=x.shape, ring=x.ring) for r in Role))


@protocol(realises=F.MULTIPLEXER, cites="[CrypTFlow2]", cost=_mux_cost)
async def mux(p: Party, b: RingArray, x: RingArray) -> RingArray:
    """b * x for a shared bit and a shared word of equal shapes. b: over Z_2, x: over 2^l.

    b x_C = b_C x_C + b_S (1 - 2 b_C) x_C, and likewise for x_S: one correlated OT each way. Exact, 2 flights, 2 (l + 1)
    bits per element.
    """
    mine = b.cast(x.ring)
    signed = x - ((mine * x) << 1) if x.ring.l > 1 else x
    to_client, to_server = await p.gather(
        *(bit_times(p, r, b if p.role is r else None, None if p.role is r else signed, x.spec) for r in Role)
    )
    product: RingArray = mine * x + to_client + to_server
    return product


def _mux_rows_cost(b: RingArray, x: RingArray) -> Cost:
    row = x.shape[b.ndim :]
    return together(
        *(correlate_ragged.declared(r, None, None, shape=b.shape, rings=(x.ring,), row=row) for r in Role)
    )


@protocol(realises=F.ROW_MULTIPLEXER, cites="[CrypTFlow2]", cost=_mux_rows_cost)
async def mux_rows(p: Party, b: RingArray, x: RingArray) -> RingArray:
    """A shared bit times every word of its row. b: over Z_2, shape (...); x: over 2^l, shape (..., *row).

    As `mux`, but a bit is chosen once for its whole row: 2 correlated OTs and 2 bits per bit, 2 l bits per word. Exact,
    2 flights.
    """
    row = x.shape[b.ndim :]
    mine = b.cast(x.ring).reshape(*b.shape, *(1 for _ in row)).broadcast(*x.shape)
    signed = x - ((mine * x) << 1) if x.ring.l > 1 else x
    (to_client,), (to_server,) = await p.gather(
        *(
            correlate_ragged(
                p,
                r,
                b.reshape(1, *b.shape) if p.role is r else None,
                None if p.role is r else [signed],
                shape=b.shape,
                rings=(x.ring,),
                row=row,
            )
            for r in Role
        )
    )
    received, kept = (to_client, to_server) if p.role is CLIENT else (to_server, to_client)
    product: RingArray = mine * x + received - kept
    return product


def _mux_public_cost(b: RingArray, *, constants: Sequence[int], ring: Ring) -> Cost:
    return correlate_wide.declared(CLIENT, None, None, shape=b.shape, rings=(Ring(ring.l - 1),) * len(constants))


@protocol(realises=F.SCALED_BITS, cites="[SecMoE]", cost=_mux_public_cost)
async def mux_public(p: Party, b: RingArray, *, constants: Sequence[int], ring: Ring) -> list[RingArray]:
    """b * c for a shared bit and each public constant c. b: over Z_2; ring: 2^l with l >= 2. Exact, 2 flights."""
    half = Ring(ring.l - 1)
    bits = b.cast(half)
    shares = await correlate_wide(
        p,
        CLIENT,
        b if p.role is CLIENT else None,
        None if p.role is CLIENT else tuple(bits * c for c in constants),
        shape=b.shape,
        rings=(half,) * len(constants),
    )
    sign = -1 if p.role is CLIENT else 1
    return [b.cast(ring) * c + (share.cast(ring) << 1) * sign for share, c in zip(shares, constants, strict=True)]
