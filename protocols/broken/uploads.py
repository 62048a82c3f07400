"""Faults in how the client encrypts: seeds used twice, errors that are public, missing or biased, keys that show the
secret.

Everything still decrypts. The server holds the a-parts; an error that is missing or known turns an upload or a key into
linear equations on the secret.
"""

from __future__ import annotations

import numpy as np

from protocols.broken.engine import BOLT_KEYS, FaultyHe, Generator, Uploading, homomorphic, plant, spoils
from protocols.broken.fault import PITFALL, Fault
from protocols.broken.responses import MANY, PAIR
from protocols.he.bfv import SecretKey
from protocols.he.client import Draw
from protocols.he.interface import Plan
from protocols.he.ntt import Floats, Ints
from protocols.he.packing import KeySet
from protocols.he.ring_q import Basis, Ring
from protocols.he.sampling import SEED_NBYTES, stream, uniform_residues
from protocols.he.service import BfvClient, BfvServer
from protocols.linear import linear
from protocols.select import select_product
from sim.party import Party
from sim.wire import BlobSpec
from sim.world import Service

UPLOADS: list[Fault] = []
FROM_THE_STRUCTURE = "follows from the structure of the upload"


@spoils(UPLOADS, "two uploads have the same a-part", 11, linear, (MANY,), FROM_THE_STRUCTURE)
class SeedReused(Uploading):
    """The seed is drawn once in a session: the difference of two uploads is the difference of the shares."""

    def seeds(self, k: int, draw: Draw) -> tuple[bytes, bytes]:
        if "seed" not in self.__dict__:
            self.seed = draw(f"a{k}", SEED_NBYTES)
        return self.seed, draw(f"e{k}", SEED_NBYTES)


@spoils(UPLOADS, "encryption is deterministic: seed and error are drawn once in a session", 11, linear, (MANY,),
        FROM_THE_STRUCTURE)
class UploadRepeated(Uploading):
    """Equal shares have equal ciphertexts."""

    def seeds(self, k: int, draw: Draw) -> tuple[bytes, bytes]:
        if "pair" not in self.__dict__:
            self.pair = super().seeds(k, draw)
        return self.pair


@spoils(UPLOADS, "the error is expanded from the seed that is sent", PITFALL, linear, (MANY,),
        "of the kind of octra-labs/pvac_hfhe_cpp, issue 259: seeds of masks and noise are sent with the ciphertext")
class ErrorFromSeed(Uploading):
    """One seed for a and e saves a draw; everyone can subtract e."""

    def seeds(self, k: int, draw: Draw) -> tuple[bytes, bytes]:
        seed = draw(f"a{k}", SEED_NBYTES)
        return seed, seed


@spoils(UPLOADS, "seeds of uploads come from a generator with the default seed", 5, linear, (MANY,), FROM_THE_STRUCTURE)
class UploadDefaultSeed(Uploading):
    """a and e of the i-th upload are the same in all sessions."""

    def seeds(self, k: int, draw: Draw) -> tuple[bytes, bytes]:
        generator: Generator = self.__dict__.setdefault("generator", Generator())
        return generator.bytes(SEED_NBYTES), generator.bytes(SEED_NBYTES)


class OtherError(Uploading):
    """Uploads with another error."""

    def errors(self, seed: bytes, n: int) -> Ints:
        """n coefficients."""
        raise NotImplementedError

    def body(self, message: Floats, seed: bytes, error_seed: bytes, basis: Basis) -> Floats:
        ring = self.secret.ring
        a = ring.forward(uniform_residues(seed, basis, ring.n), basis)
        masked = ring.inverse(ring.engine.multiply(a, self.secret.transformed(basis), basis.limbs), basis)
        noisy = ring.engine.add(message, ring.small(self.errors(error_seed, ring.n), basis), basis.limbs)
        return ring.engine.subtract_scale(noisy, masked, np.ones(basis.size), basis.limbs)


@spoils(UPLOADS, "uploads carry no error", 14, linear, (MANY,), FROM_THE_STRUCTURE)
class ErrorOmitted(OtherError):
    """Where no word sits, c0 = -a s exactly."""

    def errors(self, seed: bytes, n: int) -> Ints:
        return np.zeros(n, dtype=np.int64)


@spoils(UPLOADS, "the error is a binomial that was not centred", 14, linear, (MANY,), FROM_THE_STRUCTURE)
class ErrorOneSided(OtherError):
    """The second half of the bits was not subtracted."""

    def errors(self, seed: bytes, n: int) -> Ints:
        words = np.frombuffer(stream(seed, 0, 8 * n), dtype="<u8")
        values: Ints = np.bitwise_count(words & np.uint64((1 << 21) - 1)).astype(np.int64)
        return values


@spoils(UPLOADS, "the error is drawn from 20 pairs of bits instead of 21", 14, linear, (MANY,), FROM_THE_STRUCTURE)
class ErrorShort(OtherError):
    """An off-by-one in the mask."""

    def errors(self, seed: bytes, n: int) -> Ints:
        words = np.frombuffer(stream(seed, 0, 8 * n), dtype="<u8")
        mask = np.uint64((1 << 20) - 1)
        ones, others = np.bitwise_count(words & mask), np.bitwise_count((words >> np.uint64(21)) & mask)
        values: Ints = np.subtract(ones, others, dtype=np.int64)
        return values


def _secret(ring: Ring, seed: bytes, coefficients: Ints) -> SecretKey:
    secret = SecretKey(ring, seed)
    secret.coefficients = coefficients
    return secret


@spoils(UPLOADS, "the secret is drawn as two bits a coefficient, with 2 taken for 0", 14, linear, (MANY,),
        FROM_THE_STRUCTURE)
class SecretSkewed(Uploading):
    """A mask of bits instead of rejection: zeros are twice as likely."""

    @classmethod
    def secret_of(cls, ring: Ring, draw: Draw) -> SecretKey:
        seed = draw("secret", SEED_NBYTES)
        values = (np.frombuffer(stream(seed, 0, ring.n), dtype=np.uint8) & 3).astype(np.int64)
        return _secret(ring, seed, np.array([-1, 0, 0, 1])[values])


@spoils(UPLOADS, "the secret is binary: an off-by-one in the range", 14, linear, (MANY,), FROM_THE_STRUCTURE)
class SecretBinary(Uploading):
    """% 2 instead of % 3."""

    @classmethod
    def secret_of(cls, ring: Ring, draw: Draw) -> SecretKey:
        seed = draw("secret", SEED_NBYTES)
        values = np.frombuffer(stream(seed, 0, ring.n), dtype=np.uint8)
        return _secret(ring, seed, (values % 2).astype(np.int64))


@spoils(UPLOADS, "the public keys carry no error", 14, select_product, (PAIR,), FROM_THE_STRUCTURE)
class KeyErrorOmitted(Uploading):
    """b = -a s: one division gives the secret."""

    @classmethod
    def row(cls, secret: SecretKey, word: str, payload: Floats, basis: Basis, draw: Draw) -> tuple[bytes, Floats]:
        seed, ring = draw(f"a_{word}", SEED_NBYTES), secret.ring
        a = uniform_residues(seed, basis, ring.n)
        masked = ring.engine.multiply(a, secret.transformed(basis), basis.limbs)
        return seed, ring.engine.subtract_scale(payload, masked, np.ones(basis.size), basis.limbs)


@spoils(UPLOADS, "the errors of the public keys are expanded from the seeds that are sent", PITFALL, select_product,
        (PAIR,), FROM_THE_STRUCTURE)
class KeyErrorFromSeed(Uploading):
    """Everyone can subtract e."""

    @classmethod
    def row(cls, secret: SecretKey, word: str, payload: Floats, basis: Basis, draw: Draw) -> tuple[bytes, Floats]:
        seed = draw(f"a_{word}", SEED_NBYTES)
        return seed, secret.key_row(payload, seed, seed, basis)


@spoils(UPLOADS, "all rows of the public keys have the same a-part", 11, select_product, (PAIR,), FROM_THE_STRUCTURE)
class KeySeedShared(Uploading):
    """The difference of two rows is a multiple of the square of the secret, and an error."""

    @classmethod
    def generate(cls, keys: KeySet, draw: Draw) -> Uploading:
        kept: list[bytes] = []

        def shared(word: str, n: int) -> bytes:
            if not word.startswith("a_"):
                return draw(word, n)
            if not kept:
                kept.append(draw(word, n))
            return kept[0]

        return super().generate(keys, shared)


plant(UPLOADS, "secret_default_seed", "the secret key comes from a generator with the default seed", 5, linear, (MANY,),
      homomorphic(rigged=frozenset({"secret"})), FROM_THE_STRUCTURE, server=True)


class Remembering(Uploading):
    """The client keeps the seed of its secret key."""

    seed = bytes(SEED_NBYTES)

    @classmethod
    def generate(cls, keys: KeySet, draw: Draw) -> Uploading:
        kept: dict[str, bytes] = {}
        made = super().generate(keys, lambda word, n: kept.setdefault(word, draw(word, n)))
        made.__dict__["seed"] = kept["secret"]
        return made


class BackedUp(FaultyHe):
    """The client sends the seed of its secret key along, so that a session can be resumed."""

    async def setup(self, p: Party) -> BfvClient | BfvServer:
        spec = BlobSpec("backup", SEED_NBYTES)
        state = await super().setup(p)
        if isinstance(state, BfvClient):
            p.send("backup", p.compute(spec, lambda: state.keys.seed))
        else:
            await p.recv("backup", spec)
        return state


def _backed_up(plans: tuple[Plan, ...]) -> tuple[Service, ...]:
    return (BackedUp(plans, client=Remembering),)


plant(UPLOADS, "secret_sent", "the seed of the secret key is sent to the server", 6, linear, (MANY,), _backed_up,
      f"{BOLT_KEYS}, generate_new_keys_ctpt: the key owner sends sec_key", server=True)
