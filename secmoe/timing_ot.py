"""Nanoseconds of share-level work: oblivious transfers, their extension, and what a message takes beside its content.

Each figure is the slope of a small protocol between one element and many, less what the figures before it explain.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.boolean import conjoin
from protocols.compare import drelu
from protocols.convert import b2a
from protocols.matmul import matmul
from protocols.nonlinear import exp
from protocols.ot.functionalities import COT
from protocols.ot.lpn import PRESETS
from protocols.ot.service import OtService, provision_cost, slice_of
from protocols.ot.work_kinds import CHOSEN, CORRELATED, ROW_WORDS, ROWS, TRIPLE_BITS, TRIPLES
from protocols.products import mul
from protocols.sharing import reveal
from protocols.truncate import truncate
from sim.concrete import from_words
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Ring, RingArray, Shape
from sim.role import CLIENT, SERVER, Role
from sim.world import Session

RING = Ring(64)
MESSAGE, BYTE = "message", "byte"
SOFTLY = 100_000  # COTs that SoftSpoken makes
FRACTION = 18
ONE, MANY = 1, 1 << 12
RIGHT = 64  # right factors of a wide conjunction
WORDS = 1 << 18


@dataclass(frozen=True)
class Timed:
    """One protocol at one size: counts of what is priced, and nanoseconds, without the making of correlated OTs."""

    counts: dict[str, int]
    using: float

    def rest(self, rates: dict[str, float]) -> float:
        """Nanoseconds that these rates do not explain."""
        return self.using - sum(rate * self.counts.get(kernel, 0) for kernel, rate in rates.items())


class _Bench:
    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.session, self.rng = Session([OtService()]), np.random.Generator(np.random.SFC64(7))

    def words(self, ring: Ring, *shape: int) -> RingArray:
        return from_words(ring, self.rng.integers(0, 1 << 63, shape, dtype=np.uint64) & np.uint64(ring.mask))

    def timed(self, proto: ProtocolDecl[Any], arrays: Sequence[tuple[Ring, Shape]], **public: Any) -> Timed:
        """The run with the median time of several."""
        found = sorted((self._once(proto, arrays, public) for _ in range(self.repeats)), key=lambda t: t.using)
        return found[len(found) // 2]

    def _once(self, proto: ProtocolDecl[Any], arrays: Sequence[tuple[Ring, Shape]], public: dict[str, Any]) -> Timed:
        ours, theirs = ([self.words(ring, *shape) for ring, shape in arrays] for _ in Role)
        run = self.session.run(proto, ours, theirs, **public)
        cost = proto.declared(*ours, **public)
        pool = f"{run.prefix}/pool"
        making = 1e9 * sum(t for (_, scope), t in run.cpu_by_scope.items() if scope.startswith(pool))
        whole = 1e9 * (run.cpu(CLIENT) + run.cpu(SERVER))
        return Timed({MESSAGE: cost.messages, BYTE: cost.nbytes, **cost.work.counts}, whole - making)


def share_rates(repeats: int) -> dict[str, float]:
    """Nanoseconds of everything that is counted above the homomorphic layer, of both parties together; of so many runs
    of each protocol the median."""
    bench = _Bench(repeats)
    bits, word, narrow = Ring(1), [(RING, (ONE,))], [(RING, (MANY,))]
    pair = [(RING, (MANY,)), (RING, (MANY,))]
    small = [
        bench.timed(drelu, word),
        bench.timed(mul, word * 2),
        bench.timed(b2a, [(bits, (ONE,))], ring=RING),
        bench.timed(conjoin, [(bits, (ONE,)), (bits, (ONE, 1))]),
        bench.timed(truncate, word, f=FRACTION),
        bench.timed(exp, word, s=FRACTION, l=RING.l),
    ]
    rates = {MESSAGE: sum(t.using for t in small) / sum(t.counts[MESSAGE] for t in small)}
    gadgets: list[tuple[str, Callable[[], Timed]]] = [
        (BYTE, lambda: bench.timed(reveal, [(RING, (WORDS,))])),
        (TRIPLES, lambda: bench.timed(conjoin, [(bits, (8 * MANY,)), (bits, (8 * MANY, 1))])),
        (TRIPLE_BITS, lambda: bench.timed(conjoin, [(bits, (MANY,)), (bits, (MANY, RIGHT))])),
        (CORRELATED, lambda: bench.timed(b2a, [(bits, (8 * MANY,))], ring=RING)),
        (ROWS, lambda: bench.timed(mul, pair)),
        (ROW_WORDS, lambda: bench.timed(matmul, [(RING, (8, 16)), (RING, (16, RIGHT))])),
        (CHOSEN, lambda: bench.timed(drelu, narrow)),
    ]
    for kernel, run in gadgets:
        timed = run()
        rates[kernel] = max(timed.rest(rates), 0.0) / timed.counts[kernel]
    return rates | _making_rates(max(repeats // 2, 1))


@protocol(realises=COT)
async def taking(p: Party, *, n: int) -> None:
    """Takes n COTs, and does nothing with them."""
    slice_of(p, "cots", CLIENT, n)


def _making_rates(repeats: int) -> dict[str, float]:
    """Nanoseconds of making correlated OTs, in sessions of their own: what a size adds to those below it."""
    rates: dict[str, float] = {}
    for n in (SOFTLY, *(preset.net * 9 // 10 for preset in PRESETS)):
        counts = provision_cost({"cot.client": n}).work.counts
        new = [kernel for kernel in counts if kernel not in rates]
        if len(new) != 1:
            continue  # made of what is known, or of two unknowns
        spent = []
        for _ in range(repeats):
            run = Session([OtService()]).run(taking, [], [], n=n)
            spent.append(1e9 * (run.cpu(CLIENT) + run.cpu(SERVER)))
        known = sum(rates.get(kernel, 0.0) * count for kernel, count in counts.items())
        rates[new[0]] = max(statistics.median(spent) - known, 0.0) / counts[new[0]]
    return rates
