"""Counts of named local kernels: what a protocol computes, as closed arithmetic beside what it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Work:
    """How often each kernel runs, both parties together."""

    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __add__(self, other: Work) -> Work:
        if not other.counts:
            return self
        total = dict(self.counts)
        for kernel, count in other.counts.items():
            total[kernel] = total.get(kernel, 0) + count
        return Work(total)

    def __sub__(self, part: Work) -> Work:
        return self + part.times(-1)

    def times(self, k: int) -> Work:
        """k copies."""
        return Work({kernel: k * count for kernel, count in self.counts.items()})


NOTHING = Work()
