"""The privacy engine against the exact oracle: on faults, hard variants and the catalog; and unsound engines."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from proofs import private
from proofs.counterexample import CANCELS, LAW, UNTOUCHED, judge, symbolic
from proofs.enumerate import Joint
from proofs.private import prove_private
from proofs.random_protocols import program
from proofs.tiny import ENUMERATED
from protocols.broken import BRANCH, FAULTS, HARD, LEAK, SCHEDULE, Fault
from protocols.catalog import Case, Entry
from sim.party import ProtocolDecl
from sim.role import CLIENT, SERVER, Role

# Private, and not proved by the engine as it is. What becomes provable must leave the list.
UNPROVED: dict[str, tuple[Role, str]] = {
    "disjoint_slices": (SERVER, "one draw with two uses: wants its split into parts"),
    "disjoint_fields": (SERVER, "one draw with two uses: wants its split into bit fields"),
    "odd_determinant": (SERVER, "two masks, each used twice: wants linear algebra modulo 2^l"),
    "odd_secret_factor": (SERVER, "a mask times an odd word that is no constant: wants parity"),
    "precomputed_transfer": (CLIENT, "the uses of two pads meet in a selection: wants branches"),
}
ROWS = [pytest.param(entry, case, id=f"{entry.name}, {case.name}") for entry in ENUMERATED for case in entry.cases]


def _proved(proto: ProtocolDecl[Any], case: Case, role: Role, engine: Any = prove_private) -> bool:
    run = symbolic(proto, case)
    return not engine(run.dag, run.view(role), role).findings


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_fault_is_proved(fault: Fault) -> None:
    for role in Role:
        if fault.leaks_to(role) and fault.symbolic:
            assert not any(_proved(fault.entry.proto, case, role) for case in fault.entry.cases)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_is_refused_with_a_counterexample(fault: Fault) -> None:
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
    kinds = {f.name: judge(f.entry.proto, f.entry.cases[0], CLIENT).kind for f in FAULTS if not f.symbolic}
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


@pytest.mark.parametrize(("entry", "case"), ROWS)
def test_engine_and_oracle_agree_on_the_catalog(entry: Entry, case: Case) -> None:
    joint = Joint(entry.proto, case)
    for role in Role:
        judged = judge(entry.proto, case, role, case)
        assert (judged.kind == "PROVED") == (joint.distance(role) == 0), judged
        assert judged.kind in ("PROVED", "LEAK")


# -- engines that must not pass: what is wrong, and [(text of the engine, its replacement)] ----------------------------
Mutation = list[tuple[str, str]]
Leaking = list[tuple[str, ProtocolDecl[Any], Case, Role]]
_RULES = '("add", "sub", "neg", "reshape", "transpose")'
UNSOUND: dict[str, Mutation] = {
    "a symbol may have several uses": [("len(uses) != 1 or uses[0] == VIEW", "not uses or VIEW in uses")],
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
            "            if secrets and not any(self.is_random(n) for n in cone(self.dag, [seen.node])):",
        )
    ],
    "functionality outputs are not seen": [
        (
            "self.view, self.corrupted = dag, view, corrupted",
            "self.view, self.corrupted = dag, [s for s in view if not s.ideal], corrupted",
        ),
        ("for seen in view]", "for seen in self.view]"),
    ],
    "later messages are not seen": [
        ("self.view, self.corrupted = dag, view, corrupted", "self.view, self.corrupted = dag, view[:1], corrupted"),
        ("for seen in view]", "for seen in self.view]"),
    ],
}


def _engine(mutation: Mutation) -> Callable[..., Any]:
    text = inspect.getsource(private)
    for old, new in mutation:
        assert old in text, f"the engine's text no longer has {old!r}: adapt the list"
        text = text.replace(old, new)
    module = ModuleType(private.__name__)  # dataclasses look their module up
    exec(compile(text, "unsound", "exec"), module.__dict__)
    engine: Callable[..., Any] = module.prove_private
    return engine


@pytest.fixture(scope="module")
def leaking() -> Leaking:
    """Tiny programs with a party whose view tells something, by enumeration."""
    small = [(f.name, f.entry.proto, f.tiny) for f in FAULTS if f.kind == LEAK and f.tiny is not None]
    small += [(f"program {seed}", *program(seed)) for seed in range(60)]
    found = []
    for name, proto, case in small:
        joint = Joint(proto, case)
        found += [(name, proto, case, role) for role in Role if joint.distance(role) > 0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", UNSOUND)
def test_the_oracle_catches_an_unsound_engine(
    what: str, leaking: list[tuple[str, ProtocolDecl[Any], Case, Role]]
) -> None:
    engine = _engine(UNSOUND[what])
    caught = [name for name, proto, case, role in leaking if _proved(proto, case, role, engine)]
    assert caught, f"no program shows that it is unsound that {what}"


def test_the_engine_itself_proves_none_of_them(leaking: Leaking) -> None:
    assert len(UNSOUND) >= 15
    assert not [name for name, proto, case, role in leaking if _proved(proto, case, role, _engine([]))]
