"""NTT and sums of products of weights on integers, for primes below 2^46 and processors that multiply 52-bit lanes.

Both halves of a 52-bit product are one instruction each (AVX-512 IFMA), which reads the low 52 bits of a lane alone:
values are kept modulo 2^52, and nothing is reduced between the levels of a transform, because a level adds at most 2 p.
A product with a fixed w takes its quotient from floor(2^52 w / p). [Harvey14, HEXL21]
"""

from protocols.he import simd as v
from protocols.he.jit import kernel
from protocols.he.kernels import BLOCK, canonical
from protocols.he.ntt import Floats, Ints

PRIME_BITS = 46  # a row of 2^15 ends below 34 p < 2^52, and 32 products with residues below 2^52 in their upper halves
TERMS = 32  # products that are summed before one reduction


@kernel
def _times(a: v.Vector, w: v.Vector, quotient: v.Vector, minus_p: v.Vector) -> v.Vector:
    """a * w mod p, below 2 p, modulo 2^52."""
    zero = v.integer(0)
    return v.low52(v.low52(zero, a, w), v.high52(zero, a, quotient), minus_p)


@kernel
def _radix4(x: Ints, w: Ints, q: Ints, p: int, m: int, first: int, last: int) -> None:
    quarter, minus_p, twice = x.size // (4 * m), v.integer((1 << 52) - p), v.integer(2 * p)
    for i in range(first, last):
        w1, w2, w3 = v.integer(w[m + i]), v.integer(w[2 * (m + i)]), v.integer(w[2 * (m + i) + 1])
        q1, q2, q3 = v.integer(q[m + i]), v.integer(q[2 * (m + i)]), v.integer(q[2 * (m + i) + 1])
        base = 4 * quarter * i
        for j in range(base, base + quarter, 8):
            a0, a1 = v.load(x, j), v.load(x, j + quarter)
            a2 = _times(v.load(x, j + 2 * quarter), w1, q1, minus_p)
            a3 = _times(v.load(x, j + 3 * quarter), w1, q1, minus_p)
            b0, b2 = v.plus(a0, a2), v.minus(v.plus(a0, twice), a2)
            b1 = _times(v.plus(a1, a3), w2, q2, minus_p)
            b3 = _times(v.minus(v.plus(a1, twice), a3), w3, q3, minus_p)
            v.store(x, j, v.plus(b0, b1))
            v.store(x, j + quarter, v.minus(v.plus(b0, twice), b1))
            v.store(x, j + 2 * quarter, v.plus(b2, b3))
            v.store(x, j + 3 * quarter, v.minus(v.plus(b2, twice), b3))


@kernel
def _tail(x: Ints, w: Ints, q: Ints, p: int, first: int, last: int) -> None:
    """The last three levels, as `kernels._forward_tail`."""
    head, minus_p, twice = x.size // 8, v.integer((1 << 52) - p), v.integer(2 * p)
    for group in range(first, last):
        g, k = 64 * group, head + 56 * group
        r0, r1, r2, r3 = v.load(x, g), v.load(x, g + 8), v.load(x, g + 16), v.load(x, g + 24)
        r4, r5, r6, r7 = v.load(x, g + 32), v.load(x, g + 40), v.load(x, g + 48), v.load(x, g + 56)
        a0, a1, a2, a3, a4, a5, a6, a7 = v.transposed(r0, r1, r2, r3, r4, r5, r6, r7)
        t, u = v.load(w, k), v.load(q, k)
        a4, a5 = _times(a4, t, u, minus_p), _times(a5, t, u, minus_p)
        a6, a7 = _times(a6, t, u, minus_p), _times(a7, t, u, minus_p)
        r0, r1, r2, r3 = v.plus(a0, a4), v.plus(a1, a5), v.plus(a2, a6), v.plus(a3, a7)
        r4, r5 = v.minus(v.plus(a0, twice), a4), v.minus(v.plus(a1, twice), a5)
        r6, r7 = v.minus(v.plus(a2, twice), a6), v.minus(v.plus(a3, twice), a7)
        t, u = v.load(w, k + 8), v.load(q, k + 8)
        r2, r3 = _times(r2, t, u, minus_p), _times(r3, t, u, minus_p)
        t, u = v.load(w, k + 16), v.load(q, k + 16)
        r6, r7 = _times(r6, t, u, minus_p), _times(r7, t, u, minus_p)
        a0, a1, a2, a3 = v.plus(r0, r2), v.plus(r1, r3), v.minus(v.plus(r0, twice), r2), v.minus(v.plus(r1, twice), r3)
        a4, a5, a6, a7 = v.plus(r4, r6), v.plus(r5, r7), v.minus(v.plus(r4, twice), r6), v.minus(v.plus(r5, twice), r7)
        a1 = _times(a1, v.load(w, k + 24), v.load(q, k + 24), minus_p)
        a3 = _times(a3, v.load(w, k + 32), v.load(q, k + 32), minus_p)
        a5 = _times(a5, v.load(w, k + 40), v.load(q, k + 40), minus_p)
        a7 = _times(a7, v.load(w, k + 48), v.load(q, k + 48), minus_p)
        v.store(x, g, v.plus(a0, a1))
        v.store(x, g + 8, v.minus(v.plus(a0, twice), a1))
        v.store(x, g + 16, v.plus(a2, a3))
        v.store(x, g + 24, v.minus(v.plus(a2, twice), a3))
        v.store(x, g + 32, v.plus(a4, a5))
        v.store(x, g + 40, v.minus(v.plus(a4, twice), a5))
        v.store(x, g + 48, v.plus(a6, a7))
        v.store(x, g + 56, v.minus(v.plus(a6, twice), a7))


@kernel
def _forward_row(out: Ints, x: Floats, w: Ints, q: Ints, p: int) -> None:
    n, shift, levels = x.size, v.integer(p), -3
    while n >> (levels + 3) > 1:
        levels += 1
    m = 1 + levels % 2
    if m == 2:
        minus_p, root, root_q = v.integer((1 << 52) - p), v.integer(w[1]), v.integer(q[1])
        for j in range(0, n // 2, 8):
            a = v.plus(v.to_integer(v.load(x, j)), shift)
            b = _times(v.plus(v.to_integer(v.load(x, j + n // 2)), shift), root, root_q, minus_p)
            v.store(out, j, v.plus(a, b))
            v.store(out, j + n // 2, v.minus(v.plus(a, v.plus(shift, shift)), b))
    else:
        for j in range(0, n, 8):
            v.store(out, j, v.plus(v.to_integer(v.load(x, j)), shift))
    while n // m > BLOCK and 32 * m <= n:
        _radix4(out, w, q, p, m, 0, m)
        m *= 4
    for block in range(m):
        inner, first, count = m, block, 1
        while 32 * inner <= n:
            _radix4(out, w, q, p, inner, first, first + count)
            inner, first, count = 4 * inner, 4 * first, 4 * count
        groups = n // m // 64
        _tail(out, w, q, p, block * groups, (block + 1) * groups)


@kernel
def forward_rows(out: Ints, x: Floats, w: Ints, q: Ints, p: int) -> None:
    """NTT mod p of rows of signed integers below p in absolute value: below 2^52, modulo 2^52, in the kernels' order.

    w, q: roots in [0, p) in the kernels' order and their quotients (see `ntt.Tables`).
    """
    for row in range(x.shape[0]):
        _forward_row(out[row], x[row], w, q, p)


@kernel
def _settled(total: v.Vector, low: v.Vector, high: v.Vector, p: int, w: int, q: int) -> v.Vector:
    """total + low + 2^52 high mod p, canonical, for sums of the halves of products; w = 2^52 mod p, q its quotient."""
    mask, prime = v.integer((1 << 52) - 1), v.splat(float(p))
    high = v.plus(high, v.over52(low))
    rest = v.both(_times(high, v.integer(w), v.integer(q), v.integer((1 << 52) - p)), mask)
    whole = v.add(v.to_float(v.plus(v.both(low, mask), rest)), total)
    return canonical(whole, prime, v.splat(1.0 / float(p)))


@kernel
def _settle(out: Floats, limb: int, j: int, low0: v.Vector, high0: v.Vector, low1: v.Vector, high1: v.Vector, p: int,
            w: int, q: int) -> None:
    row0, row1 = out[0, limb], out[1, limb]
    v.store(row0, j, _settled(v.load(row0, j), low0, high0, p, w, q))
    v.store(row1, j, _settled(v.load(row1, j), low1, high1, p, w, q))


@kernel
def pack_rows(packed: Ints, x: Ints, low: int, high: int) -> None:
    """Slots low .. high - 1 of x[r, i] in the order of `sum_products`: eight slots of four r, i by i, and so on for the
    next four r, then for the next eight slots. The last r need not be four."""
    terms = x.shape[1]
    step = 32 * terms * (-(-x.shape[0] // 4))
    for r in range(x.shape[0]):
        for i in range(terms):
            row, at = x[r, i], 8 * (r % 4) + 32 * (r // 4 * terms + i)
            for j in range(low, high, 8):
                v.store(packed, at, v.load(row, j))
                at += step


@kernel
def _pack_operand(packed: Ints, operand: Floats, limb: int, low: int, high: int) -> None:
    step = 16 * operand.shape[0]
    for i in range(operand.shape[0]):
        row0, row1, at = operand[i, 0, limb], operand[i, 1, limb], 16 * i
        for j in range(low, high, 8):
            v.store(packed, at, v.to_integer(v.load(row0, j)))
            v.store(packed, at + 8, v.to_integer(v.load(row1, j)))
            at += step


@kernel
def sum_products(out: Floats, x: Ints, operand: Floats, limb: int, p: int, low: int, high: int, scratch: Ints) -> None:
    """out[r, c, limb] += sum_i x[r, i] operand[i, c, limb] mod p on the slots low .. high - 1, for c = 0 and 1.

    x: `pack_rows` of rows of `forward_rows`, at most TERMS to each r. scratch: 2 words for each i and slot. Both
    operands are read in the order of memory, and each word of them four times or twice from a register.
    """
    count, terms, w, zero = out.shape[0], operand.shape[0], (1 << 52) % p, v.integer(0)
    q, at = _quotient(w, p), 0
    _pack_operand(scratch, operand, limb, low, high)
    for j in range(low, high, 8):
        for r in range(0, count, 4):
            a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
            c0, c1, c2, c3, d0, d1, d2, d3 = zero, zero, zero, zero, zero, zero, zero, zero
            other = 2 * terms * (j - low)
            for _ in range(terms):
                y, z = v.load(scratch, other), v.load(scratch, other + 8)
                k, l, m, n = v.load(x, at), v.load(x, at + 8), v.load(x, at + 16), v.load(x, at + 24)
                a0, a1, a2, a3 = v.low52(a0, k, y), v.high52(a1, k, y), v.low52(a2, k, z), v.high52(a3, k, z)
                b0, b1, b2, b3 = v.low52(b0, l, y), v.high52(b1, l, y), v.low52(b2, l, z), v.high52(b3, l, z)
                c0, c1, c2, c3 = v.low52(c0, m, y), v.high52(c1, m, y), v.low52(c2, m, z), v.high52(c3, m, z)
                d0, d1, d2, d3 = v.low52(d0, n, y), v.high52(d1, n, y), v.low52(d2, n, z), v.high52(d3, n, z)
                at += 32
                other += 16
            _settle(out[r], limb, j, a0, a1, a2, a3, p, w, q)
            if r + 1 < count:
                _settle(out[r + 1], limb, j, b0, b1, b2, b3, p, w, q)
            if r + 2 < count:
                _settle(out[r + 2], limb, j, c0, c1, c2, c3, p, w, q)
            if r + 3 < count:
                _settle(out[r + 3], limb, j, d0, d1, d2, d3, p, w, q)


@kernel
def _quotient(w: int, p: int) -> int:
    """floor(2^52 w / p) for 0 <= w < p < 2^50."""
    whole = 0
    for _ in range(4):
        w <<= 13
        whole = (whole << 13) + w // p
        w %= p
    return whole
