"""Fixed-point ranges of attention in a whole model: every product stays below a quarter of the ring.

The states are those of the protocol's own norm plus the server's shift: their length is at most the root of their
number, but for the norm's error. Probabilities of a row add up to 1, but for theirs. A query times a key is at most the
product of their lengths, and no state makes a head longer than the spectral norm of its matrix allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import isqrt

import numpy as np

from proofs.limits.normed import GRAIN, OFF, ONE_MORE, Norm, Objects, up
from proofs.limits.ranges import PROBABILITY, Reach
from proofs.limits.spectral import spectral_norms
from protocols.model.fixed_point import FixedPoint, Words
from protocols.model.folded import MASKED, BlockWords

STRETCH = Fraction(1, 1 << 9)  # above the relative error of a norm's factor in either ring
FLOORS = 4  # ulps that floors of the mean and of the products may add to a word of the state


def _integers(words: Words, fp: FixedPoint) -> Objects:
    return np.asarray(fp.signed(words).astype(object))


def attention_reaches(block: BlockWords, heads: int, fp: FixedPoint) -> Iterator[Reach]:
    """Every product of one block's attention, and the scores, for any input of the model. block: folded words."""
    s, quarter = fp.s, 1 << (fp.l - 2)
    shift, stacked, merging = (_integers(words, fp) for words in (block.shift1, block.stacked, block.merging))
    d, width = len(shift), len(shift) // heads
    norm = Norm(np.full(d, (1 << GRAIN) + int(STRETCH * (1 << GRAIN)), dtype=object), shift << (GRAIN - s))
    products = norm.products(stacked, s) + FLOORS * np.abs(stacked).sum(-1)
    yield Reach("queries, keys and values", int(products.max()), quarter)
    query, key, value = ((products >> s) + ONE_MORE).reshape(3, heads, width)
    rows = stacked.reshape(3, heads, width, d)
    scores = 0
    for head in range(heads):
        apart = int((query[head] * key[head]).sum())
        scores = max(scores, min(apart, _length(rows[0, head], shift, s) * _length(rows[1, head], shift, s)))
    yield Reach("queries times keys", scores, quarter)
    yield Reach("scores", (scores >> s) + ONE_MORE + (-MASKED << s), quarter >> 1)
    mixed = np.vectorize(lambda v: up(PROBABILITY * int(v) * (1 << s)), otypes=[object])(value.reshape(d))
    yield Reach("probabilities times values", int(mixed.max()), quarter)
    merged = (np.abs(merging) * ((mixed >> s) + ONE_MORE)).sum(-1)
    yield Reach("output projection", int(merged.max()), quarter)


def _length(rows: Objects, shift: Objects, s: int) -> int:
    """A bound on the Euclidean length, in words, of a head's floored products with one state (z, c): rows [words,
    words shift / c], c near sqrt(d) / 8, where the shift costs least."""
    d = len(shift)
    c = Fraction(isqrt(256 * d), 128)
    last = (rows * shift).sum(-1) * c.denominator // (c.numerator << s)
    forms = np.concatenate([rows, last[:, None]], axis=1)
    gram = forms.dot(forms.T)
    # What integers of 64 bits cannot hold has rows far beyond the ring: their own products are refused.
    norm = spectral_norms(gram.astype(np.int64)[None])[0] if np.abs(gram).max() < 1 << 62 else int(np.trace(gram))
    off = [(OFF + FLOORS) * int(total) + c * (1 << s) for total in np.abs(rows).sum(-1)]
    linear = isqrt(up(norm * (d + c * c) * (1 + STRETCH) ** 2) << (2 * s)) + 1
    further = isqrt(up(sum((value * value for value in off), Fraction(0)))) + 1
    return ((linear + further) >> s) + ONE_MORE * (isqrt(len(rows)) + 2)
