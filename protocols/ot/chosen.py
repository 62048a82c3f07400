"""Chosen and correlated oblivious transfer from the session's pool of COTs.

`receiver` is a public role; every party passes its own input and None for the other's. A COT is a key pair q, q ^ Delta
at the sender and a random choice u with t = q ^ u Delta at the receiver. The receiver corrects u to the wanted bit b by
sending e = b ^ u; then the key of value v is q ^ (v ^ e) Delta, and its hash is the pad of value v.
"""

from __future__ import annotations

import math

import numpy as np

from protocols.ot import ideal, work_kinds
from protocols.ot.functionalities import BIT_TRIPLES, CHOOSE, CORRELATE
from protocols.ot.kernels import U64, Bits, mask_tables, stream_fields, unmask_choices
from protocols.ot.service import CotSlice, slice_of
from sim.concrete import CONCRETE, to_words
from sim.cost import Cost, computed, cots, message
from sim.party import Party, protocol
from sim.ring import Z2, Ring, RingArray, Shape, Spec, stack
from sim.role import CLIENT, SERVER, Role
from sim.work import Work

MAX_CHOICES = 256
BLOCK_BITS = 128


class ChoiceCount(ValueError):
    """The number of messages of a 1-of-N OT is not a power of two between 2 and 256."""


class OperandMismatch(ValueError):
    """An OT input is missing, or of the wrong ring or shape, or given by the wrong party."""


def _checked(p: Party, owner: Role, name: str, x: RingArray | None, spec: Spec) -> RingArray | None:
    """x at its owner, None at the peer; raises OperandMismatch otherwise."""
    if (x is None) is (p.role is owner):
        raise OperandMismatch(f"{p.scope}: {name} is {owner.value}'s input, and {p.role.value} passed {x!r}")
    if x is not None and x.spec != spec:
        raise OperandMismatch(f"{p.scope}: expected {name} over {spec.ring} of shape {spec.shape}, got {x!r}")
    return x


def _bits(x: RingArray) -> Bits:
    return np.ascontiguousarray(x.value)


def _z2(bits: Bits, shape: Shape) -> RingArray:
    return RingArray(CONCRETE, Z2, shape, bits.reshape(shape))


# -- 1-of-N -------------------------------------------------------------------------------------------------------


def choose_cost(receiver: Role, *, shape: Shape, n_choices: int, width: int) -> Cost:
    """log2 N COTs and bits up, (N - 1) width bits down per OT."""
    n, w = math.prod(shape), n_choices.bit_length() - 1
    work = computed(Work({work_kinds.CHOSEN: n * n_choices * width}))
    return work + cots(receiver, n * w) + message(receiver, n * w) + message(receiver.peer, n * (n_choices - 1) * width)


def _choose_cost(receiver: Role, index: object, table: object, *, shape: Shape, n_choices: int, width: int) -> Cost:
    return choose_cost(receiver, shape=shape, n_choices=n_choices, width=width)


@protocol(realises=CHOOSE, cites="[KK13, NP99, CrypTFlow2]", cost=_choose_cost, ideal=ideal.choose)
async def choose(
    p: Party,
    receiver: Role,
    index: RingArray | None,
    table: RingArray | None,
    *,
    shape: Shape,
    n_choices: int,
    width: int,
) -> RingArray:
    """1-of-N OT of strings, N = n_choices = 2^w: XOR shares of table[index]; the first message is free.

    index: over Z_2^w, of `shape`, at the receiver. table: over Z_2, (*shape, N, width), at the sender. Output over Z_2,
    (*shape, width): uniform r at the sender, table[index] ^ r at the receiver. w COTs, w bits and (N - 1) width bits
    per OT, 2 flights. Raises ChoiceCount, OperandMismatch.
    """
    if not 2 <= n_choices <= MAX_CHOICES or n_choices & (n_choices - 1):
        raise ChoiceCount(f"1-of-N OT: expected N to be a power of two from 2 to {MAX_CHOICES}, got {n_choices}")
    w, count = n_choices.bit_length() - 1, math.prod(shape)
    index = _checked(p, receiver, "index", index, Spec(Ring(w), shape))
    table = _checked(p, receiver.peer, "table", table, Spec(Z2, (*shape, n_choices, width)))
    blocks = -(-n_choices * width // BLOCK_BITS)
    choice, masked = Spec(Z2, (*shape, w)), Spec(Z2, (*shape, n_choices - 1, width))
    pool = slice_of(p, "cots", receiver, count * w)
    if index is not None:
        u = p.compute(choice, _random_choices, pool, choice.shape)
        p.send("choice", stack(*[index.bit(j) for j in range(w)], axis=-1) ^ u)
        strings = await p.recv("masked", masked)
        out: RingArray = p.compute(Spec(Z2, (*shape, width)), _unmask, pool, blocks, index, strings)
        return out
    flips = await p.recv("choice", choice)
    rows = p.local(_mask, pool, blocks, flips, table)
    p.send("masked", p.compute(masked, _part, rows, 1, masked.shape))
    free: RingArray = p.compute(Spec(Z2, (*shape, width)), _part, rows, 0, (*shape, width))
    return free


def _random_choices(pool: CotSlice, shape: Shape) -> RingArray:
    return _z2(pool.choices, shape)


def _mask(pool: CotSlice, blocks: int, flips: RingArray, table: RingArray) -> tuple[Bits, Bits]:
    """The free messages (n, width) and the masked ones (n, N - 1, width) of all OTs."""
    w, (n_choices, width) = flips.shape[-1], table.shape[-2:]
    e, rows = _bits(flips).reshape(-1), _bits(table).reshape(-1, n_choices, width)
    ones = _digit_positions(n_choices, width, blocks)
    free, masked = np.empty((len(rows), width), np.uint8), np.empty((len(rows), n_choices - 1, width), np.uint8)
    for low, high, streams in pool.batches(blocks, w):
        at = slice(low // w, high // w)
        mask_tables(streams, e[low:high], ones, rows[at], free[at], masked[at])
    return free, masked


def _part(parts: tuple[Bits, ...], k: int, shape: Shape) -> RingArray:
    return _z2(parts[k], shape)


def _digit_positions(n_choices: int, width: int, blocks: int) -> U64:
    """(w, 2 blocks) words: for every digit j the stream bits of the messages i with i_j = 1, message i at i width."""
    w = n_choices.bit_length() - 1
    bits = np.zeros((w, blocks * BLOCK_BITS), np.uint8)
    digits = (np.arange(n_choices) >> np.arange(w)[:, None]) & 1
    bits[:, : n_choices * width] = np.repeat(digits, width, axis=1)
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def _unmask(pool: CotSlice, blocks: int, index: RingArray, masked: RingArray) -> RingArray:
    w, (others, width) = index.ring.l, masked.shape[-2:]
    count = index.size
    chosen, strings = to_words(index).reshape(-1), _bits(masked).reshape(count, others, width)
    out = np.empty((count, width), np.uint8)
    for low, high, streams in pool.batches(blocks, w):
        at = slice(low // w, high // w)
        unmask_choices(streams[0], chosen[at], strings[at], out[at])
    return _z2(out, (*index.shape, width))


# -- correlated ---------------------------------------------------------------------------------------------------


def correlate_cost(receiver: Role, *, shape: Shape, rings: tuple[Ring, ...]) -> Cost:
    """One COT, 1 bit up and the sum of the ring widths down per OT."""
    n = math.prod(shape)
    work = computed(Work({work_kinds.CORRELATED: n}))
    return work + cots(receiver, n) + message(receiver, n) + message(receiver.peer, n * sum(ring.l for ring in rings))


def _wide_cost(receiver: Role, bits: object, deltas: object, *, shape: Shape, rings: tuple[Ring, ...]) -> Cost:
    return correlate_cost(receiver, shape=shape, rings=rings)


def _narrow_cost(receiver: Role, bit: object, delta: object, *, shape: Shape, ring: Ring) -> Cost:
    return correlate_cost(receiver, shape=shape, rings=(ring,))


@protocol(realises=CORRELATE, cites="[ALSZ13, CrypTFlow2]", cost=_wide_cost, ideal=ideal.correlate_wide)
async def correlate_wide(
    p: Party,
    receiver: Role,
    bits: RingArray | None,
    deltas: tuple[RingArray, ...] | None,
    *,
    shape: Shape,
    rings: tuple[Ring, ...],
) -> tuple[RingArray, ...]:
    """Correlated OTs in which one choice bit serves a delta in each of several rings.

    bits: over Z_2, of `shape`, at the receiver. deltas: one array per ring, of `shape`, at the sender. Output per ring:
    pseudorandom r at the sender, r + bit * delta at the receiver. One COT, 1 bit and the sum of the ring widths in bits
    per element, 2 flights. Raises OperandMismatch.
    """
    bits = _checked(p, receiver, "bits", bits, Spec(Z2, shape))
    if (deltas is None) is (p.role is receiver.peer) or (deltas is not None and len(deltas) != len(rings)):
        raise OperandMismatch(f"{p.scope}: expected {len(rings)} deltas from {receiver.peer.value}, got {deltas!r}")
    for ring, delta in zip(rings, deltas or (), strict=deltas is not None):
        _checked(p, receiver.peer, "delta", delta, Spec(ring, shape))
    pool = slice_of(p, "cots", receiver, math.prod(shape))
    specs, total = [Spec(ring, shape) for ring in rings], sum(ring.l for ring in rings)
    wire = specs[0] if len(specs) == 1 else Spec(Z2, (*shape, total))
    if bits is not None:
        u = p.compute(bits.spec, _random_choices, pool, shape)
        p.send("choice", bits ^ u)
        pads = p.local(_pads, pool, None, rings)
        joined = await p.recv("masked", wire)
        return tuple(p.compute(s, _added, joined, pads, bits, rings, k) for k, s in enumerate(specs))
    flips = await p.recv("choice", Spec(Z2, shape))
    pads = p.local(_pads, pool, flips, rings)
    p.send("masked", p.compute(wire, _corrections, pads, deltas, rings, wire))
    return tuple(p.compute(s, _pad, pads, s, k) for k, s in enumerate(specs))


@protocol(realises=CORRELATE, cites="[ALSZ13, CrypTFlow2]", cost=_narrow_cost)
async def correlate(
    p: Party, receiver: Role, bit: RingArray | None, delta: RingArray | None, *, shape: Shape, ring: Ring
) -> RingArray:
    """Correlated OT in one ring: r at the sender, r + bit * delta at the receiver; see `correlate_wide`."""
    deltas = None if delta is None else (delta,)
    (out,) = await correlate_wide(p, receiver, bit, deltas, shape=shape, rings=(ring,))
    return out


def _pads(pool: CotSlice, flips: RingArray | None, rings: tuple[Ring, ...]) -> list[list[U64]]:
    """Per ring, the pads of value 0 and 1 at the sender; at the receiver (no flips) of its own value only."""
    n = len(pool.keys)
    zero = np.zeros(n, np.uint8) if flips is None else _bits(flips).reshape(-1)
    which = [zero] if flips is None else [zero, zero ^ np.uint8(1)]
    out = [[np.empty(n, np.uint64) for _ in which] for _ in rings]
    for low, high, streams in pool.batches(-(-sum(ring.l for ring in rings) // BLOCK_BITS)):
        offset = 0
        for ring, pads in zip(rings, out, strict=True):
            for select, pad in zip(which, pads, strict=True):
                stream_fields(streams, select[low:high], offset, ring.l, pad[low:high])
            offset += ring.l
    return out


def _array(ring: Ring, words: U64, shape: Shape) -> RingArray:
    value = words & np.uint64(ring.mask)
    return RingArray(CONCRETE, ring, shape, (value.astype(np.uint8) if ring.l == 1 else value).reshape(shape))


def _corrections(
    pads: list[list[U64]], deltas: tuple[RingArray, ...], rings: tuple[Ring, ...], wire: Spec
) -> RingArray:
    """pad_0 + delta - pad_1 in every ring, side by side in bits."""
    words = [zero + to_words(d).reshape(-1) - one for (zero, one), d in zip(pads, deltas, strict=True)]
    if len(rings) == 1:
        return _array(rings[0], words[0], wire.shape)
    return _z2(np.concatenate([_unpack(x, ring.l) for x, ring in zip(words, rings, strict=True)], axis=1), wire.shape)


def _added(joined: RingArray, pads: list[list[U64]], bits: RingArray, rings: tuple[Ring, ...], k: int) -> RingArray:
    """pad + bit * correction in ring k."""
    start, ring = sum(r.l for r in rings[:k]), rings[k]
    if len(rings) == 1:
        correction = to_words(joined).reshape(-1)
    else:
        correction = _pack(_bits(joined).reshape(bits.size, joined.shape[-1])[:, start : start + ring.l])
    return _array(ring, pads[k][0] + to_words(bits).reshape(-1) * correction, bits.shape)


def _pad(pads: list[list[U64]], spec: Spec, k: int) -> RingArray:
    return _array(spec.ring, pads[k][0], spec.shape)


def _unpack(words: U64, l: int) -> Bits:
    """(n,) words -> (n, l) bits, lowest first."""
    return np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :l]


def _pack(bits: Bits) -> U64:
    """(n, l) bits -> (n,) words."""
    wide = np.zeros((len(bits), 64), np.uint8)
    wide[:, : bits.shape[1]] = bits
    return np.packbits(wide, axis=1, bitorder="little").view(np.uint64).reshape(-1)


# -- bit triples --------------------------------------------------------------------------------------------------


def bit_triples_cost(*, shape: Shape, right: int) -> Cost:
    """One COT per direction and triple; no communication."""
    n = math.prod(shape)
    work = computed(Work({work_kinds.TRIPLES: n, work_kinds.TRIPLE_BITS: n * right}))
    return work + cots(CLIENT, n) + cots(SERVER, n)


@protocol(realises=BIT_TRIPLES, cites="[ALSZ13, CrypTFlow2]", cost=bit_triples_cost, ideal=ideal.bit_triples)
async def bit_triples(p: Party, *, shape: Shape, right: int) -> tuple[RingArray, RingArray, RingArray]:
    """XOR shares of random a (`shape`), b and c (*shape, right) over Z_2 with a & b = c: one left, many right factors.

    No communication. In the direction to this party it holds u and m_u, in the other one m_0 and m_1. a = u and
    b = m_0 ^ m_1: the cross terms a_P & b_Q = m_u ^ m_0 are shared already.
    """
    n, peer = math.prod(shape), p.role.peer
    wide = Spec(Z2, (*shape, right))
    pools = {role: slice_of(p, f"to-{role.value}", role, n) for role in (CLIENT, SERVER)}
    a = p.compute(Spec(Z2, shape), _random_choices, pools[p.role], shape)
    received = p.compute(wide, _strings, pools[p.role], wide.shape)
    sent = p.compute(Spec(Z2, (2, *wide.shape)), _strings, pools[peer], (2, *wide.shape))
    b = sent[0] ^ sent[1]
    c = (a.reshape(*shape, 1).broadcast(*wide.shape) & b) ^ received ^ sent[0]
    return a, b, c


def _strings(pool: CotSlice, shape: Shape) -> RingArray:
    """The first bits of every stream, (*shape): of its own key at the receiver, of both keys in front at the sender."""
    n, right = len(pool.keys), shape[-1]
    bits = np.empty((1 if pool.delta is None else 2, n, right), np.uint8)
    for low, high, streams in pool.batches(-(-right // BLOCK_BITS)):
        bits[:, low:high] = np.unpackbits(streams.view(np.uint8), axis=2, bitorder="little", count=right)
    return _z2(bits, shape)
