"""What a planted fault is, and the steps that most of them share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protocols.entry import Case, Entry, Secret
from protocols.he.interface import Plan
from sim.concrete import to_words
from sim.functionality import Functionality
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Ring, RingArray, Shape, Spec
from sim.role import CLIENT, Role
from sim.world import Service

Kind = Literal["LEAK", "BRANCH", "SCHEDULE", "REAL"]
LEAK: Kind = "LEAK"
BRANCH: Kind = "BRANCH"
SCHEDULE: Kind = "SCHEDULE"
REAL: Kind = "REAL"
R2, R64 = Ring(2), Ring(64)
TINY_CASE = "tiny"

# Leaks found in published code of private inference.
PUBLISHED = MappingProxyType(
    {
        1: "a response without a fresh encryption of zero",
        2: "one encryption of zero reused for several responses",
        3: "a ciphertext returned with a part of it unmasked",
        4: "noise that is not flooded",
        5: "masks from a generator with a fixed default seed",
        6: "the secret key, or the selector, in clear",
        7: "top-k that reveals comparison bits",
        8: "work, messages or early exits that depend on the route",
        9: "capacity dropping that reveals the load",
        10: "a truncation mask that is fixed or too short",
        11: "one mask used for two values",
        12: "an OT correlation, tweak or pool slice used twice",
        13: "1-of-N pads from raw COT keys",
        14: "a biased sampler",
        15: "parameters below 128-bit security",
    }
)
# Leaks that no protocol text can show: they are planted in the engines below the interfaces, as faults of kind REAL.
BELOW_THE_INTERFACE = frozenset({1, 2, 4, 15})
PITFALL = "pitfall"
Services = Callable[[tuple[Plan, ...]], tuple[Service, ...]]  # of a session that serves these plans


@dataclass(frozen=True)
class Fault:
    """A protocol that is correct and leaks. client, server: whether that corrupted party's view tells something.

    entry: claims a functionality that leaks nothing; its last case, "tiny" where there is one, fits an enumeration.
    what: the fault in one sentence. source: number in `PUBLISHED`, or the pitfall it shows. symbolic: it is in the view
    of a symbolic run; otherwise the symbolic run is refused (secret-dependent control flow or schedule).
    services: of a REAL fault, which lies below the OT and HE interfaces: the text is an honest one, proved as such, and
    what leaks are the bytes of a session with these services in place of the real ones. found_in: public code with this
    leak, by repository and commit, or how it follows from the structure.
    """

    name: str
    entry: Entry
    what: str
    source: int | str
    client: bool
    server: bool
    kind: Kind = LEAK
    symbolic: bool = True
    services: Services | None = None
    found_in: str = ""

    @property
    def tiny(self) -> Case | None:
        return next((case for case in self.entry.cases if case.name == TINY_CASE), None)

    def leaks_to(self, role: Role) -> bool:
        return self.client if role is CLIENT else self.server


Text = Callable[..., Coroutine[Any, Any, Any]]


def planted(
    faults: list[Fault],
    what: str,
    source: int | str,
    claims: Functionality,
    cases: tuple[Case, ...],
    *,
    client: bool = False,
    server: bool = False,
    kind: Kind = LEAK,
    symbolic: bool = True,
) -> Callable[[Text], ProtocolDecl[Any]]:
    """Declare a protocol text and add it to a list of faults."""

    def declare(run: Text) -> ProtocolDecl[Any]:
        proto: ProtocolDecl[Any] = protocol(realises=claims)(run)
        faults.append(Fault(proto.name, Entry(proto, cases), what, source, client, server, kind, symbolic))
        return proto

    return declare


def _same(*words: Any, **_: Any) -> list[Any]:
    return list(words)


SHARING = Functionality("sharing of private words", _same)


def owned(count: int, *shape: int, tiny: Shape | None = None, ring: Ring = R64, small: Ring = R2) -> tuple[Case, ...]:
    """`count` words of the client's, at 64 bits and tiny; `spec` is public."""

    def case(name: str, ring: Ring, shape: Shape) -> Case:
        return Case(name, (Secret(ring, shape, CLIENT),) * count, {"spec": Spec(ring, shape)})

    return case("large", ring, shape), case(TINY_CASE, small, shape if tiny is None else tiny)


def shared(*shapes: Shape, tiny: tuple[Shape, ...] | None = None, small: Ring = R2, **public: Any) -> tuple[Case, ...]:
    """Shared words of these shapes, at 64 bits and tiny."""
    large = Case("large", tuple(Secret(R64, s) for s in shapes), public)
    return large, Case(TINY_CASE, tuple(Secret(small, s) for s in tiny or shapes), public)


def draw(p: Party, word: str, spec: Spec, owner: Role = CLIENT) -> RingArray | None:
    """A mask at its owner, None at the peer."""
    return p.draw(word, spec.ring, spec.shape) if p.role is owner else None


async def hand_over(p: Party, word: str, ours: RingArray | None, mask: RingArray | None, spec: Spec) -> RingArray:
    """The client sends ours - mask and keeps mask: shares of its word."""
    if ours is not None and mask is not None:
        p.send(word, ours - mask)
        return mask
    got: RingArray = await p.recv(word, spec)
    return got


async def tell(p: Party, word: str, x: RingArray | None, spec: Spec, sender: Role = CLIENT) -> RingArray:
    """The sender's array, known to both afterwards."""
    if p.role is sender and x is not None:
        p.send(word, x)
        return x
    got: RingArray = await p.recv(word, spec)
    return got


def peek(x: RingArray) -> NDArray[np.uint64]:
    """The words themselves: what protocol text must never look at. A symbolic run is refused here."""
    return to_words(x).reshape(-1)
