"""The plaintext MoE Transformer encoder, in numpy float64.

Token and position embedding; `layers` pre-norm blocks x <- x + Attention(LN1(x)), x <- x + MoE(LN2(x)); final layer
norm, mean over real tokens, linear head. Padding is masked out of the attention and of the mean, so it changes no
logit. Attention, router and experts have no biases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.model.config import ModelConfig, MoeWeights
from protocols.model.floating import float_layer, softmax
from protocols.model.tokens import PAD, PadError, Vocabulary, pad_to, patches

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64] | NDArray[np.float64]
Parameters = Mapping[str, Floats]
MoeFunction = Callable[[Floats, Floats, int], tuple[Floats, NDArray[np.int64]]]  # x, residual, layer -> output, routes

NORM_EPSILON = 1e-5


class LayerError(ValueError):
    """A layer index that the model does not have."""


class ItemError(ValueError):
    """A held-out item that the model does not have."""


class TaskError(ValueError):
    """A text for an image model."""


class TokenError(ValueError):
    """Tokens that are not an input of the model."""


@dataclass(frozen=True)
class HeldOut:
    """Items that training never saw. items: ids [N, max_tokens] uint16 padded with PAD, or grey values [N, side^2]
    uint8; labels [N], indices into the classes. baseline_weight [classes, features] and baseline_bias [classes]: a
    linear classifier trained on the same items as the model, for comparison (evaluate.baseline_features)."""

    items: NDArray[np.uint16] | NDArray[np.uint8]
    labels: NDArray[np.int64]
    baseline_weight: Floats
    baseline_bias: Floats

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Forward:
    """logits [classes]; routes [layers, n, k], padding positions included."""

    logits: Floats
    routes: NDArray[np.int64]


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a model of this configuration."""
    d, f, E, classes = config.d, config.f, config.E, len(config.classes)
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (config.vocabulary if config.task == "text" else config.patch**2, d),
        "position": (config.max_tokens, d),
        "final_norm.weight": (d,),
        "final_norm.bias": (d,),
        "head.weight": (classes, d),
        "head.bias": (classes,),
    }
    for i in range(config.layers):
        shapes |= {f"layers.{i}.{norm}.{part}": (d,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {f"layers.{i}.attention.{matrix}": (d, d) for matrix in ("query", "key", "value", "output")}
        shapes |= {f"layers.{i}.router": (E, d), f"layers.{i}.w1": (E, f, d), f"layers.{i}.w2": (E, d, f)}
        shapes |= {f"layers.{i}.v": (E, f, d)} if config.gated else {}
    return shapes


def layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Layer norm over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + NORM_EPSILON) * weight + bias)


@dataclass(frozen=True)
class Model:
    """A loaded model: its configuration, the parameters that parameter_shapes names, the vocabulary of a text model and
    the held-out items, where their file is there."""

    config: ModelConfig
    parameters: Parameters = field(repr=False)
    vocabulary: Vocabulary | None = None
    held_out: HeldOut | None = None

    def tokens_from_text(self, text: str, pad: int | None = None) -> NDArray[np.int64]:
        """Ids [n], padded to `pad` when given. TaskError, EmptyText, TextTooLong, PadError."""
        if self.vocabulary is None:
            raise TaskError(
                f"expected an image for model {self.config.name}, got a text: choose a held-out image by number"
            )
        return pad_to(self.vocabulary.encode(text, self.config.max_tokens), pad, self.config.max_tokens)

    def tokens_from_item(self, index: int, pad: int | None = None) -> Tokens:
        """Ids [n] (padded to `pad` when given) or patches [n, patch^2] of a held-out item. ItemError, PadError."""
        if self.held_out is None:
            raise ItemError(
                f"expected a text or a file for model {self.config.name}, got item {index}: it comes without held-out "
                "items"
            )
        count = len(self.held_out)
        if not 0 <= index < count:
            raise ItemError(
                f"expected a held-out item from 0 to {count - 1}, got {index}: choose one of the {count} items"
            )
        item = self.held_out.items[index]
        if self.config.task == "image":
            if pad not in (None, self.config.max_tokens):
                raise PadError(
                    f"expected no padding of an image of {self.config.max_tokens} patches, got {pad}: leave it"
                )
            return patches(np.asarray(item, dtype=np.uint8), self.config.side, self.config.patch)
        ids = item[item != PAD].astype(np.int64)
        return pad_to(ids, pad, self.config.max_tokens)

    def moe_weights(self, layer: int) -> MoeWeights:
        """Router and experts of a layer, float64. LayerError."""
        self._check_layer(layer)
        own = f"layers.{layer}."
        parameters = self.parameters
        return MoeWeights(
            parameters[own + "router"], parameters[own + "w1"], parameters.get(own + "v"), parameters[own + "w2"]
        )

    def moe_inputs(self, tokens: Tokens, layer: int) -> tuple[Floats, Floats]:
        """(x, residual), both [n, d]: what the layer's MoE block takes, LN2 of the residual stream and the stream.
        LayerError, TokenError."""
        self._check_layer(layer)
        stream, real = self._embed(tokens)
        for i in range(layer):
            stream, _ = self.moe_layer(*self._before_moe(stream, real, i), i)
        return self._before_moe(stream, real, layer)

    def moe_layer(self, x: Floats, residual: Floats, layer: int) -> tuple[Floats, NDArray[np.int64]]:
        """(output [n, d], routes [n, k]) of a layer's MoE block, in float64 with the exact activation. LayerError."""
        trace = float_layer(x, residual, self.moe_weights(layer), self.config)
        return trace.output, trace.routes

    def forward(self, tokens: Tokens, moe: MoeFunction | None = None) -> Forward:
        """The whole model on one item. `moe` computes the sparse MoE layers, in float64 when left out. TokenError."""
        compute = self.moe_layer if moe is None else moe
        stream, real = self._embed(tokens)
        routes = []
        for i in range(self.config.layers):
            stream, taken = compute(*self._before_moe(stream, real, i), i)
            routes.append(taken)
        pooled = self._norm(stream, "final_norm")[real].mean(axis=0)
        return Forward(self.parameters["head.weight"] @ pooled + self.parameters["head.bias"], np.stack(routes))

    def _embed(self, tokens: Tokens) -> tuple[Floats, NDArray[np.bool_]]:
        """(residual stream [n, d], which tokens are real [n])."""
        config, table = self.config, self.parameters["embedding"]
        n = len(tokens)
        if config.task == "image":
            if tokens.shape != (config.max_tokens, config.patch**2):
                raise TokenError(
                    f"expected patches of shape ({config.max_tokens}, {config.patch**2}), got {tokens.shape}"
                )
            return tokens @ table + self.parameters["position"], np.ones(n, dtype=bool)
        if tokens.ndim != 1 or tokens.dtype.kind != "i" or not 1 <= n <= config.max_tokens:
            raise TokenError(
                f"expected 1 to {config.max_tokens} integer ids, got {tokens.dtype} of shape {tokens.shape}"
            )
        if tokens.min() < 0 or tokens.max() >= config.vocabulary or not (tokens != PAD).any():
            raise TokenError(f"expected ids below {config.vocabulary}, not all of them padding, got {tokens.tolist()}")
        return table[tokens] + self.parameters["position"][:n], np.asarray(tokens != PAD)

    def _before_moe(self, stream: Floats, real: NDArray[np.bool_], layer: int) -> tuple[Floats, Floats]:
        stream = stream + self._attention(stream, real, layer)
        return self._norm(stream, f"layers.{layer}.norm2"), stream

    def _attention(self, stream: Floats, real: NDArray[np.bool_], layer: int) -> Floats:
        x = self._norm(stream, f"layers.{layer}.norm1")
        n, d, heads = len(x), self.config.d, self.config.heads
        query, key, value, output = (
            self.parameters[f"layers.{layer}.attention.{matrix}"] for matrix in ("query", "key", "value", "output")
        )
        q, k, v = ((x @ matrix.T).reshape(n, heads, d // heads).swapaxes(0, 1) for matrix in (query, key, value))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(d // heads)
        mixed = softmax(np.where(real, scores, -np.inf)) @ v
        return np.asarray(mixed.swapaxes(0, 1).reshape(n, d) @ output.T)

    def _norm(self, x: Floats, name: str) -> Floats:
        return layer_norm(x, self.parameters[name + ".weight"], self.parameters[name + ".bias"])

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self.config.layers:
            raise LayerError(f"expected a layer from 0 to {self.config.layers - 1}, got {layer}: choose one of them")
