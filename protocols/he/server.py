"""The server's side of the homomorphic layer: absorb shares, multiply, select by the weights, pack, and answer with
circuit privacy.

Every response gets a fresh public-key encryption of zero, flooding and the mask at q1 BEFORE the switch to the fresh
response primes, and only the coefficients that carry outputs leave: the client knows the key and would read the
weights from anything less.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.he.bfv import Multiplier, Shares, encode
from protocols.he.bits import MalformedMessage, pack, unpack
from protocols.he.buffers import empty
from protocols.he.client import Draw, ShapeMismatch, check_share, placed
from protocols.he.noise import flood_target
from protocols.he.ntt import Floats
from protocols.he.packing import Layout, LinearPlan, Plan, SelectPlan
from protocols.he.public_keys import PublicKeys
from protocols.he.ring_q import Basis, Ring
from protocols.he.sampling import SEED_NBYTES, error, flooding, ternary, uniform_residues
from protocols.he.weighing import Unit, Weighing
from protocols.he.weights import Weights


@dataclass(frozen=True)
class Operand:
    """An uploaded operand with both shares in it: ciphertexts [results, 2, limbs, N] in coefficient form."""

    layout: Layout
    parts: Floats


@dataclass(frozen=True)
class Product:
    """What meets the weights: for each unit (token, or upload of a linear layer) transformed ciphertexts [chunks, 2,
    limbs, N].

    factors: in order L the rescaled x, for each unit, that the selected weights are multiplied by.
    """

    units: tuple[Floats, ...]
    factors: tuple[Floats, ...] = ()

    @property
    def pairs(self) -> list[Unit]:
        """The units with their factors."""
        return list(zip(self.units, self.factors or (None,) * len(self.units), strict=True))


@dataclass(frozen=True)
class Result:
    """Ciphertexts of one product at q1, transformed, one for each response; they must not leave without `respond`."""

    parts: tuple[Floats, ...] = field(repr=False)


def _add_share(c0: Floats, layout: Layout, ciphertext: int, share: Shares, basis: Basis) -> None:
    """Add the server's own share to the first component of an upload, in place: few coefficients are touched."""
    positions, message = placed(layout, ciphertext, share, basis)
    c0[:, positions] = (c0[:, positions] + message) % np.array(basis.primes, dtype=np.float64)[:, None]


class ServerKeys(PublicKeys):
    """The client's public keys, and everything the server does with them."""

    def absorb(self, layout: Layout, data: bytes, own_share: Shares) -> Operand:
        """Read an upload and add the server's own share to it. Raises MalformedMessage, ShapeMismatch."""
        check_share(own_share, layout.shape, "share to add")
        if len(data) != layout.nbytes:
            raise MalformedMessage(f"upload: expected {layout.nbytes} bytes, came {len(data)}: "
                                   "the peer runs another shape")
        n, basis, each = self.ring.n, self.ring.upload(layout), layout.each_nbytes
        parts = empty(layout.count, 2, basis.size, n)
        for k in range(layout.count):
            piece = data[k * each: (k + 1) * each]
            lengths, whole = (layout.sent_count,) * basis.size, layout.sent_count == n
            sent = unpack(piece[SEED_NBYTES:], basis.primes, lengths, parts[k, 0] if whole else None)
            if not whole:
                parts[k, 0] = 0.0
                parts[k, 0][:, layout.sent] = sent
            _add_share(parts[k, 0], layout, k, own_share, basis)
            uniform_residues(piece[:SEED_NBYTES], basis, n, parts[k, 1])
        return Operand(layout, self._apart(layout, parts) if layout.levels else parts)

    def _apart(self, layout: Layout, parts: Floats) -> Floats:
        """Every word alone, then those of a token together again, and the tokens of a result at their homes."""
        ring, basis, each = self.ring, self.ring.q0, len(layout.homes)
        found = np.zeros((layout.results, 2, basis.size, ring.n))
        for k, part in enumerate(parts):
            held, places = layout.held(k)[0], layout.positions(k)
            tokens = self._gathered(layout, ring.forward(part, basis), set(places.reshape(-1).tolist()))
            for token, ciphertext in tokens.items():
                result, home = divmod(held.start + token, each)
                moved = ring.engine.multiply(ciphertext, ring.monomial(layout.homes[home], basis), basis.limbs)
                found[result] = ring.engine.add(found[result], moved, basis.limbs)
        return np.stack([ring.inverse(result, basis) for result in found])

    def _gathered(self, layout: Layout, ciphertext: Floats, words: set[int], level: int = 0) -> dict[int, Floats]:
        """Token by token, the words of a node of the expansion. words: their exponents, divided by 2^level."""
        if level == layout.levels:
            return {0: ciphertext}
        ring, engine, basis, inside = self.ring, self.ring.engine, self.ring.q0, layout.period >> level
        evens, odds = ({word >> 1 for word in words if word & 1 == bit} for bit in (0, 1))
        even, odd = self.halves(ciphertext, 1 << level, bool(odds))
        found = self._gathered(layout, even, evens, level + 1)
        if odd is None:
            return found
        others = self._gathered(layout, odd, odds, level + 1)
        if inside <= 1:  # the bit tells tokens apart, not words of one
            return {2 * token: x for token, x in found.items()} | {2 * token + 1: x for token, x in others.items()}
        shift = ring.monomial((1 << level) // layout.stride, basis)
        for token, other in others.items():
            found[token] = engine.add(found[token], engine.multiply(other, shift, basis.limbs), basis.limbs)
        return found

    def _expand(self, plan: SelectPlan, ciphertext: Floats, tokens: int = 1, level: int = 0,
                index: int = 0) -> Iterator[tuple[int, Floats]]:
        """Oblivious expansion, depth first: (chunk times plan.shared plus token, transformed ciphertext) for every
        chunk in use."""
        if level == plan.expansion_levels:
            yield index, ciphertext
            return
        other = index + (1 << level)
        used = other % plan.shared < tokens and other // plan.shared < plan.chunk_count
        even, odd = self.halves(ciphertext, plan.step // plan.shared << level, used)
        yield from self._expand(plan, even, tokens, level + 1, index)
        if odd is not None:
            yield from self._expand(plan, odd, tokens, level + 1, other)

    def tensor(self, plan: SelectPlan, t: Operand, x: Operand) -> Product:
        """For each upload of the row, order R: z = t x, one ciphertext for each chunk of columns; order L: the expanded
        t, and x ready to be multiplied by.
        """
        for word, operand in (("t", t), ("x", x)):
            if operand.layout != plan.operand(word):
                raise ShapeMismatch(f"operand {word}: expected layout {plan.operand(word)}, came {operand.layout}")
        multiplier = self.multiplier()
        if plan.order == "L":
            factors = tuple(multiplier.rescaled(part) for part in x.parts)
            return Product(tuple(self._expanded(plan, part) for part in t.parts), factors)
        shares = (t.parts[low: low + plan.shared] for low in range(0, plan.units, plan.shared))
        pairs = zip(shares, x.parts, strict=True)
        return Product(tuple(unit for pair in pairs for unit in self._selected(plan, multiplier, *pair)))

    def _expanded(self, plan: SelectPlan, t: Floats) -> Floats:
        ring = self.ring
        parts = empty(plan.chunk_count, 2, ring.q0.size, ring.n)
        for index, piece in self._expand(plan, ring.forward(t, ring.q0)):
            parts[index] = piece
        return parts

    def _selected(self, plan: SelectPlan, multiplier: Multiplier, t: Floats, x: Floats) -> Floats:
        """For each selector of one upload of vectors: its product with the chunks of its own vector."""
        ring, selectors = self.ring, [multiplier.rescaled(part) for part in t]
        parts = empty(len(t), plan.chunk_count, 2, ring.q1.size, ring.n)
        if plan.expansion_levels == 0:
            parts[0, 0] = multiplier.product(multiplier.lifted(x), selectors[0])
            return parts
        for index, piece in self._expand(plan, ring.forward(x, ring.q0), len(t)):
            chunk, unit = divmod(index, plan.shared)
            lifted = multiplier.lifted(ring.inverse(piece, ring.q0))
            parts[unit, chunk] = multiplier.product(lifted, selectors[unit])
        return parts

    def linear(self, plan: LinearPlan, x: Operand) -> Product:
        """The uploads of a linear layer, transformed: a unit for all ciphertexts of the same tokens."""
        if x.layout != plan.operand("x"):
            raise ShapeMismatch(f"operand x: expected layout {plan.operand('x')}, came {x.layout}")
        ring, pieces = self.ring, x.layout.pieces
        parts = ring.forward(x.parts, ring.upload(x.layout))
        if not x.layout.switched:
            parts = np.stack([self._lowered(part, plan.lift) for part in parts])
        return Product(tuple(parts[first: first + pieces] for first in range(0, x.layout.count, pieces)))

    def _lowered(self, part: Floats, lift: int) -> Floats:
        """2^lift times a transformed ciphertext at q0, switched to q1."""
        ring = self.ring
        factor = np.array([(1 << lift) % p for p in ring.q0.primes], dtype=np.float64)
        return ring.drop(ring.engine.scaled(part, factor, ring.q0.limbs), ring.q0, ring.q1)

    def apply(self, plan: Plan, weights: Weights, products: Sequence[Product]) -> list[Result]:
        """Multiply every product by the weights and merge the output blocks. Weight polynomials are transformed once
        for all products.

        Memory: the products, plus (packing levels + 1 + BLOCKS) ciphertexts for each unit and thread, whatever the size
        of the weights.
        """
        if weights.plan != plan:
            raise ShapeMismatch(f"weights: prepared for {weights.plan}, used with {plan}")
        units = [pair for product in products for pair in product.pairs]
        weighing = Weighing(self, plan, weights, units)
        columns = [weighing.packed(first, min(plan.group, plan.blocks - first))
                   for first in range(0, plan.blocks, plan.group)]
        results, first = [], 0
        for product in products:
            last = first + len(product.units)
            groups = [slice(low, min(low + plan.together, last)) for low in range(first, last, plan.together)]
            results.append(Result(tuple(weighing.joined(column[chosen]) for chosen in groups for column in columns)))
            first = last
        return results

    def respond(self, plan: Plan, result: Result, mask: Shares, draw: Draw) -> bytes:
        """The answer: result + mask for the client, plan.response_nbytes bytes. The server's share of the product is
        -mask.
        """
        check_share(mask, plan.outputs, "mask")
        ring, words, pieces = self.ring, mask.reshape(-1), []
        places = zip(result.parts, plan.response_positions, plan.response_outputs, strict=True)
        for k, (part, positions, outputs) in enumerate(places):
            pieces.append(self.respond_one(ring, part, positions.size, positions, words[outputs], k, draw))
        return b"".join(pieces)

    def respond_one(self, ring: Ring, part: Floats, count: int, positions: NDArray[np.int64], mask: Shares, k: int,
                    draw: Draw) -> bytes:
        """The bytes of response k: of a transformed ciphertext at q1 the coefficients at `count` positions, the mask
        added, and all of the second component, randomised.
        """
        engine, q1, basis, params = ring.engine, ring.q1, ring.response, self.keys.params
        u = ring.small(ternary(draw(f"u{k}", SEED_NBYTES), ring.n), q1)
        engine.forward(u, q1.limbs)
        noisy = engine.add(part, engine.multiply(self.encryption, u, q1.limbs), q1.limbs)
        engine.inverse(noisy, q1.limbs)
        c1 = engine.add(noisy[1], ring.small(error(draw(f"e1_{k}", SEED_NBYTES), ring.n), q1), q1.limbs)
        padded = -(-count // 8) * 8
        c0 = np.zeros((q1.size, padded))
        c0[:, :count] = noisy[0][:, positions]
        for hidden in (ring.small(error(draw(f"e0_{k}", SEED_NBYTES), count), q1),
                       flooding(draw(f"flood{k}", SEED_NBYTES), count, flood_target(params), q1),
                       encode(np.ascontiguousarray(mask), params.ring_bits, q1)):
            c0[:, :count] = (c0[:, :count] + hidden) % np.array(q1.primes, dtype=np.float64)[:, None]
        low = ring.rescale(c0, q1, basis)[:, :count]
        return pack([*low, *ring.rescale(c1, q1, basis)], basis.bits * 2)
