"""The two parties by name."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """CLIENT holds the input and the decryption key, SERVER every weight."""

    CLIENT = "client"
    SERVER = "server"

    __hash__ = object.__hash__  # a member is one object; runs look it up all the time, which takes longer by name

    @property
    def peer(self) -> Role:
        return SERVER if self is CLIENT else CLIENT

    def __repr__(self) -> str:
        return self.name

    def __lt__(self, other: Role) -> bool:
        return self.value < other.value


CLIENT = Role.CLIENT
SERVER = Role.SERVER
