"""Hypothesis strategies of what protocols take: ring elements with edge words, shapes, shares, whole example calls.

Needs Hypothesis (the extra `test`). Edge words are drawn about half of the time: the ends of the declared range, their
neighbours, and -1, 0, 1 where the range holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from protocols.entry import Case, Secret
from secmoe.examples import Example, adjusted
from sim.ring import Ring, Shape, Spec

__all__ = ["edges", "elements", "examples", "rings", "secrets", "shapes", "shares", "specs", "values", "words"]


def edges(low: int, high: int) -> list[int]:
    """The edge values of an inclusive range, in order: both ends with their neighbours, and -1, 0, 1 inside."""
    return sorted({v for v in (low, low + 1, -1, 0, 1, high - 1, high) if low <= v <= high})


def elements(ring: Ring, low: int | None = None, high: int | None = None) -> SearchStrategy[int]:
    """Signed representatives in Z_{2^l} (0 and 1 in Z_2), inclusive bounds, the whole ring by default."""
    return _between(*Secret(ring, (), None, low, high).range)


def words(ring: Ring) -> SearchStrategy[int]:
    """Unsigned words of Z_{2^l}: uniform ones, and 0, 1, 2^(l-1) - 1, 2^(l-1), 2^l - 1."""
    forced = sorted({0, 1, (ring.modulus >> 1) - 1, ring.modulus >> 1, ring.mask})
    return st.one_of(st.sampled_from(forced), st.integers(0, ring.mask))


def rings(widest: int = 64) -> SearchStrategy[Ring]:
    """Rings Z_{2^l}, 1 <= l <= widest; 1, 2, 63 and 64 bits forced where they are allowed."""
    forced = [l for l in (1, 2, 63, 64) if l <= widest]
    return st.one_of(st.sampled_from(forced), st.integers(1, widest)).map(Ring)


def shapes(most: int = 3, longest: int = 4) -> SearchStrategy[Shape]:
    """Shapes of up to `most` axes of length 1 to `longest`; the shape () of one word included."""
    return st.lists(st.integers(1, longest), max_size=most).map(tuple)


def specs(widest: int = 64) -> SearchStrategy[Spec]:
    """Rings Z_{2^l}, 1 <= l <= widest, each with a small shape."""
    return st.builds(Spec, rings(widest), shapes())


def values(secret: Secret) -> SearchStrategy[NDArray[np.int64]]:
    """Signed values of a secret, of its shape, inside its declared range."""
    return _array(_between(*secret.range), secret.shape, np.int64)


def shares(ring: Ring, shape: Shape) -> SearchStrategy[NDArray[np.uint64]]:
    """The client's share of a secret: any words."""
    return _array(words(ring), shape, np.uint64)


@st.composite
def secrets(draw: Callable[[SearchStrategy[Any]], Any], widest: int = 64) -> Secret:
    """Shared secrets of any ring and a small shape, over the whole ring."""
    spec = draw(specs(widest))
    return Secret(spec.ring, spec.shape)


@st.composite
def examples(draw: Callable[[SearchStrategy[Any]], Any], case: Case) -> Example:
    """Both parties' inputs of a case: values inside the declared ranges, adjusted where they depend on each other."""
    drawn = [draw(values(secret)) for secret in case.secrets]
    masks = [draw(shares(secret.ring, secret.shape)) for secret in case.secrets]
    return Example(adjusted(case, drawn), tuple(masks))


def _between(low: int, high: int) -> SearchStrategy[int]:
    return st.one_of(st.sampled_from(edges(low, high)), st.integers(low, high))


def _array(element: SearchStrategy[int], shape: Shape, kind: type) -> SearchStrategy[Any]:
    size = math.prod(shape)
    return st.lists(element, min_size=size, max_size=size).map(lambda vs: np.array(vs, dtype=kind).reshape(shape))
