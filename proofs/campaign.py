"""Mutation analysis of the protocols: all mutants of the text and of runs, who kills them, and what survives.

`python -m proofs.campaign texts...` prints kill rates by operator and by protocol, and every survivor. A mutant that
no detector of `proofs.gate` objects to survives, and is classified by what it does:

same run      wherever it is executed, operation for operation the unchanged run: an equivalent text
secure        on tiny instances another run, which is correct on all lanes and proved private: an equivalent protocol
not executed  no instance reaches the line
unexplained   another run on sampled instances only
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from types import FrameType
from typing import Any

from proofs.enumerate import Joint
from proofs.gate import DETECTORS, Gate, Mutant, Verdict
from proofs.instances import Instance
from proofs.mutants import TEXTS, TextMutant, functions, mutants
from proofs.perturbed import RENAMED, Perturbation, perturbations
from proofs.tiny import ENUMERATED
from protocols import functionalities as F
from protocols.catalog import CATALOG
from protocols.catalog.baselines import dense_case
from protocols.entry import Case, Entry, Secret
from protocols.feed_forward import feed_forward
from protocols.hidden import RELU
from protocols.model.tables import GELU_MINIMAX, Table
from protocols.polynomial import FORMS, piecewise
from protocols.routing import probabilities, top_k
from protocols.truncate import ONE_ULP, truncate_known_sign
from sim.ring import Ring

SAME, SECURE, NOT_EXECUTED, UNEXPLAINED = "same run", "secure", "not executed", "unexplained"
CLASSES = (SAME, SECURE, NOT_EXECUTED, UNEXPLAINED)
TINY_BITS = 16  # larger instances take longer than they tell
SMALL = 2500  # nodes up to which an instance judges the text of others, not only its own
# The module whose protocols judge the texts of one that has none of that size.
HOMES = {"protocols.hidden": "protocols.feed_forward"}

R8, R64 = Ring(8), Ring(64)
_ROWS = ((0.5, -0.25, 1.0, 0.125, 0.5), (1.0, 2.0, -3.0, 0.5, 0.25), (0.0, 1.0, 0.0, -0.75, -0.5))
QUARTIC = Table("quartic", "none", (-1.5, 0.25), _ROWS, 1.0)
_NEAR_ONE = Secret(R64, (2,), None, -(1 << 20), 1 << 20)

# Calls that no catalog row makes: modes, shapes and tables whose lines of text would not be executed otherwise.
FURTHER: tuple[Entry, ...] = (
    Entry(
        truncate_known_sign,
        (Case("one-ulp, 8 by 3", (Secret(R8, (4,), None, 0),), {"f": 3, "mode": ONE_ULP}),),
        functionality=F.FLOOR_SHIFT_ONE_ULP,
        share_level=True,
    ),
    Entry(top_k, (Case("E = 5, k = 2, 8 bits", (Secret(R8, (2, 5), None, -63, 63),), {"k": 2, "l": 8}),)),
    Entry(
        piecewise,
        tuple(
            Case(
                f"quartic, {form}",
                (Secret(R64, (2,), None, -(1 << 20), 1 << 20),),
                {"table": QUARTIC, "s": 18, "form": form},
            )
            for form in FORMS
        ),
    ),
    Entry(feed_forward, (dense_case("gated ReLU", True, RELU), dense_case("plain GeLU", False, GELU_MINIMAX))),
    Entry(
        probabilities,
        (
            Case(
                "E = 4, k = 1, renormalised",
                (Secret(R64, (2, 4)), Secret(R64, (2, 1))),
                {"s": 18, "l": 64, "renormalise": True},
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant. killed: the detectors that object; kind: of a survivor, its class; where: its text or
    row."""

    name: str
    operator: str
    where: str
    killed: tuple[str, ...]
    kind: str
    why: str


@dataclass(frozen=True)
class Reach:
    """The functions and lines of protocol text that an instance executes."""

    gate: Gate
    texts: frozenset[str]
    lines: frozenset[tuple[str, int]]


# -- instances ---------------------------------------------------------------------------------------------------------
# Their runs take seconds.
HEAVY = frozenset(
    {"moe_layer", "plaintext_routing", "evaluate_all", "evaluate_concatenated", "scatter", "cryptomoe", "probabilities",
     "softmax", "rsqrt", "layer_norm", "rms_norm", "attention", "cross_attention", "block", "decoder_block",
     "next_token", "encoder"}
)  # fmt: skip


@cache
def reaches(heavy: bool = True) -> tuple[Reach, ...]:
    """All instances with what they execute, tiny ones first, then by size; without heavy rows if not wanted."""
    rows = [(e, c) for e in (*CATALOG, *FURTHER) if e.has_theorem for c in e.cases]
    light = [(e, c) for e, c in rows if heavy or e.name not in HEAVY or e in FURTHER]
    found = [reach(e, c, True) for e, c in tiny_rows()] + [reach(e, c, False) for e, c in light]
    return tuple(sorted(found, key=lambda r: (not r.gate.instance.exact, r.gate.size)))


def tiny_rows() -> list[tuple[Entry, Case]]:
    """The rows above the interfaces that are enumerated, and small enough to be so for every mutant."""
    names = {entry.name for entry in CATALOG if entry.has_theorem}
    return [(e, c) for e in ENUMERATED if e.name in names for c in e.cases if Joint(e.proto, c).bits <= TINY_BITS]


def reach(entry: Entry, case: Case, exact: bool) -> Reach:
    """An instance, with the protocol text that its unchanged run executes."""
    codes = {function.__code__: text for text, function in functions().items()}
    files = {module.__file__ for module in TEXTS}
    texts, lines = set(), set()

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if file not in files:
            return None
        if frame.f_code in codes:
            texts.add(codes[frame.f_code])
        lines.add((file, frame.f_lineno))
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        instance = Instance(entry, case, exact)
    finally:
        sys.settrace(before)
    return Reach(Gate(instance), frozenset(texts), frozenset(lines))


# -- mutants of the text -----------------------------------------------------------------------------------------------
def judges(text: str, heavy: bool = True) -> list[Reach]:
    """The instances that judge a text: all that execute it and are small, or are of a protocol of its module."""
    module = functions()[text].__module__
    homes = {module, HOMES.get(module)}
    able = [r for r in reaches(heavy) if text in r.texts]
    return [r for r in able if r.gate.size <= SMALL or r.gate.instance.entry.proto.run.__module__ in homes]


def text_outcomes(text: str, heavy: bool = True, every: int = 1) -> Iterator[Outcome]:
    """Every mutant of one text, or every n-th, judged by its instances up to the first that kills it."""
    asked = judges(text, heavy)
    for mutant in islice(mutants(text), 0, None, every):
        yield _outcome(mutant, text, asked)


def _outcome(mutant: TextMutant, text: str, asked: Sequence[Reach]) -> Outcome:
    changed: list[Reach] = []
    for one in asked:
        verdict = one.gate.judge(mutant)
        if verdict.by:
            return Outcome(mutant.name, mutant.operator, text, verdict.by, "", verdict.why)
        if verdict.changed:
            changed.append(one)
    place = functions()[text].__code__.co_filename, mutant.line
    if any(r.gate.instance.exact for r in changed):
        kind = SECURE
    elif changed:
        kind = UNEXPLAINED
    else:
        kind = SAME if any(place in r.lines for r in asked) else NOT_EXECUTED
    shown = ", ".join(r.gate.name for r in changed[:3])
    return Outcome(mutant.name, mutant.operator, text, (), kind, f"another run in {shown}" if shown else "")


# -- mutants of runs ---------------------------------------------------------------------------------------------------
def run_outcomes(gate: Gate, choose: Callable[[Perturbation], bool] = lambda _: True) -> Iterator[Outcome]:
    """Every perturbation of one instance's run, judged by all detectors."""
    for mutant in perturbations(gate.instance.run):
        if choose(mutant):
            verdict = gate.judge(mutant, thorough=True)
            kind = "" if verdict.by else _kind(gate, mutant, verdict)
            name = f"{gate.name}: {mutant.name}"
            yield Outcome(name, mutant.operator, gate.instance.entry.name, verdict.by, kind, verdict.why)


def _kind(gate: Gate, mutant: Mutant, verdict: Verdict) -> str:
    if not verdict.changed:
        return SAME
    renamed = mutant.operator == RENAMED  # two independent draws of one ring and shape
    return SECURE if gate.instance.exact or renamed else UNEXPLAINED


# -- the report --------------------------------------------------------------------------------------------------------
def table(outcomes: Iterable[Outcome], by: Callable[[Outcome], str]) -> str:
    """Mutants, killed by each detector, and survivors of each class; the rate leaves equivalent ones out."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[by(outcome)].append(outcome)
    wide = max([len(name) for name in groups] + [5])
    heads = ("mutants", "killed", *DETECTORS, *CLASSES, "rate")
    lines = [" ".join([" " * wide, *(f"{h:>12}" for h in heads)])]
    for name, members in [*sorted(groups.items()), ("total", [o for g in groups.values() for o in g])]:
        killed = sum(bool(o.killed) for o in members)
        detectors = Counter(d for o in members for d in o.killed)
        kinds = Counter(o.kind for o in members)
        open_ = len(members) - kinds[SAME] - kinds[SECURE]
        rate = f"{killed / open_:.1%}" if open_ else "-"
        figures = [len(members), killed, *(detectors[d] for d in DETECTORS), *(kinds[c] for c in CLASSES), rate]
        lines.append(" ".join([f"{name:{wide}}", *(f"{f:>12}" for f in figures)]))
    return "\n".join(lines)


def report(found: Sequence[Outcome]) -> str:
    """The tables by operator and by text or protocol, and every survivor with its class."""
    survivors = [f"{o.kind}: {o.name}" + (f" ({o.why})" if o.why else "") for o in found if not o.killed]
    return "\n\n".join([table(found, lambda o: o.operator), table(found, lambda o: o.where), "\n".join(survivors)])


def main(texts: Sequence[str]) -> None:
    """Print the campaign over these texts; over all texts, and the runs of all tiny instances, if none is given."""
    print(report([o for text in texts or functions() for o in text_outcomes(text)]))
    if not texts:
        print(report([o for e, c in tiny_rows() for o in run_outcomes(Gate(Instance(e, c, True)))]))


if __name__ == "__main__":
    main(sys.argv[1:])
