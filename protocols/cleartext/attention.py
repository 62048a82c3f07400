"""Ideal functionalities of matrix products, embedding and attention, in plain numpy integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from protocols.cleartext.norms import softmax_fixed
from protocols.functionalities import Ints, wrap
from sim.functionality import Functionality


def _matrix_product(x: Ints, y: Ints, **_: Any) -> Ints:
    return np.asarray(x @ y)


def floored(products: Ints, s: int, l: int) -> Ints:
    """The floor of products mod 2^l over 2^s."""
    return wrap(products, l) >> np.int64(s)


def embedding_fixed(features: Ints, *weights: Ints, plan: Any) -> Ints:
    """weights: the table, unless it is public, and the positions."""
    *table, position = weights
    s, l = plan.params.frac_bits, plan.params.ring_bits
    state = features @ table[0].T if table else features
    return wrap((floored(state, s, l) if plan.inputs == "values" else state) + position, l)


def rotation(n: int, half: int, base: float, bits: int) -> tuple[Ints, Ints]:
    """Cosines and sines (n, half) of position * base^(-i / half), at `bits` fractional bits, rounded. [RoFormer]"""
    angles = [[position * base ** (-i / half) for i in range(half)] for position in range(n)]
    tables = ([[round(f(a) * 2.0**bits) for a in row] for row in angles] for f in (math.cos, math.sin))
    cos, sin = (np.array(table, dtype=np.int64) for table in tables)
    return cos, sin


def _heads(v: Ints, heads: int) -> Ints:
    """Columns as heads: (n, heads words) to (heads, n, words)."""
    return v.reshape(len(v), heads, -1).swapaxes(0, 1)


def _turned(v: Ints, plan: Any) -> Ints:
    """Heads (heads, n, words), pairs of words turned by their positions."""
    a, b = np.split(v, 2, axis=-1)
    cos, sin = rotation(v.shape[1], a.shape[-1], plan.rotary, plan.turn)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _attended(query: Ints, key: Ints, value: Ints, mask: Ints, merging: Ints, bias: Sequence[Ints], plan: Any) -> Ints:
    """query: (heads, n, words); key, value: (key heads, keys, words), each head repeated for its group of queries."""
    s, l = plan.params.frac_bits, plan.params.ring_bits
    key, value = (np.repeat(v, plan.heads // plan.key_heads, axis=0) for v in (key, value))
    scores = wrap(floored(query @ key.swapaxes(1, 2), s, l) + mask + sum(bias), l)
    shares = softmax_fixed(scores, s=s, l=l, allowed=plan.allowed)
    mixed = floored(shares @ value, s, l)
    return floored(mixed.swapaxes(0, 1).reshape(plan.n, -1) @ merging.T, s, l)


def attention_fixed(x: Ints, mask: Ints, stacked: Ints, merging: Ints, *bias: Ints, plan: Any) -> Ints:
    """bias: the table of a biased block."""
    s, l, turn = plan.params.frac_bits, plan.params.ring_bits, plan.turn
    query, key, value = np.split(x @ stacked.T, [plan.d, (plan.d + len(stacked)) // 2], axis=1)
    query, key, value = _heads(query, plan.heads), _heads(key, plan.key_heads), _heads(value, plan.key_heads)
    if turn:
        query, key, value = _turned(query, plan), _turned(key, plan), value << np.int64(turn)
    query, key, value = (floored(v, s + turn, l) for v in (query, key, value))
    return _attended(query, key, value, mask, merging, bias, plan)


def cross_attention_fixed(
    x: Ints, memory: Ints, mask: Ints, queries: Ints, merging: Ints, *rest: Ints, plan: Any
) -> Ints:
    """rest: the table of a biased block, and the rows of keys and values."""
    s, l = plan.params.frac_bits, plan.params.ring_bits
    *bias, remembered = rest
    query = _heads(floored(x @ queries.T, s, l), plan.heads)
    key, value = (_heads(v, plan.key_heads) for v in np.split(floored(memory @ remembered.T, s, l), 2, axis=1))
    return _attended(query, key, value, mask, merging, bias, plan)


MATRIX_PRODUCT = Functionality("matrix product", _matrix_product)
EMBEDDING = Functionality("embedding of the client's tokens", embedding_fixed)
ATTENTION = Functionality("multi-head self-attention", attention_fixed)
CROSS_ATTENTION = Functionality("multi-head attention to another stream", cross_attention_fixed)
