"""Row kernels on top of the NTT: products, sums, exact base conversion, key-switch and weight accumulation.

Rows are residues of one prime each; `limbs[row]` is the prime's index in the tables of `ntt.Tables`. Where there are
more rows, `limbs` and factors by row repeat. Outputs are canonical.
"""

import numpy as np

from protocols.he import simd as v
from protocols.he.jit import kernel
from protocols.he.kernels import (
    Floats,
    Ints,
    canonical,
    forward_row,
    inverse_centred,
    inverse_row,
    mulmod,
    product,
    reduce,
)
from protocols.he.ntt import Slots

TERMS = 6  # products that `multiply_sum` adds up before one reduction: they stay below 0.75 p each


@kernel
def forward(x: Floats, limbs: Ints, roots: Floats, primes: Floats) -> None:
    """NTT of every row in place."""
    for row in range(x.shape[0]):
        limb = limbs[row % limbs.size]
        forward_row(x[row], roots[limb], primes[limb])


@kernel
def inverse(x: Floats, limbs: Ints, roots: Floats, primes: Floats) -> None:
    """Inverse NTT of every row in place."""
    for row in range(x.shape[0]):
        limb = limbs[row % limbs.size]
        inverse_row(x[row], roots[limb], primes[limb])


@kernel
def multiply(out: Floats, a: Floats, b: Floats, limbs: Ints, primes: Floats) -> None:
    """out = a * b; the rows of b repeat when there are fewer."""
    for row in range(out.shape[0]):
        modulus = primes[limbs[row % limbs.size]]
        p, p_inverse, x, y, z = v.splat(modulus), v.splat(1.0 / modulus), a[row], b[row % b.shape[0]], out[row]
        for j in range(0, z.size, 8):
            v.store(z, j, v.lift(product(v.load(x, j), v.load(y, j), p, p_inverse), p))


@kernel
def add(out: Floats, a: Floats, b: Floats, limbs: Ints, primes: Floats) -> None:
    """out = a + b; out may be a itself."""
    for row in range(out.shape[0]):
        p, x, y, z = v.splat(primes[limbs[row % limbs.size]]), a[row], b[row], out[row]
        for j in range(0, z.size, 8):
            v.store(z, j, v.lift(v.add(v.load(x, j), v.sub(v.load(y, j), p)), p))


@kernel
def hidden(out: Floats, message: Floats, noise: Ints, mask: Floats, limbs: Ints, primes: Floats) -> None:
    """out = message + noise - mask, for signed noise below every prime; mask may be out."""
    for row in range(out.shape[0]):
        modulus = primes[limbs[row]]
        x, y, z = message[row], mask[row], out[row]
        for j in range(z.size):
            value = x[j] + float(noise[j]) - y[j]
            value += modulus if value < 0.0 else 0.0
            value += modulus if value < 0.0 else 0.0
            z[j] = value - modulus if value >= modulus else value


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


@kernel
def scaled(out: Floats, a: Floats, scale: Floats, limbs: Ints, primes: Floats) -> None:
    """out = a * scale[row]; out may be a itself."""
    for row in range(out.shape[0]):
        modulus, factor = primes[limbs[row % limbs.size]], scale[row % scale.size]
        p, x, z = v.splat(modulus), a[row], out[row]
        s, s_q = v.splat(factor), v.splat(factor / modulus)
        for j in range(0, z.size, 8):
            v.store(z, j, v.lift(mulmod(v.load(x, j), s, s_q, p), p))


@kernel
def subtract_scale(out: Floats, a: Floats, b: Floats, scale: Floats, limbs: Ints, primes: Floats) -> None:
    """out = (a - b) * scale[row]."""
    for row in range(out.shape[0]):
        modulus, factor = primes[limbs[row % limbs.size]], scale[row % scale.size]
        p, x, y, z = v.splat(modulus), a[row], b[row], out[row]
        s, s_q = v.splat(factor), v.splat(factor / modulus)
        for j in range(0, z.size, 8):
            v.store(z, j, v.lift(mulmod(v.sub(v.load(x, j), v.load(y, j)), s, s_q, p), p))


@kernel
def add_scaled(a: Floats, b: Floats, scale: Floats, limbs: Ints, primes: Floats) -> None:
    """a = a + b * scale[row], in place."""
    for row in range(a.shape[0]):
        modulus = primes[limbs[row]]
        p, p_inverse, x, y = v.splat(modulus), v.splat(1.0 / modulus), a[row], b[row]
        s, s_q = v.splat(scale[row]), v.splat(scale[row] / modulus)
        for j in range(0, x.size, 8):
            v.store(x, j, canonical(v.add(v.load(x, j), mulmod(v.load(y, j), s, s_q, p)), p, p_inverse))


@kernel
def halves(even: Floats, odd: Floats, a: Floats, b: Floats, twist: Floats, limbs: Ints, primes: Floats) -> None:
    """even = a + b, odd = (a - b) * twist; the rows of twist repeat."""
    for row in range(a.shape[0]):
        modulus = primes[limbs[row % limbs.size]]
        p, p_inverse, t = v.splat(modulus), v.splat(1.0 / modulus), twist[row % twist.shape[0]]
        x, y, total, rest = a[row], b[row], even[row], odd[row]
        for j in range(0, x.size, 8):
            left, right = v.load(x, j), v.load(y, j)
            v.store(total, j, v.lift(v.add(left, v.sub(right, p)), p))
            v.store(rest, j, v.lift(product(v.sub(left, right), v.load(t, j), p, p_inverse), p))


@kernel
def _permute_row(out: Floats, x: Floats, order: Slots) -> None:
    for j in range(order.size):
        out[j] = x[order[j]]


@kernel
def _fold_row(even: Floats, odd: Floats, twist: Floats, modulus: float, gap: Floats) -> None:
    """even, gap = even + twist * odd, even - twist * odd."""
    p, p_inverse = v.splat(modulus), v.splat(1.0 / modulus)
    for j in range(0, even.size, 8):
        left, right = v.load(even, j), product(v.load(odd, j), v.load(twist, j), p, p_inverse)
        v.store(even, j, canonical(v.add(left, right), p, p_inverse))
        v.store(gap, j, canonical(v.sub(left, right), p, p_inverse))


@kernel
def fold(moved: Floats, even: Floats, odd: Floats, twist: Floats, order: Slots, limbs: Ints, primes: Floats,
         gap: Floats) -> None:
    """even, moved = even + twist * odd, (even - twist * odd) permuted by order."""
    for row in range(even.shape[0]):
        _fold_row(even[row], odd[row], twist[row], primes[limbs[row]], gap)
        _permute_row(moved[row], gap, order)


@kernel
def merge_rows(even: Floats, odd: Floats, twist: Floats, extra: Floats, order: Slots, limbs: Ints, primes: Floats,
               gap: Floats, moved: Floats) -> None:
    """even + extra + twist * odd + ((even - twist * odd) permuted by order), in place; odd without rows counts as zero.
    """
    for row in range(even.shape[0]):
        modulus = primes[limbs[row]]
        if odd.shape[0] > 0:
            _fold_row(even[row], odd[row], twist[row], modulus, gap)
            _permute_row(moved, gap, order)
        else:
            _permute_row(moved, even[row], order)
        p, p_inverse, x, y = v.splat(modulus), v.splat(1.0 / modulus), even[row], extra[row]
        for j in range(0, x.size, 8):
            total = v.add(v.add(v.load(x, j), v.load(y, j)), v.load(moved, j))
            v.store(x, j, canonical(total, p, p_inverse))


@kernel
def convert(out: Floats, x: Floats, units: Floats, target: Floats, factors: Floats, scratch: Floats) -> None:
    """Exact centred base conversion of coefficients: x mod A (A = product of a_i) to the primes b_k in target.

    units: rows a_i, 1 / a_i, (A / a_i)^-1 mod a_i and this over a_i; factors[0, k]: A / a_i mod b_k for every i, then
    -A mod b_k; factors[1]: the same over b_k. With y_i = [x_i (A / a_i)^-1]_(a_i),
    x = sum y_i A / a_i - A rint(sum y_i / a_i); only within 2^-47 of +-A/2 may the other representative of the same
    class come out. scratch holds 8 lanes per source prime.
    """
    count, target_inverse = units.shape[1], 1.0 / target
    for j in range(0, x.shape[1], 8):
        turns = v.splat(0.0)
        for i in range(count):
            y = mulmod(v.load(x[i], j), v.splat(units[2, i]), v.splat(units[3, i]), v.splat(units[0, i]))
            turns = v.add(turns, v.mul(y, v.splat(units[1, i])))
            v.store(scratch, 8 * i, y)
        turns = v.quotient(turns, v.splat(1.0))
        for k in range(target.size):
            p = v.splat(target[k])
            total = mulmod(turns, v.splat(factors[0, k, count]), v.splat(factors[1, k, count]), p)
            for i in range(count):
                y = v.load(scratch, 8 * i)
                total = v.add(total, mulmod(y, v.splat(factors[0, k, i]), v.splat(factors[1, k, i]), p))
            v.store(out[k], j, canonical(total, p, v.splat(target_inverse[k])))


@kernel
def _digit(out: Floats, parts: Floats, factors: Floats, quotients: Floats, modulus: float) -> None:
    """out = sum_i parts[i] factors[i] modulo one prime, within half a prime of zero; quotients = factors / modulus."""
    p, p_inverse = v.splat(modulus), v.splat(1.0 / modulus)
    for j in range(0, out.size, 8):
        total = v.splat(0.0)
        for i in range(factors.size):
            total = v.add(total, mulmod(v.load(parts[i], j), v.splat(factors[i]), v.splat(quotients[i]), p))
        v.store(out, j, reduce(total, p, p_inverse))


@kernel
def switch_products(out: Floats, x: Floats, key: Floats, step: int, digit_limbs: Ints, key_limbs: Ints, scale: Floats,
                    matrix: Floats, quotients: Floats, roots: Floats, inverse_roots: Floats, primes: Floats,
                    parts: Floats, rows: Floats) -> None:
    """out[c, k] = sum_d NTT(digit d of x mod p_k) * key[c, d, k]; a digit takes `step` limbs of x, the last one the
    rest.

    With A the product of the digit's primes a_i, y_i = [x_i (A / a_i)^-1]_(a_i) is centred and the digit is
    sum y_i A / a_i: a representative of x mod A of at most A / 2 for each of its primes, without the rounding that
    would find the smallest. [HanKi20] On the digit's own primes the transform is x_i itself. scale[i] =
    (A / a_i)^-1 / N mod a_i, matrix[k, i] = A / a_i mod p_k, quotients = matrix / p_k. At most eight digits: their
    products are summed before one reduction.
    """
    for i in range(digit_limbs.size):
        parts[i, :] = x[i]
        inverse_centred(parts[i], inverse_roots[digit_limbs[i]], primes[digit_limbs[i]], scale[i])
    for k in range(key_limbs.size):
        modulus = primes[key_limbs[k]]
        for d in range(rows.shape[0]):
            first, last = d * step, min(d * step + step, digit_limbs.size)
            if first <= k < last:
                rows[d, :] = x[k]
            else:
                _digit(rows[d], parts[first:last], matrix[k, first:last], quotients[k, first:last], modulus)
                forward_row(rows[d], roots[key_limbs[k]], modulus)
        p, p_inverse, out0, out1 = v.splat(modulus), v.splat(1.0 / modulus), out[0, k], out[1, k]
        for j in range(0, out0.size, 8):
            total0, total1 = v.splat(0.0), v.splat(0.0)
            for d in range(rows.shape[0]):
                a = v.load(rows[d], j)
                total0 = v.add(total0, product(a, v.load(key[0, d, k], j), p, p_inverse))
                total1 = v.add(total1, product(a, v.load(key[1, d, k], j), p, p_inverse))
            v.store(out0, j, canonical(total0, p, p_inverse))
            v.store(out1, j, canonical(total1, p, p_inverse))


@kernel
def divide(out: Floats, x: Floats, kept: Ints, dropped: Ints, limbs: Ints, units: Floats, factors: Floats,
           scale: Floats, roots: Floats, inverse_roots: Floats, primes: Floats, rest: Floats, scratch: Floats) -> None:
    """out = round(x / D) on the kept rows, D the product of the dropped primes; transformed in, transformed out.

    units, factors: conversion from the dropped to the kept primes (see `convert`); scale = 1 / D modulo the kept ones.
    """
    source, target = primes[limbs[dropped]], primes[limbs[kept]]
    for piece in range(x.shape[0]):
        for d in range(dropped.size):
            rest[d, :] = x[piece, dropped[d]]
            inverse_row(rest[d], inverse_roots[limbs[dropped[d]]], source[d])
        convert(out[piece], rest, units, target, factors, scratch)
        for k in range(kept.size):
            row, whole, p = out[piece, k], x[piece, kept[k]], v.splat(target[k])
            forward_row(row, roots[limbs[kept[k]]], target[k])
            s, s_q = v.splat(scale[k]), v.splat(scale[k] / target[k])
            for j in range(0, row.size, 8):
                v.store(row, j, v.lift(mulmod(v.sub(v.load(whole, j), v.load(row, j)), s, s_q, p), p))


@kernel
def tensor(out: Floats, a: Floats, b: Floats, limbs: Ints, primes: Floats) -> None:
    """The three components of the product of two-component operands: a0 b0, a0 b1 + a1 b0, a1 b1."""
    for k in range(limbs.size):
        modulus = primes[limbs[k]]
        p, p_inverse = v.splat(modulus), v.splat(1.0 / modulus)
        a0, a1, b0, b1, out0, out1, out2 = a[0, k], a[1, k], b[0, k], b[1, k], out[0, k], out[1, k], out[2, k]
        for j in range(0, a0.size, 8):
            x0, x1, y0, y1 = v.load(a0, j), v.load(a1, j), v.load(b0, j), v.load(b1, j)
            cross = v.add(product(x0, y1, p, p_inverse), product(x1, y0, p, p_inverse))
            v.store(out0, j, v.lift(product(x0, y0, p, p_inverse), p))
            v.store(out1, j, canonical(cross, p, p_inverse))
            v.store(out2, j, v.lift(product(x1, y1, p, p_inverse), p))


@kernel
def permute(out: Floats, x: Floats, order: Slots) -> None:
    """out[row, j] = x[row, order[j]]."""
    for row in range(x.shape[0]):
        _permute_row(out[row], x[row], order)


@kernel
def transform_rows(out: Floats, x: Floats, roots: Floats, modulus: float) -> None:
    """NTT modulo one prime of every signed row of x, below the prime in absolute value."""
    for row in range(x.shape[0]):
        out[row, :] = x[row]
        forward_row(out[row], roots, modulus)


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
def small_residues(out: Floats, x: Ints, primes: Floats) -> None:
    """out[row] = x mod primes[row], for |x| below every prime."""
    for row in range(out.shape[0]):
        modulus, target = primes[row], out[row]
        for j in range(x.size):
            value = float(x[j])
            target[j] = value + modulus if value < 0.0 else value
