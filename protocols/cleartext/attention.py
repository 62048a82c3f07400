"""Ideal functionalities of matrix products, embedding and attention, in plain numpy integers."""

from __future__ import annotations

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


def attention_fixed(x: Ints, mask: Ints, stacked: Ints, merging: Ints, *bias: Ints, plan: Any) -> Ints:
    """bias: the table of a biased block."""
    s, l, n, heads = plan.params.frac_bits, plan.params.ring_bits, plan.n, plan.heads
    parts = floored(x @ stacked.T, s, l).reshape(n, 3, heads, -1).transpose(1, 2, 0, 3)
    query, key, value = parts
    scores = wrap(floored(query @ key.swapaxes(1, 2), s, l) + mask + sum(bias), l)
    shares = softmax_fixed(scores, s=s, l=l, allowed=plan.allowed)
    mixed = floored(shares @ value, s, l)
    return floored(mixed.transpose(1, 0, 2).reshape(n, -1) @ merging.T, s, l)


MATRIX_PRODUCT = Functionality("matrix product", _matrix_product)
EMBEDDING = Functionality("embedding of the client's tokens", embedding_fixed)
ATTENTION = Functionality("multi-head self-attention", attention_fixed)
