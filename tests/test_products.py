"""Products by correlated OT: exhaustive in small rings, edge words in large ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.products import cross, mul, square
from sim.concrete import from_words, to_words
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from tests.shared_runs import every_pair, opened, pair, result, run


@pytest.mark.parametrize("l", [1, 2, 3])
def test_mul_of_every_pair_of_sharings(l: int) -> None:
    ring = Ring(l)
    client, server = every_pair(ring)
    x, y = (
        (np.repeat(client, len(client)), np.repeat(server, len(server))),
        (
            np.tile(client, len(client)),
            np.tile(server, len(server)),
        ),
    )
    got = result(mul, pair(ring, *x), pair(ring, *y))
    assert got.tolist() == ((x[0] + x[1]) * (y[0] + y[1]) % ring.modulus).tolist()


@pytest.mark.parametrize("l", [6, 8])
def test_mul_of_every_pair_of_words(l: int) -> None:
    """Every x with every y, each under a sharing that varies with both."""
    ring = Ring(l)
    x, y = every_pair(ring)
    a, b = (5 * x + 3 * y) % ring.modulus, (x * y + 7 * x + 1) % ring.modulus
    got = result(mul, pair(ring, a, x - a), pair(ring, b, y - b))
    assert got.tolist() == (x * y % ring.modulus).tolist()


@pytest.mark.parametrize("l", [2, 5, 8])
def test_square_of_every_sharing(l: int) -> None:
    ring = Ring(l)
    client, server = every_pair(ring)
    got = result(square, pair(ring, client, server))
    assert got.tolist() == ((client + server) ** 2 % ring.modulus).tolist()


@settings(max_examples=15)
@given(l=st.integers(2, 64), data=st.data())
def test_edge_shares_in_every_ring(l: int, data: st.DataObject) -> None:
    ring = Ring(l)
    edges = [0, 1, ring.mask, ring.modulus >> 1, (ring.modulus >> 1) - 1]
    word = st.one_of(st.sampled_from(edges), st.integers(0, ring.mask))
    rows = data.draw(st.lists(st.tuples(word, word, word, word), min_size=1, max_size=4))
    a, b, c, d = (np.array(column, dtype=np.uint64) for column in zip(*rows, strict=True))
    products = [(w + x) * (y + z) % ring.modulus for w, x, y, z in rows]
    assert result(mul, pair(ring, a, b), pair(ring, c, d)).tolist() == products
    assert result(square, pair(ring, a, b)).tolist() == [(w + x) ** 2 % ring.modulus for w, x, _, _ in rows]


@pytest.mark.parametrize("receiver", [CLIENT, SERVER], ids=repr)
def test_cross_of_private_words(receiver: Role) -> None:
    ring = Ring(4)
    x, y = every_pair(ring)
    spec = Spec(ring, x.shape)
    a, b = from_words(ring, x), from_words(ring, y)
    mine, theirs = ((a, None), (None, b)) if receiver is CLIENT else ((None, a), (b, None))
    (got,) = opened(run(cross, mine, theirs, receiver=receiver, spec=spec))
    assert to_words(got).tolist() == (x * y % 16).tolist()


def test_costs_at_64_bits() -> None:
    """l (l + 3) bits per product, (l - 1)(l + 2) / 2 per square, both in 2 flights."""
    x = blank(Spec(Ring(64), (80,)))
    product, half = mul.declared(x, x), square.declared(x)
    assert 8 * product.nbytes == 80 * 64 * 67
    assert 8 * half.nbytes == 80 * 63 * 66 // 2
    assert product.rounds == half.rounds == 2
