"""The cost algebra against the driver: random protocols whose closed form must equal what was counted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.cost import FREE, IDENTITY, NEVER, Cost, cots, message, sequence, swap, together
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Z2, Spec
from sim.role import CLIENT, SERVER, Role
from sim.world import Session

ROLES = st.sampled_from(list(Role))


@dataclass(frozen=True)
class Send:
    sender: Role
    bits: int


@dataclass(frozen=True)
class Swap:
    bits: int


@dataclass(frozen=True)
class Take:
    receiver: Role
    n: int


@dataclass(frozen=True)
class Both:
    """Steps one after the other, or side by side from one fork to one join."""

    beside: bool
    steps: tuple[Step, ...]


Step = Send | Swap | Take | Both

SIZES = st.integers(1, 70)
STEPS: st.SearchStrategy[Step] = st.recursive(
    st.one_of(st.builds(Send, ROLES, SIZES), st.builds(Swap, SIZES), st.builds(Take, ROLES, SIZES)),
    lambda inner: st.builds(Both, st.booleans(), st.lists(inner, max_size=4).map(tuple)),
    max_leaves=25,
)


def closed_form(step: Step) -> Cost:
    match step:
        case Send(sender, bits):
            return message(sender, bits)
        case Swap(bits):
            return swap(bits)
        case Take(receiver, n):
            return cots(receiver, n)
        case Both(beside, steps):
            parts = [closed_form(part) for part in steps]
            return together(*parts) if beside else sequence(*parts)


@protocol(realises=Functionality("nothing", lambda: None))
async def play(p: Party, *, step: Step) -> None:
    match step:
        case Send(sender, bits):
            if p.role is sender:
                p.send("word", p.const(Z2, 1, (bits,)))
            else:
                await p.recv("word", Spec(Z2, (bits,)))
        case Swap(bits):
            await p.swap("word", p.const(Z2, 0, (bits,)))
        case Take(receiver, n):
            p.reserve("take", f"cot.{receiver.value}", n)
        case Both(True, steps):
            await p.gather(*(play(p, step=part) for part in steps))
        case Both(False, steps):
            for part in steps:
                await play(p, step=part)


SESSION = Session()


@pytest.mark.slow
@settings(max_examples=200)
@given(STEPS)
def test_closed_form_is_what_is_counted(step: Step) -> None:
    want = closed_form(step).row()
    assert SESSION.price(play, [], [], step=step).cost.row() == want
    assert SESSION.run(play, [], [], step=step).cost.row() == want


def test_the_counted_depth_can_differ_from_a_wrong_form() -> None:
    """Power: adding rounds up, as a naive model does, is wrong for two messages one way."""
    step = Both(False, (Send(CLIENT, 1), Send(CLIENT, 1), Send(SERVER, 1)))
    assert sum(closed_form(part).rounds for part in step.steps) == 3
    assert SESSION.price(play, [], [], step=step).cost.rounds == closed_form(step).rounds == 2


COSTS = STEPS.map(closed_form)


@pytest.mark.slow
@given(COSTS, COSTS, COSTS)
def test_laws(a: Cost, b: Cost, c: Cost) -> None:
    assert (a + b) + c == a + (b + c)
    assert (a | b) | c == a | (b | c)
    assert a | b == b | a
    assert FREE + a == a + FREE == a
    assert FREE | a == a
    assert max(a.rounds, b.rounds) == (a | b).rounds <= (a + b).rounds <= a.rounds + b.rounds
    assert (a + b).row()[:5] == (a | b).row()[:5]
    assert a.nbytes == a.c2s + a.s2c


@given(COSTS, st.integers(0, 5))
def test_repeat(a: Cost, k: int) -> None:
    assert a.repeat(k) == sequence(*[a] * k)
    assert a.repeat(k).messages == k * a.messages


@given(ROLES, st.integers(0, 100))
def test_one_message(sender: Role, bits: int) -> None:
    cost = message(sender, bits)
    nbytes = (bits + 7) // 8
    assert (cost.c2s, cost.s2c) == ((nbytes, 0) if sender is CLIENT else (0, nbytes))
    assert (cost.messages, cost.rounds) == (1, 1)
    assert (cost + message(sender, 1)).rounds == 1
    assert (cost + message(sender.peer, 1)).rounds == 2
    assert (cost | message(sender.peer, 1)).rounds == 1


def test_the_clock_tells_who_waits_for_whom() -> None:
    """Entry (i, j): the longest chain from party j before to party i after, client first."""
    there, back = message(CLIENT, 1), message(SERVER, 1)
    assert there.clock == ((0, NEVER), (1, 0))
    assert (there + back).clock == ((2, 1), (1, 0))
    assert (back + there).clock == ((0, 1), (1, 2))
    assert (there | back).clock == ((0, 1), (1, 0))
    assert (there + there).clock == there.clock


def test_the_empty_cost() -> None:
    assert sequence() == together() == FREE
    assert FREE.clock == IDENTITY == ((0, NEVER), (NEVER, 0))
    assert FREE.row() == (0, 0, 0, 0, 0, 0)
    assert cots(CLIENT, 3).row() == (0, 0, 0, 3, 0, 0)
    assert cots(SERVER, 3).row() == (0, 0, 0, 0, 3, 0)


@pytest.mark.parametrize("part", ["8 B client->server", "1 B server->client", "2 messages", "1 rounds", "COTs 5"])
def test_printed(part: str) -> None:
    assert part in str((message(CLIENT, 64) | message(SERVER, 3)) + cots(CLIENT, 5))
