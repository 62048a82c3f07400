"""Interchangeable engines for the row arithmetic: compiled float64 FMA kernels, the same with 52-bit integers for the
products of weights, and numpy integers as reference and fallback.

All engines return identical residues; `engine_for` compares them once per process and falls back when they differ.
"""

import functools
import platform

import llvmlite.binding
import numpy as np

from protocols.he.compiled import FmaEngine, IntegerEngine
from protocols.he.ntt import Floats, Ints, Tables
from protocols.he.operations import ConversionTables, DivisionTables, Engine, SwitchTables
from protocols.he.params import ntt_primes
from protocols.he.portable import NumpyEngine


def engines_agree(kind: type[FmaEngine] | None = None, n: int = 128) -> bool:
    """True when an engine (FmaEngine unless said) and the reference give the same residues for every operation on
    extreme and on pseudo-random rows.
    """
    primes = ntt_primes(n, (50, 50, 42))
    tables = Tables(n, primes)
    compiled, plain = (kind or FmaEngine)(tables), NumpyEngine(tables)
    limbs = np.arange(len(primes))
    top = tables.modulus[:, None] - 1.0
    ramp = np.floor(np.modf(np.arange(1, n + 1) * 0.6180339887498949)[0] * top)
    rows = [np.ascontiguousarray(np.broadcast_to(top, ramp.shape)), ramp, np.where(ramp % 2 > 0, top, 0.0)]
    return all(_same(compiled, plain, x, y, limbs) for x, y in zip(rows, rows[1:] + rows[:1], strict=True))


def _same(left: Engine, right: Engine, x: Floats, y: Floats, limbs: Ints) -> bool:
    constants = ConversionTables(left.tables.primes[:2], left.tables.primes[2:])
    rescaling = ConversionTables(left.tables.primes[:2], left.tables.primes[2:], rescale=True)
    division = DivisionTables(left.tables.primes, left.tables.primes[:2])
    key = np.stack([np.stack([x, y]), np.stack([y, x])])
    switches = [SwitchTables(left.tables.n, left.tables.primes, limbs[:2], limbs, digits)
                for digits in ([range(2)], [range(1), range(1, 2)])]
    results: list[list[Floats]] = []
    for engine in (left, right):
        forth, back, total, merged, folded = x.copy(), y.copy(), np.stack([x, y]), x.copy(), x.copy()
        alone, single, paired, factor = *np.empty((3, *x.shape)), y[:, 1].copy()
        engine.forward(forth, limbs)
        engine.inverse(back, limbs)
        order = engine.tables.automorphism(5)
        engine.merge_rows(merged, merged, y, y, np.ones(len(limbs)), back, order, limbs)
        engine.merge_rows(alone, x, y[:0], y, factor, back, order, limbs)
        engine.merge_rows(paired, x[:2], y[:2], y[:2], factor[:2], back, order, limbs[:2])
        added, raised = x.copy(), y.copy()
        engine.add_to(added, y, limbs)
        engine.add_scaled(raised, x, y[:, 0], limbs)
        polynomials, pieces = np.stack([x[:2] - y[:2]] * 3), [np.stack([total, total])] * 2
        short, small = np.zeros((3, 2, 2, 1, x.shape[-1])), [np.stack([total, total])[:, :, 2:3]] * 2
        sums = np.stack([np.stack([total] * 2)] * 3)
        engine.weight_products(sums, polynomials, pieces, limbs)
        engine.weight_products(short, np.stack([x[2:3] - y[2:3]] * 2, axis=1)[[0, 0, 0]], small, limbs[2:3])
        placed, eights = np.empty((2, 2, 2 * x.shape[-1]))
        engine.place_weights(placed, np.arange(-30, 30).reshape(3, 5, 4), 2, 4, 16)
        engine.place_weights(eights, np.arange(-640, 640).reshape(16, 5, 16)[:, 1:3], 8, 16, 128)
        results.append([
            forth, back, sums, short, placed, eights, merged, alone, paired, added, engine.multiply(x, y, limbs),
            engine.fold(folded, folded, y, y, factor, order, limbs), folded,
            engine.fold(single, x, y[:0], y, factor, order, limbs), single, engine.add(x, y, limbs),
            *engine.halves(np.stack([x, y]), np.stack([y, y]), x, limbs),
            engine.hidden(x, np.arange(x.shape[-1]) - 64, y, limbs),
            engine.hidden(y, np.full(x.shape[-1], -1), x, limbs),
            engine.scaled(np.stack([x, y]), y[:, 0], limbs), engine.convert(x[:2], rescaling),
            engine.subtract_scale(x, y, x[:, 0], limbs), raised,
            engine.tensor(np.stack([x, y]), np.stack([y, y]), limbs), engine.convert(x[:2], constants),
            engine.divide(x, limbs, division), *(engine.switch_products(x[:2], key, switch) for switch in switches)])
    return all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@functools.cache
def _fma_is_usable() -> bool:
    """Hardware FMA (software FMA is exact but slower than numpy) and a passed self-test."""
    hardware = platform.machine() in ("aarch64", "arm64") or llvmlite.binding.get_host_cpu_features().get("fma", False)
    return bool(hardware) and engines_agree()


@functools.cache
def _integers_are_usable() -> bool:
    """Instructions for 52-bit products and a passed self-test."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512ifma", False)) and engines_agree(IntegerEngine)


def engine_for(tables: Tables) -> Engine:
    """The fastest engine that is exact on this machine."""
    if not _fma_is_usable():
        return NumpyEngine(tables)
    return IntegerEngine(tables) if _integers_are_usable() else FmaEngine(tables)
