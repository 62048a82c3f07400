"""The exact fixed-point oracle of a whole encoder, from the client's words to the logits: what the protocol must equal
bit for bit. As `protocols.model.oracle`, of which it takes the sparse layer, it imports no protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.model.blocks import attend, heads_of
from protocols.model.config import ModelConfig
from protocols.model.fixed_point import FixedPoint, Words
from protocols.model.folded import BlockWords, ClientWords, EncoderWords
from protocols.model.normalising import layer_norm
from protocols.model.oracle import matmul, sparse_moe_layer
from protocols.model.tables import Table

STREAM_REACH = 6  # the residual stream is below 2^6 in absolute value
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class EncoderTrace:
    """stream [layers + 1, n, d]: the residual stream before each block and at the end; routes [layers, n, k];
    pooled [d]; logits [classes]; label: the first largest logit."""

    stream: Words
    routes: NDArray[np.int64]
    pooled: Words
    logits: Words
    label: int


def attention(
    x: Words,
    mask: Words,
    block: BlockWords,
    heads: int,
    fp: FixedPoint,
    causal: bool = False,
    bias: Words | None = None,
) -> Words:
    """Attention on x [n, d], without the residual. mask [n]: what is added to all scores of a key; bias [heads, n, n]:
    what is added to the scores."""
    stacked = fp.trunc(matmul(x, block.stacked.T, fp), fp.s)
    query, key, value = (heads_of(part, heads) for part in np.split(stacked, 3, axis=1))
    return attend(query, key, value, mask, bias, block.merging, causal, fp)


def embedding(inputs: ClientWords, words: EncoderWords, config: ModelConfig, fp: FixedPoint) -> Words:
    """The first residual stream [n, d]: rows of the table, or products with it, plus positions."""
    found = matmul(inputs.features, words.table.T, fp)
    if config.task == "image":
        found = fp.trunc(found, fp.s)
    return fp.wrap(found + words.position[: len(found)])


def encoder(
    inputs: ClientWords, words: EncoderWords, config: ModelConfig, fp: FixedPoint, table: Table | None = None
) -> EncoderTrace:
    """The whole model on one item. table: of the activation, as in `sparse_moe_layer`."""
    stream, routes = [embedding(inputs, words, config, fp)], []
    for block in words.blocks:
        x = fp.wrap(layer_norm(stream[-1], STREAM_REACH, NORM_EPSILON, fp) + block.shift1)
        attended = fp.wrap(stream[-1] + attention(x, inputs.mask, block, config.heads, fp))
        x = fp.wrap(layer_norm(attended, STREAM_REACH, NORM_EPSILON, fp) + block.shift2)
        trace = sparse_moe_layer(x, attended, block.moe, config, fp, table)
        stream.append(trace.output)
        routes.append(trace.routes)
    final = layer_norm(stream[-1], STREAM_REACH, NORM_EPSILON, fp)
    pooled = fp.trunc(matmul(inputs.pooling[None], final, fp)[0], fp.s)
    logits = fp.wrap(fp.trunc(matmul(pooled[None], words.head.T, fp)[0], fp.s) + words.head_bias)
    return EncoderTrace(np.stack(stream), np.stack(routes), pooled, logits, int(fp.signed(logits).argmax()))
