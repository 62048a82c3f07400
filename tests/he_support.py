"""Both ends of a homomorphic session in one place, for tests of the layer below the protocols."""

import functools
import hashlib
import itertools
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.he.bfv import Shares
from protocols.he.client import ClientKeys, Draw
from protocols.he.ntt import Floats, Ints
from protocols.he.packing import LinearPlan, Plan, SelectPlan, key_set
from protocols.he.ring_q import Basis
from protocols.he.server import Operand, Product, ServerKeys
from protocols.he.weights import Matrices, prepare

Weights = NDArray[np.signedinteger]
_calls: dict[str, Iterator[int]] = defaultdict(itertools.count)


def fresh_draw(scope: str | None = None) -> Draw:
    """A source of its own for one call: bytes fixed by the scope, and an error when a label is used twice. Without a
    scope by the test that runs and what it called before, never by the tests that ran before it."""
    used = set[str]()
    if scope is None:
        test = os.environ["PYTEST_CURRENT_TEST"]
        scope = f"{test} {next(_calls[test])}"

    def draw(label: str, nbytes: int) -> bytes:
        assert label not in used, f"label {label} drawn twice"
        used.add(label)
        return hashlib.shake_128(f"{scope}/{label}".encode()).digest(nbytes)

    return draw


def words(rng: np.random.Generator, shape: tuple[int, ...], ring_bits: int) -> Shares:
    """Uniform ring elements."""
    return rng.integers(0, 1 << 64, shape, dtype=np.uint64) & np.uint64((1 << ring_bits) - 1)


class Session:
    """Keys of both parties for some plans, and the steps of a request."""

    def __init__(self, *plans: Plan) -> None:
        self.params = plans[0].params
        self.mask = np.uint64((1 << self.params.ring_bits) - 1)
        self.keys = key_set(self.params, plans)
        self.client = ClientKeys.generate(self.keys, fresh_draw(str(plans)))
        self.server = ServerKeys.from_bytes(self.keys, self.client.public_bytes)

    def upload(self, plan: Plan, word: str, value: Shares, own: Shares) -> Operand:
        """Share value as (value - own, own), upload the first part, absorb the second."""
        layout = plan.operand(word)
        data = self.client.encrypt(layout, (value - own) & self.mask, fresh_draw())
        assert len(data) == layout.nbytes
        return self.server.absorb(layout, data, own)

    def product(self, plan: Plan, t: Shares | None, x: Shares, rng: np.random.Generator) -> Product:
        """The product that meets the weights, from freshly shared operands."""
        own = words(rng, x.shape, self.params.ring_bits)
        operand = self.upload(plan, "x", x, own)
        if isinstance(plan, LinearPlan):
            return self.server.linear(plan, operand)
        assert isinstance(plan, SelectPlan) and t is not None
        selector = self.upload(plan, "t", t, words(rng, t.shape, self.params.ring_bits))
        return self.server.tensor(plan, selector, operand)

    def request(
        self, plan: Plan, w: Matrices, t: Shares | None, x: Shares, mask: Shares, rng: np.random.Generator
    ) -> Shares:
        """What the client decrypts."""
        result = self.server.apply(plan, prepare(plan, w), [self.product(plan, t, x, rng)])[0]
        data = self.server.respond(plan, result, mask, fresh_draw())
        assert len(data) == plan.response_nbytes
        return self.client.decrypt(plan, data)


@functools.lru_cache(maxsize=64)
def session(*plans: Plan) -> Session:
    """One session per set of plans, reused between examples."""
    return Session(*plans)


def expected(plan: Plan, w: Weights, t: Shares | None, x: Shares, mask: Shares) -> Shares:
    """The ideal output mod 2^l: sum_i t_i W_i x + mask, or x W^T + mask."""
    m = np.uint64((1 << plan.params.ring_bits) - 1)
    if t is None:
        return (x @ w.astype(np.uint64).T + mask) & m
    pairs = zip(np.atleast_2d(t), np.atleast_2d(x), strict=True)
    selected = [((a[:, None, None] * w.astype(np.uint64)).sum(axis=0, dtype=np.uint64), b) for a, b in pairs]
    out: Shares = (np.stack([matrix @ b for matrix, b in selected]).reshape(mask.shape) + mask) & m
    return out


def largest_noise(
    s: Session, ciphertext: Floats, basis: Basis, positions: Ints, messages: Sequence[int], scale: int
) -> float:
    """log2 of the largest |phase - q m / 2^scale| of a transformed ciphertext at the positions, by exact integers."""
    return math.log2(max(1, *map(abs, errors(s, ciphertext, basis, positions, messages, scale))))


def errors(
    s: Session, ciphertext: Floats, basis: Basis, positions: Ints, messages: Sequence[int], scale: int
) -> list[int]:
    """Every error of a transformed ciphertext at these exponents, by the secret key; its message is encoded at the
    basis's modulus / 2^scale."""
    phase = s.client.secret.phase(s.server.ring.inverse(ciphertext, basis), basis)[:, positions].astype(np.int64)
    units = [basis.modulus // p * pow(basis.modulus // p, -1, p) for p in basis.primes]
    found = []
    for column, message in zip(phase.T, messages, strict=True):
        value = sum(int(v) * u for v, u in zip(column, units, strict=True))
        error = (value - (basis.modulus * message + (1 << (scale - 1)) >> scale)) % basis.modulus
        found.append(error - basis.modulus if 2 * error > basis.modulus else error)
    return found
