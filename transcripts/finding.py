"""What an analyser of one session says: a claim that was tested, on how much, with which statistic and limit."""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 1e-6  # of one statistical finding, where nothing else is said
FEWEST = 20  # expected count of a bin: below it chi-square tails are heavier than their limit at this level
LEAK = "LEAK"
NO_LEAK = "NO LEAK FOUND"
NOTHING_TESTED = "NOTHING TESTED"


@dataclass(frozen=True)
class Finding:
    """analyser: its name. claim: what would be a leak. n: how many values or pairs were looked at. statistic, limit: a
    leak where the statistic is below the limit (`kind` "p") or where any hit was found (`kind` "exact": hits, 0).
    where: the first place. blind: what a pass does not show."""

    analyser: str
    claim: str
    n: int
    statistic: float
    limit: float
    kind: str
    where: str
    blind: str

    @property
    def leak(self) -> bool:
        return self.statistic > 0 if self.kind == "exact" else self.statistic < self.limit

    @property
    def verdict(self) -> str:
        return NOTHING_TESTED if self.n == 0 else LEAK if self.leak else NO_LEAK

    def to_json(self) -> dict[str, str | int | float]:
        """Stable keys."""
        return {
            "analyser": self.analyser,
            "claim": self.claim,
            "verdict": self.verdict,
            "n": self.n,
            "kind": self.kind,
            "statistic": self.statistic,
            "limit": self.limit,
            "where": self.where,
            "not_shown": self.blind,
        }

    def __str__(self) -> str:
        p = f"p = {self.statistic:.2g} (limit {self.limit:g})"
        shown = f"{self.statistic:.0f} hits" if self.kind == "exact" else p
        place = f" at {self.where}" if self.where else ""
        return f"{self.verdict}: {self.analyser}: {self.claim}: {shown}, n = {self.n}{place}"


def exact(analyser: str, claim: str, n: int, hits: list[str], blind: str) -> Finding:
    """No false alarm: hits are the places where the claim holds."""
    return Finding(analyser, claim, n, float(len(hits)), 0.0, "exact", hits[0] if hits else "", blind)


def statistical(analyser: str, claim: str, n: int, p: float, where: str, blind: str, level: float = LEVEL) -> Finding:
    """A false alarm with probability `level`."""
    return Finding(analyser, claim, n, p, level, "p", where if p < level else "", blind)


def bins_for(count: int, most: int) -> int:
    """How many bins a chi-square over so many values can have: a power of two up to `most`; below 2 it has none."""
    return min(most, 1 << max((count // FEWEST).bit_length() - 1, 0))
