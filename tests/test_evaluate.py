"""`secmoe evaluate`: real runs against the oracle and the ordinary cost, blocks, resumption, figures, bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.he.noise import WeightsOutOfBound
from protocols.he.params import PARAM_SETS
from protocols.model import encoder as oracle
from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import ModelConfig
from protocols.model.store import save_model
from protocols.model.tokens import RESERVED, Vocabulary
from secmoe import evaluated as module
from secmoe.cli import main
from secmoe.evaluated import Block, Done, Evaluation, Item, ModelChanged, Plan, evaluate, side_by_side, work
from secmoe.whole import words_of
from sim.shapes import SHAPES
from sim.world import Session
from tests.fuzz.command import idle, told
from transcripts.campaign import RunFailed, Store
from transcripts.subjects import model_of

TINY = PARAM_SETS["P64tiny"]
ROWS = [[2, 3, 0, 0], [3, 4, 0, 0], [4, 2, 2, 0], [5, 0, 0, 0], [3, 2, 0, 0]]


def save_tiny(folder: Path) -> Path:
    """One block, with five held-out items of one, two and three tokens, both classes among their labels."""
    config = ModelConfig(d=4, f=3, E=3, name="tiny", layers=1, heads=2, max_tokens=4, vocabulary=6, classes=("a", "b"))
    rng = np.random.default_rng(3)
    parameters = {
        name: 1 + rng.normal(size=shape) / 8 if "norm" in name else rng.normal(size=shape) / 4
        for name, shape in parameter_shapes(config).items()
    }
    items, labels = np.array(ROWS, dtype=np.uint16), np.array([0, 1, 0, 1, 1])
    held = HeldOut(items, labels, np.zeros((2, 6)), np.zeros(2))
    save_model(Model(config, parameters, Vocabulary((*RESERVED, "w", "x", "y", "z")), held), folder)
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model")))


@cache
def plan_of(tiny: str, n: int = 5, answer: str = "class") -> Plan:
    return Plan.of(tiny, n, "1", answer, TINY)


# -- real runs --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("answer", ["class", "logits"])
def test_every_item_is_the_oracles_and_costs_what_an_ordinary_run_does(tiny: str, answer: str) -> None:
    plan = plan_of(tiny, answer=answer)
    model = model_of(tiny)
    (block,) = (block for block in plan.blocks() if len(block.items) > 1)
    assert block.run.tokens == 2 and sorted(block.items) == [0, 1, 4]
    done = module._read(work(block))
    fresh = Session(block.run.services(), backend=SHAPES)
    messages = fresh.forecast(block.run.declared, [None] * 4, [None] * 4, plan=block.run.plan)
    for number, item in zip(block.items, done.items, strict=True):
        client, server = words_of(block.run, model, model.tokens_from_item(number))
        want = oracle.encoder(client, server, model.config, block.run.fixed_point, block.run.table)
        assert (item.number, item.exact, item.private, item.fixed) == (number, True, want.label, want.label)
        assert item.plain == int(model.forward(model.tokens_from_item(number)).logits.argmax())
        assert item.client_to_server + item.server_to_client == sum(m.nbytes for m in messages)
        assert (item.messages, item.rounds) == (len(messages), max(m.depth for m in messages))
        assert item.client_cpu_s > 0 and item.server_cpu_s > 0
    assert [item.truth for item in done.items] == [[0, 1, 0, 1, 1][i] for i in block.items]
    assert done.cpu_s >= sum(item.client_cpu_s + item.server_cpu_s for item in done.items) + done.setup_cpu_s


@pytest.mark.slow
def test_an_answer_that_is_not_the_oracles_is_told(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(client: Any, server: Any, config: Any, fp: Any, table: Any) -> Any:
        trace = oracle.encoder(client, server, config, fp, table)
        last = trace.logits.copy()
        last[-1] += np.uint64(1)
        return replace(trace, logits=last)

    monkeypatch.setattr(module, "oracle", shifted)  # one ulp in one logit: the class is the same
    (block,) = (block for block in plan_of(tiny, answer="logits").blocks() if block.run.tokens == 1)
    (item,) = module._read(work(block)).items
    assert item.private == item.fixed and not item.exact


# -- what is run, and what is kept ------------------------------------------------------------------------------------
@pytest.mark.slow
@given(n=st.integers(1, 5), seed=st.integers(0, 2**32))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_hold_every_item_once_by_length(tiny: str, n: int, seed: int) -> None:
    plan = replace(plan_of(tiny), n=n, seed=str(seed))
    blocks = plan.blocks()
    assert sorted(i for block in blocks for i in block.items) == sorted(plan.items) and len(set(plan.items)) == n
    assert replace(plan, n=5).items[:n] == plan.items
    for block in blocks:
        assert {sum(token != 0 for token in ROWS[i]) for i in block.items} == {block.run.tokens}
        assert 1 <= len(block.items) <= side_by_side(block.run)


def test_as_many_go_side_by_side_as_their_messages_allow(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plan_of(tiny).run(2)
    nbytes = run.declared.declared(None, None, None, None, plan=run.plan).nbytes
    for held, want in ((0, 1), (nbytes, 1), (2 * nbytes - 1, 1), (2 * nbytes, 2), (2**40, module.MOST)):
        monkeypatch.setattr(module, "HELD", held)
        assert side_by_side(run) == want


def test_another_model_seed_answer_or_program_is_another_block(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = plan_of(tiny).blocks()[0]
    other = plan_of(tiny, answer="logits").blocks()[0]
    found = {block.key, other.key, replace(block, seed="2").key, replace(block, weights="0").key}
    found.add(replace(block, items=(*block.items, 9)).key)
    monkeypatch.setattr(module, "source_digest", lambda: "another")
    found.add(block.key)
    assert len(found) == 6


def test_a_worker_with_another_model_refuses(tiny: str) -> None:
    block = replace(plan_of(tiny).blocks()[0], weights="0" * 32)
    with pytest.raises(ModelChanged, match="expected the model of digest 0000"):
        work(block)


def fake(block: Block) -> bytes:
    """Figures that name their block, without a run."""
    items = [Item(i, block.run.tokens, i % 2, 0, 0, 1, True, 10, 20, 3, 2, 0.5, 0.25) for i in block.items]
    return json.dumps(
        {"items": [vars(item) for item in items], "setup_bytes": 7, "setup_cpu_s": 1, "cpu_s": 2}
    ).encode()


CHILD = """
import os, signal, sys
from pathlib import Path
from secmoe import evaluated as module
from tests.test_evaluate import fake, plan_of
from transcripts.campaign import Store
module.source_digest = lambda: "this program"
module.work = fake
def told(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
module.evaluate(plan_of(sys.argv[1]), None, Store(Path(sys.argv[2])), told)
"""


@pytest.mark.slow
def test_a_killed_evaluation_resumes(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "source_digest", lambda: "this program")  # while someone edits it
    path, root = tmp_path / "items", Path(__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", CHILD, tiny, str(path)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    done: list[Block] = []
    monkeypatch.setattr(module, "work", lambda block: done.append(block) or fake(block))
    found = evaluate(plan_of(tiny), None, Store(path))
    assert len(found.blocks) == 3 and [block.run.tokens for block in done] == [3]
    assert [item.number for item in found.items] == [0, 1, 2, 3, 4]
    assert [item.tokens for item in found.items] == [2, 2, 3, 1, 2]
    evaluate(plan_of(tiny), None, Store(path))
    assert len(done) == 1


def test_a_failed_block_ends_it_after_the_others_were_kept(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(block: Block) -> bytes:
        if block.run.tokens == 1:
            raise ValueError("no answer")
        return fake(block)

    monkeypatch.setattr(module, "work", broken)
    store = Store(tmp_path / "items")
    with pytest.raises(RunFailed, match="no answer"):
        evaluate(plan_of(tiny), None, store)
    assert [store.has(block.key) for block in plan_of(tiny).blocks()] == [False, True, True]
    assert len(store.failures) == 1


# -- figures ----------------------------------------------------------------------------------------------------------
def small(tiny: str, exact: bool = True) -> Evaluation:
    """Truths 0 1 0 1 0, private 0 1 1 1 1, float 0 0 0 0 1."""
    rows = [(0, 0, 0), (1, 1, 0), (0, 1, 0), (1, 1, 0), (0, 1, 1)]
    items = [
        Item(i, 2, truth, private, private, plain, exact or i != 3, 10 * i, 1000, 3, 2, 0.5, 0.25)
        for i, (truth, private, plain) in enumerate(rows)
    ]
    return Evaluation(plan_of(tiny), (Done(tuple(items[3:]), 7, 1.0, 2.0), Done(tuple(items[:3]), 7, 3.0, 2.5)))


@pytest.mark.parametrize("exact", [True, False])
def test_the_figures_and_the_exit_status(
    tiny: str, exact: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secmoe.evaluating.evaluate", lambda *arguments: small(tiny, exact))
    arguments = ["evaluate", "--model", tiny, "--n", "5", "--params", "P64tiny", "--workers", "1"]
    assert main([*arguments, "--json"]) == (0 if exact else 1)
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["items"], said["held_out"], said["exact_match"]) == ("tiny", 5, 5, exact)
    assert said["right"] == {"private": 3, "fixed": 3, "plain": 2} and said["accuracy"]["private"] == 0.6
    assert said["points_from_float"] == pytest.approx(20) and said["same_class_as_float"] == 2
    assert said["classes"] == ["a", "b"] and said["confusion"] == [[1, 2], [0, 2]]
    assert said["per_item"]["client_to_server"] == {"mean": 20, "largest": 40}
    assert said["setup"] == {"sessions": 2, "bytes": 7, "cpu_s": 2.0} and said["cpu_s"] == 4.5
    assert [row["number"] for row in said["numbers"]] == [0, 1, 2, 3, 4]
    assert main(arguments) == (0 if exact else 1)
    shown = capsys.readouterr().out
    assert ("EXACT: the private class is" in shown) == exact
    assert ("MISMATCH: the answer differs from the fixed-point oracle's for 1 items: 3" in shown) == (not exact)
    assert "private - float +20.00 points; same class as the float model for 2 of 5" in shown
    assert [line.split() for line in shown.splitlines() if line[:2] in ("a ", "b ")] == [
        ["a", "1", "2"],
        ["b", "0", "2"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "--n: expected 1 to 5, the held-out items of tiny, got 0"),
        (["--n", "6"], "--n: expected 1 to 5, the held-out items of tiny, got 6"),
        (["--n", "5", "--workers", "2000"], "--workers: expected at most 1024 processes, got 2000"),
        (["--n", "5", "--store", "."], "not a file for audit blocks"),
        (["--n", "5", "--params", "P1"], "P1"),
    ],
)
def test_bad_input_is_one_line(
    tiny: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", tiny, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_model_without_held_out_items_or_beyond_the_noise_bound_is_refused(tiny: str, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(Path(tiny).read_bytes())
    loud = replace(model_of(tiny), parameters={k: v * 2**9 for k, v in model_of(tiny).parameters.items()})
    save_model(loud, tmp_path)
    with pytest.raises(WeightsOutOfBound):
        Plan.of(str(tmp_path / "tiny.safetensors"), 5, "1", "class", TINY)
    with idle():
        assert told(["evaluate", "--model", str(alone)]) == "2"
        assert told(["evaluate", "--model", str(tmp_path / "tiny.safetensors"), "--n", "5"]) == "2"
        assert told(["evaluate", "--model", tiny, "--n", "5"]) == "reached"
