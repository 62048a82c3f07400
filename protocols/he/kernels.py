"""The inner loops of the ring: NTT, pointwise products and base conversion on float64 residues, eight lanes at a
time.

A residue mod p (p < 2^50) is an integer held in a float64. The product a*w mod p is exact while |a*w/p| <= 2^51: h =
fl(a*w) and l = a*w - h (one fused multiply-add) are exact parts of the product, the integer k nearest to a * fl(w/p)
is the quotient up to a fraction, h - k*p is an integer below 2^53 and therefore one exact fused multiply-add. Results
lie within 0.75 p of zero for |a| <= 4 p and |w| <= p/2; the transforms reduce sums before they exceed 4 p. Kernels
return canonical residues in [0, p).

Transform order: the usual bit-reversed order with every group of 64 slots transposed as an 8 x 8 matrix, which saves
the last shuffles. `ntt.reference_forward` computes the same numbers the slow way. [Harvey14, HLQ16]
"""

import numpy as np
from numpy.typing import NDArray

from protocols.he import simd as v
from protocols.he.jit import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK = 4096  # elements; below this a sub-transform stays in the first-level cache


@kernel
def mulmod(a: v.Vector, w: v.Vector, w_over_p: v.Vector, p: v.Vector) -> v.Vector:
    """a * w mod p near zero, for a fixed w with its quotient factor w / p."""
    high = v.mul(a, w)
    return v.add(v.fnma(v.quotient(a, w_over_p), p, high), v.fms(a, w, high))


@kernel
def product(a: v.Vector, b: v.Vector, p: v.Vector, p_inverse: v.Vector) -> v.Vector:
    """a * b mod p near zero."""
    high = v.mul(a, b)
    return v.add(v.fnma(v.quotient(high, p_inverse), p, high), v.fms(a, b, high))


@kernel
def reduce(a: v.Vector, p: v.Vector, p_inverse: v.Vector) -> v.Vector:
    """a mod p within half a p of zero."""
    return v.fnma(v.quotient(a, p_inverse), p, a)


@kernel
def canonical(a: v.Vector, p: v.Vector, p_inverse: v.Vector) -> v.Vector:
    """a mod p in [0, p)."""
    return v.lift(reduce(a, p, p_inverse), p)


@kernel
def _forward_radix4(x: Floats, w: Floats, p: v.Vector, p_inverse: v.Vector, m: int, first: int,
                    last: int) -> None:
    quarter = x.size // (4 * m)
    for i in range(first, last):
        w1 = v.splat(w[m + i])
        w2 = v.splat(w[2 * (m + i)])
        w3 = v.splat(w[2 * (m + i) + 1])
        w1q, w2q, w3q = v.mul(w1, p_inverse), v.mul(w2, p_inverse), v.mul(w3, p_inverse)
        base = 4 * quarter * i
        for j in range(base, base + quarter, 8):
            a0 = reduce(v.load(x, j), p, p_inverse)
            a1 = v.load(x, j + quarter)
            a2 = mulmod(v.load(x, j + 2 * quarter), w1, w1q, p)
            a3 = mulmod(v.load(x, j + 3 * quarter), w1, w1q, p)
            b0, b2 = v.add(a0, a2), v.sub(a0, a2)
            b1 = mulmod(v.add(a1, a3), w2, w2q, p)
            b3 = mulmod(v.sub(a1, a3), w3, w3q, p)
            v.store(x, j, v.add(b0, b1))
            v.store(x, j + quarter, v.sub(b0, b1))
            v.store(x, j + 2 * quarter, v.add(b2, b3))
            v.store(x, j + 3 * quarter, v.sub(b2, b3))


@kernel
def _forward_tail(x: Floats, w: Floats, p: v.Vector, p_inverse: v.Vector, first: int, last: int) -> None:
    """The last three levels on groups of 64 elements: transpose 8 x 8, then butterflies between whole vectors."""
    head = x.size // 8
    for group in range(first, last):
        g, k = 64 * group, head + 56 * group
        r0, r1, r2, r3 = v.load(x, g), v.load(x, g + 8), v.load(x, g + 16), v.load(x, g + 24)
        r4, r5, r6, r7 = v.load(x, g + 32), v.load(x, g + 40), v.load(x, g + 48), v.load(x, g + 56)
        a0, a1, a2, a3, a4, a5, a6, a7 = v.transposed(r0, r1, r2, r3, r4, r5, r6, r7)
        t = v.load(w, k)
        a0, a1 = reduce(a0, p, p_inverse), reduce(a1, p, p_inverse)
        a2, a3 = reduce(a2, p, p_inverse), reduce(a3, p, p_inverse)
        a4, a5 = product(a4, t, p, p_inverse), product(a5, t, p, p_inverse)
        a6, a7 = product(a6, t, p, p_inverse), product(a7, t, p, p_inverse)
        r0, r1, r2, r3 = v.add(a0, a4), v.add(a1, a5), v.add(a2, a6), v.add(a3, a7)
        r4, r5, r6, r7 = v.sub(a0, a4), v.sub(a1, a5), v.sub(a2, a6), v.sub(a3, a7)
        t = v.load(w, k + 8)
        r2, r3 = product(r2, t, p, p_inverse), product(r3, t, p, p_inverse)
        t = v.load(w, k + 16)
        r6, r7 = product(r6, t, p, p_inverse), product(r7, t, p, p_inverse)
        a0, a1, a2, a3 = v.add(r0, r2), v.add(r1, r3), v.sub(r0, r2), v.sub(r1, r3)
        a4, a5, a6, a7 = v.add(r4, r6), v.add(r5, r7), v.sub(r4, r6), v.sub(r5, r7)
        a1 = product(a1, v.load(w, k + 24), p, p_inverse)
        a3 = product(a3, v.load(w, k + 32), p, p_inverse)
        a5 = product(a5, v.load(w, k + 40), p, p_inverse)
        a7 = product(a7, v.load(w, k + 48), p, p_inverse)
        v.store(x, g, canonical(v.add(a0, a1), p, p_inverse))
        v.store(x, g + 8, canonical(v.sub(a0, a1), p, p_inverse))
        v.store(x, g + 16, canonical(v.add(a2, a3), p, p_inverse))
        v.store(x, g + 24, canonical(v.sub(a2, a3), p, p_inverse))
        v.store(x, g + 32, canonical(v.add(a4, a5), p, p_inverse))
        v.store(x, g + 40, canonical(v.sub(a4, a5), p, p_inverse))
        v.store(x, g + 48, canonical(v.add(a6, a7), p, p_inverse))
        v.store(x, g + 56, canonical(v.sub(a6, a7), p, p_inverse))


@kernel
def forward_row(x: Floats, w: Floats, modulus: float) -> None:
    """Negacyclic NTT of one row in place: coefficients |x| <= p in, canonical values in the transform order out."""
    n = x.size
    p, p_inverse = v.splat(modulus), v.splat(1.0 / modulus)
    levels = -3
    while n >> (levels + 3) > 1:
        levels += 1
    m = 1
    if levels % 2:
        root = v.splat(w[1])
        root_q = v.mul(root, p_inverse)
        for j in range(0, n // 2, 8):
            a, b = v.load(x, j), mulmod(v.load(x, j + n // 2), root, root_q, p)
            v.store(x, j, v.add(a, b))
            v.store(x, j + n // 2, v.sub(a, b))
        m = 2
    while n // m > BLOCK and 32 * m <= n:
        _forward_radix4(x, w, p, p_inverse, m, 0, m)
        m *= 4
    for block in range(m):
        inner, first, count = m, block, 1
        while 32 * inner <= n:
            _forward_radix4(x, w, p, p_inverse, inner, first, first + count)
            inner, first, count = 4 * inner, 4 * first, 4 * count
        groups = n // m // 64
        _forward_tail(x, w, p, p_inverse, block * groups, (block + 1) * groups)


@kernel
def _inverse_radix4(x: Floats, w: Floats, p: v.Vector, p_inverse: v.Vector, m: int, first: int,
                    last: int) -> None:
    quarter = x.size // (4 * m)
    for i in range(first, last):
        w1 = v.splat(w[m + i])
        w2 = v.splat(w[2 * (m + i)])
        w3 = v.splat(w[2 * (m + i) + 1])
        w1q, w2q, w3q = v.mul(w1, p_inverse), v.mul(w2, p_inverse), v.mul(w3, p_inverse)
        base = 4 * quarter * i
        for j in range(base, base + quarter, 8):
            a0, a1 = v.load(x, j), v.load(x, j + quarter)
            a2, a3 = v.load(x, j + 2 * quarter), v.load(x, j + 3 * quarter)
            b0, b1 = v.add(a0, a1), mulmod(v.sub(a0, a1), w2, w2q, p)
            b2, b3 = v.add(a2, a3), mulmod(v.sub(a2, a3), w3, w3q, p)
            v.store(x, j, reduce(v.add(b0, b2), p, p_inverse))
            v.store(x, j + quarter, reduce(v.add(b1, b3), p, p_inverse))
            v.store(x, j + 2 * quarter, mulmod(v.sub(b0, b2), w1, w1q, p))
            v.store(x, j + 3 * quarter, mulmod(v.sub(b1, b3), w1, w1q, p))


@kernel
def _inverse_tail(x: Floats, w: Floats, p: v.Vector, p_inverse: v.Vector, first: int, last: int) -> None:
    head = x.size // 8
    for group in range(first, last):
        g, k = 64 * group, head + 56 * group
        a0, a1, a2, a3 = v.load(x, g), v.load(x, g + 8), v.load(x, g + 16), v.load(x, g + 24)
        a4, a5, a6, a7 = v.load(x, g + 32), v.load(x, g + 40), v.load(x, g + 48), v.load(x, g + 56)
        r0, r2, r4, r6 = v.add(a0, a1), v.add(a2, a3), v.add(a4, a5), v.add(a6, a7)
        r1 = product(v.sub(a0, a1), v.load(w, k + 24), p, p_inverse)
        r3 = product(v.sub(a2, a3), v.load(w, k + 32), p, p_inverse)
        r5 = product(v.sub(a4, a5), v.load(w, k + 40), p, p_inverse)
        r7 = product(v.sub(a6, a7), v.load(w, k + 48), p, p_inverse)
        t = v.load(w, k + 8)
        a0, a1 = reduce(v.add(r0, r2), p, p_inverse), v.add(r1, r3)
        a2, a3 = product(v.sub(r0, r2), t, p, p_inverse), product(v.sub(r1, r3), t, p, p_inverse)
        t = v.load(w, k + 16)
        a4, a5 = reduce(v.add(r4, r6), p, p_inverse), v.add(r5, r7)
        a6, a7 = product(v.sub(r4, r6), t, p, p_inverse), product(v.sub(r5, r7), t, p, p_inverse)
        t = v.load(w, k)
        r0, r1 = v.add(a0, a4), reduce(v.add(a1, a5), p, p_inverse)
        r2, r3 = reduce(v.add(a2, a6), p, p_inverse), reduce(v.add(a3, a7), p, p_inverse)
        r4, r5 = product(v.sub(a0, a4), t, p, p_inverse), product(v.sub(a1, a5), t, p, p_inverse)
        r6, r7 = product(v.sub(a2, a6), t, p, p_inverse), product(v.sub(a3, a7), t, p, p_inverse)
        a0, a1, a2, a3, a4, a5, a6, a7 = v.transposed(r0, r1, r2, r3, r4, r5, r6, r7)
        v.store(x, g, a0)
        v.store(x, g + 8, a1)
        v.store(x, g + 16, a2)
        v.store(x, g + 24, a3)
        v.store(x, g + 32, a4)
        v.store(x, g + 40, a5)
        v.store(x, g + 48, a6)
        v.store(x, g + 56, a7)


@kernel
def _inverse_levels(x: Floats, w: Floats, modulus: float) -> None:
    """All levels of the inverse transform, in place: N times the coefficients, near zero."""
    n = x.size
    p, p_inverse = v.splat(modulus), v.splat(1.0 / modulus)
    levels = -3
    while n >> (levels + 3) > 1:
        levels += 1
    top = 2 if levels % 2 else 1
    m = top
    while n // m > BLOCK and 32 * m <= n:
        m *= 4
    deepest = m
    while 32 * deepest <= n:
        deepest *= 4
    for block in range(m):
        groups = n // m // 64
        _inverse_tail(x, w, p, p_inverse, block * groups, (block + 1) * groups)
        inner = deepest // 4
        while inner >= m:
            _inverse_radix4(x, w, p, p_inverse, inner, block * (inner // m), (block + 1) * (inner // m))
            inner //= 4
    while m > top:
        m //= 4
        _inverse_radix4(x, w, p, p_inverse, m, 0, m)
    if top == 2:
        root = v.splat(w[1])
        root_q = v.mul(root, p_inverse)
        for j in range(0, n // 2, 8):
            a, b = v.load(x, j), v.load(x, j + n // 2)
            v.store(x, j, v.add(a, b))
            v.store(x, j + n // 2, mulmod(v.sub(a, b), root, root_q, p))


@kernel
def inverse_row(x: Floats, w: Floats, modulus: float) -> None:
    """Inverse of `forward_row` in place; w[0] holds 1/N mod p (slot 0 of the root table is free)."""
    _inverse_levels(x, w, modulus)
    p, scale, scale_q = v.splat(modulus), v.splat(w[0]), v.splat(w[0] / modulus)
    for j in range(0, x.size, 8):
        v.store(x, j, v.lift(mulmod(v.load(x, j), scale, scale_q, p), p))


@kernel
def inverse_centred(x: Floats, w: Floats, modulus: float, scale: float) -> None:
    """The same with a factor scale in place of 1/N: residues within half a p of zero."""
    _inverse_levels(x, w, modulus)
    p, p_inverse, s, s_q = v.splat(modulus), v.splat(1.0 / modulus), v.splat(scale), v.splat(scale / modulus)
    for j in range(0, x.size, 8):
        v.store(x, j, reduce(mulmod(v.load(x, j), s, s_q, p), p, p_inverse))
