"""Merging of output blocks under encryption: the packing tree. [SecMoE, CDKS21]

A level doubles the outputs, the levels together multiply by 2^b; every block is multiplied by 2^-b modulo q1 first, so
that neither messages nor their noise grow. What sits beside the outputs becomes any residue: it never leaves.

Inside the tree the first component stays multiplied by the special modulus P: only the second one is decomposed at each
level, so the first is divided by P once at the end. Such a raised ciphertext is one array [limbs, N] over q1 P and then
q1, transformed. The innermost level takes blocks as they are, and scales them by 2^-b and the first component by P on
the way.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from protocols.he.buffers import empty
from protocols.he.ntt import Floats
from protocols.he.packing import Plan
from protocols.he.ring_q import Ring

Leaf = Callable[[int], list[Floats]]  # block number -> its ciphertexts at q1, one for each unit
Operands = tuple[Floats, Floats, Floats, Floats]  # rows of even and of odd, X^shift, and even's factors


class Packer:
    """The merging levels of one plan, with the client's packing keys."""

    def __init__(self, ring: Ring, plan: Plan, keys: dict[int, Floats]) -> None:
        self.ring, self.plan, self.keys = ring, plan, keys
        share = [pow(1 << plan.b, -1, p) for p in ring.q1.primes]
        self.share = np.array(share, dtype=np.float64)
        factor = [ring.special * part % p for part, p in zip(share, ring.q1.primes, strict=True)]
        self.factor, self.ones = np.array(factor, dtype=np.float64), np.ones(ring.q1p.size)

    @cached_property
    def twists(self) -> tuple[Floats, Floats]:
        """X^shift of the innermost level for both components of a block, with their factors."""
        ring, twist = self.ring, self.ring.monomial(self.plan.h << self.plan.b - 1, self.ring.q1)
        first, second = (ring.engine.scaled(twist, factor, ring.q1.limbs) for factor in (self.factor, self.share))
        return first, second

    def lowered(self, raised: Floats) -> Floats:
        """The ciphertext at q1 again."""
        split, out = self.ring.q1p.size, empty(2, self.ring.q1.size, self.ring.n)
        out[0] = self.ring.drop(raised[:split], self.ring.q1p, self.ring.q1)
        out[1] = raised[split:]
        return out

    def merge(self, level: int, even: Floats, odd: Floats | None) -> Floats:
        """(even + X^shift odd) + sigma(even - X^shift odd): sigma maps X^shift to -X^shift and fixes even's outputs.
        Raised operands, of which the even one is consumed."""
        ring, split, other = self.ring, self.ring.q1p.size, even[:0] if odd is None else odd
        twist, ones, size = ring.monomial(self.plan.h << level, ring.q1p), self.ones, ring.q1.size
        first, second = (even[:split], other[:split]), (even[split:], other[split:])
        return self._switched(level, even, (*first, twist, ones), (*second, twist[:size], ones[:size]))

    def pair(self, even: Floats, odd: Floats | None) -> Floats:
        """The same at the innermost level, of blocks: 2^-b times their ciphertexts, raised."""
        ring, other, twists = self.ring, even[:, :0] if odd is None else odd, self.twists
        first, second = (even[0], other[0], twists[0], self.factor), (even[1], other[1], twists[1], self.share)
        return self._switched(self.plan.b - 1, empty(ring.q1p.size + ring.q1.size, ring.n), first, second)

    def _switched(self, level: int, out: Floats, first: Operands, second: Operands) -> Floats:
        """One level, into `out`, from both components of even, odd and X^shift, and the factors of even."""
        ring, engine, split = self.ring, self.ring.engine, self.ring.q1p.size
        element = self.plan.packing_elements[level]
        order, limbs = ring.permutation(element), ring.q1p.limbs[: len(first[0])]
        moved = engine.fold(out[split:], *second, order, ring.q1.limbs)
        switched = ring.switch(moved, self.keys[element], ring.q1, ring.q1p)
        engine.merge_rows(out[:split], *first, switched[0], order, limbs)
        engine.add_to(out[split:], ring.drop(switched[1], ring.q1p, ring.q1), ring.q1.limbs)
        return out

    def subtree(self, level: int, leaf: int, count: int, blocks: Leaf) -> list[Floats]:
        """The merge of the leaves below a node whose leftmost one is `leaf`, raised unless it is a leaf itself; leaves
        from `count` on are absent.

        Depth first: at most one ciphertext for each level and unit is alive.
        """
        if level == self.plan.b:
            return blocks(leaf)
        even, other = self.subtree(level + 1, leaf, count, blocks), leaf + (1 << (self.plan.b - level - 1))
        return self.layer(level, even, self.subtree(level + 1, other, count, blocks) if other < count else None)

    def layer(self, level: int, even: list[Floats], odd: list[Floats] | None) -> list[Floats]:
        """One merge for each unit."""
        if odd is None:
            return [self.joined(level, a, None) for a in even]
        return [self.joined(level, a, b) for a, b in zip(even, odd, strict=True)]

    def joined(self, level: int, even: Floats, odd: Floats | None) -> Floats:
        """One merge at any level: what comes to the innermost one are blocks."""
        return self.pair(even, odd) if level == self.plan.b - 1 else self.merge(level, even, odd)
