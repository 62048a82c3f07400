"""How a run's correlated OTs are made: by SoftSpoken, or by iterations of Ferret. Public arithmetic on counts.

SoftSpoken sends 15 bits per COT, Ferret a message of fixed size per iteration. An iteration consumes a reserve of COTs
and makes more; what a run leaves is there for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from protocols.ot.lpn import B10, B11, B12, Preset
from protocols.ot.softspoken import extension_bits


@dataclass(frozen=True)
class Making:
    """soft: COTs by SoftSpoken, before the iterations, in order. left: COTs that remain after the run.

    start: COTs that remained from earlier runs. n: what this run uses.
    """

    n: int
    start: int
    soft: int
    iterations: tuple[Preset, ...]

    @property
    def total(self) -> int:
        return self.start + self.soft + sum(preset.net for preset in self.iterations)

    @property
    def left(self) -> int:
        return self.total - self.n

    @property
    def plain(self) -> bool:
        """Whether every COT comes from SoftSpoken as it is."""
        return not self.iterations and not self.start

    @property
    def nbytes(self) -> int:
        return extension_bits(self.soft) // 8 + sum(preset.nbytes for preset in self.iterations)


@lru_cache(maxsize=1 << 10)
def making(n: int, start: int = 0) -> Making:
    """The making of n COTs that sends fewest bytes, where `start` remain; among equals one with fewest iterations.

    Iterations come smallest first: the first reserve is the dear one, and every iteration makes more than any reserve.
    """
    most = n // B12.net + 1
    counts = product(range(4), range(4), range(max(most - 3, 0), most + 1)) if n > start else [(0, 0, 0)]
    options = [_with(n, start, (B10,) * a + (B11,) * b + (B12,) * c) for a, b, c in counts]
    return min(options, key=lambda m: (m.nbytes, len(m.iterations)))


def _with(n: int, start: int, iterations: tuple[Preset, ...]) -> Making:
    wanting = n - start - sum(preset.net for preset in iterations)
    reserve = iterations[0].reserve - start if iterations else 0
    return Making(n, start, max(wanting, reserve, 0), iterations)
