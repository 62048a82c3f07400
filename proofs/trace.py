"""A protocol's symbolic run in the hybrid world: its DAG, and what each party sees of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from proofs.symbolic import Dag
from sim.party import ProtocolDecl
from sim.ring import RingArray
from sim.role import CLIENT, SERVER, Role
from sim.wire import Blob
from sim.world import Execution, Service, Session


@dataclass(frozen=True)
class Seen:
    """One array in a party's view: the label it came under, its node, and whether a functionality delivered it."""

    label: str
    node: int
    ideal: bool


@dataclass(frozen=True)
class Trace:
    """A symbolic execution. outputs: the nodes of each party's output arrays."""

    dag: Dag
    execution: Execution
    outputs: dict[Role, list[int]]

    def view(self, role: Role) -> list[Seen]:
        """What a corrupted party sees besides its own inputs and tape: messages and functionality outputs, in order.

        A sealed blob (a ciphertext at the server) is an event without content.
        """
        seen = []
        for message in self.execution.view(role):
            content = message.content
            if isinstance(content, Blob):
                content = None if content.sealed else content.data
            if isinstance(content, RingArray):
                seen.append(Seen(message.label, content.value, False))
        for label, outputs in self.execution.ideals:
            seen += [Seen(label, x.value, True) for x in arrays(outputs[role])]
        return seen


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage cycles meanwhile: a DAG is 10^5 objects without one, and each search reads them all."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def arrays(value: Any) -> list[RingArray]:
    """The ring arrays of a nested output, in order."""
    if isinstance(value, RingArray):
        return [value]
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in arrays(part)]
    return []


def trace(
    proto: ProtocolDecl[Any],
    services: Sequence[Service],
    client: Sequence[Any],
    server: Sequence[Any],
    public: dict[str, Any],
    dag: Dag,
) -> Trace:
    """Run the protocol text symbolically: inputs are leaves of `dag`, OT and HE ideal."""
    session = Session(services, seed=b"symbolic", backend=dag, hybrid=True)
    with uncollected():
        execution = session.run(proto, client, server, **public)
    outputs = {role: [x.value for x in arrays(execution.outputs[role])] for role in (CLIENT, SERVER)}
    return Trace(dag, execution, outputs)
