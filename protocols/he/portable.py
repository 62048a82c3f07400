"""The engine for machines without the compiled kernels' instructions, and the reference that these are held against."""

from collections.abc import Sequence

import numpy as np

from protocols.he.ntt import Floats, Ints, Slots, Tables, mulmod, reference_forward, reference_inverse
from protocols.he.operations import ConversionTables, DivisionTables, SwitchTables, Weights


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

    def fold(
        self, out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, order: Slots, limbs: Ints
    ) -> Floats:
        first, p = self.scaled(even, scale, limbs), self._primes(limbs)
        turned = self.multiply(odd, twist, limbs) if len(odd) else np.zeros(even.shape)
        out[:] = (first + turned) % p
        return self.permute((first - turned) % p, order)

    def merge_rows(
        self, out: Floats, even: Floats, odd: Floats, twist: Floats, scale: Floats, extra: Floats, order: Slots,
        limbs: Ints,
    ) -> None:
        rows = len(even)
        out[rows:] = extra[rows:]
        moved = self.fold(out[:rows], even, odd, twist, scale, order, limbs)
        out[:rows] = (out[:rows] + extra[:rows] + moved) % self._primes(limbs)

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
