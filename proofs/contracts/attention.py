"""Contracts of matrix products, embedding, attention and the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from proofs.contracts.layers import linear, matrices, moe
from proofs.contracts.norms import argmax, layer_norm, softmax, softmax_range
from proofs.contracts.words import below_quarter, floor_shift
from proofs.hybrid import Demand
from protocols.cleartext.attention import rotation
from protocols.expert_weights import ExpertWeights
from sim.ring import RingArray, concat, stack


def matmul(x: RingArray, y: RingArray) -> RingArray:
    """Matrix by matrix along the leading axes."""
    *batch, n, m = x.shape
    left, right = x.reshape(-1, n, m), y.reshape(-1, m, y.shape[-1])
    products = [left[i] @ right[i] for i in range(left.shape[0])]
    return stack(*products).reshape(*batch, n, y.shape[-1])


def flat(weights: Sequence[Any], stacked: int = 1) -> Iterator[RingArray]:
    """The arrays of a protocol's record of weights, in the order of its fields, or the arrays themselves. stacked: so
    many matrices of an expert are above each other."""
    for part in weights:
        if isinstance(part, ExpertWeights):
            yield from matrices([part], stacked)
        elif is_dataclass(part) and not isinstance(part, type):
            yield from flat([getattr(part, f.name) for f in fields(part)], stacked)
        elif part is not None:
            yield part


def embed(features: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: the table, unless it is public, and the positions."""
    *table, position = flat(weights)
    state = linear(features, table[0]) if table else features
    return (floor_shift(state, plan.params.frac_bits) if plan.inputs == "values" else state) + position


def _heads(v: RingArray, heads: int) -> RingArray:
    """Columns as heads: (n, heads words) to (heads, n, words)."""
    return v.reshape(v.shape[0], heads, -1).transpose(1, 0, 2)


def _turned(v: RingArray, plan: Any) -> RingArray:
    """Heads (heads, n, words), the first half of each head's words paired with the second."""
    heads, n, e = v.shape
    tables = rotation(n, e // 2, plan.rotary, plan.turn)
    cos, sin = (v.const(t, (n, e // 2)).reshape(1, n, e // 2).broadcast(heads, n, e // 2) for t in tables)
    a, b = v[:, :, : e // 2], v[:, :, e // 2 :]
    return concat(a * cos - b * sin, b * cos + a * sin, axis=2)


def _parts(x: RingArray, weights: RingArray, plan: Any) -> list[RingArray]:
    """Queries, keys and values of a stream that attends to itself, head by head, not floored."""
    products, end = linear(x, weights), plan.d + plan.key_heads * plan.width
    query, key = _heads(products[:, : plan.d], plan.heads), _heads(products[:, plan.d : end], plan.key_heads)
    value = _heads(products[:, end:], plan.key_heads)
    return [_turned(query, plan), _turned(key, plan), value << plan.turn] if plan.turn else [query, key, value]


def _crossed_parts(x: RingArray, memory: RingArray, weights: Sequence[RingArray], plan: Any) -> list[RingArray]:
    """Queries of one stream, keys and values of another, not floored."""
    end, query, rest = plan.key_heads * plan.width, linear(x, weights[0]), linear(memory, weights[-1])
    keys, values = rest[:, :end], rest[:, end:]
    return [_heads(query, plan.heads), _heads(keys, plan.key_heads), _heads(values, plan.key_heads)]


def _each(v: RingArray, plan: Any) -> RingArray:
    """A head of keys or values for every head of queries."""
    group = plan.heads // plan.key_heads
    return v if group == 1 else stack(*(v[i // group] for i in range(plan.heads)))


def _steps(
    parts: Sequence[RingArray], mask: RingArray, merging: RingArray, bias: Sequence[RingArray], plan: Any
) -> tuple[list[RingArray], RingArray]:
    """All products in their order, none of them floored: the parts, scores, weighted sums, outputs; and the scores."""
    s, l = plan.params.frac_bits, plan.params.ring_bits
    query, key, value = (floor_shift(v, s + plan.turn) for v in parts)
    products = matmul(query, _each(key, plan).transpose(0, 2, 1))
    scores = floor_shift(products, s) + mask.reshape(1, 1, -1).broadcast(*products.shape)
    for table in bias:
        scores = scores + table
    sums = matmul(softmax(scores, s=s, l=l, allowed=plan.allowed), _each(value, plan))
    mixed = floor_shift(sums, s).transpose(1, 0, 2).reshape(plan.n, plan.d)
    return [*parts, products, sums, linear(mixed, merging)], scores


def _demands(products: Sequence[RingArray], scores: RingArray, plan: Any) -> list[Demand]:
    """What softmax demands of the scores, and that every product stays below a quarter of the ring."""
    small = softmax_range(scores, s=plan.params.frac_bits, l=plan.params.ring_bits, allowed=plan.allowed)
    return [*small, *(demand for product in products for demand in below_quarter(product))]


def _attended(x: RingArray, mask: RingArray, weights: Sequence[Any], plan: Any) -> tuple[list[RingArray], RingArray]:
    """weights: queries, keys and values stacked, the output projection, and the bias of a biased block."""
    stacked, merging, *bias = flat(weights)
    return _steps(_parts(x, stacked, plan), mask, merging, bias, plan)


def attention(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> RingArray:
    return floor_shift(_attended(x, mask, weights, plan)[0][-1], plan.params.frac_bits)


def attention_range(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> list[Demand]:
    return _demands(*_attended(x, mask, weights, plan), plan)


def _cross_attended(
    x: RingArray, memory: RingArray, mask: RingArray, weights: Sequence[Any], plan: Any
) -> tuple[list[RingArray], RingArray]:
    """weights: queries, the output projection, the bias of a biased block, and keys and values."""
    arrays = list(flat(weights))
    return _steps(_crossed_parts(x, memory, arrays, plan), mask, arrays[1], arrays[2:-1], plan)


def cross_attention(x: RingArray, memory: RingArray, mask: RingArray, *weights: Any, plan: Any) -> RingArray:
    return floor_shift(_cross_attended(x, memory, mask, weights, plan)[0][-1], plan.params.frac_bits)


def cross_attention_range(x: RingArray, memory: RingArray, mask: RingArray, *weights: Any, plan: Any) -> list[Demand]:
    return _demands(*_cross_attended(x, memory, mask, weights, plan), plan)


def encoder(features: RingArray, mask: RingArray, pooling: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: table (unless public), positions; per block shift, stacked, merging, shift, router and experts; head,
    bias."""
    s, arrays, first = plan.params.frac_bits, list(flat(weights, plan.layer.up.stacked)), 1 + len(plan.embedding.plans)
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
