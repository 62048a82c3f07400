"""Contracts of matrix products, embedding, attention and the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from proofs.contracts.layers import linear, moe
from proofs.contracts.norms import argmax, layer_norm, softmax, softmax_range
from proofs.contracts.words import floor_shift
from proofs.hybrid import Demand
from sim.ring import RingArray, stack


def matmul(x: RingArray, y: RingArray) -> RingArray:
    """Matrix by matrix along the leading axes."""
    *batch, n, m = x.shape
    left, right = x.reshape(-1, n, m), y.reshape(-1, m, y.shape[-1])
    products = [left[i] @ right[i] for i in range(left.shape[0])]
    return stack(*products).reshape(*batch, n, y.shape[-1])


def flat(weights: Sequence[Any]) -> Iterator[RingArray]:
    """The arrays of a protocol's record of weights, in the order of its fields; or the arrays themselves."""
    for part in weights:
        if is_dataclass(part) and not isinstance(part, type):
            yield from flat([getattr(part, f.name) for f in fields(part)])
        elif part is not None:
            yield part


def embed(features: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: the table, unless it is public, and the positions."""
    *table, position = flat(weights)
    state = linear(features, table[0]) if table else features
    return (floor_shift(state, plan.params.frac_bits) if plan.inputs == "values" else state) + position


def _scores(x: RingArray, mask: RingArray, weights: Sequence[RingArray], plan: Any) -> tuple[RingArray, RingArray]:
    """Scores and values, head by head."""
    s, n, heads = plan.params.frac_bits, plan.n, plan.heads
    parts = floor_shift(linear(x, weights[0]), s).reshape(n, 3, heads, -1).transpose(1, 2, 0, 3)
    scores = floor_shift(matmul(parts[0], parts[1].transpose(0, 2, 1)), s)
    scores = scores + mask.reshape(1, 1, n).broadcast(*scores.shape)
    for bias in weights[2:]:
        scores = scores + bias
    return scores, parts[2]


def attention(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: queries, keys and values stacked, the output projection, and the bias of a biased block."""
    s, l, arrays = plan.params.frac_bits, plan.params.ring_bits, list(flat(weights))
    scores, values = _scores(x, mask, arrays, plan)
    mixed = floor_shift(matmul(softmax(scores, s=s, l=l, allowed=plan.allowed), values), s)
    return floor_shift(linear(mixed.transpose(1, 0, 2).reshape(plan.n, plan.d), arrays[1]), s)


def scores_range(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> list[Demand]:
    """What softmax demands of the scores."""
    scores, _ = _scores(x, mask, list(flat(weights)), plan)
    return softmax_range(scores, s=plan.params.frac_bits, l=plan.params.ring_bits, allowed=plan.allowed)


def encoder(features: RingArray, mask: RingArray, pooling: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: table (unless public), positions; per block shift, stacked, merging, shift, router and experts; head,
    bias."""
    s, arrays, first = plan.params.frac_bits, list(flat(weights)), 1 + len(plan.embedding.plans)
    stream, rest = embed(features, *arrays[:first], plan=plan.embedding), iter(arrays[first:])

    def norm(x: RingArray, shift: RingArray | None = None) -> RingArray:
        y = layer_norm(x, s=s, reach=plan.reach, eps=plan.epsilon)
        return y if shift is None else y + shift.reshape(1, -1).broadcast(*y.shape)

    for _block in range(plan.layers):
        shift1, stacked, merging, shift2 = (next(rest) for _ in range(4))
        stream = stream + attention(norm(stream, shift1), mask, stacked, merging, plan=plan.attention)
        experts = [next(rest) for _ in range(4 if plan.shape.gated else 3)]
        stream = moe(norm(stream, shift2), stream, *experts, plan=plan.layer)
    head, bias = rest
    pooled = floor_shift(pooling.reshape(1, -1) @ norm(stream), s)
    logits = floor_shift(linear(pooled, head), s) + bias.reshape(1, -1)
    return logits if plan.answer == "logits" else argmax(logits)
