"""Collects the figures of layer benchmarks and prints them as one table at the end of `make bench`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

ROWS: list[tuple[str, ...]] = []
HEADER = (
    "layer",
    "CPU s (both)",
    "of it server",
    "MB online",
    "MB of COTs in it",
    "rounds",
    "wall s",
    "LAN s",
    "WAN s",
)


@pytest.fixture
def figures() -> Iterator[list[tuple[str, ...]]]:
    yield ROWS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS:
        return
    terminalreporter.write_sep("-", "layers, one run each")
    for row in [HEADER, ("---",) * len(HEADER), *ROWS]:
        terminalreporter.write_line("| " + " | ".join(row) + " |")
