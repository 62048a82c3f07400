"""A party's handle and the @protocol declaration.

`async def` is an interactive protocol, `def` is local computation: `await` means "I talk". A handle `p` belongs to one
party in one scope; calling a protocol opens a sub-scope at the moment of the CALL, so labels are the same in every
schedule. Label = scope path + "/" + word: the wire field, the tape draw, the reservation and the cost row in one.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sim.cost import Cost
from sim.functionality import Functionality
from sim.ring import Backend, Ring, RingArray, Shape, Spec, constant
from sim.role import Role
from sim.shapes import SHAPES, blank
from sim.wire import AnySpec, Blob, BlobSpec, Payload, WireMismatch, describe, spec_of

if TYPE_CHECKING:
    from sim.driver import Driver
    from sim.world import Endpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Receive:
    """Effect: wait for the peer's message under this label."""

    label: str
    spec: AnySpec


# What an ideal functionality does: (its own draws, the client's input, the server's input) -> both outputs.
IdealStep = Callable[[Callable[[str, Ring, Shape], RingArray], Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Ideal:
    """Effect: hand an input to an ideal functionality, wait for the peer's, get this party's output."""

    label: str
    step: IdealStep
    mine: Any


@dataclass(frozen=True)
class Fork:
    """Effect: run these coroutines side by side, join when all are done."""

    children: tuple[Coroutine[Any, Any, Any], ...]


Effect = Receive | Fork | Ideal


@coroutine
def _perform(effect: Effect) -> Generator[Effect, Any, Any]:
    return (yield effect)


class Party:
    """Handle of one party in one scope."""

    __slots__ = ("_children", "_driver", "endpoint", "role", "scope")

    def __init__(self, driver: Driver, endpoint: Endpoint, scope: str) -> None:
        self._driver = driver
        self._children: dict[str, int] = {}
        self.endpoint = endpoint
        self.role: Role = endpoint.role
        self.scope = scope

    @property
    def backend(self) -> Backend:
        return self.endpoint.backend

    # -- scopes ------------------------------------------------------------------------------------------------
    def child(self, name: str) -> Party:
        """A handle for a sub-scope; the second child of a name is name.2, and so on."""
        count = self._children[name] = self._children.get(name, 0) + 1
        return Party(self._driver, self.endpoint, f"{self.scope}/{name}" + (f".{count}" if count > 1 else ""))

    def scoped(
        self, name: str, body: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, T]:
        """Run `body(handle, ...)` in a sub-scope, opened now, to which its messages, draws and CPU are charged."""
        child = self.child(name)

        async def inside() -> T:
            self._driver.enter(child.scope)
            try:
                result = await body(child, *args, **kwargs)
                self._driver.returned(child.scope, result)
                return result
            except Exception as error:
                self._driver.blame(error)
                raise
            finally:
                self._driver.leave()

        coro = inside()
        self._driver.opened(self.role, child.scope, coro)
        return coro

    def label(self, word: str) -> str:
        return f"{self.scope}/{word}"

    # -- talking -----------------------------------------------------------------------------------------------
    def send(self, word: str, payload: Payload) -> None:
        """Copy to the wire and go on; never blocks."""
        self._driver.send(self.endpoint, self.label(word), self.scope, payload)

    async def recv(self, word: str, spec: AnySpec) -> Any:
        """The peer's message under the same label: a RingArray for a Spec, a Blob for a BlobSpec."""
        return await _perform(Receive(self.label(word), spec))

    async def swap(self, word: str, x: RingArray) -> RingArray:
        """Send x, receive the peer's array of the same ring and shape."""
        self.send(word, x)
        theirs: RingArray = await self.recv(word, x.spec)
        return theirs

    async def ideal(self, word: str, step: IdealStep, mine: Any) -> Any:
        """Call an ideal functionality. For proofs and hybrid tests only; real protocols never do."""
        return await _perform(Ideal(self.label(word), step, mine))

    async def gather(self, *children: Awaitable[Any]) -> list[Any]:
        """Run protocols side by side; their messages share rounds. Results in the order given."""
        result: list[Any] = await _perform(Fork(tuple(children)))  # type: ignore[arg-type]  # protocol calls are coroutines
        return result

    # -- local -------------------------------------------------------------------------------------------------
    def draw(self, word: str, ring: Ring, shape: Shape) -> RingArray:
        """Uniform ring elements from this party's own tape, under a label used once."""
        value = self.backend.draw(Spec(ring, shape), self.endpoint.tape, self.label(word))
        return RingArray(self.backend, ring, shape, value)

    def draw_bytes(self, word: str, n: int) -> bytes:
        """n uniform bytes from this party's own tape (zeros in the shapes interpretation); for the kernels below the OT
        and HE interfaces."""
        if self.backend is SHAPES:
            return bytes(n)
        return self.endpoint.tape.bytes(self.label(word), n)

    def const(self, ring: Ring, value: Any, shape: Shape | None = None) -> RingArray:
        """A public constant."""
        return constant(self.backend, ring, value, shape)

    def compute(self, spec: AnySpec, kernel: Callable[..., Any], *args: Any) -> Any:
        """Call a local kernel whose result has a known public description.

        Concrete: run it and check the result against `spec`. Shapes: an array or blob without content.
        """
        if self.backend is SHAPES:
            return blank(spec) if isinstance(spec, Spec) else Blob(spec, None)
        result = kernel(*args)
        if isinstance(spec, BlobSpec):
            result = result if isinstance(result, Blob) else Blob(BlobSpec(spec.kind, len(result)), result)
        if spec_of(result) != spec:
            raise WireMismatch(
                f"{self.role.value} at {self.scope}: kernel {getattr(kernel, '__name__', kernel)!r} returned "
                f"{describe(spec_of(result))}, declared {describe(spec)}"
            )
        return result

    def local(self, kernel: Callable[..., T], *args: Any) -> T | None:
        """Call a local kernel whose result never crosses an interpretation (a ciphertext, a key); None in shapes."""
        return None if self.backend is SHAPES else kernel(*args)

    def service(self, name: str) -> Any:
        """This party's state of a session service, such as "ot" or "he"."""
        return self.endpoint.service(name)

    @property
    def stocks(self) -> dict[str, int]:
        """How much of each pooled resource earlier runs of the session have left; services keep it up to date."""
        return self.endpoint.stocks

    def reserve(self, word: str, resource: str, n: int) -> int:
        """Reserve n items of a pooled resource under this label; the offset of the slice in the run's pool."""
        return self.endpoint.reserve(self.label(word), resource, n)


@dataclass
class ProtocolDecl(Generic[T]):
    """A declared protocol: callable as `await proto(p, ...)`, with its functionality, source and cost."""

    run: Callable[..., Coroutine[Any, Any, T]]
    name: str
    realises: Functionality
    cites: str
    cost: Callable[..., Cost] | None
    ideal: Callable[..., Coroutine[Any, Any, T]] | None = None

    def __call__(self, p: Party, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
        return p.scoped(self.name, p.endpoint.body(self), *args, **kwargs)

    def declared(self, *args: Any, **kwargs: Any) -> Cost:
        """The closed-form cost for these arguments (those of the protocol, without p)."""
        if self.cost is None:
            raise TypeError(f"protocol {self.name} declares no cost")
        return self.cost(*args, **kwargs)


def protocol(
    *,
    realises: Functionality,
    cites: str = "",
    cost: Callable[..., Cost] | None = None,
    name: str | None = None,
    ideal: Callable[..., Coroutine[Any, Any, Any]] | None = None,
) -> Callable[[Callable[..., Coroutine[Any, Any, T]]], ProtocolDecl[T]]:
    """Declare an interactive protocol. `cost` takes the protocol's arguments (without p) and gives its closed form.

    `ideal` is the same protocol with its functionality called instead of realised: same labels, order and sizes. It is
    what runs in a hybrid session; only protocols at the OT interface have one.
    """

    def declare(run: Callable[..., Coroutine[Any, Any, T]]) -> ProtocolDecl[T]:
        declared: ProtocolDecl[T] = ProtocolDecl(run, name or run.__name__, realises, cites, cost, ideal)
        functools.update_wrapper(declared, run, updated=())
        return declared

    return declare
