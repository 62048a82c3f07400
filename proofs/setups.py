"""The theorems as calls with symbolic inputs: of a catalog case, or of an instance of a contract.

A shared input is (x - r, r) with x the secret and r the client's share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proofs.contracts import CONTRACTS, ONE_ULP_CONTRACT
from proofs.hybrid import Contract, Demand, Held, Instance, Record
from proofs.symbolic import Dag
from proofs.theorems import cases_of
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from protocols.he.packing import LinearPlan, SelectPlan
from sim.party import ProtocolDecl
from sim.ring import RingArray, Spec
from sim.role import CLIENT, SERVER

_PROTOCOLS: dict[str, ProtocolDecl[Any]] = {entry.name: entry.proto for entry in CATALOG}
# These have an ideal form, or call one; what `reveal` and `reveal_to` give is no fresh sharing.
_RUN = ("choose", "correlate", "correlate_wide", "correlate_ragged", "reveal", "reveal_to")
CALLEES = {name: (_PROTOCOLS[name], contract) for name, contract in CONTRACTS.items() if name not in _RUN}


@dataclass
class Setup:
    """One theorem to prove: symbolic inputs of a call, its contract, and what is assumed of the inputs."""

    name: str
    proto: ProtocolDecl[Any]
    contract: Contract | None
    dag: Dag
    client: list[Any] = field(default_factory=list)
    server: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    public: dict[str, Any] = field(default_factory=dict)
    plans: tuple[Any, ...] = ()
    ranges: list[Demand] = field(default_factory=list)
    entry: Entry | None = None
    case: Case | None = None

    def share(self, name: str, value: RingArray) -> tuple[RingArray, RingArray]:
        """Two shares of a value: the client's is a leaf."""
        mine = self.dag.leaf("client", name, value.spec)
        return mine, value - mine

    def secret(self, name: str, spec: Spec) -> RingArray:
        return self.dag.leaf("secret", name, spec)


def from_case(entry: Entry, case: Case) -> Iterator[Setup]:
    contract = ONE_ULP_CONTRACT if entry.share_level else CONTRACTS.get(entry.name)
    if entry.contract is not None:
        contract = Contract(entry.contract)
    for variant in cases_of(entry.name, [secret.spec for secret in case.secrets], case.public):
        setup = Setup(entry.name, entry.proto, contract, Dag(), public=case.public, plans=case.plans)
        setup.entry, setup.case = entry, case
        raw = [setup.secret(f"x{i}", secret.spec) for i, secret in enumerate(case.secrets)]
        setup.ranges = [
            Demand("declared range", x, *secret.range)
            for x, secret in zip(raw, case.secrets, strict=True)
            if secret.low is not None or secret.high is not None
        ]
        secrets, instead = variant(raw)
        setup.ranges = instead or setup.ranges
        client: list[Any] = []
        server: list[Any] = []
        weights: list[Any] = []
        for i, (secret, x) in enumerate(zip(case.secrets, secrets, strict=True)):
            if secret.weight:
                weights.append(x)
                continue
            a, b = setup.share(f"x{i}", x) if secret.owner is None else (x, x)
            client.append(a if secret.owner is not SERVER else None)
            server.append(b if secret.owner is not CLIENT else None)
            if entry.share_level:
                setup.values += [a, b]
        if case.arrange is not None:
            client, server = case.arrange(client), case.arrange(server)
        if case.prepare is not None:
            client.append(None)
            server.append(case.prepare(lambda plan, w: w, weights))
        setup.client, setup.server = [*case.leading, *client], [*case.leading, *server]
        setup.values = setup.values or secrets
        yield setup


def from_instance(instance: Instance) -> Iterator[Setup]:
    specs = [a.client or a.server for a in instance.arguments if isinstance(a, Held)]
    public = dict(instance.public)
    for variant in cases_of(instance.name, [s for s in specs if s is not None], public):
        proto, contract = CALLEES[instance.name]
        setup = Setup(instance.name, proto, contract, Dag(), public=public)
        setup.plans = tuple(plan for value in public.values() for plan in _plans(value))
        raw = [setup.secret(f"x{i}", s) for i, s in enumerate(specs) if s is not None]
        secrets, setup.ranges = variant(raw)
        supply = iter(enumerate(secrets))
        for argument in instance.arguments:
            mine, theirs, value = _argument(setup, argument, supply)
            setup.client.append(mine)
            setup.server.append(theirs)
            setup.values.append(value)
        yield setup


def _plans(value: Any) -> tuple[LinearPlan | SelectPlan, ...]:
    """The homomorphic products of a public argument: itself, or those of a layer's plan."""
    return (value,) if isinstance(value, LinearPlan | SelectPlan) else tuple(getattr(value, "plans", ()))


def _record(setup: Setup, fact: Record, name: str) -> Any:
    """The server's record, with leaves for its arrays and for those of the records in it."""
    parts: list[Any] = []
    for j, part in enumerate(fact.fields):
        if isinstance(part, Record):
            parts.append(_record(setup, part, f"{name}{j}."))
        else:
            parts.append(part and setup.dag.leaf("server", f"{name}{j}", part.server))
    return fact.kind(*parts)


def _argument(setup: Setup, fact: Any, supply: Iterator[tuple[int, RingArray]]) -> tuple[Any, Any, Any]:
    """Both parties' argument and the value it stands for."""
    if isinstance(fact, Held):
        i, x = next(supply)
        if fact.client is None or fact.server is None:
            return (None, x, x) if fact.client is None else (x, None, x)
        return *setup.share(f"x{i}", x), x
    if isinstance(fact, Record):
        record = _record(setup, fact, "w")
        return None, record, record
    if isinstance(fact, tuple):
        parts = [_argument(setup, part, supply) for part in fact]
        a, b, v = (tuple(part[i] for part in parts) for i in range(3))
        return a, b, v
    return fact, fact, fact
