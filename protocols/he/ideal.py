"""The ideal homomorphic engine: a sealed box with the labels and wire sizes of the real one.

NOT encryption. It exists for proofs and hybrid tests, to show what the protocol text does around the ciphertexts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from protocols.he.interface import Addend, Plan
from protocols.he.packing import Layout, LinearPlan, SelectPlan, key_set
from sim.concrete import from_words
from sim.party import Party
from sim.ring import Ring, RingArray, Spec, concat, stack
from sim.role import CLIENT
from sim.wire import Blob, BlobSpec


class IdealHe:
    """Contents are ring arrays in a box; see `protocols.he.interface.Engine`."""

    def encrypt(self, p: Party, x: RingArray, layout: Layout) -> Blob:
        return Blob(BlobSpec("ciphertexts", x.shape[0] * layout.nbytes), x, sealed=True)

    def absorb(self, content: RingArray, x: RingArray, layout: Layout) -> list[Any]:
        value = content + x
        return [value[i] for i in range(value.shape[0])]

    def tensor(self, plan: SelectPlan, t: Sequence[Any], x: Sequence[Any]) -> list[Any]:
        return list(zip(t, x, strict=True))

    def linear(self, plan: LinearPlan, x: Sequence[Any]) -> list[Any]:
        return list(x)

    def apply(self, plan: Plan, weights: RingArray, rows: Sequence[Any]) -> list[Any]:
        """weights: (f, d) for a plain product of n operands (d,), (parts, f / parts, d / parts) for words of its own,
        (E, f, d) for one with selection."""
        if isinstance(plan, LinearPlan):
            if weights.ndim == 2:
                return [x.reshape(plan.n, plan.d) @ weights.transpose() for x in rows]
            d = weights.shape[2]
            return [
                concat(*(x[:, i * d : (i + 1) * d] @ weights[i].transpose() for i in range(plan.parts)), axis=1)
                for x in rows
            ]
        E, f, d = weights.shape
        flat, outer = weights.transpose(1, 0, 2).reshape(f, E * d).transpose(), (plan.n, E, d)

        def selected(t: Any, x: Any) -> Any:
            products = t.reshape(plan.n, E, 1).broadcast(*outer) * x.reshape(plan.n, 1, d).broadcast(*outer)
            return (products.reshape(plan.n, E * d) @ flat).reshape(*plan.outputs)

        return [selected(t, x) for t, x in rows]

    def own(self, plan: LinearPlan, y: RingArray) -> RingArray:
        return y

    def choose(self, weights: Sequence[RingArray], hot: RingArray) -> list[RingArray]:
        """A product, as in every interpretation."""
        every, hot = stack(*weights), hot.cast(weights[0].ring)
        return [(hot[i].reshape(-1, 1, 1).broadcast(*every.shape) * every).sum(0) for i in range(hot.shape[0])]

    def admit(self, responses: Sequence[tuple[Any, int]]) -> None:
        """A sealed box has no budget."""

    def respond(self, p: Party, rows: Sequence[Any], mask: RingArray, plan: Plan) -> Blob:
        return Blob(BlobSpec("response", len(rows) * plan.response_nbytes), stack(*rows) + mask)

    def decrypt(self, content: RingArray, plan: Plan, spec: Spec) -> RingArray:
        return content


class IdealHeService:
    """Session service with the ideal engine; the key message keeps its label and size."""

    name = "he"

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.params = plans[0].params
        self.keys = BlobSpec("keys", key_set(self.params, plans).nbytes)

    def prepare(self, plan: Plan | Addend, weights: NDArray[Any]) -> RingArray:
        """The server's weights for this engine: signed integers (f, d) or (E, f, d), or its addend."""
        return from_words(Ring(self.params.ring_bits), weights)

    async def setup(self, p: Party) -> IdealHe:
        if p.role is CLIENT:
            p.send("keys", Blob(self.keys, None))
        else:
            await p.recv("keys", self.keys)
        return IdealHe()

    async def provision(self, p: Party, state: IdealHe, amounts: Mapping[str, int]) -> None:
        """Nothing is pooled."""
