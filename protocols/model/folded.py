"""The parameters of a whole encoder as words: what the fixed-point model computes with.

Norms have no parameters of their own here. The weight g of a norm is folded into the matrices that read it, W diag(g),
and its bias b becomes a shift b / g of what the norm gives: W diag(g) (y + b / g) = W (g y + b). The scale of the
scores, 1 / sqrt(d / heads), is folded into the queries, the final norm's bias into the head's. Everything is folded in
float64 and rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from protocols.model.architecture import Model, Parameters, Tokens
from protocols.model.config import ModelConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, Floats, Words, quantise, quantise_weights
from protocols.model.tokens import PAD

MASKED = -1024  # far below any score: the exponential of a padding token is exactly zero
SMALLEST_NORM_WEIGHT = 2.0**-8  # a shift b / g is at most 2^8 times b


class NormWeightError(ValueError):
    """A norm whose weight is too small to be folded."""


@dataclass(frozen=True)
class BlockWords:
    """One block. shift1, shift2 [d]: what is added to the first and the second norm; stacked [3 d, d]: queries, keys,
    values; merging [d, d]: the output projection; moe: router and experts. All at s bits."""

    shift1: Words
    stacked: Words
    merging: Words
    shift2: Words
    moe: MoeWeights

    def named(self) -> dict[str, Words]:
        """The arrays by name, in the order of the protocol's weights."""
        moe = self.moe
        found = {"shift1": self.shift1, "stacked": self.stacked, "merging": self.merging, "shift2": self.shift2}
        found |= {"router": moe.router, "w1": moe.w1}
        return found | ({} if moe.v is None else {"v": moe.v}) | {"w2": moe.w2}


@dataclass(frozen=True)
class EncoderWords:
    """All at s bits: table [d, features], position [max_tokens, d], the blocks, head [classes, d], head_bias
    [classes]."""

    table: Words
    position: Words
    blocks: tuple[BlockWords, ...]
    head: Words
    head_bias: Words

    def named(self, n: int) -> dict[str, Words]:
        """The arrays by name, in the order of the protocol's weights, for n tokens."""
        blocks = {f"block{i}.{name}": x for i, block in enumerate(self.blocks) for name, x in block.named().items()}
        first = {"table": self.table, "position": self.position[:n]}
        return first | blocks | {"head": self.head, "head_bias": self.head_bias}


@dataclass(frozen=True)
class ClientWords:
    """What the client puts in. features [n, features]: one-hot rows without fractional bits (text), or values at s bits
    (image); mask [n]: what is added to all scores of a token as a key, 0 or MASKED; pooling [n]: the token's share of
    the mean, 1 / (real tokens) or 0, at s bits. mask and pooling hide how many tokens are real."""

    features: Words
    mask: Words
    pooling: Words


def fold(model: Model, fp: FixedPoint) -> EncoderWords:
    """The words of a model. NormWeightError; RangeError as quantise."""
    parameters, heads = model.parameters, model.config.heads
    final, bias = _norm(parameters, "final_norm")
    head = parameters["head.weight"]
    return EncoderWords(
        quantise(parameters["embedding"].T, fp),
        quantise(parameters["position"], fp),
        tuple(_block(model.moe_weights(i), parameters, f"layers.{i}.", heads, fp) for i in range(model.config.layers)),
        quantise(head * final, fp),
        quantise(parameters["head.bias"] + head @ (final * bias), fp),
    )


def _norm(parameters: Parameters, name: str) -> tuple[Floats, Floats]:
    """(g, b / g) of a norm."""
    weight, bias = parameters[name + ".weight"], parameters[name + ".bias"]
    if np.abs(weight).min() < SMALLEST_NORM_WEIGHT:
        raise NormWeightError(
            f"{name}.weight: expected absolute values from {SMALLEST_NORM_WEIGHT}, got {np.abs(weight).min()}: "
            "train with a weight that keeps every column"
        )
    return weight, bias / weight


def _block(moe: MoeWeights, parameters: Parameters, own: str, heads: int, fp: FixedPoint) -> BlockWords:
    first, shift1 = _norm(parameters, own + "norm1")
    second, shift2 = _norm(parameters, own + "norm2")
    query, key, value, output = (parameters[f"{own}attention.{name}"] for name in ("query", "key", "value", "output"))
    stacked = np.concatenate([query / math.sqrt(len(query) // heads), key, value]) * first
    v = None if moe.v is None else moe.v * second
    return BlockWords(
        quantise(shift1, fp),
        quantise(stacked, fp),
        quantise(output, fp),
        quantise(shift2, fp),
        quantise_weights(MoeWeights(moe.router * second, moe.w1 * second, v, moe.w2), fp),
    )


def client_words(config: ModelConfig, tokens: Tokens, fp: FixedPoint) -> ClientWords:
    """What the client makes of its tokens: ids [n], padding included, or patches [n, patch^2]."""
    n = len(tokens)
    real = np.ones(n, dtype=bool) if config.task == "image" else np.asarray(tokens != PAD)
    if config.task == "image":
        features = quantise(tokens, fp)
    else:
        features = np.zeros((n, config.vocabulary), dtype=np.uint64)
        features[np.arange(n), tokens.astype(np.int64)] = 1
    mask = np.where(real, np.uint64(0), fp.word(MASKED << fp.s))
    return ClientWords(features, mask, quantise(real / real.sum(), fp))
