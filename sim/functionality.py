"""Ideal functionalities: what a protocol is supposed to compute, and all it is allowed to reveal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Functionality:
    """A cleartext function with its declared leakage.

    compute: the function on reconstructed (secret-free) inputs, in plain Python integers / numpy; it imports no
    protocol and no kernel. leaks_client, leaks_server: what each party learns beyond its own input and output shares,
    in words. `policy` is separate: a functionality whose leakage depends on the expert choice sets leaks_route.
    """

    name: str
    compute: Callable[..., Any]
    leaks_client: tuple[str, ...] = ()
    leaks_server: tuple[str, ...] = ()
    leaks_route: bool = False
