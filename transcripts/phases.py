"""The phases of a recorded session: what was measured in each, read from values that may have been forged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.role import Role

LONGEST = 1e9  # seconds


@dataclass(frozen=True)
class Phase:
    """The set-up of a session (`setup`) or one run in it (`r1`, ...).

    reserved: correlated randomness the run took, by resource. cpu: seconds by (party, scope) and by (party, depth).
    """

    name: str
    reserved: Mapping[str, int]
    cpu_by_scope: Mapping[tuple[Role, str], float]
    cpu_by_depth: Mapping[tuple[Role, int], float]

    @property
    def is_setup(self) -> bool:
        return self.name == "setup"


def read_phases(names: list[dict[str, Any]], measured: dict[str, Any]) -> tuple[Phase, ...]:
    """The phases of table run, from its JSON values.

    Raises ValueError, TypeError, LookupError or AttributeError unless every value is there and has its type.
    """
    return tuple(_phase(phase["name"], phase["reserved"], measured[phase["name"]]) for phase in names)


def _phase(name: Any, reserved: Any, measured: Any) -> Phase:
    if not all(type(amount) is int for amount in reserved.values()):
        raise ValueError("expected whole numbers of reserved randomness")
    return Phase(
        _shown(name),
        {_shown(resource): amount for resource, amount in reserved.items()},
        {(Role(who), _shown(scope)): _seconds(s) for who, scope, s in measured["cpu_by_scope"]},
        {(Role(who), _depth(depth)): _seconds(s) for who, depth, s in measured["cpu_by_depth"]},
    )


def _shown(text: Any) -> str:
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError(f"expected a printable name, got {text!r}")
    return text


def _depth(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected a depth, got {value!r}")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < LONGEST:
        raise ValueError(f"expected seconds, got {value!r}")
    return float(value)
