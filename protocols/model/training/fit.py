"""Minimax tables: `python -m protocols.model.training.fit` prints each table's measured error and, for the fitted
ones, the coefficients that the Remez exchange gives.

Each inner segment is fitted alone; the outer ones are the function's asymptotes, given by hand. Coefficients are
rounded to eight decimals, as they stand in protocols.model.tables.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protocols.model.floating import activate, piecewise
from protocols.model.tables import TABLES, Table

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

SPAN = 8.0
STEP = 2.0**-12
DECIMALS = 8

FUNCTIONS: dict[str, Function] = {
    "gelu": lambda x: activate(x, "gelu"),
    "silu": lambda x: activate(x, "silu"),
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(x / 2)),
}


def remez(function: Function, low: float, high: float, degree: int, rounds: int = 20, points: int = 20001) -> Floats:
    """Coefficients, low degree first, of the polynomial of least maximal error on [low, high], on a grid of Chebyshev
    points: solve for an error that alternates at degree + 2 points, move them to the extrema between the error's sign
    changes, repeat."""
    grid = (low + high) / 2 - (high - low) / 2 * np.cos(np.linspace(0.0, np.pi, points))
    values = function(grid)
    at = np.linspace(0, points - 1, degree + 2).round().astype(int)
    for _ in range(rounds):
        signs = (-1.0) ** np.arange(degree + 2)
        system = np.concatenate([np.vander(grid[at], degree + 1, increasing=True), signs[:, None]], axis=1)
        solution = np.linalg.solve(system, values[at])[:-1]
        error = values - np.polynomial.polynomial.polyval(grid, solution)
        at = _extrema(error, degree + 2)
    return np.asarray(solution)


def _extrema(error: Floats, wanted: int) -> NDArray[np.int64]:
    """`wanted` indices of alternating extrema: the largest of each run of one sign, weak runs at the ends dropped."""
    cuts = np.flatnonzero(np.diff(np.sign(error))) + 1
    runs = np.split(np.arange(len(error)), cuts)
    peaks = [int(run[np.abs(error[run]).argmax()]) for run in runs]
    while len(peaks) > wanted:
        peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
    return np.array(peaks)


def fit(function: Function, breakpoints: tuple[float, ...], degree: int) -> list[list[float]]:
    """Rows of the inner segments, rounded to DECIMALS."""
    return [
        [round(float(c), DECIMALS) + 0.0 for c in remez(function, low, high, degree)]
        for low, high in pairwise(breakpoints)
    ]


def measured_error(table: Table) -> tuple[float, float]:
    """(largest, mean) absolute error of a table on the grid of step STEP over [-SPAN, SPAN]."""
    x = np.arange(-SPAN, SPAN + STEP, STEP)
    error = np.abs(piecewise(x, table) - FUNCTIONS[table.function](x))
    return float(error.max()), float(error.mean())


def main() -> None:
    """The command."""
    for table in TABLES.values():
        largest, mean = measured_error(table)
        print(f"{table.name}: max {largest:.3e}, mean {mean:.3e}, breakpoints {table.breakpoints}")
        for row in fit(FUNCTIONS[table.function], table.breakpoints, table.degree):
            print(f"    minimax {tuple(row)}")


if __name__ == "__main__":
    main()
