"""Single kernels: the transform of one row beside SEAL's, and what the sign of a shared word takes.

Times are reported only; words and bytes are asserted.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from protocols.compare import drelu
from protocols.he.params import PARAM_SETS
from protocols.he.ring_q import ring_for
from protocols.ot.lpn import B12
from protocols.ot.service import OtService
from sim.concrete import from_words, to_signed
from sim.ring import Ring
from sim.role import CLIENT, SERVER
from sim.world import Session

pytestmark = pytest.mark.bench

ROOT = Path(__file__).resolve().parent.parent.parent
SEAL = ROOT / ".venv" / "seal" / "bin" / "python"
TURNS, REPEATS, WORDS = 9, 20, 1 << 16


@pytest.fixture
def seal() -> Iterator[subprocess.Popen[str]]:
    if not SEAL.exists():
        pytest.skip("SEAL is not here: tools/kernels.py makes its environment")
    with subprocess.Popen(
        [SEAL, "-m", "side_by_side.seal_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_transform_beside_seal(benchmark: BenchmarkFixture, seal: subprocess.Popen[str]) -> None:
    """One row at N = 8192, primes of 40 to 50 bits: nanoseconds of CPU, the least of many, in turns with SEAL."""
    assert seal.stdin is not None
    assert seal.stdout is not None
    ring = ring_for(PARAM_SETS["P32"])
    x = ring.forward(np.ones((ring.q0.size, ring.n)), ring.q0)
    ours, theirs = [], []
    for _ in range(TURNS):
        seal.stdin.write("\n")
        seal.stdin.flush()
        theirs.append(float(seal.stdout.readline()))
        for _ in range(REPEATS):
            start = time.thread_time_ns()
            ring.engine.forward(x, ring.q0.limbs)
            ours.append((time.thread_time_ns() - start) / ring.q0.size)
    benchmark.pedantic(ring.engine.forward, (x, ring.q0.limbs), rounds=1)
    own, peer = min(ours) / 1e3, min(theirs) / 1e3
    benchmark.extra_info.update(n=ring.n, own_us=round(own, 2), seal_us=round(peer, 1), ratio=round(peer / own, 1))
    print(f"\nN = {ring.n}: {own:.1f} us a row, SEAL {peer:.0f} us: {peer / own:.1f} times")


@pytest.mark.parametrize("w", [4, 3, 2])
def test_sign_of_many_words(benchmark: BenchmarkFixture, w: int) -> None:
    """2^16 words of 64 bits, for real: bits each of one run, which makes whole iterations of correlated OTs, and where
    the rest of them serves the next run."""
    ring, rng = Ring(64), np.random.Generator(np.random.Philox(w))
    x, mask = (rng.integers(0, 2**64, WORDS, np.uint64) for _ in range(2))
    session = Session([OtService()])
    ours, theirs = from_words(ring, mask), from_words(ring, x - mask)
    run = benchmark.pedantic(session.run, (drelu, [ours], [theirs]), {"w": w}, rounds=1)
    signs = to_signed(run.outputs[CLIENT] + run.outputs[SERVER]) & 1
    assert np.array_equal(signs, 1 - (x >> np.uint64(63)).astype(np.int64))
    own, cpu = drelu.declared(ours, w=w), run.cpu(CLIENT) + run.cpu(SERVER)
    assert run.cost.nbytes - sum(m.nbytes for m in run.scope(f"{run.prefix}/pool")) == own.nbytes
    used = (own.cot_client + own.cot_server) * B12.nbytes / B12.net
    bits = [round(8 * nbytes / WORDS, 1) for nbytes in (run.cost.nbytes, own.nbytes + used)]
    benchmark.extra_info.update(w=w, bits_alone=bits[0], bits_in_session=bits[1], cpu_s=round(cpu, 3))
    print(f"\ndrelu, {w}-bit digits: {bits[0]} bits each alone, {bits[1]} in a session, {cpu:.2f} CPU s for 2^16")
