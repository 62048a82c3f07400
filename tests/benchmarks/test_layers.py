"""Whole sparse MoE layers for real: CPU, bytes, rounds. Exactness is asserted, times are only reported."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from protocols import functionalities as F
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.tables import GELU_MINIMAX
from protocols.moe import LITERAL, REASSOCIATED, LayerPlan, LayerWeights, moe_layer
from protocols.ot.service import OtService
from sim.concrete import from_words, to_signed
from sim.network import LAN, WAN
from sim.role import CLIENT, SERVER
from sim.world import Session

pytestmark = pytest.mark.bench

CASES = [
    (64, 128, 8, 1, REASSOCIATED),
    (64, 128, 16, 8, REASSOCIATED),
    (768, 3072, 8, 1, REASSOCIATED),
    (768, 3072, 8, 1, LITERAL),
]


@pytest.mark.parametrize(("d", "f", "E", "n", "order"), CASES)
def test_gated_layer(
    benchmark: BenchmarkFixture, figures: list[tuple[str, ...]], d: int, f: int, E: int, n: int, order: str
) -> None:
    rng = np.random.Generator(np.random.Philox(11))
    params = PARAM_SETS["P64s"]
    plan = LayerPlan(MoeConfig(d=d, f=f, E=E), n, params, GELU_MINIMAX, order)

    def words(*shape: int, scale: float = 1.0) -> np.ndarray:
        return np.rint(rng.normal(size=shape) * scale * 2**params.frac_bits).astype(np.int64)

    narrow = d**-0.5
    weights = MoeWeights(
        words(E, d, scale=narrow),
        words(E, f, d, scale=narrow),
        words(E, f, d, scale=narrow),
        words(E, d, f, scale=f**-0.5),
    )
    x, residual = words(n, d), words(n, d)
    service = HeService(plan.plans)
    prepared = LayerWeights.prepare(service.prepare, plan, weights)
    session = Session([OtService(), service])
    masks = [from_words(plan.ring, rng.integers(0, 2**64, size=x.shape, dtype=np.uint64)) for _ in range(2)]
    theirs = [from_words(plan.ring, v) - mask for v, mask in zip((x, residual), masks, strict=True)]
    start = time.perf_counter()
    execution = benchmark.pedantic(
        session.run, (moe_layer, [*masks, None], [*theirs, prepared]), {"plan": plan}, rounds=1, iterations=1
    )
    wall = time.perf_counter() - start
    out = to_signed(execution.outputs[CLIENT] + execution.outputs[SERVER])
    want = F.SPARSE_MOE.compute(x, residual, weights.router, weights.w1, weights.v, weights.w2, plan=plan)
    assert np.array_equal(out, want)
    cost, pool = execution.cost, sum(m.nbytes for m in execution.scope(f"{execution.prefix}/pool"))
    client, server = execution.cpu(CLIENT), execution.cpu(SERVER)
    figures.append(
        (
            f"d={d} f={f} E={E} n={n} {order}",
            f"{client + server:.2f}",
            f"{server:.2f}",
            f"{cost.nbytes / 1e6:.2f}",
            f"{pool / 1e6:.2f}",
            str(cost.rounds),
            f"{wall:.2f}",
            f"{execution.time(LAN):.2f}",
            f"{execution.time(WAN):.2f}",
        )
    )
    benchmark.extra_info.update(cpu_client=client, cpu_server=server, nbytes=cost.nbytes, rounds=cost.rounds)
