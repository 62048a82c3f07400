"""What a kernel takes on this machine: a file that `secmoe bench --calibrate` measures and `secmoe cost` reads.

A prediction multiplies counts of the closed forms by these rates. No time of a whole run goes into it.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protocols.he.params import PARAM_SETS, ParamSet
from protocols.ot.work_kinds import KINDS
from secmoe.timing_he import kernel_rates
from secmoe.timing_ot import BYTE, MESSAGE, share_rates
from secmoe.version import program_version
from sim.cost import Cost
from sim.network import Network

DEFAULT = Path("calibration.json")
FIELDS = ("made", "machine", "versions", "nanoseconds")
MOST_BYTES = 1 << 20
MOST_NANOSECONDS = 1e12
REPEATS: Mapping[str, int] = {"shares": 5, "kernels": 9}  # of what is measured, protocols and kernels
LIBRARIES = ("numpy", "numba", "cryptography")


class CalibrationFile(ValueError):
    """A file that holds no calibration."""


class NotCalibrated(ValueError):
    """A kernel that a calibration has no rate of."""


@dataclass(frozen=True)
class Calibration:
    """made: when, UTC. nanoseconds: CPU time of one kernel, both parties together, by name."""

    made: str
    machine: str
    versions: Mapping[str, str]
    nanoseconds: Mapping[str, float]

    def cpu(self, cost: Cost) -> float:
        """Predicted CPU seconds of both parties. NotCalibrated where a kernel was not measured."""
        counts = {MESSAGE: cost.messages, BYTE: cost.nbytes, **cost.work.counts}
        missing = [kernel for kernel, count in counts.items() if count and kernel not in self.nanoseconds]
        if missing:
            raise NotCalibrated(
                f"calibration of {self.made}: expected a rate of {missing[0]!r}, got none: run secmoe bench --calibrate"
            )
        return sum(self.nanoseconds[kernel] * count for kernel, count in counts.items() if count) / 1e9

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: dict(v) if isinstance(v := getattr(self, name), Mapping) else v for name in FIELDS}


def waiting(cost: Cost, network: Network) -> float:
    """Seconds on a network beside computation: a latency for each round, and every byte as if both directions took
    turns, which is what they do but for messages that cross."""
    return cost.rounds * network.latency_s + 8 * cost.nbytes / network.bandwidth


def measure(sets: Sequence[ParamSet] | None = None, repeats: Mapping[str, int] | None = None) -> Calibration:
    """Measure every kernel of these parameter sets (None: of every shipped one) on this machine, in some 20 s of CPU
    time. repeats: see REPEATS."""
    often = repeats or REPEATS
    rates = share_rates(often["shares"])
    for params in PARAM_SETS.values() if sets is None else sets:
        rates |= kernel_rates(params, often["kernels"])
    versions = {"secmoe": program_version(), "python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES}
    return Calibration(f"{datetime.now(UTC):%Y-%m-%d %H:%M}", machine(), versions, rates)


def middle(found: Sequence[Calibration]) -> Calibration:
    """Of several on one machine: the median of each rate over those that have it, under the first one's time."""
    kernels = dict.fromkeys(kernel for one in found for kernel in one.nanoseconds)
    rates = {
        kernel: statistics.median(one.nanoseconds[kernel] for one in found if kernel in one.nanoseconds)
        for kernel in kernels
    }
    return replace(found[0], nanoseconds=rates)


def machine() -> str:
    """The processor and how many there are, as the system names them."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or 1} cores"


def read_calibration(path: Path) -> Calibration:
    """Inverse of `Calibration.to_json`. CalibrationFile."""
    told = f"calibration {path}"
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise CalibrationFile(f"{told}: expected a file of at most {MOST_BYTES:,} bytes: run secmoe bench --calibrate")
    try:
        return calibration_from(json.loads(path.read_text(encoding="utf-8")), told)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CalibrationFile(f"{told}: expected JSON: {error}: run secmoe bench --calibrate") from error


def calibration_from(fields: Any, told: str) -> Calibration:
    """From JSON values; told: where they come from. CalibrationFile."""
    if not isinstance(fields, dict) or fields.keys() != set(FIELDS):
        raise CalibrationFile(f"{told}: expected exactly {', '.join(FIELDS)}: run secmoe bench --calibrate")
    rates, versions = fields["nanoseconds"], fields["versions"]
    good = isinstance(rates, dict) and all(
        isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate <= MOST_NANOSECONDS
        for rate in rates.values()
    )
    words = isinstance(versions, dict) and all(isinstance(v, str) for v in versions.values())
    if not (good and words and isinstance(fields["made"], str) and isinstance(fields["machine"], str)):
        raise CalibrationFile(f"{told}: expected rates from 0 and texts: run secmoe bench --calibrate")
    return Calibration(fields["made"], fields["machine"], versions, rates)


def has_rates(calibration: Calibration, params: ParamSet) -> bool:
    """Whether everything of a parameter set was measured."""
    return any(kernel.startswith(f"{params.name} ") for kernel in calibration.nanoseconds) and all(
        kind in calibration.nanoseconds for kind in KINDS
    )
