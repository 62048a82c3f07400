"""Row kernels for the products of weights: placing them as polynomials, transforming these, and summing products."""

import numpy as np

from protocols.he import simd as v
from protocols.he.jit import kernel
from protocols.he.kernels import Floats, Ints, canonical, forward_row, product

TERMS = 6  # products that `multiply_sum` adds up before one reduction: they stay below 0.75 p each


@kernel
def _place_output(out: Floats, weights: Ints, o: int, width: int, stride: int, spacing: int) -> None:
    for i in range(weights.shape[0]):
        for j in range(weights.shape[2]):
            exponent = o * spacing - i - stride * (j % width)
            value = float(weights[i, o, j])
            if exponent >= 0:
                out[j // width, exponent] = value
            else:
                out[j // width, exponent + out.shape[1]] = -value


@kernel
def place_weights(out: Floats, weights: Ints, width: int, stride: int, spacing: int) -> None:
    """weights[i, o, j] at exponent o * spacing - (i + stride * (j mod width)) of out[j div width], negacyclic:
    the weight polynomials of a block."""
    out[:] = 0.0
    for o in range(weights.shape[1]):
        _place_output(out, weights, o, width, stride, spacing)


@kernel
def place_eights(out: Floats, weights: Ints, width: int, stride: int, spacing: int) -> None:
    """As `place_weights`, where experts and columns come in eights, columns lie side by side, and outputs at least
    stride * width apart: eight weights each of eight experts, whole cache lines, become neighbouring coefficients of
    eight columns."""
    columns, flat = np.arange(weights.shape[2]), out.reshape(-1)
    places = columns // width * out.shape[1] - stride * (columns % width) - 7
    out[:] = 0.0
    _place_output(out, weights, 0, width, stride, spacing)
    for o in range(1, weights.shape[1]):  # all exponents are positive
        for i in range(0, weights.shape[0], 8):
            top = o * spacing - i
            w0, w1, w2, w3 = weights[i + 7, o], weights[i + 6, o], weights[i + 5, o], weights[i + 4, o]
            w4, w5, w6, w7 = weights[i + 3, o], weights[i + 2, o], weights[i + 1, o], weights[i, o]
            for j in range(0, columns.size, 8):
                c0, c1, c2, c3, c4, c5, c6, c7 = v.transposed(
                    v.to_float(v.load(w0, j)), v.to_float(v.load(w1, j)),
                    v.to_float(v.load(w2, j)), v.to_float(v.load(w3, j)),
                    v.to_float(v.load(w4, j)), v.to_float(v.load(w5, j)),
                    v.to_float(v.load(w6, j)), v.to_float(v.load(w7, j)))
                v.store(flat, top + places[j], c0)
                v.store(flat, top + places[j + 1], c1)
                v.store(flat, top + places[j + 2], c2)
                v.store(flat, top + places[j + 3], c3)
                v.store(flat, top + places[j + 4], c4)
                v.store(flat, top + places[j + 5], c5)
                v.store(flat, top + places[j + 6], c6)
                v.store(flat, top + places[j + 7], c7)


@kernel
def transform_rows(out: Floats, x: Floats, roots: Floats, modulus: float) -> None:
    """NTT modulo one prime of every signed row of x, below the prime in absolute value."""
    for row in range(x.shape[0]):
        out[row, :] = x[row]
        forward_row(out[row], roots, modulus)


@kernel
def multiply_sum(out: Floats, a: Floats, b: Floats, limb: int, modulus: float) -> None:
    """out[c, limb] = out[c, limb] + sum_i a[i, c, limb] * b[i] over at most six terms, with one reduction."""
    p, p_inverse = v.splat(modulus), v.splat(1.0 / modulus)
    for c in range(out.shape[0]):
        row = out[c, limb]
        for j in range(0, row.size, 8):
            total = v.load(row, j)
            for i in range(a.shape[0]):
                total = v.add(total, product(v.load(a[i, c, limb], j), v.load(b[i], j), p, p_inverse))
            v.store(row, j, canonical(total, p, p_inverse))
