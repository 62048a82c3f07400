"""The sparse layer with a balanced capacity per expert, in plain integers. [CryptoMoE]"""

from __future__ import annotations

from typing import Any

import numpy as np

from protocols import functionalities as F
from protocols.functionalities import Ints
from sim.functionality import Functionality


def kept(hot: Ints, capacity: int) -> Ints:
    """Which choices an expert has room for, (n, k): the first `capacity` tokens that come to it. hot: (n, k, E)."""
    taken = hot.sum(1)
    before = np.cumsum(taken, axis=0) - taken
    return np.asarray(((before < capacity)[:, None, :] * hot).sum(2))


def _balanced_moe(x: Ints, residual: Ints, router: Ints, *experts: Ints, plan: Any) -> Ints:
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    logits = F.wrap(F.LINEAR.compute(x, router), l) >> np.int64(a.s)
    winners, hot = F.TOP_K.compute(logits, k=shape.k, l=l)
    p = F.PROBABILITIES.compute(logits, winners, s=a.s, l=l, renormalise=shape.renormalise)
    y = F.SELECTED_EXPERT.compute(hot, x, *experts, up=plan.router, arithmetic=a, activation=plan.activation)
    mixed = ((p * kept(hot, plan.capacity))[..., None] * y).sum(1)
    return np.asarray(F.wrap(residual + (F.wrap(mixed, l) >> np.int64(a.s)), l))


BALANCED_MOE = Functionality("sparse Mixture-of-Experts layer, balanced capacity", _balanced_moe)
