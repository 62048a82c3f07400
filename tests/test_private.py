"""The privacy engine against the exact oracle: on faults, hard variants and the catalog; and unsound engines."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest

from proofs import forms, private, search
from proofs.certificate import dag_json, ranges, step_json
from proofs.checker import Rejected, verify
from proofs.counterexample import CANCELS, LAW, UNTOUCHED, judge, symbolic
from proofs.enumerate import Joint
from proofs.private import prove_private
from proofs.random_protocols import program
from proofs.search import ROOM, no_model
from proofs.symbolic import cone
from proofs.tiny import ENUMERATED
from proofs.trace import Trace
from protocols.broken import BRANCH, FAULTS, HARD, LEAK, SCHEDULE, Fault
from protocols.broken.secure import BOUNDED
from protocols.entry import Case, Entry
from sim.party import ProtocolDecl
from sim.role import CLIENT, SERVER, Role
from tests.controls import PROOF, expected
from tests.near_misses import NEAR

# Private, and not proved by the engine as it is. What becomes provable must leave the list.
UNPROVED: dict[str, tuple[Role, str]] = {}
ROWS = [pytest.param(entry, case, id=f"{entry.name}, {case.name}") for entry in ENUMERATED for case in entry.cases]


def _proved(proto: ProtocolDecl[Any], case: Case, role: Role) -> bool:
    run = symbolic(proto, case)
    return not prove_private(run.dag, run.view(role), role).findings


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_fault_is_proved(fault: Fault) -> None:
    for role in Role:
        if fault.leaks_to(role) and fault.symbolic:
            assert not any(_proved(fault.entry.proto, case, role) for case in fault.entry.cases)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in FAULTS if PROOF in expected(f).sees], ids=lambda fault: fault.name)
def test_every_fault_that_proofs_see_is_refused_with_a_counterexample(fault: Fault) -> None:
    """At 64 bits; the law of a tiny instance is the last resort."""
    for role in Role:
        if not fault.leaks_to(role):
            continue
        judged = judge(fault.entry.proto, fault.entry.cases[0], role, fault.tiny)
        assert judged.kind == fault.kind and judged.detail, judged
        leak = judged.leak
        assert (leak is None) == (fault.kind != LEAK)
        if leak is not None:
            assert leak.how.startswith((UNTOUCHED, CANCELS, LAW)) and leak.role is role
            assert leak.secrets[0] != leak.secrets[1] and leak.shown[0] != leak.shown[1]
            assert leak.messages and all(label.startswith(fault.name) for label in leak.messages)
            assert ":" in leak.line and leak.path and leak.term in str(leak)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.kind == LEAK], ids=lambda fault: fault.name)
def test_who_learns_nothing_from_a_fault_is_proved_to(fault: Fault) -> None:
    for role in Role:
        if not fault.leaks_to(role):
            assert all(_proved(fault.entry.proto, case, role) for case in fault.entry.cases)


def test_faults_of_control_flow_have_no_symbolic_run() -> None:
    kinds = {
        f.name: judge(f.entry.proto, f.entry.cases[0], CLIENT).kind for f in FAULTS if f.kind in (BRANCH, SCHEDULE)
    }
    assert set(kinds.values()) == {BRANCH, SCHEDULE}


@pytest.mark.parametrize("entry", HARD, ids=lambda entry: entry.name)
def test_hard_variants_are_proved_or_listed(entry: Entry) -> None:
    for role in Role:
        listed = entry.name in UNPROVED and UNPROVED[entry.name][0] is role
        for case in entry.cases:
            judged = judge(entry.proto, case, role, entry.cases[-1])
            assert judged.kind == ("UNKNOWN" if listed else "PROVED"), judged


def test_at_least_twelve_hard_variants_are_proved() -> None:
    assert len(HARD) - len(UNPROVED) >= 12
    assert set(UNPROVED) <= {entry.name for entry in HARD}


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), ROWS)
def test_engine_and_oracle_agree_on_the_catalog(entry: Entry, case: Case) -> None:
    joint = Joint(entry.proto, case)
    for role in Role:
        judged = judge(entry.proto, case, role, case)
        assert (judged.kind == "PROVED") == (joint.distance(role) == 0), judged
        assert judged.kind in ("PROVED", "LEAK")


@pytest.mark.parametrize("entry", NEAR, ids=lambda entry: entry.name)
def test_near_misses_leak_and_are_not_proved(entry: Entry) -> None:
    assert Joint(entry.proto, entry.cases[-1]).distance(SERVER) > 0
    for case in entry.cases:
        assert not _proved(entry.proto, case, SERVER)
        assert _proved(entry.proto, case, CLIENT)


@pytest.mark.parametrize("entry", BOUNDED, ids=lambda entry: entry.name)
def test_bounded_variants_are_proved_up_to_a_distance_below_the_room(entry: Entry) -> None:
    for case, room in zip(entry.cases, (ROOM, Fraction(1)), strict=True):
        run, known = symbolic(entry.proto, case), ranges(case)
        peeled = prove_private(run.dag, run.view(SERVER), SERVER, known, room)
        assert not peeled.findings and [step.rule for step in peeled.steps] == ["statistical"]
        assert 0 < peeled.distance < room
        assert prove_private(run.dag, run.view(SERVER), SERVER, known, peeled.distance).findings
        assert _proved(entry.proto, case, CLIENT)


def test_the_distance_of_a_short_mask_is_the_one_of_its_law() -> None:
    entry = next(entry for entry in BOUNDED if entry.name == "short_mask")
    run = symbolic(entry.proto, entry.cases[-1])
    peeled = prove_private(run.dag, run.view(SERVER), SERVER, room=Fraction(1))
    assert Joint(entry.proto, entry.cases[-1]).distance(SERVER) == peeled.distance == Fraction(1, 4)


# -- engines that must not pass: what is wrong, and [(text of the engine, its replacement)] ----------------------------
Mutation = list[tuple[str, str]]
Leaking = list[tuple[str, Trace, Role]]
_RULES = '("add", "sub", "neg", "reshape", "transpose")'
UNSOUND: dict[str, Mutation] = {
    "a symbol may have several uses": [("if len(uses) == 1 else None", "")],
    "a use by the view does not count": [("self.uses[root].append(VIEW)", "pass")],
    "two uses by one node count once": [
        ("for a in dag.nodes[number].args:", "for a in set(dag.nodes[number].args):"),
        ("for a in self.dag.nodes[node].args]", "for a in set(self.dag.nodes[node].args)]"),
        ("for a in self.dag.nodes[used].args]", "for a in set(self.dag.nodes[used].args)]"),
    ],
    "own draws are masks": [(" and node.owner != self.corrupted.value)", ")")],
    "inputs are masks": [("node.op == DRAW and", "node.op in (DRAW, INPUT) and")],
    "the client has no secrets": [
        (
            "node.op == INPUT and node.owner != self.corrupted.value",
            "node.op == INPUT and node.owner == 'server' != self.corrupted.value",
        )
    ],
    "any constant is odd": [("bool((self.dag.constants[other] & 1).all())", "True")],
    "one odd entry is enough": [("& 1).all()", "& 1).any()")],
    "any factor is odd": [
        (
            "other is not None and self.dag.nodes[other].op == CONST and bool((self.dag.constants[other] & 1).all())",
            "True",
        )
    ],
    "an extension is uniform": [("node.ring.l <= r.ring.l", "True")],
    "parts of a join need not be random": [("whole = all(", "whole = True or all(")],
    "one random part is enough": [("whole = all(", "whole = not rest or any(")],
    "parts of a join may be used elsewhere": [(" and self.uses[a] == [number]", "")],
    "copies of a mask are masks": [(_RULES, _RULES[:-1] + ', "broadcast")')],
    "a shift left is uniform": [(_RULES, _RULES[:-1] + ', "shl")')],
    "a shift right is uniform": [(_RULES, _RULES[:-1] + ', "shr")')],
    "a comparison is uniform": [(_RULES, _RULES[:-1] + ', "equals")')],
    "a matrix product is uniform": [(_RULES, _RULES[:-1] + ', "matmul")')],
    "what contains a symbol is safe": [
        (
            "            if secrets:",
            "            if secrets and not any(self.is_symbol(n) for n in cone(self.dag, [seen.node])):",
        )
    ],
    "functionality outputs are not seen": [
        (
            "self.view, self.corrupted = dag, view, corrupted",
            "self.view, self.corrupted = dag, [s for s in view if not s.ideal], corrupted",
        ),
        ("for seen in view]", "for seen in self.view]"),
    ],
    "parts may overlap": [("(taken[where] & np.uint64(bits)).any()", "False")],
    "parts may reach beyond the top": [("low + node.ring.l <= dag.nodes[symbol].ring.l", "True")],
    "what is no part may be left out": [
        (
            "            if node is None or bits is None:\n                return None",
            "            if node is None or bits is None:\n                continue",
        ),
        (
            'if any(user == VIEW or dag.nodes[user].op not in ("index", "cast", "shr") for user in graph.uses[symbol])',
            "if False",
        ),
    ],
    "dependent rows are independent": [("            if left:\n", "            if True:\n")],
    "the rank for one value of the factors is enough": [
        ("for values in product((False, True), repeat=len(atoms)):", "for values in [(True,) * len(atoms)]:")
    ],
    "every shift left is odd": [("dict.fromkeys(known[0], ZERO)", "known[0]")],
    "every factor is odd": [("_times(poly, factor) for", "poly for")],
    "symbols may multiply symbols": [
        (
            "            if len(others) != 1:\n                return None",
            "            if len(others) != 1:\n                return known[0]",
        )
    ],
    "a short mask is linear": [
        ("            return None\n        return known[0]", "            pass\n        return known[0]")
    ],
    "the sum of a mask with itself is odd": [("total.get(r, ZERO) ^ poly", "poly")],
    "only the first ways to the view count": [("reach[r].append(n)", "reach[r][:] = reach[r] or [n]")],
    "comparisons are independent of each other": [
        ("poly = _times(poly, bit if node.params[0] >> i & 1 else bit ^ ONE)", "poly = ONE")
    ],
    "every function that all ways pass is one-to-one": [
        ("not _collides(graph.dag, inside) and _one_to_one(graph.dag, inside)", "True")
    ],
    "one-to-one when all else is nothing": [
        ("    for other in (0, 1):", "    for other in (1,):"),
        ("and _one_to_one(graph.dag, inside)", ""),
    ],
    "any mask hides any value a little": [("self.distance + hidden[1] < self.room", "True")],
    "values are bounded": [("low, high = self.of(next(a for a in node.args if a != wide))", "low, high = 0, 0")],
    "what a short mask hides is uniform": [
        ('(self.settled if step.rule == "statistical" else self.fresh)', "self.fresh"),
        ("self.distance + hidden[1] < self.room", "True"),
    ],
    "later messages are not seen": [
        ("self.view, self.corrupted = dag, view, corrupted", "self.view, self.corrupted = dag, view[:1], corrupted"),
        ("for seen in view]", "for seen in self.view]"),
    ],
}


PARTS = (forms, search, private)  # each imports from those before it


def _engine(mutation: Mutation) -> Callable[..., Any]:
    """The engine with its texts changed: its parts are made anew, one importing the other."""
    texts = {part.__name__: inspect.getsource(part) for part in PARTS}
    for old, new in mutation:
        assert any(old in text for text in texts.values()), f"the engine's text no longer has {old!r}: adapt the list"
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    kept = {part.__name__: part for part in PARTS}
    try:
        for name, text in texts.items():
            module = sys.modules[name] = ModuleType(name)  # dataclasses look their module up
            exec(compile(text, name, "exec"), module.__dict__)
        engine: Callable[..., Any] = sys.modules[private.__name__].prove_private
    finally:
        sys.modules.update(kept)
    return engine


@pytest.fixture(scope="module")
def leaking() -> Leaking:
    """Tiny programs with a party whose view tells something, by enumeration."""
    small = [(f.name, f.entry.proto, f.tiny) for f in FAULTS if f.kind == LEAK and f.tiny is not None]
    small += [(entry.name, entry.proto, entry.cases[-1]) for entry in NEAR]
    small += [(f"program {seed}", *program(seed)) for seed in range(60)]
    found = []
    for name, proto, case in small:
        joint = Joint(proto, case)
        found += [(name, symbolic(proto, case), role) for role in Role if joint.distance(role) > 0]
    return found


def _document(run: Trace, role: Role, peeled: Any) -> dict[str, Any]:
    """What the checker replays of a proof of perfect privacy; the whole view, whatever the engine looked at."""
    numbers = cone(run.dag, [seen.node for seen in run.view(role)])
    part, place = dag_json(run.dag, numbers)
    return {
        "claim": {"corrupted": role.value},
        "dag": part,
        "view": [[place[seen.node]] for seen in run.view(role)],
        "steps": [step_json(step, place) for step in peeled.steps],
        "digest": "",
    }


@pytest.mark.slow
@pytest.mark.parametrize("what", UNSOUND)
def test_the_oracle_catches_an_unsound_engine_and_the_checker_its_proofs(what: str, leaking: Leaking) -> None:
    engine, caught = _engine(UNSOUND[what]), 0
    for _, run, role in leaking:
        peeled = engine(run.dag, run.view(role), role)
        if not peeled.findings:
            caught += 1
            with pytest.raises(Rejected):
                verify(_document(run, role, peeled), no_model)
    assert caught, f"no program shows that it is unsound that {what}"


@pytest.mark.slow
def test_the_engine_itself_proves_none_of_them(leaking: Leaking) -> None:
    assert len(UNSOUND) >= 35
    engine = _engine([])
    assert not [name for name, run, role in leaking if not engine(run.dag, run.view(role), role).findings]
