"""Ferret within sessions: stocks from run to run, prices and forecasts, lanes, parties alone and apart.

The LPN parameters are tiny, INSECURE ones, so that a few hundred COTs are many; one test has the real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.ot import amounts
from protocols.ot.amounts import making
from protocols.ot.chosen import bit_triples, choose
from protocols.ot.ferret import Iteration
from protocols.ot.functionalities import COT
from protocols.ot.ideal import IdealOtService
from protocols.ot.kernels import U64
from protocols.ot.lpn import Preset
from protocols.ot.ragged import correlate_ragged
from protocols.ot.service import OtService, OtState, Pool, StockMismatch, WrongEnd, extend, extend_cost, provision_cost
from sim.concrete import from_words, to_words
from sim.message import Message
from sim.ring import Z2, Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.tape import derive_key
from sim.wire import Blob, BlobSpec, encode
from sim.world import Execution, Session
from tests.remote_support import DealtBaseOts, Work, converse
from transcripts.lanes import FORMS, Lanes, by_lane
from transcripts.tweaks import correlations, tweaks, watch

TINY = Preset("tiny", 8, 5, 6), Preset("less tiny", 10, 6, 7), Preset("nearly tiny", 12, 7, 8)
MANY = 450  # COTs, for which Ferret sends less


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    making.cache_clear()
    for name, preset in zip(("B10", "B11", "B12"), TINY, strict=True):
        monkeypatch.setattr(amounts, name, preset)
    assert making(MANY).iterations
    yield
    making.cache_clear()


def pool_of(session: Session, role: Role, receiver: Role) -> Pool:
    state: OtState = session.endpoints[role].states["ot"]
    pool = state.pools[receiver]
    assert pool is not None
    return pool


def extended(session: Session, receiver: Role, n: int) -> tuple[Execution, Pool, Pool]:
    """Make n COTs, whatever is in stock; gives the execution, the receiver's end and the sender's."""
    pools = {role: pool_of(session, role, receiver) for role in Role}
    mine, theirs = pools[receiver], pools[receiver.peer]
    start = len(mine.stock)
    e = session.run(extend, [receiver, pools[CLIENT]], [receiver, pools[SERVER]], n=n, start=start)
    assert e.cost.row() == extend_cost(receiver, n=n, start=start).row()
    assert e.outputs[CLIENT] == e.outputs[SERVER] == len(mine.stock) == len(theirs.stock) == making(n, start).left
    assert theirs.delta is not None and len(mine.keys) == len(theirs.keys) == len(mine.choices) == n
    assert np.array_equal(mine.keys, COT.compute(mine.choices, theirs.keys, theirs.delta))
    return e, mine, theirs


# -- stocks -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([1, 400, 421, 432, 433, 512, 3000]) | st.integers(1, 5000), min_size=1, max_size=6))
def test_amounts_of_any_size_come_one_after_the_other(sizes: list[int]) -> None:
    session, before = Session([DealtBaseOts(7)], seed=b"stocks"), 0
    for n in sizes:
        _, mine, theirs = extended(session, SERVER, n)
        assert mine.first == theirs.first == before
        before += n


def test_real_iterations_in_a_session() -> None:
    session = Session([OtService()], seed=b"real")
    e, mine, _ = extended(session, CLIENT, 150_000)
    assert [(m.sender, m.nbytes, m.depth) for m in e.messages] == [(CLIENT, 138_825, 1), (SERVER, 122_400, 2)]
    assert len(mine.stock) == 870_400 - 150_000
    e, mine, _ = extended(session, CLIENT, 800_000)
    assert [(m.sender, m.nbytes) for m in e.messages] == [(SERVER, 122_400)]
    assert mine.first == 150_000
    again, _, _ = extended(session, CLIENT, 100)
    assert not again.messages


@pytest.mark.usefixtures("tiny")
def test_reserves_and_pools_have_no_cot_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[Role, list[U64]] = {role: [] for role in Role}
    originals = Iteration.sender, Iteration.receiver

    def sender(self: Iteration, delta: U64, reserve: U64, out: U64) -> bytes:
        used[SERVER].append(reserve.copy())
        return originals[0](self, delta, reserve, out)

    def receiver(self: Iteration, reserve: U64, message: bytes, out: U64) -> None:
        used[CLIENT].append(reserve.copy())
        originals[1](self, reserve, message, out)

    monkeypatch.setattr(Iteration, "sender", sender)
    monkeypatch.setattr(Iteration, "receiver", receiver)
    session = Session([OtService()], seed=b"reserves")
    for n in (500, 3000, 40, 5000, 700):
        _, mine, theirs = extended(session, CLIENT, n)
        used[CLIENT].append(mine.keys.copy())
        used[SERVER].append(theirs.keys.copy())
    assert len(used[CLIENT]) == len(used[SERVER]) > 8
    for rows in used.values():
        every = np.concatenate(rows)
        assert len(np.unique(every, axis=0)) == len(every)


@pytest.mark.usefixtures("tiny")
def test_no_iteration_has_a_number_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[bytes, int]] = Counter()
    original = Iteration.__init__

    def spy(self: Iteration, direction: bytes, number: int, preset: Preset) -> None:
        seen[direction, number] += 1
        original(self, direction, number, preset)

    monkeypatch.setattr(Iteration, "__init__", spy)
    for seed in (b"one", b"two"):
        session = Session([OtService()], seed=seed)
        for _ in range(3):
            session.run(bit_triples, [], [], shape=(3000,), right=1)
    assert set(seen.values()) == {2}  # both parties
    assert len({direction for direction, _ in seen}) == 4


@pytest.mark.usefixtures("tiny")
def test_tweaks_and_correlations_are_used_once_whoever_made_them() -> None:
    session = Session([OtService()], seed=b"tweaks")
    ledgers = watch(session)
    for n in (100, MANY, 150, 2000, 3000):
        session.run(bit_triples, [], [], shape=(n,), right=1)
    assert not tweaks(ledgers).leak and not correlations(ledgers).leak
    assert [sum(len(x) for _, x in ledger.calls) for ledger in ledgers if not ledger.sender] == [5700, 5700]


@pytest.mark.usefixtures("tiny")
def test_the_count_in_stock_is_checked_and_so_is_the_end() -> None:
    session = Session([OtService()], seed=b"checked")
    _, mine, _ = extended(session, SERVER, MANY)
    assert len(mine.stock)
    with pytest.raises(StockMismatch, match=f"expected 7 COTs of earlier runs, there are {len(mine.stock)}"):
        mine.begin(making(10, 7))
    with pytest.raises(WrongEnd, match="Ferret: expected the COT sender's end"):
        mine.send_trees(TINY[0])


# -- prices -------------------------------------------------------------------------------------------------------


def header(messages: tuple[Message, ...]) -> list[Any]:
    return [(m.sender, m.label, m.depth, m.spec) for m in messages]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("ideal", [False, True], ids=["real", "ideal"])
def test_every_run_of_a_session_is_forecast(ideal: bool) -> None:
    service = IdealOtService() if ideal else OtService()
    first = Session([service], hybrid=ideal)
    for session in (first, Session([service], shadow=first._shadow, hybrid=ideal)):
        before = []
        for n in (MANY, 60, 5000, 1, 700, 700):
            stocks = dict(session.endpoints[CLIENT].stocks)
            before.append(sum(stocks.values()))
            want = provision_cost({"cot.client": n, "cot.server": n}, stocks)
            told = session.forecast(bit_triples, [], [], shape=(n,), right=1)
            assert told == session.forecast(bit_triples, [], [], shape=(n,), right=1)
            e = session.run(bit_triples, [], [], shape=(n,), right=1)
            assert header(e.messages) == header(told)
            assert e.cost.row()[:3] == (want.c2s, want.s2c, want.messages)
            assert e.cost.rounds == want.rounds
            assert session.endpoints[CLIENT].stocks == session.endpoints[SERVER].stocks
        assert before[:3] == [0, 2 * (512 - MANY), 2 * (512 - MANY - 60)]


# -- one party at a time ------------------------------------------------------------------------------------------

INDEX, TABLE = from_words(Ring(4), np.arange(160) % 16), from_words(Z2, np.ones((160, 16, 3), np.uint8))
PUBLIC = {"shape": (160,), "n_choices": 16, "width": 3}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("role", list(Role))
def test_each_party_alone_sends_the_same_bytes_in_every_run(role: Role) -> None:
    both = Session([OtService()], seed=b"alone")
    args = {CLIENT: [SERVER, None, TABLE], SERVER: [SERVER, INDEX, None]}
    runs = [both.run(choose, args[CLIENT], args[SERVER], **PUBLIC) for _ in range(3)]
    assert any(m.label.endswith("trees-0") for e in runs for m in e.messages)
    record = {m.label: m for e in (both.setup, *runs) for m in e.messages if m.sender is not role}
    keys = {role: derive_key(b"alone", role.value)}
    alone = Session([OtService()], roles=[role], keys=keys, sources={role.peer: record.get})
    mine = {owner: args[owner] if owner is role else [_absent(v) for v in args[owner]] for owner in Role}
    for e in runs:
        again = alone.run(choose, mine[CLIENT], mine[SERVER], **PUBLIC)
        assert list(again.messages) == [m for m in e.messages if m.sender is role]
        assert np.array_equal(to_words(again.outputs[role]), to_words(e.outputs[role]))


def _absent(value: Any) -> Any:
    return blank(value.spec) if isinstance(value, RingArray) else value


@pytest.mark.usefixtures("tiny")
def test_two_parties_apart() -> None:
    work = Work(choose, [OtService()], {CLIENT: [SERVER, None, TABLE], SERVER: [SERVER, INDEX, None]}, PUBLIC)
    ends = converse(work)
    assert [end.name for end in ends.values()] == ["finished", "finished"]
    assert (to_words(ends[CLIENT].output) ^ to_words(ends[SERVER].output) == 1).all()
    assert any(m.label.endswith("trees-0") for m in ends[CLIENT].messages)


# -- runs side by side --------------------------------------------------------------------------------------------

RINGS = (Ring(5), Ring(3), Ring(9))
BITS = from_words(Z2, np.random.default_rng(2).integers(0, 2, (3, 200), np.uint8))
DELTAS = [from_words(ring, np.arange(200) % (1 << ring.l)) for ring in RINGS]


def wide(lanes: int) -> tuple[Lanes, list[Execution]]:
    """Two passes of a session on equal inputs in every lane."""
    session, found = Session([OtService()], seed=b"wide"), []
    for _ in range(2):
        backend = Lanes(lanes)
        session.widen(backend, lanes, FORMS)
        bits, deltas = (
            [backend.lift(x.ring, np.broadcast_to(x.value, (lanes, *x.shape))) for x in xs] for xs in ([BITS], DELTAS)
        )
        public = {"shape": (200,), "rings": RINGS}
        e = session.run(correlate_ragged, [CLIENT, bits[0], None], [CLIENT, None, deltas], **public)
        found.append(by_lane(e, backend))
    return backend, found


def strings(e: Execution, lanes: Lanes, lane: int) -> list[bytes]:
    contents: list[Any] = [m.content for m in e.messages]
    return [x.data[lane] if isinstance(x, Blob) else encode(lanes.split(x)[lane]) for x in contents]


@pytest.mark.usefixtures("tiny")
def test_one_lane_is_an_ordinary_run_byte_for_byte() -> None:
    lanes, (e, _) = wide(1)
    alone = Session([OtService()], seed=b"wide").run(
        correlate_ragged, [CLIENT, BITS, None], [CLIENT, None, DELTAS], shape=(200,), rings=RINGS
    )
    assert any(m.label.endswith("trees-0") for m in e.messages)
    assert header(e.messages) == header(alone.messages)
    assert strings(e, lanes, 0) == [m.payload for m in alone.messages]


@pytest.mark.usefixtures("tiny")
def test_every_lane_makes_its_own_and_uses_its_own() -> None:
    lanes, passes = wide(4)
    seen: set[bytes] = set()
    for e in passes:
        assert {m.spec for m in e.messages if isinstance(m.spec, BlobSpec)} == {
            BlobSpec("cot", 15 * -(-making(600).soft // 8)),
            *(BlobSpec("trees", preset.nbytes) for preset in making(600).iterations),
        }
        for lane in range(4):
            seen.update(strings(e, lanes, lane))
            for bits, delta, a, b in zip(BITS.value, DELTAS, e.outputs[CLIENT], e.outputs[SERVER], strict=True):
                difference = to_words(lanes.split(a)[lane] - lanes.split(b)[lane])
                assert np.array_equal(difference, bits * delta.value)
    assert len(seen) == 4 * sum(len(e.messages) for e in passes)
