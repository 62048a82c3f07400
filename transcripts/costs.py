"""What each scope of a recorded session cost: bytes each way, messages, rounds, CPU per party.

Sibling scopes NAME, NAME.2, NAME.3 are folded into one row, so that a table stays readable however often a
sub-protocol is called; `calls` says how many there were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sim.network import Network
from sim.role import CLIENT, SERVER, Role

_COPY = re.compile(r"\.\d+(?=/|$)")


class Sent(Protocol):
    """The part of a message that costs are made of."""

    @property
    def sender(self) -> Role: ...
    @property
    def scope(self) -> str: ...
    @property
    def depth(self) -> int: ...
    @property
    def nbytes(self) -> int: ...


@dataclass
class ScopeCost:
    """Cost of a scope with everything below it. rounds: causal depths at which it talks. cpu: seconds."""

    scope: str
    client_to_server: int = 0
    server_to_client: int = 0
    messages: int = 0
    cpu: dict[Role, float] = field(default_factory=lambda: {CLIENT: 0.0, SERVER: 0.0})
    depths: set[tuple[str, int]] = field(default_factory=set)
    members: set[str] = field(default_factory=set)

    @property
    def rounds(self) -> int:
        return len(self.depths)

    @property
    def nbytes(self) -> int:
        return self.client_to_server + self.server_to_client

    @property
    def calls(self) -> int:
        return len(self.members)

    def to_json(self) -> dict[str, Any]:
        return {
            "scope": self.scope,
            "calls": self.calls,
            "client_to_server": self.client_to_server,
            "server_to_client": self.server_to_client,
            "messages": self.messages,
            "rounds": self.rounds,
            "cpu_s": {role.value: self.cpu[role] for role in Role},
        }


def fold(scope: str) -> str:
    """The scope without the numbers of repeated calls."""
    return _COPY.sub("", scope)


def inside(scope: str, prefix: str) -> bool:
    """Whether `scope` is `prefix` or below it; every scope is inside the empty one."""
    return not prefix or scope == prefix or scope.startswith(prefix + "/")


def cost_by_scope(
    sent: Iterable[Sent], cpu: Mapping[tuple[Role, str], float], *, under: str = "", levels: int = 3
) -> list[ScopeCost]:
    """Costs of the scopes inside `under` and up to `levels` below it: parents before children, and
    in the order in which they first talk.

    `under` may name one call (`r1/moe/top_k.2`) or, without its number, all of them.
    """
    rows: dict[str, ScopeCost] = {}
    top = under.count("/") + 1 if under else 0

    def enclosing(scope: str) -> list[ScopeCost]:
        if not inside(scope, under) and not inside(fold(scope), under):
            return []
        parts = scope.split("/")
        found = []
        for n in range(max(top, 1), min(len(parts), top + levels) + 1):
            name = "/".join(parts[:n])
            row = rows.setdefault(fold(name), ScopeCost(fold(name)))
            row.members.add(name)
            found.append(row)
        return found

    for message in sent:
        for row in enclosing(message.scope):
            if message.sender is CLIENT:
                row.client_to_server += message.nbytes
            else:
                row.server_to_client += message.nbytes
            row.messages += 1
            row.depths.add((message.scope.split("/")[0], message.depth))
    for (role, scope), seconds in cpu.items():
        for row in enclosing(scope):
            row.cpu[role] += seconds
    first = {scope: place for place, scope in enumerate(rows)}

    def place(row: ScopeCost) -> list[int]:
        parts = row.scope.split("/")
        return [first.get("/".join(parts[: n + 1]), -1) for n in range(len(parts))]

    return sorted(rows.values(), key=place)


def virtual_time(sent: Iterable[Sent], cpu_by_depth: Mapping[tuple[Role, int], float], network: Network) -> float:
    """Seconds that the messages of one phase, with this CPU time, take on a network."""
    return network.time(((m.depth, m.sender, m.nbytes) for m in sent), cpu_by_depth)
