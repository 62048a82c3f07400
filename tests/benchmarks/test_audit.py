"""How many runs an audit samples and looks at in a second of one core; only the goals are asserted, generously."""

from __future__ import annotations

import time

import pytest

from sim.role import CLIENT
from transcripts import sampling
from transcripts.audit import ANALYSERS
from transcripts.campaign import Job, work
from transcripts.sampling import HYBRID, REAL, Model, Sampler
from transcripts.targets import Target

pytestmark = pytest.mark.bench
PROTOCOL_1 = Target("select_product", "order R")
WHOLE = Target("select_then_compute", "gated GeLU, top-1")


def rate(target: Target, model: Model, size: int) -> float:
    """Runs per second of CPU time, session set-up included, statistics not."""
    sampler = Sampler(target, CLIENT, model, "bench")
    sampler.block(0, 4)  # kernels and reference layout
    start = time.process_time()
    sampler.block(1, size)
    return size / (time.process_time() - start)


@pytest.mark.parametrize(("model", "size", "goal"), [(REAL, 100, 8), (HYBRID, 400, 150)])
def test_protocol_1_is_sampled_fast_enough(model: Model, size: int, goal: int) -> None:
    measured = rate(PROTOCOL_1, model, size)
    print(f"{PROTOCOL_1}, {model}: {measured:.0f} runs per second and core")
    assert measured > goal


def test_side_by_side_saves_the_work_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = rate(WHOLE, REAL, 40)
    monkeypatch.setattr(sampling, "is_batchable", lambda target: False)
    alone = rate(WHOLE, REAL, 8)
    print(f"{WHOLE}, {REAL}: {wide:.1f} runs per second and core side by side, {alone:.1f} one by one")
    assert wide > alone


@pytest.mark.parametrize(("model", "size"), [(REAL, 100), (HYBRID, 400)])
def test_experts_are_sampled(model: Model, size: int) -> None:
    print(f"{WHOLE}, {model}: {rate(WHOLE, model, size):.1f} runs per second and core")


def test_looking_costs_less_than_running() -> None:
    job = Job(Sampler(WHOLE, CLIENT, HYBRID, "bench"), 0, 400, ANALYSERS)
    start = time.process_time()
    content = work(job)
    print(f"{WHOLE}, {HYBRID}: a block of 400 in {time.process_time() - start:.1f} s, {len(content) / 1e6:.1f} MB kept")
