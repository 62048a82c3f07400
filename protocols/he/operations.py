"""The operations on rows that every engine offers, and the constants that the changes of modulus among them take.

Arrays are float64 [..., limbs, n] with canonical residues; `limbs` names the prime of each of the last-but-one axis's
rows.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.he.ntt import Floats, Ints, Slots, Tables

Weights = NDArray[np.signedinteger]


class ConversionTables:
    """Constants of the exact base conversion from one set of primes to another (see `changes.convert`).

    rescale: of round(target / source * x) instead. target * x = source * y + [target * x]_source, and target vanishes
    modulo its own primes: y is the conversion of target * x, times -1 / source.
    """

    def __init__(self, source: tuple[int, ...], target: tuple[int, ...], rescale: bool = False) -> None:
        self.target = np.array(target, dtype=np.float64)
        modulus, before = math.prod(source), math.prod(target) if rescale else 1
        after = [-pow(modulus, -1, b) if rescale else 1 for b in target]
        columns = [(a, 1 / a, unit := pow(modulus // a, -1, a) * before % a, unit / a) for a in source]
        self.units = np.array(columns, dtype=np.float64).T.copy()
        rows = [[*(modulus // a * c % b for a in source), -modulus * c % b] for b, c in zip(target, after, strict=True)]
        matrix = np.array(rows, dtype=np.float64)
        self.factors = np.stack([matrix, matrix / self.target[:, None]])


class DivisionTables:
    """Constants of the exact division by the product of the dropped primes: row numbers, conversion, inverses."""

    def __init__(self, source: tuple[int, ...], target: tuple[int, ...]) -> None:
        away = tuple(p for p in source if p not in target)
        self.kept = np.array([source.index(p) for p in target], dtype=np.int64)
        self.dropped = np.array([source.index(p) for p in away], dtype=np.int64)
        self.conversion = ConversionTables(away, target)
        self.scale = np.array([pow(math.prod(away), -1, p) for p in target], dtype=np.float64)


class SwitchTables:
    """Constants of key switches at ring degree n, of digits that are ranges of `limbs`, over the primes of `key_limbs`:
    these limbs first, then the special ones (see `changes.switch_products`).

    unit is what the residues are multiplied by, scale the same over n: the inverse transform takes it along.
    """

    def __init__(self, n: int, primes: tuple[int, ...], limbs: Ints, key_limbs: Ints, digits: Sequence[range]) -> None:
        self.limbs, self.key_limbs, self.digits = limbs, key_limbs, digits
        own = [[primes[limbs[k]] for k in digit] for digit in digits]
        pairs = [(math.prod(group) // a, a) for group in own for a in group]
        self.unit = np.array([pow(rest, -1, a) for rest, a in pairs], dtype=np.float64)
        self.scale = np.array([pow(n * rest, -1, a) for rest, a in pairs], dtype=np.float64)
        self.matrix = np.array([[rest % primes[k] for rest, _ in pairs] for k in key_limbs], dtype=np.float64)
        self.quotients = self.matrix / np.array([primes[k] for k in key_limbs], dtype=np.float64)[:, None]


class Engine(Protocol):
    """The operations an engine offers; see `pointwise`, `changes` and `placing` for their meaning."""

    tables: Tables

    def forward(self, x: Floats, limbs: Ints) -> None: ...
    def inverse(self, x: Floats, limbs: Ints) -> None: ...
    def multiply(self, a: Floats, b: Floats, limbs: Ints) -> Floats: ...
    def add(self, a: Floats, b: Floats, limbs: Ints) -> Floats: ...
    def add_to(self, a: Floats, b: Floats, limbs: Ints) -> None: ...
    def hidden(self, message: Floats, noise: Ints, mask: Floats, limbs: Ints) -> Floats: ...
    def scaled(self, a: Floats, scale: Floats, limbs: Ints, out: Floats | None = None) -> Floats: ...
    def subtract_scale(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> Floats: ...
    def add_scaled(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> None: ...
    def halves(self, a: Floats, b: Floats, twist: Floats, limbs: Ints) -> tuple[Floats, Floats]: ...
    def fold(
        self, out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, order: Slots, limbs: Ints
    ) -> Floats: ...
    def merge_rows(
        self, out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, extra: Floats, order: Slots,
        limbs: Ints,
    ) -> None: ...
    def tensor(self, a: Floats, b: Floats, limbs: Ints) -> Floats: ...
    def permute(self, x: Floats, order: Slots) -> Floats: ...
    def convert(self, x: Floats, constants: ConversionTables, out: Floats | None = None) -> Floats: ...
    def divide(self, x: Floats, limbs: Ints, division: DivisionTables) -> Floats: ...
    def switch_products(self, x: Floats, key: Floats, constants: SwitchTables) -> Floats: ...
    def place_weights(self, out: Floats, weights: Weights, width: int, stride: int, spacing: int) -> None: ...
    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None: ...
