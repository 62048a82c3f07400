"""Contracts of the blocks of a Transformer and of a greedy step."""

from __future__ import annotations

from typing import Any

from proofs.contracts.attention import attention, attention_range, cross_attention, cross_attention_range, flat
from proofs.contracts.layers import linear, moe, moe_range
from proofs.contracts.norms import argmax, comparable, rms_norm, rms_norm_range
from proofs.contracts.words import below_quarter, floor_shift
from proofs.hybrid import Demand
from sim.ring import RingArray


def _normed(x: RingArray, plan: Any) -> RingArray:
    return rms_norm(x, s=plan.params.frac_bits, reach=plan.reach, eps=plan.epsilon)


def _in_range(x: RingArray, plan: Any) -> list[Demand]:
    """What a norm demands of the stream, that it is within its reach for one."""
    return rms_norm_range(x, s=plan.params.frac_bits, reach=plan.reach, eps=plan.epsilon)


def _first(x: RingArray, mask: RingArray, own: list[RingArray], plan: Any) -> tuple[RingArray, list[Demand]]:
    """The stream after attention, and the demands up to there."""
    normed = _normed(x, plan)
    demands = _in_range(x, plan) + attention_range(normed, mask, *own, plan=plan.attention)
    return x + attention(normed, mask, *own, plan=plan.attention), demands


def _parts(weights: Any, plan: Any) -> tuple[list[RingArray], list[RingArray]]:
    """The arrays of attention, and those that follow."""
    arrays, own = list(flat(weights, plan.layer.up.stacked)), 3 if plan.biased else 2
    return arrays[:own], arrays[own:]


def block(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: those of attention, router and experts."""
    own, rest = _parts(weights, plan)
    x, _ = _first(x, mask, own, plan)
    return moe(_normed(x, plan), x, *rest, plan=plan.layer)


def block_range(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> list[Demand]:
    """What norms demand of the stream, softmax of the scores, and floors of the products."""
    own, rest = _parts(weights, plan)
    x, demands = _first(x, mask, own, plan)
    return demands + _in_range(x, plan) + moe_range(_normed(x, plan), x, *rest, plan=plan.layer)


def decoder_block(
    x: RingArray, memory: RingArray, mask: RingArray, memory_mask: RingArray, *weights: Any, plan: Any
) -> RingArray:
    """weights: those of attention, of the attention to the memory, router and experts."""
    own, rest = _parts(weights, plan)
    x, _ = _first(x, mask, own, plan)
    x = x + cross_attention(_normed(x, plan), memory, memory_mask, *rest[:3], plan=plan.cross)
    return moe(_normed(x, plan), x, *rest[3:], plan=plan.layer)


def decoder_block_range(
    x: RingArray, memory: RingArray, mask: RingArray, memory_mask: RingArray, *weights: Any, plan: Any
) -> list[Demand]:
    own, rest = _parts(weights, plan)
    x, demands = _first(x, mask, own, plan)
    demands = demands + _in_range(x, plan)
    normed = _normed(x, plan)
    demands += cross_attention_range(normed, memory, memory_mask, *rest[:3], plan=plan.cross)
    x = x + cross_attention(normed, memory, memory_mask, *rest[:3], plan=plan.cross)
    return demands + _in_range(x, plan) + moe_range(_normed(x, plan), x, *rest[3:], plan=plan.layer)


def _row(x: RingArray, last: RingArray) -> RingArray:
    return last.cast(x.ring).reshape(1, -1) @ x


def _products(row: RingArray, head: RingArray, plan: Any) -> RingArray:
    return linear(_normed(row, plan), head)


def next_token(x: RingArray, last: RingArray, head: RingArray, *, plan: Any) -> RingArray:
    """last: one-hot bits."""
    return argmax(floor_shift(_products(_row(x, last), head, plan), plan.params.frac_bits))


def next_token_range(x: RingArray, last: RingArray, head: RingArray, *, plan: Any) -> list[Demand]:
    """What the norm demands of the row, the floor of the products, and the tournament of the logits."""
    row = _row(x, last)
    products = _products(row, head, plan)
    return _in_range(row, plan) + below_quarter(products) + comparable(floor_shift(products, plan.params.frac_bits))
