"""The OT protocols against their functionalities, their transcripts and their closed-form costs."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.ot.chosen import (
    ChoiceCount,
    OperandMismatch,
    bit_triples,
    bit_triples_cost,
    choose,
    choose_cost,
    correlate,
    correlate_cost,
    correlate_wide,
)
from protocols.ot.functionalities import BIT_TRIPLES, CHOOSE, CORRELATE
from protocols.ot.service import OtService, OtState, Pool, provision_cost
from sim.concrete import from_words, to_words
from sim.cost import Cost
from sim.party import ProtocolDecl
from sim.ring import Z2, Ring, RingArray, Shape
from sim.role import CLIENT, SERVER, Role
from sim.world import Execution, ReservationError, Session

Words = NDArray[Any]
WIDTHS = (1, 2, 7, 18, 19, 46, 63, 64)
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
seeds = st.integers(0, 2**32)


@cache
def _session() -> Session:
    return Session([OtService()], seed=b"chosen")


def _run(proto: ProtocolDecl[Any], receiver: Role, mine: Any, theirs: Any, cost: Cost, **public: Any) -> Execution:
    """Run with the receiver's and the sender's input; check shapes cost == wire cost == closed form."""
    session = _session()
    args = {receiver: [receiver, mine, None], receiver.peer: [receiver, None, theirs]}
    e = session.run(proto, args[CLIENT], args[SERVER], **public)
    assert session.price(proto, args[CLIENT], args[SERVER], **public).cost.row() == cost.row()
    assert proto.cost is not None
    assert proto.cost(receiver, mine, theirs, **public) == cost
    wire = {role: sum(m.nbytes for m in e.scope(f"{e.prefix}/{proto.name}") if m.sender is role) for role in Role}
    assert (wire[CLIENT], wire[SERVER]) == (cost.c2s, cost.s2c)
    pool = provision_cost({"cot.client": cost.cot_client, "cot.server": cost.cot_server})
    assert (e.cost.c2s, e.cost.s2c) == (cost.c2s + pool.c2s, cost.s2c + pool.s2c)
    assert (e.cost.cot_client, e.cost.cot_server) == (cost.cot_client, cost.cot_server)
    return e


def _pool(role: Role, receiver: Role) -> Pool:
    state: OtState = _session().endpoints[role].states["ot"]
    pool = state.pools[receiver]
    assert pool is not None
    return pool


# -- 1-of-N -------------------------------------------------------------------------------------------------------


def _choose(receiver: Role, index: Words, table: Words) -> tuple[Execution, Words, Words]:
    """Gives the execution, the sender's output and the receiver's."""
    (n, width), shape = table.shape[-2:], index.shape
    e = _run(
        choose,
        receiver,
        from_words(Ring(n.bit_length() - 1), index),
        from_words(Z2, table),
        choose_cost(receiver, shape=shape, n_choices=n, width=width),
        shape=shape,
        n_choices=n,
        width=width,
    )
    return e, to_words(e.outputs[receiver.peer]), to_words(e.outputs[receiver])


@settings(max_examples=60)
@given(st.sampled_from(Role), st.integers(1, 8), st.integers(1, 140), shapes, seeds)
@example(CLIENT, 8, 130, (2,), 0)
@example(SERVER, 1, 129, (3,), 1)
@example(SERVER, 4, 8, (0,), 1)
def test_choose_shares_the_chosen_string(receiver: Role, w: int, width: int, shape: Shape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index, table = rng.integers(0, 1 << w, shape), rng.integers(0, 2, (*shape, 1 << w, width))
    _, sent, got = _choose(receiver, index, table)
    assert np.array_equal(got, CHOOSE.compute(index, table, sent))


@pytest.mark.parametrize("w", [1, 2, 3, 4, 8])
def test_choose_serves_every_index(w: int) -> None:
    n = 1 << w
    table = np.random.default_rng(w).integers(0, 2, (n, n, w + 3), dtype=np.uint64)
    _, sent, got = _choose(CLIENT, np.arange(n), table)
    assert np.array_equal(got ^ sent, table[np.arange(n), np.arange(n)])


def test_choose_over_several_hash_batches() -> None:
    rng = np.random.default_rng(0)
    index, table = rng.integers(0, 8, 12_000), rng.integers(0, 2, (12_000, 8, 3), dtype=np.uint8)
    _, sent, got = _choose(SERVER, index, table)
    assert np.array_equal(got, CHOOSE.compute(index, table, sent))


@pytest.mark.parametrize(("n_choices", "width"), [(2, 1), (2, 128), (16, 8), (16, 9), (8, 70), (256, 1)])
def test_the_transcript_of_choose_is_its_definition(n_choices: int, width: int) -> None:
    """The first message is free: r = table[0] ^ pad_0 is not drawn, and only messages 1 .. N - 1 are sent."""
    w, count = n_choices.bit_length() - 1, 5
    rng = np.random.default_rng(n_choices * width)
    index, table = rng.integers(0, n_choices, count), rng.integers(0, 2, (count, n_choices, width), dtype=np.uint64)
    e, sent, _ = _choose(CLIENT, index, table)
    pool, mine = _pool(SERVER, CLIENT), _pool(CLIENT, CLIENT)
    sizes = {m.label.rpartition("/")[2]: m.nbytes for m in e.scope(f"{e.prefix}/choose")}
    assert sizes == {"choice": -(-count * w // 8), "masked": -(-count * (n_choices - 1) * width // 8)}
    payload = {m.label.rpartition("/")[2]: m.payload for m in e.scope(f"{e.prefix}/choose")}
    flips = np.unpackbits(np.frombuffer(payload["choice"] or b"", np.uint8), bitorder="little")[: count * w]
    wanted = (index[:, None] >> np.arange(w)) & 1
    assert np.array_equal(flips, mine.choices ^ wanted.reshape(-1))
    masked = np.unpackbits(np.frombuffer(payload["masked"] or b"", np.uint8), bitorder="little")
    masked = masked[: count * (n_choices - 1) * width].reshape(count, n_choices - 1, width)
    assert pool.delta is not None
    blocks = -(-n_choices * width // 128)
    for o in range(count):
        pads = np.zeros((n_choices, width), np.uint8)
        for j in range(w):
            cot = o * w + j
            for i in range(n_choices):
                key = pool.keys[cot] ^ (pool.delta if ((i >> j) & 1) ^ flips[cot] else np.uint64(0))
                stream = pool.hash(key[None], pool.first + cot, blocks).view(np.uint8)
                pads[i] ^= np.unpackbits(stream[0], bitorder="little")[i * width : (i + 1) * width]
        assert np.array_equal(sent[o], table[o, 0] ^ pads[0])
        assert np.array_equal(masked[o], table[o, 1:] ^ sent[o] ^ pads[1:])


def test_the_receiver_sees_a_fresh_pad_on_every_message_it_did_not_choose() -> None:
    """All tables and indices are zero: every masked message is then a pad the receiver cannot make."""
    from scipy.stats import chi2

    count = 3000
    _session.cache_clear()  # the pads are those of the seed, whatever ran before
    e, sent, got = _choose(CLIENT, np.zeros(count, np.int64), np.zeros((count, 16, 8), np.uint8))
    assert np.array_equal(sent, got)
    payload = next(m.payload for m in e.messages if m.label.endswith("masked"))
    for data in (np.frombuffer(payload or b"", np.uint8), np.packbits(sent, axis=1).reshape(-1)):
        counts = np.bincount(data, minlength=256)
        statistic = float(((counts - data.size / 256) ** 2).sum() / (data.size / 256))
        assert chi2.isf(1 - 1e-6, 255) < statistic < chi2.isf(1e-6, 255)


@pytest.mark.parametrize("n", [0, 1, 3, 12, 512])
def test_choose_refuses_other_numbers_of_choices(n: int) -> None:
    args = (
        [CLIENT, from_words(Z2, np.zeros(1, np.uint8)), None],
        [CLIENT, None, from_words(Z2, np.zeros((1, n, 1), np.uint8))],
    )
    with pytest.raises(ChoiceCount, match=f"from 2 to 256, got {n}\\b"):
        _session().run(choose, *args, shape=(1,), n_choices=n, width=1)


# -- correlated ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l", WIDTHS)
@settings(max_examples=8)
@given(receiver=st.sampled_from(Role), shape=shapes, seed=seeds)
def test_correlate_adds_the_chosen_delta(l: int, receiver: Role, shape: Shape, seed: int) -> None:
    rng, ring = np.random.default_rng(seed), Ring(l)
    bit, delta = rng.integers(0, 2, shape), rng.integers(0, 2**64, shape, dtype=np.uint64) & np.uint64(ring.mask)
    cost = correlate_cost(receiver, shape=shape, rings=(ring,))
    e = _run(correlate, receiver, from_words(Z2, bit), from_words(ring, delta), cost, shape=shape, ring=ring)
    sent, got = (to_words(e.outputs[role]) for role in (receiver.peer, receiver))
    assert np.array_equal(got, CORRELATE.compute(bit, delta, l, sent))


@settings(max_examples=25)
@given(st.sampled_from(Role), st.lists(st.integers(1, 64), min_size=1, max_size=5), shapes, seeds)
@example(CLIENT, [64, 63, 1, 64], (3,), 0)
def test_one_choice_serves_several_deltas(receiver: Role, widths: list[int], shape: Shape, seed: int) -> None:
    rng, rings = np.random.default_rng(seed), tuple(Ring(l) for l in widths)
    bit = rng.integers(0, 2, shape)
    deltas = [rng.integers(0, 2**64, shape, dtype=np.uint64) & np.uint64(ring.mask) for ring in rings]
    inputs = tuple(from_words(ring, delta) for ring, delta in zip(rings, deltas, strict=True))
    session, cost = _session(), correlate_cost(receiver, shape=shape, rings=rings)
    args = {receiver: [receiver, from_words(Z2, bit), None], receiver.peer: [receiver, None, inputs]}
    e = session.run(correlate_wide, args[CLIENT], args[SERVER], shape=shape, rings=rings)
    n = math.prod(shape)
    sizes = {m.label.rpartition("/")[2]: m.nbytes for m in e.scope(f"{e.prefix}/correlate_wide")}
    assert sizes == {"choice": -(-n // 8), "masked": -(-n * sum(widths) // 8)}
    assert (sum(sizes.values()), cost.cot_client + cost.cot_server) == (cost.nbytes, n)
    for ring, delta, sent, got in zip(rings, deltas, e.outputs[receiver.peer], e.outputs[receiver], strict=True):
        assert np.array_equal(to_words(got), CORRELATE.compute(bit, delta, ring.l, to_words(sent)))


def test_pads_of_one_element_are_independent_over_rings_and_blocks() -> None:
    """Five rings of 64 bits take three blocks; equal streams would show as equal sender outputs."""
    rings, zero = (Ring(64),) * 5, from_words(Ring(64), np.zeros(50, np.uint8))
    bits = from_words(Z2, np.zeros(50, np.uint8))
    e = _session().run(correlate_wide, [CLIENT, bits, None], [CLIENT, None, (zero,) * 5], shape=(50,), rings=rings)
    assert len(np.unique(np.concatenate([to_words(x) for x in e.outputs[SERVER]]))) == 250


# -- bit triples --------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(shapes, st.integers(1, 140))
@example((500,), 2)
def test_bit_triples_multiply_and_cost_no_message(shape: Shape, right: int) -> None:
    session, cost = _session(), bit_triples_cost(shape=shape, right=right)
    e = session.run(bit_triples, [], [], shape=shape, right=right)
    (a, b, c), (a2, b2, c2) = ([to_words(x) for x in e.outputs[role]] for role in Role)
    assert a.shape == shape and b.shape == c.shape == (*shape, right)
    assert np.array_equal(c2, BIT_TRIPLES.compute((a, a2), (b, b2), c))
    assert session.price(bit_triples, [], [], shape=shape, right=right).cost.row() == cost.row()
    assert e.scope(f"{e.prefix}/bit_triples") == ()
    n = math.prod(shape)
    assert cost.row() == (0, 0, 0, n, n, 0)


def test_bit_triples_are_uniform_and_independent() -> None:
    """Each party's six bits (a, b0, b1, c0, c1) and the secrets (a, b0, b1): exact chi-square over all cells."""
    from scipy.stats import chi2

    n = 20_000
    e = Session([OtService()], seed=b"uniform triples").run(bit_triples, [], [], shape=(n,), right=2)
    shares = {role: [to_words(x) for x in e.outputs[role]] for role in Role}
    open_a, open_b = (shares[CLIENT][i] ^ shares[SERVER][i] for i in (0, 1))
    cells = [np.stack([s[0], *s[1].T, *s[2].T]) for s in shares.values()]
    cells.append(np.stack([open_a, *open_b.T, *shares[CLIENT][1].T]))
    for bits in cells:
        code = (bits.astype(np.int64) << np.arange(5)[:, None]).sum(axis=0)
        counts = np.bincount(code, minlength=32)
        statistic = float(((counts - n / 32) ** 2).sum() / (n / 32))
        assert chi2.isf(1 - 1e-6, 31) < statistic < chi2.isf(1e-6, 31)


# -- wrong use ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "table", "who"),
    [
        (None, None, "index is client's input"),
        (from_words(Ring(3), np.zeros(2, np.uint8)), None, "expected index over Z_2\\^2 of shape \\(2,\\)"),
        (from_words(Ring(2), np.zeros(3, np.uint8)), None, "expected index over Z_2\\^2 of shape \\(2,\\)"),
        (
            from_words(Ring(2), np.zeros(2, np.uint8)),
            from_words(Z2, np.zeros((2, 4, 1), np.uint8)),
            "table is server's input, and client",
        ),
    ],
)
def test_choose_names_a_wrong_input(index: RingArray | None, table: RingArray | None, who: str) -> None:
    good = [CLIENT, None, from_words(Z2, np.zeros((2, 4, 1), np.uint8))]
    with pytest.raises(OperandMismatch, match=who):
        _session().run(choose, [CLIENT, index, table], good, shape=(2,), n_choices=4, width=1)


def test_correlate_names_a_wrong_input() -> None:
    bit, delta, r8 = from_words(Z2, np.zeros(2, np.uint8)), from_words(Ring(9), np.zeros(2, np.uint8)), Ring(8)
    with pytest.raises(OperandMismatch, match="expected delta over Z_2\\^8"):
        _session().run(correlate, [CLIENT, bit, None], [CLIENT, None, delta], shape=(2,), ring=r8)
    with pytest.raises(OperandMismatch, match="expected 1 deltas from server, got None"):
        _session().run(correlate, [CLIENT, bit, None], [CLIENT, None, None], shape=(2,), ring=r8)
    with pytest.raises(OperandMismatch, match="expected 2 deltas from server"):
        args = [CLIENT, bit, None], [CLIENT, None, (delta,)]
        _session().run(correlate_wide, *args, shape=(2,), rings=(Ring(9), r8))


def test_a_slice_belongs_to_one_label() -> None:
    session = Session([OtService()], seed=b"label")
    session.run(bit_triples, [], [], shape=(4,), right=1)
    for endpoint in session.endpoints.values():
        with pytest.raises(ReservationError, match="which nothing reserved"):
            endpoint.reserve("r1/bit_triples/to-client", "cot.client", 4)
