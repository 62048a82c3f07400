"""What a gate may reach: |h| |v| for two rows of products with one normed state."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np

from proofs.limits.normed import GRAIN, OFF, ONE_MORE, Norm, Objects, up
from proofs.limits.spectral import spectral_norms

FINE = 14  # of the quadratic form
COARSE = 12  # of the outer weights in it


@dataclass(frozen=True)
class Pairs:
    """Bounds on |h v| that know both factors to be of one input: as quadratic forms in (z, c), whose norm is known.

    a, b: rows [words gamma, words beta / c] of W1 and V at FINE fractional bits, rounded to nearest. square:
    |(z, c)|^2. first, second: what h and v may be off these forms. h, v: their largest words.
    """

    a: Objects
    b: Objects
    square: Fraction
    first: Fraction
    second: Fraction
    h: Objects
    v: Objects
    s: int

    @classmethod
    def of(cls, norm: Norm, w1: Objects, v: Objects, h_most: Objects, v_most: Objects, more: int, s: int) -> Pairs:
        d = len(norm.gamma)
        square = d + (c := Fraction(isqrt(256 * d), 128)) ** 2  # c is near sqrt(d) / 8, where beta costs least

        def forms(words: Objects) -> Objects:
            shift = 1 << (s + GRAIN - FINE)
            rows = (words * norm.gamma * 2 + shift) // (2 * shift)
            last = (words * norm.beta).sum(-1) * c.denominator
            last = (last * 2 + shift * c.numerator) // (2 * shift * c.numerator)
            return np.concatenate([rows, last[..., None]], axis=-1)

        # Off the true forms: half a unit per column of a row; and the ulps of inputs, floors and of the activation.
        turn = Fraction(isqrt(int((d + 1) * square)) + 1, 1 << (FINE + 1))
        slack = max(int(np.abs(m).sum(-1).max()) for m in (w1, v)) * OFF / (1 << s) + ONE_MORE
        first, second = turn + (slack + more) / (1 << s), turn + slack / (1 << s)
        return cls(forms(w1), forms(v), square, first, second, h_most, v_most, s)

    def gates(self) -> Objects:
        """Bounds on |h v| for each unit, at 2 s fractional bits: over all y of one norm, |a y| |b y| is at most
        (|a| |b| + |a b|) / 2 times its square."""
        products = ((self.a * self.a).sum(-1), (self.b * self.b).sum(-1), (self.a * self.b).sum(-1))
        found = np.empty(self.h.shape, dtype=object)
        for at in np.ndindex(*found.shape):
            aa, bb, ab = (int(p[at]) for p in products)
            most = (isqrt(aa * bb) + 1 + abs(ab)) * self.square / (2 << (2 * FINE)) + self.first * self.second
            cross = self.first * int(self.v[at]) + self.second * int(self.h[at])
            found[at] = up(most * (1 << (2 * self.s)) + cross * (1 << self.s))
        return found

    def outputs(self, w2: Objects) -> int | None:
        """A bound on sum_j |W2_ij| g_j by |h| |v| <= (h^2 + v^2) / 2: hidden units cannot all be at their largest for
        one input. w2: sizes, in words. None where 64 bits do not hold the form."""
        heaviest = -(-w2 * (1 << COARSE) // (1 << self.s))
        if int(heaviest.sum(-1).max()) * 2 * max(int(np.abs(m).max()) for m in (self.a, self.b)) ** 2 >= 1 << 62:
            return None
        heavy, a, b = (m.astype(np.int64) for m in (heaviest, self.a, self.b))
        outer = a[..., :, None] * a[..., None, :] + b[..., :, None] * b[..., None, :]
        experts, rows, hidden = heavy.shape
        form = (heavy @ outer.reshape(experts, hidden, -1)).reshape(experts * rows, *outer.shape[-2:])
        worst = Fraction(0)
        for i, value in enumerate(spectral_norms(form)):
            expert = i // rows
            weights = w2[expert, i % rows]
            cross = self.first * int((weights * self.v[expert]).sum())
            cross += self.second * int((weights * self.h[expert]).sum())
            total = int(weights.sum())
            # In words at 2 s fractional bits: weights and the maxima carry s each.
            exact = Fraction(value, 1 << (COARSE + 2 * FINE)) * self.square / 2 * (1 << (2 * self.s))
            worst = max(worst, exact + cross + self.first * self.second * total * (1 << self.s) + ONE_MORE * total)
        return up(worst)
