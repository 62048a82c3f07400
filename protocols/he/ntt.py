"""Root tables of the negacyclic NTT and its slow, obvious version in numpy integers."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Slots = NDArray[np.uint32]


def mulmod(a: Ints, b: Ints, p: int | Ints) -> Ints:
    """a * b mod p for 0 <= a, b < p < 2^50, exactly, in wrapping 64-bit integers: the quotient estimate is off by one
    at most.
    """
    quotient = (a.astype(np.float64) * b.astype(np.float64) / np.asarray(p, dtype=np.float64)).astype(np.int64)
    rest = a * b - quotient * p
    rest = np.where(rest < 0, rest + p, rest)
    return np.where(rest >= p, rest - p, rest)


def bit_reverse(n: int) -> Ints:
    """Bit reversal of 0 .. n-1, n a power of two."""
    order = np.zeros(1, dtype=np.int64)
    while order.size < n:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def primitive_root(n: int, p: int) -> int:
    """The primitive 2n-th root of unity mod p that comes first: a reproducible choice."""
    for base in range(2, p):
        root = pow(base, (p - 1) // (2 * n), p)
        if pow(root, n, p) == p - 1:
            return root
    raise ValueError(f"no primitive {2 * n}-th root of unity mod {p}: the modulus must be a prime = 1 mod {2 * n}")


def _powers(base: int, n: int, p: int) -> Ints:
    powers = np.ones(1, dtype=np.int64)
    while powers.size < n:
        step = np.full(1, pow(base, powers.size, p), dtype=np.int64)
        powers = np.concatenate([powers, mulmod(powers, step, p)])
    return powers


def transpose_groups(x: NDArray[np.generic]) -> NDArray[np.generic]:
    """Every group of 64 entries of the last axis as an 8 x 8 matrix, transposed: the kernels' slot order and back."""
    return x.reshape(*x.shape[:-1], -1, 8, 8).swapaxes(-1, -2).reshape(x.shape)


def _layout(table: Ints, p: int) -> Floats:
    """The bit-reversed root table in the kernels' order: balanced; the last three levels as vectors of eight blocks."""
    n = table.size
    tail = [table[n // 8: n // 4].reshape(-1, 1, 8), table[n // 4: n // 2].reshape(-1, 8, 2).swapaxes(1, 2),
            table[n // 2:].reshape(-1, 8, 4).swapaxes(1, 2)]
    flat = np.concatenate([table[: n // 8], np.concatenate(tail, axis=1).reshape(-1)])
    return np.where(flat > p // 2, flat - p, flat).astype(np.float64)


class Tables:
    """Roots of unity for several primes at one ring degree; row k of each array belongs to primes[k].

    roots, inverse_roots: float64 [primes, n] in kernel order; slot 0 of the inverse holds 1/n.
    plain, inverse_plain: int64 [primes, n] in bit-reversed order, for the reference.
    """

    def __init__(self, n: int, primes: tuple[int, ...]) -> None:
        self.n, self.primes = n, primes
        self.modulus = np.array(primes, dtype=np.float64)
        order = bit_reverse(n)
        self.plain = np.stack([_powers(primitive_root(n, p), n, p)[order] for p in primes])
        self.inverse_plain = np.stack([_powers(pow(primitive_root(n, p), -1, p), n, p)[order] for p in primes])
        self.roots = np.stack([_layout(row, p) for row, p in zip(self.plain, primes, strict=True)])
        self.inverse_roots = np.stack([_layout(row, p) for row, p in zip(self.inverse_plain, primes, strict=True)])
        self.inverse_roots[:, 0] = [pow(n, -1, p) for p in primes]

    @cached_property
    def words(self) -> Ints:
        """Roots in [0, p), and floor(2^52 root / p), in kernel order: int64 [2, primes, n]."""
        primes = np.array(self.primes)[:, None]
        roots = np.where(self.roots < 0, self.roots + primes, self.roots).astype(np.int64)
        quotients, rest = np.zeros_like(roots), roots
        for _ in range(4):  # thirteen bits at a time stay below 2^63
            rest = rest << 13
            quotients, rest = (quotients << 13) + rest // primes, rest % primes
        return np.stack([roots, quotients])

    @cached_property
    def exponents(self) -> Ints:
        """Slot k of a transformed row holds the value at psi^exponents[k]."""
        return np.asarray(transpose_groups(2 * bit_reverse(self.n) + 1), dtype=np.int64)

    def automorphism(self, element: int) -> Slots:
        """Slot permutation of X -> X^element in transformed form: sigma(x)[k] = x[automorphism[k]]."""
        where = np.empty(2 * self.n, dtype=np.uint32)
        where[self.exponents] = np.arange(self.n)
        return where[self.exponents * element % (2 * self.n)]


def reference_forward(x: Ints, table: Ints, p: int) -> Ints:
    """Negacyclic NTT of canonical coefficients [..., n] by textbook butterflies (table: `Tables.plain`); kernel slot
    order.
    """
    n, y, m = x.shape[-1], x % p, 1
    while m < n:
        blocks = y.reshape(*x.shape[:-1], m, 2, n // (2 * m))
        twisted = mulmod(blocks[..., 1, :], np.broadcast_to(table[m: 2 * m, None], blocks[..., 1, :].shape), p)
        y = np.stack([(blocks[..., 0, :] + twisted) % p, (blocks[..., 0, :] - twisted) % p], axis=-2)
        m *= 2
    return np.asarray(transpose_groups(y.reshape(x.shape)), dtype=np.int64)


def reference_inverse(x: Ints, table: Ints, p: int) -> Ints:
    """Inverse of `reference_forward` (table: `Tables.inverse_plain`)."""
    n, m = x.shape[-1], x.shape[-1] // 2
    y = np.asarray(transpose_groups(x), dtype=np.int64)
    while m:
        blocks = y.reshape(*x.shape[:-1], m, 2, n // (2 * m))
        low = (blocks[..., 0, :] + blocks[..., 1, :]) % p
        gap = (blocks[..., 0, :] - blocks[..., 1, :]) % p
        y = np.stack([low, mulmod(gap, np.broadcast_to(table[m: 2 * m, None], gap.shape), p)], axis=-2)
        m //= 2
    return mulmod(y.reshape(x.shape), np.full(x.shape, pow(n, -1, p), dtype=np.int64), p)
