"""Correlated OTs per second of CPU on one core, both parties together, and bytes of each: SoftSpoken beside Ferret.

The two are measured in turns in one process, so that their ratio does not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from protocols.ot.aes import TweakableHash
from protocols.ot.ferret import Iteration, mark, mark_delta
from protocols.ot.functionalities import COT
from protocols.ot.lpn import B10, B11, Preset
from protocols.ot.softspoken import (
    BASE_OTS,
    LeafStreams,
    base_choices,
    extend_receiver,
    extend_sender,
    grow_punctured,
    grow_trees,
)

pytestmark = pytest.mark.bench

COTS, TURNS = 1 << 18, 5
DELTA = bytes(range(200, 216))


def _cpu(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def _softspoken() -> Callable[[], None]:
    keys = np.random.default_rng(1).integers(0, 256, (BASE_OTS, 2, 16), dtype=np.uint8)
    prg = TweakableHash(b"k" * 16)
    leaves, sums = grow_trees(prg, keys)
    mine = LeafStreams(prg, leaves, None)
    chosen = keys[np.arange(BASE_OTS), base_choices(DELTA)]
    theirs = LeafStreams(prg, grow_punctured(prg, DELTA, chosen, sums), DELTA)

    def both() -> None:
        d, choices, t = extend_receiver(mine, COTS)
        q = extend_sender(theirs, DELTA, d, COTS)
        assert np.array_equal(t[:9], COT.compute(choices[:9], q[:9], np.frombuffer(DELTA, np.uint64)))

    return both


def _ferret(preset: Preset) -> Callable[[], None]:
    rng = np.random.default_rng(2)
    delta = mark_delta(np.frombuffer(DELTA, np.uint64))
    q, u = rng.integers(0, 2**64, (preset.reserve, 2), np.uint64), rng.integers(0, 2, preset.reserve, np.uint8)
    t = COT.compute(u, q, delta)
    mark(q, None)
    mark(t, u)
    y, z = np.zeros((preset.outputs, 2), np.uint64), np.zeros((preset.outputs, 2), np.uint64)

    def both() -> None:
        message = Iteration(b"bench", 0, preset).sender(delta, q, y)
        Iteration(b"bench", 0, preset).receiver(t, message, z)
        assert np.array_equal(z[:9], COT.compute((z[:9, 0] & np.uint64(1)).astype(np.uint8), y[:9], delta))

    return both


@pytest.mark.parametrize("preset", [B10, B11], ids=lambda preset: preset.name)
def test_ferret_beside_softspoken(benchmark: BenchmarkFixture, preset: Preset) -> None:
    one, other = _softspoken(), _ferret(preset)
    seconds = [(_cpu(one), _cpu(other)) for _ in range(TURNS)]
    benchmark.pedantic(other, rounds=1)
    soft, ferret = (min(column) for column in zip(*seconds, strict=True))
    rates = COTS / soft, preset.net / ferret
    benchmark.extra_info.update(
        softspoken_per_s=round(rates[0]),
        ferret_per_s=round(rates[1]),
        ratio=round(rates[1] / rates[0], 2),
        softspoken_bytes=15 / 8,
        ferret_bytes=round(preset.nbytes / preset.net, 4),
    )
    print(
        f"\n{preset.name}: {rates[1] / 1e6:.1f} M COT/s at {preset.nbytes / preset.net:.3f} bytes; "
        f"SoftSpoken {rates[0] / 1e6:.1f} M COT/s at 1.875 bytes; ratio {rates[1] / rates[0]:.1f}"
    )
