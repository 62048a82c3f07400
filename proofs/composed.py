"""Enumeration of larger protocols: their callees are functionalities that hand out fresh shares (R, f - R).

What is enumerated is then the protocol's own text around its calls; each callee is a row of `proofs.tiny` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from proofs.enumerate import Joint, arguments
from proofs.exhaustive import Exhaustive
from protocols.boolean import conjoin
from protocols.compare import drelu
from protocols.convert import mux
from protocols.entry import Case
from protocols.products import cross
from sim.driver import Driver
from sim.party import Party, ProtocolDecl
from sim.ring import Ring, RingArray, Shape, Spec
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape
from sim.world import FUNCTIONALITY, Endpoint, Execution

Compute = Callable[..., Any]


def _conjoin(*groups: RingArray) -> list[RingArray]:
    pairs = zip(groups[0::2], groups[1::2], strict=True)
    return [left.reshape(*left.shape, 1).broadcast(*right.shape) & right for left, right in pairs]


# What a callee computes on reconstructed values.
CALLEES: tuple[tuple[ProtocolDecl[Any], Compute], ...] = (
    (drelu, lambda x, **_: ~x.bit(x.ring.l - 1)),
    (mux, lambda b, x: b.cast(x.ring) * x),
    (conjoin, _conjoin),
    (cross, lambda x, y, **_: x * y),
)


def _as_functionality(compute: Compute) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(p: Party, *mine: Any, **public: Any) -> Any:
        def step(draw: Any, client: Sequence[Any], server: Sequence[Any]) -> tuple[Any, Any]:
            values = [_joined(a, b) for a, b in zip(client, server, strict=True)]
            outputs = compute(*values, **public)
            each = outputs if isinstance(outputs, list) else [outputs]
            ours: list[RingArray] = [draw(f"R{i}", x.ring, x.shape) for i, x in enumerate(each)]
            theirs = [x - r for x, r in zip(each, ours, strict=True)]
            return (ours, theirs) if isinstance(outputs, list) else (ours[0], theirs[0])

        return await p.ideal("functionality", step, mine)

    return call


def _joined(a: RingArray | None, b: RingArray | None) -> RingArray | None:
    """The sum of shares, or what one party holds."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


@contextmanager
def _replaced(top: ProtocolDecl[Any]) -> Iterator[None]:
    saved = [(proto, proto.ideal) for proto, _ in CALLEES]
    try:
        for proto, compute in CALLEES:
            if proto is not top:
                proto.ideal = _as_functionality(compute)
        yield
    finally:
        for proto, ideal in saved:
            proto.ideal = ideal


class Composed(Joint):
    """All runs of one tiny instance whose callees are functionalities. Nothing is pooled, so nothing is reserved."""

    def _run(self, proto: ProtocolDecl[Any], case: Case, lanes: Exhaustive) -> tuple[Exhaustive, Execution]:
        given = arguments(case, lambda role, name, spec: lanes.input(role.value, name, spec))
        functionality = Tape(bytes(32), FUNCTIONALITY)

        def draw(label: str, word: str, ring: Ring, shape: Shape) -> RingArray:
            value = lanes.draw(Spec(ring, shape), functionality, f"{label}/{word}")
            return RingArray(lanes, ring, shape, value)

        driver = Driver(functionality=draw)
        endpoints = {role: Endpoint(role, lanes, Tape(bytes(32), role.value), hybrid=True) for role in Role}
        handles = {role: Party(driver, endpoint, "r1") for role, endpoint in endpoints.items()}
        with _replaced(proto):
            outputs = driver.run({role: proto(handles[role], *given[role], **case.public) for role in (CLIENT, SERVER)})
        messages = tuple(sorted(driver.messages, key=lambda m: m.order))
        return lanes, Execution(outputs, messages, {}, {}, {}, "r1", tuple(driver.ideals))
