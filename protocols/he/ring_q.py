"""The ring Z_q[X]/(X^N+1) in residue form: the bases of one parameter set and the exact changes of modulus between
them.
"""

import functools
import math

import numpy as np

from protocols.he.buffers import copied, empty
from protocols.he.engine import engine_for
from protocols.he.layouts import Layout
from protocols.he.ntt import Floats, Ints, Slots, Tables
from protocols.he.operations import ConversionTables, DivisionTables, Engine, SwitchTables
from protocols.he.params import ParamSet
from protocols.he.pointwise import small_residues


class Basis:
    """An ordered choice of primes of the ring; `limbs` index its tables."""

    def __init__(self, all_primes: tuple[int, ...], limbs: tuple[int, ...]) -> None:
        self.limbs: Ints = np.array(limbs, dtype=np.int64)
        self.primes = tuple(all_primes[k] for k in limbs)
        self.modulus = math.prod(self.primes)
        self.size = len(limbs)
        self.bits = tuple(p.bit_length() for p in self.primes)


class Ring:
    """Arithmetic of one parameter set. Elements are float64 [..., basis.size, N] with canonical residues.

    q0, q1: upload modulus and the modulus after the switch; q0p, q1p: the same with the special primes last (equal to
    q0, q1 without any); aux: the second basis of the tensor product; response: fresh primes of the responses.
    """

    def __init__(self, params: ParamSet, engine: Engine | None = None) -> None:
        self.params, self.n = params, params.n
        count, special = len(params.q_bits), len(params.special_bits)
        primes = params.primes
        self.engine = engine if engine is not None else engine_for(Tables(params.n, primes))
        first_response, first_aux = count + special, count + special + len(params.response_bits)
        q1 = tuple(range(params.kept))
        extra = tuple(range(count, count + special))
        self.q0, self.q1 = Basis(primes, tuple(range(count))), Basis(primes, q1)
        self.q0p, self.q1p = Basis(primes, tuple(range(count)) + extra), Basis(primes, q1 + extra)
        self.response = Basis(primes, tuple(range(first_response, first_aux)))
        self.aux = Basis(primes, tuple(range(first_aux, len(primes))))
        self.special = math.prod(primes[k] for k in extra)
        self._conversions: dict[tuple[tuple[int, ...], tuple[int, ...], bool], ConversionTables] = {}
        self._divisions: dict[tuple[tuple[int, ...], tuple[int, ...]], DivisionTables] = {}
        self._switches: dict[tuple[int, ...], SwitchTables] = {}

    def upload(self, layout: Layout) -> Basis:
        """The modulus of an upload."""
        return self.q1 if layout.switched else self.q0

    def forward(self, x: Floats, basis: Basis) -> Floats:
        """Transformed form of x, as a new array."""
        out = copied(x)
        self.engine.forward(out, basis.limbs)
        return out

    def inverse(self, x: Floats, basis: Basis) -> Floats:
        """Coefficient form of x, as a new array."""
        out = copied(x)
        self.engine.inverse(out, basis.limbs)
        return out

    def small(self, x: Ints, basis: Basis) -> Floats:
        """Residues of small signed coefficients [N], below every prime in absolute value: [basis.size, N]."""
        out = empty(basis.size, x.size)
        small_residues(out, x, np.array(basis.primes, dtype=np.float64))
        return out

    def monomial(self, exponent: int, basis: Basis) -> Floats:
        """X^exponent in transformed form [basis.size, N]; any integer exponent."""
        return self._monomial(exponent % (2 * self.n), tuple(int(k) for k in basis.limbs))

    @functools.lru_cache(maxsize=64)  # noqa: B019  # one ring lives as long as its parameter set
    def _monomial(self, exponent: int, limbs: tuple[int, ...]) -> Floats:
        x = np.zeros((len(limbs), self.n))
        for row, k in enumerate(limbs):
            x[row, exponent % self.n] = 1.0 if exponent < self.n else self.engine.tables.primes[k] - 1.0
        self.engine.forward(x, np.array(limbs, dtype=np.int64))
        return x

    @functools.lru_cache(maxsize=64)  # noqa: B019
    def permutation(self, element: int) -> Slots:
        """Slot permutation of the automorphism X -> X^element."""
        return self.engine.tables.automorphism(element)

    def extend(self, x: Floats, source: Basis, target: Basis, out: Floats | None = None) -> Floats:
        """Centred lift of coefficients to other primes: exact base conversion, written to `out` if given."""
        return self.engine.convert(x, self._conversion(source, target, False), out)

    def rescale(self, x: Floats, source: Basis, target: Basis, out: Floats | None = None) -> Floats:
        """round(target / source * x) for coprime moduli, coefficient form: one exact base conversion."""
        return self.engine.convert(x, self._conversion(source, target, True), out)

    def _conversion(self, source: Basis, target: Basis, rescale: bool) -> ConversionTables:
        key = source.primes, target.primes, rescale
        if key not in self._conversions:
            self._conversions[key] = ConversionTables(*key)
        return self._conversions[key]

    def drop(self, x: Floats, source: Basis, target: Basis) -> Floats:
        """round(x * target / source) in transformed form, for target's primes among source's: exact division by the
        others.
        """
        if source.primes == target.primes:
            return x
        key = source.primes, target.primes
        if key not in self._divisions:
            self._divisions[key] = DivisionTables(*key)
        return self.engine.divide(x, source.limbs, self._divisions[key])

    def switch(self, x: Floats, key: Floats, basis: Basis, special: Basis) -> Floats:
        """The digits of x (transformed, over q0 or q1) times a switching key: two components over q0 P or q1 P."""
        if basis.primes not in self._switches:
            digits = self.params.digits(basis.size)
            self._switches[basis.primes] = SwitchTables(self.n, self.params.primes, basis.limbs, special.limbs, digits)
        return self.engine.switch_products(x, key, self._switches[basis.primes])


@functools.cache
def ring_for(params: ParamSet) -> Ring:
    """The ring of a parameter set, built once per process."""
    return Ring(params)
