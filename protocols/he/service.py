"""The session service "he": BFV keys once per session, then uploads and responses, with the epsilon ledger.

The client generates the secret key and sends the public ones; the server holds weights and answers. Each response costs
a statistical distance (the flooding against the noise bound); the server's ledger adds it up over the session and
refuses the response that would exceed the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocols.he.client import ClientKeys, Draw
from protocols.he.interface import Addend, Plan
from protocols.he.noise import EpsilonBudget
from protocols.he.own import own_report, own_weights
from protocols.he.packing import Layout, LinearPlan, SelectPlan, key_set
from protocols.he.server import Operand, Product, Result, ServerKeys
from protocols.he.weights import Weights, prepare
from sim.concrete import from_words, to_words
from sim.party import Party
from sim.ring import Ring, RingArray, Spec, stack
from sim.role import CLIENT
from sim.wire import Blob, BlobSpec

DEFAULT_BUDGET = 2.0**-30


def query_cost(responses: Iterable[tuple[Weights | LinearPlan, int]]) -> float:
    """Statistical distance of responses, given as (prepared weights, rows); a plan: of words of the server's own."""
    found = ((own_report(x) if isinstance(x, LinearPlan) else x, rows) for x, rows in responses)
    return float(sum(one.epsilon * rows for one, rows in found))


def _draw(p: Party, row: int) -> Draw:
    """The party's own tape, one label per row and word."""
    return lambda word, n: p.draw_bytes(f"{row}/{word}", n)


class QueryBeyondBudget(ValueError):
    """Weights whose first query would already exceed the epsilon budget."""


class BfvClient:
    """The client's end: it alone holds the secret key. keys: None in the shapes interpretation, which calls nothing."""

    def __init__(self, keys: ClientKeys | None) -> None:
        self.keys: Any = keys

    def encrypt(self, p: Party, x: RingArray, layout: Layout) -> bytes:
        rows = to_words(x)
        return b"".join(self.keys.encrypt(layout, rows[i], _draw(p, i)) for i in range(len(rows)))

    def decrypt(self, content: bytes, plan: Plan, spec: Spec) -> RingArray:
        size = plan.response_nbytes
        rows = [self.keys.decrypt(plan, content[at : at + size]) for at in range(0, len(content), size)]
        return stack(*(from_words(spec.ring, row) for row in rows))


@dataclass(frozen=True)
class Masked:
    """A result waiting for its response, with the statistical distance that the response will cost."""

    result: Result
    epsilon: float


class BfvServer:
    """The server's end: public keys, and the ledger of what its responses have cost so far."""

    def __init__(self, keys: ServerKeys | None, budget: EpsilonBudget) -> None:
        self.keys: Any = keys
        self.budget = budget

    def absorb(self, content: bytes, x: RingArray, layout: Layout) -> list[Operand]:
        rows, size = to_words(x), layout.nbytes
        return [self.keys.absorb(layout, content[i * size : (i + 1) * size], rows[i]) for i in range(len(rows))]

    def tensor(self, plan: SelectPlan, t: Sequence[Operand], x: Sequence[Operand]) -> list[Product]:
        return [self.keys.tensor(plan, a, b) for a, b in zip(t, x, strict=True)]

    def linear(self, plan: LinearPlan, x: Sequence[Operand]) -> list[Product]:
        return [self.keys.linear(plan, a) for a in x]

    def apply(self, plan: Plan, weights: Weights, rows: Sequence[Product]) -> list[Masked]:
        return [Masked(result, weights.epsilon) for result in self.keys.apply(plan, weights, rows)]

    def own(self, plan: LinearPlan, y: RingArray) -> Weights:
        return own_weights(plan, to_words(y))

    def choose(self, weights: Sequence[Weights], hot: RingArray) -> list[Weights]:
        return [weights[int(i)] for i in to_words(hot).argmax(axis=1)]

    def admit(self, responses: Sequence[tuple[Weights | LinearPlan, int]]) -> None:
        """Raises EpsilonExhausted, and spends nothing, if these responses together would exceed the budget."""
        self.budget.admit(query_cost(responses))

    def respond(self, p: Party, rows: Sequence[Masked], mask: RingArray, plan: Plan) -> bytes:
        """Raises EpsilonExhausted before anything leaves, if the session's budget would be exceeded."""
        self.budget.charge(sum(row.epsilon for row in rows))
        masks = to_words(mask)
        return b"".join(self.keys.respond(plan, row.result, masks[i], _draw(p, i)) for i, row in enumerate(rows))


class HeService:
    """Homomorphic encryption as a service of a session: the keys that these plans need."""

    name = "he"

    def __init__(self, plans: Sequence[Plan], budget: float = DEFAULT_BUDGET) -> None:
        self.params = plans[0].params
        self.keys = key_set(self.params, plans)
        self.budget = budget

    def prepare(self, plan: Plan | Addend, weights: Any) -> Any:
        """The server's weights for a plan, signed integers (f, d) or (E, f, d), checked against the noise bound; or its
        addend, as words."""
        if isinstance(plan, Addend):
            return from_words(Ring(plan.params.ring_bits), weights)
        return prepare(plan, weights)

    def check_query(self, epsilon: float) -> None:
        """Refuse weights, when they are loaded, of which one query alone would exceed the session's budget."""
        if epsilon > self.budget:
            raise QueryBeyondBudget(
                f"weights: one query costs a statistical distance of 2^{math.log2(epsilon):.1f}, the session's "
                f"budget is 2^{math.log2(self.budget):.1f}: use a larger kappa, fewer tokens or smaller weights"
            )

    async def setup(self, p: Party) -> BfvClient | BfvServer:
        spec = BlobSpec("keys", self.keys.nbytes)
        if p.role is CLIENT:
            keys = p.local(ClientKeys.generate, self.keys, p.draw_bytes)
            p.send("keys", p.compute(spec, _public, keys))
            return BfvClient(keys)
        received: Blob = await p.recv("keys", spec)
        parsed = p.local(ServerKeys.from_bytes, self.keys, received.data)
        return BfvServer(parsed, EpsilonBudget(self.budget))

    async def provision(self, p: Party, state: BfvClient | BfvServer, amounts: Mapping[str, int]) -> None:
        """Nothing is pooled."""


def _public(keys: ClientKeys) -> bytes:
    return keys.public_bytes
