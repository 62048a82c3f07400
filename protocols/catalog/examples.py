"""Example secrets: ring elements, bits and weights, shared or owned."""

from __future__ import annotations

from protocols.entry import Secret
from sim.ring import Z2, Ring
from sim.role import Role

R8, R32, R64 = Ring(8), Ring(32), Ring(64)
EXP64 = {"s": 18, "l": 64}


def word(*shape: int, ring: Ring = R64, low: int | None = None, high: int | None = None) -> Secret:
    return Secret(ring, shape, None, low, high)


def bit(*shape: int) -> Secret:
    return Secret(Z2, shape)


def owned(owner: Role, ring: Ring, *shape: int) -> Secret:
    return Secret(ring, shape, owner)
