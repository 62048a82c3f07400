"""AND of Boolean shares by correlated bit triples."""

from __future__ import annotations

from protocols import functionalities as F
from protocols.ot.chosen import bit_triples
from sim.cost import Cost, swap, together
from sim.party import Party, protocol
from sim.ring import Z2, RingArray, Shape, Spec, concat
from sim.role import CLIENT
from sim.shapes import blank


def blank_group(shape: Shape, right: int) -> list[RingArray]:
    """A (left, right) group without content, to price `conjoin` on it."""
    return [blank(Spec(Z2, shape)), blank(Spec(Z2, (*shape, right)))]


def _conjoin_cost(*groups: RingArray) -> Cost:
    lefts, rights = groups[0::2], groups[1::2]
    triples = [bit_triples.declared(shape=y.shape[:-1], right=y.shape[-1]) for y in rights]
    opened = sum(x.size + y.size for x, y in zip(lefts, rights, strict=True))
    return together(*triples) + swap(opened)


@protocol(realises=F.CONJUNCTIONS, cites="[Bea91]", cost=_conjoin_cost)
async def conjoin(p: Party, *groups: RingArray) -> list[RingArray]:
    """AND one left bit with several right bits, many groups in one round.

    groups: left_0, right_0, left_1, right_1, ... over Z_2, left of shape S, right of shape (*S, m). Returns left &
    right of shape (*S, m) per group. A triple (a; b_1..b_m; a b_1..a b_m) shares its left factor, so each element opens
    1 + m bits per party. Exact.
    """
    lefts, rights = groups[0::2], groups[1::2]
    triples = [await bit_triples(p, shape=y.shape[:-1], right=y.shape[-1]) for y in rights]
    masked = []
    for x, y, (a, b, _) in zip(lefts, rights, triples, strict=True):
        masked += [(x ^ a).reshape(-1), (y ^ b).reshape(-1)]
    ours = concat(*masked)
    opened = ours ^ await p.swap("eps_delta", ours)
    results, at = [], 0
    for x, y, (a, b, c) in zip(lefts, rights, triples, strict=True):
        eps = opened[at : at + x.size].reshape(*x.shape, 1).broadcast(*y.shape)
        delta = opened[at + x.size : at + x.size + y.size].reshape(*y.shape)
        at += x.size + y.size
        wide_a = a.reshape(*x.shape, 1).broadcast(*y.shape)
        z = c ^ (eps & b) ^ (delta & wide_a)
        results.append(z ^ (eps & delta) if p.role is CLIENT else z)
    return results
