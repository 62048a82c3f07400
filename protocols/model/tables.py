"""Piecewise polynomials for the activations, as plain data: read by the protocols and by the oracle alike.

Segments are right-closed: x takes row j + 1 when x > breakpoints[j]. Coefficients stand low degree first. The error of
a table is the largest one against the exact function on the grid of step 2^-12 over [-8, 8], measured by
`python -m protocols.model.training.fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


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
DEFAULT_TABLES: dict[str, Table] = {"gelu": GELU_MINIMAX, "silu": SILU_MINIMAX}


def find_table(name: str) -> Table:
    """The table of that name; TableError with the known names otherwise."""
    if name not in TABLES:
        raise TableError(f"expected a table of {', '.join(sorted(TABLES))}, got {name!r}: choose one")
    return TABLES[name]
