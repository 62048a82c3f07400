"""A catalog row and its example calls: what there is to say of a protocol once, for every check of it.

A case says which secrets go in and with which public parameters; `Secret.owner` None means shared between the parties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.he.interface import Plan
from sim.cost import FREE, Cost
from sim.functionality import Functionality
from sim.party import ProtocolDecl
from sim.ring import Ring, Shape, Spec
from sim.role import Role
from sim.shapes import blank

PROVED = "PROVED"  # correct, and private against both parties, in the hybrid model: the ledger of proofs decides
DECLARED = "DECLARED"  # correct, and opens what it says it opens
BOUNDED = "BOUNDED"
ASSUMED = "ASSUMED"


@dataclass(frozen=True)
class Secret:
    """One secret argument. low, high: inclusive signed range of its values (None: the whole ring).

    weight: a matrix of the server's; all weights of a case together make ONE prepared argument.
    """

    ring: Ring
    shape: Shape
    owner: Role | None = None
    low: int | None = None
    high: int | None = None
    weight: bool = False

    @property
    def spec(self) -> Spec:
        return Spec(self.ring, self.shape)

    @property
    def range(self) -> tuple[int, int]:
        """Inclusive bounds of the signed representative (Z_2: 0 and 1)."""
        if self.ring.l == 1:
            return 0, 1
        half = 1 << (self.ring.l - 1)
        return (-half if self.low is None else self.low), (half - 1 if self.high is None else self.high)


Values = Sequence[NDArray[np.int64]]
Adjust = Callable[[Values], Values]  # makes drawn values satisfy a precondition that binds several of them
Arrange = Callable[[list[Any]], list[Any]]  # one party's arguments, one per secret -> the protocol's positional ones
Prepare = Callable[
    [Callable[[Any, Any], Any], Values], Any
]  # the engine's prepare, the weights -> the server's argument


@dataclass(frozen=True)
class Case:
    """An example call: secrets in argument order, public keyword arguments (and leading positional ones).

    plans: what the session's homomorphic layer must serve (none: no such layer). prepare: makes the weights' argument.
    """

    name: str
    secrets: tuple[Secret, ...]
    public: dict[str, Any] = field(default_factory=dict)
    leading: tuple[Any, ...] = ()
    adjust: Adjust | None = None
    plans: tuple[Plan, ...] = ()
    prepare: Prepare | None = None
    arrange: Arrange | None = None


@dataclass(frozen=True)
class Entry:
    """A catalog row. `opened`: outputs are the value itself at both parties, not shares of it.

    `difference`: the outputs are r at `case.leading[0]`'s peer and r + value at that role (correlated OT).
    `relation`: what holds between the outputs where they are random (triples). `price`: of rows without cases, which
    are exercised by their own tests: steps whose output is a ciphertext or a key, and the set-up of a session.
    `contract`: the functionality once more, on ring arrays (bits over Z_2), for the proof of correctness; the catalog's
    own stand in `proofs.contracts`. `tiny`: calls of a few bits, for the exact enumeration of all inputs and tapes.
    """

    proto: ProtocolDecl[Any]
    cases: tuple[Case, ...]
    status: str = PROVED
    opened: bool = False
    difference: bool = False
    relation: Callable[[Values], bool] | None = None
    price: Cost | None = None
    functionality: Functionality | None = None
    share_level: bool = False
    contract: Callable[..., Any] | None = None
    tiny: tuple[Case, ...] = ()

    @property
    def name(self) -> str:
        return self.proto.name

    @property
    def has_theorem(self) -> bool:
        """Whether the row is above the OT and HE interfaces."""
        return bool(self.cases) and self.status in (PROVED, DECLARED)

    @property
    def realises(self) -> Functionality:
        return self.functionality or self.proto.realises

    def example(self) -> tuple[str, Cost]:
        """The row's first case with its declared cost; of a row without cases, its price."""
        if self.cases:
            return self.cases[0].name, declared_cost(self, self.cases[0])
        return "one call", self.price or FREE


def declared_cost(entry: Entry, case: Case) -> Cost:
    """The closed form of a case, from shapes alone."""
    arguments: list[Any] = [blank(s.spec) for s in case.secrets if not s.weight]
    arguments = case.arrange(arguments) if case.arrange else arguments
    arguments += [None] if case.prepare else []
    return entry.proto.declared(*case.leading, *arguments, **case.public)
