"""The ideal functionality of a whole encoder, in plain numpy; see `protocols.functionalities`."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols.cleartext.attention import attention_fixed, embedding_fixed, floored
from protocols.cleartext.norms import ARGMAX, layer_norm_fixed
from protocols.functionalities import SPARSE_MOE, Ints, wrap
from sim.functionality import Functionality


def encoder_fixed(features: Ints, mask: Ints, pooling: Ints, *weights: Ints, plan: Any) -> Ints:
    """weights: table (unless public), positions; per block shift, stacked, merging, shift, router and experts; head,
    bias. The logits, or the Boolean digits of the class."""
    s, l, gated = plan.params.frac_bits, plan.params.ring_bits, plan.shape.gated
    first = 1 + len(plan.embedding.plans)
    stream = embedding_fixed(features, *weights[:first], plan=plan.embedding)
    rest = list(weights[first:])

    def norm(x: Ints) -> Ints:
        return layer_norm_fixed(x, s=s, reach=plan.reach, eps=plan.epsilon)

    for _ in range(plan.layers):
        shift1, stacked, merging, shift2, router, *experts = (rest.pop(0) for _ in range(8 if gated else 7))
        x = wrap(norm(stream) + shift1, l)
        stream = wrap(stream + attention_fixed(x, mask, stacked, merging, plan=plan.attention), l)
        x = wrap(norm(stream) + shift2, l)
        stream = SPARSE_MOE.compute(x, stream, router, *experts, plan=plan.layer)
    head, bias = rest
    pooled = floored(pooling[None] @ norm(stream), s, l)
    logits = wrap(floored(pooled @ head.T, s, l) + bias, l)
    return np.asarray(logits if plan.answer == "logits" else ARGMAX.compute(logits))


ENCODER = Functionality("Mixture-of-Experts encoder", encoder_fixed, leaks_client=("the answer",))
