"""Whole Transformer blocks of Switch-Base and of Mixtral's form, for real. Exactness is asserted, the rest reported."""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from protocols.blocks import BlockPlan, BlockWeights, block
from protocols.cleartext.blocks import BLOCK
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.ot.service import OtService
from sim.concrete import from_words, to_signed
from sim.network import LAN, WAN
from sim.role import CLIENT, SERVER
from sim.world import Session

pytestmark = pytest.mark.bench
P64S = PARAM_SETS["P64s"]
PLANS = {
    "Switch-Base encoder block, E = 8, 8 tokens": BlockPlan.switch(P64S, 768, 3072, 8, 12, 8),
    "Switch-Base encoder block, E = 128, 1 token": BlockPlan.switch(P64S, 768, 3072, 128, 12, 1),
    "Mixtral form, d = 64, f = 128, E = 8, 4 tokens": BlockPlan.mixtral(P64S, 64, 128, 8, 4, 2, 4),
}


@pytest.mark.parametrize("name", PLANS)
def test_block(benchmark: BenchmarkFixture, figures: list[tuple[str, ...]], name: str) -> None:
    """Weights as T5 initialises them: what a column adds has the variance of its input."""
    plan, rng = PLANS[name], np.random.Generator(np.random.Philox(11))
    shape, n = plan.shape, plan.tokens
    d, f, E, pairs = shape.d, shape.f, shape.E, 2 * plan.attention.key_heads * plan.attention.width

    def words(*sizes: int, scale: float = 1.0) -> np.ndarray:
        return np.rint(rng.standard_normal(sizes) * scale * 2.0**P64S.frac_bits).astype(np.int64)

    stacked = words(d + pairs, d, scale=d**-0.5)
    stacked[:d] //= round(plan.attention.width**0.5)
    bias = [words(*plan.attention.scores.shape)] if plan.biased else []
    ups = [words(E, f, d, scale=d**-0.5) for _ in range(2 if shape.gated else 1)]
    weights = [stacked, words(d, d, scale=d**-0.5), *bias, words(E, d, scale=d**-0.5), *ups]
    weights.append(words(E, d, f, scale=f**-0.5))
    x, mask = words(n, d), np.zeros(n, np.int64)
    service = HeService(plan.plans)
    start = time.process_time()
    prepared = BlockWeights.prepare(service.prepare, plan, weights)
    encoding = time.process_time() - start
    session, ring = Session([OtService(), service]), plan.states.ring
    ours = from_words(ring, rng.integers(0, 2**64, size=x.shape, dtype=np.uint64))
    inputs = [ours, from_words(ring, mask), None], [from_words(ring, x) - ours, None, prepared]
    start = time.perf_counter()
    execution = benchmark.pedantic(session.run, (block, *inputs), {"plan": plan}, rounds=1, iterations=1)
    wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out = to_signed(execution.outputs[CLIENT] + execution.outputs[SERVER])
    assert np.array_equal(out, BLOCK.compute(x, mask, *weights, plan=plan))
    cost, pool = execution.cost, sum(m.nbytes for m in execution.scope(f"{execution.prefix}/pool"))
    client, server = execution.cpu(CLIENT), execution.cpu(SERVER)
    figures.append(
        (
            f"{name}; weights encoded in {encoding:.1f} CPU s, peak {peak:.1f} GiB",
            *(f"{value:.2f}" for value in (client + server, server, cost.nbytes / 1e6, pool / 1e6)),
            str(cost.rounds),
            *(f"{seconds:.2f}" for seconds in (wall, execution.time(LAN), execution.time(WAN))),
        )
    )
    benchmark.extra_info.update(cpu_client=client, cpu_server=server, nbytes=cost.nbytes, peak_gib=peak)
