"""The homomorphic engine in separate steps, so that a fault can spoil one of them; unspoiled, its bytes are the real
engine's.

A fault below the interfaces is an honest protocol text with other services: sessions in which one class of the engine
is replaced by a subclass with one step changed. Both parties still compute the right result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.broken.fault import REAL, Fault, Services
from protocols.entry import Case, Entry
from protocols.he.bfv import SecretKey, Shares, encode
from protocols.he.bits import pack
from protocols.he.client import ClientKeys, Draw, encoded, key_rows
from protocols.he.interface import Plan
from protocols.he.noise import EpsilonBudget, flood_target
from protocols.he.ntt import Floats
from protocols.he.packing import KeySet, Layout
from protocols.he.ring_q import Basis, Ring, ring_for
from protocols.he.sampling import SEED_NBYTES, error, flooding, ternary
from protocols.he.server import ServerKeys
from protocols.he.service import BfvClient, BfvServer, HeService
from sim.party import Party, ProtocolDecl
from sim.role import CLIENT
from sim.wire import Blob, BlobSpec
from sim.world import Service

BOLT_KEYS = "Qi-Pang/EzPC at e20baca293033776d7cb54ffdbea5d6cd292fdce, SCI/src/LinearHE/utils-HE.cpp"
BUDGET = 2.0**-16  # a session under observation answers far more often than one that is meant to protect weights


class Generator:
    """What some implementations take for randomness: a generator that starts from a fixed default seed."""

    def __init__(self) -> None:
        self._words = np.random.default_rng(42)

    def bytes(self, n: int) -> bytes:
        return self._words.bytes(n)


class Rigged(Party):
    """A handle whose draws of some words come from a generator with the default seed."""

    __slots__ = ("_generator", "_words")

    def __init__(self, p: Party, words: frozenset[str], generator: Generator) -> None:
        super().__init__(p._driver, p.endpoint, p.scope)
        self._words, self._generator = words, generator

    def child(self, name: str) -> Rigged:
        return Rigged(super().child(name), self._words, self._generator)

    def draw_bytes(self, word: str, n: int) -> bytes:
        return self._generator.bytes(n) if word in self._words else super().draw_bytes(word, n)


class Answering(ServerKeys):
    """The server's keys with the response in steps: an encryption of zero, what hides the noise, the switch."""

    def zero(self, k: int, draw: Draw) -> Floats:
        """A fresh public-key encryption of zero [2, q1 limbs, N], coefficients; the error of c0 is left to `blind`."""
        ring, q1 = self.ring, self.ring.q1
        u = ring.forward(ring.small(ternary(draw(f"u{k}", SEED_NBYTES), ring.n), q1), q1)
        mask = ring.inverse(ring.engine.multiply(self.encryption, u, q1.limbs), q1)
        e1 = ring.small(error(draw(f"e1_{k}", SEED_NBYTES), ring.n), q1)
        mask[1] = ring.engine.add(np.ascontiguousarray(mask[1]), e1, q1.limbs)
        return mask

    def flood(self, count: int, k: int, draw: Draw) -> Floats:
        """Flooding noise of so many coefficients."""
        return flooding(draw(f"flood{k}", SEED_NBYTES), count, flood_target(self.keys.params), self.ring.q1)

    def blind(self, count: int, k: int, draw: Draw) -> Floats:
        """Everything that hides the noise of c0: the error of the encryption of zero, and the flooding."""
        e0 = self.ring.small(error(draw(f"e0_{k}", SEED_NBYTES), count), self.ring.q1)
        return self.plus(e0, self.flood(count, k, draw))

    def plus(self, a: Floats, b: Floats) -> Floats:
        """a + b over q1, any number of coefficients."""
        total: Floats = (a + b) % np.array(self.ring.q1.primes, dtype=np.float64)[:, None]
        return total

    def switched(self, x: Floats) -> Floats:
        """x over q1, any number of coefficients, at the response modulus."""
        padded = np.zeros((len(x), -(-x.shape[1] // 8) * 8))
        padded[:, : x.shape[1]] = x
        return self.ring.rescale(padded, self.ring.q1, self.ring.response)[:, : x.shape[1]]

    def leave(self, part: Floats, zero: Floats, hidden: Floats, positions: NDArray[np.int64]) -> bytes:
        """The bytes of one response: result [2, limbs, N] and zero, then error, flooding and mask at the outputs."""
        add, limbs = self.ring.engine.add, self.ring.q1.limbs
        c0 = self.plus(add(np.ascontiguousarray(part[0]), np.ascontiguousarray(zero[0]), limbs)[:, positions], hidden)
        c1 = add(np.ascontiguousarray(part[1]), np.ascontiguousarray(zero[1]), limbs)
        return pack([*self.switched(c0), *self.switched(c1)], self.ring.response.bits * 2)

    def respond_one(
        self, ring: Ring, part: Floats, count: int, positions: NDArray[np.int64], mask: Shares, k: int, draw: Draw
    ) -> bytes:
        zero = self.zero(k, draw)
        words = encode(np.ascontiguousarray(mask), self.keys.params.ring_bits, ring.q1)
        hidden = self.plus(self.blind(count, k, draw), words)
        return self.leave(ring.inverse(part, ring.q1), zero, hidden, positions)


class Uploading(ClientKeys):
    """The client's keys with key generation and upload in steps: the secret, the seeds, the errors."""

    @classmethod
    def secret_of(cls, ring: Ring, draw: Draw) -> SecretKey:
        """The secret key."""
        return SecretKey(ring, draw("secret", SEED_NBYTES))

    @classmethod
    def row(cls, secret: SecretKey, word: str, payload: Floats, basis: Basis, draw: Draw) -> tuple[bytes, Floats]:
        """The seed and the b of one row of a public key."""
        seed = draw(f"a_{word}", SEED_NBYTES)
        return seed, secret.key_row(payload, seed, draw(f"e_{word}", SEED_NBYTES), basis)

    @classmethod
    def generate(cls, keys: KeySet, draw: Draw) -> Uploading:
        """As `ClientKeys.generate`, from the steps above."""
        ring = ring_for(keys.params)
        secret = cls.secret_of(ring, draw)
        pieces: list[bytes] = []
        for word, payload, basis in key_rows(secret, keys):
            seed, residues = cls.row(secret, word, payload, basis, draw)
            pieces.append(seed + pack(list(residues), basis.bits))
        return cls(keys, secret, b"".join(pieces))

    def seeds(self, k: int, draw: Draw) -> tuple[bytes, bytes]:
        """The seed of the a-part, which is sent, and the seed of the error."""
        return draw(f"a{k}", SEED_NBYTES), draw(f"e{k}", SEED_NBYTES)

    def body(self, message: Floats, seed: bytes, error_seed: bytes, basis: Basis) -> Floats:
        """The c0 of one upload."""
        return self.secret.encrypt(message, seed, error_seed, basis)

    def encrypt(self, layout: Layout, share: Shares, draw: Draw) -> bytes:
        basis, pieces = self.secret.ring.upload(layout), []
        for k in range(layout.count):
            seed, error_seed = self.seeds(k, draw)
            c0 = self.body(encoded(layout, k, share, basis), seed, error_seed, basis)
            pieces.append(seed + pack(list(np.ascontiguousarray(c0[:, layout.sent])), basis.bits))
        return b"".join(pieces)


class FaultyHe(HeService):
    """The real service with other classes for the two ends. rigged: words of the set-up that come from `Generator`."""

    def __init__(
        self,
        plans: Sequence[Plan],
        server: type[Answering] = Answering,
        client: type[Uploading] = Uploading,
        rigged: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(plans, BUDGET)
        self.server, self.client, self.rigged = server, client, rigged

    async def setup(self, p: Party) -> BfvClient | BfvServer:
        spec = BlobSpec("keys", self.keys.nbytes)
        if p.role is CLIENT:
            handle = Rigged(p, self.rigged, Generator())
            keys = p.local(self.client.generate, self.keys, handle.draw_bytes)
            p.send("keys", p.compute(spec, lambda: keys.public_bytes if keys is not None else b""))
            return BfvClient(keys)
        received: Blob = await p.recv("keys", spec)
        parsed = p.local(self.server.from_bytes, self.keys, received.data)
        return BfvServer(parsed, EpsilonBudget(self.budget))


def homomorphic(
    server: type[Answering] = Answering, client: type[Uploading] = Uploading, rigged: frozenset[str] = frozenset()
) -> Services:
    """Sessions of homomorphic encryption alone, with this engine."""

    def services(plans: tuple[Plan, ...]) -> tuple[Service, ...]:
        return (FaultyHe(plans, server, client, rigged),)

    return services


def plant(
    faults: list[Fault],
    name: str,
    what: str,
    source: int | str,
    honest: ProtocolDecl[Any],
    cases: tuple[Case, ...],
    services: Services,
    found_in: str,
    *,
    client: bool = False,
    server: bool = False,
) -> None:
    """Add a fault below the interfaces to a list: an honest text, these cases, these services."""
    entry = Entry(replace(honest, name=name), cases)
    faults.append(Fault(name, entry, what, source, client, server, REAL, False, services, found_in))


def spoils(faults: list[Fault], what: str, source: int | str, honest: ProtocolDecl[Any], cases: tuple[Case, ...],
           found_in: str) -> Callable[[type[Any]], type[Any]]:
    """Declare a subclass of `Answering` (leaks to the client) or `Uploading` (to the server) as a fault."""

    def declare(end: type[Any]) -> type[Any]:
        to_client = issubclass(end, Answering)
        services = homomorphic(server=end) if to_client else homomorphic(client=end)
        plant(faults, _snake(end.__name__), what, source, honest, cases, services, found_in,
              client=to_client, server=not to_client)
        return end

    return declare


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
