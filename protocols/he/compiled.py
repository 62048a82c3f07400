"""Compiled engines: float64 FMA kernels, and the same with 52-bit integers for the products of weights."""

from collections.abc import Sequence

import numpy as np

from protocols.he import changes, integers, placing, pointwise
from protocols.he.buffers import empty
from protocols.he.ntt import Floats, Ints, Slots, Tables
from protocols.he.operations import ConversionTables, DivisionTables, SwitchTables, Weights

_SLOTS = 512  # of all transformed weights: they stay in the second-level cache while units take turns


def _rows(x: Floats) -> Floats:
    return x.reshape(-1, x.shape[-1])


def _words(*shape: int) -> Ints:
    return empty(*shape).view(np.int64)


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

    def fold(
        self, out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, order: Slots, limbs: Ints
    ) -> Floats:
        moved, gap = empty(*even.shape), empty(self.tables.n)
        pointwise.fold(out, moved, even, odd, twist, scale, order, limbs, self.tables.modulus, gap)
        return moved

    def merge_rows(
        self, out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, extra: Floats, order: Slots,
        limbs: Ints,
    ) -> None:
        gap, moved = empty(2, self.tables.n)
        pointwise.merge_rows(out, even, odd, twist, scale, extra, order, limbs, self.tables.modulus, gap, moved)

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
            changes.convert(target, source, c.units, c.target, c.factors, scratch)
        return out

    def divide(self, x: Floats, limbs: Ints, division: DivisionTables) -> Floats:
        t, d, c = self.tables, division, division.conversion
        out = empty(*x.shape[:-2], d.kept.size, x.shape[-1])
        changes.divide(_pieces(out), _pieces(x), d.kept, d.dropped, limbs, c.units, c.factors, d.scale, t.roots,
                         t.inverse_roots, t.modulus, empty(d.dropped.size, x.shape[-1]), empty(8 * d.dropped.size))
        return out

    def switch_products(self, x: Floats, key: Floats, constants: SwitchTables) -> Floats:
        t, c, n = self.tables, constants, x.shape[-1]
        out = empty(2, c.key_limbs.size, n)
        changes.switch_products(out, x, key, len(c.digits[0]), c.limbs, c.key_limbs, c.scale, c.matrix, c.quotients,
                                  t.roots, t.inverse_roots, t.modulus, empty(*x.shape), empty(len(c.digits), n))
        return out

    def place_weights(self, out: Floats, weights: Weights, width: int, stride: int, spacing: int) -> None:
        eights = (*weights.shape[::2], stride, spacing)
        plain = weights.dtype == np.int64 and weights.strides[-1] == weights.itemsize
        place = placing.place_eights if plain and not any(x % 8 for x in eights) else placing.place_weights
        place(out, weights, width, stride, spacing)

    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None:
        transformed, most = empty(placing.TERMS, polynomials.shape[-1]), placing.TERMS
        for row, k in enumerate(limbs):
            modulus = self.tables.modulus[k]
            for totals, chosen in zip(out, polynomials, strict=True):
                for low in range(0, len(chosen), most):
                    rows = chosen[low: low + most]
                    held = transformed[: len(rows)]
                    placing.transform_rows(held, rows, self.tables.roots[k], modulus)
                    for total, operand in zip(totals, operands, strict=True):
                        placing.multiply_sum(total, operand[low: low + most], held, row, modulus)


class IntegerEngine(FmaEngine):
    """The same, with the products of weights on 52-bit integers where the prime admits it."""

    def weight_products(self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints) -> None:
        tables, (count, terms, n) = self.tables, polynomials.shape
        if terms > integers.TERMS or any(tables.primes[k].bit_length() > integers.PRIME_BITS for k in limbs):
            super().weight_products(out, polynomials, operands, limbs)
            return
        slots, fours = min(_SLOTS, n), -(-count // 4) * 4
        transformed, packed, scratch = _words(count, terms, n), _words(fours * terms * slots), _words(2 * terms * slots)
        for row, k in enumerate(limbs):
            p, (roots, quotients) = tables.primes[k], tables.words[:, k]
            integers.forward_rows(transformed.reshape(-1, n), _rows(polynomials), roots, quotients, p)
            for low in range(0, n, slots):
                integers.pack_rows(packed, transformed, low, low + slots)
                for unit, operand in enumerate(operands):
                    integers.sum_products(out[:, unit], packed, operand, row, p, low, low + slots, scratch)
