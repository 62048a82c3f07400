"""Sessions and executions: numbered runs, reservations, failures, views and digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import world
from sim.concrete import CONCRETE, from_words, to_words
from sim.driver import Deadlock
from sim.functionality import Functionality
from sim.message import Message, chain
from sim.network import LAN
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES, blank
from sim.tape import derive_key
from sim.wire import Blob, BlobSpec
from sim.world import ReservationError, Session, SessionEnded

R8 = Ring(8)
ANY = Functionality("anything", lambda *args: args)
COT = "cot.client"


@protocol(realises=ANY)
async def masked(p: Party, x: RingArray, *, times: int = 1) -> RingArray:
    """Sends x under fresh masks, `times` times; returns what it drew and received."""
    total = x - x
    for i in range(times):
        mask = p.draw(f"mask{i}", x.ring, x.shape)
        total = total + mask + await p.swap(f"word{i}", x + mask)
    return total


@protocol(realises=ANY)
async def twice(p: Party, x: RingArray) -> list[RingArray]:
    first = await masked(p, x)
    return [first, *await p.gather(masked(p, x, times=2), masked(p, x))]


def words(*values: int) -> RingArray:
    return from_words(R8, list(values))


X, Y = words(1, 2), words(3, 4)


class Tokens:
    """A service that deals out items of one resource: set-up and provisions are recorded."""

    name = "tokens"

    def __init__(self) -> None:
        self.provisioned: list[tuple[Role, dict[str, int]]] = []

    async def setup(self, p: Party) -> str:
        spec = BlobSpec("hello", 4)
        p.send("hello", Blob(spec, p.draw_bytes("hello", 4)))
        await p.recv("hello", spec)
        return f"state of {p.role.value}"

    async def provision(self, p: Party, state: str, amounts: Mapping[str, int]) -> None:
        assert state == f"state of {p.role.value}"
        if p.backend is CONCRETE:
            self.provisioned.append((p.role, dict(amounts)))
        await p.swap("pool", words(0))


# -- runs and scopes -------------------------------------------------------------------------------------------


def test_runs_and_sub_scopes_are_numbered() -> None:
    session = Session(seed=b"s")
    for number in (1, 2):
        execution = session.run(twice, [X], [Y])
        top = f"r{number}/twice"
        assert execution.prefix == f"r{number}"
        assert {m.label for m in execution.messages} == {
            f"{top}/masked/word0",
            f"{top}/masked.2/word0",
            f"{top}/masked.2/word1",
            f"{top}/masked.3/word0",
        }
        assert len(execution.scope(top)) == len(execution.messages) == 8
        assert {m.label for m in execution.scope(f"{top}/masked")} == {f"{top}/masked/word0"}
        assert execution.scope(f"{top}/mask") == ()
    assert len(session.endpoints[CLIENT].tape.draws) == 8


def test_the_same_run_draws_afresh() -> None:
    session = Session(seed=b"s")
    a, b = (session.run(masked, [X], [Y]) for _ in range(2))
    assert a.messages[0].payload != b.messages[0].payload
    assert a.digest != b.digest


@pytest.mark.slow
@given(st.binary(max_size=8), st.binary(max_size=8))
def test_a_seed_fixes_the_transcript(one: bytes, other: bytes) -> None:
    digests = [Session([Tokens()], seed=seed).run(twice, [X], [Y]).digest for seed in (one, one, other)]
    assert digests[0] == digests[1]
    assert (digests[0] == digests[2]) == (one == other)


def test_without_a_seed_every_session_differs() -> None:
    assert Session().run(masked, [X], [Y]).digest != Session().run(masked, [X], [Y]).digest


def test_explicit_keys_replace_the_seed() -> None:
    keys = {role: derive_key(b"s", role.value) for role in Role}
    assert Session(keys=keys).run(twice, [X], [Y]).digest == Session(seed=b"s").run(twice, [X], [Y]).digest


def test_one_party_holds_its_own_tape_only() -> None:
    session = Session(seed=b"s")
    keys = {role: endpoint.tape.key for role, endpoint in session.endpoints.items()}
    assert keys == {role: derive_key(b"s", role.value) for role in Role}
    assert keys[CLIENT] != keys[SERVER]
    assert list(Session(seed=b"s", roles=[CLIENT]).endpoints) == [CLIENT]


def test_services_are_set_up_once_and_provision_every_run() -> None:
    service = Tokens()
    seen: list[Message] = []
    session = Session([service], seed=b"s", on_send=seen.append)
    assert session.setup.prefix == "setup"
    assert {m.label for m in session.setup.messages} == {"setup/tokens/hello"}
    assert session.endpoints[SERVER].service("tokens") == "state of server"
    execution = session.run(taking, [], [], amounts=(3, 4))
    assert [m.label for m in execution.scope("r1/pool")] == ["r1/pool/tokens/pool"] * 2
    assert service.provisioned == [(CLIENT, {COT: 7}), (SERVER, {COT: 7})]
    assert sorted(seen, key=lambda m: m.label) == sorted(
        [*session.setup.messages, *execution.messages], key=lambda m: m.label
    )
    assert execution.cost.cot_client == 7


# -- reservations ----------------------------------------------------------------------------------------------


@protocol(realises=ANY)
async def taking(p: Party, *, amounts: tuple[int, ...]) -> list[int]:
    return [p.reserve(f"slice{i}", COT, n) for i, n in enumerate(amounts)]


@protocol(realises=ANY)
async def taking_in_parallel(p: Party, *, backwards: bool) -> list[Any]:
    calls = [taking(p, amounts=(n, 10 * n)) for n in (1, 2, 3)]
    if backwards and p.role is SERVER:
        return list(reversed(await p.gather(*reversed(calls))))
    return await p.gather(*calls)


def test_slices_do_not_overlap_and_agree() -> None:
    session = Session()
    plain = session.run(taking_in_parallel, [], [], backwards=False).outputs
    assert plain[CLIENT] == plain[SERVER] == [[0, 1], [11, 13], [33, 36]]
    crossed = session.run(taking_in_parallel, [], [], backwards=True)
    assert crossed.outputs[CLIENT] == crossed.outputs[SERVER] == plain[CLIENT]
    assert crossed.reserved == {COT: 66}


def concrete(p: Party) -> bool:
    return p.backend is CONCRETE


FAULTS: dict[str, tuple[Any, str]] = {
    "without": (
        lambda p: p.reserve("x", COT, 1) if concrete(p) else None,
        r"client took cot.client under 'r1/faulty/x'",
    ),
    "another label": (
        lambda p: p.reserve("y" if concrete(p) else "x", COT, 1),
        "under 'r1/faulty/y', which nothing reserved",
    ),
    "another amount": (
        lambda p: p.reserve("x", COT, 2 if concrete(p) else 1),
        "took 2 of cot.client under 'r1/faulty/x', reserved 1",
    ),
    "twice": (
        lambda p: [p.reserve("x", COT, 1) for _ in range(2 if concrete(p) else 1)],
        "under 'r1/faulty/x', which nothing reserved",
    ),
    "twice when priced": (lambda p: [p.reserve("x", COT, 1) for _ in range(2)], "client reserved cot.client twice"),
    "left over": (
        lambda p: None if concrete(p) else p.reserve("x", COT, 5),
        "client left 5 of cot.client under '/faulty/x' untaken",
    ),
    "one party only": (
        lambda p: p.reserve("x", COT, 5) if p.role is CLIENT else None,
        r"faulty: the two parties reserve differently: \('cot.client', '/faulty/x', 5\)",
    ),
    "different amounts": (
        lambda p: p.reserve("x", COT, 5 if p.role is CLIENT else 6),
        "faulty: the two parties reserve differently",
    ),
    "different resources": (
        lambda p: p.reserve("x", f"cot.{p.role.value}", 5),
        "faulty: the two parties reserve differently",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_reservations_must_be_taken_exactly(fault: str) -> None:
    act, message = FAULTS[fault]

    @protocol(realises=ANY)
    async def faulty(p: Party) -> None:
        act(p)

    with pytest.raises(ReservationError, match=message):
        Session().run(faulty, [], [])


# -- failures --------------------------------------------------------------------------------------------------


class Broken(Exception):
    """What the protocol text raises."""


@protocol(realises=ANY)
async def breaking(p: Party, x: RingArray, *, when: str) -> RingArray:
    y = await masked(p, x)
    if p.role is SERVER and (when == "price" or concrete(p)):
        raise Broken("original")
    return y


@protocol(realises=ANY)
async def outer(p: Party, x: RingArray, *, when: str) -> RingArray:
    return await breaking(p, x, when=when)


def test_a_failing_run_raises_the_original_error_and_ends_the_session() -> None:
    session = Session(seed=b"s")
    session.run(masked, [X], [Y])
    with pytest.raises(Broken) as caught:
        session.run(outer, [X], [Y], when="run")
    assert caught.value.args == ("original",)
    assert caught.value.__notes__ == ["raised by server in scope 'r2/outer/breaking'"]
    for _ in range(2):
        with pytest.raises(SessionEnded, match="the session ended with Broken in r2; set up a new one"):
            session.run(masked, [X], [Y])
    assert session.price(masked, [X], [Y]).cost.rounds == 1
    draws = session.endpoints[CLIENT].tape.draws
    assert list(draws) == ["r1/masked/mask0", "r2/outer/breaking/masked/mask0"]


def test_what_fails_when_priced_never_starts() -> None:
    """Nothing was sent or drawn, so the session goes on."""
    seen: list[Message] = []
    session = Session(on_send=seen.append)
    with pytest.raises(Broken) as caught:
        session.run(outer, [X], [Y], when="price")
    assert caught.value.__notes__ == ["raised by server in scope 'run/outer/breaking'"]
    assert seen == []
    assert session.endpoints[CLIENT].tape.draws == {}
    assert session.run(masked, [X], [Y]).prefix == "r1"


def test_a_protocol_that_differs_between_interpretations_is_found() -> None:
    @protocol(realises=ANY)
    async def branching(p: Party) -> None:
        if p.role is CLIENT and concrete(p):
            await p.recv("x", Spec(R8, (1,)))

    with pytest.raises(Deadlock, match="client waits for 'r1/branching/x'"):
        Session().run(branching, [], [])


# -- prices ----------------------------------------------------------------------------------------------------


def test_a_price_depends_on_shapes_and_public_arguments() -> None:
    session = Session()
    a = session.price(masked, [X], [Y], times=2)
    assert session.price(masked, [words(7, 7)], [words(8, 8)], times=2) is a
    assert session.price(masked, [X], [Y], times=3).cost.messages == 6
    assert session.price(masked, [words(1, 2, 3)], [words(1, 2, 3)], times=2).cost.nbytes == 12
    wide = from_words(Ring(16), [1, 2])
    assert session.price(masked, [wide], [wide], times=2).cost.nbytes == 16
    assert session.run(masked, [X], [Y], times=2).cost.row() == a.cost.row()


def test_a_session_forgets_the_oldest_prices_and_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "REMEMBERED", 3)
    session = Session()
    first = session.price(masked, [X], [Y], times=1)
    for times in (2, 3):
        session.price(masked, [X], [Y], times=times)
    assert session.price(masked, [X], [Y], times=1) is first
    last = session.price(masked, [X], [Y], times=4)
    again = session.price(masked, [X], [Y], times=1)
    assert again is not first and again.cost.row() == first.cost.row()
    assert session.price(masked, [X], [Y], times=4) is last
    for _ in range(5):  # a forecast is of one run: its number is in every label
        told = session.forecast(masked, [X], [Y], times=1)
        assert [m.label for m in told] == [m.label for m in session.run(masked, [X], [Y], times=1).messages]
    assert len(session._shadow._forecasts) == len(session._shadow._prices) == 3


def test_a_price_leaves_no_trace_in_the_session() -> None:
    service = Tokens()
    session = Session([service], seed=b"s")
    before = [dict(e.tape.draws) for e in session.endpoints.values()]
    session.price(twice, [X], [Y])
    assert [e.tape.draws for e in session.endpoints.values()] == before
    assert service.provisioned == []
    assert session.run(twice, [X], [Y]).digest == Session([Tokens()], seed=b"s").run(twice, [X], [Y]).digest


def test_kernels_may_draw_bytes_in_every_priced_run() -> None:
    @protocol(realises=ANY)
    async def drawing(p: Party, x: RingArray) -> bytes:
        return p.draw_bytes("seed", x.size)

    session = Session(seed=b"s")
    seeds = [session.run(drawing, [x], [x]).outputs[CLIENT] for x in (X, words(1, 2, 3), X)]
    assert len(set(seeds)) == 3


def test_a_session_of_shapes_prices_what_it_runs() -> None:
    session = Session(backend=SHAPES)
    execution = session.run(twice, [blank(X.spec)], [blank(X.spec)])
    assert execution.cost.row() == Session().run(twice, [X], [Y]).cost.row()
    assert all(m.payload is None for m in execution.messages)


# -- executions ------------------------------------------------------------------------------------------------


@protocol(realises=ANY)
async def uneven(p: Party, x: RingArray) -> RingArray:
    """Two messages to the server, one back: 3, 3 and 2 bytes, depth 2; the client waits for the answer only."""
    if p.role is CLIENT:
        p.send("b", concat3(x))
        p.send("a", concat3(x))
        answer: RingArray = await p.recv("c", x.spec)
        return answer
    spec = Spec(R8, (3,))
    first: RingArray = await p.recv("a", spec)
    await p.recv("b", spec)
    p.send("c", first[:2])
    return x


def concat3(x: RingArray) -> RingArray:
    return x[:1].broadcast(3)


def test_cost_view_and_canonical_order() -> None:
    execution = Session(seed=b"s").run(uneven, [X], [Y])
    assert execution.cost.row() == (6, 2, 3, 0, 0, 2)
    assert [(m.depth, m.sender, m.label) for m in execution.messages] == [
        (1, CLIENT, "r1/uneven/a"),
        (1, CLIENT, "r1/uneven/b"),
        (2, SERVER, "r1/uneven/c"),
    ]
    assert [m.label for m in execution.view(SERVER)] == ["r1/uneven/a", "r1/uneven/b"]
    assert [m.label for m in execution.view(CLIENT)] == ["r1/uneven/c"]
    assert to_words(execution.outputs[CLIENT]).tolist() == [1, 1]
    assert execution.time(LAN) >= 2 * LAN.latency_s
    assert execution.cpu(CLIENT) == pytest.approx(
        sum(t for (role, _), t in execution.cpu_by_scope.items() if role is CLIENT)
    )


def test_the_digest_is_the_chain_over_every_header_and_byte() -> None:
    execution = Session(seed=b"s").run(uneven, [X], [Y])
    assert execution.digest == chain(reversed(execution.messages)).hex()
    head, *rest = execution.messages
    changes: list[dict[str, Any]] = [
        {"sender": SERVER},
        {"label": "r1/uneven/a2"},
        {"depth": 2},
        {"spec": Spec(R8, (3, 1))},
        {"spec": Spec(Ring(7), (3,))},
        {"spec": BlobSpec("ring", 3)},
        {"payload": b"\x01\x01\x03"},
        {"payload": None},
    ]
    altered = [replace(head, **change) for change in changes]
    assert len({message.digest() for message in (head, *altered)}) == len(changes) + 1
    digests = {chain([message, *rest]).hex() for message in altered}
    assert len(digests | {execution.digest, chain(rest).hex()}) == len(changes) + 2


def test_an_execution_without_messages() -> None:
    execution = Session().run(taking, [], [], amounts=())
    assert execution.cost.row() == (0, 0, 0, 0, 0, 0)
    assert execution.digest == bytes(32).hex()
    assert execution.time(LAN) == max(execution.cpu(CLIENT), execution.cpu(SERVER))


@pytest.mark.parametrize("role", list(Role))
def test_one_party_sessions_repeat_their_side(role: Role) -> None:
    whole = Session([Tokens()], seed=b"s")
    execution = whole.run(twice, [X], [Y])
    peer = {m.label: m for m in (*whole.setup.messages, *execution.messages) if m.sender is not role}
    keys = {role: derive_key(b"s", role.value)}
    session = Session([Tokens()], roles=[role], keys=keys, sources={role.peer: peer.get})
    inputs = [[X], [blank(Y.spec)]] if role is CLIENT else [[blank(X.spec)], [Y]]
    alone = session.run(twice, *inputs)
    assert alone.messages == tuple(m for m in execution.messages if m.sender is role)
    assert list(alone.outputs) == [role]
    for mine, theirs in zip(alone.outputs[role], execution.outputs[role], strict=True):
        assert np.array_equal(to_words(mine), to_words(theirs))
