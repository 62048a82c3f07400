"""Runs of a protocol text in which its callees are functionalities: contracts, their obligations, their instances.

A contract is a specification over ring arrays: the function on reconstructed values, and what it demands of them. With
contracts on, a call of a declared protocol IS a call of an ideal functionality that hands out fresh shares (R, f - R).
Each call is noted as an instance (which protocol, which arguments' rings and shapes, which public parameters): a
theorem rests on the theorems of its instances.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from sim.driver import Driver
from sim.party import Party, ProtocolDecl
from sim.ring import Backend, Ring, RingArray, Shape, Spec
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape
from sim.world import Endpoint, Service


@dataclass(frozen=True)
class Demand:
    """An obligation: every entry of `values`, read as signed (bits as 0 and 1), lies in [low, high]."""

    what: str
    values: RingArray
    low: int
    high: int


@dataclass(frozen=True)
class Contract:
    """What a protocol computes on reconstructed values, with its demands; plain ring operations, in any interpretation.

    compute(*values, **public) -> outputs as the protocol nests them; demands(*values, **public) -> obligations.
    """

    compute: Callable[..., Any]
    demands: Callable[..., Sequence[Demand]] = lambda *_, **__: ()


@dataclass(frozen=True)
class Held:
    """What the two parties have of an array argument: specs, None for nothing."""

    client: Spec | None
    server: Spec | None


@dataclass(frozen=True)
class Record:
    """A private object of the server's that is made of arrays."""

    kind: type
    fields: tuple[Any, ...]


@dataclass(frozen=True)
class Instance:
    """A call of a protocol by its public facts: who holds each argument, and the parameters."""

    name: str
    arguments: tuple[Any, ...]
    public: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        rings = sorted({part.ring.l for part in _specs(self.arguments)})
        return f"{self.name} ({'/'.join(map(str, rings))} bits)"


@dataclass
class Ledger:
    """What a run with contracts has used."""

    instances: list[Instance] = field(default_factory=list)
    demands: list[tuple[str, Demand]] = field(default_factory=list)


class _Unpooled(Endpoint):
    """Ideal OT takes nothing from a pool."""

    def reserve(self, label: str, resource: str, n: int) -> int:
        return 0


@dataclass(frozen=True)
class Outcome:
    """Both parties' outputs."""

    client: Any
    server: Any


def run_hybrid(
    proto: ProtocolDecl[Any],
    services: Sequence[Service],
    client: Sequence[Any],
    server: Sequence[Any],
    public: Mapping[str, Any],
    backend: Backend,
    contracts: Mapping[str, tuple[ProtocolDecl[Any], Contract]],
    ledger: Ledger,
) -> Outcome:
    """Run the text of `proto`; every other protocol named in `contracts` is its functionality."""
    functionality = Tape(bytes(32), "functionality")

    def ideal_draw(label: str, word: str, ring: Ring, shape: Shape) -> RingArray:
        return RingArray(backend, ring, shape, backend.draw(Spec(ring, shape), functionality, f"{label}/{word}"))

    endpoints = {role: _Unpooled(role, backend, Tape(bytes(32), role.value), hybrid=True) for role in Role}
    inputs = {CLIENT: client, SERVER: server}

    async def main(p: Party) -> Any:
        for service in services:
            p.endpoint.states[service.name] = await p.scoped(service.name, service.setup)
        return await p.scoped(proto.name, proto.ideal or proto.run, *inputs[p.role], **public)

    with _replaced(proto, contracts, ledger):
        driver = Driver(functionality=ideal_draw)
        outputs = driver.run({role: main(Party(driver, endpoint, "r1")) for role, endpoint in endpoints.items()})
    return Outcome(outputs[CLIENT], outputs[SERVER])


@contextmanager
def _replaced(
    top: ProtocolDecl[Any], contracts: Mapping[str, tuple[ProtocolDecl[Any], Contract]], ledger: Ledger
) -> Iterator[None]:
    callees = [(name, proto, contract) for name, (proto, contract) in contracts.items() if proto is not top]
    saved = [(proto, proto.ideal) for _, proto, _ in callees]
    try:
        for name, proto, contract in callees:
            proto.ideal = _as_functionality(name, contract, ledger)
        yield
    finally:
        for proto, ideal in saved:
            proto.ideal = ideal


def _as_functionality(name: str, contract: Contract, ledger: Ledger) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(p: Party, *mine: Any, **public: Any) -> Any:
        def step(draw: Any, client: tuple[Any, ...], server: tuple[Any, ...]) -> tuple[Any, Any]:
            pairs = list(zip(client, server, strict=True))
            ledger.instances.append(Instance(name, tuple(held(a, b) for a, b in pairs), _plain(public)))
            values = [joined(a, b) for a, b in pairs]
            ledger.demands += [(name, demand) for demand in contract.demands(*values, **public)]
            counter = iter(range(1 << 20))

            def split(x: Any) -> tuple[Any, Any]:
                if isinstance(x, list | tuple):
                    parts = [split(part) for part in x]
                    return type(x)(a for a, _ in parts), type(x)(b for _, b in parts)
                r = draw(f"R{next(counter)}", x.ring, x.shape)
                return r, x - r

            return split(contract.compute(*values, **public))

        return await p.ideal("functionality", step, mine)

    return call


def _plain(public: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in public.items())


def joined(a: Any, b: Any) -> Any:
    """The value that two parties' arguments stand for: a sum of shares, or what one of them holds."""
    if isinstance(a, RingArray) and isinstance(b, RingArray):
        return a + b
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return type(a)(joined(x, y) for x, y in zip(a, b, strict=True))
    return b if a is None else a


def held(a: Any, b: Any) -> Any:
    """The public facts of an argument: specs at both parties, or the public value itself."""
    if isinstance(a, list | tuple) or isinstance(b, list | tuple):
        n = len(b if a is None else a)
        left, right = (x if x is not None else (None,) * n for x in (a, b))
        return tuple(held(x, y) for x, y in zip(left, right, strict=True))
    if isinstance(a, RingArray) or isinstance(b, RingArray):
        return Held(*(x.spec if isinstance(x, RingArray) else None for x in (a, b)))
    if (
        is_dataclass(b)
        and not isinstance(b, type)
        and any(isinstance(getattr(b, f.name), RingArray) for f in fields(b))
    ):
        return Record(type(b), tuple(held(None, getattr(b, f.name)) for f in fields(b)))
    return b if a is None else a


def _specs(argument: Any) -> Iterator[Spec]:
    if isinstance(argument, Held):
        yield from (spec for spec in (argument.client, argument.server) if spec is not None)
    elif isinstance(argument, tuple | Record):
        for part in argument if isinstance(argument, tuple) else argument.fields:
            yield from _specs(part)
