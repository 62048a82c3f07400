"""What an analyst has of a session's homomorphic layer, read back from its messages; nothing here is secret to both.

The client knows its key, its shares and the errors of its uploads. To test a response the analyst also takes the
server's weights and shares as known: with them the response before it was randomised is computed again, by the real
engine from the messages on record, and what is left of the real one is the randomness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.he.bits import packed_nbytes, unpack
from protocols.he.ntt import Floats, Ints
from protocols.he.packing import KeySet, LinearPlan, SelectPlan, key_set, upload_form
from protocols.he.ring_q import Basis, Ring, ring_for
from protocols.he.sampling import SEED_NBYTES, uniform_residues
from protocols.he.server import Result, ServerKeys
from protocols.he.weights import prepare
from sim.message import Message

Shares = NDArray[np.uint64]
Plan = LinearPlan | SelectPlan


class UnreadableTranscript(ValueError):
    """Messages that do not belong to the plan."""


@dataclass(frozen=True)
class Upload:
    """One ciphertext of the client's: where it was sent, its seed, c0 [limbs, N] over its basis, in coefficients; zero
    where a compact one sends nothing."""

    place: str
    seed: bytes
    c0: Floats
    basis: Basis


@dataclass(frozen=True)
class Response:
    """One ciphertext of the server's: c0 [limbs, len(positions)] and c1 [limbs, N] over the response modulus."""

    place: str
    run: int
    positions: Ints
    outputs: Ints
    c0: Floats
    c1: Floats


@dataclass(frozen=True)
class KeyRow:
    """One row of a public key: b in transformed form over `basis`; digit: the limbs that carry a payload."""

    place: str
    seed: bytes
    b: Floats
    basis: Basis
    digit: range


@dataclass(frozen=True)
class Run:
    """One run: its messages in canonical order, and the server's shares of the operands, word by word, (rows, ..).

    weights: those of this run alone, as `prepare` takes them, where others have other ones.
    """

    messages: Sequence[Message]
    own: Mapping[str, Shares] = field(default_factory=dict)
    weights: Any = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one plan did in a session. secret: the client's key. weights: the server's integers as `prepare` takes them.

    plans: all plans of the session, where there are others; then the runs hold the messages of this plan only.
    """

    plan: Plan
    setup: Sequence[Message]
    runs: Sequence[Run]
    secret: Ints | None = None
    weights: Any = None
    plans: tuple[Plan, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether responses can be computed again: the weights and the server's shares are known."""
        known = self.weights is not None
        return all(run.own and (known or run.weights is not None) for run in self.runs)

    @cached_property
    def keys(self) -> KeySet:
        """The public keys of the session."""
        return key_set(self.plan.params, self.plans or (self.plan,))

    @property
    def ring(self) -> Ring:
        return ring_for(self.plan.params)

    @cached_property
    def uploads(self) -> list[Upload]:
        """All uploads in order."""
        return [upload for run in self.runs for upload in self._uploads(run)]

    def _uploads(self, run: Run) -> Iterator[Upload]:
        ring, params = self.ring, self.plan.params
        for message in _of_kind(run.messages, "ciphertexts"):
            data = message.payload or b""
            switched, sent = upload_form(params, self.plans or (self.plan,), len(data))
            basis, size = ring.q1 if switched else ring.q0, params.ciphertext_nbytes(switched, sent)
            for start in range(0, len(data), size):
                seed, body = data[start : start + SEED_NBYTES], data[start + SEED_NBYTES : start + size]
                c0 = np.zeros((basis.size, ring.n))
                c0[:, :: ring.n // sent] = np.stack(unpack(body, basis.primes, (sent,) * basis.size))
                yield Upload(f"{message.label}[{start // size}]", seed, c0, basis)

    @cached_property
    def responses(self) -> list[Response]:
        """All response ciphertexts in order."""
        return [response for i, run in enumerate(self.runs) for response in self._responses(i, run)]

    def _responses(self, number: int, run: Run) -> Iterator[Response]:
        plan, ring = self.plan, self.ring
        basis = ring.response
        for message in _of_kind(run.messages, "response"):
            data, start = message.payload or b"", 0
            if len(data) % plan.response_nbytes:
                raise UnreadableTranscript(
                    f"{message.label}: expected a multiple of {plan.response_nbytes} bytes, "
                    f"got {len(data)}; give the plan of this session"
                )
            each = plan.response_nbytes // plan.responses
            for k in range(len(data) // plan.response_nbytes * plan.responses):
                outputs = plan.response_positions[k % plan.responses]
                size = plan.params.response_nbytes(outputs.size)
                whole = each != size and each == plan.params.response_nbytes(ring.n)
                size, count = (each, ring.n) if whole else (size, outputs.size)
                positions = np.arange(ring.n) if whole else outputs
                lengths = (count,) * basis.size + (ring.n,) * basis.size
                rows = unpack(data[start : start + size], basis.primes * 2, lengths)
                c0, c1 = np.stack(rows[: basis.size]), np.stack(rows[basis.size :])
                yield Response(f"{message.label}[{k}]", number, positions, outputs, c0, c1)
                start += size

    @cached_property
    def key_bytes(self) -> bytes:
        """The content of the key message."""
        return next((m.payload or b"" for m in _of_kind(self.setup, "keys")), b"")

    @cached_property
    def key_rows(self) -> list[KeyRow]:
        """The rows of all public keys, in the order of `ClientKeys.generate`."""
        ring, keys, data = self.ring, self.keys, self.key_bytes
        wide, narrow = (ring.q0, ring.q0p), (ring.q1, ring.q1p)
        kinds = [("relinearisation key", *wide)] if keys.relinearise else []
        kinds += [(f"expansion key {g}", *wide) for g in keys.expansion]
        kinds += [(f"packing key {g}", *narrow) for g in keys.packing]
        rows: list[tuple[str, Basis, range]] = [("encryption key", ring.q1, range(0))]
        for name, basis, special in kinds:
            digits = keys.params.digits(basis.size)
            rows += [(f"{name}, digit {i}", special, digit) for i, digit in enumerate(digits)]
        found, start = [], 0
        for name, basis, digit in rows:
            seed, body = data[start : start + SEED_NBYTES], start + SEED_NBYTES
            start = body + packed_nbytes(basis.bits, (ring.n,) * basis.size)
            b = np.stack(unpack(data[body:start], basis.primes, (ring.n,) * basis.size))
            found.append(KeyRow(name, seed, b, basis, digit))
        return found

    @cached_property
    def server_keys(self) -> ServerKeys:
        """The public keys as the server reads them."""
        return ServerKeys.from_bytes(self.keys, self.key_bytes)

    @cached_property
    def plain_results(self) -> list[Floats]:
        """Per response: the ciphertext [2, q1 limbs, N] before it was randomised, in coefficients."""
        shared = None if self.weights is None else prepare(self.plan, self.weights)
        prepared = (shared if run.weights is None else prepare(self.plan, run.weights) for run in self.runs)
        return [part for run, weights in zip(self.runs, prepared, strict=True) for part in self._results(run, weights)]

    def _results(self, run: Run, weights: Any) -> Iterator[Floats]:
        plan, keys = self.plan, self.server_keys
        operands: dict[str, list[Any]] = {}
        for word, message in zip(run.own, _of_kind(run.messages, "ciphertexts"), strict=True):
            layout, data = plan.operand(word), message.payload or b""
            rows = run.own[word]
            operands[word] = [
                keys.absorb(layout, data[i * layout.nbytes : (i + 1) * layout.nbytes], rows[i])
                for i in range(len(rows))
            ]
        if isinstance(plan, LinearPlan):
            products = [keys.linear(plan, x) for x in operands["x"]]
        else:
            products = [keys.tensor(plan, t, x) for t, x in zip(operands["t"], operands["x"], strict=True)]
        results: list[Result] = keys.apply(plan, weights, products)
        for result in results:
            for part in result.parts:
                yield self.ring.inverse(part, self.ring.q1)

    def times_secret(self, x: Floats, basis: Basis) -> Floats:
        """x s in coefficients, for x in coefficients."""
        if self.secret is None:
            raise UnreadableTranscript("expected the client's private side; give its secret key")
        ring = self.ring
        s = ring.forward(ring.small(self.secret, basis), basis)
        return ring.inverse(ring.engine.multiply(ring.forward(x, basis), s, basis.limbs), basis)

    def a_part(self, seed: bytes, basis: Basis) -> Floats:
        """The expansion of a seed."""
        return uniform_residues(seed, basis, self.ring.n)

    def switched(self, x: Floats) -> Floats:
        """x over q1, N coefficients, rounded to the response modulus."""
        return self.ring.rescale(np.ascontiguousarray(x), self.ring.q1, self.ring.response)


def _of_kind(messages: Sequence[Message], kind: str) -> list[Message]:
    """The messages of a kind that have content, in program order: scopes of one name are numbered from the second."""
    found = [m for m in messages if getattr(m.spec, "kind", "") == kind and m.payload is not None]
    return sorted(found, key=lambda m: (m.depth, [_numbered(part) for part in m.label.split("/")]))


def _numbered(part: str) -> tuple[str, int]:
    name, _, number = part.partition(".")
    return name, int(number or 1)


def modular(x: Floats, basis: Basis) -> Floats:
    """Canonical residues of sums and differences of residues [limbs, any]."""
    reduced: Floats = x % np.array(basis.primes, dtype=np.float64)[:, None]
    return reduced


def centred(residues: Floats, basis: Basis) -> Floats:
    """The representatives in (-q/2, q/2] of residues [limbs, count], as floats: exact below 2^53, else to 53 bits."""
    primes = np.array(basis.primes, dtype=np.float64)[:, None]
    near = np.where(residues > primes / 2, residues - primes, residues)
    values: Floats = near[0].copy()
    large = np.flatnonzero((near != near[0]).any(axis=0))  # elsewhere one small integer has all these residues
    if large.size:
        values[large] = _recombined(residues[:, large], basis)
    return values


def _recombined(residues: Floats, basis: Basis) -> Floats:
    total = np.zeros(residues.shape[1], dtype=object)
    for row, p in zip(residues, basis.primes, strict=True):
        rest = basis.modulus // p
        total = total + row.astype(np.int64).astype(object) * (rest * pow(rest, -1, p))
    total %= basis.modulus
    return np.array([float(v - basis.modulus if 2 * v > basis.modulus else v) for v in total])
