"""Ideal oblivious transfer: the same labels, order and sizes as the real protocols, around the functionality itself.

NOT oblivious transfer: nothing is hidden from the process that runs it. It exists for proofs and hybrid tests, where
`Session(hybrid=True)` calls these texts instead of the real ones. Every message becomes a sealed blob of its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from protocols.ot.amounts import making
from protocols.ot.base import POINT_BYTES
from protocols.ot.service import NONCE, NONCE_WORDS, OtState, provision
from protocols.ot.softspoken import BASE_OTS, TREE_BYTES, extension_bits
from sim.party import IdealStep, Party
from sim.ring import Z2, Ring, RingArray, Shape, Spec
from sim.role import CLIENT, SERVER, Role
from sim.wire import AnySpec, Blob, BlobSpec


def sealed(spec: AnySpec) -> Blob:
    """A message of this size without content."""
    return Blob(spec, None, sealed=True)


async def _transfer(p: Party, receiver: Role, cots: int, up: Spec, down: Spec, step: IdealStep, mine: Any) -> Any:
    """The two flights of an OT around a call to its functionality."""
    p.reserve("cots", f"cot.{receiver.value}", cots)
    if p.role is receiver:
        p.send("choice", sealed(up))
        await p.recv("masked", down)
        return await p.ideal("functionality", step, mine)
    await p.recv("choice", up)
    p.send("masked", sealed(down))
    return await p.ideal("functionality", step, mine)


async def choose(
    p: Party,
    receiver: Role,
    index: RingArray | None,
    table: RingArray | None,
    *,
    shape: Shape,
    n_choices: int,
    width: int,
) -> RingArray:
    """Uniform r to the sender, table[index] xor r to the receiver."""
    w = n_choices.bit_length() - 1

    def step(draw: Any, client: RingArray, server: RingArray) -> tuple[RingArray, RingArray]:
        chosen, rows = (client, server) if receiver is CLIENT else (server, client)
        r: RingArray = draw("r", Z2, (*shape, width))
        places = chosen.const(list(range(n_choices))).broadcast(*shape, n_choices)
        hits = (chosen.reshape(*shape, 1).broadcast(*shape, n_choices) - places).equals(0)
        out = (hits.reshape(*shape, n_choices, 1).broadcast(*rows.shape) & rows).sum(-2) ^ r
        return (out, r) if receiver is CLIENT else (r, out)

    mine = index if p.role is receiver else table
    up, down = Spec(Z2, (*shape, w)), Spec(Z2, (*shape, n_choices - 1, width))
    got: RingArray = await _transfer(p, receiver, math.prod(shape) * w, up, down, step, mine)
    return got


def _products(receiver: Role, bits: list[Any], shape: Shape, rings: Sequence[Ring], row: Shape = ()) -> IdealStep:
    """Per ring: uniform r to the sender, r + bit delta to the receiver; bits says which input holds which bit, row what
    one bit multiplies."""
    wide = (*shape, *row)

    def step(draw: Any, client: Any, server: Any) -> tuple[list[RingArray], list[RingArray]]:
        chosen, deltas = (client, server) if receiver is CLIENT else (server, client)
        sent = [draw(f"r{i}", ring, wide) for i, ring in enumerate(rings)]
        took = []
        for r, at, ring, delta in zip(sent, bits, rings, deltas, strict=True):
            bit = (chosen if at is None else chosen[at]).cast(ring)
            took.append(r + (bit.reshape(*shape, *(1,) * len(row)).broadcast(*wide) if row else bit) * delta)
        return (took, sent) if receiver is CLIENT else (sent, took)

    return step


async def correlate_wide(
    p: Party,
    receiver: Role,
    bits: RingArray | None,
    deltas: tuple[RingArray, ...] | None,
    *,
    shape: Shape,
    rings: tuple[Ring, ...],
) -> tuple[RingArray, ...]:
    """Uniform r to the sender, r + bit delta to the receiver, in every ring."""
    down = Spec(rings[0], shape) if len(rings) == 1 else Spec(Z2, (*shape, sum(ring.l for ring in rings)))
    step = _products(receiver, [None] * len(rings), shape, rings)
    mine = bits if p.role is receiver else deltas
    return tuple(await _transfer(p, receiver, math.prod(shape), Spec(Z2, shape), down, step, mine))


async def correlate_ragged(
    p: Party,
    receiver: Role,
    bits: RingArray | None,
    deltas: Sequence[RingArray] | None,
    *,
    shape: Shape,
    rings: Sequence[Ring],
    row: Shape = (),
) -> list[RingArray]:
    """Uniform r to the sender, r + bit_i delta_i to the receiver, ring by ring; a bit multiplies its row."""
    up = Spec(Z2, (len(rings), *shape))
    down = Spec(Z2, (math.prod(shape) * math.prod(row) * sum(ring.l for ring in rings),))
    step = _products(receiver, list(range(len(rings))), shape, rings, row)
    mine = bits if p.role is receiver else deltas
    got: list[RingArray] = await _transfer(p, receiver, up.size, up, down, step, mine)
    return got


async def bit_triples(p: Party, *, shape: Shape, right: int) -> tuple[RingArray, RingArray, RingArray]:
    """Shares of uniform a, b and of c = a & b: one party's are uniform, the other's complete them."""
    wide = (*shape, right)
    for role in (CLIENT, SERVER):
        p.reserve(f"to-{role.value}", f"cot.{role.value}", math.prod(shape))

    def step(draw: Any, client: None, server: None) -> tuple[Any, Any]:
        a_client, a_server = draw("a_client", Z2, shape), draw("a_server", Z2, shape)
        b_client, b_server = draw("b_client", Z2, wide), draw("b_server", Z2, wide)
        c: RingArray = draw("c", Z2, wide)
        product = (a_client ^ a_server).reshape(*shape, 1).broadcast(*wide) & (b_client ^ b_server)
        return (a_client, b_client, c), (a_server, b_server, product ^ c)

    got: tuple[RingArray, RingArray, RingArray] = await p.ideal("functionality", step, None)
    return got


async def _message(p: Party, sender: Role, word: str, spec: AnySpec) -> None:
    if p.role is sender:
        p.send(word, sealed(spec))
    else:
        await p.recv(word, spec)


async def _base_ot(p: Party, sender: Role) -> None:
    await _message(p, sender, "A", BlobSpec("point", POINT_BYTES))
    await _message(p, sender.peer, "B", BlobSpec("points", POINT_BYTES * BASE_OTS))


async def _set_up(p: Party, receiver: Role) -> None:
    await p.scoped("base_ot", _base_ot, receiver)
    await _message(p, receiver, "sums", BlobSpec("tree sums", TREE_BYTES))


async def _extend(p: Party, receiver: Role, n: int, start: int) -> int:
    plan = making(n, start)
    if plan.soft:
        await _message(p, receiver, "d", BlobSpec("cot", extension_bits(plan.soft) // 8))
    for number, preset in enumerate(plan.iterations):
        await _message(p, receiver.peer, f"trees-{number}", BlobSpec("trees", preset.nbytes))
    return plan.left


class IdealOtService:
    """Session service in place of the real one: its messages with their labels and sizes, no keys, empty pools."""

    name = "ot"

    async def setup(self, p: Party) -> OtState:
        """The messages of the real set-up, without content."""
        nonce = Spec(NONCE, (NONCE_WORDS,))
        p.send("nonce", sealed(nonce))
        await p.recv("nonce", nonce)
        await p.gather(*[p.scoped("set_up", _set_up, receiver) for receiver in (CLIENT, SERVER)])
        return OtState({CLIENT: None, SERVER: None})

    async def provision(self, p: Party, state: OtState, amounts: Mapping[str, int]) -> None:
        """The extension messages, without content: the functionality draws what it needs."""
        await provision(p, amounts, lambda role, n, start: p.scoped("extend", _extend, role, n, start))
