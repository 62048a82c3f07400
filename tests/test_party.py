"""A party's handle: labels, draws, kernels, and the declaration of a protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.concrete import CONCRETE, from_words, to_words
from sim.cost import Cost, swap
from sim.driver import Driver
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Z2, Backend, Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES
from sim.tape import Tape, TapeReuse, derive_key, words_from_bytes
from sim.wire import Blob, BlobSpec, WireMismatch
from sim.world import Endpoint, Session

R16 = Ring(16)


def party(role: Role = CLIENT, backend: Backend = CONCRETE, scope: str = "r1/top") -> Party:
    endpoint = Endpoint(role, backend, Tape(derive_key(b"party", role.value), role.value))
    return Party(Driver(), endpoint, scope)


def test_the_second_child_of_a_name_is_name_2() -> None:
    p = party()
    assert [p.child(name).scope for name in ("mul", "mul", "mux", "mul")] == [
        "r1/top/mul",
        "r1/top/mul.2",
        "r1/top/mux",
        "r1/top/mul.3",
    ]
    assert p.child("mul").child("mul").scope == "r1/top/mul.4/mul"
    assert p.label("x") == "r1/top/x"


def test_a_scope_is_opened_at_the_call_not_at_the_await() -> None:
    seen: list[str] = []

    async def note(p: Party) -> None:
        seen.append(p.scope)

    async def main(p: Party) -> None:
        first, second = p.scoped("a", note), p.scoped("a", note)
        await second
        await first

    driver = Driver()
    p = Party(driver, party().endpoint, "s")
    driver.run({CLIENT: main(p)})
    assert seen == ["s/a.2", "s/a"]


def test_a_draw_comes_from_the_partys_own_tape_under_its_label() -> None:
    p = party()
    x = p.draw("mask", R16, (3,))
    data = Tape(derive_key(b"party", "client"), "client").bytes("r1/top/mask", 6)
    assert np.array_equal(to_words(x), words_from_bytes(data, Spec(R16, (3,))))
    assert p.endpoint.tape.draws == {"r1/top/mask": 6}
    assert p.draw_bytes("seed", 5) == Tape(derive_key(b"party", "client"), "client").bytes("r1/top/seed", 5)
    q = party(SERVER)
    assert to_words(q.draw("mask", R16, (3,))).tolist() != to_words(x).tolist()


@pytest.mark.parametrize("again", ["draw", "draw_bytes"])
def test_a_word_is_drawn_once_in_a_scope(again: str) -> None:
    p = party()
    p.draw("mask", R16, (3,))
    with pytest.raises(TapeReuse, match="'r1/top/mask'"):
        p.draw("mask", R16, (1,)) if again == "draw" else p.draw_bytes("mask", 1)
    p.child("sub").draw("mask", R16, (3,))


def test_shapes_leave_the_tape_alone() -> None:
    p = party(backend=SHAPES)
    for _ in range(2):
        assert p.draw("mask", R16, (3,)).spec == Spec(R16, (3,))
        assert p.draw_bytes("seed", 5) == bytes(5)
    assert p.endpoint.tape.draws == {}


def test_constants_carry_the_interpretation() -> None:
    for backend in (CONCRETE, SHAPES):
        assert party(backend=backend).const(R16, [[1, -1]]).backend is backend
    assert to_words(party().const(R16, -1, (2,))).tolist() == [65535, 65535]


def test_a_kernels_result_is_checked_against_its_description() -> None:
    p = party()
    spec = Spec(R16, (2,))
    assert to_words(p.compute(spec, from_words, R16, [3, 4])).tolist() == [3, 4]
    assert p.compute(BlobSpec("keys", 2), bytes, [1, 2]) == Blob(BlobSpec("keys", 2), b"\x01\x02")
    for wrong, kernel in (
        (Spec(R16, (3,)), lambda: from_words(R16, [3, 4])),
        (Spec(Z2, (2,)), lambda: from_words(R16, [3, 4])),
        (BlobSpec("keys", 3), lambda: b"ab"),
        (BlobSpec("keys", 2), lambda: Blob(BlobSpec("sums", 2), b"ab")),
    ):
        with pytest.raises(WireMismatch, match=r"client at r1/top: kernel '<lambda>' returned .*, declared "):
            p.compute(wrong, kernel)


def test_shapes_call_no_kernel() -> None:
    def kernel(*args: Any) -> Any:
        raise AssertionError("called")

    p = party(backend=SHAPES)
    assert p.compute(Spec(R16, (2,)), kernel).spec == Spec(R16, (2,))
    assert p.compute(BlobSpec("keys", 2), kernel) == Blob(BlobSpec("keys", 2), None)
    assert p.local(kernel, 1) is None
    assert party().local(max, 1, 2) == 2


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(KeyError, match="client: the session has no service 'he'"):
        party().service("he")


def _both_cost(x: RingArray, *, times: int) -> Cost:
    return swap(x.spec.bits).repeat(times)


@protocol(realises=Functionality("sum of openings", lambda x, times: x * times), cites="[Test]", cost=_both_cost)
async def open_often(p: Party, x: RingArray, *, times: int) -> RingArray:
    """Docstring."""
    opened = [x + await p.swap(f"x{i}", x) for i in range(times)]
    total = opened[0]
    for part in opened[1:]:
        total = total + part
    return total


@protocol(realises=Functionality("nothing", lambda: None), name="other name")
async def unpriced(p: Party) -> None:
    return None


def test_a_declaration_keeps_what_it_says() -> None:
    assert (open_often.name, open_often.cites, open_often.realises.name) == ("open_often", "[Test]", "sum of openings")
    assert open_often.__doc__ == "Docstring."
    assert (unpriced.name, unpriced.cites) == ("other name", "")
    x, y = from_words(R16, [1, 2]), from_words(R16, [10, 20])
    execution = Session().run(open_often, [x], [y], times=3)
    assert to_words(execution.outputs[CLIENT]).tolist() == [33, 66]
    assert execution.cost.row() == open_often.declared(x, times=3).row()
    assert {m.scope for m in execution.messages} == {"r1/open_often"}


def test_a_protocol_without_a_cost_says_so() -> None:
    with pytest.raises(TypeError, match="protocol other name declares no cost"):
        unpriced.declared()


def test_roles() -> None:
    assert (CLIENT.peer, SERVER.peer) == (SERVER, CLIENT)
    assert sorted([SERVER, CLIENT]) == [CLIENT, SERVER]
    assert repr(CLIENT) == "CLIENT"
