"""A message: what crossed the wire, with its public header."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sim.role import Role
from sim.wire import AnySpec, spec_to_json


@dataclass(frozen=True)
class Message:
    """One message. depth: causal depth, 1 if it waits for none. payload: None where there is no byte content.

    content: the array or blob itself, as the receiver gets it in this process; no part of digest or equality.
    """

    sender: Role
    label: str
    scope: str
    depth: int
    spec: AnySpec
    payload: bytes | None
    content: object = field(default=None, compare=False, repr=False)

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    @property
    def order(self) -> tuple[int, str, str]:
        """Canonical order: depth, sender, label. Independent of the schedule."""
        return self.depth, self.sender.value, self.label

    def digest(self) -> bytes:
        """BLAKE2b-256 over header and payload, each field with its length."""
        header = spec_to_json(self.spec)
        fields = [self.sender.value, self.label, str(self.depth), header["kind"], header["dtype"], str(header["shape"])]
        h = hashlib.blake2b(digest_size=32)
        for part in [*(f.encode() for f in fields), self.payload or b""]:
            h.update(len(part).to_bytes(8, "little") + part)
        return h.digest()


def chain(messages: Iterable[Message]) -> bytes:
    """Running BLAKE2b-256 chain over the digests in canonical order: the digest of a transcript."""
    state = bytes(32)
    for message in sorted(messages, key=lambda m: m.order):
        state = hashlib.blake2b(state + message.digest(), digest_size=32).digest()
    return state
