"""Audits: two classes of secrets, the views they give, every analyser, one family of hypotheses, a verdict.

A rejection is a leak only if fresh runs from the confirmation seed reject the same feature again. The verdict never
says "secure": it says what was looked at, how often, and how small an effect would have been found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from transcripts.analysers import Analyser, Bytes, Findings, PairsOfWords, Structure, Summary, Words, merge
from transcripts.classes import NULL, Comparison
from transcripts.classify import Classifier
from transcripts.parity import Parity
from transcripts.sampling import Sampler
from transcripts.statistics import detectable, holm, runs_for, threshold
from transcripts.verdicts import DECLARED, INCONCLUSIVE, LEAK, LEVEL, NO_LEAK, Audited, Examined, Suspect, Verdict
from transcripts.views import Layout

ANALYSERS: tuple[Analyser, ...] = (Structure(), Words(), PairsOfWords(), Bytes(), Parity(), Classifier())
FEWEST_RUNS = 80
LARGEST = 1.0  # standard deviations: an audit that would miss a shift of this size says nothing
KEPT = 200  # smallest p-values that are kept of one experiment
MOST_CONFIRMED = 50
ByClass = Mapping[str, Mapping[str, Summary]]  # class -> analyser -> summary


class TooFewRuns(ValueError):
    """A campaign of so few runs can reject nothing."""


def examine(
    sampler: Sampler, runs: int, summaries: ByClass, layout: Layout, analysers: Sequence[Analyser] = ANALYSERS
) -> Examined:
    """Compare the classes of an experiment with every analyser."""
    suspects: list[Suspect] = []
    tested = 0
    for name, found in comparisons(sampler, summaries, layout, analysers, sampler.comparisons):
        tested += found.tested
        suspects += [suspect(name, found, i) for i in found.smallest(KEPT)]
    null_tested, null_p = 0, 1.0
    for _, found in comparisons(sampler, summaries, layout, analysers, (NULL,)):
        null_tested += found.tested
        null_p = min(null_p, float(found.p.min(initial=1.0)))
    kept = sorted(suspects, key=lambda s: (s.p, s.key))[:KEPT]
    looked_at = (layout.width, layout.words)
    return Examined(sampler, runs, tuple(kept), tested, null_tested, null_p, looked_at)


def comparisons(
    sampler: Sampler,
    summaries: ByClass,
    layout: Layout,
    analysers: Sequence[Analyser],
    pairs: Iterable[Comparison],
) -> Iterable[tuple[str, Findings]]:
    """(name of the comparison, findings) for every pair of classes and analyser."""
    for name, one, other in pairs:
        for analyser in analysers:
            first, second = (merge([summaries[c][analyser.name] for c in side]) for side in (one, other))
            yield name, analyser.compare(first, second, layout, f"{sampler.seed}/{sampler.phase}")


def suspect(comparison: str, found: Findings, i: int) -> Suspect:
    label, feature = found.place(i)
    return Suspect(comparison, found.analyser, i, label, feature, float(found.effect[i]), float(found.p[i]))


Gather = Callable[[Sequence[Sampler]], Iterable[tuple[ByClass, Layout]]]  # runs the campaigns of these samplers


def audit(
    samplers: Sequence[Sampler],
    runs: int,
    gather: Gather,
    *,
    level: float = LEVEL,
    analysers: Sequence[Analyser] = ANALYSERS,
    secrets: Callable[[Sampler], str] = lambda s: "honest inputs",
    declared: Callable[[Sampler], bool] = lambda s: False,
) -> Audited:
    """Audit several experiments as ONE family; `gather` samples them. Raises TooFewRuns."""
    require_runs(runs)
    examined = [
        examine(sampler, runs, summaries, layout, analysers)
        for sampler, (summaries, layout) in zip(samplers, gather(samplers), strict=True)
    ]
    family = sum(e.tested for e in examined)
    ranked = sorted(
        ((s.p, i, s) for i, e in enumerate(examined) for s in e.suspects), key=lambda t: (t[0], t[1], t[2].key)
    )
    rejected: dict[int, list[Suspect]] = {}
    for _, i, found in ranked[: holm([p for p, _, _ in ranked], level, max(family, len(ranked)))]:
        rejected.setdefault(i, []).append(found)
    again = confirm([(examined[i], found[:MOST_CONFIRMED]) for i, found in rejected.items()], gather, analysers, level)
    confirmed = dict(zip(rejected, again, strict=True))
    verdicts = []
    for i, e in enumerate(examined):
        effect = max(
            detectable(runs * len(one) // 4, runs * len(other) // 4, level, family)
            for _, one, other in e.sampler.comparisons
        )
        verdict = Verdict(NO_LEAK, e, secrets(e.sampler), family, level, effect)
        if i in rejected:
            held = confirmed[i]
            if held:
                (leak, p), *rest = held
                kind = DECLARED if declared(e.sampler) else LEAK
                verdict = replace(verdict, kind=kind, leak=leak, confirmed=p, more=len(rest))
            else:
                advice = f"{rejected[i][0]} was not confirmed on fresh runs; use --runs {4 * runs}"
                verdict = replace(verdict, kind=INCONCLUSIVE, leak=rejected[i][0], advice=advice)
        elif effect > LARGEST:
            wanted = -(-runs_for(LARGEST, level, 4 * family) // 100) * 100  # more runs, fewer rare bins, more tests
            advice = f"a shift of {LARGEST:g} sd would be missed; use --runs {wanted}"
            verdict = replace(verdict, kind=INCONCLUSIVE, advice=advice)
        verdicts.append(verdict)
    return Audited(tuple(verdicts), family, level)


def require_runs(runs: int) -> None:
    if runs < FEWEST_RUNS:
        raise TooFewRuns(
            f"--runs: expected at least {FEWEST_RUNS}, got {runs}: fewer could reject nothing; 2000 is usual"
        )


def confirm(
    rejected: Sequence[tuple[Examined, Sequence[Suspect]]], gather: Gather, analysers: Sequence[Analyser], level: float
) -> list[list[tuple[Suspect, float]]]:
    """Per experiment, the suspects that fresh runs reject again, with their fresh p-values."""
    fresh = [replace(e.sampler, phase="confirm") for e, _ in rejected]
    results = []
    family = sum(len(suspects) for _, suspects in rejected)
    for sampler, (_, suspects), (summaries, layout) in zip(fresh, rejected, gather(fresh), strict=True):
        wanted = {s.key for s in suspects}
        p: dict[tuple[str, str, int], float] = {}
        for name, found in comparisons(sampler, summaries, layout, analysers, sampler.comparisons):
            p.update({key: float(found.p[key[2]]) for key in wanted if key[:2] == (name, found.analyser)})
        results.append([(s, p[s.key]) for s in suspects if p[s.key] <= threshold(level, family)])
    return results
