"""The client's public keys as the server reads them, and the key switches that they permit."""

from typing import Self

from protocols.he.bfv import Multiplier, automorphism
from protocols.he.bits import MalformedMessage, packed_nbytes, unpack
from protocols.he.buffers import empty
from protocols.he.ntt import Floats
from protocols.he.packing import KeySet
from protocols.he.ring_q import Basis, ring_for
from protocols.he.sampling import SEED_NBYTES, uniform_residues


class MissingKey(ValueError):
    """An operation that the session's key set does not provide for."""


class PublicKeys:
    """The keys of one session: for encryptions of zero, products of ciphertexts, expansion and packing."""

    def __init__(self, keys: KeySet, encryption: Floats, relinearisation: Floats | None, expansion: dict[int, Floats],
                 packing: dict[int, Floats]) -> None:
        self.keys, self.ring = keys, ring_for(keys.params)
        self.encryption, self.relinearisation = encryption, relinearisation
        self.expansion, self.packing = expansion, packing

    @classmethod
    def from_bytes(cls, keys: KeySet, data: bytes) -> Self:
        """Read `ClientKeys.public_bytes`. Raises MalformedMessage on a wrong length or a residue out of range."""
        if len(data) != keys.nbytes:
            raise MalformedMessage(f"public keys: expected {keys.nbytes} bytes, came {len(data)}: "
                                   "the plans of the parties differ")
        ring, start = ring_for(keys.params), 0

        def row(basis: Basis) -> Floats:
            nonlocal start
            seed = data[start: start + SEED_NBYTES]
            body = start + SEED_NBYTES
            start = body + packed_nbytes(basis.bits, (ring.n,) * basis.size)
            out = empty(2, basis.size, ring.n)
            unpack(data[body: start], basis.primes, (ring.n,) * basis.size, out[0])
            uniform_residues(seed, basis, ring.n, out[1])
            return out

        def switching(basis: Basis, special: Basis) -> Floats:
            digits = len(keys.params.digits(basis.size))
            out = empty(2, digits, special.size, ring.n)
            for digit in range(digits):
                out[:, digit] = row(special)
            return out

        encryption = row(ring.q1)
        relinearisation = switching(ring.q0, ring.q0p) if keys.relinearise else None
        expansion = {element: switching(ring.q0, ring.q0p) for element in keys.expansion}
        packing = {element: switching(ring.q1, ring.q1p) for element in keys.packing}
        return cls(keys, encryption, relinearisation, expansion, packing)

    def halves(self, ciphertext: Floats, step: int, both: bool) -> tuple[Floats, Floats | None]:
        """What sits at even and, divided by X^step, at odd multiples of step, both twice; transformed."""
        ring, engine, basis = self.ring, self.ring.engine, self.ring.q0
        element = ring.n // step + 1
        if element not in self.expansion:
            raise MissingKey(f"expansion: expected a key for X -> X^{element}, came a key set without: "
                             "make the key set from the select plans too")
        moved = automorphism(ring, ciphertext, element, self.expansion[element], basis, ring.q0p)
        if not both:
            return engine.add(ciphertext, moved, basis.limbs), None
        return engine.halves(ciphertext, moved, ring.monomial(-step, basis), basis.limbs)

    def multiplier(self) -> Multiplier:
        """For products of ciphertexts. Raises MissingKey."""
        if self.relinearisation is None:
            raise MissingKey("tensor product: expected a relinearisation key, came a key set without: "
                             "make the key set from the select plans too")
        return Multiplier(self.ring, self.keys.params.ring_bits, self.relinearisation)
