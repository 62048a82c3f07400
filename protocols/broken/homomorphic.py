"""Faults in the conversion from ciphertexts to shares: the client decrypts a response that is not, or badly, masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from protocols import functionalities as F
from protocols.broken.fault import PITFALL, TINY_CASE, Fault, planted, tell
from protocols.entry import Case, Secret
from protocols.he.interface import Engine, a2h
from protocols.he.packing import LinearPlan
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.linear import linear
from sim.party import Party
from sim.ring import Ring, RingArray, Spec, concat
from sim.role import CLIENT, SERVER
from sim.wire import Blob, BlobSpec

HOMOMORPHIC: list[Fault] = []


class SealedParams(ParamSet):
    """Parameters of the ideal engine at a ring too narrow to encrypt in: instances small enough to enumerate."""

    def __post_init__(self) -> None:
        """What is checked elsewhere are demands of real encryption, which a sealed box is not."""


def sealed_params(bits: int) -> ParamSet:
    """The set P64tiny over Z_{2^bits}; the real one at 64 bits."""
    real = PARAM_SETS["P64tiny"]
    given = {field.name: getattr(real, field.name) for field in fields(real)}
    return real if bits == real.ring_bits else SealedParams(**{**given, "ring_bits": bits})


def _case(name: str, bits: int, n: int, d: int, f: int) -> Case:
    plan = LinearPlan(sealed_params(bits), n, d, f)
    secrets = (Secret(Ring(bits), (n, d)), Secret(Ring(bits), (f, d), SERVER, -2, 1, weight=True))
    return Case(
        name, secrets, {"plan": plan}, plans=(plan,), prepare=lambda prepare, weights: prepare(plan, weights[0])
    )


_LINEAR = (_case("large", 64, 3, 8, 6), _case(TINY_CASE, 2, 1, 1, 2))
MaskOf = Callable[[Party, Spec], RingArray]


async def _masked_product(p: Party, x: RingArray, weights: Any, plan: LinearPlan, mask_of: MaskOf) -> RingArray:
    """`protocols.linear.linear` with another mask in the response."""
    he: Engine = p.service("he")
    ct_x = await a2h(p, x.reshape(1, *x.shape), layout=plan.operand("x"))
    blob = BlobSpec("response", plan.response_nbytes)
    out = Spec(Ring(plan.params.ring_bits), (1, *plan.outputs))
    if p.role is SERVER:
        r = mask_of(p, out)
        rows = p.local(lambda: he.apply(plan, weights, he.linear(plan, ct_x or [])))
        p.send("response", p.compute(blob, he.respond, p, rows, r, plan))
        return -r[0]
    received: Blob = await p.recv("response", blob)
    share: RingArray = p.compute(out, he.decrypt, received.data, plan, out)
    return share[0]


@planted(HOMOMORPHIC, "the response carries the mask zero", 3, F.LINEAR, _LINEAR, client=True)
async def response_unmasked(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """The client decrypts the product itself."""
    return await _masked_product(p, x, weights, plan, lambda p, out: p.const(out.ring, 0, out.shape))


@planted(HOMOMORPHIC, "only the first half of the outputs is masked", 3, F.LINEAR, _LINEAR, client=True)
async def response_half_masked(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """The second half of every row is in clear."""

    def mask_of(p: Party, out: Spec) -> RingArray:
        *lead, f = out.shape
        r = p.draw("mask", out.ring, (*lead, f // 2))
        return concat(r, p.const(out.ring, 0, (*lead, f - f // 2)), axis=-1)

    return await _masked_product(p, x, weights, plan, mask_of)


@planted(HOMOMORPHIC, "one mask serves all outputs of a row", 11, F.LINEAR, _LINEAR, client=True)
async def response_mask_broadcast(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """Differences of outputs are open."""
    return await _masked_product(
        p, x, weights, plan, lambda p, out: p.draw("mask", out.ring, (*out.shape[:-1], 1)).broadcast(*out.shape)
    )


@planted(HOMOMORPHIC, "the mask of the response is a bit shorter than the ring", 10, F.LINEAR, _LINEAR, client=True)
async def response_mask_short(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """Masks must be uniform modulo the plaintext modulus."""
    return await _masked_product(
        p, x, weights, plan, lambda p, out: p.draw("mask", Ring(out.ring.l - 1), out.shape).cast(out.ring)
    )


@planted(HOMOMORPHIC, "the server hands the client its output share", PITFALL, F.LINEAR, _LINEAR, client=True)
async def response_mask_returned(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """The mask follows in another message."""
    y = await linear(p, x, weights, plan=plan)
    mask = await tell(p, "mask", y, y.spec, SERVER)
    return y + mask if p.role is CLIENT else y.const(0, y.shape)


@planted(
    HOMOMORPHIC,
    "the client's share goes to the server in clear beside its ciphertext",
    6,
    F.LINEAR,
    _LINEAR,
    server=True,
)
async def share_beside_ciphertext(p: Party, x: RingArray, weights: Any, *, plan: LinearPlan) -> RingArray:
    """What is encrypted is also sent."""
    await tell(p, "plain", x, x.spec)
    return await linear(p, x, weights, plan=plan)
