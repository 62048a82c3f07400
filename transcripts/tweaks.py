"""What the tweaked hash of the OT extension is called with: every tweak once under a correlation, and every COT hashed.

Tweaks are not on the wire. A session is watched from inside: the hash of every pool is replaced by one that keeps a
ledger, and gives the same words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.ot.aes import TweakableHash
from sim.role import Role
from sim.world import Execution, Session
from transcripts.finding import Finding, exact

Words = NDArray[np.uint64]


@dataclass
class Ledger:
    """Calls of one end's hash: first tweak index, and the words hashed."""

    end: str
    sender: bool
    calls: list[tuple[int, Words]] = field(default_factory=list)


class _Watched(TweakableHash):
    def __init__(self, real: TweakableHash, ledger: Ledger) -> None:
        super().__init__(real.pi.key)
        self._ledger = ledger

    def __call__(self, x: Words, first: int, blocks: int = 1) -> Words:
        self._ledger.calls.append((first, x.copy()))
        return super().__call__(x, first, blocks)


def watch(session: Session) -> list[Ledger]:
    """Keep a ledger of every hash from now on; the session's results do not change."""
    ledgers = []
    for role, endpoint in session.endpoints.items():
        pools: dict[Role, Any] = endpoint.states["ot"].pools
        for receiver, pool in pools.items():
            ledger = Ledger(f"{role.value}, direction to the {receiver.value}", receiver is not role)
            pool.hash = _Watched(pool.hash, ledger)
            ledgers.append(ledger)
    return ledgers


def tweaks(ledgers: list[Ledger]) -> Finding:
    """Tweaks that one end used twice. A sender hashes two words under each, the receiver one."""
    hits, n = [], 0
    for ledger in ledgers:
        used: dict[int, int] = {}
        for first, words in ledger.calls:
            n += len(words)
            for index in range(first, first + len(words)):
                used[index] = used.get(index, 0) + 1
        if any(times > (2 if ledger.sender else 1) for times in used.values()):
            hits.append(ledger.end)
    return exact("OT tweaks", "a tweak comes twice under one correlation", n, hits, "a hash that ignores its tweak")


def correlations(ledgers: list[Ledger]) -> Finding:
    """Keys of correlated OTs that were hashed twice: a slice was taken again."""
    hits, n = [], 0
    for ledger in ledgers:
        words = [row.tobytes() for _, x in ledger.calls for row in x]
        n += len(words)
        if len(set(words)) < len(words):
            hits.append(ledger.end)
    return exact(
        "OT correlations", "a correlated OT is used twice", n, hits, "correlations that are related, not equal"
    )


def hashed(ledgers: list[Ledger], executions: list[Execution]) -> Finding:
    """Correlated OTs that were made and taken, and never hashed: raw keys serve as pads."""
    made = {role: sum(e.reserved.get(f"cot.{role.value}", 0) for e in executions) for role in Role}
    hits = []
    for ledger in ledgers:
        receiver = next(role for role in Role if ledger.end.endswith(role.value))
        count = sum(len(x) for _, x in ledger.calls)
        if count < made[receiver] * (2 if ledger.sender else 1):
            hits.append(ledger.end)
    return exact(
        "OT pads",
        "keys of correlated OTs serve as pads without a hash",
        sum(made.values()),
        hits,
        "a hash that is no random oracle",
    )
