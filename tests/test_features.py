"""Every analyser beside the smallest leak that it catches and the others do not; and silence where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.view_tables import FACTS, compare, noise, smallest, table
from transcripts.analysers import Analyser, Bytes, PairsOfWords, Structure, Words, bit_counts, merge
from transcripts.classify import Classifier
from transcripts.features import MOST_PAIRS, features_of
from transcripts.parity import Parity, relations
from transcripts.statistics import binomial_interval
from transcripts.views import Layout, Source, Views, byte_counts

N = 1200
LEVEL = 1e-6
Rng = np.random.Generator
Maker = Callable[[Rng, int], Views]  # (randomness, class) -> the views of a class


def words(rng: Rng, bits: int, size: int = 1) -> NDArray[np.uint64]:
    return rng.integers(0, (1 << bits) - 1, (N, size), np.uint64, endpoint=True)


def flips(rng: Rng, probability: float, size: int = 1) -> NDArray[np.uint64]:
    return (rng.random((N, size)) < probability).astype(np.uint64)


def mean(rng: Rng, c: int) -> Views:
    return table({"word": (16, words(rng, 14) + np.uint64(2000 * c))})


def variance(rng: Rng, c: int) -> Views:
    """Class 1 is a third wider, round one mean, inside the two bins next to it."""
    width = 1500 + 500 * c
    return table({"word": (16, rng.integers(-width, width, (N, 1)) + 30000)})


def bins(rng: Rng, c: int) -> Views:
    """One low bin in sixteen is missing and another one doubled: each bit a little off, the bin altogether."""
    word = words(rng, 12)
    hit = (word & np.uint64(15)) == 5
    return table({"word": (12, np.where(hit & bool(c), word ^ np.uint64(3), word))})


def bit(rng: Rng, c: int) -> Views:
    word = words(rng, 64) & ~np.uint64(1 << 20)
    return table({"word": (64, word + (flips(rng, 0.5 - 0.3 * c) << np.uint64(20)))})


def used_twice(rng: Rng, c: int) -> Views:
    """x - r and y - r."""
    r = words(rng, 64)
    return table({"x": (64, r), "y": (64, r + np.uint64(12345 << (30 + c)))})


def xored_twice(rng: Rng, c: int) -> Views:
    r = words(rng, 64)
    return table({"x": (64, r), "y": (64, r ^ np.uint64(0x5A5A << (20 + c)))})


def product(rng: Rng, c: int) -> Views:
    """The sizes of two words of different rings go together, or not; their bits are uniform."""
    u, v = words(rng, 40), words(rng, 31)
    signs = (u >> np.uint64(39)) ^ np.uint64(c)
    agree = np.where(flips(rng, 0.35) == 1, (v & np.uint64((1 << 30) - 1)) | signs << np.uint64(30), v)
    return table({"u": (40, u), "v": (31, agree)})


def parity(rng: Rng, c: int) -> Views:
    """Nine bits, any eight of them uniform."""
    r = words(rng, 1, 8)
    last = (r.sum(1, keepdims=True) + np.uint64(c)) & np.uint64(1)
    order = [words(rng, 8) << np.uint64(1) | b for b in (*r.T[..., None], last)]
    return table({f"m{i}": (9, word) for i, word in enumerate(order)})


def many_weak(rng: Rng, c: int) -> Views:
    """Forty bits, each a little more often: none of them is found alone."""
    return table({"bits": (1, flips(rng, 0.5 + 0.05 * c, 40))})


def structure(rng: Rng, c: int) -> Views:
    other = ((*FACTS[0][:4], 2),)
    return table(noise(rng, N, (8, 1)), (FACTS, other), np.full(N, c))


WORDS, PAIRS, PARITY, CLASSIFIER, STRUCTURE = Words(), PairsOfWords(), Parity(), Classifier(), Structure()
# (leak, who sees it, part of the feature's name, who has to be blind to it)
LEAKS: list[tuple[Maker, Analyser, str, tuple[Analyser, ...]]] = [
    (mean, WORDS, "", (PARITY, STRUCTURE)),
    (variance, WORDS, "variance", (PAIRS, PARITY, STRUCTURE)),
    (bins, WORDS, "low bins", (PAIRS, PARITY, STRUCTURE)),
    (bit, WORDS, "bit 20", (PAIRS, PARITY, CLASSIFIER, STRUCTURE)),
    (used_twice, PAIRS, "difference", (WORDS, STRUCTURE, CLASSIFIER)),
    (xored_twice, PAIRS, "xor", (WORDS, STRUCTURE, CLASSIFIER)),
    (product, PAIRS, "", (WORDS, PARITY, STRUCTURE)),
    (parity, PARITY, "parity", (WORDS, PAIRS, CLASSIFIER, STRUCTURE)),
    (many_weak, CLASSIFIER, "advantage", (WORDS, PAIRS, PARITY, STRUCTURE)),
    (structure, STRUCTURE, "round", (WORDS, PAIRS, PARITY, CLASSIFIER)),
]


@pytest.mark.parametrize(("leak", "seen_by", "named", "blind"), LEAKS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_smallest_leak_of_each_kind(
    leak: Maker, seen_by: Analyser, named: str, blind: tuple[Analyser, ...]
) -> None:
    rng = np.random.default_rng(3)
    first, second = leak(rng, 0), leak(rng, 1)
    found = compare(seen_by, first, second)
    best = found.smallest(1)[0]
    assert smallest(seen_by, first, second) < LEVEL
    assert named in found.place(best)[1]
    for analyser in blind:
        assert smallest(analyser, first, second) > LEVEL, analyser.name


def test_a_product_of_two_words_is_seen_as_one() -> None:
    rng = np.random.default_rng(4)
    found = compare(PAIRS, product(rng, 0), product(rng, 1))
    named = [found.place(i)[1] for i in found.smallest(4)]
    assert any(name.startswith(("product", "high bits")) for name in named)


def test_bytes_of_long_strings_are_compared_by_value() -> None:
    rng = np.random.default_rng(5)

    def views(c: int) -> Views:
        plain = rng.multinomial(4000, np.full(256, 1 / 256), N)
        plain[:, 7] += 12 * c
        made = table(noise(rng, N, (8, 1)))
        return Views(made.layout, made.words, made.structures, made.kinds, {"ct": plain})

    found = compare(Bytes(), views(0), views(1))
    assert found.place(found.smallest(1)[0]) == ("received ct", "frequency of byte 7")
    assert smallest(Bytes(), views(0), views(1)) < LEVEL
    assert smallest(Bytes(), views(0), views(0)) > LEVEL


def test_a_constant_of_its_own_per_class_is_found_in_eight_runs_of_each() -> None:
    views = [table({"word": (16, np.full((8, 1), c))}) for c in (5, 6)]
    assert compare(WORDS, *views).p.min() == 0
    assert compare(WORDS, views[0], views[0]).tested == 0


@pytest.mark.parametrize("analyser", [WORDS, PAIRS, PARITY, CLASSIFIER, STRUCTURE], ids=lambda a: a.name)
def test_blocks_add_up_to_the_whole(analyser: Analyser) -> None:
    rng = np.random.default_rng(6)
    whole, other = table(noise(rng, 400, (1, 5), (64, 3), (7, 2))), table(noise(rng, 200, (1, 5), (64, 3), (7, 2)))
    parts = [analyser.collect(whole.take(np.arange(start, start + 100))) for start in range(0, 400, 100)]
    second = analyser.collect(other)
    joined = analyser.compare(merge(parts), second, whole.layout, "s")
    once = analyser.compare(analyser.collect(whole), second, whole.layout, "s")
    assert np.allclose(joined.p, once.p, rtol=1e-6)
    assert joined.tested == once.tested


def false_alarms(audits: int, seed: int) -> int:
    """Audits of noise against noise in which some analyser rejects, all features corrected as one family."""
    rng, level, alarms = np.random.default_rng(seed), 0.05, 0
    for _ in range(audits):
        arrays = ((1, 6), (2, 2), (8, 3), (64, 4))
        first, second = table(noise(rng, 300, *arrays)), table(noise(rng, 150, *arrays))
        found = [compare(a, first, second) for a in (WORDS, PAIRS, PARITY)]
        family = sum(f.tested for f in found)
        alarms += min(float(f.p.min()) for f in found) <= level / family
    return alarms


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    assert binomial_interval(false_alarms(40, 1), 40, 0.999)[0] <= 0.05


@pytest.mark.nightly
def test_false_alarms_over_500_audits() -> None:
    low, _ = binomial_interval(false_alarms(500, 2), 500, 0.99)
    assert low <= 0.05


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_relations_are_a_basis_of_what_does_not_vary(rows: int) -> None:
    rng = np.random.default_rng(rows)
    bits = rng.integers(0, 2, (rows, 12), np.uint8)
    bits[:, 11] = bits[:, 0] ^ bits[:, 3] ^ 1
    basis = relations(bits)
    parities = (bits.astype(int) @ basis.T.astype(int)) & 1
    assert (parities == parities[0]).all()
    every = ((np.arange(1 << 12)[:, None] >> np.arange(12)) & 1).astype(int)
    fixed = [(row == row[0]).all() for row in (every @ bits.T.astype(int)) & 1]
    assert 1 << len(basis) == sum(fixed)


def test_pairs_are_chosen_from_the_layout_alone_and_bounded() -> None:
    layout = Layout([Source("received", f"m{i}", 64, 40) for i in range(60)])
    pairs = features_of(layout).pairs
    again = features_of(Layout(layout.sources)).pairs
    assert len(pairs) <= MOST_PAIRS
    assert np.array_equal(pairs.left, again.left) and np.array_equal(pairs.right, again.right)
    assert (pairs.left < pairs.right).all() and pairs.right.max() < layout.width


def test_places_name_array_and_word() -> None:
    layout: Any = Layout([Source("received", "mul/delta", 64, 3), Source("input", "x0", 8, 2)])
    assert layout.column(1) == ("received mul/delta", "word 1")
    assert layout.column(4) == ("input x0", "word 1")
    assert features_of(layout).name(5) == ("received mul/delta", "sum of its words")


@given(st.integers(0, 40), st.lists(st.sampled_from([1, 7, 18, 64]), min_size=1, max_size=6), st.integers(0, 2**32))
def test_bits_are_counted_column_by_column(rows: int, widths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = np.array(widths, np.int64)
    drawn: NDArray[np.uint64] = rng.integers(0, 2**64, (rows, len(widths)), np.uint64)
    words = drawn >> (64 - bits).astype(np.uint64)
    columns = zip(words.T, widths, strict=True)
    expected = [sum(int(w) >> b & 1 for w in column) for column, l in columns for b in range(l)]
    assert bit_counts(words, bits).tolist() == expected


@given(st.binary(max_size=70))
def test_bytes_are_counted_two_at_a_time(data: bytes) -> None:
    assert byte_counts(np.frombuffer(data, np.uint8)).tolist() == [data.count(value) for value in range(256)]
