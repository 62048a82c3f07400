"""Contracts of the blocks of a Transformer and of a greedy step."""

from __future__ import annotations

from typing import Any

from proofs.contracts.attention import attention, cross_attention, flat
from proofs.contracts.layers import linear, moe
from proofs.contracts.norms import argmax, rms_norm
from proofs.contracts.words import floor_shift
from sim.ring import RingArray


def _normed(x: RingArray, plan: Any) -> RingArray:
    return rms_norm(x, s=plan.params.frac_bits, reach=plan.reach, eps=plan.epsilon)


def block(x: RingArray, mask: RingArray, *weights: Any, plan: Any) -> RingArray:
    """weights: those of attention, router and experts."""
    arrays, own = list(flat(weights)), 3 if plan.biased else 2
    x = x + attention(_normed(x, plan), mask, *arrays[:own], plan=plan.attention)
    return moe(_normed(x, plan), x, *arrays[own:], plan=plan.layer)


def decoder_block(
    x: RingArray, memory: RingArray, mask: RingArray, memory_mask: RingArray, *weights: Any, plan: Any
) -> RingArray:
    """weights: those of attention, of the attention to the memory, router and experts."""
    arrays, own = list(flat(weights)), 3 if plan.biased else 2
    x = x + attention(_normed(x, plan), mask, *arrays[:own], plan=plan.attention)
    x = x + cross_attention(_normed(x, plan), memory, memory_mask, *arrays[own : own + 3], plan=plan.cross)
    return moe(_normed(x, plan), x, *arrays[own + 3 :], plan=plan.layer)


def next_token(x: RingArray, last: RingArray, head: RingArray, *, plan: Any) -> RingArray:
    """last: one-hot bits."""
    chosen = last.cast(x.ring).reshape(1, -1) @ x
    return argmax(floor_shift(linear(_normed(chosen, plan), head), plan.params.frac_bits))
