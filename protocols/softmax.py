"""Maxima and softmax on shares, over whole rows or over the entries that a public mask allows.

A mask is a public shape (a padded length, a causal triangle): what it forbids is not computed at all. Rows of different
lengths lie side by side in one flat axis; which neighbours meet in a round of a tournament is public too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from protocols import functionalities as G
from protocols.boolean import conjoin
from protocols.cleartext import norms as F
from protocols.compare import DIGIT, drelu
from protocols.convert import mux
from protocols.matmul import matmul
from protocols.nonlinear import exp, product_ring, reciprocal
from protocols.norms import floor_into, floor_into_cost
from protocols.sharing import invert
from protocols.truncate import FAITHFUL
from sim.cost import FREE, Cost, together
from sim.party import Party, protocol
from sim.ring import Z2, Ring, RingArray, Spec, concat, stack
from sim.shapes import blank


class Round(NamedTuple):
    """One round of tournaments as positions in the flat axis: who meets whom, and who waits. The winners lie first."""

    left: list[int]
    right: list[int]
    byes: list[int]


def rounds(lengths: Sequence[int]) -> tuple[list[Round], list[int]]:
    """The tournaments of rows of these lengths, side by side, and where each row's winner lies in the end.

    Neighbours meet in the original order, the odd one out waits behind them: so a tie goes to the lower index.
    """
    starts = accumulate(lengths, initial=0)
    rows = [list(range(at, at + n)) for at, n in zip(starts, lengths, strict=False)]
    found = []
    while any(len(row) > 1 for row in rows):
        pairs = [row[i : i + 2] for row in rows for i in range(0, len(row) - 1, 2)]
        found.append(Round([a for a, _ in pairs], [b for _, b in pairs], [row[-1] for row in rows if len(row) % 2]))
        winner, bye, after = 0, len(pairs), []
        for row in rows:
            half, odd = divmod(len(row), 2)
            after.append([*range(winner, winner + half), *range(bye, bye + odd)])
            winner, bye = winner + half, bye + odd
        rows = after
    return found, [row[0] for row in rows]


def taken(x: RingArray, positions: Sequence[int]) -> RingArray:
    """The entries of axis 1 at public positions, in this order; a slice per run of equal steps."""
    runs: list[list[int]] = []
    for at in positions:
        run = runs[-1] if runs else []
        if (len(run) == 1 and at > run[0]) or (len(run) > 1 and at - run[-1] == run[1] - run[0]):
            run.append(at)
        else:
            runs.append([at])
    return concat(*(x[:, run[0] : run[-1] + 1 : run[1] - run[0] if len(run) > 1 else 1] for run in runs), axis=1)


def _meet_cost(x: RingArray, lengths: Sequence[int], w: int, *, digits: bool = False) -> Cost:
    """digits: of `argmax`, whose last round has no use for the winners' values."""
    cost, meetings = FREE, rounds(lengths)[0]
    for level, meet in enumerate(meetings):
        pairs = (x.shape[0], len(meet.left))
        word, bit = blank(Spec(x.ring, pairs)), blank(Spec(Z2, pairs))
        merge = conjoin.declared(bit, blank(Spec(Z2, (*pairs, level)))) if digits and level else FREE
        values = FREE if digits and level == len(meetings) - 1 else mux.declared(bit, word)
        cost += drelu.declared(word, w=w) + (values | merge)
    return cost


def _followed(winners: RingArray, values: RingArray, meet: Round) -> RingArray:
    """The winners of a round, then those who waited."""
    return concat(winners, taken(values, meet.byes), axis=1) if meet.byes else winners


async def _compared(p: Party, values: RingArray, meet: Round, w: int) -> tuple[RingArray, RingArray, RingArray]:
    """Of each pair: the right one, the left one less it, and whether that is not negative."""
    low = taken(values, meet.right)
    above = taken(values, meet.left) - low
    return low, above, await drelu(p, above, w=w)


async def _highest(p: Party, values: RingArray, lengths: Sequence[int], w: int) -> RingArray:
    """The maximum of each row: (batch, sum of lengths) to (batch, rows)."""
    meetings, winners = rounds(lengths)
    for meet in meetings:
        low, above, keep = await _compared(p, values, meet, w)
        values = _followed(low + await mux(p, keep, above), values, meet)
    return taken(values, winners)


def _maximum_cost(x: RingArray, *, w: int = DIGIT) -> Cost:
    return _meet_cost(x.reshape(-1, x.shape[-1]), x.shape[-1:], w)


@protocol(realises=F.MAXIMUM, cites="[CrypTFlow2]", cost=_maximum_cost)
async def maximum(p: Party, x: RingArray, *, w: int = DIGIT) -> RingArray:
    """The maximum over the last axis, (..., m) to (...), of x in [-2^(l-2), 2^(l-2)): a tournament of values. Exact."""
    *batch, m = x.shape
    return (await _highest(p, x.reshape(-1, m), [m], w)).reshape(*batch)


def _argmax_cost(x: RingArray, *, w: int = DIGIT) -> Cost:
    return _meet_cost(x, x.shape[1:], w, digits=True)


@protocol(realises=F.ARGMAX, cites="[CrypTFlow2]", cost=_argmax_cost)
async def argmax(p: Party, x: RingArray, *, w: int = DIGIT) -> RingArray:
    """The index of the maximum, ties to the lower one: x (n, E), E >= 2, in [-2^(l-2), 2^(l-2)).

    Returns its Boolean digits (n, ceil(log2 E)), lowest first: round j of the tournament makes digit j, and carries the
    lower ones of the winner along. Exact.
    """
    values, digits = x, list[RingArray]()
    *earlier, last = rounds(x.shape[1:])[0]
    for meet in earlier:
        low, above, keep = await _compared(p, values, meet, w)
        chosen, kept = await p.gather(mux(p, keep, above), _kept(p, keep, digits, meet))
        winners = [*kept, invert(p, keep)]
        if meet.byes:
            waiting = [taken(digit, meet.byes) for digit in digits]
            waiting.append(p.const(Z2, 0, (x.shape[0], len(meet.byes))))
            winners = [concat(a, b, axis=1) for a, b in zip(winners, waiting, strict=True)]
        values, digits = _followed(low + chosen, values, meet), winners
    _, _, keep = await _compared(p, values, last, w)
    return stack(*(digit[:, 0] for digit in (*await _kept(p, keep, digits, last), invert(p, keep))), axis=1)


async def _kept(p: Party, keep: RingArray, digits: list[RingArray], meet: Round) -> list[RingArray]:
    """The digits of each pair's winner: the left one's where `keep`."""
    if not digits:
        return []
    behind = [taken(digit, meet.right) for digit in digits]
    apart = [taken(digit, meet.left) ^ right for digit, right in zip(digits, behind, strict=True)]
    (both,) = await conjoin(p, keep, stack(*apart, axis=2))
    return [right ^ both[:, :, j] for j, right in enumerate(behind)]


def _softmax_cost(
    x: RingArray,
    *,
    s: int,
    l: int,
    allowed: F.Mask | None = None,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    into: Ring | None = None,
) -> Cost:
    rows = F.allowed_rows(x.shape, allowed)
    lengths, scale = [len(row) for row in rows], G.guard_bits(s, l)
    batch, narrow = x.size // (x.shape[-1] * len(rows)), product_ring(scale)
    flat, out = (blank(Spec(ring, (batch, sum(lengths)))) for ring in (x.ring, narrow))
    row = blank(Spec(narrow, (batch, len(rows))))
    cost = _meet_cost(flat, lengths, w) + exp.declared(flat, s=s, l=l, mode=mode, w=w, into=narrow)
    cost += reciprocal.declared(row, scale=scale, spread=F.spread_of(rows), mode=mode, w=w)
    products = []
    for length in sorted(set(lengths)):
        count = batch * lengths.count(length)
        factors, words = (blank(Spec(narrow, (count, 1, m))) for m in (1, length))
        products.append(matmul.declared(factors, words))
    return cost + together(*products) + floor_into_cost(out, f=2 * scale - s, ring=into or x.ring, mode=mode, w=w)


@protocol(realises=F.SOFTMAX, cites="[SIRNN]", cost=_softmax_cost)
async def softmax(
    p: Party,
    x: RingArray,
    *,
    s: int,
    l: int,
    allowed: F.Mask | None = None,
    mode: str = FAITHFUL,
    w: int = DIGIT,
    into: Ring | None = None,
) -> RingArray:
    """exp(x - max) / sum over the last axis of x (..., m) over Z_{2^k}, |x| < 2^(k-3), s fractional bits in and out.

    allowed: a public mask of n rows of m booleans for x (..., n, m); the other entries come out as 0 and cost nothing.
    Maximum by a tournament, exponentials, one reciprocal per row, whose bits choose whole rows of exponentials; all
    behind the maximum in the ring of 2F + 4 bits. Returns the same shape over the ring `into` (default: x's): scores
    that are known to be small may come in a ring of a few bits, where comparisons are cheap. l sets the guard bits.
    Raises MaskShape.
    """
    rows, scale = F.allowed_rows(x.shape, allowed), G.guard_bits(s, l)
    lengths, m = [len(row) for row in rows], x.shape[-1]
    narrow, result = product_ring(scale), into or x.ring
    every = x.reshape(-1, len(rows) * m)
    flat = taken(every, [i * m + j for i, row in enumerate(rows) for j in row])
    batch, total = flat.shape
    top = await _highest(p.child("maximum"), flat, lengths, w)
    tops = concat(*(top[:, i : i + 1].broadcast(batch, length) for i, length in enumerate(lengths)), axis=1)
    exps = await exp(p, flat - tops, s=s, l=l, mode=mode, w=w, into=narrow)
    parts = [exps[:, end - length : end] for end, length in zip(accumulate(lengths), lengths, strict=True)]
    sums = stack(*(part.sum(1) for part in parts), axis=1)
    inverse = await reciprocal(p, sums, scale=scale, spread=F.spread_of(rows), mode=mode, w=w)
    products = await _row_products(p, inverse, parts)
    below = mode != FAITHFUL  # one-ulp exponentials may be an ulp below zero
    y = await floor_into(p, concat(*products, axis=1), f=2 * scale - s, ring=result, centre=below, mode=mode, w=w)
    if total == len(rows) * m:
        return y.reshape(*x.shape)
    places = {i * m + j: at for at, (i, j) in enumerate((i, j) for i, row in enumerate(rows) for j in row)}
    filled = concat(y, y.const(0, (batch, 1)), axis=1)
    return taken(filled, [places.get(at, total) for at in range(len(rows) * m)]).reshape(*x.shape)


async def _row_products(p: Party, factors: RingArray, rows: list[RingArray]) -> list[RingArray]:
    """Each row (batch, length) times its factor, factors (batch, rows); rows of one length in one call."""
    batch = factors.shape[0]
    lengths = [row.shape[1] for row in rows]
    groups = [[i for i, length in enumerate(lengths) if length == wanted] for wanted in sorted(set(lengths))]
    calls = []
    for group in groups:
        words = stack(*(rows[i] for i in group), axis=1).reshape(batch * len(group), 1, -1)
        calls.append(matmul(p, taken(factors, group).reshape(batch * len(group), 1, 1), words))
    found = dict[int, RingArray]()
    for group, product in zip(groups, await p.gather(*calls), strict=True):
        each = product.reshape(batch, len(group), -1)
        found |= {i: each[:, at] for at, i in enumerate(group)}
    return [found[i] for i in range(len(rows))]
