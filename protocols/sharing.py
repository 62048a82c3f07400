"""Additive sharing: a party's own value, shares, and opened values. A share bears its secret's name."""

from __future__ import annotations

from protocols import functionalities as F
from sim.cost import Cost, message, swap
from sim.party import Party, protocol
from sim.ring import RingArray, Spec
from sim.role import CLIENT, Role


def public_share(p: Party, x: RingArray) -> RingArray:
    """A share of a public array: the client holds it, the server holds zero."""
    return x if p.role is CLIENT else x.const(0, x.shape)


def own_share(p: Party, owner: Role, x: RingArray | None, spec: Spec) -> RingArray:
    """A share of a value that one party holds: itself at the owner, zero at its peer. No communication, no masking."""
    if p.role is owner and x is not None:
        return x
    return p.const(spec.ring, 0, spec.shape)


def prepared_share(p: Party, owner: Role, x: RingArray | None, spec: Spec) -> RingArray:
    """As `own_share`, for words that stand in a private record of the owner's, such as prepared weights: a record has
    no form in the shapes interpretation, the words' description stands for them."""
    if p.role is owner:
        words: RingArray = p.compute(spec, _itself, x)
        return words
    return p.const(spec.ring, 0, spec.shape)


def _itself(x: RingArray) -> RingArray:
    return x


def plus(p: Party, x: RingArray, c: int) -> RingArray:
    """x + c for a public c: the client adds it."""
    return x + c if p.role is CLIENT else x


def invert(p: Party, b: RingArray) -> RingArray:
    """not b for a Boolean share: the client flips it."""
    return ~b if p.role is CLIENT else b


def _reveal_cost(x: RingArray) -> Cost:
    return swap(x.spec.bits)


@protocol(realises=F.REVEAL, cost=_reveal_cost)
async def reveal(p: Party, x: RingArray) -> RingArray:
    """Open x to both parties. x: shares over any ring and shape. Returns the value to both. One round."""
    theirs = await p.swap("share", x)
    return x + theirs


def _reveal_to_cost(role: Role, x: RingArray) -> Cost:
    return message(role.peer, x.spec.bits)


@protocol(realises=F.REVEAL_TO_ONE, cost=_reveal_to_cost)
async def reveal_to(p: Party, role: Role, x: RingArray) -> RingArray:
    """Open x to one party. x: shares over any ring and shape. Returns the value at `role`, and zeros at its peer, which
    learns nothing: a sharing of the value. One message."""
    if p.role is role:
        theirs: RingArray = await p.recv("share", x.spec)
        return x + theirs
    p.send("share", x)
    return x.const(0, x.shape)
