"""Merging of output blocks under encryption: the packing tree. [SecMoE, CDKS21]

A level doubles the outputs, the levels together multiply by 2^b; every block is multiplied by 2^-b modulo q1 first, so
that neither messages nor their noise grow. What sits beside the outputs becomes any residue: it never leaves.

Inside the tree the first component stays multiplied by the special modulus P: only the second one is decomposed at each
level, so the first is divided by P once at the end. Such a raised ciphertext is one array [limbs, N] over q1 P and then
q1, transformed.
"""

from collections.abc import Callable

import numpy as np

from protocols.he.buffers import empty
from protocols.he.ntt import Floats
from protocols.he.packing import Plan
from protocols.he.ring_q import Ring

Leaf = Callable[[int], list[Floats]]  # block number -> its ciphertexts at q1, one for each unit


class Packer:
    """The merging levels of one plan, with the client's packing keys."""

    def __init__(self, ring: Ring, plan: Plan, keys: dict[int, Floats]) -> None:
        self.ring, self.plan, self.keys = ring, plan, keys
        share = [pow(1 << plan.b, -1, p) for p in ring.q1.primes]
        self.share = np.array(share, dtype=np.float64)
        factor = [ring.special * part % p for part, p in zip(share, ring.q1.primes, strict=True)]
        self.factor = np.array(factor, dtype=np.float64)

    def raised(self, ciphertext: Floats) -> Floats:
        """2^-b times the ciphertext: P times the first component over q1 P, and the second component."""
        ring, split, size = self.ring, self.ring.q1p.size, self.ring.q1.size
        out = empty(split + size, ring.n)
        out[:size] = ring.engine.scaled(ciphertext[0], self.factor, ring.q1.limbs)
        out[size:split] = 0.0
        out[split:] = ring.engine.scaled(ciphertext[1], self.share, ring.q1.limbs)
        return out

    def lowered(self, raised: Floats) -> Floats:
        """The ciphertext at q1 again."""
        split, out = self.ring.q1p.size, empty(2, self.ring.q1.size, self.ring.n)
        out[0] = self.ring.drop(raised[:split], self.ring.q1p, self.ring.q1)
        out[1] = raised[split:]
        return out

    def merge(self, level: int, even: Floats, odd: Floats | None) -> Floats:
        """(even + X^shift odd) + sigma(even - X^shift odd): sigma maps X^shift to -X^shift and fixes even's outputs."""
        ring, engine, split, size = self.ring, self.ring.engine, self.ring.q1p.size, self.ring.q1.size
        element, twist = self.plan.packing_elements[level], ring.monomial(self.plan.h << level, ring.q1p)
        order = ring.permutation(element)
        if odd is None:
            odd, moved = even[:0], engine.permute(even[split:], order)
        else:
            moved = engine.fold(even[split:], odd[split:], twist[:size], order, ring.q1.limbs)
        switched = ring.switch(moved, self.keys[element], ring.q1, ring.q1p)
        engine.merge_rows(even[:split], odd[:split], twist, switched[0], order, ring.q1p.limbs)
        engine.add_to(even[split:], ring.drop(switched[1], ring.q1p, ring.q1), ring.q1.limbs)
        return even

    def subtree(self, level: int, leaf: int, count: int, blocks: Leaf) -> list[Floats]:
        """The raised merge of the leaves below a node whose leftmost one is `leaf`; leaves from `count` on are absent.

        Depth first: at most one ciphertext for each level and unit is alive.
        """
        if level == self.plan.b:
            return [self.raised(ciphertext) for ciphertext in blocks(leaf)]
        even, other = self.subtree(level + 1, leaf, count, blocks), leaf + (1 << (self.plan.b - level - 1))
        return self.layer(level, even, self.subtree(level + 1, other, count, blocks) if other < count else None)

    def layer(self, level: int, even: list[Floats], odd: list[Floats] | None) -> list[Floats]:
        """One merge for each unit; the even operands are consumed."""
        if odd is None:
            return [self.merge(level, a, None) for a in even]
        return [self.merge(level, a, b) for a, b in zip(even, odd, strict=True)]
