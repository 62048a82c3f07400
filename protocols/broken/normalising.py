"""Faults in softmax, norms and the answer: what a row is normalised by is opened, or its winner found in the clear."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.broken.fault import PITFALL, R2, R64, TINY_CASE, Fault, planted
from protocols.cleartext import norms as N
from protocols.compare import drelu, greater_than
from protocols.entry import Case, Secret
from protocols.sharing import public_share, reveal, reveal_to
from protocols.softmax import maximum
from sim.functionality import Functionality
from sim.party import Party
from sim.ring import Ring, RingArray, stack
from sim.role import CLIENT

NORMALISING: list[Fault] = []


def _scores(large: tuple[int, ...]) -> tuple[Case, ...]:
    return (
        Case("large", (Secret(R64, large, None, -(1 << 61), 1 << 61),)),
        Case(TINY_CASE, (Secret(R2, (1, 2), None, 0, 1),)),
    )


def _below_maximum(x: Any) -> Any:
    return x - x.max(-1, keepdims=True)


BELOW_MAXIMUM = Functionality("scores less their maximum", _below_maximum)


@planted(
    NORMALISING,
    "softmax opens the maximum of each row, which tells how far attention is spread",
    PITFALL,
    BELOW_MAXIMUM,
    _scores((2, 3)),
    client=True,
    server=True,
)
async def maximum_opened(p: Party, x: RingArray) -> RingArray:
    """A public shift looks harmless: softmax does not change under it."""
    top = await reveal(p, await maximum(p, x))
    return x - public_share(p, top.reshape(-1, 1).broadcast(*x.shape))


@planted(
    NORMALISING,
    "softmax tells the client the maximum of each row",
    PITFALL,
    BELOW_MAXIMUM,
    _scores((2, 3)),
    client=True,
)
async def maximum_told(p: Party, x: RingArray) -> RingArray:
    """The client subtracts it from its share."""
    top = await reveal_to(p, CLIENT, await maximum(p, x))
    return x - top.reshape(-1, 1).broadcast(*x.shape)


def _aligned(x: Any, *, low: int, high: int) -> Any:
    return x << (high - 1 - low - sum((x >= 1 << i).astype(np.int64) for i in range(low + 1, high)))


@planted(
    NORMALISING,
    "a norm opens the octave of the sum of squares, to align it by a public shift",
    PITFALL,
    Functionality("leading bit moved to the top", _aligned),
    (
        Case("large", (Secret(R64, (4,), None, 1 << 20, (1 << 24) - 1),), {"low": 20, "high": 24}),
        Case(TINY_CASE, (Secret(Ring(3), (1,), None, 1, 3),), {"low": 0, "high": 2}),
    ),
    client=True,
    server=True,
)
async def octave_opened(p: Party, x: RingArray, *, low: int, high: int) -> RingArray:
    """The size of a hidden state, to a factor of two."""
    above = await reveal(p, await greater_than(p, x, thresholds=[(1 << i) - 1 for i in range(low + 1, high)]))
    shifted = x << (high - 1 - low)
    for i in range(high - 1 - low):
        less = (x << (high - 2 - low - i)) - (x << (high - 1 - low - i))
        shifted = shifted + above[i].cast(x.ring) * less
    return shifted


@planted(
    NORMALISING,
    "the class is found by opened comparisons of the logits",
    7,
    N.ARGMAX,
    _scores((2, 2)),
    client=True,
    server=True,
)
async def winner_in_the_clear(p: Party, x: RingArray) -> RingArray:
    """Both learn the answer, which is the client's."""
    keep = await reveal(p, await drelu(p, x[:, 0] - x[:, 1]))
    return stack(public_share(p, ~keep), axis=1)
