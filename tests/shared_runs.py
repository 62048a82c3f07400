"""Run a protocol on shares of given values over real oblivious transfer, and open what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.concrete import from_words, to_signed, to_words
from sim.party import ProtocolDecl
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER
from sim.world import Execution
from tests.harness import flatten, session

Ints = NDArray[Any]
Pair = tuple[RingArray | None, RingArray | None]

_MASKS = np.random.default_rng()


def pair(ring: Ring, client: Ints, server: Ints) -> Pair:
    """These very shares."""
    return from_words(ring, client), from_words(ring, server)


def share(ring: Ring, value: Ints) -> Pair:
    """Uniform shares of a value."""
    whole = from_words(ring, value)
    mine = from_words(ring, _MASKS.integers(0, ring.mask, whole.shape, np.uint64, endpoint=True))
    return mine, whole - mine


def every_pair(ring: Ring) -> tuple[Ints, Ints]:
    """All pairs of words of a small ring, as two flat arrays."""
    words = np.arange(ring.modulus)
    client, server = np.meshgrid(words, words, indexing="ij")
    return client.reshape(-1), server.reshape(-1)


def every_sharing(ring: Ring, values: Ints) -> tuple[Ints, Pair]:
    """Each value with each client share: the values, and their shares."""
    client, value = np.meshgrid(np.arange(ring.modulus), values, indexing="ij")
    return value.reshape(-1), pair(ring, client.reshape(-1), (value - client).reshape(-1))


def run(proto: ProtocolDecl[Any], *secrets: Pair, **public: Any) -> Execution:
    return session().run(proto, [s[0] for s in secrets], [s[1] for s in secrets], **public)


def opened(execution: Execution) -> list[RingArray]:
    """The sums of the two parties' outputs."""
    ours, theirs = (flatten(execution.outputs[role]) for role in (CLIENT, SERVER))
    return [a + b for a, b in zip(ours, theirs, strict=True)]


def result(proto: ProtocolDecl[Any], *secrets: Pair, **public: Any) -> Any:
    """The one output, opened, as unsigned words."""
    (total,) = opened(run(proto, *secrets, **public))
    return to_words(total)


def signed(proto: ProtocolDecl[Any], *secrets: Pair, **public: Any) -> Any:
    """The one output, opened, as signed representatives."""
    (total,) = opened(run(proto, *secrets, **public))
    return to_signed(total)


def representatives(words: Ints | Sequence[int], l: int) -> NDArray[np.int64]:
    """Signed representatives of words mod 2^l, l < 63."""
    half = 1 << (l - 1)
    return (np.asarray(words, dtype=np.int64) + half) % (1 << l) - half
