"""Virtual time: what a run would take on a network, from its causal depths.

Time = sum over depths of (latency + the busier direction's bits / bandwidth) + the slower party's CPU at that depth.
Latency is one way, per message chain step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sim.role import CLIENT, SERVER, Role


@dataclass(frozen=True)
class Network:
    """latency_s in seconds one way, bandwidth in bits per second each way."""

    name: str
    latency_s: float
    bandwidth: float

    def time(self, sizes: Iterable[tuple[int, Role, int]], cpu: Mapping[tuple[Role, int], float]) -> float:
        """Seconds for messages given as (depth, sender, bytes) and CPU seconds given per (party, depth)."""
        load: dict[int, dict[Role, int]] = {}
        for depth, sender, nbytes in sizes:
            at = load.setdefault(depth, {CLIENT: 0, SERVER: 0})
            at[sender] += nbytes
        wire = sum(self.latency_s + 8 * max(at.values()) / self.bandwidth for at in load.values())
        depths = {depth for _, depth in cpu}
        work = sum(max(cpu.get((role, depth), 0.0) for role in Role) for depth in depths)
        return wire + work


LAN = Network("lan", 0.5e-3, 1e9)
WAN = Network("wan", 4e-3, 400e6)
NETWORKS = {network.name: network for network in (LAN, WAN)}
