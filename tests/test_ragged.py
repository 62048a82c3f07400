"""Correlated OTs over a ladder of rings: the difference of the outputs, and nothing else, is the product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.ot.chosen import OperandMismatch
from protocols.ot.ragged import correlate_ragged
from protocols.ot.service import OtService
from sim.concrete import from_words, to_words
from sim.ring import Z2, Ring, Shape
from sim.role import CLIENT, SERVER, Role
from sim.world import Execution, Session
from tests.harness import session

_RNG = np.random.default_rng()


def run(
    receiver: Role, bits: Any, deltas: Any, shape: Shape, rings: list[Ring], where: Session | None = None
) -> Execution:
    mine, theirs = [receiver, bits, None], [receiver, None, deltas]
    inputs = (mine, theirs) if receiver is CLIENT else (theirs, mine)
    return (where or session()).run(correlate_ragged, *inputs, shape=shape, rings=tuple(rings))


@settings(max_examples=25)
@given(
    receiver=st.sampled_from(list(Role)),
    widths=st.lists(st.one_of(st.sampled_from([1, 2, 63, 64]), st.integers(1, 64)), min_size=1, max_size=8),
    shape=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    extreme=st.booleans(),
    data=st.data(),
)
def test_difference_is_bit_times_delta(
    receiver: Role, widths: list[int], shape: Shape, extreme: bool, data: st.DataObject
) -> None:
    rings = [Ring(l) for l in widths]
    bits = _RNG.integers(0, 2, (len(rings), *shape))
    words = [
        np.full(shape, ring.mask, np.uint64)
        if extreme
        else _RNG.integers(0, ring.mask, shape, np.uint64, endpoint=True)
        for ring in rings
    ]
    deltas = [from_words(ring, w) for ring, w in zip(rings, words, strict=True)]
    execution = run(receiver, from_words(Z2, bits), deltas, shape, rings)
    got, sent = execution.outputs[receiver], execution.outputs[receiver.peer]
    assert len(got) == len(sent) == len(rings)
    for i, ring in enumerate(rings):
        assert got[i].ring == sent[i].ring == ring
        want = (bits[i].astype(object) * words[i].astype(object)) % ring.modulus
        assert np.array_equal(to_words(got[i] - sent[i]).astype(object), want)
    declared = correlate_ragged.declared(receiver, None, None, shape=shape, rings=rings)
    wire = execution.scope(f"{execution.prefix}/correlate_ragged")
    assert [m.sender for m in wire] == [receiver, receiver.peer]
    assert sum(m.nbytes for m in wire) == declared.nbytes
    n = int(np.prod(shape))
    assert [m.nbytes for m in wire] == [-(-n * len(rings) // 8), -(-n * sum(widths) // 8)]


def test_outputs_are_fresh_and_uniform() -> None:
    """The sender's words under one request: all different between runs, each bit near one half."""
    ring, shape = Ring(64), (512,)
    inputs = from_words(Z2, np.zeros((1, 512), int)), [from_words(ring, np.zeros(512, int))]
    fixed = Session([OtService()], seed=b"ragged")
    first, second = (to_words(run(CLIENT, *inputs, shape, [ring], fixed).outputs[SERVER][0]) for _ in range(2))
    assert len(np.unique(np.concatenate([first, second]))) == 1024
    ones = np.array([int((np.concatenate([first, second]) >> np.uint64(i) & np.uint64(1)).sum()) for i in range(64)])
    assert (abs(ones - 512) < 6 * 16).all()


@pytest.mark.parametrize("receiver", list(Role))
def test_operands_that_do_not_fit_are_refused(receiver: Role) -> None:
    bits, delta = from_words(Z2, [[0, 1]]), from_words(Ring(8), [1, 2])
    faults: list[tuple[Any, Any]] = [
        (from_words(Z2, [0, 1]), [delta]),
        (from_words(Ring(8), [[0, 1]]), [delta]),
        (bits, [delta, delta]),
        (bits, []),
        (bits, None),
        (None, [delta]),
        (bits, [from_words(Ring(9), [1, 2])]),
        (bits, [from_words(Ring(8), [1, 2, 3])]),
    ]
    for wrong_bits, wrong_deltas in faults:
        with pytest.raises(OperandMismatch):
            run(receiver, wrong_bits, wrong_deltas, (2,), [Ring(8)])
    run(receiver, bits, [delta], (2,), [Ring(8)])
