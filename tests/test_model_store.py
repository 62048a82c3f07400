"""Model files: shipped ones within their limits, round trip, and one clear line for every kind of bad file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import ConfigError, ModelConfig
from protocols.model.store import HEADER_KEY, SHIPPED, BadModelFile, UnknownModel, known_models, load_model, save_model
from protocols.model.tokens import RESERVED, Vocabulary

LIMIT = 400_000


def small_model() -> Model:
    config = ModelConfig(d=4, f=3, E=3, name="small", layers=1, heads=2, max_tokens=5, vocabulary=4, classes=("a", "b"))
    rng = np.random.default_rng(3)
    parameters = {
        name: rng.normal(size=shape).astype(np.float16).astype(np.float64)
        for name, shape in parameter_shapes(config).items()
    }
    items = np.array([[2, 3, 0, 0, 0], [3, 1, 2, 2, 3]], dtype=np.uint16)
    transposed = rng.normal(size=(4, 2)).astype(np.float16).astype(np.float64).T  # not contiguous
    held_out = HeldOut(items, np.array([0, 1]), transposed, np.zeros(2))
    return Model(config, parameters, Vocabulary((*RESERVED, "x", "ü")), held_out)


def test_shipped_files_are_small_and_have_held_out_items_or_their_digests() -> None:
    assert known_models() == ("digits", "sms", "topic")
    for path in SHIPPED.iterdir():
        assert path.suffix == ".safetensors" and path.stat().st_size <= LIMIT
    for name in known_models():
        model = load_model(name)
        assert model.config.name == name
        assert name == "topic" if model.held_out is None else len(model.held_out) >= 200
        assert (model.config.d, model.config.f, model.config.E, model.config.k, model.config.layers) == (
            32,
            64,
            8,
            1,
            2,
        )
        assert model.config.gated and model.config.activation == "gelu" and not model.config.renormalise


def test_round_trip(tmp_path: Path) -> None:
    model = small_model()
    save_model(model, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    back = load_model(str(tmp_path / "small.safetensors"))
    assert back.config == model.config and back.vocabulary == model.vocabulary
    assert all((back.parameters[name] == value).all() for name, value in model.parameters.items())
    assert back.held_out is not None and model.held_out is not None
    for name, value in vars(model.held_out).items():
        assert (getattr(back.held_out, name) == value).all(), name
    save_model(back, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    for name in ("smss", str(tmp_path), str(tmp_path / "none.safetensors"), ""):
        with pytest.raises(UnknownModel, match="digits, sms, topic"):
            load_model(name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    save_model(small_model(), tmp_path)
    for name in ("small.safetensors", "small.heldout.safetensors"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(BadModelFile, match="does not read"):
            load_model(str(tmp_path / "small.safetensors"))
        (tmp_path / name).write_bytes(whole)


def header(model: Model, **changed: object) -> dict[str, str]:
    words = None if model.vocabulary is None else model.vocabulary.words
    return {HEADER_KEY: json.dumps({"config": {**model.config.to_json(), **changed}, "vocabulary": words})}


def test_bad_headers_and_tensors_are_refused(tmp_path: Path) -> None:
    model, path = small_model(), tmp_path / "bad.safetensors"
    tensors = {name: value.astype(np.float16) for name, value in model.parameters.items()}

    def refused(parts: dict[str, np.ndarray], head: dict[str, str] | None, message: str) -> None:
        save_file(parts, path, head)
        with pytest.raises(BadModelFile, match=message):
            load_model(str(path))

    refused(tensors, None, "configuration in the header")
    refused(tensors, {HEADER_KEY: "{"}, "configuration in the header")
    refused(tensors, {HEADER_KEY: "[1]"}, "configuration in the header")
    refused(tensors, header(model, surprise=1), "configuration in the header")
    refused(tensors, header(model, E=1), "configuration in the header")
    for name in ("../escape", "/tmp/x", "a/b", "\x1b[2J", "", ".hidden", "x" * 65, "line\nline", 7, None):
        refused(tensors, header(model, name=name), "configuration in the header")
    for changed in ({"heads": 0}, {"heads": -2}, {"layers": 0}, {"d": 4.0}, {"d": "4"}, {"f": True}):
        refused(tensors, header(model, **changed), "configuration in the header")
    refused(tensors, {HEADER_KEY: "[" * 100_000}, "configuration in the header")
    refused(tensors, header(model, f=5), r"expected layers.0.v of shape \(3, 5, 4\)")
    refused(tensors, header(replace(model, vocabulary=Vocabulary(RESERVED))), "expected 4 words")
    refused(tensors, header(replace(model, vocabulary=None)), "expected 4 words")
    refused({name: tensors[name] for name in tensors if name != "head.bias"}, header(model), "head.bias")
    refused({**tensors, "extra": tensors["head.bias"]}, header(model), "extra")
    refused({**tensors, "head.bias": np.array([1, np.nan], dtype=np.float16)}, header(model), "finite")


def test_bad_held_out_items_are_refused(tmp_path: Path) -> None:
    save_model(small_model(), tmp_path)
    beside = tmp_path / "small.heldout.safetensors"
    good = load_file(beside)
    for changed, message in (
        ({"labels": np.array([0, 2], dtype=np.uint8)}, "labels below 2"),
        ({"items": good["items"][:, :4].copy()}, "items of shape"),
        ({"labels": good["labels"][:1].copy()}, "items of shape"),
    ):
        save_file({**good, **changed}, beside)
        with pytest.raises(BadModelFile, match=message):
            load_model(str(tmp_path / "small.safetensors"))
    beside.unlink()
    assert load_model(str(tmp_path / "small.safetensors")).held_out is None


def test_configurations_that_describe_no_model_are_refused() -> None:
    good = small_model().config.to_json()
    for changed in (dict(heads=3), dict(task="sound"), dict(task="image", side=8, patch=3), dict(classes=None)):
        with pytest.raises(ConfigError, match="expected"):
            ModelConfig.from_json({**good, **changed})


def test_running_a_model_imports_only_numpy_and_safetensors() -> None:
    """And the oracle touches neither the simulator nor a protocol: it is a second opinion."""
    script = (
        "import sys; known = set(sys.modules)\n"
        "from protocols.model.store import load_model; import protocols.model.oracle\n"
        "model = load_model('digits'); model.forward(model.tokens_from_item(0))\n"
        "new = set(sys.modules) - known\n"
        "tops = {name.partition('.')[0] for name in new} - set(sys.stdlib_module_names)\n"
        "assert tops <= {'numpy', 'safetensors', 'protocols'}, tops\n"
        "own = {name for name in new if name.startswith('protocols.') and not name.startswith('protocols.model')}\n"
        "assert not own, own\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
