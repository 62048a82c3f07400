"""The message level of homomorphic encryption: a2h and h2a, and the engines that perform them.

Protocol text sees two steps that talk. `a2h` turns shares at both parties into ciphertexts at the server: the client
encrypts its share, the server adds its own. `h2a` turns results under encryption back into shares: the server adds a
uniform mask, re-randomises and floods, the client decrypts. Between them the server computes alone (`tensor`, `apply`).
The client's key never leaves it; the server never sees a plaintext.

Two engines share this interface: BFV in `protocols.he.service`, and IdealHe in `protocols.he.ideal`, a sealed box with
the wire sizes of the real one. IdealHe encrypts nothing: it exists for proofs and hybrid tests only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from protocols import functionalities as F
from protocols.he import work
from protocols.he.packing import Layout, LinearPlan, SelectPlan
from protocols.he.params import ParamSet
from sim.cost import Cost, computed, message
from sim.party import Party, protocol
from sim.ring import Ring, RingArray, Shape, Spec
from sim.role import CLIENT, SERVER
from sim.wire import Blob, BlobSpec

Plan = LinearPlan | SelectPlan


@dataclass(frozen=True)
class Addend:
    """Words of the server that it adds to its own share: never encrypted, never sent. What `prepare` takes for them."""

    params: ParamSet
    shape: Shape


class Engine(Protocol):
    """One party's end of the homomorphic layer. Encrypted operands and results are lists with one entry per row."""

    def encrypt(self, p: Party, x: RingArray, layout: Layout) -> Any:
        """Client: the content of the upload of x, (rows, *layout.shape) over Z_{2^l}."""

    def absorb(self, content: Any, x: RingArray, layout: Layout) -> list[Any]:
        """Server: the operands of the sum of the client's share and x."""

    def tensor(self, plan: SelectPlan, t: Sequence[Any], x: Sequence[Any]) -> list[Any]:
        """Server: row by row, what `apply` needs of a selector t and a vector x."""

    def linear(self, plan: LinearPlan, x: Sequence[Any]) -> list[Any]:
        """Server: row by row, what `apply` needs of operands of a plain product."""

    def apply(self, plan: Plan, weights: Any, rows: Sequence[Any]) -> list[Any]:
        """Server: the prepared weights applied to every row."""

    def own(self, plan: LinearPlan, y: RingArray) -> Any:
        """Server: words of its own, (parts, f / parts, d / parts) over Z_{2^l}, as a plan's weights."""

    def choose(self, weights: Sequence[Any], hot: RingArray) -> list[Any]:
        """Server: of prepared weights, what each one-hot row of bits names that was opened; hot: (rows, weights)."""

    def admit(self, responses: Sequence[tuple[Any, int]]) -> None:
        """Server: refuse a query that would exceed the session's budget, given as (prepared weights, rows) of all its
        responses, before the first of them leaves. For words of its own their plan stands for them."""

    def respond(self, p: Party, rows: Sequence[Any], mask: RingArray, plan: Plan) -> Any:
        """Server: the content of the response, each row plus its mask, re-randomised and flooded."""

    def decrypt(self, content: Any, plan: Plan, spec: Spec) -> RingArray:
        """Client: the rows of a response."""


def _upload(x: RingArray, layout: Layout) -> BlobSpec:
    return BlobSpec("ciphertexts", x.shape[0] * layout.nbytes)


def _a2h_cost(x: RingArray, *, layout: Layout) -> Cost:
    return message(CLIENT, 8 * _upload(x, layout).nbytes) + computed(work.upload(layout, x.shape[0]))


@protocol(realises=F.ENCRYPTION, cites="[SecMoE] Protocol 1, steps 4 and 6", cost=_a2h_cost)
async def a2h(p: Party, x: RingArray, *, layout: Layout) -> list[Any] | None:
    """Shared x under the client's key at the server. x: (rows, *layout.shape) over Z_{2^l}.

    The client encrypts its SHARE only, never the value. One message, seeded ciphertexts. Returns one operand per row at
    the server, None at the client (and in the shapes interpretation).
    """
    he: Engine = p.service("he")
    spec = _upload(x, layout)
    if p.role is CLIENT:
        p.send("ct", p.compute(spec, he.encrypt, p, x, layout))
        return None
    received: Blob = await p.recv("ct", spec)
    return p.local(he.absorb, received.data, x, layout)


def _h2a_cost(rows: object, *, plan: Plan, count: int) -> Cost:
    answered = work.answer(plan, count) + work.weights(plan)
    return message(SERVER, 8 * count * plan.response_nbytes) + computed(answered)


@protocol(realises=F.DECRYPTION, cites="[SecMoE] Protocol 1, steps 7 and 9", cost=_h2a_cost)
async def h2a(p: Party, rows: list[Any] | None, *, plan: Plan, count: int) -> RingArray:
    """Shares of results that the server holds under encryption: (count, *plan.outputs) over Z_{2^l}.

    The server adds a uniform mask r and keeps -r. Every response carries a fresh encryption of zero and flooding noise
    before the switch to the response modulus; only coefficients that carry outputs leave. One message.
    """
    he: Engine = p.service("he")
    spec = BlobSpec("response", count * plan.response_nbytes)
    out = Spec(Ring(plan.params.ring_bits), (count, *plan.outputs))
    if p.role is SERVER:
        r = p.draw("mask", out.ring, out.shape)
        p.send("ct", p.compute(spec, he.respond, p, rows, r, plan))
        return -r
    received: Blob = await p.recv("ct", spec)
    share: RingArray = p.compute(out, he.decrypt, received.data, plan, out)
    return share
