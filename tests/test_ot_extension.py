"""SoftSpoken and the pool service: the correlation for every COT, exact sizes, nothing used twice."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.ot import aesni, softspoken
from protocols.ot.aes import TweakableHash
from protocols.ot.chosen import bit_triples, choose, correlate
from protocols.ot.functionalities import COT
from protocols.ot.service import (
    OtService,
    OtState,
    Pool,
    PoolExceeded,
    PoolReuse,
    WrongEnd,
    extend,
    extend_cost,
    provision_cost,
    setup_cost,
)
from protocols.ot.softspoken import (
    BASE_OTS,
    LABEL_STEP,
    LEAVES,
    TREES,
    K,
    LeafStreams,
    base_choices,
    grow_punctured,
    grow_trees,
)
from sim.concrete import from_words, to_words
from sim.driver import Source
from sim.message import Message
from sim.ring import Z2, Ring
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES, blank
from sim.tape import derive_key
from sim.wire import Blob, BlobSpec, WireMismatch
from sim.world import Execution, Session


@cache
def _session() -> Session:
    return Session([OtService()], seed=b"extension")


def _pool(session: Session, role: Role, receiver: Role) -> Pool:
    state: OtState = session.endpoints[role].states["ot"]
    pool = state.pools[receiver]
    assert pool is not None
    return pool


def _extend(session: Session, receiver: Role, n: int) -> tuple[Execution, Pool, Pool]:
    """Make n COTs; gives the execution, the receiver's end and the sender's."""
    pools = {role: _pool(session, role, receiver) for role in Role}
    e = session.run(extend, [receiver, pools[CLIENT]], [receiver, pools[SERVER]], n=n)
    return e, pools[receiver], pools[receiver.peer]


# -- trees --------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**32))
def test_the_punctured_trees_lack_one_leaf_each(delta: bytes, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 256, (BASE_OTS, 2, 16), dtype=np.uint8)
    prg = TweakableHash(b"k" * 16)
    leaves, message = grow_trees(prg, keys)
    assert len(message) == softspoken.TREE_BYTES == 3584
    punctured = grow_punctured(prg, delta, keys[np.arange(BASE_OTS), base_choices(delta)], message)
    hole = np.frombuffer(delta, np.uint8)
    known = np.arange(LEAVES) != hole[:, None]
    assert np.array_equal(punctured[known], leaves[known])
    assert not punctured[~known].any()
    assert len({leaf.tobytes() for leaf in leaves.reshape(-1, 2)}) == TREES * LEAVES


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.skipif(not aesni.AVAILABLE, reason=""))]
)
@pytest.mark.parametrize("punctured", [False, True])
def test_leaf_streams_are_their_definition(compiled: bool, punctured: bool) -> None:
    delta = bytes(range(200, 216)) if punctured else None
    weight = np.frombuffer(delta or bytes(TREES), np.uint8)
    leaves = np.random.default_rng(1).integers(0, 2**64, (TREES, LEAVES, 2), dtype=np.uint64)
    prg, first, blocks = TweakableHash(b"k" * 16), 3, 2
    planes, totals = LeafStreams(prg, leaves, delta)._fold(first, blocks, compiled)
    labels = K * LABEL_STEP + np.arange(TREES * LEAVES).reshape(TREES, LEAVES)
    for i in (0, 5, TREES - 1):
        pairs = zip(leaves[i], labels[i], strict=True)
        rows = np.stack([prg(leaf[None], int(label), first + blocks)[0, 2 * first :] for leaf, label in pairs])
        assert np.array_equal(totals[i], np.bitwise_xor.reduce(rows, axis=0))
        for b in range(K):
            chosen = ((np.arange(LEAVES) ^ int(weight[i])) >> b) & 1 == 1
            assert np.array_equal(planes[i, b], np.bitwise_xor.reduce(rows[chosen], axis=0))


def test_a_broken_kernel_is_found_when_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(schedule: Any, base: Any, first: int, planes: Any, total: Any) -> None:
        planes[:], total[:] = 0, 0

    softspoken._self_tested.cache_clear()
    monkeypatch.setattr(aesni, "fold_streams", broken)
    with pytest.raises(softspoken.KernelMismatch, match="AES instructions"):
        softspoken._self_tested()
    monkeypatch.undo()
    assert not aesni.AVAILABLE or softspoken._self_tested()


# -- the extension ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receiver", list(Role))
@pytest.mark.parametrize("n", [1, 7, 8, 127, 128, 129, 8191, 8192, 8193, 20001])
def test_every_cot_is_correlated(receiver: Role, n: int) -> None:
    e, mine, theirs = _extend(_session(), receiver, n)
    delta = theirs.delta
    assert delta is not None and mine.delta is None
    assert mine.keys.shape == theirs.keys.shape == (n, 2)
    assert np.array_equal(mine.keys, COT.compute(mine.choices, theirs.keys, delta))
    assert e.cost.row() == extend_cost(receiver, n=n).row()
    assert e.cost.nbytes == 15 * -(-n // 8)


def test_directions_and_sessions_have_deltas_and_keys_of_their_own() -> None:
    pools = [_pool(Session([OtService()], seed=seed), role, role.peer) for seed in (b"1", b"2") for role in Role]
    assert len({pool.delta.tobytes() for pool in pools if pool.delta is not None}) == 4
    assert len({pool.hash.pi.key for pool in pools}) == 4


def test_choices_and_keys_are_uniform() -> None:
    from scipy.stats import chi2

    _, mine, theirs = _extend(Session([OtService()], seed=b"uniform"), CLIENT, 40_000)
    for data in (np.packbits(mine.choices), mine.keys.view(np.uint8), theirs.keys.view(np.uint8)):
        counts = np.bincount(data.reshape(-1), minlength=256)
        statistic = float(((counts - data.size / 256) ** 2).sum() / (data.size / 256))
        assert chi2.isf(1 - 1e-6, 255) < statistic < chi2.isf(1e-6, 255)


def test_no_leaf_position_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    used: Counter[tuple[int, int]] = Counter()
    original = LeafStreams._fold

    def spy(self: LeafStreams, first: int, blocks: int, compiled: bool) -> Any:
        used.update((id(self), position) for position in range(first, first + blocks))
        return original(self, first, blocks, compiled)

    session = Session([OtService()], seed=b"positions")
    softspoken._self_tested()
    monkeypatch.setattr(LeafStreams, "_fold", spy)
    for receiver in (CLIENT, SERVER, CLIENT):
        for n in (1, 100, 9000):
            _extend(session, receiver, n)
    assert set(used.values()) == {1}
    assert len({who for who, _ in used}) == 4


def test_the_portable_path_gives_the_same_transcript(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        session = Session([OtService()], seed=b"paths")
        return session.setup.digest + session.run(bit_triples, [], [], shape=(1000,), right=1).digest

    fast = digest()
    monkeypatch.setattr(aesni, "AVAILABLE", False)
    assert digest() == fast


# -- the service --------------------------------------------------------------------------------------------------


def test_set_up_costs_what_it_declares_and_runs_in_shapes() -> None:
    setup = _session().setup
    assert setup.cost.row() == setup_cost().row()
    assert setup.cost.nbytes == 2 * (4128 + 3584) + 32
    assert Session([OtService()], backend=SHAPES).setup.cost.row() == setup_cost().row()


def test_provisioning_is_one_message_per_direction_side_by_side() -> None:
    e = _session().run(bit_triples, [], [], shape=(77,), right=2)
    pool = e.scope("r" + e.prefix[1:] + "/pool")
    want = provision_cost({"cot.client": 77, "cot.server": 77})
    assert sorted(m.nbytes for m in pool) == sorted([want.c2s, want.s2c]) == [150, 150]
    assert {m.depth for m in pool} == {1}
    assert e.messages == pool


def test_a_slice_is_taken_once() -> None:
    session = Session([OtService()], seed=b"once")
    _, mine, theirs = _extend(session, CLIENT, 100)
    for pool in (mine, theirs):
        pool.take(10, 20)
        pool.take(30, 70)
        for offset, n in ((10, 20), (29, 1), (0, 11), (99, 1)):
            with pytest.raises(PoolReuse):
                pool.take(offset, n)
        for offset, n in ((0, 101), (100, 1), (-1, 1)):
            with pytest.raises(PoolExceeded):
                pool.take(offset, n)
        assert len(pool.take(0, 10).keys) == 10


def test_the_count_of_cots_runs_on_over_a_session() -> None:
    session = Session([OtService()], seed=b"count")
    for n, before in ((100, 0), (1, 100), (50, 101)):
        _, mine, theirs = _extend(session, SERVER, n)
        assert mine.first == theirs.first == before
        assert mine.take(n - 1, 1).first == before + n - 1


def test_the_receivers_end_cannot_answer() -> None:
    _, mine, _ = _extend(_session(), CLIENT, 8)
    with pytest.raises(WrongEnd, match="expected the COT sender's end"):
        mine.answer(Blob(BlobSpec("cot", 15), bytes(15)), 8)


def _ledger(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int, int, bytes]]:
    """Counts (hash, index, block, input) over all calls of the tweakable hash."""
    ledger: Counter[tuple[int, int, int, bytes]] = Counter()
    original = TweakableHash.__call__

    def spy(self: TweakableHash, x: Any, first: int, blocks: int = 1) -> Any:
        ledger.update((id(self), first + i, b, row.tobytes()) for i, row in enumerate(x) for b in range(blocks))
        return original(self, x, first, blocks)

    monkeypatch.setattr(TweakableHash, "__call__", spy)
    return ledger


def test_no_tweak_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session([OtService()], seed=b"tweaks")
    ends = {id(_pool(session, role, receiver).hash): role is receiver for role in Role for receiver in Role}
    monkeypatch.setattr("protocols.ot.service.BATCH", 64)
    ledger = _ledger(monkeypatch)
    index, table = from_words(Ring(4), np.arange(16)), from_words(Z2, np.zeros((16, 16, 20), np.uint8))
    bit, delta = from_words(Z2, np.ones(300, np.uint8)), from_words(Ring(40), np.arange(300))
    for _ in range(2):
        for receiver in Role:
            for proto, mine, theirs, public in (
                (choose, index, table, {"shape": (16,), "n_choices": 16, "width": 20}),
                (correlate, bit, delta, {"shape": (300,), "ring": Ring(40)}),
            ):
                args = {receiver: [receiver, mine, None], receiver.peer: [receiver, None, theirs]}
                session.run(proto, args[CLIENT], args[SERVER], **public)
        session.run(bit_triples, [], [], shape=(9, 9), right=200)
    assert set(ledger.values()) == {1}
    tweaks = Counter((who, index, block) for who, index, block, _ in ledger)
    for (who, *_), count in tweaks.items():
        assert count == (1 if ends[who] else 2)  # the sender hashes q and q ^ Delta, the receiver t
    per_direction = 2 * (3 * 4 * 16 + 300 + 2 * 81)
    assert Counter(who for who, *_ in tweaks) == dict.fromkeys(ends, per_direction)


def test_two_runs_of_a_session_share_no_pad() -> None:
    session = Session([OtService()], seed=b"pads")
    runs = [session.run(bit_triples, [], [], shape=(1,), right=128) for _ in range(20)]
    strings = [to_words(e.outputs[role][1]).tobytes() for e in runs for role in Role]
    assert len(set(strings)) == len(strings)
    assert len({e.digest for e in runs}) == len(runs)


# -- isolation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_each_party_alone_sends_the_same_bytes(role: Role) -> None:
    index, table = from_words(Ring(3), np.arange(8)), from_words(Z2, np.eye(8, dtype=np.uint8)[None].repeat(8, 0))
    public = {"shape": (8,), "n_choices": 8, "width": 8}
    both = Session([OtService()], seed=b"alone")
    record = {(m.sender, m.label): m for m in both.setup.messages}
    args = {CLIENT: [CLIENT, index, None], SERVER: [CLIENT, None, table]}
    e = both.run(choose, args[CLIENT], args[SERVER], **public)
    record |= {(m.sender, m.label): m for m in e.messages}

    def source(label: str) -> Message | None:
        return record.get((role.peer, label))

    sources: dict[Role, Source] = {role.peer: source}
    key = {role: derive_key(b"alone", role.value)}
    alone = Session([OtService()], roles=[role], keys=key, sources=sources)
    blanks = {owner: [CLIENT, *(None if x is None else blank(x.spec) for x in args[owner][1:])] for owner in Role}
    mine = {owner: args[owner] if owner is role else blanks[owner] for owner in Role}
    again = alone.run(choose, mine[CLIENT], mine[SERVER], **public)
    assert [m for m in e.messages if m.sender is role] == list(again.messages)
    assert [m for m in both.setup.messages if m.sender is role] == list(alone.setup.messages)
    assert np.array_equal(to_words(again.outputs[role]), to_words(e.outputs[role]))


def test_an_extension_message_of_the_wrong_size_is_refused() -> None:
    pools = {role: _pool(_session(), role, CLIENT) for role in Role}
    session = Session([OtService()], seed=b"wrong")
    record = {m.label: m for m in session.setup.messages if m.sender is CLIENT}
    record["r1/extend/d"] = session.run(extend, [CLIENT, pools[CLIENT]], [CLIENT, pools[SERVER]], n=8).messages[0]
    alone = Session([OtService()], seed=b"wrong", roles=[SERVER], sources={CLIENT: record.get})
    with pytest.raises(WireMismatch, match="expected cot of 30 bytes"):
        alone.run(extend, [CLIENT, None], [CLIENT, _pool(alone, SERVER, CLIENT)], n=16)
