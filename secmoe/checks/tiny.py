"""Tiny instances of a protocol, small enough to run on all inputs and tapes: given by the entry, or shrunk from a case.

Shrinking narrows every ring to 3 or 2 bits (the ranges of the secrets with them) and shortens every axis, in the
secrets and wherever the public arguments repeat a ring, a width or a shape. What results is a call like any other; one
that the text refuses is no instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from protocols.entry import Case, Entry, Secret
from sim.ring import Ring, Shape, Spec

WIDTHS = (3, 2)
LONGEST = (2, 1)  # of the last axis; the others become 1
WIDTH_NAMES = ("l", "bits")


def instances(entry: Entry) -> Iterator[Case]:
    """The entry's own tiny calls; without them the first case, shrunk in ever smaller ways."""
    if entry.tiny:
        yield from entry.tiny
        return
    case = entry.cases[0]
    if case.plans:
        return  # a plan fixes ring and shapes
    for longest in LONGEST:
        for width in WIDTHS:
            yield shrunk(case, width, longest)


def shrunk(case: Case, width: int, longest: int) -> Case:
    """The case with rings of `width` bits and axes of length 1, but for last ones of up to `longest`."""

    def ring(r: Ring) -> Ring:
        return Ring(min(r.l, width))

    def shape(s: Shape) -> Shape:
        return tuple(min(n, longest if i == len(s) - 1 else 1) for i, n in enumerate(s))

    shapes = {s.shape for s in case.secrets}

    def public(name: str, value: Any) -> Any:
        if isinstance(value, Ring):
            return ring(value)
        if isinstance(value, Spec):
            return Spec(ring(value.ring), shape(value.shape))
        if name in WIDTH_NAMES and isinstance(value, int):
            return min(value, width)
        return shape(value) if isinstance(value, tuple) and value in shapes else value

    def secret(s: Secret) -> Secret:
        cut = s.ring.l - ring(s.ring).l
        low, high = (None if bound is None else bound >> cut for bound in (s.low, s.high))
        return replace(s, ring=ring(s.ring), shape=shape(s.shape), low=low, high=high)

    named = {name: public(name, value) for name, value in case.public.items()}
    return replace(case, name=f"{width} bits", secrets=tuple(secret(s) for s in case.secrets), public=named)
