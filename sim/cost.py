"""Cost algebra: bytes, messages and correlated OTs per direction, and rounds as causal depth.

A declared cost is closed arithmetic on public sizes, independent of any run. Bytes and messages add up. Rounds do not:
a protocol that ends with a message to the client followed by one that starts with a message to the client overlaps.
So the depth of a protocol is a 2 x 2 matrix over the max-plus semiring: entry (i, j) is the longest chain of messages
that leads from party j before it to party i after it. `a + b` is a followed by b (matrix product), `a | b` is a beside
b (elementwise maximum), `rounds` the largest entry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce

from sim.role import CLIENT, SERVER, Role
from sim.work import NOTHING, Work

NEVER = -math.inf
Clock = tuple[tuple[float, float], tuple[float, float]]
IDENTITY: Clock = ((0, NEVER), (NEVER, 0))


@dataclass(frozen=True)
class Cost:
    """Exact cost of a protocol.

    c2s, s2c: bytes from client to server and back. messages: number in both directions.
    cot_client, cot_server: correlated OTs whose receiver is the client, the server. work: what is computed meanwhile,
    as counts of kernels; two costs are equal whatever their work, which no wire shows.
    """

    c2s: int = 0
    s2c: int = 0
    messages: int = 0
    cot_client: int = 0
    cot_server: int = 0
    clock: Clock = IDENTITY
    work: Work = field(default=NOTHING, compare=False, repr=False)

    @property
    def rounds(self) -> int:
        return int(max(max(row) for row in self.clock))

    @property
    def nbytes(self) -> int:
        return self.c2s + self.s2c

    def _merge(self, other: Cost, clock: Clock) -> Cost:
        return Cost(
            self.c2s + other.c2s,
            self.s2c + other.s2c,
            self.messages + other.messages,
            self.cot_client + other.cot_client,
            self.cot_server + other.cot_server,
            clock,
            self.work + other.work,
        )

    def __add__(self, then: Cost) -> Cost:
        """This, followed by `then`."""
        (a, b), (c, d) = self.clock
        (e, f), (g, h) = then.clock
        clock = (max(e + a, f + c), max(e + b, f + d)), (max(g + a, h + c), max(g + b, h + d))
        return self._merge(then, clock)

    def __or__(self, beside: Cost) -> Cost:
        """This beside another, from one fork to one join."""
        (a, b), (c, d) = self.clock
        (e, f), (g, h) = beside.clock
        return self._merge(beside, ((max(a, e), max(b, f)), (max(c, g), max(d, h))))

    def repeat(self, k: int) -> Cost:
        """k copies, one after the other."""
        return sequence(*[self] * k)

    def row(self) -> tuple[int, int, int, int, int, int]:
        """The comparable figures: bytes each way, messages, COTs to client and to server, rounds."""
        return self.c2s, self.s2c, self.messages, self.cot_client, self.cot_server, self.rounds

    def __str__(self) -> str:
        return (
            f"{self.c2s} B client->server, {self.s2c} B server->client, {self.messages} messages, "
            f"{self.rounds} rounds, COTs {self.cot_client} to client, {self.cot_server} to server"
        )


FREE = Cost()


def sequence(*parts: Cost) -> Cost:
    """All parts one after the other: bytes, messages, COTs and rounds add up; the empty list is free."""
    return reduce(lambda a, b: a + b, parts, FREE)


def together(*parts: Cost) -> Cost:
    """All parts side by side; the empty list is free."""
    return reduce(lambda a, b: a | b, parts, FREE)


def message(sender: Role, bits: int) -> Cost:
    """One message of so many bits, padded to whole bytes."""
    nbytes = -(-bits // 8)
    if sender is CLIENT:
        return Cost(c2s=nbytes, messages=1, clock=((0, NEVER), (1, 0)))
    return Cost(s2c=nbytes, messages=1, clock=((0, 1), (NEVER, 0)))


def swap(bits: int) -> Cost:
    """One message each way, of so many bits each, neither waiting for the other."""
    return message(CLIENT, bits) | message(SERVER, bits)


def cots(receiver: Role, n: int) -> Cost:
    """n correlated OTs from the pool; no communication."""
    return Cost(cot_client=n) if receiver is CLIENT else Cost(cot_server=n)


def computed(work: Work) -> Cost:
    """Local work; no communication."""
    return Cost(work=work)
