"""What is audited: a protocol on one of its cases, by name, so that a worker process can find it again."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from protocols.broken import FAULTS, HARD
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from sim.role import CLIENT, SERVER, Role

PLANTED, HARD_VARIANT = "broken.", "hard."


class UnknownProtocol(ValueError):
    """No protocol of this name can be audited."""


@dataclass(frozen=True)
class Target:
    """protocol: a catalog name, `broken.NAME`, `hard.NAME`, or `MODULE:ATTRIBUTE`, a `protocols.entry.Entry`."""

    protocol: str
    case: str

    def resolve(self) -> tuple[Entry, Case]:
        """The row and the case; raises UnknownProtocol."""
        for entry in _rows(self.protocol):
            for case in entry.cases:
                if case.name == self.case:
                    return entry, case
        raise UnknownProtocol(f"expected a case of {self.protocol}, got {self.case!r}")

    def __str__(self) -> str:
        return f"{self.protocol}: {self.case}"

    @property
    def shown(self) -> str:
        """As text for people: a row of another module by the name of its protocol."""
        return f"{self.resolve()[0].name}: {self.case}" if ":" in self.protocol else str(self)


def _rows(name: str) -> list[Entry]:
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            entry = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError, TypeError) as error:  # TypeError: a relative module
            raise UnknownProtocol(f"expected MODULE:ENTRY, got {name!r} ({error})") from error
        if not isinstance(entry, Entry):
            raise UnknownProtocol(f"{name}: expected a catalog row (protocols.entry.Entry), got {type(entry).__name__}")
        return [entry]
    if name.startswith(PLANTED):
        return [fault.entry for fault in FAULTS if fault.name == name.removeprefix(PLANTED)]
    if name.startswith(HARD_VARIANT):
        return [entry for entry in HARD if entry.name == name.removeprefix(HARD_VARIANT)]
    return [entry for entry in CATALOG if entry.name == name]


def targets(name: str | None) -> list[Target]:
    """Every case of a protocol, or of the whole catalog; raises UnknownProtocol where there is nothing to run.

    Of a planted fault its first case alone: the further ones are the same text, small enough to enumerate.
    """
    if name is None:
        return [Target(entry.name, case.name) for entry in CATALOG for case in entry.cases]
    rows = _rows(name)
    if not rows:
        known = ", ".join(sorted({entry.name for entry in CATALOG if entry.cases}))
        raise UnknownProtocol(f"expected broken.NAME or one of {known}, got {name!r}")
    found = [Target(name, case.name) for entry in rows for case in entry.cases]
    if not found:
        raise UnknownProtocol(
            f"{name}: this step has no case of its own (it puts out keys or ciphertexts); audit a protocol around it"
        )
    return found[:1] if name.startswith((PLANTED, HARD_VARIANT)) else found


def honest_secrets(case: Case, corrupted: Role) -> list[int]:
    """Indices of the secrets of which the corrupted party holds a share at most."""
    return [i for i, secret in enumerate(case.secrets) if secret.owner is not corrupted]


def audited_roles(case: Case) -> list[Role]:
    """The parties that could learn something: those whose peer has a secret in this case."""
    return [role for role in (CLIENT, SERVER) if honest_secrets(case, role)]
