"""The activation tables: their declared errors, their independence of hand, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, TABLES, Table, TableError, find_table
from protocols.model.training.fit import FUNCTIONS, fit, measured_error, remez


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_declared_error_is_the_measured_one(table: Table) -> None:
    """Rounded up at the fourth digit, no more."""
    largest, _ = measured_error(table)
    assert largest <= table.max_error * (1 + 1e-3) and largest >= table.max_error * 0.99


def test_published_gelu_errors() -> None:
    largest, mean = measured_error(GELU_PUBLISHED)
    assert round(largest, 5) == 1.178e-2 and round(mean, 6) == 9.32e-4


@pytest.mark.parametrize("name", [name for name in TABLES if name.endswith("minimax")])
def test_minimax_rows_come_out_of_the_fit_again(name: str) -> None:
    table = TABLES[name]
    assert np.allclose(
        fit(FUNCTIONS[table.function], table.breakpoints, 2), table.coefficients[1:-1], rtol=0, atol=2e-8
    )


def test_the_exchange_finds_the_known_minimax_of_a_square_root_of_degree_one() -> None:
    """x^2 on [-1, 1] by degree 1: the constant 1/2; |error| 1/2."""
    assert np.allclose(remez(lambda x: x * x, -1.0, 1.0, 1), [0.5, 0.0], atol=1e-6)


def test_words_round_to_nearest_ties_to_even() -> None:
    table = Table("t", "test", (0.5, 1.5), ((0.5, 1.5), (2.5, -0.5), (-1.5, 0.25)), 1.0)
    assert table.words(0) == ((0, 2), ((0, 2), (2, 0), (-2, 0)))
    assert GELU_MINIMAX.words(18)[1][3] == (1752, 131072, 89481)
    assert table.degree == 1


def test_bad_tables_are_refused() -> None:
    for breakpoints, rows in (
        ((0.0,), ((1.0,),)),
        ((0.0,), ((1.0,), (1.0, 2.0))),
        ((1.0, 0.0), ((1.0,), (2.0,), (3.0,))),
        ((), ((),)),
    ):
        with pytest.raises(TableError, match="expected"):
            Table("bad", "test", breakpoints, rows, 1.0)
    with pytest.raises(TableError, match="gelu-minimax"):
        find_table("gelu")
