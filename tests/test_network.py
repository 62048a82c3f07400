"""Virtual time against its definition, written out depth by depth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.network import LAN, NETWORKS, WAN, Network
from sim.role import CLIENT, SERVER, Role

ROLES = st.sampled_from(list(Role))
SIZES = st.lists(st.tuples(st.integers(1, 5), ROLES, st.integers(0, 10**7)), max_size=12)
CPU = st.dictionaries(st.tuples(ROLES, st.integers(0, 6)), st.floats(0, 10), max_size=10)


def slow_time(network: Network, sizes: list[tuple[int, Role, int]], cpu: dict[tuple[Role, int], float]) -> float:
    total = 0.0
    for depth in range(10):
        at = [(sender, nbytes) for d, sender, nbytes in sizes if d == depth]
        if at:
            client, server = (sum(n for who, n in at if who is role) for role in (CLIENT, SERVER))
            total += network.latency_s + max(client, server) * 8 / network.bandwidth
        total += max(cpu.get((CLIENT, depth), 0.0), cpu.get((SERVER, depth), 0.0))
    return total


@given(SIZES, CPU, st.sampled_from([LAN, WAN, Network("slow", 1.0, 8.0)]))
def test_time_is_its_definition(
    sizes: list[tuple[int, Role, int]], cpu: dict[tuple[Role, int], float], network: Network
) -> None:
    assert math.isclose(network.time(sizes, cpu), slow_time(network, sizes, cpu), rel_tol=1e-12)
    assert math.isclose(network.time(iter(sizes[::-1]), cpu), network.time(sizes, cpu), rel_tol=1e-12)


def test_both_directions_share_a_round_and_the_slower_party_counts() -> None:
    network = Network("units", 1.0, 8.0)  # one second per message chain step, one byte per second
    assert network.time([(1, CLIENT, 3), (1, SERVER, 5), (2, CLIENT, 1)], {}) == 1 + 5 + 1 + 1
    assert network.time([], {(CLIENT, 0): 2.0, (SERVER, 0): 3.0, (SERVER, 1): 0.5}) == 3.5
    assert network.time([], {}) == 0


@pytest.mark.parametrize("name, latency, bandwidth", [("lan", 0.5e-3, 1e9), ("wan", 4e-3, 400e6)])
def test_the_shipped_profiles(name: str, latency: float, bandwidth: float) -> None:
    assert NETWORKS[name] == Network(name, latency, bandwidth)
    assert set(NETWORKS) == {"lan", "wan"}
    nbytes = 10**6
    assert NETWORKS[name].time([(1, CLIENT, nbytes)], {}) == pytest.approx(latency + 8 * nbytes / bandwidth)
