"""Campaigns: resumed after a kill, the same for any workers, failures kept, over processes and over a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.role import CLIENT, SERVER
from transcripts import campaign as module
from transcripts.audit import audit
from transcripts.campaign import Campaign, Job, Store, StoreError, jobs, pack, unpack, work
from transcripts.sampling import HYBRID, REAL, RunFailed, Sampler
from transcripts.targets import Target, targets
from transcripts.verdicts import to_json

SAMPLER = Sampler(Target("correlate", "19 bits"), SERVER, HYBRID, "campaign")
RUNS = 1600  # four blocks


def verdicts(runs: int = RUNS, executor: Executor | None = None, store: Store | None = None) -> tuple[Any, int]:
    """An audit's numbers, and how many blocks were computed for it."""
    campaign = Campaign(runs, executor, store)
    return to_json(audit([SAMPLER], runs, campaign.gather)), campaign.computed


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.test_campaign import RUNS, SAMPLER
from transcripts import campaign as module
from transcripts.campaign import Campaign, Store
module.source_digest = lambda: "this program"
def told(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
list(Campaign(RUNS, None, Store(Path(sys.argv[1])), told=told).gather([SAMPLER]))
"""


@pytest.mark.slow
def test_a_killed_campaign_resumes_to_the_identical_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "source_digest", lambda: "this program")  # while someone edits it
    path = tmp_path / "blocks.sqlite"
    killed = subprocess.run([sys.executable, "-c", CHILD, str(path)], cwd=Path(__file__).parents[1], check=False)
    assert killed.returncode == -signal.SIGKILL
    want, every = verdicts()
    got, rest = verdicts(store=Store(path))
    assert (every, rest) == (4, 2)
    assert got == want
    assert verdicts(store=Store(path)) == (want, 0)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_numbers() -> None:
    alone, _ = verdicts(800)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert verdicts(800, pool)[0] == alone


def test_another_program_does_not_use_old_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "blocks.sqlite")
    assert verdicts(400, store=store)[1] == 1
    monkeypatch.setattr(module, "source_digest", lambda: "another")
    assert verdicts(400, store=store)[1] == 1


def test_a_failing_block_is_kept_with_job_and_error_and_the_others_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "blocks.sqlite")
    broken = Sampler(targets("broken.branch_on_truth")[0], SERVER, HYBRID, "campaign")
    campaign = Campaign(80, None, store)
    with pytest.raises(RunFailed, match=r"broken\.branch_on_truth"):
        list(campaign.gather([broken, SAMPLER]))
    ((job, error),) = store.failures
    assert "seed='campaign'" in job and "SecretControlFlow" in error
    assert campaign.computed == 1


def test_blocks_cover_the_runs_in_multiples_of_four() -> None:
    for runs in (80, 81, 400, 1001):
        plan = jobs(SAMPLER, runs)
        assert sum(job.size for job in plan) == -(-runs // 4) * 4
        assert all(job.size % 4 == 0 for job in plan)
        assert len({job.key for job in plan}) == len(plan)


def test_statistics_survive_packing() -> None:
    job = Job(Sampler(Target("b2a", "2"), CLIENT, REAL, "pack"), 0, 8, module.ANALYSERS)
    data = work(job)
    found, layout = unpack(data)
    views = job.sampler.block(0, 8)
    assert layout.sources == views["first"].layout.sources
    for name, by in found.items():
        for analyser in job.analysers:
            fresh = analyser.collect(views[name])
            assert list(fresh) == list(by[analyser.name])
            for key, array in fresh.items():
                assert np.array_equal(array, by[analyser.name][key])
                assert array.dtype == by[analyser.name][key].dtype
    assert unpack(pack(found, layout))[0].keys() == found.keys()


def test_a_foreign_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("not a database " * 100)
    with pytest.raises(StoreError, match="not a file for audit blocks"):
        Store(path)


@pytest.mark.slow
def test_a_cluster_of_a_scheduler_and_two_workers_gives_the_same_numbers(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` (dask.distributed) is not installed")
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker"]
    quiet: Any = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [
        subprocess.Popen(
            [*dask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file], **quiet
        )
    ]
    try:
        for _ in range(300):
            if file.exists():
                break
            time.sleep(0.1)
        for _ in range(2):
            options = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", tmp_path]
            running.append(subprocess.Popen([*worker, "--scheduler-file", file, *options], **quiet))
        with distributed.Client(scheduler_file=str(file), timeout="30s") as client:
            client.wait_for_workers(2, timeout=60)
            assert verdicts(800, client.get_executor())[0] == verdicts(800)[0]
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(20)
