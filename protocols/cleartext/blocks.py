"""Ideal functionalities of the blocks of a Transformer and of a greedy step, in plain numpy integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.cleartext.attention import attention_fixed, cross_attention_fixed, floored
from protocols.cleartext.norms import ARGMAX, rms_norm_fixed
from protocols.functionalities import SPARSE_MOE, Ints, wrap
from sim.functionality import Functionality


def _normed(x: Ints, plan: Any) -> Ints:
    return rms_norm_fixed(x, s=plan.params.frac_bits, reach=plan.reach, eps=plan.epsilon)


def block_fixed(x: Ints, mask: Ints, *weights: Ints, plan: Any) -> Ints:
    """weights: stacked, merging, the table of a biased block; router and experts."""
    own = 3 if plan.biased else 2
    l = plan.params.ring_bits
    x = wrap(x + attention_fixed(_normed(x, plan), mask, *weights[:own], plan=plan.attention), l)
    return np.asarray(SPARSE_MOE.compute(_normed(x, plan), x, *weights[own:], plan=plan.layer))


def decoder_block_fixed(x: Ints, memory: Ints, mask: Ints, memory_mask: Ints, *weights: Ints, plan: Any) -> Ints:
    """weights: stacked, merging, the table of a biased block; queries, output projection, keys and values of the
    attention to the memory; router and experts."""
    own = 3 if plan.biased else 2
    l = plan.params.ring_bits
    x = wrap(x + attention_fixed(_normed(x, plan), mask, *weights[:own], plan=plan.attention), l)
    crossed = cross_attention_fixed(_normed(x, plan), memory, memory_mask, *weights[own : own + 3], plan=plan.cross)
    x = wrap(x + crossed, l)
    return np.asarray(SPARSE_MOE.compute(_normed(x, plan), x, *weights[own + 3 :], plan=plan.layer))


def next_token_fixed(x: Ints, last: Ints, head: Ints, *, plan: Any) -> Ints:
    """The Boolean digits of the first largest logit of the row that `last`, one-hot, names."""
    state = wrap(last[None] @ x, plan.params.ring_bits)
    logits = floored(_normed(state, plan) @ head.T, plan.params.frac_bits, plan.params.ring_bits)
    return np.asarray(ARGMAX.compute(logits))


BLOCK = Functionality("Transformer block with a sparse layer", block_fixed)
DECODER_BLOCK = Functionality("Transformer block with attention to another stream", decoder_block_fixed)
NEXT_TOKEN = Functionality("most likely next token", next_token_fixed, leaks_client=("the token",))
