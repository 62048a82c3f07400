"""BFV with a power-of-two plaintext modulus on one ring: encoding, encryption, key switching and the product.
[Brakerski12, FV12, KPZ21, HanKi20]

A ciphertext is float64 [2, limbs, N]: c0 + c1 s = round(q m / 2^scale) + error mod q. Switching keys are [2, digits,
limbs, N] in transformed form; a digit is a small representative modulo some of the primes: see `changes`.
"""

import numpy as np
from numpy.typing import NDArray

from protocols.he.buffers import empty
from protocols.he.ntt import Floats, Ints, mulmod
from protocols.he.ring_q import Basis, Ring
from protocols.he.sampling import error, ternary, uniform_residues
from protocols.he.scalars import encode_words

Shares = NDArray[np.uint64]


def encode(values: Shares, scale: int, basis: Basis) -> Floats:
    """round(q v / 2^scale) mod q for 64-bit words v, exactly, as residues [basis.size, len(values)].

    With r = (q v + 2^(scale-1)) mod 2^scale the rounded quotient is (2^(scale-1) - r) / 2^scale modulo every prime of
    q.
    """
    limbs = -(-scale // 32)
    words = np.array([basis.modulus >> (32 * k) & 0xFFFFFFFF for k in range(limbs)], dtype=np.uint64)
    powers = np.array([[pow(2, 32 * k, p) for k in range(limbs)] for p in basis.primes], dtype=np.int64)
    inverse = np.array([pow(1 << scale, -1, p) for p in basis.primes], dtype=np.int64)
    out = np.empty((basis.size, values.size))
    encode_words(out, values, scale, words, powers, inverse, np.array(basis.primes, dtype=np.int64))
    return out


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
        self._transformed: dict[tuple[int, ...], Floats] = {}

    def transformed(self, basis: Basis) -> Floats:
        """s in transformed form [basis.size, N]."""
        if basis.primes not in self._transformed:
            self._transformed[basis.primes] = self.ring.forward(self.ring.small(self.coefficients, basis), basis)
        return self._transformed[basis.primes]

    def encrypt(self, message: Floats, a_seed: bytes, error_seed: bytes, basis: Basis) -> Floats:
        """The c0 of a fresh symmetric encryption of an encoded message [limbs, N]; c1 is the expansion of a_seed.
        Coefficients.
        """
        engine, a = self.ring.engine, uniform_residues(a_seed, basis, self.ring.n)
        engine.forward(a, basis.limbs)
        masked = engine.multiply(a, self.transformed(basis), basis.limbs)
        engine.inverse(masked, basis.limbs)
        return engine.hidden(message, error(error_seed, self.ring.n), masked, basis.limbs)

    def key_row(self, payload: Floats, a_seed: bytes, error_seed: bytes, basis: Basis) -> Floats:
        """b = payload - a s + e in transformed form, a expanded from a_seed in transformed form: one row of a public
        key.
        """
        engine = self.ring.engine
        a = uniform_residues(a_seed, basis, self.ring.n)
        noise = self.ring.small(error(error_seed, self.ring.n), basis)
        engine.forward(noise, basis.limbs)
        masked = engine.multiply(a, self.transformed(basis), basis.limbs)
        return engine.subtract_scale(engine.add(payload, noise, basis.limbs), masked, np.ones(basis.size), basis.limbs)

    def gadget(self, source: Floats, digit: range, basis: Basis) -> Floats:
        """P times the source key (transformed, on `basis`) on the digit's own limbs and zero on the others: one row of
        a switching key.
        """
        payload, own = np.zeros((basis.size, self.ring.n)), slice(digit.start, digit.stop)
        factor = np.array([self.ring.special % p for p in basis.primes[own]], dtype=np.float64)
        payload[own] = self.ring.engine.scaled(np.ascontiguousarray(source[own]), factor, basis.limbs[own])
        return payload

    def phase(self, ciphertext: Floats, basis: Basis) -> Floats:
        """c0 + c1 s in coefficient form, for a ciphertext in coefficient form."""
        engine = self.ring.engine
        product = engine.multiply(self.ring.forward(ciphertext[1], basis), self.transformed(basis), basis.limbs)
        engine.inverse(product, basis.limbs)
        return engine.add(np.ascontiguousarray(ciphertext[0]), product, basis.limbs)


def automorphism(ring: Ring, ciphertext: Floats, element: int, key: Floats, basis: Basis, special: Basis) -> Floats:
    """X -> X^element on a transformed ciphertext, with the key from sigma(s) back to s; transformed result."""
    moved = ring.engine.permute(ciphertext, ring.permutation(element))
    switched = ring.drop(ring.switch(moved[1], key, basis, special), special, basis)
    ring.engine.add_to(switched[0], moved[0], basis.limbs)
    return switched


class Multiplier:
    """ciphertext x ciphertext with plaintext modulus 2^scale, relinearised and switched to q1.

    One operand is lifted from q0 to q0 * aux; the other is first rescaled to aux, so that dividing the product by aux
    alone restores the scale; the division is exact. [KPZ21] Only the third component is divided at once, for the key
    switch; the others, as a sum with its result over q0 * aux * P, by all that leaves q1.
    """

    def __init__(self, ring: Ring, scale: int, relinearisation: Floats) -> None:
        self.ring, self.scale, self.key = ring, scale, relinearisation
        primes = ring.params.primes
        joint, special = (*ring.q0.limbs, *ring.aux.limbs), ring.q0p.limbs[ring.q0.size:]
        self.joint = Basis(primes, tuple(int(k) for k in joint))
        self.whole = Basis(primes, tuple(int(k) for k in (*joint, *special)))
        self.special = np.array([ring.special % p for p in self.joint.primes], dtype=np.float64)
        self.aux = np.array([ring.aux.modulus % p for p in ring.q0p.primes], dtype=np.float64)

    def lifted(self, ciphertext: Floats) -> Floats:
        """A coefficient-form ciphertext over q0 as transformed operand over q0 * aux."""
        ring = self.ring
        joint = empty(2, self.joint.size, ring.n)
        joint[:, : ring.q0.size] = ciphertext
        ring.extend(ciphertext, ring.q0, ring.aux, joint[:, ring.q0.size:])
        ring.engine.forward(joint, self.joint.limbs)
        return joint

    def rescaled(self, ciphertext: Floats) -> Floats:
        """2^scale round(aux / q0 * ciphertext) as transformed operand over q0 * aux."""
        ring = self.ring
        joint = empty(2, self.joint.size, ring.n)
        low = ring.rescale(ciphertext, ring.q0, ring.aux, joint[:, ring.q0.size:])
        ring.extend(low, ring.aux, ring.q0, joint[:, : ring.q0.size])
        ring.engine.forward(joint, self.joint.limbs)
        factor = np.array([(1 << self.scale) % p for p in self.joint.primes], dtype=np.float64)
        return ring.engine.scaled(joint, factor, self.joint.limbs)

    def product(self, lifted: Floats, rescaled: Floats) -> Floats:
        """The product at q1, two components, transformed."""
        ring, engine, size, joint = self.ring, self.ring.engine, self.ring.q0.size, self.joint
        tensor, sums = engine.tensor(lifted, rescaled, joint.limbs), empty(2, self.whole.size, self.ring.n)
        switched = ring.switch(ring.drop(tensor[2], joint, ring.q0), self.key, ring.q0, ring.q0p)
        for product, extra, out in zip(tensor[:2], switched, sums, strict=True):
            engine.scaled(product, self.special, joint.limbs, out[: joint.size])
            engine.add_scaled(out[:size], extra[:size], self.aux[:size], ring.q0.limbs)
            engine.scaled(extra[size:], self.aux[size:], ring.q0p.limbs[size:], out[joint.size:])
        return ring.drop(sums, self.whole, ring.q1)
