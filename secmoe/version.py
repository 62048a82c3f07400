"""The version of the installed distribution."""

from __future__ import annotations

from importlib.metadata import version

DISTRIBUTION = "secmoe-testbed"


def program_version() -> str:
    """Version of the installed testbed."""
    return version(DISTRIBUTION)
