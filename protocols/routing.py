"""Oblivious top-k routing: maximum tournaments over (value, one-hot) pairs, and the router's probabilities.

The tournament keeps the original order, byes included, so ties go to the LOWER index by the circuit (`a >= b` keeps a),
never by opening anything. Rounds and bytes depend on E and k only.
"""

from __future__ import annotations

import math

from protocols import functionalities as F
from protocols.boolean import conjoin
from protocols.compare import DIGIT, drelu
from protocols.convert import mux
from protocols.nonlinear import exp, reciprocal
from protocols.products import mul
from protocols.sharing import invert, public_share
from protocols.truncate import FAITHFUL, truncate, truncate_known_sign
from sim.cost import FREE, Cost
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec, concat, stack
from sim.shapes import blank


def _top_k_cost(values: RingArray, *, k: int, l: int, w: int = DIGIT) -> Cost:
    batch, E = values.shape
    cost = FREE
    for selection in range(k):
        count, width = E, 1
        while count > 1:
            pairs = count // 2
            wide = blank(Spec(values.ring, (batch, pairs)))
            bit = blank(Spec(Ring(1), (batch, pairs)))
            right = blank(Spec(Ring(1), (batch, pairs, 2 * width)))
            merge = conjoin.declared(bit, right) if width > 1 else FREE
            cost += drelu.declared(wide, w=w) + (mux.declared(bit, wide) | merge)
            count, width = count - pairs, 2 * width
        if selection < k - 1:
            cost += mux.declared(blank(Spec(Ring(1), values.shape)), values)
    return cost


@protocol(realises=F.TOP_K, cites="[SecMoE] Protocol 1", cost=_top_k_cost)
async def top_k(p: Party, values: RingArray, *, k: int, l: int, w: int = DIGIT) -> tuple[RingArray, RingArray]:
    """The k largest of each row with their one-hot rows. values: (n, E) over Z_{2^l}, inside (-2^(l-2), 2^(l-2)).

    Returns winners (n, k) over the same ring, and Boolean one-hot rows (n, k, E). Ties: the lower index. After each
    selection the winner's value becomes -2^(l-2). Exact.
    """
    lowest = -(1 << (l - 2))
    rest, winners, hots = values, [], []
    for selection in range(k):
        winner, hot = await _maximum(p.child("maximum"), rest, w)
        winners.append(winner)
        hots.append(hot)
        if selection < k - 1:
            sunk = public_share(p, rest.const(lowest, rest.shape)) - rest
            rest = rest + await mux(p, hot, sunk)
    return stack(*winners, axis=1), stack(*hots, axis=1)


async def _maximum(p: Party, values: RingArray, w: int) -> tuple[RingArray, RingArray]:
    """One tournament: winner (n,) and its Boolean one-hot row (n, E)."""
    batch, E = values.shape
    hot = public_share(p, p.const(Ring(1), 1, (batch, E, 1)))
    while values.shape[1] > 1:
        odd, last = values.shape[1] % 2, values.shape[1] - values.shape[1] % 2
        left, right = values[:, 0:last:2], values[:, 1:last:2]
        keep = await drelu(p, left - right, w=w)
        chosen, merged = await p.gather(mux(p, keep, left - right), _merge(p, keep, hot[:, 0:last:2], hot[:, 1:last:2]))
        joined = right + chosen
        if odd:
            bye = hot[:, last:]
            padded = concat(bye, bye.const(0, bye.shape), axis=2)
            joined, merged = concat(joined, values[:, last:], axis=1), concat(merged, padded, axis=1)
        values, hot = joined, merged
    return values[:, 0], hot[:, 0, :E]


async def _merge(p: Party, keep: RingArray, left: RingArray, right: RingArray) -> RingArray:
    """One-hot rows of a pair: (keep & left, not keep & right). The leaves' rows are the public bit 1."""
    if left.shape[2] == 1:
        return stack(keep, invert(p, keep), axis=2)
    (both,) = await conjoin(p, keep, concat(left, right, axis=2))
    width = left.shape[2]
    return concat(both[:, :, :width], right ^ both[:, :, width:], axis=2)


def _one_hot_cost(index: RingArray, *, E: int) -> Cost:
    batch, bits = index.shape
    cost = FREE
    for level in range(1, bits):
        cost += conjoin.declared(blank(Spec(Ring(1), (batch,))), blank(Spec(Ring(1), (batch, 1 << level))))
    return cost


@protocol(realises=F.ONE_HOT, cites="[SecMoE] Protocol 1, step 2", cost=_one_hot_cost)
async def one_hot(p: Party, index: RingArray, *, E: int) -> RingArray:
    """The literal form of step 2: equality of a shared index with 0 .. E - 1, as a demultiplexer tree.

    index: Boolean digits (n, ceil(log2 E)), lowest first. Returns Boolean rows (n, E). Exact. log2 E - 1 rounds.
    """
    batch, bits = index.shape
    top = index[:, bits - 1]
    rows = stack(invert(p, top), top, axis=1)
    for level in range(bits - 2, -1, -1):
        digit = index[:, level]
        (on,) = await conjoin(p, digit, rows)
        rows = stack(rows ^ on, on, axis=2).reshape(batch, -1)
    return rows[:, :E]


def index_of(hot: RingArray) -> RingArray:
    """Boolean digits (n, ceil(log2 E)) of the position of the one, lowest first; local."""
    E = hot.shape[1]
    digits = []
    for j in range(max(1, math.ceil(math.log2(E)))):
        ones = [i for i in range(E) if i >> j & 1]
        digits.append(concat(*(hot[:, i : i + 1] for i in ones), axis=1).sum(1) if ones else hot[:, 0] ^ hot[:, 0])
    return stack(*digits, axis=1)


def spread_of(terms: int) -> int:
    """Bits by which a sum of so many exponentials, one of them 1, may exceed 1."""
    return max(1, math.ceil(math.log2(terms)))


def _probabilities_cost(
    logits: RingArray, winners: RingArray, *, s: int, l: int, renormalise: bool, mode: str = FAITHFUL, w: int = DIGIT
) -> Cost:
    batch, E = logits.shape
    k = winners.shape[1]
    if k == 1 and renormalise:
        return FREE
    scale = F.guard_bits(s, l)
    count = (k if renormalise else E + k) if k > 1 else E
    row = blank(Spec(logits.ring, (batch,)))
    cost = exp.declared(blank(Spec(logits.ring, (batch, count))), s=s, l=l, mode=mode, w=w)
    cost += reciprocal.declared(row, scale=scale, spread=spread_of(k if renormalise else E), mode=mode, w=w)
    if k == 1:
        return cost + truncate_known_sign.declared(winners, f=scale - s, mode=mode, w=w)
    floor = truncate_known_sign if mode == FAITHFUL else truncate
    return cost + mul.declared(winners, winners) + floor.declared(winners, f=2 * scale - s, mode=mode, w=w)


@protocol(realises=F.PROBABILITIES, cites="[Switch]", cost=_probabilities_cost)
async def probabilities(
    p: Party,
    logits: RingArray,
    winners: RingArray,
    *,
    s: int,
    l: int,
    renormalise: bool,
    mode: str = FAITHFUL,
    w: int = DIGIT,
) -> RingArray:
    """Softmax probability of the selected experts, at s fractional bits. logits: (n, E), winners: (n, k), s bits too.

    k = 1: 1 / sum_j exp(l_j - l_max) (or 1 when renormalised). k > 1: exp(l_sel - l_max) times that reciprocal, over
    all experts, or over the selected ones when renormalised. Returns (n, k).
    """
    batch, E = logits.shape
    k = winners.shape[1]
    if k == 1 and renormalise:
        return public_share(p, logits.const(1 << s, (batch, 1)))
    scale = F.guard_bits(s, l)
    both = logits if k == 1 else concat(logits, winners, axis=1)
    terms = winners if renormalise else both
    top = winners[:, :1].broadcast(*terms.shape)
    exps = await exp(p, terms - top, s=s, l=l, mode=mode, w=w)
    counted = exps if k == 1 or renormalise else exps[:, :E]
    inverse = await reciprocal(p, counted.sum(1), scale=scale, spread=spread_of(counted.shape[1]), mode=mode, w=w)
    inverse = inverse.reshape(batch, 1)
    if k == 1:
        return await truncate_known_sign(p, inverse, f=scale - s, mode=mode, w=w)
    chosen = exps if renormalise else exps[:, E:]
    product = await mul(p, chosen, inverse.broadcast(batch, k))
    floor = truncate_known_sign if mode == FAITHFUL else truncate  # one-ulp exponentials may be an ulp below zero
    return await floor(p, product, f=2 * scale - s, mode=mode, w=w)
