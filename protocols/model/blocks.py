"""The exact fixed-point oracle of a Transformer block with normalisation first, and the words of its parameters.

As `protocols.model.oracle`, of which it takes the sparse layer, it imports no protocol: what the protocols of
`protocols.blocks` must equal bit for bit. Gains of norms are folded into the matrices that read them, and so is the
scale of the scores into the queries, where a model has one; folded in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.model.config import MoeConfig, MoeWeights
from protocols.model.fixed_point import FixedPoint, Floats, Words, quantise, quantise_weights
from protocols.model.normalising import argmax, rms_norm, softmax
from protocols.model.oracle import LayerTrace, matmul, sparse_moe_layer
from protocols.model.tables import Table

ROOM = 10  # bits of the ring that a turned product leaves free
BUCKETS, FARTHEST = 32, 128  # of relative positions in T5


@dataclass(frozen=True)
class BlockForm:
    """What a block is, beside its sizes. heads: of queries; groups: heads of keys and values; scaled: scores over
    sqrt(d / heads); rotary: the base of rotary positions, 0 without; epsilon of the norms."""

    heads: int
    groups: int
    causal: bool = False
    scaled: bool = False
    rotary: float = 0.0
    epsilon: float = 1e-6


@dataclass(frozen=True)
class Attending:
    """One attention's float64 parameters: norm [d]; query [d, d]; key, value [groups d / heads, d]; output [d, d]; bias
    [heads, n, n] or None, see `relative_bias`."""

    norm: Floats
    query: Floats
    key: Floats
    value: Floats
    output: Floats
    bias: Floats | None = None


@dataclass(frozen=True)
class BlockParameters:
    """One block's float64 parameters. cross: the attention to another stream, or None; its norm is that of its queries.
    norm [d]: before the sparse layer."""

    own: Attending
    cross: Attending | None
    norm: Floats
    moe: MoeWeights


@dataclass(frozen=True)
class AttendingWords:
    """At s bits: queries [d, d], rest (keys, then values) [2 groups d / heads, d], merging [d, d], bias or None."""

    queries: Words
    rest: Words
    merging: Words
    bias: Words | None


@dataclass(frozen=True)
class SparseBlockWords:
    """The words of a block."""

    own: AttendingWords
    cross: AttendingWords | None
    moe: MoeWeights

    def listed(self) -> list[Words]:
        """The arrays in the order of the protocol's weights."""
        own, moe = self.own, self.moe
        found = [np.concatenate([own.queries, own.rest]), own.merging, *([] if own.bias is None else [own.bias])]
        if self.cross is not None:
            found += [self.cross.queries, self.cross.merging, self.cross.rest]
        return [*found, moe.router, moe.w1, *([] if moe.v is None else [moe.v]), moe.w2]


def relative_bias(table: Floats, n: int, m: int, causal: bool) -> Floats:
    """T5's bias of scores [heads, n, m] from its table, heads in columns. [Raffel]

    Half of the buckets for keys after the query (none in a causal block). Near distances have a bucket each, as many
    again are as wide as makes each a constant factor farther, up to FARTHEST and beyond.
    """
    count = BUCKETS if causal else BUCKETS // 2
    near = count // 2
    steps = count - near

    def bucket(behind: int) -> int:
        distance, ahead = (max(behind, 0), 0) if causal else (abs(behind), count * (behind < 0))
        reached = (distance**steps * near**k >= near**steps * FARTHEST**k for k in range(1, steps))
        return ahead + (distance if distance < near else near + sum(reached))

    buckets = np.array([[bucket(i - j) for j in range(m)] for i in range(n)])
    return np.asarray(table[buckets].transpose(2, 0, 1))


def fold_block(parameters: BlockParameters, form: BlockForm, fp: FixedPoint) -> SparseBlockWords:
    """The words of a block. RangeError as quantise."""
    moe, gain = parameters.moe, parameters.norm
    v = None if moe.v is None else moe.v * gain
    experts = quantise_weights(MoeWeights(moe.router * gain, moe.w1 * gain, v, moe.w2), fp)
    cross = None if parameters.cross is None else _attending(parameters.cross, form, fp, read=False)
    return SparseBlockWords(_attending(parameters.own, form, fp, read=True), cross, experts)


def _attending(given: Attending, form: BlockForm, fp: FixedPoint, read: bool) -> AttendingWords:
    """read: keys and values read the same normed stream as the queries."""
    scale = (len(given.query) // form.heads) ** -0.5 if form.scaled else 1.0
    rest = np.concatenate([given.key, given.value])
    return AttendingWords(
        quantise(given.query * scale * given.norm, fp),
        quantise(rest * given.norm if read else rest, fp),
        quantise(given.output, fp),
        None if given.bias is None else quantise(given.bias, fp),
    )


# -- the oracle -------------------------------------------------------------------------------------------------------
def heads_of(v: Words, heads: int) -> Words:
    """Columns as heads: [n, heads words] to [heads, n, words]."""
    return v.reshape(len(v), heads, -1).swapaxes(0, 1)


def attend(
    query: Words,
    key: Words,
    value: Words,
    mask: Words,
    bias: Words | None,
    merging: Words,
    causal: bool,
    fp: FixedPoint,
) -> Words:
    """Scores, softmax, weighted sum and output projection [n, d] of heads [heads, tokens, words]; a head of keys serves
    as many heads of queries as there are more of those. mask: of the keys."""
    key, value = (np.repeat(v, len(query) // len(v), axis=0) for v in (key, value))
    n = query.shape[1]
    scores = fp.trunc(matmul(query, key.swapaxes(1, 2), fp), fp.s)
    scores = fp.wrap(scores + mask + (np.uint64(0) if bias is None else bias))
    shares = softmax(scores, fp, tuple(tuple(j <= i for j in range(n)) for i in range(n)) if causal else None)
    mixed = fp.trunc(matmul(shares, value, fp), fp.s)
    return fp.trunc(matmul(mixed.swapaxes(0, 1).reshape(n, -1), merging.T, fp), fp.s)


def turned(v: Words, base: float, bits: int, fp: FixedPoint) -> Words:
    """Heads [heads, n, words] as complex numbers, real parts first, times exp(i position base^(-j / half)); cosines and
    sines at `bits` fractional bits, which the result has more."""
    half = v.shape[2] // 2
    angles = np.arange(v.shape[1])[:, None] * base ** (-np.arange(half) / half)
    cos, sin = (np.rint(f(angles) * 2.0**bits).astype(np.int64).view(np.uint64) for f in (np.cos, np.sin))
    real, imaginary = v[..., :half], v[..., half:]
    return fp.wrap(np.concatenate([real * cos - imaginary * sin, real * sin + imaginary * cos], axis=-1))


def own_attention(x: Words, mask: Words, words: AttendingWords, form: BlockForm, fp: FixedPoint) -> Words:
    """Attention of x [n, d] to itself, without the residual."""
    query = heads_of(matmul(x, words.queries.T, fp), form.heads)
    key, value = (heads_of(matmul(x, part.T, fp), form.groups) for part in np.split(words.rest, 2))
    bits = 0
    if form.rotary:
        bits = min(fp.s, fp.l - 2 * fp.s - ROOM)
        query, key = (turned(v, form.rotary, bits, fp) for v in (query, key))
        value = fp.wrap(value << np.uint64(bits))
    query, key, value = (fp.trunc(v, fp.s + bits) for v in (query, key, value))
    return attend(query, key, value, mask, words.bias, words.merging, form.causal, fp)


def cross_attention(
    x: Words, memory: Words, mask: Words, words: AttendingWords, form: BlockForm, fp: FixedPoint
) -> Words:
    """Attention of x [n, d] to memory [m, d], without the residual. mask [m]."""
    query = heads_of(fp.trunc(matmul(x, words.queries.T, fp), fp.s), form.heads)
    rest = fp.trunc(matmul(memory, words.rest.T, fp), fp.s)
    key, value = (heads_of(part, form.groups) for part in np.split(rest, 2, axis=1))
    return attend(query, key, value, mask, words.bias, words.merging, False, fp)


def sparse_block(
    x: Words,
    mask: Words,
    words: SparseBlockWords,
    config: MoeConfig,
    form: BlockForm,
    fp: FixedPoint,
    memory: tuple[Words, Words] | None = None,
    table: Table | None = None,
) -> LayerTrace:
    """The block on x [n, d]: the trace of its sparse layer, whose output is the block's. memory: the other stream's
    states [m, d] and their mask [m], of a block that attends to one. table: of the activation."""
    x = fp.wrap(x + own_attention(rms_norm(x, form.epsilon, fp), mask, words.own, form, fp))
    if words.cross is not None and memory is not None:
        x = fp.wrap(x + cross_attention(rms_norm(x, form.epsilon, fp), *memory, words.cross, form, fp))
    return sparse_moe_layer(rms_norm(x, form.epsilon, fp), x, words.moe, config, fp, table)


def greedy(state: Words, head: Words, epsilon: float, fp: FixedPoint) -> tuple[Words, NDArray[np.int64]]:
    """(logits [1, vocabulary], index [1] of the first largest) after the state [1, d]: norm and head."""
    logits = fp.trunc(matmul(rms_norm(state, epsilon, fp), head.T, fp), fp.s)
    return logits, argmax(logits, fp)
