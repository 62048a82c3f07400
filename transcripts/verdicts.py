"""What an audit says: suspects, experiments, verdicts; as text of one line and as JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transcripts.sampling import Sampler
from transcripts.statistics import threshold

LEVEL = 1e-3
LEAK, DECLARED, INCONCLUSIVE, NO_LEAK = "LEAK", "LEAK (DECLARED)", "INCONCLUSIVE", "NO LEAK FOUND"


@dataclass(frozen=True)
class Suspect:
    """One feature that differs: where, how much (units depend on the analyser), and how unlikely by chance."""

    comparison: str
    analyser: str
    index: int
    label: str
    feature: str
    effect: float
    p: float

    @property
    def key(self) -> tuple[str, str, int]:
        return self.comparison, self.analyser, self.index

    def __str__(self) -> str:
        return f"{self.label}, {self.feature} ({self.comparison}): effect {self.effect:.3g}, p = {self.p:.2g}"


@dataclass(frozen=True)
class Examined:
    """One experiment: its smallest p-values, how many features were tested, and the null beside it.

    words: of a view, how many were looked at, and how many it has (bytes, of byte strings).
    """

    sampler: Sampler
    runs: int
    suspects: tuple[Suspect, ...]
    tested: int
    null_tested: int
    null_p: float
    words: tuple[int, int]

    @property
    def null_alarm(self) -> bool:
        """Whether the fixed class seems to differ from itself, at the level of one audit."""
        return self.null_p <= threshold(LEVEL, self.null_tested)


@dataclass(frozen=True)
class Verdict:
    """What an audit says of one experiment. power: found and planted faults, None where not measured.

    effect: smallest difference of a mean that would have been found with probability .95, in standard deviations.
    """

    kind: str
    examined: Examined
    secret: str
    family: int
    level: float
    effect: float
    leak: Suspect | None = None
    confirmed: float | None = None
    more: int = 0
    power: tuple[int, int] | None = None
    advice: str = ""

    @property
    def looked_at(self) -> str:
        """How much of a view was looked at, in words."""
        some, every = self.examined.words
        return "every word" if some == every else f"{some:,} of {every:,} words"

    def __str__(self) -> str:
        s = self.examined.sampler
        head = (
            f"{self.kind}: {s.target.shown}, corrupted {s.corrupted.value}, secret {self.secret}, {s.model} model, "
            f"n = {self.examined.runs}, {self.looked_at}"
        )
        if self.leak is not None and self.kind in (LEAK, DECLARED):
            return f"{head}; {self.leak}, again p = {self.confirmed:.2g} on fresh runs"
        planted = f", power {self.power[0]} of {self.power[1]} planted faults (hybrid)" if self.power else ""
        null = f", null {'ALARM' if self.examined.null_alarm else 'quiet'}"
        tail = f"; smallest effect found {self.effect:.2g} sd at level {self.level:g} over {self.family} tests"
        return head + tail + planted + null + (f"; {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Audited:
    """All verdicts of one family. nulls: alarms among the audits of a class against itself."""

    verdicts: tuple[Verdict, ...]
    family: int
    level: float

    @property
    def nulls(self) -> tuple[int, int]:
        return sum(v.examined.null_alarm for v in self.verdicts), len(self.verdicts)

    @property
    def clean(self) -> bool:
        return all(v.kind == NO_LEAK for v in self.verdicts)


def to_json(audited: Audited) -> dict[str, Any]:
    """One object with stable keys."""
    return {
        "family": audited.family,
        "level": audited.level,
        "null": {"alarms": audited.nulls[0], "audits": audited.nulls[1]},
        "verdicts": [_verdict_json(v) for v in audited.verdicts],
    }


def _verdict_json(v: Verdict) -> dict[str, Any]:
    s = v.examined.sampler
    leak = None
    if v.leak is not None:
        leak = {
            "label": v.leak.label,
            "feature": v.leak.feature,
            "comparison": v.leak.comparison,
            "analyser": v.leak.analyser,
            "effect": v.leak.effect,
            "p": v.leak.p,
            "confirmed": v.confirmed,
            "others": v.more,
        }
    return {
        "verdict": v.kind,
        "protocol": s.target.protocol,
        "case": s.target.case,
        "corrupted": s.corrupted.value,
        "secret": v.secret,
        "model": s.model,
        "seed": s.seed,
        "runs": v.examined.runs,
        "tested": v.examined.tested,
        "words": {"looked_at": v.examined.words[0], "of": v.examined.words[1]},
        "smallest_p": v.examined.suspects[0].p if v.examined.suspects else 1.0,
        "null_alarm": v.examined.null_alarm,
        "detectable_sd": v.effect,
        "power": None if v.power is None else {"found": v.power[0], "planted": v.power[1]},
        "leak": leak,
        "advice": v.advice,
        "line": str(v),
    }
