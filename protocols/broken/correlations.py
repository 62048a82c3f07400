"""Faults in the correlated OTs themselves: slices, streams and tweaks used twice, raw keys as pads, choices shown.

All transfers still give the right words. The texts are honest: products by correlated OT.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np

from protocols.broken.engine import FaultyHe, Generator, Rigged, plant
from protocols.broken.fault import PITFALL, Fault, Services
from protocols.compare import drelu
from protocols.entry import Case, Secret
from protocols.he.interface import Plan
from protocols.ot.amounts import Making
from protocols.ot.ferret import Iteration
from protocols.ot.kernels import U64
from protocols.ot.lpn import Preset
from protocols.ot.service import CotSlice, OtService, OtState, Pool, carry_out, provision
from protocols.products import mul
from sim.concrete import from_words
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import Role
from sim.world import Service

CORRELATIONS: list[Fault] = []
FROM_THE_STRUCTURE = "follows from the structure of the extension"


class OtherPool(Pool):
    """A pool with one step changed."""

    @classmethod
    def of(cls, pool: Pool) -> OtherPool:
        """This very pool."""
        made = cls.__new__(cls)
        made.__dict__.update(pool.__dict__)
        return made


class FaultyOt(OtService):
    """The real service with other pools. rigged: words of the set-up that come from `Generator`, at both parties."""

    def __init__(self, pool: type[OtherPool] = OtherPool, rigged: frozenset[str] = frozenset()) -> None:
        self.pool, self.rigged = pool, rigged

    async def setup(self, p: Party) -> OtState:
        state = await super().setup(Rigged(p, self.rigged, Generator()))
        return OtState({role: None if pool is None else self.pool.of(pool) for role, pool in state.pools.items()})


def _transfers(service: OtService) -> Services:
    def services(plans: tuple[Plan, ...]) -> tuple[Service, ...]:
        return (service, FaultyHe(plans)) if plans else (service,)

    return services


def _two_products(x: Any, y: Any, z: Any) -> list[Any]:
    return [x * y, x * z]


@protocol(realises=Functionality("two products with one factor", _two_products))
async def two_products(p: Party, x: RingArray, y: RingArray, z: RingArray) -> list[RingArray]:
    """x y and x z of shared words, one after the other."""
    return [await mul(p, x, y), await mul(p, x, z)]


R16 = Ring(16)
PRODUCTS = (Case("16 bits", (Secret(R16, (4,)),) * 3),)
SIGNS = (Case("64 bits", (Secret(Ring(64), (4,)),)),)


class SliceTwice(OtherPool):
    """Every slice starts at the beginning of the pool."""

    def take(self, offset: int, n: int) -> CotSlice:
        self._taken[:] = 0
        return super().take(0, n)


class StreamRewound(OtherPool):
    """The streams start from the beginning in every run."""

    def request(self, n: int) -> bytes:
        self._streams.used = 0
        return super().request(n)

    def answer(self, d: Any, n: int) -> None:
        self._streams.used = 0
        super().answer(d, n)


class TweakRestarted(OtherPool):
    """The tweak is the number of the OT within its slice."""

    def take(self, offset: int, n: int) -> CotSlice:
        cots = super().take(offset, n)
        return CotSlice(cots.hash, 0, cots.keys, cots.choices, cots.delta)


@dataclass(frozen=True)
class RawSlice(CotSlice):
    """Keys as pads."""

    def streams(self, low: int, high: int, blocks: int) -> U64:
        keys = np.ascontiguousarray(self.keys[low:high])
        variants = [keys] if self.delta is None else [keys, keys ^ self.delta]
        return np.stack([np.tile(x, (1, blocks)) for x in variants])


class RawKeys(OtherPool):
    """Nothing is hashed: the two pads of every OT differ by Delta."""

    def take(self, offset: int, n: int) -> CotSlice:
        cots = super().take(offset, n)
        return RawSlice(cots.hash, cots.first, cots.keys, cots.choices, cots.delta)


class IterationRepeated(OtherPool):
    """Every iteration of Ferret has the reserve and the number of the first one; nothing is kept in stock."""

    def begin(self, plan: Making) -> None:
        self.stock = self.stock[:0]
        super().begin(plan)

    def _iterate(self, preset: Preset) -> tuple[Iteration, U64, U64]:
        _, reserve, out = super()._iterate(preset)
        kept: U64 = self.__dict__.setdefault("kept", reserve)
        return Iteration(self.hash.pi.key, 0, preset), kept, out


class FewByFerret(FaultyOt):
    """Every run's COTs come from one iteration of Ferret, however few; its parameters are as small as they can be."""

    async def provision(self, p: Party, state: OtState, amounts: Any) -> None:
        preset = Preset("tiny", 8, 5, 6)

        def extended(role: Role, n: int, start: int) -> Coroutine[Any, Any, int]:
            return p.scoped("extend", carry_out, role, state.pools[role], Making(n, 0, preset.reserve, (preset,)))

        await provision(p, amounts, extended)


class ChoicesShown(FaultyOt):
    """The receiver of every direction sends its random choices along, as a check of the extension."""

    async def provision(self, p: Party, state: OtState, amounts: Any) -> None:
        await super().provision(p, state, amounts)
        for role in Role:
            n = amounts.get(f"cot.{role.value}", 0)
            if n and p.role is role:
                p.send(f"check-{role.value}", p.compute(Spec(Z2, (n,)), _choices, state.pools[role]))
            elif n:
                await p.recv(f"check-{role.value}", Spec(Z2, (n,)))


def _choices(pool: Pool) -> RingArray:
    return from_words(Z2, pool.choices)


EMP_OT = "of the kind of emp-toolkit/emp-ot at 253ff00fe42dd6386f31662eadc2462d164aef3b, iknp.h: one seed serves thrice"
CRYPTEN = "of the kind of facebookresearch/CrypTen, pull request 166: base OT on an unsafe generator"
BOTH, ONE = (two_products, PRODUCTS), (drelu, SIGNS)
for _name, _what, _source, _service, (_honest, _cases), _found_in, _to_server in (
    ("slice_twice", "one slice of the pool serves two products", 12, FaultyOt(SliceTwice), BOTH, EMP_OT, True),
    ("stream_rewound", "every run makes the same correlations", 12, FaultyOt(StreamRewound), BOTH, EMP_OT, True),
    ("tweak_restarted", "tweaks restart in every slice", 12, FaultyOt(TweakRestarted), BOTH, FROM_THE_STRUCTURE, True),
    (
        "iteration_repeated",
        "every iteration of Ferret has one reserve, and the same trees and code",
        12,
        FewByFerret(IterationRepeated),
        BOTH,
        FROM_THE_STRUCTURE,
        True,
    ),
    ("raw_keys", "the pads of correlated OTs are raw keys", 13, FaultyOt(RawKeys), BOTH, FROM_THE_STRUCTURE, True),
    (
        "raw_keys_of_choices",
        "the pads of 1-of-16 OTs are sums of raw keys",
        13,
        FaultyOt(RawKeys),
        ONE,
        FROM_THE_STRUCTURE,
        False,
    ),
    (
        "choices_shown",
        "the random choices of the extension are sent in clear",
        PITFALL,
        ChoicesShown(),
        BOTH,
        FROM_THE_STRUCTURE,
        True,
    ),
    (
        "delta_default_seed",
        "the correlation comes from a generator with the default seed",
        5,
        FaultyOt(rigged=frozenset({"delta"})),
        BOTH,
        FROM_THE_STRUCTURE,
        True,
    ),
    (
        "base_scalars_default_seed",
        "the scalars of the base OTs come from a generator with the default seed",
        5,
        FaultyOt(rigged=frozenset({"scalar", "scalars"})),
        BOTH,
        CRYPTEN,
        True,
    ),
):
    plant(
        CORRELATIONS,
        _name,
        _what,
        _source,
        _honest,
        _cases,
        _transfers(_service),
        _found_in,
        client=True,
        server=_to_server,
    )
