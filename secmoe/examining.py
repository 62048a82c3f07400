"""Whole sessions beside an audit of views: real bytes at the default parameter set, and every analyser of sessions.

An audit of a real or of a recorded shape compares classes of secrets over many runs. Lattices, randomness that is used
twice and parameters are looked at in one session of few runs, in which a single response has thousands of coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from protocols.attention_plan import AttentionPlan
from protocols.blocks import BlockPlan
from protocols.crossing import CrossingPlan
from protocols.embedding import EmbeddingPlan
from protocols.encoder import EncoderPlan
from protocols.entry import Case
from protocols.feed_forward import FeedForwardPlan
from protocols.generation import NextTokenPlan
from protocols.he.interface import Addend
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.he.reading import ReadPlan
from protocols.he.selection import selection
from protocols.layer_plan import LayerPlan
from protocols.row_products import RowPlan
from secmoe.result_file import Json
from transcripts.finding import LEAK, NO_LEAK, NOTHING_TESTED, Finding
from transcripts.sessions import LATTICE, examine
from transcripts.targets import Target
from transcripts.verdicts import NO_LEAK as CLEAN
from transcripts.verdicts import Suspect, Verdict

RUNS = 2  # of a session on the same inputs, and as many on others: what repeats shows in two
DEFAULT_SET = "P64s"
COMPOSED = (
    LayerPlan | FeedForwardPlan | EmbeddingPlan | AttentionPlan | CrossingPlan | RowPlan | BlockPlan | NextTokenPlan
    | EncoderPlan
)


@dataclass(frozen=True)
class Examination:
    """What the analysers say of one session of a target at a parameter set. found: by detector."""

    target: Target
    params: str
    found: dict[str, list[Finding]]

    @property
    def leaks(self) -> list[tuple[str, Finding]]:
        """(detector, finding) of what leaks."""
        return [(name, f) for name, findings in self.found.items() for f in findings if f.verdict == LEAK]

    def _of(self, verdict: str) -> dict[str, list[str]]:
        kept = {d: [f.analyser for f in findings if f.verdict == verdict] for d, findings in self.found.items()}
        return {detector: list(dict.fromkeys(names)) for detector, names in kept.items() if names}

    @property
    def ran(self) -> dict[str, list[str]]:
        """The analysers that tested something, by detector."""
        quiet, loud = self._of(NO_LEAK), self._of(LEAK)
        return {d: list(dict.fromkeys([*loud.get(d, []), *quiet.get(d, [])])) for d in self.found if d in quiet | loud}

    @property
    def untested(self) -> list[str]:
        """Lattice analysers that had too little to test in every part of the session."""
        return [name for name in self._of(NOTHING_TESTED).get(LATTICE, []) if name not in self.ran.get(LATTICE, [])]

    @property
    def responses(self) -> int:
        """Responses of the server on which the a-part analysers ran."""
        return sum(f.n for f in self.found[LATTICE] if f.analyser == "a-part")

    def __str__(self) -> str:
        tests = sum(f.verdict != NOTHING_TESTED for findings in self.found.values() for f in findings)
        verdict = LEAK if self.leaks else NO_LEAK
        ran = "; ".join(f"{detector}: {', '.join(names)}" for detector, names in self.ran.items())
        about = f"a real session at {self.params}, {RUNS} + {RUNS} runs, {self.responses} responses"
        too_few = f"; too few values for {', '.join(self.untested)}" if self.untested else ""
        return f"{verdict}: {about}, {tests} tests ({ran}{too_few})"

    def to_json(self) -> Json:
        """Stable keys."""
        return {
            "params": self.params,
            "runs": RUNS,
            "runs_on_other_inputs": RUNS,
            "responses": self.responses,
            "ran": self.ran,
            "untested": self.untested,
            "findings": [{"detector": d, **f.to_json()} for d, findings in self.found.items() for f in findings],
            "line": str(self),
        }


def examined(target: Target, seed: str, own_set: bool) -> Examination | None:
    """One session of a target; None where it has no homomorphic layer. own_set: at its own parameters, not the default
    ones."""
    entry, case = target.resolve()
    if not case.plans:
        return None
    case = case if own_set else moved(case, PARAM_SETS[DEFAULT_SET])
    found = examine(entry, case, RUNS, seed, others=RUNS)
    return Examination(target, case.plans[0].params.name, found)


def moved(case: Case, params: ParamSet) -> Case:
    """The same call at another parameter set of the same ring and format."""
    def there(value: Any) -> Any:
        if isinstance(value, SelectPlan):
            f, stacked = value.f // value.stacked, value.stacked
            return selection(params, value.order, value.experts, value.d, f, value.n, value.compact, stacked)
        if isinstance(value, ReadPlan):
            return ReadPlan.of(there(value.source), value.f)
        return replace(value, params=params) if isinstance(value, LinearPlan | Addend | COMPOSED) else value

    public = {name: there(value) for name, value in case.public.items()}
    # A composed plan chooses its parts by its parameters: as many tokens to a ciphertext as fit, for one. Those that it
    # has at one set only come last, and no weights are prepared for them.
    whole = [name for name, value in public.items() if isinstance(value, COMPOSED)]
    parts = {old: new for name in whole for old, new in zip(case.public[name].plans, public[name].plans, strict=False)}

    plans = tuple(parts.get(plan, there(plan)) for plan in case.plans)
    build = case.prepare
    if build is None:
        return replace(case, plans=plans, public=public)

    def prepared(prepare: Callable[[Any, Any], Any], weights: Any) -> Any:
        return build(lambda plan, matrix: prepare(parts.get(plan, there(plan)), matrix), weights)

    return replace(case, plans=plans, public=public, prepare=prepared)


def with_session(verdict: Verdict, examination: Examination | None) -> Verdict:
    """The verdict of the views, or the leak that the session showed where the views showed none."""
    if examination is None or not examination.leaks or verdict.kind != CLEAN:
        return verdict
    detector, finding = examination.leaks[0]
    label, feature = finding.where or "the session", f"{detector}: {finding.claim}"
    suspect = Suspect("in one real session", finding.analyser, 0, label, feature, finding.statistic, finding.limit)
    return replace(verdict, kind=LEAK, leak=suspect, more=len(examination.leaks) - 1)


def lines(examinations: dict[Target, Examination]) -> Iterator[str]:
    """One line for every session, and one for each leak in it."""
    for target, examination in examinations.items():
        yield f"{target.shown}: {examination}"
        yield from (f"  {detector}: {finding}" for detector, finding in examination.leaks)
