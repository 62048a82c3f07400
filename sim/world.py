"""Sessions and executions: two endpoints, their services, and runs of protocols between them.

A session is set up once (base OT, HE keys: the services' `setup` protocols); then it runs any number of protocols.
Before a real run the protocol is priced by the shapes interpretation; that gives the exact plan of pooled correlated
randomness, in program order. The plan is provisioned in a scope of its own, and every slice is bound to the label that
may take it: sub-protocols side by side cannot race for it, and every slice must be taken exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

from sim.concrete import CONCRETE
from sim.cost import Cost
from sim.driver import Driver, OnResult, Source, Wait
from sim.message import Message, chain
from sim.network import Network
from sim.party import Party, ProtocolDecl
from sim.ring import Backend, Ring, RingArray, Shape, Spec
from sim.role import CLIENT, SERVER, Role
from sim.shapes import SHAPES, blank
from sim.tape import Tape, derive_key

FUNCTIONALITY = "functionality"
REMEMBERED = 256  # prices, and forecasts, that a session keeps


class ReservationError(RuntimeError):
    """Correlated randomness was taken without, beside or beyond its reservation."""


class SessionEnded(RuntimeError):
    """A session was used again after a run of it had failed."""


class Service(Protocol):
    """Long-term two-party state of a session. One object describes the service; each party gets its own state."""

    name: str

    async def setup(self, p: Party) -> Any:
        """Once per session; returns this party's state."""

    async def provision(self, p: Party, state: Any, amounts: Mapping[str, int]) -> None:
        """Before a run: make exactly this much of each pooled resource that the service owns."""


Body = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(eq=False)
class Endpoint:
    """What one party holds for the length of a session: its tape, its service states, its reservations.

    stocks: how much of each pooled resource earlier runs have left, where a service makes more than a run needs.
    """

    role: Role
    backend: Backend
    tape: Tape
    states: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    hybrid: bool = False
    forms: Mapping[Body, Body] = field(default_factory=dict)
    plan: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    stocks: dict[str, int] = field(default_factory=dict)

    def body(self, proto: ProtocolDecl[Any]) -> Body:
        """What runs when a protocol is called: itself, its ideal form, or the form that this world has for it."""
        if self.hybrid and proto.ideal is not None:
            return proto.ideal
        return self.forms.get(proto.run, proto.run)

    def service(self, name: str) -> Any:
        if name not in self.states:
            raise KeyError(f"{self.role.value}: the session has no service {name!r}; it has {sorted(self.states)}")
        return self.states[name]

    def reserve(self, label: str, resource: str, n: int) -> int:
        key = (resource, label.removeprefix(self.prefix))
        if self.backend is SHAPES:
            if key in self.plan:
                raise ReservationError(f"{self.role.value} reserved {resource} twice under {label!r}")
            offset = self.totals.get(resource, 0)
            self.totals[resource] = offset + n
            self.plan[key] = (offset, n)
            return offset
        if key not in self.plan:
            raise ReservationError(f"{self.role.value} took {resource} under {label!r}, which nothing reserved")
        offset, size = self.plan.pop(key)
        if size != n:
            raise ReservationError(f"{self.role.value} took {n} of {resource} under {label!r}, reserved {size}")
        return offset


@dataclass(frozen=True)
class Execution:
    """All of a run: outputs per party, messages in canonical order, CPU, reservations, and the ledger of draws.

    draws: per party, the labels drawn from its tape in this run with the bytes taken under each, in order (concrete
    runs; other interpretations take no bytes). A label serves once per session: see `sim.tape.Tape`.
    """

    outputs: dict[Role, Any]
    messages: tuple[Message, ...]
    cpu_by_scope: dict[tuple[Role, str], float]
    cpu_by_depth: dict[tuple[Role, int], float]
    reserved: dict[str, int]
    prefix: str
    ideals: tuple[tuple[str, dict[Role, Any]], ...] = ()
    draws: dict[Role, dict[str, int]] = field(default_factory=dict)

    @property
    def cost(self) -> Cost:
        """Bytes, messages, COTs and rounds; the clock holds the depth only."""
        c2s = sum(m.nbytes for m in self.messages if m.sender is CLIENT)
        s2c = sum(m.nbytes for m in self.messages if m.sender is SERVER)
        depth = max((m.depth for m in self.messages), default=0)
        to_client, to_server = self.reserved.get("cot.client", 0), self.reserved.get("cot.server", 0)
        return Cost(c2s, s2c, len(self.messages), to_client, to_server, ((depth, depth), (depth, depth)))

    @property
    def digest(self) -> str:
        """Hexadecimal chain digest of the transcript; excludes times."""
        return chain(self.messages).hex()

    def cpu(self, role: Role) -> float:
        return sum(t for (who, _), t in self.cpu_by_depth.items() if who is role)

    def time(self, network: Network) -> float:
        """Virtual seconds on a network."""
        return network.time(((m.depth, m.sender, m.nbytes) for m in self.messages), self.cpu_by_depth)

    def view(self, role: Role) -> tuple[Message, ...]:
        """The messages a corrupted party receives (it knows its own input and tape besides)."""
        return tuple(m for m in self.messages if m.sender is not role)

    def scope(self, prefix: str) -> tuple[Message, ...]:
        """The messages of one scope and everything below it."""
        return tuple(m for m in self.messages if m.scope == prefix or m.scope.startswith(prefix + "/"))


Peer = Mapping[Role, Source]
T = TypeVar("T")
Priced = tuple[Execution, dict[tuple[str, str], tuple[int, int]]]


class Session:
    """Two endpoints and their services. `roles` names the parties present: both, or one with its peer elsewhere.

    seed: None draws the tape keys from the operating system. keys: explicit tape keys (replay, two processes).
    sources: for each ABSENT party, where its messages come from; wait: blocks until more of them may be there.
    hybrid: protocols that have an ideal form run it (proofs and hybrid tests only; give ideal services as well).
    on_send sees every message as it is sent, on_scope every scope as it is entered, on_result what each one returns.
    An absent party's inputs are given by shape (`sim.shapes.blank`). shadow: a session of equal services in the shapes
    interpretation, which keeps the prices of all sessions that are given it; not for two threads at once.
    """

    def __init__(
        self,
        services: Sequence[Service] = (),
        *,
        seed: bytes | None = None,
        backend: Backend = CONCRETE,
        roles: Iterable[Role] = (CLIENT, SERVER),
        keys: Mapping[Role, bytes] | None = None,
        sources: Peer | None = None,
        wait: Wait | None = None,
        hybrid: bool = False,
        on_send: Callable[[Message], None] | None = None,
        on_scope: Callable[[Role, str], None] | None = None,
        on_result: OnResult | None = None,
        shadow: Session | None = None,
    ) -> None:
        self.services = tuple(services)
        self.backend = backend
        keys = keys or {}
        self.endpoints = {
            role: Endpoint(
                role, backend, Tape(keys.get(role) or derive_key(seed, role.value), role.value), hybrid=hybrid
            )
            for role in roles
        }
        self._functionality = Tape(derive_key(seed, FUNCTIONALITY), FUNCTIONALITY) if hybrid else None
        self._sources, self._wait = sources or {}, wait
        self._on_send, self._on_scope, self._on_result = on_send, on_scope, on_result
        self._runs = 0
        self._lanes = 1
        self._shadow = self if backend is SHAPES else shadow or Session(services, seed=b"", backend=SHAPES)
        self._prices: dict[Any, Priced] = {}
        self._forecasts: dict[Any, tuple[Message, ...]] = {}
        self._failed: str | None = None
        self.setup = self._execute("setup", {role: self._setup for role in self.endpoints}, {})

    def widen(self, backend: Backend, lanes: int, forms: Mapping[Body, Body]) -> None:
        """From now on one run of a text stands for so many runs side by side, in arrays of this backend.

        Every reservation is made for all of them. forms: bodies that stand for those of some protocols, by their `run`.
        """
        self.backend, self._lanes = backend, lanes
        for endpoint in self.endpoints.values():
            endpoint.backend, endpoint.forms = backend, forms

    async def _setup(self, p: Party) -> None:
        for service in self.services:
            p.endpoint.states[service.name] = await p.scoped(service.name, service.setup)

    def price(self, proto: ProtocolDecl[Any], client: Sequence[Any], server: Sequence[Any], **public: Any) -> Execution:
        """Run the shapes interpretation of a protocol on inputs of these shapes: its exact cost and plan."""
        return self._priced(proto, client, server, public)[0]

    def forecast(
        self, proto: ProtocolDecl[Any], client: Sequence[Any], server: Sequence[Any], **public: Any
    ) -> tuple[Message, ...]:
        """Every message of the next run with these arguments, provisioning included, in canonical order and without
        content: what a party may expect from a peer that runs the same protocol text elsewhere.
        """
        priced, _ = self._priced(proto, client, server, public)
        shadow, prefix = self._shadow, f"r{self._runs + 1}"
        blanks = {CLIENT: [_blank(v) for v in client], SERVER: [_blank(v) for v in server]}
        stocks = next(iter(self.endpoints.values())).stocks
        key = prefix, tuple(sorted(stocks.items())), _key(proto, blanks, public)
        if key not in shadow._forecasts or key[2] is None:
            for endpoint in shadow.endpoints.values():
                endpoint.plan, endpoint.totals, endpoint.stocks = {}, {}, dict(stocks)
            mains = {role: shadow._provisioned(_main(proto, blanks[role], public), priced.reserved) for role in blanks}
            return _remembered(shadow._forecasts, key, shadow._execute(prefix, mains, priced.reserved).messages)
        return shadow._forecasts[key]

    def _priced(
        self, proto: ProtocolDecl[Any], client: Sequence[Any], server: Sequence[Any], public: dict[str, Any]
    ) -> Priced:
        blanks = {CLIENT: [_blank(v) for v in client], SERVER: [_blank(v) for v in server]}
        key = _key(proto, blanks, public)
        if key is None:
            return self._shadow._run_shapes(proto, blanks, public)
        prices = self._shadow._prices
        if key not in prices:
            return _remembered(prices, key, self._shadow._run_shapes(proto, blanks, public))
        return prices[key]

    def _run_shapes(
        self, proto: ProtocolDecl[Any], inputs: Mapping[Role, Sequence[Any]], public: dict[str, Any]
    ) -> Priced:
        for endpoint in self.endpoints.values():
            endpoint.plan, endpoint.totals = {}, {}
        mains = {role: _main(proto, inputs[role], public) for role in self.endpoints}
        execution = self._execute("run", mains, {})
        ours, theirs = (_sizes(self.endpoints[role].plan) for role in (CLIENT, SERVER))
        if ours != theirs:
            raise ReservationError(f"{proto.name}: the two parties reserve differently: {sorted(ours ^ theirs)[0]}")
        client = self.endpoints[CLIENT]
        totals = dict(client.totals)
        return Execution(execution.outputs, execution.messages, {}, {}, totals, execution.prefix), client.plan

    def run(
        self,
        proto: ProtocolDecl[Any],
        client: Sequence[Any],
        server: Sequence[Any],
        **public: Any,
    ) -> Execution:
        """Run a protocol once: client and server are each party's positional inputs, `public` is known to both.

        The execution covers the provisioning of correlated randomness (scope `rN/pool`) and the protocol (`rN/NAME`).
        A run that fails ends the session: the parties' pools may no longer agree. Later runs raise SessionEnded.
        """
        priced, plan = self._priced(proto, client, server, public)
        if self.backend is SHAPES:
            return priced
        if self._failed is not None:
            raise SessionEnded(f"the session ended with {self._failed}; set up a new one")
        self._runs += 1
        prefix = f"r{self._runs}"
        inputs = {CLIENT: client, SERVER: server}
        for endpoint in self.endpoints.values():
            endpoint.plan = {key: (self._lanes * first, self._lanes * n) for key, (first, n) in plan.items()}
        reserved = {resource: self._lanes * n for resource, n in priced.reserved.items()}
        mains = {role: self._provisioned(_main(proto, inputs[role], public), reserved) for role in self.endpoints}
        try:
            execution = self._execute(prefix, mains, reserved)
            for endpoint in self.endpoints.values():
                if endpoint.plan:
                    (resource, label), (_, n) = next(iter(endpoint.plan.items()))
                    raise ReservationError(f"{endpoint.role.value} left {n} of {resource} under {label!r} untaken")
        except BaseException as error:
            self._failed = f"{type(error).__name__} in {prefix}"
            raise
        return execution

    def _provisioned(self, main: Main, amounts: Mapping[str, int]) -> Main:
        async def both(p: Party) -> Any:
            pool = p.child("pool")
            for service in self.services:
                await pool.scoped(service.name, service.provision, p.endpoint.states[service.name], amounts)
            return await main(p)

        return both

    def _execute(self, prefix: str, mains: Mapping[Role, Main], reserved: dict[str, int]) -> Execution:
        driver = Driver(
            self._sources,
            self._wait,
            self._ideal_draw if self._functionality is not None else None,
            self._on_send,
            self._on_scope,
            self._on_result,
        )
        for endpoint in self.endpoints.values():
            endpoint.prefix = prefix
        handles = {role: Party(driver, self.endpoints[role], prefix) for role in mains}
        drawn = {role: len(self.endpoints[role].tape.draws) for role in mains}
        outputs = driver.run({role: mains[role](handles[role]) for role in mains})
        messages = tuple(sorted(driver.messages, key=lambda m: m.order))
        ideals = tuple(driver.ideals)
        draws = {role: dict(islice(self.endpoints[role].tape.draws.items(), n, None)) for role, n in drawn.items()}
        return Execution(outputs, messages, driver.cpu_by_scope, driver.cpu_by_depth, reserved, prefix, ideals, draws)

    def _ideal_draw(self, label: str, word: str, ring: Ring, shape: Shape) -> RingArray:
        value = self.backend.draw(Spec(ring, shape), self._functionality, f"{label}/{word}")
        return RingArray(self.backend, ring, shape, value)


def _remembered(known: dict[Any, T], key: Any, value: T) -> T:
    """The value, which is known from now on; of too many the oldest is forgotten."""
    known[key] = value
    if len(known) > REMEMBERED:
        known.pop(next(iter(known)), None)
    return value


def _key(proto: ProtocolDecl[Any], blanks: Mapping[Role, Sequence[Any]], public: dict[str, Any]) -> Any:
    """What a price depends on, or None where a public argument has no hash.

    Arrays count by ring and shape, plain Python values by value; anything else is a party's private object (prepared
    weights), of which a price can know no more than the type.
    """

    def public_part(v: Any) -> Any:
        if isinstance(v, RingArray):
            return v.spec
        return v if isinstance(v, Role | int | float | str | bytes | tuple) else type(v)

    arguments = [tuple(public_part(v) for v in blanks[role]) for role in (CLIENT, SERVER)]
    key = (proto.run, *arguments, tuple(sorted(public.items())))
    try:
        hash(key)
    except TypeError:
        return None
    return key


Main = Callable[[Party], Coroutine[Any, Any, Any]]


def _main(proto: ProtocolDecl[Any], inputs: Sequence[Any], public: dict[str, Any]) -> Main:
    def start(p: Party) -> Coroutine[Any, Any, Any]:
        return proto(p, *inputs, **public)

    return start


def _blank(value: Any) -> Any:
    return blank(value.spec) if isinstance(value, RingArray) else value


def _sizes(plan: Mapping[tuple[str, str], tuple[int, int]]) -> set[tuple[str, str, int]]:
    return {(resource, label, n) for (resource, label), (_, n) in plan.items()}
