"""The network of a virtual time: `lan`, `wan`, or one described in a file."""

from __future__ import annotations

import json
import math
from pathlib import Path

from sim.network import NETWORKS, Network

FIELDS = ("name", "latency_s", "bandwidth")
MOST_BYTES = 1 << 16
MOST_LATENCY_S = 3600.0
LONGEST_NAME = 64


class NetworkFile(ValueError):
    """A network that is neither known nor described in a file."""


def read_network(given: str) -> Network:
    """A network by name, or from a JSON file with name, latency_s (seconds one way) and bandwidth (bits per second each
    way). NetworkFile."""
    if given in NETWORKS:
        return NETWORKS[given]
    path, known = Path(given), ", ".join(NETWORKS)
    if not path.is_file():
        raise NetworkFile(f"--network {given}: expected {known} or a file, there is no such file")
    if path.stat().st_size > MOST_BYTES:
        raise NetworkFile(f"--network {given}: expected at most {MOST_BYTES:,} bytes; shorten it")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise NetworkFile(f"--network {given}: expected a JSON object with {', '.join(FIELDS)}: {error}") from error
    if not isinstance(fields, dict) or fields.keys() != set(FIELDS):
        raise NetworkFile(f"--network {given}: expected a JSON object with exactly {', '.join(FIELDS)}; correct it")
    name, latency, bandwidth = (fields[field] for field in FIELDS)
    if not (isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise NetworkFile(f"--network {given}: expected a name of 1 to {LONGEST_NAME} characters; choose another")
    if not (_is_number(latency) and 0 <= latency <= MOST_LATENCY_S):
        told = f"expected latency_s from 0 to {MOST_LATENCY_S:g} seconds, got {latency!r:.40}"
        raise NetworkFile(f"--network {given}: {told}; correct it")
    if not (_is_number(bandwidth) and bandwidth > 0):
        raise NetworkFile(f"--network {given}: expected a bandwidth above 0 bits per second, got {bandwidth!r:.40}")
    return Network(name, float(latency), float(bandwidth))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
