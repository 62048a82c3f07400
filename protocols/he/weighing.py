"""Products with the server's weights: block after block of outputs, merged into as few ciphertexts as answer."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from protocols.he.buffers import empty
from protocols.he.merging import Packer
from protocols.he.ntt import Floats
from protocols.he.packing import Chunk, Plan
from protocols.he.public_keys import PublicKeys
from protocols.he.reading import ReadPlan
from protocols.he.weights import Weights

BLOCKS, CHUNKS = 8, 24  # weight polynomials that are transformed together, of so many blocks and chunks at most
T = TypeVar("T")
Unit = tuple[Floats, Floats | None]  # operand ciphertexts, and the factor of order L


def _workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pairs(layer: Sequence[T]) -> list[tuple[T, T | None]]:
    """Neighbours; the last one alone where their number is odd."""
    return list(zip(layer[::2], [*layer[1::2], None][: len(layer[::2])], strict=True))


class Weighing:
    """The products of some units with the weights of one plan, under the client's keys."""

    def __init__(self, keys: PublicKeys, plan: Plan, weights: Weights, units: list[Unit]) -> None:
        self.keys, self.ring, self.plan, self.weights, self.units = keys, keys.ring, plan, weights, units
        self.packer = Packer(keys.ring, plan, keys.packing)

    def multiplied(self, blocks: range) -> list[list[Floats]]:
        """Blocks of outputs, for every unit: transformed ciphertexts at q1.

        Several at a time, because every unit's ciphertexts are read from memory for each time.
        """
        ring, engine, plan, units = self.ring, self.ring.engine, self.plan, self.units
        basis = ring.q0 if plan.order == "L" else ring.q1
        totals, chunks = empty(len(blocks), len(units), 2, basis.size, ring.n), plan.chunks()
        totals[...] = 0.0
        rows = self.weights.values[:, blocks.start * plan.n_out : blocks.stop * plan.n_out]
        width = -(-len(chunks) // -(-len(chunks) // CHUNKS))
        for low in range(0, len(chunks), width):
            batch = chunks[low: low + width]
            polynomials = empty(len(blocks), len(batch), ring.n)
            for block, chosen in enumerate(polynomials):
                self._place(rows[:, block * plan.n_out : (block + 1) * plan.n_out], batch, chosen)
            engine.weight_products(totals, polynomials, [unit[low: low + width] for unit, _ in units], basis.limbs)
        if plan.order != "L":
            return [list(block) for block in totals]
        multiplier = self.keys.multiplier()
        return [[multiplier.product(multiplier.lifted(ring.inverse(total, basis)), factor)
                 for total, (_, factor) in zip(block, units, strict=True) if factor is not None] for block in totals]

    def _place(self, rows: NDArray[np.signedinteger], batch: list[Chunk], out: Floats) -> None:
        """The weight polynomials of one block's rows: chunks of the same experts together."""
        plan, place, first = self.plan, self.ring.engine.place_weights, 0
        if isinstance(plan, ReadPlan):
            arranged = plan.arranged(rows)
            place(out, arranged, arranged.shape[2], plan.stride, plan.spacing)
            return
        for _, same in groupby(batch, lambda chunk: chunk.experts.start):
            chunks = list(same)
            start, width = chunks[0].columns.start, chunks[0].columns.stop - chunks[0].columns.start
            chosen = rows[chunks[0].experts, :, start: chunks[-1].columns.stop]
            place(out[first: first + len(chunks)], chosen, width, plan.stride, plan.spacing)
            first += len(chunks)

    def packed(self, start: int, count: int) -> list[Floats]:
        """`count` blocks merged into one ciphertext for each unit: subtrees on the thread pool, then the top levels.
        Where there was anything to merge, they stay raised.
        """
        plan, packer, top = self.plan, self.packer, self.plan.upload_levels
        if plan.b == 0:
            return self.multiplied(range(start, start + 1))[0]
        split = min(plan.b - top, (_workers() - 1).bit_length())
        width = 1 << (plan.b - top - split)

        def subtree(leaf: int) -> list[Floats]:
            held: dict[int, list[Floats]] = {}

            def blocks(leaf: int) -> list[Floats]:
                if leaf not in held:
                    together = range(leaf, min(leaf + BLOCKS, count, leaf // width * width + width))
                    made = self.multiplied(range(start + leaf, start + together.stop))
                    held.update(zip(together, made, strict=True))
                return held.pop(leaf)

            return packer.subtree(top + split, leaf, count, blocks)

        with ThreadPoolExecutor(1 << split, thread_name_prefix="he") as pool:
            layer = list(pool.map(subtree, range(0, count, width)))
        for level in reversed(range(top, top + split)):
            layer = [packer.layer(level, even, odd) for even, odd in _pairs(layer)]
        return layer[0]

    def joined(self, units: list[Floats]) -> Floats:
        """The packed blocks of some units in one ciphertext at q1."""
        if self.plan.b == 0:
            return units[0]
        for level in reversed(range(self.plan.upload_levels)):
            units = [self.packer.joined(level, even, odd) for even, odd in _pairs(units)]
        return self.packer.lowered(units[0])
