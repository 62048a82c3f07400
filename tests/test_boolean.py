"""AND with a shared left factor: every combination of shares, and its closed costs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from protocols.boolean import conjoin
from sim.concrete import to_words
from sim.ring import Z2, Spec
from sim.shapes import blank
from tests.shared_runs import opened, pair, run

BITS = np.array(list(product((0, 1), repeat=6)))  # shares of one left and two right bits


def test_every_combination_of_shares() -> None:
    x = BITS[:, 0:2]
    y, z = BITS[:, 2:4], BITS[:, 4:6]
    right = pair(Z2, np.stack([y[:, 0], z[:, 0]], 1), np.stack([y[:, 1], z[:, 1]], 1))
    (got,) = opened(run(conjoin, pair(Z2, x[:, 0], x[:, 1]), right))
    left = x.sum(1) % 2
    assert to_words(got).tolist() == np.stack([left * (y.sum(1) % 2), left * (z.sum(1) % 2)], 1).tolist()


@pytest.mark.parametrize("groups", [[((3,), 1)], [((2, 2), 3), ((1,), 1), ((), 2)]])
def test_groups_share_one_round_and_open_1_plus_m_bits(groups: list[tuple[tuple[int, ...], int]]) -> None:
    arguments = []
    for shape, m in groups:
        arguments += [blank(Spec(Z2, shape)), blank(Spec(Z2, (*shape, m)))]
    cost = conjoin.declared(*arguments)
    elements = [(int(np.prod(shape)), m) for shape, m in groups]
    assert cost.rounds == 1
    assert cost.c2s == cost.s2c == -(-sum(n * (1 + m) for n, m in elements) // 8)
    assert cost.cot_client == cost.cot_server == sum(n for n, _ in elements)
