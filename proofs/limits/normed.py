"""Products with normed states, in integers: weights and norms are binary fractions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from protocols.model.architecture import Model

Objects = NDArray[np.object_]

GRAIN = 24  # float16 weights are multiples of 2^-24
OFF = Fraction(1, 2) + Fraction(1, 1 << 10)  # ulp: rounding, and float64 in the layer norm
ONE_MORE = 2  # a floor and the ulp of the one-ulp mode


class NotBinary(ValueError):
    """Weights that are no multiples of 2^-24."""


def exact(values: NDArray[np.float64]) -> Objects:
    """The integers 2^24 v."""
    scaled = values * float(1 << GRAIN)
    if not (scaled == np.rint(scaled)).all():
        raise NotBinary("weights: expected multiples of 2^-24, as float16 has them: round the weights first")
    return np.asarray(np.vectorize(int, otypes=[object])(scaled))


def words_of(values: NDArray[np.float64], s: int) -> Objects:
    """round(2^s v), ties to even, as Python integers."""
    return np.asarray(np.vectorize(int, otypes=[object])(np.rint(values * float(1 << s))))


def up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


@dataclass(frozen=True)
class Norm:
    """x = gamma z + beta with |z|^2 <= d; gamma, beta as multiples of 2^-24."""

    gamma: Objects
    beta: Objects

    @classmethod
    def of(cls, model: Model, name: str) -> Norm:
        return cls(exact(model.parameters[name + ".weight"]), exact(model.parameters[name + ".bias"]))

    def products(self, weights: Objects, s: int) -> Objects:
        """Bounds on |w X| for each row of integer words `weights`, X the words of x: at 2 s fractional bits."""
        d = weights.shape[-1]
        squares = ((weights * self.gamma) ** 2).sum(-1) * d
        roots = np.vectorize(lambda v: isqrt(v) + 1, otypes=[object])(squares)
        centre = np.abs((weights * self.beta).sum(-1))
        off = np.abs(weights).sum(-1)
        total = ((roots + centre) * (1 << s)) // (1 << GRAIN) + 1 + (off * OFF.numerator) // OFF.denominator + 1
        return np.asarray(total, dtype=object)

    def largest(self, s: int) -> int:
        """A bound on the words of x."""
        d = len(self.gamma)
        return max(up(Fraction((isqrt(d * g * g) + 1 + abs(b)) << s, 1 << GRAIN)) + 1
                   for g, b in zip(self.gamma, self.beta, strict=True))
