"""Interchangeable engines for the row arithmetic: compiled float64 FMA kernels, the same with 52-bit integers for the
products of weights, and numpy integers as reference and fallback.

Arrays are float64 [..., limbs, n] with canonical residues; `limbs` names the prime of each of the last-but-one axis's
rows. All engines return identical residues; `engine_for` compares them once per process and falls back when they
differ.
"""

import functools
import math
import platform
from collections.abc import Sequence
from typing import Protocol

import llvmlite.binding
import numpy as np
from numpy.typing import NDArray

from protocols.he import integers, pointwise
from protocols.he.buffers import empty
from protocols.he.ntt import Floats, Ints, Slots, Tables, mulmod, reference_forward, reference_inverse
from protocols.he.params import ntt_primes

Weights = NDArray[np.signedinteger]
_CACHED = 1 << 17  # words of transformed weights that stay in the second-level cache while units take turns


class ConversionTables:
    """Constants of the exact base conversion from one set of primes to another (see `pointwise.convert`).

    rescale: of round(target / source * x) instead. target * x = source * y + [target * x]_source, and target vanishes
    modulo its own primes: y is the conversion of target * x, times -1 / source.
    """

    def __init__(self, source: tuple[int, ...], target: tuple[int, ...], rescale: bool = False) -> None:
        self.target = np.array(target, dtype=np.float64)
        modulus, before = math.prod(source), math.prod(target) if rescale else 1
        after = [-pow(modulus, -1, b) if rescale else 1 for b in target]
        columns = [(a, 1 / a, unit := pow(modulus // a, -1, a) * before % a, unit / a) for a in source]
        self.units = np.array(columns, dtype=np.float64).T.copy()
        rows = [[*(modulus // a * c % b for a in source), -modulus * c % b] for b, c in zip(target, after, strict=True)]
        matrix = np.array(rows, dtype=np.float64)
        self.factors = np.stack([matrix, matrix / self.target[:, None]])


class DivisionTables:
    """Constants of the exact division by the product of the dropped primes: row numbers, conversion, inverses."""

    def __init__(self, source: tuple[int, ...], target: tuple[int, ...]) -> None:
        away = tuple(p for p in source if p not in target)
        self.kept = np.array([source.index(p) for p in target], dtype=np.int64)
        self.dropped = np.array([source.index(p) for p in away], dtype=np.int64)
        self.conversion = ConversionTables(away, target)
        self.scale = np.array([pow(math.prod(away), -1, p) for p in target], dtype=np.float64)


class SwitchTables:
    """Constants of key switches at ring degree n, of digits that are ranges of `limbs`, over the primes of `key_limbs`:
    these limbs first, then the special ones (see `pointwise.switch_products`).

    unit is what the residues are multiplied by, scale the same over n: the inverse transform takes it along.
    """

    def __init__(self, n: int, primes: tuple[int, ...], limbs: Ints, key_limbs: Ints, digits: Sequence[range]) -> None:
        self.limbs, self.key_limbs, self.digits = limbs, key_limbs, digits
        own = [[primes[limbs[k]] for k in digit] for digit in digits]
        pairs = [(math.prod(group) // a, a) for group in own for a in group]
        self.unit = np.array([pow(rest, -1, a) for rest, a in pairs], dtype=np.float64)
        self.scale = np.array([pow(n * rest, -1, a) for rest, a in pairs], dtype=np.float64)
        self.matrix = np.array([[rest % primes[k] for rest, _ in pairs] for k in key_limbs], dtype=np.float64)
        self.quotients = self.matrix / np.array([primes[k] for k in key_limbs], dtype=np.float64)[:, None]


class Engine(Protocol):
    """The operations an engine offers; see `pointwise` for their meaning."""

    tables: Tables

    def forward(self, x: Floats, limbs: Ints) -> None: ...
    def inverse(self, x: Floats, limbs: Ints) -> None: ...
    def multiply(self, a: Floats, b: Floats, limbs: Ints) -> Floats: ...
    def add(self, a: Floats, b: Floats, limbs: Ints) -> Floats: ...
    def add_to(self, a: Floats, b: Floats, limbs: Ints) -> None: ...
    def hidden(self, message: Floats, noise: Ints, mask: Floats, limbs: Ints) -> Floats: ...
    def scaled(self, a: Floats, scale: Floats, limbs: Ints, out: Floats | None = None) -> Floats: ...
    def subtract_scale(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> Floats: ...
    def add_scaled(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> None: ...
    def halves(self, a: Floats, b: Floats, twist: Floats, limbs: Ints) -> tuple[Floats, Floats]: ...
    def fold(self, even: Floats, odd: Floats, twist: Floats, order: Slots, limbs: Ints) -> Floats: ...
    def merge_rows(
        self, even: Floats, odd: Floats, twist: Floats, extra: Floats, order: Slots, limbs: Ints
    ) -> None: ...
    def tensor(self, a: Floats, b: Floats, limbs: Ints) -> Floats: ...
    def permute(self, x: Floats, order: Slots) -> Floats: ...
    def convert(self, x: Floats, constants: ConversionTables, out: Floats | None = None) -> Floats: ...
    def divide(self, x: Floats, limbs: Ints, division: DivisionTables) -> Floats: ...
    def switch_products(self, x: Floats, key: Floats, constants: SwitchTables) -> Floats: ...
    def place_weights(self, out: Floats, weights: Weights, width: int, stride: int, spacing: int) -> None: ...
    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None: ...


def _rows(x: Floats) -> Floats:
    return x.reshape(-1, x.shape[-1])


def _pieces(x: Floats) -> Floats:
    return x.reshape(-1, *x.shape[-2:])


class FmaEngine:
    """The compiled kernels."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def forward(self, x: Floats, limbs: Ints) -> None:
        pointwise.forward(_rows(x), limbs, self.tables.roots, self.tables.modulus)

    def inverse(self, x: Floats, limbs: Ints) -> None:
        pointwise.inverse(_rows(x), limbs, self.tables.inverse_roots, self.tables.modulus)

    def multiply(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        out = empty(*a.shape)
        pointwise.multiply(_rows(out), _rows(a), _rows(b), limbs, self.tables.modulus)
        return out

    def add(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        out = empty(*a.shape)
        pointwise.add(_rows(out), _rows(a), _rows(b), limbs, self.tables.modulus)
        return out

    def add_to(self, a: Floats, b: Floats, limbs: Ints) -> None:
        pointwise.add(_rows(a), _rows(a), _rows(b), limbs, self.tables.modulus)

    def hidden(self, message: Floats, noise: Ints, mask: Floats, limbs: Ints) -> Floats:
        out = empty(*message.shape)
        pointwise.hidden(out, message, noise, mask, limbs, self.tables.modulus)
        return out

    def scaled(self, a: Floats, scale: Floats, limbs: Ints, out: Floats | None = None) -> Floats:
        out = empty(*a.shape) if out is None else out
        pointwise.scaled(_rows(out), _rows(a), scale, limbs, self.tables.modulus)
        return out

    def subtract_scale(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> Floats:
        out = empty(*a.shape)
        pointwise.subtract_scale(_rows(out), _rows(a), _rows(b), scale, limbs, self.tables.modulus)
        return out

    def add_scaled(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> None:
        pointwise.add_scaled(a, b, scale, limbs, self.tables.modulus)

    def halves(self, a: Floats, b: Floats, twist: Floats, limbs: Ints) -> tuple[Floats, Floats]:
        even, odd = empty(*a.shape), empty(*a.shape)
        pointwise.halves(_rows(even), _rows(odd), _rows(a), _rows(b), twist, limbs, self.tables.modulus)
        return even, odd

    def fold(self, even: Floats, odd: Floats, twist: Floats, order: Slots, limbs: Ints) -> Floats:
        moved = empty(*even.shape)
        pointwise.fold(moved, even, odd, twist, order, limbs, self.tables.modulus, empty(self.tables.n))
        return moved

    def merge_rows(
        self, even: Floats, odd: Floats, twist: Floats, extra: Floats, order: Slots, limbs: Ints
    ) -> None:
        gap, moved = empty(2, self.tables.n)
        pointwise.merge_rows(even, odd, twist, extra, order, limbs, self.tables.modulus, gap, moved)

    def tensor(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        out = empty(3, *a.shape[1:])
        pointwise.tensor(out, a, b, limbs, self.tables.modulus)
        return out

    def permute(self, x: Floats, order: Slots) -> Floats:
        out = empty(*x.shape)
        pointwise.permute(_rows(out), _rows(x), order)
        return out

    def convert(self, x: Floats, constants: ConversionTables, out: Floats | None = None) -> Floats:
        c = constants
        out = empty(*x.shape[:-2], c.target.size, x.shape[-1]) if out is None else out
        scratch = empty(8 * c.units.shape[1])
        for source, target in zip(_pieces(x), _pieces(out), strict=True):
            pointwise.convert(target, source, c.units, c.target, c.factors, scratch)
        return out

    def divide(self, x: Floats, limbs: Ints, division: DivisionTables) -> Floats:
        t, d, c = self.tables, division, division.conversion
        out = empty(*x.shape[:-2], d.kept.size, x.shape[-1])
        pointwise.divide(_pieces(out), _pieces(x), d.kept, d.dropped, limbs, c.units, c.factors, d.scale, t.roots,
                         t.inverse_roots, t.modulus, empty(d.dropped.size, x.shape[-1]), empty(8 * d.dropped.size))
        return out

    def switch_products(self, x: Floats, key: Floats, constants: SwitchTables) -> Floats:
        t, c, n = self.tables, constants, x.shape[-1]
        out = empty(2, c.key_limbs.size, n)
        pointwise.switch_products(out, x, key, len(c.digits[0]), c.limbs, c.key_limbs, c.scale, c.matrix, c.quotients,
                                  t.roots, t.inverse_roots, t.modulus, empty(*x.shape), empty(len(c.digits), n))
        return out

    def place_weights(self, out: Floats, weights: Weights, width: int, stride: int, spacing: int) -> None:
        eights = (*weights.shape[::2], stride, spacing)
        plain = weights.dtype == np.int64 and weights.strides[-1] == weights.itemsize
        place = pointwise.place_eights if plain and not any(x % 8 for x in eights) else pointwise.place_weights
        place(out, weights, width, stride, spacing)

    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None:
        transformed = empty(*polynomials.shape[1:])
        for row, k in enumerate(limbs):
            modulus = self.tables.modulus[k]
            for totals, chosen in zip(out, polynomials, strict=True):
                pointwise.transform_rows(transformed, chosen, self.tables.roots[k], modulus)
                for total, operand in zip(totals, operands, strict=True):
                    for low in range(0, len(chosen), pointwise.TERMS):
                        terms = slice(low, low + pointwise.TERMS)
                        pointwise.multiply_sum(total, operand[terms], transformed[terms], row, modulus)


class IntegerEngine(FmaEngine):
    """The same, with the products of weights on 52-bit integers where the prime admits it."""

    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None:
        tables, n = self.tables, polynomials.shape[-1]
        fits = polynomials.shape[1] <= integers.TERMS
        if not fits or any(tables.primes[k].bit_length() > integers.PRIME_BITS for k in limbs):
            super().weight_products(out, polynomials, operands, limbs)
            return
        transformed = empty(*polynomials.shape).view(np.int64)
        step = max(_CACHED // (polynomials.size // n) // 8 * 8, 64)
        for row, k in enumerate(limbs):
            p, (roots, quotients) = tables.primes[k], tables.words[:, k]
            integers.forward_rows(transformed.reshape(-1, n), _rows(polynomials), roots, quotients, p)
            for low in range(0, n, step):
                for unit, operand in enumerate(operands):
                    integers.sum_products(out[:, unit], transformed, operand, row, p, low, min(low + step, n))


class NumpyEngine:
    """The same operations in numpy integers, written for obviousness."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def _primes(self, limbs: Ints) -> Ints:
        return np.array(self.tables.primes, dtype=np.int64)[limbs][:, None]

    def _product(self, a: Floats, b: Floats, limbs: Ints) -> Ints:
        left = a.astype(np.int64)
        return mulmod(left, np.broadcast_to(b.astype(np.int64), left.shape), self._primes(limbs))

    def forward(self, x: Floats, limbs: Ints) -> None:
        for row, k in enumerate(limbs):
            values = x[..., row, :].astype(np.int64)
            x[..., row, :] = reference_forward(values, self.tables.plain[k], self.tables.primes[k])

    def inverse(self, x: Floats, limbs: Ints) -> None:
        for row, k in enumerate(limbs):
            values = x[..., row, :].astype(np.int64)
            x[..., row, :] = reference_inverse(values, self.tables.inverse_plain[k], self.tables.primes[k])

    def multiply(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        return self._product(a, b, limbs).astype(np.float64)

    def add(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        return ((a.astype(np.int64) + b.astype(np.int64)) % self._primes(limbs)).astype(np.float64)

    def add_to(self, a: Floats, b: Floats, limbs: Ints) -> None:
        a[:] = self.add(a, b, limbs)

    def hidden(self, message: Floats, noise: Ints, mask: Floats, limbs: Ints) -> Floats:
        return ((message.astype(np.int64) + noise - mask.astype(np.int64)) % self._primes(limbs)).astype(np.float64)

    def scaled(self, a: Floats, scale: Floats, limbs: Ints, out: Floats | None = None) -> Floats:
        out = np.empty(a.shape) if out is None else out
        out[:] = self._product(a, scale[:, None], limbs)
        return out

    def subtract_scale(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> Floats:
        gap = (a.astype(np.int64) - b.astype(np.int64)) % self._primes(limbs)
        return self._product(gap.astype(np.float64), scale[:, None], limbs).astype(np.float64)

    def add_scaled(self, a: Floats, b: Floats, scale: Floats, limbs: Ints) -> None:
        a[:] = self.add(a, self.scaled(b, scale, limbs), limbs)

    def halves(self, a: Floats, b: Floats, twist: Floats, limbs: Ints) -> tuple[Floats, Floats]:
        gap = (a - b) % self._primes(limbs)
        return self.add(a, b, limbs), self.multiply(gap, twist, limbs)

    def fold(self, even: Floats, odd: Floats, twist: Floats, order: Slots, limbs: Ints) -> Floats:
        turned, p = self.multiply(odd, twist, limbs), self._primes(limbs)
        gap = (even - turned) % p
        even[:] = (even + turned) % p
        return self.permute(gap, order)

    def merge_rows(
        self, even: Floats, odd: Floats, twist: Floats, extra: Floats, order: Slots, limbs: Ints
    ) -> None:
        moved = self.fold(even, odd, twist, order, limbs) if len(odd) else self.permute(even, order)
        even[:] = (even + extra + moved) % self._primes(limbs)

    def tensor(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        cross = self.add(self.multiply(a[0], b[1], limbs), self.multiply(a[1], b[0], limbs), limbs)
        return np.stack([self.multiply(a[0], b[0], limbs), cross, self.multiply(a[1], b[1], limbs)])

    def permute(self, x: Floats, order: Slots) -> Floats:
        return np.take(x, order, axis=-1)

    def convert(self, x: Floats, constants: ConversionTables, out: Floats | None = None) -> Floats:
        source, unit = constants.units[::2].astype(np.int64)[..., None]
        unit = np.broadcast_to(unit, x.shape)
        digits = mulmod(x.astype(np.int64), unit, source)
        digits = np.where(digits > source // 2, digits - source, digits)
        turns = np.zeros(digits[..., 0, :].shape)
        for row, inverse in zip(np.moveaxis(digits, -2, 0), constants.units[1], strict=True):
            turns = turns + row * inverse
        turns = np.rint(turns).astype(np.int64)
        rows = []
        for b, factors in zip(constants.target.astype(np.int64), constants.factors[0].astype(np.int64), strict=True):
            total = mulmod(digits % b, np.broadcast_to(factors[:-1, None], x.shape), b).sum(axis=-2)
            rows.append((total + mulmod(turns % b, np.broadcast_to(factors[-1], turns.shape), b)) % b)
        result = np.stack(rows, axis=-2).astype(np.float64)
        if out is not None:
            out[:] = result
        return result if out is None else out

    def divide(self, x: Floats, limbs: Ints, division: DivisionTables) -> Floats:
        rest = np.ascontiguousarray(x[..., division.dropped, :])
        self.inverse(rest, limbs[division.dropped])
        lifted, target = self.convert(rest, division.conversion), limbs[division.kept]
        self.forward(lifted, target)
        return self.subtract_scale(x[..., division.kept, :], lifted, division.scale, target)

    def switch_products(self, x: Floats, key: Floats, constants: SwitchTables) -> Floats:
        c, parts = constants, x.copy()
        out, p = np.zeros((2, c.key_limbs.size, x.shape[-1])), self._primes(c.key_limbs)
        self.inverse(parts, c.limbs)
        parts, modulus = self.scaled(parts, c.unit, c.limbs), self._primes(c.limbs)
        parts = np.where(parts > modulus // 2, parts - modulus, parts)
        for i, digit in enumerate(c.digits):
            lifted = np.zeros(out.shape[1:])
            for k in digit:
                residues = (parts[k].astype(np.int64) % p).astype(np.float64)
                lifted = self.add(lifted, self.scaled(residues, c.matrix[:, k], c.key_limbs), c.key_limbs)
            self.forward(lifted, c.key_limbs)
            for component in range(2):
                product = self.multiply(lifted, key[component, i], c.key_limbs)
                out[component] = self.add(out[component], product, c.key_limbs)
        return out

    def place_weights(self, out: Floats, weights: Weights, width: int, stride: int, spacing: int) -> None:
        i, o, j = np.indices(weights.shape)
        exponent = o * spacing - i - stride * (j % width)
        out[:] = 0.0
        out[j // width, exponent % out.shape[-1]] = np.where(exponent < 0, -1.0, 1.0) * weights

    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None:
        for totals, chosen in zip(out, polynomials, strict=True):
            for i, row in enumerate(chosen):
                transformed = (row.astype(np.int64) % self._primes(limbs)).astype(np.float64)
                self.forward(transformed, limbs)
                for total, operand in zip(totals, operands, strict=True):
                    total[:] = self.add(total, self.multiply(operand[i], transformed, limbs), limbs)


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
        forth, back, total, alone, merged, folded = x.copy(), y.copy(), np.stack([x, y]), x.copy(), x.copy(), x.copy()
        engine.forward(forth, limbs)
        engine.inverse(back, limbs)
        order = engine.tables.automorphism(5)
        engine.merge_rows(merged, y, y, back, order, limbs)
        engine.merge_rows(alone, y[:0], y, back, order, limbs)
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
            forth, back, sums, short, placed, eights, merged, alone, added, folded, engine.multiply(x, y, limbs),
            engine.fold(folded, y, y, order, limbs), engine.add(x, y, limbs),
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
