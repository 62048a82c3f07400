"""Piecewise polynomials for the activations, as plain data: read by the protocols and by the oracle alike.

Segments are right-closed: x takes row j + 1 when x > breakpoints[j]. Coefficients stand low degree first. The error of
a table is the largest one against the exact function on the grid of step 2^-12 over [-8, 8], measured by
`python -m protocols.model.training.fit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType


class TableError(ValueError):
    """A table that is not a piecewise polynomial, or no known table."""


@dataclass(frozen=True)
class Table:
    """A piecewise polynomial: len(breakpoints) + 1 rows of coefficients of one common length, low degree first."""

    name: str
    function: str
    breakpoints: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    max_error: float

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(self.breakpoints) + 1 or not self.coefficients[0]:
            raise TableError(
                f"expected one row more than breakpoints in table {self.name}, got {len(self.coefficients)} rows and "
                f"{len(self.breakpoints)} breakpoints"
            )
        if len({len(row) for row in self.coefficients}) != 1:
            raise TableError(f"expected rows of one length in table {self.name}: pad the short ones with zeros")
        if any(a >= b for a, b in pairwise(self.breakpoints)):
            raise TableError(f"expected rising breakpoints in table {self.name}, got {self.breakpoints}")

    @property
    def degree(self) -> int:
        """The common degree of the rows."""
        return len(self.coefficients[0]) - 1

    def words(self, frac_bits: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Breakpoints and coefficients as integers at scale 2^frac_bits, rounded to nearest, ties to even."""
        unit = 2.0**frac_bits
        return (
            tuple(round(b * unit) for b in self.breakpoints),
            tuple(tuple(round(c * unit) for c in row) for row in self.coefficients),
        )


@dataclass(frozen=True)
class LookUp:
    """An activation as max(x, 0) - T(|x|): T has 2^index_bits entries, each the function's distance from ReLU in the
    middle of its step, for |x| below 2^range_bits; beyond, T is zero. [SIRNN]"""

    name: str
    function: str
    range_bits: int
    max_error: float
    index_bits: int = 8

    def __post_init__(self) -> None:
        if self.function not in FROM_RELU:
            known = ", ".join(FROM_RELU)
            raise TableError(f"expected a function of {known} in look-up {self.name}, got {self.function!r}")

    def words(self, frac_bits: int) -> tuple[int, ...]:
        """The entries as integers at scale 2^frac_bits, rounded to nearest."""
        step = 2.0 ** (self.range_bits - self.index_bits)
        distance = FROM_RELU[self.function]
        return tuple(round(distance((i + 0.5) * step) * 2.0**frac_bits) for i in range(1 << self.index_bits))

    def width(self, frac_bits: int) -> int:
        """Bits of the narrowest ring in which no entry has its sign bit set."""
        return max(self.words(frac_bits)).bit_length() + 1

    def shift(self, frac_bits: int) -> int:
        """Bits of |x| below its index. Raises TableError where there are none."""
        if frac_bits + self.range_bits <= self.index_bits:
            raise TableError(f"look-up {self.name}: expected more than {self.index_bits - self.range_bits} fractional "
                             f"bits, got {frac_bits}: take a parameter set with more")
        return frac_bits + self.range_bits - self.index_bits

    def edge(self, frac_bits: int) -> int:
        """The largest word of |x| with an entry."""
        return (1 << (frac_bits + self.range_bits)) - 1


Approximation = Table | LookUp

# Functions that differ from ReLU by an even function: their distance below it, for u >= 0.
FROM_RELU: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"gelu": lambda u: u * math.erfc(u / math.sqrt(2.0)) / 2, "silu": lambda u: u / (1 + math.exp(u))}
)
GELU_LOOK_UP = LookUp("gelu-lookup", "gelu", 2, 4.0e-3)
SILU_LOOK_UP = LookUp("silu-lookup", "silu", 3, 8.0e-3)

GELU_PUBLISHED = Table(
    name="gelu-published",
    function="gelu",
    breakpoints=(-5.0, -3.0, -1.0, 1.0, 3.0),
    coefficients=(
        (0.0, 0.0, 0.0),
        (-0.02986296, -0.01380208, -0.00158297),
        (-0.36497047, -0.23581369, -0.03840320),
        (0.00485947, 0.50000716, 0.34826040),
        (-0.36491015, 1.23575599, -0.03839009),
        (0.0, 1.0, 0.0),
    ),
    max_error=1.178e-2,
)

GELU_MINIMAX = Table(
    name="gelu-minimax",
    function="gelu",
    breakpoints=(-5.0, -3.0, -1.0, 1.0, 3.0),
    coefficients=(
        (0.0, 0.0, 0.0),
        (-0.04069814, -0.01884089, -0.00215829),
        (-0.34009633, -0.20955264, -0.03207229),
        (0.00668518, 0.5, 0.34134475),
        (-0.34009633, 1.20955264, -0.03207229),
        (0.0, 1.0, 0.0),
    ),
    max_error=6.7e-3,
)

SILU_MINIMAX = Table(
    name="silu-minimax",
    function="silu",
    breakpoints=(-7.0, -3.5, -1.375, 1.375, 3.5, 7.0),
    coefficients=(
        (0.0, 0.0, 0.0),
        (-0.41139770, -0.12029809, -0.00896824),
        (-0.36893228, -0.05349212, 0.00685999),
        (0.00717027, 0.5, 0.21686311),
        (-0.36893228, 1.05349212, 0.00685999),
        (-0.41139770, 1.12029809, -0.00896824),
        (0.0, 1.0, 0.0),
    ),
    max_error=7.2e-3,
)

SIGMOID_MINIMAX = Table(
    name="sigmoid-minimax",
    function="sigmoid",
    breakpoints=(-5.0, -2.5, 0.0, 2.5, 5.0),
    coefficients=(
        (0.0, 0.0, 0.0),
        (0.28953022, 0.11603515, 0.01196013),
        (0.50194215, 0.27266221, 0.04058115),
        (0.49805785, 0.27266221, -0.04058115),
        (0.71046978, 0.11603515, -0.01196013),
        (1.0, 0.0, 0.0),
    ),
    max_error=6.7e-3,
)

TABLES: dict[str, Table] = {
    table.name: table for table in (GELU_PUBLISHED, GELU_MINIMAX, SILU_MINIMAX, SIGMOID_MINIMAX)
}
LOOK_UPS: dict[str, LookUp] = {table.function: table for table in (GELU_LOOK_UP, SILU_LOOK_UP)}
APPROXIMATIONS: dict[str, Table | LookUp] = {**TABLES, **{table.name: table for table in LOOK_UPS.values()}}
DEFAULT_TABLES: dict[str, Table] = {"gelu": GELU_MINIMAX, "silu": SILU_MINIMAX}


def find_table(name: str) -> Table:
    """The table of that name; TableError with the known names otherwise."""
    if name not in TABLES:
        raise TableError(f"expected a table of {', '.join(sorted(TABLES))}, got {name!r}: choose one")
    return TABLES[name]
