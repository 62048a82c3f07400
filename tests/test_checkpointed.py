"""`secmoe run --checkpoint` and `secmoe model`: a private sparse layer of a checkpoint, and one line for bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from protocols.model.checkpoint.checkpoint import open_checkpoint
from protocols.model.checkpoint.layouts import sparse_layers
from protocols.model.fixed_point import FixedPoint, quantise, quantise_weights
from protocols.model.oracle import sparse_moe_layer
from secmoe.cli import main
from sim.role import CLIENT, SERVER
from tests.test_checkpoint import DATA, ENCODER, SWITCH, values, written
from transcripts.private import read_private
from transcripts.store import Transcript

SMALL = str(DATA / "switch")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    read: dict[str, Any] = json.loads(told.out)
    return read


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("secmoe: ") and told.err.count("\n") == 1
    return told.err


@pytest.mark.slow
@pytest.mark.parametrize("family", ["switch", "qwen2_moe"])
def test_a_layer_runs_in_private_on_given_states(capsys: pytest.CaptureFixture[str], family: str) -> None:
    """Exact, replayable, and near what transformers computed."""
    theirs = load_file(DATA / family / "vectors.safetensors")
    np.save("states.npy", theirs["0.states"][:1])
    options = ("--checkpoint", str(DATA / family), "--layer", "0", "--input", "states.npy", "--params", "P64tiny")
    run = found(capsys, "run", *options, "--record-private", "--out", "kept.secmoe")
    assert (run["exact_match"], run["max_error_ulp"], run["route_agreement_float"]) == (True, 0, 1.0)
    assert run["left_out"] == (["shared expert"] if family == "qwen2_moe" else []) and run["tokens"] == 1
    assert run["place"] == ("model.layers.0" if family == "qwen2_moe" else "encoder.block.1")
    assert [row["name"] for row in run["rounding"]] == ["router", "w1", *(["v"] if family != "switch" else []), "w2"]
    with Transcript("kept.secmoe") as transcript:
        assert transcript.public["model"] == run["model"]
    assert main(["replay", "kept.secmoe"]) == 0
    fp = FixedPoint(64, 18)
    checkpoint = open_checkpoint(DATA / family)
    x, residual = (quantise(part, fp) for part in checkpoint.moe_inputs(theirs["0.states"][:1], 0))
    seal = bytes.fromhex(run["seal"])
    sides = {role: read_private(Path(f"kept.{role.value}"), role, seal).arrays for role in (CLIENT, SERVER)}
    for name, words in (("x", x), ("residual", residual)):
        assert (fp.wrap(sides[CLIENT][name] + sides[SERVER][name]) == words).all()
    weights = quantise_weights(checkpoint.weights(0), fp)
    assert (sides[SERVER]["w1"] == weights.w1).all() and "w1" not in sides[CLIENT]
    trace = sparse_moe_layer(x, residual, weights, checkpoint.layers[0].shape, fp)
    assert (trace.routes == theirs["0.routes"][:1]).all()


def test_what_a_checkpoint_holds(capsys: pytest.CaptureFixture[str]) -> None:
    listed = found(capsys, "model", SMALL)
    assert (listed["family"], listed["tensors"]) == ("switch_transformers", 61)
    assert [row["place"] for row in listed["layers"]] == ["encoder.block.1", "decoder.block.1"]
    one = found(capsys, "model", SMALL, "--layer", "1")
    assert one["place"] == "decoder.block.1" and [row["name"] for row in one["rounding"]] == ["router", "w1", "w2"]
    assert all(0 < row["max_error"] <= 2.0**-19 for row in one["rounding"])
    assert set(one["noise_room_bits"]) == {"router", "w1", "w2"} and min(one["noise_room_bits"].values()) > 0
    assert one["range"]["factor"] > 1
    assert main(["model", SMALL, "--layer", "0"]) == 0
    told = capsys.readouterr().out
    assert "encoder.block.1" in told and "P64s admits the weights" in told and "every value fits" in told


def test_weights_that_the_parameter_set_does_not_admit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tensors = values(SWITCH)
    tensors[ENCODER + "mlp.experts.expert_1.wi.weight"] *= np.float32(2.0**27)
    folder = str(written(tmp_path / "large", tensors, SWITCH))
    assert "weights: expected absolute values" in refused(capsys, "model", folder, "--layer", "0")
    options = ("--checkpoint", folder, "--layer", "0", "--tokens", "1")
    assert "weights: expected absolute values" in refused(capsys, "run", *options)
    assert not list(tmp_path.rglob("*.secmoe"))


def test_a_value_that_may_leave_the_ring(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tensors = values(SWITCH)
    tensors[ENCODER + "layer_norm.weight"] *= np.float32(2.0**24)
    folder = str(written(tmp_path / "steep", tensors, SWITCH))
    assert "may reach" in refused(capsys, "model", folder, "--layer", "0")
    assert "may reach" in refused(capsys, "run", "--checkpoint", folder, "--layer", "0", "--tokens", "1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--checkpoint", SMALL, "--tokens", "2"), "--layer I"),
        (("--checkpoint", SMALL, "--layer", "0"), "either --tokens N"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "2", "--input", "x.npy"), "either --tokens N"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "0"), "1 to 512"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "13"), "at most 12 tokens"),
        (("--checkpoint", SMALL, "--layer", "2", "--tokens", "1"), "from 0 to 1"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "1", "--gelu", "minimax"), "relu"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "1", "--answer", "class"), "--answer"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "1", "--pad", "4"), "--pad"),
        (("--checkpoint", SMALL, "--layer", "0", "--tokens", "1", "--model", "digits"), "--model"),
        (("hello", "--checkpoint", SMALL, "--layer", "0", "--tokens", "1"), "TEXT"),
        (("--checkpoint", "none", "--layer", "0", "--tokens", "1"), "folder that exists"),
        (("--checkpoint", "model.bin", "--layer", "0", "--tokens", "1"), "may run code"),
        (("--checkpoint", SMALL, "--layer", "0", "--input", "none.npy"), "no such file"),
        (("--checkpoint", SMALL, "--layer", "0", "--input", "text.npy"), "as .npy"),
        (("--checkpoint", SMALL, "--layer", "0", "--input", "whole.npy"), "floating-point"),
        (("--checkpoint", SMALL, "--layer", "0", "--input", "narrow.npy"), "(tokens, 16)"),
        (("hello", "--tokens", "3"), "--checkpoint beside it"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    Path("text.npy").write_text("no array")
    np.save("whole.npy", np.ones((2, 16), dtype=np.int64))
    np.save("narrow.npy", np.ones((2, 15)))
    assert told in refused(capsys, "run", *words)
    assert not list(Path().rglob("*.secmoe")) and not Path("runs").exists()


def test_damaged_checkpoints_are_refused_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(DATA / "olmoe", folder)
    tensors = load_file(folder / "model.safetensors")
    lost = "model.layers.0.mlp.experts.9.up_proj.weight"
    save_file({name: value for name, value in tensors.items() if name != lost}, folder / "model.safetensors")
    for words in (("model", str(folder)), ("run", "--checkpoint", str(folder), "--layer", "0", "--tokens", "1")):
        assert lost in refused(capsys, *words)


@pytest.mark.nightly
def test_a_layer_of_the_size_of_switch_base_8(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """d = 768, f = 3072, 8 experts, random weights of the scale of an initialised model, in shards of float16."""
    large = {"d_model": 768, "d_ff": 3072, "num_experts": 8, "num_layers": 2, "num_decoder_layers": 1}
    fields, rng = SWITCH | large, np.random.default_rng(8)
    (layer,) = sparse_layers(fields)
    tensors = {
        name: (rng.standard_normal(shape) / (shape[-1] ** 0.5 if len(shape) > 1 else 4)).astype(np.float16)
        for name, shape in layer.tensors().items()
    }
    folder = str(written(tmp_path / "large", tensors, fields, shards=3))
    one = found(capsys, "model", folder, "--layer", "0")
    assert min(one["noise_room_bits"].values()) > 0 and one["range"]["factor"] > 1
    run = found(capsys, "run", "--checkpoint", folder, "--layer", "0", "--tokens", "1")
    assert run["exact_match"] is True and run["max_error_float"] < 1e-2
