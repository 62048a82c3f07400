"""Models on disk: safetensors, float16 weights, the configuration and the vocabulary as JSON in the header.

A model NAME.safetensors may have its held-out items beside it in NAME.heldout.safetensors (tensors of
architecture.HeldOut).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import Array, ModelConfig
from protocols.model.tokens import RESERVED, Vocabulary

SHIPPED = Path(__file__).parent / "data"
HEADER_KEY = "model"
SUFFIX = ".safetensors"
HELD_OUT_SUFFIX = ".heldout.safetensors"


class UnknownModel(ValueError):
    """Neither a shipped model nor a model file."""


class BadModelFile(ValueError):
    """A file that does not hold the model it claims to."""


def known_models() -> tuple[str, ...]:
    """Names of the shipped models."""
    names = (path.name for path in SHIPPED.glob("*" + SUFFIX))
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if not name.endswith(HELD_OUT_SUFFIX)))


def load_model(name: str) -> Model:
    """A shipped model by name, or the model in a .safetensors file. UnknownModel, BadModelFile."""
    path = SHIPPED / (name + SUFFIX) if name in known_models() else Path(name)
    if not path.is_file():
        raise UnknownModel(
            f"expected a model of {', '.join(known_models())} or the path of a {SUFFIX} file, got {name!r}"
        )
    tensors, header = _read(path)
    try:
        fields = json.loads(header[HEADER_KEY])
        config, words = ModelConfig.from_json(fields["config"]), fields["vocabulary"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadModelFile(
            f"expected a model configuration in the header of {path}, got none that reads: {error}"
        ) from error
    _check(path, {key: tensor.shape for key, tensor in tensors.items()}, parameter_shapes(config))
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise BadModelFile(f"expected finite weights in {path}, got infinities or NaN: take an undamaged copy")
    beside = path.with_name(path.name.removesuffix(SUFFIX) + HELD_OUT_SUFFIX)
    return Model(
        config,
        {key: tensor.astype(np.float64) for key, tensor in tensors.items()},
        _vocabulary(path, config, words) if config.task == "text" else None,
        _held_out(beside, config) if beside.is_file() else None,
    )


def save_model(model: Model, folder: Path) -> None:
    """Write NAME.safetensors (weights rounded to float16) and, with held-out items, NAME.heldout.safetensors."""
    words = None if model.vocabulary is None else model.vocabulary.words
    fields = {"config": model.config.to_json(), "vocabulary": words}
    # one key only: safetensors writes several in an order that varies from run to run
    header = {HEADER_KEY: json.dumps(fields, sort_keys=True, ensure_ascii=False)}
    weights = {key: value.astype(np.float16) for key, value in model.parameters.items()}
    _write(folder / (model.config.name + SUFFIX), weights, header)
    if model.held_out is not None:
        held_out = model.held_out
        tensors = {
            "items": held_out.items,
            "labels": held_out.labels.astype(np.uint8),
            "baseline.weight": held_out.baseline_weight.astype(np.float16),
            "baseline.bias": held_out.baseline_bias.astype(np.float16),
        }
        _write(folder / (model.config.name + HELD_OUT_SUFFIX), tensors, None)


def _write(path: Path, tensors: dict[str, Array], header: dict[str, str] | None) -> None:
    # safetensors writes an array's memory as it lies, whatever its strides say
    path.write_bytes(save({key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}, header))


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadModelFile(f"expected a safetensors file at {path}, got one that does not read: {error}") from error


def _check(path: Path, got: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    wrong = sorted(key for key in got.keys() | wanted.keys() if got.get(key) != wanted.get(key))
    if wrong:
        key = wrong[0]
        raise BadModelFile(
            f"expected {key} of shape {wanted.get(key)} in {path}, got {got.get(key)}: take the right file"
        )


def _vocabulary(path: Path, config: ModelConfig, words: list[str] | None) -> Vocabulary:
    got = tuple(words or ())
    if len(got) != config.vocabulary or got[: len(RESERVED)] != RESERVED:
        raise BadModelFile(
            f"expected {config.vocabulary} words in {path}, {RESERVED} first, got {len(got)}: take the right file"
        )
    return Vocabulary(got)


def _held_out(path: Path, config: ModelConfig) -> HeldOut:
    tensors, _ = _read(path)
    labels = tensors.get("labels", np.zeros(0, dtype=np.uint8)).astype(np.int64)
    width, features = (config.max_tokens, config.vocabulary) if config.task == "text" else (config.side**2,) * 2
    classes = len(config.classes)
    wanted = {
        "items": (len(labels), width),
        "labels": (len(labels),),
        "baseline.weight": (classes, features),
        "baseline.bias": (classes,),
    }
    _check(path, {key: tensor.shape for key, tensor in tensors.items()}, wanted)
    if len(labels) and int(labels.max()) >= classes:
        raise BadModelFile(f"expected labels below {classes} in {path}, got {labels.max()}: take the right file")
    weight, bias = (tensors[f"baseline.{part}"].astype(np.float64) for part in ("weight", "bias"))
    return HeldOut(tensors["items"], labels, weight, bias)
