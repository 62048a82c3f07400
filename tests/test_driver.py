"""The driver: deterministic, and every way in which two protocol texts can disagree is an error with names."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.concrete import CONCRETE, from_words, to_words
from sim.driver import Deadlock, Driver, DuplicateLabel, UnreceivedMessage
from sim.message import Message, chain
from sim.party import Party
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES, blank
from sim.tape import Tape, derive_key
from sim.wire import Blob, BlobSpec, WireMismatch
from sim.world import Endpoint

Text = Callable[[Party], Coroutine[Any, Any, Any]]
R8 = Ring(8)
WORD = Spec(R8, (2,))


def handle(driver: Driver, role: Role, backend: Any = CONCRETE) -> Party:
    tape = Tape(derive_key(b"driver", role.value), role.value)
    return Party(driver, Endpoint(role, backend, tape), "s")


def drive(client: Text, server: Text, driver: Driver | None = None, backend: Any = CONCRETE) -> dict[Role, Any]:
    driver = driver or Driver()
    return driver.run({r: text(handle(driver, r, backend)) for r, text in ((CLIENT, client), (SERVER, server))})


def word(p: Party, *values: int) -> RingArray:
    return p.const(R8, list(values) or [1, 2])


async def nothing(p: Party) -> None:
    return None


# -- running ---------------------------------------------------------------------------------------------------


async def ping(p: Party) -> RingArray:
    p.send("ping", word(p, 1, 2))
    answer: RingArray = await p.recv("pong", WORD)
    return answer


async def pong(p: Party) -> RingArray:
    x: RingArray = await p.recv("ping", WORD)
    p.send("pong", x + x)
    return x


def test_messages_results_and_depths() -> None:
    driver = Driver()
    results = drive(ping, pong, driver)
    assert to_words(results[CLIENT]).tolist() == [2, 4]
    assert to_words(results[SERVER]).tolist() == [1, 2]
    assert [(m.sender, m.label, m.scope, m.depth, m.spec, m.payload) for m in driver.messages] == [
        (CLIENT, "s/ping", "s", 1, WORD, bytes([1, 2])),
        (SERVER, "s/pong", "s", 2, WORD, bytes([2, 4])),
    ]


def test_the_shapes_interpretation_sends_headers_only() -> None:
    driver = Driver()
    results = drive(ping, pong, driver, SHAPES)
    assert results[CLIENT].spec == results[SERVER].spec == WORD
    assert [(m.label, m.depth, m.payload) for m in driver.messages] == [("s/ping", 1, None), ("s/pong", 2, None)]


def test_a_message_is_a_copy() -> None:
    mine = np.array([1, 2], dtype=np.uint64)

    async def client(p: Party) -> None:
        x = RingArray(CONCRETE, R8, (2,), mine)
        p.send("x", x)
        mine[0] = 9

    async def server(p: Party) -> RingArray:
        x: RingArray = await p.recv("x", WORD)
        return x

    assert to_words(drive(client, server)[SERVER]).tolist() == [1, 2]


def test_depth_is_the_longest_chain() -> None:
    """Sending does not wait; receiving does; a join takes the deepest branch."""
    driver = Driver()

    async def side(p: Party, n: int) -> None:
        for i in range(n):
            await p.swap(f"w{i}", word(p))

    async def text(p: Party) -> None:
        p.send("first", word(p))
        await p.gather(side(p.child("a"), 1), side(p.child("b"), 3), side(p.child("c"), 0))
        p.send("last", word(p))
        await p.recv("first", WORD)
        await p.recv("last", WORD)
        p.send("end", word(p))
        await p.recv("end", WORD)

    drive(text, text, driver)
    depths = {m.label: m.depth for m in driver.messages if m.sender is CLIENT}
    assert depths == {"s/first": 1, "s/a/w0": 1, "s/b/w0": 1, "s/b/w1": 2, "s/b/w2": 3, "s/last": 4, "s/end": 5}


@settings(max_examples=30)
@given(st.permutations(range(4)), st.permutations(range(4)))
def test_the_order_of_a_gather_changes_nothing(first: list[int], second: list[int]) -> None:
    """Calls in program order, gathered in any order, differently at the two parties: same labels, draws and bytes."""

    async def chat(p: Party, i: int) -> RingArray:
        x = p.draw("r", R8, (2,))
        for step in range(i):
            x = x + await p.swap(f"w{step}", x)
        return x

    def text(order: list[int]) -> Text:
        async def run(p: Party) -> list[RingArray]:
            calls = [chat(p.child("chat"), i) for i in range(4)]
            results = await p.gather(*(calls[i] for i in order))
            return [results[order.index(i)] for i in range(4)]

        return run

    def outcome(a: list[int], b: list[int]) -> tuple[bytes, list[list[int]]]:
        driver = Driver()
        results = drive(text(a), text(b), driver)
        return chain(driver.messages), [to_words(x).tolist() for role in Role for x in results[role]]

    assert outcome(first, second) == outcome([0, 1, 2, 3], [0, 1, 2, 3])


def test_gathers_nest_and_may_be_empty() -> None:
    async def text(p: Party) -> list[Any]:
        async def inner(q: Party) -> list[Any]:
            return await q.gather(nothing(q), q.swap("x", word(q)))

        return [await p.gather(), await p.gather(inner(p.child("a")), inner(p.child("b")))]

    results = drive(text, text)
    assert results[CLIENT][0] == []
    assert [[x is not None for x in pair] for pair in results[CLIENT][1]] == [[False, True], [False, True]]


# -- disagreements ---------------------------------------------------------------------------------------------


def test_a_deadlock_lists_every_blocked_party_and_label() -> None:
    async def client(p: Party) -> None:
        p.send("unasked", word(p))
        await p.gather(p.recv("a", WORD), p.recv("b", BlobSpec("keys", 9)))

    async def server(p: Party) -> None:
        await p.child("sub").recv("c", Spec(Z2, (3,)))

    with pytest.raises(Deadlock) as caught:
        drive(client, server)
    assert str(caught.value).split("; ") == [
        "client waits for 's/a' (Z_2^8 of shape (2,) (2 bytes))",
        "client waits for 's/b' (keys of 9 bytes)",
        "server waits for 's/sub/c' (Z_2^1 of shape (3,) (1 bytes))",
        "client sent 's/unasked', unread",
    ]


def test_waiting_for_a_finished_party_is_a_deadlock() -> None:
    with pytest.raises(Deadlock, match=r"^server waits for 's/ping'"):
        drive(nothing, pong)


def test_every_message_must_be_received() -> None:
    async def server(p: Party) -> None:
        p.send("x", word(p))
        p.child("sub").send("y", word(p))

    with pytest.raises(UnreceivedMessage, match=r"never received: server: 's/sub/y'; server: 's/x'$"):
        drive(nothing, server)


def test_one_label_one_message() -> None:
    async def twice(p: Party) -> None:
        p.send("x", word(p))
        p.send("x", word(p))

    with pytest.raises(DuplicateLabel, match="client sent two messages under label 's/x'"):
        drive(twice, nothing)

    async def waits(p: Party) -> None:
        await p.gather(p.recv("x", WORD), p.recv("x", WORD))

    with pytest.raises(DuplicateLabel, match="server waits twice for label 's/x'"):
        drive(nothing, waits)


def test_both_parties_may_use_one_label() -> None:
    async def text(p: Party) -> RingArray:
        return await p.swap("x", word(p, 3 if p.role is CLIENT else 4, 0))

    assert to_words(drive(text, text)[CLIENT]).tolist() == [4, 0]


MISMATCHES: list[tuple[Any, Any, str, str]] = [
    (from_words(R8, [1, 2]), Spec(R8, (3,)), "Z_2^8 of shape (3,) (3 bytes)", "Z_2^8 of shape (2,) (2 bytes)"),
    (from_words(R8, [1, 2]), Spec(R8, (2, 1)), "Z_2^8 of shape (2, 1) (2 bytes)", "Z_2^8 of shape (2,) (2 bytes)"),
    (from_words(R8, [1, 2]), Spec(Ring(16), (1,)), "Z_2^16 of shape (1,) (2 bytes)", "Z_2^8 of shape (2,) (2 bytes)"),
    (Blob(BlobSpec("keys", 2), b"ab"), BlobSpec("keys", 3), "keys of 3 bytes", "keys of 2 bytes"),
    (Blob(BlobSpec("keys", 2), b"ab"), BlobSpec("sums", 2), "sums of 2 bytes", "keys of 2 bytes"),
    (Blob(BlobSpec("keys", 2), b"ab"), WORD, "Z_2^8 of shape (2,) (2 bytes)", "keys of 2 bytes"),
]


@pytest.mark.parametrize("late", [False, True], ids=["receiver waits", "message waits"])
@pytest.mark.parametrize(("payload", "spec", "expected", "got"), MISMATCHES)
def test_a_mismatch_names_party_label_expected_and_got(
    payload: Any, spec: Any, expected: str, got: str, late: bool
) -> None:
    async def client(p: Party) -> None:
        if not late:
            await p.recv("go", WORD)
        p.send("x", payload)

    async def server(p: Party) -> None:
        if not late:
            p.send("go", word(p))
        await p.recv("x", spec)

    with pytest.raises(WireMismatch) as caught:
        drive(client, server)
    for part in (f"server expected {expected} under 's/x'", f"client sent {got}"):
        assert part in str(caught.value)


def test_a_blob_has_the_size_it_declares() -> None:
    async def client(p: Party) -> None:
        p.send("x", Blob(BlobSpec("keys", 3), b"ab"))

    with pytest.raises(WireMismatch, match=r"client sent 2 bytes under 's/x' for keys of 3 bytes.*declared size"):
        drive(client, nothing)


# -- an absent peer --------------------------------------------------------------------------------------------


def recorded() -> list[Message]:
    driver = Driver()
    drive(ping, pong, driver)
    return driver.messages


@pytest.mark.parametrize("role", list(Role))
def test_one_party_alone_against_a_record(role: Role) -> None:
    record = recorded()
    peer = {m.label: m for m in record if m.sender is not role}
    driver = Driver({role.peer: peer.get})
    driver.run({role: (ping if role is CLIENT else pong)(handle(driver, role))})
    assert driver.messages == [m for m in record if m.sender is role]


def test_waiting_for_an_absent_party() -> None:
    """`wait` is asked while nothing has come, and a False ends in a deadlock that names the label."""
    answer = recorded()[1]
    asked: list[int] = []

    def wait() -> bool:
        asked.append(len(asked))
        return len(asked) <= 3

    def run(source: Callable[[str], Message | None]) -> dict[Role, Any]:
        driver = Driver({SERVER: source}, wait)
        return driver.run({CLIENT: ping(handle(driver, CLIENT))})

    results = run(lambda label: answer if len(asked) == 2 and label == "s/pong" else None)
    assert to_words(results[CLIENT]).tolist() == [2, 4]
    assert asked == [0, 1]
    with pytest.raises(Deadlock, match="client waits for 's/pong'"):
        run(lambda label: None)


def test_a_recorded_message_of_another_shape_is_refused() -> None:
    wrong = Message(SERVER, "s/pong", "s", 2, Spec(R8, (1,)), b"a")
    driver = Driver({SERVER: lambda label: wrong})
    with pytest.raises(WireMismatch, match=r"client expected .*\(2,\).* under 's/pong', server sent .*\(1,\)"):
        driver.run({CLIENT: ping(handle(driver, CLIENT))})


def test_a_recorded_header_without_content_is_blank() -> None:
    header = Message(SERVER, "s/pong", "s", 2, WORD, None)
    driver = Driver({SERVER: lambda label: header})
    result = driver.run({CLIENT: ping(handle(driver, CLIENT, SHAPES))})[CLIENT]
    assert result.spec == blank(WORD).spec


# -- ideal functionalities -------------------------------------------------------------------------------------


def product_step(draw: Any, client: RingArray, server: RingArray) -> tuple[RingArray, RingArray]:
    """Shares of a product: uniform to the server, the rest to the client."""
    r = draw("r", R8, client.shape)
    return client * server - r, r


def counted(label: str, name: str, ring: Ring, shape: tuple[int, ...]) -> RingArray:
    assert (label, name) == ("s/f", "r")
    return from_words(ring, np.full(shape, 77, np.uint64))


def test_a_functionality_answers_both_parties_once_both_have_called() -> None:
    async def client(p: Party) -> RingArray:
        result: RingArray = await p.ideal("f", product_step, word(p, 3, 5))
        return result

    async def server(p: Party) -> RingArray:
        await p.gather()
        result: RingArray = await p.ideal("f", product_step, word(p, 7, 11))
        return result

    driver = Driver(functionality=counted)
    results = drive(client, server, driver)
    assert to_words(results[SERVER]).tolist() == [77, 77]
    assert to_words(results[CLIENT] + results[SERVER]).tolist() == [21, 55]
    assert driver.messages == []
    assert [(label, set(outputs)) for label, outputs in driver.ideals] == [("s/f", set(Role))]


def test_calls_of_a_functionality_that_do_not_meet() -> None:
    async def calls(p: Party) -> None:
        await p.ideal("f", product_step, word(p))

    async def calls_twice(p: Party) -> None:
        await p.gather(calls(p), calls(p))

    with pytest.raises(Deadlock, match="client waits at the functionality 's/f'"):
        drive(calls, nothing, Driver(functionality=counted))
    with pytest.raises(DuplicateLabel, match="server called the ideal functionality 's/f' twice"):
        drive(nothing, calls_twice, Driver(functionality=counted))

    async def drawing_nothing(p: Party) -> None:
        await p.ideal("f", lambda draw, client, server: (server, client), word(p))

    for text in (calls, drawing_nothing):
        with pytest.raises(RuntimeError, match="'s/f': ideal functionalities exist in hybrid sessions only"):
            drive(text, text)


# -- errors and accounts ---------------------------------------------------------------------------------------


class Broken(Exception):
    """What the protocol text raises."""


@pytest.mark.parametrize("nested", [False, True], ids=["in a sequence", "in a gather"])
def test_an_error_keeps_its_type_and_names_party_and_scope(nested: bool) -> None:
    closed: list[str] = []

    async def failing(p: Party) -> None:
        await p.recv("ping", WORD)
        raise Broken("original")

    async def waiting(p: Party) -> None:
        try:
            await p.recv("never", WORD)
        finally:
            closed.append(p.role.value)

    async def server(p: Party) -> None:
        if nested:
            await p.gather(p.scoped("other", waiting), p.scoped("outer", inner))
        else:
            await p.scoped("outer", inner)

    async def inner(p: Party) -> None:
        await p.scoped("deep", failing)

    async def client(p: Party) -> None:
        p.child("outer").child("deep").send("ping", word(p))
        await p.scoped("mine", waiting)

    driver = Driver()
    with pytest.raises(Broken, match="original") as caught:
        drive(client, server, driver)
    assert caught.value.args == ("original",)
    assert caught.value.__notes__ == ["raised by server in scope 's/outer/deep'"]
    assert sorted(closed) == (["client", "server"] if nested else ["client"])
    with pytest.raises(RuntimeError, match="outside its driver"):
        handle(driver, CLIENT).send("late", word(handle(driver, CLIENT)))


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_calls_that_were_made_and_not_awaited_end_with_the_run_that_fails() -> None:
    """By the party that fails between two calls of one gather, and by its peer, which waits with a call in hand."""

    async def failing(p: Party) -> None:
        await p.gather(p.scoped("first", ping), p.scoped("second", ping, int("no number")))

    async def waiting(p: Party) -> None:
        later = p.scoped("later", ping)
        await p.recv("nothing", WORD)
        await later

    for client, server in ((failing, waiting), (waiting, failing), (waiting, waiting)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises((ValueError, Deadlock)):
                drive(client, server)
            gc.collect(1)
        assert not told

    async def forgetful(p: Party) -> None:
        p.scoped("first", ping)

    with pytest.warns(RuntimeWarning, match="never awaited"):
        drive(forgetful, nothing)
        gc.collect(1)


def test_cpu_is_charged_to_party_scope_and_depth() -> None:
    async def work(p: Party, seconds: float) -> None:
        burn(seconds)
        await p.swap("x", word(p))
        burn(seconds)

    async def text(p: Party) -> None:
        busy = p.role is SERVER
        await p.gather(p.scoped("light", work, 0.0), p.scoped("heavy", work, 0.04 if busy else 0.0))
        if not busy:
            burn(0.02)

    driver = Driver()
    gc.disable()  # a search of all objects of a long run of tests takes longer than what is measured here
    try:
        start = time.process_time()
        drive(text, text, driver)
        whole = time.process_time() - start
    finally:
        gc.enable()
    scopes, depths = driver.cpu_by_scope, driver.cpu_by_depth
    assert scopes[SERVER, "s/heavy"] >= 0.08
    assert scopes[CLIENT, ""] >= 0.02
    assert scopes[SERVER, "s/light"] < 0.04 > scopes[CLIENT, "s/heavy"]
    assert depths[SERVER, 0] >= 0.04 <= depths[SERVER, 1]
    assert depths[CLIENT, 0] < 0.04
    for role in Role:
        by_scope = sum(t for (who, _), t in scopes.items() if who is role)
        by_depth = sum(t for (who, _), t in depths.items() if who is role)
        assert by_scope == pytest.approx(by_depth)
    assert sum(scopes.values()) <= whole


def test_observers_see_messages_and_scopes_as_they_happen() -> None:
    seen: list[Any] = []
    driver = Driver(on_send=lambda m: seen.append((m.sender, m.label)), on_scope=lambda r, s: seen.append((r, s)))

    async def body(p: Party) -> None:
        await p.swap("x", word(p))

    async def text(p: Party) -> None:
        await p.scoped("a", body)
        await p.scoped("a", body)

    drive(text, text, driver)
    per_party = [s for r, s in seen if r is CLIENT]
    assert per_party == ["s/a", "s/a/x", "s/a.2", "s/a.2/x"]
    assert [s for r, s in seen if r is SERVER] == per_party
    assert [(m.sender, m.label) for m in driver.messages] == [entry for entry in seen if entry[1].endswith("/x")]


def test_results_are_told_with_the_scope_that_returns_them() -> None:
    seen: list[Any] = []
    driver = Driver(on_result=lambda role, scope, result: seen.append((role, scope, result)))

    async def fails(p: Party) -> None:
        raise ArithmeticError(p.scope)

    async def inner(p: Party) -> int:
        return len(p.scope)

    async def outer(p: Party) -> str:
        await p.gather(p.scoped("in", inner), p.scoped("in", inner))
        with pytest.raises(ArithmeticError):
            await p.scoped("broken", fails)
        return "done"

    async def text(p: Party) -> None:
        await p.scoped("out", outer)

    drive(text, text, driver)
    told = [("s/out/in", 8), ("s/out/in.2", 10), ("s/out", "done")]
    assert seen == [(role, *row) for role in (CLIENT, SERVER) for row in told]
