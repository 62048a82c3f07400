"""Checkpoints in Hugging Face's layout: every family reads exactly, and every damage has one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from proofs.limits.checkpoints import checkpoint_reaches, longest_row
from protocols.model.checkpoint.checkpoint import (
    STATE_REACH,
    Checkpoint,
    ExtraTensor,
    HiddenStates,
    MisshapenTensor,
    NoSuchLayer,
    open_checkpoint,
    rounding,
)
from protocols.model.checkpoint.layouts import CheckpointConfig, sparse_layers
from protocols.model.checkpoint.tensors import (
    INDEX,
    SINGLE,
    BadIndex,
    BadShard,
    ForeignDtype,
    MissingTensor,
    NoCheckpoint,
    NotFinite,
    PickledWeights,
    open_tensors,
)
from protocols.model.config import ConfigError
from protocols.model.fixed_point import FixedPoint, RangeError, dequantise, quantise_weights
from protocols.model.oracle import sparse_moe_layer
from protocols.model.tables import SILU_MINIMAX

DATA = Path(__file__).parent / "data" / "transformers"
FAMILIES = ("switch", "mixtral", "olmoe", "qwen2_moe")
WIDE, NARROW = FixedPoint(64, 18), FixedPoint(32, 12)
SWITCH = {
    "model_type": "switch_transformers",
    **{"d_model": 4, "d_ff": 6, "num_experts": 3, "expert_capacity": 64, "dense_act_fn": "relu"},
    **{"num_layers": 4, "num_decoder_layers": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
    **{"layer_norm_epsilon": 1e-6, "router_bias": False, "is_gated_act": False},
}
ENCODER = "encoder.block.1.layer.1."


def values(fields: dict[str, Any], dtype: Any = np.float32) -> dict[str, NDArray[Any]]:
    """Random tensors of all sparse layers, and one that no sparse layer has."""
    rng, found = np.random.default_rng(4), {"shared.weight": np.zeros((2, 4), dtype=np.float32)}
    for layer in sparse_layers(fields):
        found |= {name: rng.normal(size=shape).astype(dtype) for name, shape in layer.tensors().items()}
    return found


def written(folder: Path, tensors: dict[str, NDArray[Any]], fields: dict[str, Any], shards: int = 1) -> Path:
    """A checkpoint as `save_pretrained` lays it out."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    if shards == 1:
        save_file(tensors, folder / SINGLE)
        return folder
    placed = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(placed.values()):
        save_file({name: tensors[name] for name in tensors if placed[name] == shard}, folder / shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return folder


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    return written(tmp_path / "switch", values(SWITCH), SWITCH)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return written(tmp_path / "sharded", values(SWITCH), SWITCH, shards=3)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_switch_checkpoint_reads_exactly(tmp_path: Path, shards: int, dtype: Any) -> None:
    tensors = values(SWITCH, dtype)
    found = open_checkpoint(written(tmp_path / "c", tensors, SWITCH, shards))
    places = ["encoder.block.1", "encoder.block.3", "decoder.block.1", "decoder.block.3"]
    assert [layer.place for layer in found.layers] == places and found.name == "switch_transformers-3"
    for number, place in enumerate(places):
        own = f"{place}.layer.{1 if place.startswith('encoder') else 2}."
        weights = found.weights(number)
        weights.check(found.layers[number].shape)
        assert weights.v is None and weights.w1.dtype == np.float32
        assert (weights.router == tensors[own + "mlp.router.classifier.weight"]).all()
        for expert in range(3):
            assert (weights.w1[expert] == tensors[f"{own}mlp.experts.expert_{expert}.wi.weight"]).all()
            assert (weights.w2[expert] == tensors[f"{own}mlp.experts.expert_{expert}.wo.weight"]).all()
        assert (found.gain(number) == tensors[own + "layer_norm.weight"]).all()


def test_the_layout_of_switch_base_8() -> None:
    """Its configuration and, written out, some of the names and shapes that its files have."""
    fields = SWITCH | {"d_model": 768, "d_ff": 3072, "num_experts": 8, "num_layers": 12, "num_decoder_layers": 12}
    layers = sparse_layers(fields)
    places = [f"{side}.block.{i}" for side in ("encoder", "decoder") for i in range(1, 12, 2)]
    assert [layer.place for layer in layers] == places
    tensors = {name: shape for layer in layers for name, shape in layer.tensors().items()}
    assert len(tensors) == 12 * (8 * 2 + 2)
    assert tensors["encoder.block.11.layer.1.mlp.router.classifier.weight"] == (8, 768)
    assert tensors["encoder.block.1.layer.1.mlp.experts.expert_7.wi.weight"] == (3072, 768)
    assert tensors["decoder.block.1.layer.2.mlp.experts.expert_0.wo.weight"] == (768, 3072)
    assert tensors["decoder.block.1.layer.2.layer_norm.weight"] == (768,)
    old = {name: value for name, value in fields.items() if not name.endswith("sparse_step")}
    assert sparse_layers(old | {"num_sparse_encoder_layers": 6, "num_sparse_decoder_layers": 6}) == layers


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    """Against the reader of another library, on a file that transformers wrote: every weight is a bfloat16."""
    found = open_checkpoint(DATA / "mixtral")
    assert {found.tensors[name].dtype for name in found.tensors} == {"BF16"}
    weights = found.weights(0)
    assert (weights.w1.view(np.uint32) & 0xFFFF == 0).all() and 0.2 < weights.w1.std() < 0.3
    for name in found.tensors:
        stored = found.tensors[name]
        raw = stored.path.read_bytes()[stored.begin : stored.begin + 2 * int(np.prod(stored.shape))]
        exact = [_bfloat16(int.from_bytes(raw[i : i + 2], "little")) for i in range(0, len(raw), 2)]
        assert found.tensors.read(name).reshape(-1).tolist() == exact


def _bfloat16(word: int) -> float:
    """By the definition of the format."""
    sign, exponent, fraction = -1.0 if word >> 15 else 1.0, word >> 7 & 0xFF, word & 0x7F
    return sign * (fraction / 128 * 2.0**-126 if exponent == 0 else (1 + fraction / 128) * 2.0 ** (exponent - 127))


@pytest.mark.parametrize("family", FAMILIES)
def test_rounding_is_what_the_words_say(family: str) -> None:
    found = open_checkpoint(DATA / family)
    for fp in (WIDE, NARROW):
        weights, words = found.weights(0), quantise_weights(found.weights(0), fp)
        rows = rounding(weights, fp)
        assert [row.name for row in rows] == [
            name for name in ("router", "w1", "v", "w2") if getattr(words, name) is not None
        ]
        for row in rows:
            exact, word = np.asarray(getattr(weights, row.name), dtype=np.float64), getattr(words, row.name)
            error = np.abs(dequantise(word, fp) - exact)
            assert (row.values, row.largest, row.max_error) == (exact.size, np.abs(exact).max(), error.max())
            assert row.max_error <= 2.0 ** -(fp.s + 1)
            assert row.rms_error == pytest.approx(np.sqrt((error**2).mean()))
            assert row.lost == ((word == 0) & (exact != 0)).sum()


def refused(folder: Path, error: type[ValueError], *told: str, read: bool = False) -> None:
    with pytest.raises(error) as caught:
        found = open_checkpoint(folder)
        if read:
            found.weights(0)
    assert all(part in str(caught.value) for part in told), str(caught.value)


def changed(folder: Path, change: Callable[[dict[str, NDArray[Any]]], None]) -> Path:
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / SINGLE)
    return folder


def test_each_damage_of_a_tensor_has_its_error(switch: Path) -> None:
    whole = (switch / SINGLE).read_bytes()
    router, wi = ENCODER + "mlp.router.classifier.weight", ENCODER + "mlp.experts.expert_1.wi.weight"

    def case(change: Callable[[dict[str, NDArray[Any]]], Any], error: type[ValueError], *told: str) -> None:
        refused(changed(switch, change), error, *told, read=True)
        (switch / SINGLE).write_bytes(whole)

    case(lambda t: t.pop(router), MissingTensor, router, "(3, 4)")
    case(lambda t: t.pop(ENCODER + "layer_norm.weight"), MissingTensor, ENCODER + "layer_norm.weight")
    case(lambda t: t.update({wi: t[wi].T}), MisshapenTensor, wi, "(6, 4)", "(4, 6)")
    case(lambda t: t.update({wi: t[wi].astype(np.float64)}), ForeignDtype, wi, "F64", "BF16")
    case(lambda t: t.update({wi: t[wi].astype(np.int32)}), ForeignDtype, wi, "I32")
    strange = ENCODER + "mlp.experts.expert_3.wi.weight"
    case(lambda t: t.update({strange: t[wi]}), ExtraTensor, strange, "encoder.block.1")
    for bad in (np.inf, -np.inf, np.nan):
        case(lambda t, bad=bad: t.update({wi: np.where(np.eye(6, 4) == 1, bad, t[wi]).astype("f4")}), NotFinite, wi)
    open_checkpoint(switch)


def test_folders_without_weights_in_safetensors_are_refused(tmp_path: Path, switch: Path) -> None:
    refused(tmp_path / "none", NoCheckpoint, "folder that exists")
    refused(switch / SINGLE, NoCheckpoint, "config.json")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", NoCheckpoint, SINGLE, INDEX)
    for name in ("pytorch_model.bin", "model.pt", "model.ckpt", "x.pth", "x.pkl"):
        (tmp_path / "empty" / name).write_bytes(b"\x80\x04cos\nsystem\n")
        refused(tmp_path / "empty", PickledWeights, name, "may run code")
        refused(tmp_path / "empty" / name, PickledWeights, name)
        (tmp_path / "empty" / name).unlink()


def test_each_damage_of_an_index_has_its_error(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    name, other = ENCODER + "layer_norm.weight", "model-00001-of-00003.safetensors"

    def case(content: Any, *told: str) -> None:
        (sharded / INDEX).write_text(content if isinstance(content, str) else json.dumps(content))
        refused(sharded, BadIndex, *told)

    def placed(**changes: Any) -> dict[str, Any]:
        return {"weight_map": index["weight_map"] | changes}

    case("{", "JSON object")
    case("[" * 100_000, "JSON object")
    case("[]", "list")
    case({}, "weight_map")
    case({"weight_map": {}}, "weight_map")
    for strange in (
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "x.bin",
        7,
        None,
        "",
        "a\0.safetensors",
    ):
        case(placed(**{name: strange}), "correct the index")
    case(placed(**{name: "model-00009-of-00003.safetensors"}), "model-00009-of-00003.safetensors", "no such file")
    case(placed(extra=other), "extra", other, "none there")
    assert index["weight_map"][name] != other
    case(placed(**{name: other}), name, other)
    case({"weight_map": {key: shard for key, shard in index["weight_map"].items() if key != name}}, name, "nowhere")
    (sharded / INDEX).write_text(json.dumps(index))
    open_checkpoint(sharded)
    (sharded / other).unlink()
    refused(sharded, BadIndex, other, "no such file")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_cut_or_altered_file_is_refused_or_reads_as_a_checkpoint(switch: Path, data: st.DataObject) -> None:
    """Never anything but an error of this project, and never a tensor from outside the file."""
    whole = (switch / SINGLE).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
        expected: tuple[type[ValueError], ...] = (BadShard,)
    else:
        at, bit = data.draw(st.integers(0, header - 1)), data.draw(st.integers(0, 7))
        damaged = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
        expected = (BadShard, MissingTensor, MisshapenTensor, ForeignDtype, ExtraTensor, NotFinite)
    (switch / SINGLE).write_bytes(damaged)
    try:
        found = open_checkpoint(switch)
        for number in range(len(found.layers)):
            found.weights(number)
            found.gain(number)
    except expected:
        pass
    else:
        assert len(damaged) == len(whole)
    (switch / SINGLE).write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "bert"}, "switch_transformers, mixtral, olmoe, qwen2_moe"),
        ({"model_type": None}, "model_type"),
        ({"model_type": []}, "model_type"),
        ({"d_model": 0}, "d_model"),
        ({"d_ff": "6"}, "d_ff"),
        ({"d_ff": True}, "d_ff"),
        ({"num_experts": 1 << 40}, "num_experts"),
        ({"num_layers": 10_000}, "num_layers"),
        ({"encoder_sparse_step": 0}, "encoder_sparse_step"),
        ({"dense_act_fn": "gelu_new"}, "gelu_new"),
        ({"router_bias": True}, "router_bias"),
        ({"is_gated_act": True}, "is_gated_act"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon"),
        ({"expert_capacity": None}, "expert_capacity"),
        ({"num_layers": 1, "num_decoder_layers": 1}, "sparse layer"),
    ],
)
def test_configurations_that_are_none_are_refused(switch: Path, change: dict[str, Any], told: str) -> None:
    (switch / "config.json").write_text(json.dumps(SWITCH | change))
    refused(switch, CheckpointConfig, told)


def test_other_refused_configurations(switch: Path) -> None:
    (switch / "config.json").write_text(json.dumps(SWITCH | {"num_experts": 1}))
    refused(switch, ConfigError, "E >= 2")
    (switch / "config.json").write_text("{")
    refused(switch, CheckpointConfig, "JSON object")
    (switch / "config.json").unlink()
    refused(switch, CheckpointConfig, "config.json")
    fields = json.loads((DATA / "qwen2_moe" / "config.json").read_text())
    assert sparse_layers(fields | {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [1]})[
        0
    ].place == ("model.layers.3")
    for name, value in (("norm_topk_prob", 1), ("mlp_only_layers", 3), ("hidden_act", "tanh")):
        with pytest.raises(CheckpointConfig, match=name):
            sparse_layers(fields | {name: value})


def test_opening_reads_no_weight(switch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "memmap", None)
    assert len(open_checkpoint(switch).tensors) == 4 * 8 + 1


def test_a_single_file_is_preferred_to_an_index(sharded: Path) -> None:
    save_file({"a": np.ones(1, dtype=np.float32)}, sharded / SINGLE)
    assert list(open_tensors(sharded)) == ["a"]


def test_hidden_states_that_are_no_input_are_refused(switch: Path) -> None:
    found = open_checkpoint(switch)
    good = np.ones((2, 4))
    for bad in (np.ones(4), np.ones((2, 5)), np.ones((0, 4)), good * 2.0**STATE_REACH, good * np.nan, np.ones((65, 4))):
        with pytest.raises(HiddenStates):
            found.moe_inputs(bad, 0)
    assert len(found.moe_inputs(np.ones((64, 4)), 0)[0]) == 64  # the capacity itself drops no token
    for number in (-1, 4):
        with pytest.raises(NoSuchLayer, match="0 to 3"):
            found.weights(number)


def test_weights_beyond_the_ring_have_no_words(tmp_path: Path) -> None:
    tensors = values(SWITCH)
    tensors[ENCODER + "mlp.experts.expert_0.wi.weight"][0, 0] = 2.0**46
    found = open_checkpoint(written(tmp_path / "large", tensors, SWITCH))
    with pytest.raises(RangeError):
        rounding(found.weights(0), WIDE)


def hostile_states(found: Checkpoint, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Four states of random direction and size, and four along a row that reads them: no product is larger."""
    weights, d = found.weights(0), found.layers[0].shape.d
    states = rng.normal(size=(8, d)) * 10.0 ** rng.integers(-3, 3, size=(8, 1))
    states[4:] = weights.w1[0, rng.integers(found.layers[0].shape.f, size=4)] * found.gain(0)
    return found.moe_inputs(states, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_value_leaves_its_stated_reach(family: str) -> None:
    """Traces of the exact oracle on hostile states stay within every bound, and a bound is not vacuous."""
    found, rng, fp = open_checkpoint(DATA / family), np.random.default_rng(7), WIDE
    weights, gain, shape = found.weights(0), found.gain(0), found.layers[0].shape
    table = None if shape.activation == "relu" else SILU_MINIMAX
    reaches = {reach.name: reach for reach in checkpoint_reaches(weights, gain, shape, fp, table, STATE_REACH)}
    assert all(reach.inside for reach in reaches.values())
    words, closest = quantise_weights(weights, fp), 0.0
    for _ in range(20):
        x, residual = (
            np.rint(part * 2.0**fp.s).astype(np.int64).view(np.uint64) for part in hostile_states(found, rng)
        )
        trace = sparse_moe_layer(x, residual, words, shape, fp, table)
        product = reaches["router product, W1 x, V x"].largest >> fp.s
        for part in (trace.hidden, trace.logits, *([] if trace.gate is None else [trace.gate])):
            closest = max(closest, np.abs(fp.signed(part)).max() / product)
        assert np.abs(fp.signed(trace.experts)).max() <= reaches["W2 g"].largest >> fp.s
        assert np.abs(fp.signed(x)).max() <= reaches["hidden state"].largest
    assert 0.3 < closest <= 1


def test_the_longest_row_is_that_behind_the_gain() -> None:
    found = open_checkpoint(DATA / "switch")
    weights, gain = found.weights(0), found.gain(0)
    long = max(float(np.linalg.norm(row)) for matrix in weights.w1 for row in matrix.astype(np.float64) * gain)
    assert long <= longest_row(weights, gain) < 2 * long
    assert longest_row(weights, gain * 50) > 40 * long
