"""The checks of `secmoe check` as tests: one line in a test module, one test item per check.

    test_mine = checks("my_package.my_module:my_protocol")

Installed with the testbed, as the pytest plugin `secmoe`. A check that is LISTED is skipped with its reason; one that
fails says what it found and the next step. `--secmoe-runs N` sets the runs of an audit, `-m secmoe` selects these.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the checks take a second to import, which other test suites in the same environment need not pay
    from secmoe.checks.outcome import Subject

__all__ = ["checks"]

RUNS_OPTION = "--secmoe-runs"


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "secmoe: runs of an audit, per corrupted party"
    parser.getgroup("secmoe").addoption(RUNS_OPTION, type=int, default=None, metavar="N", help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "secmoe: checks of a protocol by the testbed")


def checks(what: str) -> Callable[[str, pytest.FixtureRequest], None]:
    """A test function with one item per check of MODULE:PROTOCOL; assign it to a name that pytest collects."""
    from secmoe.checking import CHECKS

    @pytest.mark.secmoe
    @pytest.mark.parametrize("check", list(CHECKS))
    def test(check: str, request: pytest.FixtureRequest) -> None:
        from secmoe.checking import RUNS, outcomes
        from secmoe.checks.outcome import LISTED

        runs = request.config.getoption(RUNS_OPTION, None)
        try:
            (outcome,) = outcomes(_subject(what, RUNS if runs is None else runs), [check])
        except ValueError as error:
            pytest.fail(str(error), pytrace=False)
        if outcome.verdict == LISTED:
            pytest.skip(str(outcome))
        if not outcome.holds:
            pytest.fail(str(outcome), pytrace=False)

    return test


@cache
def _subject(what: str, runs: int) -> Subject:
    from secmoe.checking import subject_of

    return subject_of(what, runs)
