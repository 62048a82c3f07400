"""A checkpoint folder: its configuration, its sparse layers, and their weights in float32 or in words of the ring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.model.checkpoint.layouts import CheckpointConfig, SparseLayer, sparse_layers
from protocols.model.checkpoint.tensors import FLOATS, ForeignDtype, MissingTensor, Tensors, open_tensors, read_json
from protocols.model.config import MoeWeights
from protocols.model.fixed_point import FixedPoint, dequantise, quantise

Floats = NDArray[np.float64]
CONFIG = "config.json"
STATE_REACH = 16  # hidden states that a layer is given are below 2^16 in absolute value


class ExtraTensor(ValueError):
    """A tensor of a sparse layer that the configuration does not have."""


class MisshapenTensor(ValueError):
    """A tensor of another shape than the configuration says."""


class NoSuchLayer(ValueError):
    """The number of a sparse layer that the checkpoint does not have."""


class HiddenStates(ValueError):
    """Hidden states that are no input of the layer."""


@dataclass(frozen=True)
class Rounding:
    """What rounding to the ring does to one kind of matrix. values: how many; largest: in absolute value; max_error,
    rms_error: absolute; lost: how many are not zero and become zero."""

    name: str
    values: int
    largest: float
    max_error: float
    rms_error: float
    lost: int


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder; no weight has been read yet. layers: the sparse ones, in the order of computation."""

    folder: Path
    family: str
    layers: tuple[SparseLayer, ...]
    tensors: Tensors = field(repr=False)

    @property
    def name(self) -> str:
        """The family and the number of experts."""
        return f"{self.family}-{self.layers[0].shape.E}"

    def layer(self, number: int) -> SparseLayer:
        """A sparse layer by its place in `layers`. NoSuchLayer."""
        if not 0 <= number < len(self.layers):
            count = len(self.layers)
            raise NoSuchLayer(f"expected a sparse layer from 0 to {count - 1}, got {number}: choose one of {count}")
        return self.layers[number]

    def weights(self, number: int) -> MoeWeights:
        """Router and experts, exactly, in float32. NoSuchLayer, ForeignDtype, NotFinite."""
        layer, read = self.layer(number), self.tensors.read
        parts = []
        for name in layer.experts:
            first = read(layer.moe + name.format(0))
            stacked = np.empty((layer.shape.E, *first.shape), dtype=np.float32)
            for expert in range(layer.shape.E):
                stacked[expert] = read(layer.moe + name.format(expert))
            parts.append(stacked)
        return MoeWeights(read(layer.moe + layer.router), parts[0], parts[1] if layer.shape.gated else None, parts[-1])

    def gain(self, number: int) -> Floats:
        """The weight [d] of the norm in front of a layer."""
        return self.tensors.read(self.layer(number).norm).astype(np.float64)

    def moe_inputs(self, states: Floats, number: int) -> tuple[Floats, Floats]:
        """(x, residual), both [n, d]: the root-mean-square norm of hidden states [n, d], and the states. HiddenStates
        for another width, values from 2^16, or more tokens than an expert of the family takes."""
        layer = self.layer(number)
        if states.ndim != 2 or not len(states) or states.shape[1] != layer.shape.d:
            told = f"expected hidden states of shape (tokens, {layer.shape.d}), got {states.shape}"
            raise HiddenStates(f"{told}: give a row per token")
        if layer.capacity is not None and len(states) > layer.capacity:
            raise HiddenStates(
                f"expected at most {layer.capacity} tokens, the capacity of an expert, got {len(states)}: beyond it "
                "the checkpoint's model drops tokens"
            )
        if not (np.abs(states) < 2.0**STATE_REACH).all():  # NaN as well
            raise HiddenStates(f"expected finite hidden states below 2^{STATE_REACH}, got others: scale them down")
        scale = np.sqrt((states**2).mean(axis=1, keepdims=True) + layer.epsilon)
        return states / scale * self.gain(number), states


def rounding(weights: MoeWeights, fp: FixedPoint) -> list[Rounding]:
    """What rounding weights to words does: one row per kind of matrix. RangeError as quantise."""
    named = [("router", weights.router[None]), ("w1", weights.w1), ("v", weights.v), ("w2", weights.w2)]
    return [_rounding(name, stack, fp) for name, stack in named if stack is not None]


def _rounding(name: str, stack: NDArray[np.float32], fp: FixedPoint) -> Rounding:
    largest, worst, squares, lost = 0.0, 0.0, 0.0, 0
    for matrix in stack:
        exact = matrix.astype(np.float64)
        words = quantise(exact, fp)
        error = np.abs(dequantise(words, fp) - exact)
        largest, worst = max(largest, float(np.abs(exact).max())), max(worst, float(error.max()))
        squares += float((error**2).sum())
        lost += int(((words == 0) & (exact != 0)).sum())
    return Rounding(name, stack.size, largest, worst, (squares / stack.size) ** 0.5, lost)


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder: `config.json` and safetensors. Reads headers, checks every tensor of every sparse
    layer.

    Raises what open_tensors and sparse_layers raise; MissingTensor, ExtraTensor, MisshapenTensor, ForeignDtype.
    """
    tensors = open_tensors(folder)
    fields = read_json(folder / CONFIG, CheckpointConfig)
    layers = sparse_layers(fields)
    for layer in layers:
        _check(layer, tensors)
    return Checkpoint(folder, fields["model_type"], tuple(layers), tensors)


def _check(layer: SparseLayer, tensors: Tensors) -> None:
    wanted = layer.tensors()
    for name, shape in wanted.items():
        if name not in tensors:
            raise MissingTensor(f"expected {name} of shape {shape} in the checkpoint, got none: take all of its files")
        if tensors[name].shape != shape:
            raise MisshapenTensor(
                f"expected {name} of shape {shape} as config.json says, got {tensors[name].shape}: take matching files"
            )
        if tensors[name].dtype not in FLOATS:
            told = f"{name}: expected {', '.join(FLOATS)}, got {tensors[name].dtype}"
            raise ForeignDtype(f"{told}: convert the checkpoint")
    for name in _within(tensors, layer.moe):
        if name not in wanted:
            raise ExtraTensor(
                f"expected of {layer.place} the tensors that config.json asks for, got {name} as well: take matching "
                "files"
            )


def _within(tensors: Tensors, prefix: str) -> Iterator[str]:
    return (name for name in tensors if name.startswith(prefix))
