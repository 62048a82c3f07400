"""The price of a private query: bytes by layer and operator, what makes the correlated OTs included, and the set-up.

The pool of a query is made at once, before it; each operator bears the share of that traffic that its own OTs have.
Set-up (keys, base OTs) is once per session and listed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from protocols.he.packing import KeySet, key_set
from protocols.ot.service import provision_cost, setup_cost
from protocols.pricing.operators import OF_ROUTING, OPERATORS, Operators, Row
from sim.cost import Cost
from sim.role import CLIENT, Role


@dataclass(frozen=True)
class PricedRow:
    """A row with its share, in bytes of both directions, of what makes the query's correlated OTs."""

    row: Row
    extension: int

    @property
    def nbytes(self) -> int:
        return self.row.cost.nbytes + self.extension


@dataclass(frozen=True)
class Group:
    """Rows of one operator, or of one layer, added up; rounds: as if one came after the other."""

    name: str
    rows: tuple[PricedRow, ...]

    def total(self, figure: Callable[[Cost], int]) -> int:
        """The sum of one figure of the rows' costs."""
        return sum(figure(row.row.cost) for row in self.rows)

    @property
    def extension(self) -> int:
        return sum(row.extension for row in self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of both directions, extension included."""
        return sum(row.nbytes for row in self.rows)


@dataclass(frozen=True)
class Priced:
    """A query of a model, priced."""

    operators: Operators

    @cached_property
    def pool(self) -> Cost:
        """What makes all correlated OTs of the query."""
        cost = self.operators.cost
        return provision_cost({_pool(role): _cots(cost, role) for role in Role})

    @cached_property
    def online(self) -> Cost:
        """The whole query."""
        return self.pool + self.operators.cost

    @cached_property
    def rows(self) -> tuple[PricedRow, ...]:
        """Their bytes add up to those of `online`."""
        rows = tuple(self.operators.rows)
        shares = [0] * len(rows)
        for role in Role:
            used = [_cots(row.cost, role) for row in rows]
            made = provision_cost({_pool(role): sum(used)}).nbytes
            shares = [a + b for a, b in zip(shares, _shared(made, used), strict=True)]
        return tuple(PricedRow(row, share) for row, share in zip(rows, shares, strict=True))

    @cached_property
    def by_operator(self) -> list[Group]:
        """In the order of OPERATORS."""
        return sorted(_groups(self.rows, lambda row: row.operator), key=lambda group: OPERATORS.index(group.name))

    @cached_property
    def by_layer(self) -> list[Group]:
        return _groups(self.rows, lambda row: row.layer)

    @property
    def routing_nbytes(self) -> int:
        """Of routers, top-k, probabilities and combination: the part that grows with the experts."""
        return sum(row.nbytes for row in self.rows if row.row.operator in OF_ROUTING)

    @cached_property
    def keys(self) -> tuple[KeySet, ...]:
        """Of homomorphic encryption, for each parameter set: sparse layers may have one of their own."""
        plans = self.operators.plans
        sets = dict.fromkeys(plan.params for plan in plans)
        return tuple(key_set(params, (plan for plan in plans if plan.params == params)) for params in sets)

    @property
    def keys_nbytes(self) -> int:
        return sum(keys.nbytes for keys in self.keys)

    @property
    def setup_nbytes(self) -> int:
        """Once per session: keys, base OTs, nonces."""
        return self.keys_nbytes + setup_cost().nbytes


def _pool(role: Role) -> str:
    return f"cot.{role.value}"


def _cots(cost: Cost, role: Role) -> int:
    return cost.cot_client if role is CLIENT else cost.cot_server


def _shared(total: int, parts: list[int]) -> list[int]:
    """A total in proportion to the parts, as whole numbers that add up to it."""
    whole, used, given, shares = sum(parts), 0, 0, []
    for part in parts:
        used += part
        until = total * used // whole if whole else 0
        shares.append(until - given)
        given = until
    return shares


def _groups(rows: Iterable[PricedRow], key: Callable[[Row], str]) -> list[Group]:
    found: dict[str, list[PricedRow]] = {}
    for row in rows:
        found.setdefault(key(row.row), []).append(row)
    return [Group(name, tuple(chosen)) for name, chosen in found.items()]
