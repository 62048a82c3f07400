"""Nanoseconds of the kernels of the homomorphic layer, each measured alone on its own operands.

Kernels are those of `protocols.he.work`. Operands are drawn fresh and take turns, so that a kernel finds them where a
real product has them: beyond the cache.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np

from protocols.he.buffers import empty
from protocols.he.client import ClientKeys
from protocols.he.merging import Packer
from protocols.he.noise import has_room
from protocols.he.ntt import Floats
from protocols.he.packing import LinearPlan, Plan, SelectPlan, key_set
from protocols.he.params import ParamSet
from protocols.he.ring_q import Basis, Ring
from protocols.he.selection import selection
from protocols.he.server import ServerKeys
from protocols.he.weighing import BLOCKS, CHUNKS

Rates = dict[str, float]
TURNS = 8  # operands that take turns
FEW, MANY = 8, 4096  # outputs of a response
UNITS = 2


def measured(call: Callable[[], object], repeats: int) -> float:
    """Median CPU nanoseconds of a call, after one that is not counted."""
    call()
    spent = []
    for _ in range(repeats):
        start = time.process_time_ns()
        call()
        spent.append(time.process_time_ns() - start)
    return float(statistics.median(spent))


def kernel_rates(params: ParamSet, repeats: int) -> Rates:
    """Nanoseconds of every kernel that a set has use for, by the names of `protocols.he.work`: of so many calls the
    median."""
    return {f"{params.name} {kernel}": rate for kernel, rate in _Bench(params, repeats).rates()}


class _Bench:
    """Keys of one session and operands of the set's sizes."""

    def __init__(self, params: ParamSet, repeats: int) -> None:
        self.measured = partial(measured, repeats=repeats)
        self.params, self.rng = params, np.random.Generator(np.random.SFC64(7))
        wide = params.galois
        self.select: SelectPlan = selection(params, "R", 8, *((512, 1024) if wide else (64, 64)), 1)
        self.linear = LinearPlan(params, 1, 64, 64)
        self.selects = has_room(params)
        self.merged: Plan = self.select if self.selects else LinearPlan(params, 1, 512, 1024)
        keys = key_set(params, [self.merged, self.linear])
        self.client = ClientKeys.generate(keys, lambda _, n: os.urandom(n))
        self.server = ServerKeys.from_bytes(keys, self.client.public_bytes)
        self.ring: Ring = self.server.ring

    def random(self, basis: Basis, *shape: int) -> Floats:
        """Residues [*shape, limbs, N]."""
        primes = np.array(basis.primes, dtype=np.float64)[:, None]
        return np.floor(self.rng.random((*shape, basis.size, self.ring.n)) * primes)

    def rates(self) -> Iterator[tuple[str, float]]:
        yield from self._uploads()
        yield from self._weights("", self.ring.q1)
        if self.selects:
            yield from self._tensor()
            yield from self._weights(" wide", self.ring.q0)
        if self.merged.b:
            yield from self._packing()
        yield from self._responses()

    def _uploads(self) -> Iterator[tuple[str, float]]:
        ring = self.ring
        layouts = {"": self.linear.operand("x")} | ({" wide": self.select.operand("x")} if self.selects else {})
        for suffix, layout in layouts.items():
            share = self.rng.integers(0, 2**64, layout.shape, dtype=np.uint64)
            encrypt = partial(self.client.encrypt, layout, share, lambda _, n: os.urandom(n))
            yield f"encrypt{suffix}", self.measured(encrypt)
            yield f"absorb{suffix}", self.measured(partial(self.server.absorb, layout, encrypt(), share))
        parts = cycle(self.random(ring.q0, TURNS, 2))
        yield "transform", self.measured(lambda: ring.forward(next(parts), ring.q0)) / (2 * ring.q0.size)

    def _tensor(self) -> Iterator[tuple[str, float]]:
        parts, multiplier = cycle(self.random(self.ring.q0, TURNS, 2)), self.server.multiplier()
        yield "rescale", self.measured(lambda: multiplier.rescaled(next(parts)))
        yield "lift", self.measured(lambda: multiplier.lifted(next(parts)))
        lifted, factor = cycle([multiplier.lifted(next(parts)) for _ in range(3)]), multiplier.rescaled(next(parts))
        yield "product", self.measured(lambda: multiplier.product(next(lifted), factor))
        if self.select.a:
            yield "expand", self.measured(lambda: self.server.halves(next(parts), self.select.step, True))

    def _weights(self, suffix: str, basis: Basis) -> Iterator[tuple[str, float]]:
        engine, plan = self.ring.engine, self.select
        polynomials, width = empty(BLOCKS, CHUNKS, self.ring.n), min(plan.chunk, plan.d)
        shape = (plan.experts, min(plan.n_out, plan.f), min(CHUNKS, plan.chunk_count) * width)
        values = self.rng.integers(-(1 << 18), 1 << 18, (TURNS, *shape))
        turns, one = cycle(values), np.ones((1, 1, 1), np.int64)

        def place(weights: np.ndarray) -> None:
            engine.place_weights(polynomials[0], weights, width, plan.stride, plan.spacing)

        def transform(units: int) -> None:
            totals = np.zeros((BLOCKS, units, 2, basis.size, self.ring.n))
            engine.weight_products(totals, polynomials, operands[:units], basis.limbs)

        operands = [self.random(basis, CHUNKS, 2) for _ in range(UNITS)]
        empty_place = self.measured(lambda: place(one))
        full = self.measured(lambda: place(next(turns)))
        alone, several = self.measured(lambda: transform(0)), self.measured(lambda: transform(UNITS))
        if not suffix:
            yield "weight", max(full - empty_place, 0.0) / values[0].size
        yield f"polynomial{suffix}", empty_place / CHUNKS + alone / (BLOCKS * CHUNKS)
        yield f"multiply{suffix}", (several - alone) / (UNITS * BLOCKS * CHUNKS)

    def _packing(self) -> Iterator[tuple[str, float]]:
        packer = Packer(self.ring, self.merged, self.server.packing)
        ciphertexts = cycle(self.random(self.ring.q1, TURNS, 2))
        yield "pair", self.measured(lambda: packer.pair(next(ciphertexts), next(ciphertexts)))
        raised = cycle([packer.pair(next(ciphertexts), next(ciphertexts)) for _ in range(TURNS)])
        levels = cycle(range(self.merged.b))  # each has a key of its own, which takes its turn as operands do
        yield "merge", self.measured(lambda: packer.merge(next(levels), next(raised), next(raised)))
        yield "lower", self.measured(lambda: packer.lowered(next(raised)))

    def _responses(self) -> Iterator[tuple[str, float]]:
        ring, part = self.ring, self.random(self.ring.q1, 2)
        masks = self.rng.integers(0, 2**64, MANY, dtype=np.uint64)

        def respond(count: int) -> bytes:
            places = np.arange(count)
            return self.server.respond_one(ring, part, count, places, masks[:count], 0, lambda _, n: os.urandom(n))

        few, many = self.measured(lambda: respond(FEW)), self.measured(lambda: respond(MANY))
        each = max(many - few, 0.0) / (MANY - FEW)
        yield "output", each
        yield "respond", max(few - FEW * each, 0.0)
        data = os.urandom(0)
        places = self.linear.response_positions[0]
        words = np.zeros(places.size, np.uint64)
        data = self.server.respond_one(ring, part, places.size, places, words, 0, lambda _, n: os.urandom(n))
        yield "decrypt", self.measured(lambda: self.client.decrypt(self.linear, data))
