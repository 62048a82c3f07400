"""Certificates of protocols that tell one party their answer: that message is left out of the view, no other is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from proofs.certificate import NotProved, Rebuilder, certificate, encode
from proofs.checker import Rejected, canonical, check, digest
from protocols.entry import DECLARED, PROVED, Case, Entry, Secret
from protocols.products import square
from protocols.sharing import reveal, reveal_to
from secmoe.simulation import CertifiedSimulator
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER
from transcripts.targets import Target

R8 = Ring(8)
SQUARE = Functionality("square, told to the client", lambda x: x * x, leaks_client=("the square",))
ROUTED = Functionality("square, told to the client", lambda x: x * x, leaks_client=("the square",), leaks_route=True)
CASE = (Case("8", (Secret(R8, (2,)),)),)


@protocol(realises=SQUARE)
async def answered(p: Party, x: RingArray) -> RingArray:
    """The square, to the client."""
    return await reveal_to(p, CLIENT, await square(p, x))


@protocol(realises=SQUARE)
async def twice(p: Party, x: RingArray) -> RingArray:
    """The input as well, before the answer."""
    await reveal_to(p, CLIENT, x)
    return await reveal_to(p, CLIENT, await square(p, x))


@protocol(realises=SQUARE)
async def midway(p: Party, x: RingArray) -> RingArray:
    """The input opened on the way."""
    return await reveal_to(p, CLIENT, await square(p, await reveal(p, x)))


@protocol(realises=SQUARE)
async def unused(p: Party, x: RingArray) -> RingArray:
    """The input is told, and the answer is another."""
    await reveal_to(p, CLIENT, x)
    return x


@protocol(realises=SQUARE)
async def followed(p: Party, x: RingArray) -> RingArray:
    """Something comes after the answer."""
    found = await reveal_to(p, CLIENT, await square(p, x))
    await p.swap("after", x)
    return found


@protocol(realises=SQUARE)
async def inner(p: Party, x: RingArray) -> RingArray:
    """The answer is told by a part of the text."""
    return await p.scoped("part", _inner, x)


async def _inner(p: Party, x: RingArray) -> RingArray:
    return await reveal_to(p, CLIENT, await square(p, x))


@protocol(realises=ROUTED, name="answered")
async def routed(p: Party, x: RingArray) -> RingArray:
    """A leak by design is proved of nobody."""
    return await answered.run(p, x)


def entry_of(proto: Any, status: str = DECLARED) -> Entry:
    return Entry(proto, CASE, status)


ANSWERED = entry_of(answered)


def test_the_answer_is_left_out_and_said_to_be() -> None:
    document = certificate(ANSWERED, CASE[0], CLIENT)
    label = "r1/answered/reveal_to/share"
    assert document["claim"]["told"] == [label]
    assert f"but for its answer, told in {label}, corrupted client" in document["claim"]["statement"]
    rows = {row[0]: row[-1] for row in document["view"]}
    assert rows[label] is None and len([node for node in rows.values() if node is not None]) >= 1
    assert check(encode(document), Rebuilder([ANSWERED])).claim == document["claim"]
    server = certificate(ANSWERED, CASE[0], SERVER)
    assert "told" not in server["claim"] and "but for" not in server["claim"]["statement"]


@pytest.mark.parametrize(
    "entry",
    [
        *(entry_of(proto) for proto in (twice, midway, unused, followed, inner, routed)),
        entry_of(answered, PROVED),
    ],
    ids=lambda entry: f"{entry.name}, {entry.status}",
)
def test_any_other_opening_stays_in_the_view(entry: Entry) -> None:
    with pytest.raises(NotProved, match="corrupted client: not proved private at"):
        certificate(entry, CASE[0], CLIENT)


def _without_claim(document: dict[str, Any]) -> None:
    del document["claim"]["told"]


def _another(document: dict[str, Any]) -> None:
    document["claim"]["told"] = ["r1/answered/square/share"]


def _one_more(document: dict[str, Any]) -> None:
    """A message that is told as well, without a node."""
    row = next(row for row in document["view"] if row[-1] is not None)
    document["claim"]["told"].append(row[0])
    row[-1] = None


@pytest.mark.parametrize("change", [_without_claim, _another, _one_more])
def test_a_certificate_cannot_say_what_is_told(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(encode(certificate(ANSWERED, CASE[0], CLIENT)))
    change(document)
    body = {key: value for key, value in document.items() if key != "digest"}
    text = canonical({**body, "digest": digest(body)}) + "\n"
    with pytest.raises(Rejected, match="about another source"):
        check(text, Rebuilder([ANSWERED]))


def test_no_simulator_makes_up_an_answer() -> None:
    target = Target(f"{__name__}:ANSWERED", "8")
    assert not CertifiedSimulator(target, CLIENT).exists
    assert CertifiedSimulator(target, SERVER).exists
