"""Models on disk: safetensors, float16 weights, the configuration and the vocabulary as JSON in the header.

A model NAME.safetensors may have its held-out items beside it in NAME.heldout.safetensors (tensors of
architecture.HeldOut), or, where they are not to be shipped, their digests in NAME.digests.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import Array, ModelConfig
from protocols.model.tokens import RESERVED, Vocabulary

SHIPPED = Path(__file__).parent / "data"
HEADER_KEY = "model"
EXPERTS = ("router", "w1", "v", "w2")
SUFFIX = ".safetensors"
HELD_OUT_SUFFIX = ".heldout.safetensors"
DIGESTS_SUFFIX = ".digests.safetensors"
MOST_LAYERS = 4096
SHOWN = 200  # characters of what the reader of the format says


class UnknownModel(ValueError):
    """Neither a shipped model nor a model file."""


class BadModelFile(ValueError):
    """A file that does not hold the model it claims to."""


def known_models() -> tuple[str, ...]:
    """Names of the shipped models."""
    names, beside = (path.name for path in SHIPPED.glob("*" + SUFFIX)), (HELD_OUT_SUFFIX, DIGESTS_SUFFIX)
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if not name.endswith(beside)))


def in_front(key: str, layer: int) -> bool:
    """Whether a parameter is used before the experts of a layer."""
    part, _, rest = key.partition(".")
    if part != "layers":
        return part in ("embedding", "position")
    number, _, name = rest.partition(".")
    return int(number) < layer or (int(number) == layer and name not in EXPERTS)


def load_model(name: str, front: int | None = None) -> Model:
    """A shipped model by name, or the model in a .safetensors file. UnknownModel, BadModelFile.

    front: a layer; read only what comes before its experts. The client of that layer needs no more, and its file need
    hold no more.
    """
    path = SHIPPED / (name + SUFFIX) if name in known_models() else Path(name)
    if not path.is_file():
        raise UnknownModel(
            f"expected a model of {', '.join(known_models())} or the path of a {SUFFIX} file, got {name!r}"
        )
    tensors, header = _read(path, lambda key: front is None or in_front(key, front))
    try:
        fields = json.loads(header[HEADER_KEY])
        config, words = ModelConfig.from_json(fields["config"]), fields["vocabulary"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadModelFile(
            f"expected a model configuration in the header of {path}, got none that reads: {error}"
        ) from error
    if config.layers > MOST_LAYERS:  # before shapes are listed, of which there are some for each layer
        raise BadModelFile(f"expected at most {MOST_LAYERS} layers in {path}, got {config.layers}: take the right file")
    wanted = {key: shape for key, shape in parameter_shapes(config).items() if front is None or in_front(key, front)}
    _check(path, {key: tensor.shape for key, tensor in tensors.items()}, wanted)
    _check_floats(path, tensors)
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
        tensors = {"items": model.held_out.items, **_beside_items(model.held_out)}
        _write(folder / (model.config.name + HELD_OUT_SUFFIX), tensors, None)


def save_digests(name: str, held_out: HeldOut, digests: Array, folder: Path) -> None:
    """Write NAME.digests.safetensors: `digests` [N, bytes] uint8 in the place of the held-out items."""
    _write(folder / (name + DIGESTS_SUFFIX), {"digests": digests, **_beside_items(held_out)}, None)


def with_held_out(model: Model, items: Array, labels: Array, digests: Array | None) -> Model:
    """A shipped model whose held-out items are not shipped, with them: they must have the digests in the model's file.
    BadModelFile, UnknownModel for another model."""
    path = SHIPPED / (model.config.name + DIGESTS_SUFFIX)
    if digests is None or not path.is_file():
        raise UnknownModel(f"expected a shipped model with digests of its held-out items, got {model.config.name!r}")
    tensors, _ = _read(path)
    wanted = {"digests": digests.shape, "labels": labels.shape}
    _check(path, {name: tensors[name].shape for name in wanted if name in tensors}, wanted)
    if not ((tensors["digests"] == digests).all() and (tensors["labels"] == labels).all()):
        raise BadModelFile(f"expected the held-out items that {path} has the digests of, got others: take its source")
    weight, bias = (tensors[key].astype(np.float64) for key in ("baseline.weight", "baseline.bias"))
    return replace(model, held_out=HeldOut(items, labels.astype(np.int64), weight, bias))


def _beside_items(held_out: HeldOut) -> dict[str, Array]:
    return {
        "labels": held_out.labels.astype(np.uint8),
        "baseline.weight": held_out.baseline_weight.astype(np.float16),
        "baseline.bias": held_out.baseline_bias.astype(np.float16),
    }


def _write(path: Path, tensors: dict[str, Array], header: dict[str, str] | None) -> None:
    # safetensors writes an array's memory as it lies, whatever its strides say
    path.write_bytes(save({key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}, header))


def _read(path: Path, wanted: Callable[[str], bool] = lambda key: True) -> tuple[dict[str, Array], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = filter(wanted, file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        # TypeError and AttributeError: the format knows types of numbers that numpy does not.
        told = f"{error}"[:SHOWN]
        raise BadModelFile(f"expected a safetensors file at {path}, got one that does not read: {told}") from error


def _check(path: Path, got: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    wrong = sorted(key for key in got.keys() | wanted.keys() if got.get(key) != wanted.get(key))
    if wrong:
        key = wrong[0]
        raise BadModelFile(
            f"expected {key} of shape {wanted.get(key)} in {path}, got {got.get(key)}: take the right file"
        )


def _check_floats(path: Path, tensors: dict[str, Array]) -> None:
    for key, tensor in tensors.items():
        if tensor.dtype.kind != "f":
            raise BadModelFile(
                f"expected floating-point numbers in {key} of {path}, got {tensor.dtype}: train it again"
            )
        if not np.isfinite(tensor).all():
            raise BadModelFile(f"expected finite weights in {path}, got infinities or NaN: take an undamaged copy")


def _vocabulary(path: Path, config: ModelConfig, words: Any) -> Vocabulary:
    got = tuple(words) if isinstance(words, list) else ()
    if not all(isinstance(word, str) and word.isprintable() for word in got):
        raise BadModelFile(f"expected printable words in {path}, got another vocabulary: take the right file")
    if len(got) != config.vocabulary or got[: len(RESERVED)] != RESERVED:
        raise BadModelFile(
            f"expected {config.vocabulary} words in {path}, {RESERVED} first, got {len(got)}: take the right file"
        )
    return Vocabulary(got)


def _held_out(path: Path, config: ModelConfig) -> HeldOut:
    tensors, _ = _read(path)
    labels = tensors.get("labels", np.zeros(0, dtype=np.uint8))
    width, features = (config.max_tokens, config.vocabulary) if config.task == "text" else (config.side**2,) * 2
    classes = len(config.classes)
    wanted = {
        "items": (*labels.shape[:1], width),
        "labels": labels.shape[:1],
        "baseline.weight": (classes, features),
        "baseline.bias": (classes,),
    }
    _check(path, {key: tensor.shape for key, tensor in tensors.items()}, wanted)
    for key in ("items", "labels"):
        if tensors[key].dtype.kind != "u":
            raise BadModelFile(
                f"expected unsigned numbers in {key} of {path}, got {tensors[key].dtype}: write it again"
            )
    baseline = {key: tensors[key] for key in ("baseline.weight", "baseline.bias")}
    _check_floats(path, baseline)
    if len(labels) and int(labels.max()) >= classes:
        raise BadModelFile(f"expected labels below {classes} in {path}, got {labels.max()}: take the right file")
    weight, bias = (tensor.astype(np.float64) for tensor in baseline.values())
    return HeldOut(tensors["items"], labels.astype(np.int64), weight, bias)
