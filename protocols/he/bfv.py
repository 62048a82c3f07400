"""BFV with a power-of-two plaintext modulus on one ring: encoding, encryption, key switching and the product.
[Brakerski12, FV12, KPZ21]

A ciphertext is float64 [2, limbs, N]: c0 + c1 s = round(q m / 2^scale) + error mod q. Switching keys are [2, digits,
limbs, N] in transformed form; digit i is the residue modulo the i-th prime, centred.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.he.buffers import empty
from protocols.he.ntt import Floats, Ints, mulmod
from protocols.he.ring_q import Basis, Ring
from protocols.he.sampling import error, ternary, uniform_residues

Shares = NDArray[np.uint64]


def encode(values: Shares, scale: int, basis: Basis) -> Floats:
    """round(q v / 2^scale) mod q for 64-bit words v, exactly, as residues [basis.size, len(values)].

    With r = (q v + 2^(scale-1)) mod 2^scale the rounded quotient is (2^(scale-1) - r) / 2^scale modulo every prime of
    q.
    """
    limbs = -(-scale // 32)
    words = [values & np.uint64(0xFFFFFFFF), values >> np.uint64(32)]
    half = 1 << (scale - 1)
    columns = [np.full(values.shape, half >> (32 * k) & 0xFFFFFFFF, dtype=np.uint64) for k in range(limbs + 1)]
    for i in range(limbs):
        part = np.uint64(basis.modulus >> (32 * i) & 0xFFFFFFFF)
        for j in range(min(2, limbs - i)):
            product = part * words[j]
            columns[i + j] += product & np.uint64(0xFFFFFFFF)
            columns[i + j + 1] += product >> np.uint64(32)
    for k in range(limbs):
        columns[k + 1] += columns[k] >> np.uint64(32)
        columns[k] &= np.uint64(0xFFFFFFFF)
    if scale % 32:
        columns[limbs - 1] &= np.uint64((1 << (scale % 32)) - 1)
    rows = []
    for p in basis.primes:
        total = np.full(values.shape, half % p, dtype=np.int64)
        for k in range(limbs):
            weight = np.full(values.shape, (1 << (32 * k)) % p, dtype=np.int64)
            total -= mulmod(columns[k].astype(np.int64) % p, weight, p)
        rows.append(mulmod(total % p, np.full(values.shape, pow(1 << scale, -1, p), dtype=np.int64), p))
    return np.stack(rows).astype(np.float64)


def decode(residues: Floats, ring_bits: int, basis: Basis) -> Shares:
    """round(2^l v / q) mod 2^l of residues [basis.size, count]; the fraction must not lie within 2^-40 of one half."""
    whole = np.zeros(residues.shape[1], dtype=np.uint64)
    fraction = np.zeros(residues.shape[1])
    for row, p in zip(residues, basis.primes, strict=True):
        unit = np.full(row.shape, pow(basis.modulus // p, -1, p), dtype=np.int64)
        rest = mulmod(row.astype(np.int64), unit, p).astype(np.uint64)
        quotient = np.zeros_like(rest)
        left = ring_bits
        while left:
            step = min(left, 63 - p.bit_length())
            rest <<= np.uint64(step)
            quotient = (quotient << np.uint64(step)) + rest // np.uint64(p)
            rest %= np.uint64(p)
            left -= step
        whole += quotient
        fraction += rest.astype(np.float64) / p
    result = whole + np.rint(fraction).astype(np.uint64)
    return result & np.uint64((1 << ring_bits) - 1)


class SecretKey:
    """The client's ternary secret s."""

    def __init__(self, ring: Ring, seed: bytes) -> None:
        self.ring = ring
        self.coefficients: Ints = ternary(seed, ring.n)

    def transformed(self, basis: Basis) -> Floats:
        """s in transformed form [basis.size, N]."""
        return self.ring.forward(self.ring.small(self.coefficients, basis), basis)

    def encrypt(self, message: Floats, a_seed: bytes, error_seed: bytes, basis: Basis) -> Floats:
        """The c0 of a fresh symmetric encryption of an encoded message [limbs, N]; c1 is the expansion of a_seed.
        Coefficients.
        """
        a = self.ring.forward(uniform_residues(a_seed, basis, self.ring.n), basis)
        masked = self.ring.inverse(self.ring.engine.multiply(a, self.transformed(basis), basis.limbs), basis)
        noisy = self.ring.engine.add(message, self.ring.small(error(error_seed, self.ring.n), basis), basis.limbs)
        return self.ring.engine.subtract_scale(noisy, masked, np.ones(basis.size), basis.limbs)

    def key_row(self, payload: Floats, a_seed: bytes, error_seed: bytes, basis: Basis) -> Floats:
        """b = payload - a s + e in transformed form, a expanded from a_seed in transformed form: one row of a public
        key.
        """
        engine = self.ring.engine
        a = uniform_residues(a_seed, basis, self.ring.n)
        noise = self.ring.forward(self.ring.small(error(error_seed, self.ring.n), basis), basis)
        masked = engine.multiply(a, self.transformed(basis), basis.limbs)
        return engine.subtract_scale(engine.add(payload, noise, basis.limbs), masked, np.ones(basis.size), basis.limbs)

    def gadget(self, source: Floats, digit: int, basis: Basis) -> Floats:
        """P times the source key (transformed, on `basis`) on the digit's own limb and zero on the others: digit i of
        a switching key.
        """
        payload = np.zeros((basis.size, self.ring.n))
        factor = np.full((1, self.ring.n), float(self.ring.special % basis.primes[digit]))
        row = np.ascontiguousarray(source[digit: digit + 1])
        payload[digit] = self.ring.engine.multiply(row, factor, basis.limbs[digit: digit + 1])[0]
        return payload

    def phase(self, ciphertext: Floats, basis: Basis) -> Floats:
        """c0 + c1 s in coefficient form, for a ciphertext in coefficient form."""
        engine = self.ring.engine
        product = engine.multiply(self.ring.forward(ciphertext[1], basis), self.transformed(basis), basis.limbs)
        return engine.add(np.ascontiguousarray(ciphertext[0]), self.ring.inverse(product, basis), basis.limbs)


def automorphism(ring: Ring, ciphertext: Floats, element: int, key: Floats, basis: Basis, special: Basis) -> Floats:
    """X -> X^element on a transformed ciphertext, with the key from sigma(s) back to s; transformed result."""
    moved = ring.engine.permute(ciphertext, ring.permutation(element))
    switched = ring.drop(ring.engine.switch_products(moved[1], key, basis.limbs, special.limbs), special, basis)
    switched[0] = ring.engine.add(moved[0], switched[0], basis.limbs)
    return switched


class Multiplier:
    """ciphertext x ciphertext with plaintext modulus 2^scale, relinearised and switched to q1.

    One operand is lifted from q0 to q0 * aux; the other is first rescaled to aux, so that dividing the product by aux
    alone restores the scale; the division is exact. [KPZ21]
    """

    def __init__(self, ring: Ring, scale: int, relinearisation: Floats) -> None:
        self.ring, self.scale, self.key = ring, scale, relinearisation
        primes = ring.params.primes
        self.joint = Basis(primes, tuple(int(k) for k in (*ring.q0.limbs, *ring.aux.limbs)))

    def lifted(self, ciphertext: Floats) -> Floats:
        """A coefficient-form ciphertext over q0 as transformed operand over q0 * aux."""
        ring = self.ring
        joint = empty(2, self.joint.size, ring.n)
        joint[:, : ring.q0.size] = ciphertext
        joint[:, ring.q0.size:] = ring.extend(ciphertext, ring.q0, ring.aux)
        ring.engine.forward(joint, self.joint.limbs)
        return joint

    def rescaled(self, ciphertext: Floats) -> Floats:
        """2^scale round(aux / q0 * ciphertext) as transformed operand over q0 * aux."""
        ring = self.ring
        joint = empty(2, self.joint.size, ring.n)
        low = ring.rescale(ciphertext, ring.q0, ring.aux)
        joint[:, ring.q0.size:] = low
        joint[:, : ring.q0.size] = ring.extend(low, ring.aux, ring.q0)
        ring.engine.forward(joint, self.joint.limbs)
        factor = np.array([(1 << self.scale) % p for p in self.joint.primes], dtype=np.float64)
        return ring.engine.subtract_scale(joint, np.zeros_like(joint), factor, self.joint.limbs)

    def product(self, lifted: Floats, rescaled: Floats) -> Floats:
        """The product at q1, two components, transformed."""
        ring, engine = self.ring, self.ring.engine
        scaled = ring.drop(engine.tensor(lifted, rescaled, self.joint.limbs), self.joint, ring.q0)
        switched = engine.switch_products(scaled[2], self.key, ring.q0.limbs, ring.q0p.limbs)
        factor = np.array([ring.special % p for p in ring.q0.primes], dtype=np.float64)
        for component in range(2):
            kept = switched[component, : ring.q0.size]
            kept[:] = engine.scale_add(scaled[component], kept, factor, ring.q0.limbs)
        return ring.drop(switched, ring.q0p, ring.q1)
