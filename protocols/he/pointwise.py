"""Row kernels on top of the NTT, slot by slot: products, sums, automorphisms and what merging makes of them.

Rows are residues of one prime each; `limbs[row]` is the prime's index in the tables of `ntt.Tables`. Where there are
more rows, `limbs` and factors by row repeat. Outputs are canonical.
"""

from protocols.he import simd as v
from protocols.he.jit import kernel
from protocols.he.kernels import Floats, Ints, canonical, forward_row, inverse_row, mulmod, product
from protocols.he.ntt import Slots


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
def _fold_row(out: Floats, even: Floats, odd: Floats, twist: Floats, scale: float, modulus: float, gap: Floats) -> None:
    """out, gap = scale * even + twist * odd, scale * even - twist * odd; out may be even."""
    p, p_inverse, s, s_q = v.splat(modulus), v.splat(1.0 / modulus), v.splat(scale), v.splat(scale / modulus)
    for j in range(0, even.size, 8):
        left = mulmod(v.load(even, j), s, s_q, p)
        right = product(v.load(odd, j), v.load(twist, j), p, p_inverse)
        v.store(out, j, canonical(v.add(left, right), p, p_inverse))
        v.store(gap, j, canonical(v.sub(left, right), p, p_inverse))


@kernel
def _scale_row(out: Floats, even: Floats, scale: float, modulus: float) -> None:
    p, s, s_q = v.splat(modulus), v.splat(scale), v.splat(scale / modulus)
    for j in range(0, even.size, 8):
        v.store(out, j, v.lift(mulmod(v.load(even, j), s, s_q, p), p))


@kernel
def fold(out: Floats, moved: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, order: Slots, limbs: Ints,
         primes: Floats, gap: Floats) -> None:
    """out, moved = scale[row] * even + twist * odd, (scale[row] * even - twist * odd) permuted by order; odd without
    rows counts as zero; out may be even."""
    for row in range(even.shape[0]):
        modulus = primes[limbs[row]]
        if odd.shape[0] > 0:
            _fold_row(out[row], even[row], odd[row], twist[row], scale[row], modulus, gap)
            _permute_row(moved[row], gap, order)
        else:
            _scale_row(out[row], even[row], scale[row], modulus)
            _permute_row(moved[row], out[row], order)


@kernel
def merge_rows(out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, extra: Floats, order: Slots,
               limbs: Ints, primes: Floats, gap: Floats, moved: Floats) -> None:
    """out = both results of `fold` and extra, added up; where even has fewer rows, the others are extra's."""
    out[even.shape[0]:] = extra[even.shape[0]:]
    for row in range(even.shape[0]):
        modulus = primes[limbs[row]]
        if odd.shape[0] > 0:
            _fold_row(out[row], even[row], odd[row], twist[row], scale[row], modulus, gap)
            _permute_row(moved, gap, order)
        else:
            _scale_row(out[row], even[row], scale[row], modulus)
            _permute_row(moved, out[row], order)
        p, p_inverse, x, y = v.splat(modulus), v.splat(1.0 / modulus), out[row], extra[row]
        for j in range(0, x.size, 8):
            total = v.add(v.add(v.load(x, j), v.load(y, j)), v.load(moved, j))
            v.store(x, j, canonical(total, p, p_inverse))


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
def small_residues(out: Floats, x: Ints, primes: Floats) -> None:
    """out[row] = x mod primes[row], for |x| below every prime."""
    for row in range(out.shape[0]):
        modulus, target = primes[row], out[row]
        for j in range(x.size):
            value = float(x[j])
            target[j] = value + modulus if value < 0.0 else value
