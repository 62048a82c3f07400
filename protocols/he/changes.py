"""Row kernels that change the modulus: exact base conversion, exact division, and key switches.

Rows are as in `pointwise`. Outputs are canonical.
"""

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
