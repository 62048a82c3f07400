"""Ideal functionalities of the share-level protocols, in plain numpy integers.

Every argument is a reconstructed secret as signed int64 representatives (Z_2: 0 or 1); results are read modulo the
output ring. Nothing here imports a protocol or a kernel: this is the second opinion that tests, proofs and audits
compare with. A functionality hands each party a share of the result: the corrupted party's may be any function of its
own view, the honest party's completes it. Its leakage is empty unless stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.functionality import Functionality

Ints = NDArray[np.int64]
EXP_FLOOR = -13
EXP_SQUARINGS = 6


def wrap(v: Ints, l: int) -> Ints:
    """The signed representative modulo 2^l."""
    shift = np.int64(64 - l)
    return (v << shift) >> shift


def _reveal(x: Ints) -> Ints:
    return x


def _product(x: Ints, y: Ints, **_: Any) -> Ints:
    return x * y


def _square(x: Ints) -> Ints:
    return x * x


def _conjunctions(*inputs: Ints) -> list[Ints]:
    """Groups of (left, rights): left & each right, flattened in order."""
    return [inputs[i][..., None] & inputs[i + 1] for i in range(0, len(inputs), 2)]


def _b2a(b: Ints, **_: Any) -> Ints:
    return b


def _mux(b: Ints, x: Ints, **_: Any) -> Ints:
    return b * x


def _mux_rows(b: Ints, x: Ints, **_: Any) -> Ints:
    return b.reshape(*b.shape, *(1 for _ in x.shape[b.ndim :])) * x


def _scaled_bits(b: Ints, *, constants: Sequence[int], **_: Any) -> list[Ints]:
    return [b * np.int64(c) for c in constants]


def _shared_bit_products(bit: Ints, *words: Ints, **_: Any) -> list[Ints]:
    return [bit * x for x in words]


def _bit_products(bits: Ints, *words: Ints, **_: Any) -> list[Ints]:
    return [bit.reshape(*bit.shape, *(1,) * (x.ndim - bit.ndim)) * x for bit, x in zip(bits, words, strict=True)]


def _less_than(x: Ints, y: Ints, *, bits: int, need_equal: bool = False, **_: Any) -> Ints:
    """[y < x] (and [y = x]) of unsigned values below 2^bits: y is the sender's, x the receiver's."""
    mask = np.uint64((1 << bits) - 1)
    low, high = y.astype(np.uint64) & mask, x.astype(np.uint64) & mask
    below: Ints = (low < high).astype(np.int64)
    return np.stack([below, (low == high).astype(np.int64)]) if need_equal else below


def _drelu(x: Ints, **_: Any) -> Ints:
    return (x >= 0).astype(np.int64)


def _greater_than(x: Ints, *, thresholds: Sequence[int], **_: Any) -> Ints:
    return np.stack([(x > t).astype(np.int64) for t in thresholds])


def _relu(x: Ints, **_: Any) -> Ints:
    return np.maximum(x, 0)


def _floor_shift(x: Ints, *, f: int, **_: Any) -> Ints:
    return x >> np.int64(f)


def _rectified_floor(x: Ints, keep: Ints | None = None, *, f: int, **_: Any) -> Ints:
    y: Ints = np.maximum(x, 0) >> np.int64(f)
    return y if keep is None else keep * y


def _floor_shift_one_ulp(x_client: Ints, x_server: Ints, *, f: int, l: int = 64, **_: Any) -> Ints:
    """A function of the SHARES: the client's is offset by 2^(l-1), which leaves its low f bits alone."""
    mask = np.int64((1 << f) - 1)
    carry = ((x_client & mask) + (x_server & mask)) >> np.int64(f)
    return (wrap(x_client + x_server, l) >> np.int64(f)) - carry


def _look_up(index: Ints, table: Ints, **_: Any) -> Ints:
    where = index.astype(np.int64)[..., None, None] % table.shape[-2]
    return np.asarray(np.take_along_axis(table, where, axis=-2)[..., 0, :])


def exp_fixed(x: Ints, *, s: int, l: int, **_: Any) -> Ints:
    """exp(x) for x <= 0 at s fractional bits, as a value at guard scale F = min(s + 6, (l - 4) // 2).

    Clip at -13, (1 + u + u^2 / 2)^64 with u = x / 64, floors after every product, zero where clipped.
    """
    scale = guard_bits(s, l)
    floor = np.int64(EXP_FLOOR << s)
    inside = (x > floor).astype(np.int64)
    u = floor + inside * (x - floor)
    shift = EXP_SQUARINGS - (scale - s)
    u = u >> np.int64(shift) if shift >= 0 else u << np.int64(-shift)
    v = np.int64(1 << scale) + u + ((u * u) >> np.int64(scale + 1))
    for _round in range(EXP_SQUARINGS):
        v = (v * v) >> np.int64(scale)
    return inside * v


def guard_bits(s: int, l: int) -> int:
    """The scale at which exponentials and reciprocals are computed."""
    return min(s + EXP_SQUARINGS, (l - 4) >> 1)


def reciprocal_fixed(x: Ints, *, scale: int, spread: int, **_: Any) -> Ints:
    """1/x at `scale` fractional bits for x in [1, 2^spread] (as reals), by two Goldschmidt steps."""
    above = [(x >= np.int64(1 << (scale + i))).astype(np.int64) for i in range(1, spread + 1)]

    def descend(v: Ints) -> Ints:
        out = v << np.int64(spread)
        for i, bit in enumerate(above, start=1):
            out = out - bit * (v << np.int64(spread - i))
        return out

    c = descend(x) >> np.int64(spread + 1)
    w = reciprocal_start(scale) - 2 * c
    e = np.int64(1 << scale) - ((c * w) >> np.int64(scale))
    w = (w * (np.int64(1 << scale) + e)) >> np.int64(scale)
    e = (e * e) >> np.int64(scale)
    w = (w * (np.int64(1 << scale) + e)) >> np.int64(scale)
    return descend(w) >> np.int64(spread + 1)


def reciprocal_start(scale: int) -> int:
    """2.9142, the constant of the linear first guess 2.9142 - 2c on [1/2, 1)."""
    return round(2.9142 * 2.0**scale)


def piecewise_fixed(x: Ints, *, breakpoints: Sequence[int], rows: Sequence[Sequence[int]], s: int, l: int) -> Ints:
    """The piecewise polynomial at s fractional bits: powers floored one by one, one floor at the end."""
    powers = [np.full_like(x, 1 << s), x]
    while len(powers) < len(rows[0]):
        powers.append(wrap(powers[-1] * x, l) >> np.int64(s))
    segment = sum((wrap(x - np.int64(b + 1), l) >= 0).astype(np.int64) for b in breakpoints)
    table = np.asarray(rows, dtype=np.int64)
    total = np.zeros_like(x)
    for degree in range(len(rows[0])):
        total = total + table[segment, degree] * powers[degree]
    return wrap(total, l) >> np.int64(s)


def _piecewise(x: Ints, *, table: Any, s: int, **_: Any) -> Ints:
    breakpoints, rows = table.words(s)
    return piecewise_fixed(x, breakpoints=breakpoints, rows=rows, s=s, l=64)


def _bits_at(x: Ints, *, f: int, **_: Any) -> Ints:
    return x >> np.int64(f)


def _table(index: Ints, *, entries: Sequence[int], **_: Any) -> Ints:
    return np.asarray(entries, dtype=np.int64)[index % len(entries)]


def _looked_up(x: Ints, *, table: Any, s: int, **_: Any) -> Ints:
    size = np.abs(x)
    step = s + table.range_bits - table.index_bits
    entries = np.asarray(table.words(s), dtype=np.int64)
    far = size >> np.int64(s + table.range_bits) > 0
    entry = entries[(size >> np.int64(step)) & np.int64(len(entries) - 1)]
    return np.maximum(x, 0) - np.where(far, 0, entry)


def activation_fixed(x: Ints, activation: Any, s: int, l: int) -> Ints:
    """"relu", a piecewise polynomial, or a look-up, at s fractional bits."""
    if activation == "relu":
        return _relu(x)
    if hasattr(activation, "breakpoints"):
        breakpoints, rows = activation.words(s)
        return piecewise_fixed(x, breakpoints=breakpoints, rows=rows, s=s, l=l)
    return _looked_up(x, table=activation, s=s)


def _top_k(values: Ints, *, k: int, l: int = 64, **_: Any) -> list[Ints]:
    """k maxima of each row with their one-hot rows; ties go to the lower index."""
    rest = values.copy()
    winners, hots = [], []
    for _selection in range(k):
        index = np.argmax(rest, axis=-1)
        hot = (np.arange(values.shape[-1]) == index[..., None]).astype(np.int64)
        winners.append(np.take_along_axis(rest, index[..., None], -1)[..., 0])
        hots.append(hot)
        rest = np.where(hot == 1, np.int64(-(1 << (l - 2))), rest)
    return [np.stack(winners, axis=-1), np.stack(hots, axis=-2)]


def _probabilities(logits: Ints, winners: Ints, *, s: int, l: int, renormalise: bool, **_: Any) -> Ints:
    k = winners.shape[1]
    if k == 1 and renormalise:
        return np.full_like(winners, 1 << s)
    scale = guard_bits(s, l)
    top = winners[:, :1]
    chosen = exp_fixed(winners - top, s=s, l=l)
    total = chosen if renormalise else exp_fixed(logits - top, s=s, l=l)
    spread = max(1, int(np.ceil(np.log2(total.shape[1]))))
    inverse = reciprocal_fixed(total.sum(1), scale=scale, spread=spread)[:, None]
    if k == 1:
        return np.asarray(inverse >> np.int64(scale - s))
    return np.asarray((chosen * inverse) >> np.int64(2 * scale - s))


def _one_hot(index: Ints, *, E: int, **_: Any) -> Ints:
    """Row t has a one at the position whose binary digits are index[t, :], lowest first."""
    weights = np.int64(1) << np.arange(index.shape[-1], dtype=np.int64)
    position = (index * weights).sum(-1)
    return np.asarray(np.arange(E) == position[..., None]).astype(np.int64)


def _identity(x: Ints, **_: Any) -> Ints:
    return x


def _linear(x: Ints, weights: Ints, **_: Any) -> Ints:
    return np.asarray(x @ weights.T)


def _selected_product(t: Ints, x: Ints, weights: Ints, **_: Any) -> Ints:
    return np.stack([np.einsum("e,efd,d->f", row, weights, v) for row, v in zip(t, x, strict=True)])


def _selected_expert(t: Ints, x: Ints, w1: Ints, *rest: Ints, **public: Any) -> Ints:
    """rest: (v, w2), or (w2,) when the expert has no gate."""
    *gate, w2 = rest
    a, l = public["arithmetic"], public["up"].params.ring_bits
    n, k, E = t.shape
    rows, states = t.reshape(n * k, E), np.repeat(x, k, axis=0)

    def floor(products: Ints) -> Ints:
        return wrap(products, l) >> np.int64(a.s)

    h = floor(_selected_product(rows, states, w1))
    g = activation_fixed(h, public["activation"], a.s, l)
    for v in gate:
        g = floor(g * floor(_selected_product(rows, states, v)))
    return floor(_selected_product(rows, g, w2)).reshape(n, k, -1)


def _feed_forward(x: Ints, w1: Ints, *rest: Ints, plan: Any) -> Ints:
    """rest: (v, w2), or (w2,) when there is no gate: one expert that every token takes."""
    one = np.ones((len(x), 1, 1), np.int64)
    public = {"up": plan.up, "arithmetic": plan.arithmetic, "activation": plan.activation}
    return np.asarray(_selected_expert(one, x, w1[None], *(w[None] for w in rest), **public)[:, 0])


def _sparse_moe(x: Ints, residual: Ints, router: Ints, *experts: Ints, plan: Any) -> Ints:
    a, shape, l = plan.arithmetic, plan.shape, plan.params.ring_bits
    logits = wrap(_linear(x, router), l) >> np.int64(a.s)
    winners, hot = _top_k(logits, k=shape.k, l=l)
    p = _probabilities(logits, winners, s=a.s, l=l, renormalise=shape.renormalise)
    y = _selected_expert(hot, x, *experts, up=plan.up, arithmetic=a, activation=plan.activation)
    mixed = wrap((p[..., None] * y).sum(1), l) >> np.int64(a.s)
    return wrap(residual + mixed, l)


ENCRYPTION = Functionality("encryption of a shared vector at the server", _identity)
DECRYPTION = Functionality("shares of an encrypted vector", _identity)
LINEAR = Functionality("product with the server's matrix", _linear)
SELECTED_PRODUCT = Functionality("product with the selected matrix", _selected_product)
SELECTED_EXPERT = Functionality("the selected expert", _selected_expert)
FEED_FORWARD = Functionality("dense feed-forward unit", _feed_forward)
SPARSE_MOE = Functionality("sparse Mixture-of-Experts layer", _sparse_moe)
SPARSE_MOE_ONE_ULP = Functionality(
    "sparse Mixture-of-Experts layer, inner products rounded by the shares",
    _sparse_moe,
    leaks_client=("low bits of inner values, over repeated queries: their rounding depends on the shares",),
)
REVEAL = Functionality("reveal", _reveal, leaks_client=("the value",), leaks_server=("the value",))
REVEAL_TO_ONE = Functionality(
    "reveal to one party",
    _reveal,
    leaks_client=("the value, where it is the one",),
    leaks_server=("the value, where it is the one",),
)
PRODUCT = Functionality("product", _product)
SQUARE = Functionality("square", _square)
CONJUNCTIONS = Functionality("conjunctions", _conjunctions)
BOOLEAN_TO_ARITHMETIC = Functionality("Boolean to arithmetic", _b2a)
MULTIPLEXER = Functionality("multiplexer", _mux)
ROW_MULTIPLEXER = Functionality("multiplexer of rows", _mux_rows)
SCALED_BITS = Functionality("public multiples of a bit", _scaled_bits)
SHARED_BIT_PRODUCTS = Functionality("products of one bit", _shared_bit_products)
BIT_PRODUCTS = Functionality("products of bits", _bit_products)
LESS_THAN = Functionality("less than", _less_than)
NON_NEGATIVE = Functionality("non-negative", _drelu)
GREATER_THAN = Functionality("greater than public thresholds", _greater_than)
RELU = Functionality("ReLU", _relu)
FLOOR_SHIFT_ONE_ULP = Functionality("floor of x / 2^f, less the carry of the shares", _floor_shift_one_ulp)
LOOK_UP = Functionality("look-up in the sender's table", _look_up)
FLOOR_SHIFT = Functionality("floor of x / 2^f", _floor_shift)
RECTIFIED_FLOOR = Functionality("floor of x / 2^f where it is positive, else zero", _rectified_floor)
EXPONENTIAL = Functionality("exponential of non-positive numbers", exp_fixed)
RECIPROCAL = Functionality("reciprocal", reciprocal_fixed)
PIECEWISE = Functionality("piecewise polynomial", _piecewise)
BITS_AT = Functionality("bits of a shared word", _bits_at)
TABLE = Functionality("public table at a shared index", _table)
LOOKED_UP = Functionality("activation by look-up", _looked_up)
TOP_K = Functionality("top-k", _top_k)
PROBABILITIES = Functionality("softmax probabilities of the selected experts", _probabilities)
ONE_HOT = Functionality("one-hot of an index", _one_hot)
