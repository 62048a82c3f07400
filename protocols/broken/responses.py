"""Faults in how the server answers: encryptions of zero that are missing, reused or guessable, and noise not flooded.

The client decrypts the right words in every one of them. It knows its key and the a-parts of its uploads, so whatever
is not freshly random in a response is an equation on the server's weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from protocols.broken.engine import BOLT_KEYS, Answering, Generator, Uploading, homomorphic, plant, spoils
from protocols.broken.fault import Fault
from protocols.entry import Case, Secret
from protocols.he.bfv import Shares, decode
from protocols.he.bits import pack, unpack
from protocols.he.client import Draw
from protocols.he.noise import flood_target
from protocols.he.ntt import Floats
from protocols.he.packing import LinearPlan, Plan, SelectPlan
from protocols.he.params import PARAM_SETS, ParamSet
from protocols.he.sampling import SEED_NBYTES, error, flooding, stream
from protocols.linear import linear
from protocols.select import select_product
from sim.ring import Ring
from sim.role import SERVER

RESPONSES: list[Fault] = []
FROM_THE_STRUCTURE = "follows from the structure of the response"
# As P64tiny, answered at 210 bits: the switch rounds nothing away that could hide what the flooding should hide.
WIDE = replace(PARAM_SETS["P64tiny"], name="P64wide", response_bits=(42,) * 5)


def product_case(name: str, params: ParamSet, n: int, d: int, f: int, plan: type[LinearPlan] = LinearPlan) -> Case:
    """A plain product with 20-bit weights of the server's."""
    made = plan(params, n, d, f)
    ring = Ring(params.ring_bits)
    secrets = (Secret(ring, (n, d)), Secret(ring, (f, d), SERVER, -(1 << 20), (1 << 20) - 1, weight=True))
    return Case(name, secrets, {"plan": made}, plans=(made,), prepare=lambda prepare, w: prepare(made, w[0]))


def selection_case(name: str, params: ParamSet, rows: int, experts: int, d: int, f: int) -> Case:
    """A selected product with 20-bit weights of the server's."""
    made = SelectPlan(params, "R", experts, d, f)
    ring = Ring(params.ring_bits)
    weight = Secret(ring, (experts, f, d), SERVER, -(1 << 20), (1 << 20) - 1, weight=True)
    secrets = (Secret(ring, (rows, experts)), Secret(ring, (rows, d)), weight)
    return Case(name, secrets, {"plan": made}, plans=(made,), prepare=lambda prepare, w: prepare(made, w[0]))


TINY = PARAM_SETS["P64tiny"]
MANY = product_case("many outputs", TINY, 1, 2, 4096)
FEW = product_case("few weights", TINY, 1, 4, 2)
BROAD = product_case("wide response", WIDE, 1, 2, 4096)
PAIR = selection_case("two rows", TINY, 2, 2, 4, 8)


@spoils(RESPONSES, "a response carries no encryption of zero", 1, linear, (MANY, FEW), FROM_THE_STRUCTURE)
class ZeroOmitted(Answering):
    """The a-part of the response is the client's own a-part times the weights."""

    def zero(self, k: int, draw: Draw) -> Floats:
        return np.zeros((2, self.ring.q1.size, self.ring.n))

    def blind(self, count: int, k: int, draw: Draw) -> Floats:
        return self.flood(count, k, draw)


@spoils(RESPONSES, "one encryption of zero serves all responses of a session", 2, linear, (MANY, FEW),
        f"{BOLT_KEYS}: zero_ is encrypted once, with the keys")
class ZeroReused(Answering):
    """Made at the first response, to save two transforms at the others."""

    def zero(self, k: int, draw: Draw) -> Floats:
        kept: dict[int, Floats] = self.__dict__.setdefault("kept", {})
        if k not in kept:
            kept[k] = super().zero(k, draw)
        return kept[k]


@spoils(RESPONSES, "one encryption of zero serves two rows of a response", 2, select_product, (PAIR,),
        FROM_THE_STRUCTURE)
class ZeroReusedInPairs(Answering):
    """Every second response takes the encryption of zero of the one before."""

    def zero(self, k: int, draw: Draw) -> Floats:
        kept: Floats | None = self.__dict__.pop("kept", None)
        if kept is None:
            kept = self.kept = super().zero(k, draw)
        return kept


@spoils(RESPONSES, "encryptions of zero come from a generator with the default seed", 5, linear, (MANY,),
        FROM_THE_STRUCTURE)
class ZeroDefaultSeed(Answering):
    """The client runs the same generator and subtracts."""

    def zero(self, k: int, draw: Draw) -> Floats:
        generator: Generator = self.__dict__.setdefault("generator", Generator())
        return super().zero(k, lambda word, n: generator.bytes(n))


@spoils(RESPONSES, "the randomness of an encryption of zero is one ternary number", 14, linear, (MANY,),
        FROM_THE_STRUCTURE)
class ZeroShort(Answering):
    """u is a constant polynomial: three encryptions of zero to try."""

    def zero(self, k: int, draw: Draw) -> Floats:
        ring, q1 = self.ring, self.ring.q1
        u = np.zeros(ring.n, dtype=np.int64)
        u[0] = stream(draw(f"u{k}", SEED_NBYTES), 0, 1)[0] % 3 - 1
        mask = ring.inverse(ring.engine.multiply(self.encryption, ring.forward(ring.small(u, q1), q1), q1.limbs), q1)
        e1 = ring.small(error(draw(f"e1_{k}", SEED_NBYTES), ring.n), q1)
        mask[1] = ring.engine.add(np.ascontiguousarray(mask[1]), e1, q1.limbs)
        return mask


@spoils(RESPONSES, "the noise of a response is not flooded", 4, linear, (MANY, BROAD), FROM_THE_STRUCTURE)
class FloodMissing(Answering):
    """The noise is the weights times the errors of the upload, which the client knows."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        return np.zeros((self.ring.q1.size, count))


@spoils(RESPONSES, "the flooding is as short as the noise", 4, linear, (MANY, BROAD), FROM_THE_STRUCTURE)
class FloodShort(Answering):
    """24 bits instead of 2^kappa times the noise."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        return flooding(draw(f"flood{k}", SEED_NBYTES), count, 1 << 24, self.ring.q1)


@spoils(RESPONSES, "the flooding is one bit short of its public amplitude", 4, linear, (MANY,), FROM_THE_STRUCTURE)
class FloodHalved(Answering):
    """Epsilon is reported for twice the amplitude that is used."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        target = flood_target(self.keys.params) // 2
        return flooding(draw(f"flood{k}", SEED_NBYTES), count, target, self.ring.q1)


@spoils(RESPONSES, "the flooding is drawn once in a session", 4, linear, (MANY,), FROM_THE_STRUCTURE)
class FloodOnce(Answering):
    """Differences of two responses' noise are not flooded at all."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        kept: dict[int, Floats] = self.__dict__.setdefault("kept", {})
        if k not in kept:
            kept[k] = super().flood(count, k, draw)
        return kept[k]


@spoils(RESPONSES, "one flooding value serves all coefficients of a response", 4, linear, (MANY,), FROM_THE_STRUCTURE)
class FloodBroadcast(Answering):
    """Differences of two outputs' noise are not flooded at all."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        return super().flood(1, k, draw).repeat(count, axis=1)


@spoils(RESPONSES, "the flooding is drawn from [0, F) instead of [-F, F)", 14, linear, (MANY,), FROM_THE_STRUCTURE)
class FloodOneSided(Answering):
    """An unsigned sampler, and an epsilon computed for the signed one."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        target = flood_target(self.keys.params) // 2
        half = flooding(draw(f"flood{k}", SEED_NBYTES), count, target, self.ring.q1)
        shift = np.array([[target % p] for p in self.ring.q1.primes], dtype=np.float64)
        return self.plus(half, shift.repeat(count, axis=1))


@spoils(RESPONSES, "the flooding comes from a generator with the default seed", 5, linear, (MANY,), FROM_THE_STRUCTURE)
class FloodDefaultSeed(Answering):
    """The client runs the same generator and subtracts."""

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        generator: Generator = self.__dict__.setdefault("generator", Generator())
        return super().flood(count, k, lambda word, n: generator.bytes(n))


@spoils(RESPONSES, "the modulus is switched first, with a deterministic rounding, and randomised afterwards", 4, linear,
        (MANY,), FROM_THE_STRUCTURE)
class SwitchFirst(Answering):
    """The rounding error of the result is a function of the weights, and only a few bits smaller than the flooding."""

    def leave(self, part: Floats, zero: Floats, hidden: Floats, positions: NDArray[np.int64]) -> bytes:
        basis = self.ring.response
        low = [self.switched(np.ascontiguousarray(component)) for component in part]
        c0 = self.plus(np.ascontiguousarray(zero[0][:, positions]), hidden)
        fresh = [self.switched(c0), self.switched(np.ascontiguousarray(zero[1]))]
        modulus = np.array(basis.primes, dtype=np.float64)[:, None]
        sums = [(low[0][:, positions] + fresh[0]) % modulus, (low[1] + fresh[1]) % modulus]
        return pack([*sums[0], *sums[1]], basis.bits * 2)


@dataclass(frozen=True)
class OpenPlan(LinearPlan):
    """A plan whose responses carry every coefficient."""

    @property
    def response_nbytes(self) -> int:
        return self.responses * self.params.response_nbytes(self.params.n)


class AllCoefficients(Answering):
    """The whole of c0 leaves; error, flooding and mask are where the outputs are."""

    def leave(self, part: Floats, zero: Floats, hidden: Floats, positions: NDArray[np.int64]) -> bytes:
        everywhere = np.zeros((self.ring.q1.size, self.ring.n))
        everywhere[:, positions] = hidden
        return super().leave(part, zero, everywhere, np.arange(self.ring.n))


class ReadsAll(Uploading):
    """The client of such a server."""

    def decrypt(self, plan: Plan, data: bytes) -> Shares:
        ring, size, outputs = self.secret.ring, plan.params.response_nbytes(plan.params.n), []
        basis = ring.response
        for k, positions in enumerate(plan.response_positions):
            rows = unpack(data[k * size : (k + 1) * size], basis.primes * 2, (ring.n,) * (2 * basis.size))
            phase = self.secret.phase(np.stack([np.stack(rows[: basis.size]), np.stack(rows[basis.size :])]), basis)
            outputs.append(decode(np.ascontiguousarray(phase[:, positions]), plan.params.ring_bits, basis))
        return np.concatenate(outputs).reshape(plan.outputs)


plant(RESPONSES, "all_coefficients", "coefficients that carry no output are returned unmasked", 3, linear,
      (product_case("eight columns", TINY, 1, 8, 6, OpenPlan),), homomorphic(AllCoefficients, ReadsAll),
      FROM_THE_STRUCTURE, client=True)
