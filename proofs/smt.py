"""Scalar terms as Z3 bit-vectors, and proofs of equality and of ranges.

All comparisons are spelled out: Z3's `>>` and `<` on bit-vectors are signed, the ring operations are not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from proofs.bounds import Bounds, signed
from proofs.elements import LEAF, Elements
from proofs.symbolic import CONST

Range = tuple[int, int, int]  # term, low, high: signed bounds, inclusive


@dataclass(frozen=True)
class Answer:
    """holds: True, False with the leaves' values, or None (gave up)."""

    holds: bool | None
    leaves: dict[int, int]
    reason: str = ""


class Encoder:
    """Bit-vectors of terms; the leaves in `zero` are replaced by 0.

    With `bounds`, a shift of products is any word in its arc, the same for the same normal form: more values than
    there are, so that what holds for them holds; a counterexample then means nothing.
    """

    def __init__(self, elements: Elements, zero: Collection[int] = (), bounds: Bounds | None = None) -> None:
        self.elements, self.zero, self.bounds = elements, frozenset(zero), bounds
        self.known: dict[int, Any] = {}
        self.facts: list[Any] = []
        self._abstract: dict[Any, Any] = {}
        self._exposed: dict[int, bool] = {}
        self._shifts: set[int] = set()

    @property
    def exact(self) -> bool:
        return not self._abstract

    def _hard(self, number: int) -> bool:
        """Whether a shift is the first one above a product of two words."""
        for n in self.elements.cone([number]):
            if n not in self._exposed:
                term = self.elements.terms[n]
                own = term.op == "mul" and term.l > 1 and not any(self._is_bit(a) for a in term.args)
                self._exposed[n] = own or any(self._exposed[a] for a in term.args)
                if term.op == "shr" and self._exposed[n]:
                    self._exposed[n] = False
                    self._shifts.add(n)
        return number in self._shifts

    def _is_bit(self, number: int) -> bool:
        term = self.elements.terms[number]
        return term.op == CONST or (term.op == "cast" and self.elements.terms[term.args[0]].l == 1)

    def _named(self, number: int, bounds: Bounds) -> Any:
        form, l = bounds.normal.form(number), self.elements.terms[number].l
        if form not in self._abstract:
            self._abstract[form] = z3.BitVec(f"f{len(self._abstract)}", l)
            arc = signed(bounds.arc(number), l)
            if arc is not None:
                self.facts.append(_between(self._abstract[form], *arc))
        return self._abstract[form]

    def of(self, number: int) -> Any:
        for n in self.elements.missing(number, self.known):
            self.known[n] = self._of(n)
        return self.known[number]

    def _of(self, number: int) -> Any:
        term = self.elements.terms[number]
        l, args = term.l, [self.known[a] for a in term.args]
        if term.op == CONST or number in self.zero:
            return z3.BitVecVal(term.params[0] if term.op == CONST else 0, l)
        if term.op == LEAF:
            return z3.BitVec(f"t{number}", l)
        if term.op in ("add", "sub"):
            if l == 1:
                return args[0] ^ args[1]
            return args[0] + args[1] if term.op == "add" else args[0] - args[1]
        if term.op == "mul":
            return self._product(term.args, args, l)
        if term.op == "neg":
            return -args[0]
        if term.op == "shl":
            return args[0] << term.params[0]
        if term.op == "shr":
            if self.bounds is not None and self._hard(number):
                return self._named(number, self.bounds)
            return z3.LShR(args[0], term.params[0])
        if term.op == "cast":
            source = self.elements.terms[term.args[0]].l
            return z3.ZeroExt(l - source, args[0]) if l > source else z3.Extract(l - 1, 0, args[0])
        constant = z3.BitVecVal(term.params[0], args[0].size())
        return z3.If(args[0] == constant, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))

    def _product(self, numbers: tuple[int, ...], args: list[Any], l: int) -> Any:
        if l == 1:
            return args[0] & args[1]
        for which, other in ((0, 1), (1, 0)):
            factor = self.elements.terms[numbers[which]]
            if factor.op == "cast" and self.elements.terms[factor.args[0]].l == 1:
                return z3.If(self.known[factor.args[0]] == 1, args[other], z3.BitVecVal(0, l))
        return args[0] * args[1]


def _solve(encoder: Encoder, given: Sequence[Range], claim: Any, seconds: float) -> Answer:
    solver = z3.SolverFor("QF_BV")
    solver.set("timeout", int(seconds * 1000))
    for number, low, high in given if encoder.exact else ():  # abstracted words have their arcs instead
        solver.add(_between(encoder.of(number), low, high))
    solver.add(*encoder.facts)
    solver.add(z3.Not(claim))
    result = solver.check()
    if result == z3.unsat:
        return Answer(True, {})
    if result == z3.unknown:
        return Answer(None, {}, f"z3: {solver.reason_unknown()} after {seconds:g} s")
    if not encoder.exact:
        return Answer(None, {}, "z3: not implied by the bounds of the products")
    model = solver.model()
    leaves = {
        n: model.eval(value, model_completion=True).as_long()
        for n, value in encoder.known.items()
        if encoder.elements.terms[n].op == LEAF
    }
    return Answer(False, leaves)


def _between(x: Any, low: int, high: int) -> Any:
    if x.size() == 1:
        return z3.And(z3.UGE(x, low), z3.ULE(x, high))
    return z3.And(x >= low, x <= high)


def prove_equal(
    elements: Elements, a: int, b: int, given: Sequence[Range], zero: Collection[int], seconds: float
) -> Answer:
    """Whether two terms are equal for all leaves that satisfy `given`, with the leaves in `zero` at 0."""
    encoder = Encoder(elements, zero)
    return _solve(encoder, given, encoder.of(a) == encoder.of(b), seconds)


def prove_range(
    elements: Elements,
    number: int,
    low: int,
    high: int,
    given: Sequence[Range],
    zero: Collection[int],
    seconds: float,
    bounds: Bounds | None = None,
) -> Answer:
    """Whether a term, signed (a bit: 0 or 1), lies in [low, high]."""
    encoder = Encoder(elements, zero, bounds)
    return _solve(encoder, given, _between(encoder.of(number), low, high), seconds)
