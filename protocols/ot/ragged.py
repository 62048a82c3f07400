"""Correlated OTs over a ladder of rings, in one message each way: the shape of a product by bits [Gilboa].

Element i of every factor needs its correction modulo 2^(l_i) only; sending exactly those bits halves a product's cost.
One choice bit may serve a whole row of deltas, as in a matrix product: the row costs one COT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from protocols.ot import ideal, work_kinds
from protocols.ot.chosen import OperandMismatch, _checked, _random_choices, _unpack
from protocols.ot.functionalities import CORRELATE
from protocols.ot.kernels import U64, Bits, stream_fields
from protocols.ot.service import CotSlice, slice_of
from sim.concrete import CONCRETE, to_words
from sim.cost import Cost, computed, cots, message
from sim.party import Party, protocol
from sim.ring import Z2, Ring, RingArray, Shape, Spec
from sim.role import Role
from sim.work import Work


def _ragged_cost(
    receiver: Role, bits: object, deltas: object, *, shape: Shape, rings: Sequence[Ring], row: Shape = ()
) -> Cost:
    n, m = math.prod(shape), len(rings)
    down = message(receiver.peer, n * math.prod(row) * sum(ring.l for ring in rings))
    work = computed(Work({work_kinds.ROWS: n * m, work_kinds.ROW_WORDS: n * m * math.prod(row)}))
    return work + cots(receiver, n * m) + message(receiver, n * m) + down


@protocol(realises=CORRELATE, cites="[ALSZ13, Gilboa]", cost=_ragged_cost, ideal=ideal.correlate_ragged)
async def correlate_ragged(
    p: Party,
    receiver: Role,
    bits: RingArray | None,
    deltas: Sequence[RingArray] | None,
    *,
    shape: Shape,
    rings: Sequence[Ring],
    row: Shape = (),
) -> list[RingArray]:
    """One correlated OT per ring and element.

    bits: over Z_2, (len(rings), *shape), at the receiver. deltas: one array (*shape, *row) per ring, at the sender: a
    bit multiplies its whole row. Output per ring, (*shape, *row): pseudorandom r at the sender, r + bit * delta at the
    receiver. One COT and 1 bit per ring and element up, the sum of the ring widths in bits per element of the deltas
    down, 2 flights. Raises OperandMismatch.
    """
    tall, wide = Spec(Z2, (len(rings), *shape)), (*shape, *row)
    bits = _checked(p, receiver, "bits", bits, tall)
    if (deltas is None) is (p.role is receiver.peer) or (deltas is not None and len(deltas) != len(rings)):
        raise OperandMismatch(f"{p.scope}: expected {len(rings)} deltas from {receiver.peer.value}, got {deltas!r}")
    for ring, delta in zip(rings, deltas or (), strict=deltas is not None):
        _checked(p, receiver.peer, "delta", delta, Spec(ring, wide))
    pool = slice_of(p, "cots", receiver, tall.size)
    wire = Spec(Z2, (math.prod(wide) * sum(ring.l for ring in rings),))
    if bits is not None:
        p.send("choice", bits ^ p.compute(tall, _random_choices, pool, tall.shape))
        pads = p.local(_own_pads, pool, math.prod(row))
        masked = await p.recv("masked", wire)
        corrections = p.local(_split, masked, rings)
        return [p.compute(Spec(r, wide), _add, pads, bits, corrections, i, r, wide) for i, r in enumerate(rings)]
    flips = await p.recv("choice", tall)
    both = p.local(_both_pads, pool, flips, math.prod(row))
    p.send("masked", p.compute(wire, _join, both, deltas, rings, wire))
    return [p.compute(Spec(r, wide), _word, both, i, r, wide, len(rings)) for i, r in enumerate(rings)]


def _read(pool: CotSlice, which: Sequence[Bits], count: int) -> list[U64]:
    """The first `count` words of the hashed stream of one variant per COT, for each choice of variants: (COTs, count).

    Words of 64 bits whatever the ring: hashing is cheap beside the wire.
    """
    out = [np.empty((count, len(pool.keys)), np.uint64) for _ in which]
    for low, high, streams in pool.batches(-(-count // 2)):
        for select, pads in zip(which, out, strict=True):
            for k, pad in enumerate(pads):
                stream_fields(streams, select[low:high], 64 * k, 64, pad[low:high])
    return [np.ascontiguousarray(pads.T) for pads in out]


def _own_pads(pool: CotSlice, count: int) -> U64:
    return _read(pool, [np.zeros(len(pool.keys), np.uint8)], count)[0]


def _both_pads(pool: CotSlice, flips: RingArray, count: int) -> list[U64]:
    e = np.ascontiguousarray(flips.value).reshape(-1)
    return _read(pool, [e, e ^ np.uint8(1)], count)


def _join(both: list[U64], deltas: Sequence[RingArray], rings: Sequence[Ring], wire: Spec) -> RingArray:
    zero, one = (pad.reshape(len(rings), -1) for pad in both)
    words = [zero[i] + to_words(delta).reshape(-1) - one[i] for i, delta in enumerate(deltas)]
    parts = [_unpack(np.ascontiguousarray(x), ring.l).reshape(-1) for x, ring in zip(words, rings, strict=True)]
    return RingArray(CONCRETE, Z2, wire.shape, np.concatenate(parts))


def _split(masked: RingArray, rings: Sequence[Ring]) -> list[U64]:
    total = sum(ring.l for ring in rings)
    n, at, words = masked.size // total, 0, []
    for ring in rings:
        wide = np.zeros((n, 64), np.uint8)
        wide[:, : ring.l] = np.ascontiguousarray(masked.value)[at : at + n * ring.l].reshape(n, ring.l)
        words.append(np.packbits(wide, axis=1, bitorder="little").view(np.uint64).reshape(-1))
        at += n * ring.l
    return words


def _add(pads: U64, bits: RingArray, corrections: list[U64], i: int, ring: Ring, shape: Shape) -> RingArray:
    rows = len(corrections)
    chosen = np.ascontiguousarray(bits.value).reshape(rows, -1)[i].astype(np.uint64)
    chosen = np.repeat(chosen, pads.shape[1])
    return _ring_array(pads.reshape(rows, -1)[i] + chosen * corrections[i], ring, shape)


def _word(both: list[U64], i: int, ring: Ring, shape: Shape, rows: int) -> RingArray:
    return _ring_array(both[0].reshape(rows, -1)[i], ring, shape)


def _ring_array(words: U64, ring: Ring, shape: Shape) -> RingArray:
    value = words & np.uint64(ring.mask)
    return RingArray(CONCRETE, ring, shape, (value.astype(np.uint8) if ring.l == 1 else value).reshape(shape))
