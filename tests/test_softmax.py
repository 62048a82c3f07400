"""Maxima, argmax and softmax: exact, masks and ties included, and the error of softmax against the real one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.limits.ledger import SOFTMAX_ERRORS
from protocols.cleartext import norms as F
from protocols.cleartext.norms import MaskShape
from protocols.model import normalising as oracle
from protocols.model.fixed_point import FixedPoint
from protocols.sharing import reveal_to
from protocols.softmax import argmax, maximum, rounds, softmax, taken
from protocols.truncate import ONE_ULP
from sim.concrete import from_words, to_words
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from tests.harness import session
from tests.shared_runs import Ints, every_pair, pair, representatives, result, share, signed

FORMATS = [(64, 18), (32, 12)]
SMALL = FixedPoint(16, 4)


def words(values: Ints, fp: FixedPoint) -> Any:
    return fp.wrap(np.asarray(values, dtype=np.int64).view(np.uint64))


def causal(n: int, m: int | None = None) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(j <= i for j in range(m or n)) for i in range(n))


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    data=st.data(),
)
def test_tournaments_find_the_first_maximum_of_every_row(lengths: list[int], data: st.DataObject) -> None:
    """The plan alone, on integers: winners stay in the original order, so that ties go to the lower index."""
    values = data.draw(st.lists(st.integers(0, 3), min_size=sum(lengths), max_size=sum(lengths)))
    meetings, winners = rounds(lengths)
    held = list(enumerate(values))
    for meet in meetings:
        held = [
            *(held[a] if held[a][1] >= held[b][1] else held[b] for a, b in zip(meet.left, meet.right, strict=True)),
            *(held[at] for at in meet.byes),
        ]
    starts = np.cumsum([0, *lengths])
    for row, at in enumerate(winners):
        own = values[starts[row] : starts[row + 1]]
        assert held[at] == (starts[row] + own.index(max(own)), max(own))
    assert len(meetings) == max((n - 1).bit_length() for n in lengths)


@given(st.lists(st.integers(0, 11), min_size=1, max_size=15))
def test_taken_positions(positions: list[int]) -> None:
    x = from_words(Ring(8), np.arange(24).reshape(2, 12))
    assert np.array_equal(to_words(taken(x, positions)), np.arange(24).reshape(2, 12)[:, positions])


def test_maximum_and_argmax_of_every_pair_of_small_words() -> None:
    """All pairs of 6-bit words in range, each under its own sharing."""
    each = np.arange(-16, 16)
    x = np.stack(np.meshgrid(each, each), -1).reshape(-1, 2)
    shares = share(Ring(6), x)
    assert np.array_equal(signed(maximum, shares), x.max(1))
    assert np.array_equal(result(argmax, shares)[:, 0], np.argmax(x, axis=1))


@settings(max_examples=8)
@given(st.integers(2, 11), st.data())
def test_argmax_is_the_oracles(E: int, data: st.DataObject) -> None:
    """Ties included: values from a handful."""
    fp = FixedPoint(64, 18)
    x = np.array(data.draw(st.lists(st.sampled_from([-(1 << 62), -1, 0, 5, (1 << 62) - 1]), min_size=3 * E,
                                    max_size=3 * E))).reshape(3, E)  # fmt: skip
    digits = result(argmax, share(Ring(64), x)).astype(np.int64)
    index = (digits << np.arange(digits.shape[1])).sum(1)
    assert np.array_equal(index, oracle.argmax(words(x, fp), fp))
    assert np.array_equal(signed(maximum, share(Ring(64), x)), x.max(1))


@pytest.mark.parametrize("l, s", FORMATS)
@pytest.mark.parametrize("allowed", [None, causal(4), causal(4, 6), ((True, False, True, True),) * 4])
def test_softmax_is_the_oracles_bit_for_bit(l: int, s: int, allowed: Any) -> None:
    """Ties, far-off scores that exponentiate to zero, and forbidden entries that are larger than all others."""
    fp, rng = FixedPoint(l, s), np.random.default_rng(s)
    m = 4 if allowed is None else len(allowed[0])
    x = rng.integers(-(6 << s), 6 << s, (2, 4, m))
    x[0, 1], x[0, 2, 0], x[1, 3, -1] = 7, -(1 << (l - 3)), (1 << (l - 3)) - 1
    got = signed(softmax, share(Ring(l), x), s=s, l=l, allowed=allowed)
    assert np.array_equal(words(got, fp), oracle.softmax(words(x, fp), fp, allowed))
    assert np.array_equal(got, F.SOFTMAX.compute(x, s=s, l=l, allowed=allowed))
    if allowed is not None:
        assert not got[:, ~np.array(allowed)].any()


def test_small_scores_in_a_small_ring_are_softmaxed_alike() -> None:
    """Scores below 2^13 as reals in a ring of 34 bits, the result in the whole ring; cheaper, and bit for bit."""
    x = np.random.default_rng(8).integers(-(1 << 31), 1 << 31, (3, 5))
    x[0] = np.arange(5) << 17
    small, whole = Ring(34), Ring(64)
    got = signed(softmax, share(small, x), s=18, l=64, into=whole)
    assert np.array_equal(got, F.SOFTMAX.compute(x, s=18, l=64))
    price = [softmax.declared(blank(Spec(ring, (3, 5))), s=18, l=64, into=whole) for ring in (small, whole)]
    bits = [8 * cost.nbytes + 15 * (cost.cot_client + cost.cot_server) for cost in price]
    assert bits[0] < 0.96 * bits[1]


@pytest.mark.slow
def test_softmax_of_every_difference_of_a_small_format() -> None:
    """16 bits, 4 of them fractional: a row (0, -z) for every z from 0 to 2^13, against the oracle."""
    z = np.arange(1 << 13)
    x = np.stack([np.zeros_like(z), -z], axis=1)
    got = signed(softmax, share(Ring(16), x), s=4, l=16)
    assert np.array_equal(words(got, SMALL), oracle.softmax(words(x, SMALL), SMALL))


WORST = {(18, 2): 8e-5, (18, 16): 5e-4, (18, 64): 1.2e-3, (12, 2): 3e-3, (12, 16): 3e-3, (12, 64): 4e-3}


@pytest.mark.parametrize("l, s", FORMATS)
@pytest.mark.parametrize("m", [2, 16, 64])
def test_the_error_of_softmax(l: int, s: int, m: int) -> None:
    """Against the real softmax, on rows of every spread, and on the row that is worst for the exponential: one entry on
    top of equal ones some way below. The theorem of the ledger of bounds is above what is found."""
    rng, bound = np.random.default_rng(m), WORST[s, m]
    x = np.rint(rng.normal(size=(2000, m)) * np.exp2(rng.uniform(-3, 3, (2000, 1))) * 2.0**s).astype(np.int64)
    gap = np.linspace(0, 13, 500)
    worst = np.concatenate([np.zeros((500, 1)), -np.repeat(gap[:, None], m - 1, axis=1)], axis=1)
    x = np.concatenate([x, np.rint(worst * 2.0**s).astype(np.int64)])
    real = np.exp((x - x.max(1, keepdims=True)) / 2.0**s)
    error = np.abs(F.SOFTMAX.compute(x, s=s, l=l) / 2.0**s - real / real.sum(1, keepdims=True))
    assert 0.6 * bound < error.max() < bound
    assert m == 2 or bound < SOFTMAX_ERRORS[s, m]


def test_one_ulp_softmax_is_near_the_faithful_one() -> None:
    x = np.random.default_rng(3).integers(-(3 << 18), 3 << 18, (3, 5))
    got = signed(softmax, share(Ring(64), x), s=18, l=64, mode=ONE_ULP)
    assert np.abs(got - F.SOFTMAX.compute(x, s=18, l=64)).max() <= 4


def test_forbidden_entries_cost_nothing() -> None:
    x = blank(Spec(Ring(64), (2, 6, 6)))
    whole = softmax.declared(x, s=18, l=64)
    half = softmax.declared(x, s=18, l=64, allowed=causal(6))
    assert 0.5 < half.nbytes / whole.nbytes < 0.75


@pytest.mark.parametrize("allowed", [((True, True),), ((True,), (True,)), ((True, False), (False, False))])
def test_masks_that_do_not_fit_are_refused(allowed: Any) -> None:
    with pytest.raises(MaskShape):
        F.allowed_rows((2, 2), allowed)


@pytest.mark.parametrize("role", list(Role))
def test_reveal_to_one_party(role: Role) -> None:
    """The value at one party, zeros at its peer, and one message, to the former."""
    ring = Ring(6)
    client, server = every_pair(ring)
    shares = pair(ring, client, server)
    execution = session().run(reveal_to, [role, shares[0]], [role, shares[1]])
    opened = to_words(execution.outputs[role])
    assert np.array_equal(opened, (client + server) & 63)
    assert np.array_equal(representatives(opened, 6), representatives(client + server, 6))
    assert not to_words(execution.outputs[role.peer]).any()
    (message,) = execution.scope(f"{execution.prefix}/reveal_to")
    assert message.sender is role.peer
    assert {CLIENT, SERVER} == {role, message.sender}
