"""Boolean to arithmetic shares and multiplexers: every combination of shares in small rings, edges in large ones."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from protocols.convert import b2a, mux, mux_public
from sim.concrete import to_words
from sim.ring import Z2, Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from tests.shared_runs import every_pair, opened, pair, result, run

SHARES = np.array(list(product((0, 1), repeat=2)))


@pytest.mark.parametrize("l", [1, 2, 3, 8, 33, 63, 64])
@pytest.mark.parametrize("receiver", [CLIENT, SERVER], ids=repr)
def test_b2a_of_every_combination(l: int, receiver: Role) -> None:
    """All four sharings of a bit, 64 times each: the OT's random outputs must not show."""
    bits = np.repeat(SHARES, 64, axis=0)
    got = result(b2a, pair(Z2, bits[:, 0], bits[:, 1]), ring=Ring(l), receiver=receiver)
    assert got.tolist() == (bits.sum(1) % 2).tolist()


def test_b2a_costs_l_bits_and_2_flights() -> None:
    cost = b2a.declared(blank(Spec(Z2, (800,))), ring=Ring(64))
    assert 8 * cost.nbytes == 800 * 64
    assert (cost.rounds, cost.cot_client, cost.cot_server) == (2, 800, 0)
    assert b2a.declared(blank(Spec(Z2, (800,))), ring=Z2).nbytes == 0


@pytest.mark.parametrize("l", [1, 2, 4])
def test_mux_of_every_combination(l: int) -> None:
    """Every sharing of the bit with every sharing of every word."""
    ring = Ring(l)
    client, server = every_pair(ring)
    for bits in SHARES:
        b = pair(Z2, np.full_like(client, bits[0]), np.full_like(client, bits[1]))
        got = result(mux, b, pair(ring, client, server))
        assert got.tolist() == (sum(bits) % 2 * (client + server) % ring.modulus).tolist()


@pytest.mark.parametrize("l", [8, 63, 64])
def test_mux_of_edge_shares(l: int) -> None:
    ring = Ring(l)
    edges = [0, 1, ring.mask, ring.modulus >> 1, (ring.modulus >> 1) - 1]
    grid = [(*bits, a, b) for bits in SHARES.tolist() for a in edges for b in edges]
    columns = [np.array(column, dtype=np.uint64) for column in zip(*grid, strict=True)]
    got = result(mux, pair(Z2, columns[0], columns[1]), pair(ring, columns[2], columns[3]))
    assert got.tolist() == [(b ^ c) * ((x + y) % ring.modulus) for b, c, x, y in grid]


def test_mux_costs_130_bits_and_2_flights() -> None:
    cost = mux.declared(blank(Spec(Z2, (800,))), blank(Spec(Ring(64), (800,))))
    assert 8 * cost.nbytes == 800 * 130
    assert (cost.rounds, cost.cot_client, cost.cot_server) == (2, 800, 800)


@pytest.mark.parametrize("l", [2, 8, 64])
def test_public_multiples_of_a_bit(l: int) -> None:
    constants = (0, 1, -1, 5, (1 << (l - 1)) - 1, -(1 << (l - 1)), (1 << l) + 3)
    bits = np.repeat(SHARES, 16, axis=0)
    got = opened(run(mux_public, pair(Z2, bits[:, 0], bits[:, 1]), constants=constants, ring=Ring(l)))
    for c, words in zip(constants, got, strict=True):
        assert to_words(words).tolist() == [int(b) * c % (1 << l) for b in bits.sum(1) % 2]
