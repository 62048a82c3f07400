"""The linear steps of a tape bijection: systems of equations over Z_{2^l}, solved for the symbols of the step.

Which symbols an equation can be solved for may hang on secret bits (the parities of its factors). So the solution is
written case by case over those bits, and the symbols that stay free in a case keep what the free symbols had before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import z3

from proofs.bitvectors import Leaves, array_of, evaluate
from proofs.joint import matrix
from proofs.rules import Live
from proofs.symbolic import Dag

BITS = 4  # of factors, in a linear step


class NoInverse(ValueError):
    """A step whose inverse is not written down here."""


class System:
    """The equations of a linear step: solved for its symbols, for each value of the bits that the parities hang on."""

    def __init__(self, dag: Dag, state: Live, symbols: list[int], targets: list[int]) -> None:
        self.dag, self.symbols, self.targets = dag, symbols, targets
        parity, rows = matrix(state, symbols, targets)
        self.atoms = list(parity.atoms)
        self.l = dag.nodes[targets[0]].ring.l
        if len(self.atoms) > BITS or any(dag.nodes[t].ring.l != self.l for t in targets):
            raise NoInverse(f"a linear step over several rings, or with {len(self.atoms)} unknown bits in its factors")
        # Per assignment: the column that each row is solved for.
        self.pivots = [
            _pivots([[table >> a & 1 for table in row] for row in rows]) for a in range(1 << len(self.atoms))
        ]

    def _case(self, values: Leaves, place: int) -> list[Any]:
        """The bits of the atoms at one entry."""
        evaluate(self.dag, [n for n, _ in self.atoms], values)
        return [z3.simplify(z3.Extract(b, b, values[n].reshape(-1)[place])) for n, b in self.atoms]

    def solved(self, before: Leaves, after: Leaves) -> Leaves:
        """Where there are more symbols than equations, the free ones keep their values, whichever they are."""
        given = {n: value for n, value in after.items() if n not in self.targets}
        rings = {r: self.dag.nodes[r].ring.l for r in self.symbols}
        shape = self.dag.nodes[self.targets[0]].shape
        probes = []
        for one in (None, *self.symbols):
            trial = given | {
                r: array_of(shape, [z3.BitVecVal(int(r == one), rings[r])] * math.prod(shape)) for r in self.symbols
            }
            evaluate(self.dag, self.targets, trial)
            probes.append([trial[t].reshape(-1) for t in self.targets])
        base, *units = probes
        found: list[list[Any]] = [[] for _ in self.symbols]
        for place in range(math.prod(shape)):
            old = [before[r].reshape(-1)[place] for r in self.symbols]
            low = [z3.Extract(self.l - 1, 0, term) for term in old]
            free = self._chosen(self._case(before, place), [[low[i] for i in self._free(p)] for p in self.pivots])
            bits = self._case(given, place)
            cases = []
            for a, pivots in enumerate(self.pivots):
                known = [(bit, z3.BitVecVal(a >> i & 1, 1)) for i, bit in enumerate(bits)]
                factors = [
                    [z3.simplify(z3.substitute(unit[j][place] - base[j][place], *known)) for unit in units]
                    for j in range(len(self.targets))
                ]
                right = [after[t].reshape(-1)[place] - base[j][place] for j, t in enumerate(self.targets)]
                cases.append(_eliminated(factors, right, pivots, dict(zip(self._free(pivots), free, strict=True))))
            for i, value in enumerate(self._chosen(bits, cases)):
                high = [] if old[i].size() == self.l else [z3.Extract(old[i].size() - 1, self.l, old[i])]
                found[i].append(z3.simplify(z3.Concat(*high, value) if high else value))
        return {r: array_of(shape, terms) for r, terms in zip(self.symbols, found, strict=True)}

    def _free(self, pivots: Sequence[int]) -> list[int]:
        return [i for i in range(len(self.symbols)) if i not in pivots]

    def _chosen(self, bits: Sequence[Any], cases: Sequence[Sequence[Any]]) -> list[Any]:
        """Position by position, the term of the case that the bits say."""
        result = list(cases[-1])
        for a in reversed(range(len(cases) - 1)):
            here = z3.And([bit == (a >> i & 1) for i, bit in enumerate(bits)])
            result = [z3.If(here, term, rest) for term, rest in zip(cases[a], result, strict=True)]
        return result


def _pivots(rows: list[list[int]]) -> list[int]:
    """Per row a column, such that the rows can be solved for them in this order. Rows are independent modulo 2."""
    pivots: list[int] = []
    for j, row in enumerate(rows):
        for i, pivot in enumerate(pivots):
            if row[pivot]:
                row[:] = [a ^ b for a, b in zip(row, rows[i], strict=True)]
        pivots.append(row.index(1))
        for i in range(j):
            if rows[i][pivots[j]]:
                rows[i][:] = [a ^ b for a, b in zip(rows[i], row, strict=True)]
    return pivots


def _eliminated(rows: list[list[Any]], right: list[Any], pivots: Sequence[int], free: Mapping[int, Any]) -> list[Any]:
    """The unknowns of rows x = right, the free ones given."""
    for j, pivot in enumerate(pivots):
        inverse = _odd_inverse(rows[j][pivot])
        for i in range(len(rows)):
            if i != j:
                factor = z3.simplify(rows[i][pivot] * inverse)
                rows[i] = [z3.simplify(a - factor * b) for a, b in zip(rows[i], rows[j], strict=True)]
                right[i] = z3.simplify(right[i] - factor * right[j])
    values = dict(free)
    for j, pivot in enumerate(pivots):
        known = sum((rows[j][i] * term for i, term in free.items()), start=z3.BitVecVal(0, right[j].size()))
        values[pivot] = z3.simplify((right[j] - known) * _odd_inverse(rows[j][pivot]))
    return [values[i] for i in sorted(values)]


def _odd_inverse(term: Any) -> Any:
    """Modulo 2^l; each round doubles the number of right bits, of which an odd number is its own inverse in three."""
    if z3.is_bv_value(term):
        return z3.BitVecVal(pow(term.as_long(), -1, 1 << term.size()), term.size())
    found, right = term, 3
    while right < term.size():
        found, right = z3.simplify(found * (2 - term * found)), 2 * right
    return found
