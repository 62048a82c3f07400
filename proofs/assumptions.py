"""What a verdict in the hybrid model rests on, with its source: nothing of it is proved here.

`computational` assumptions have no number of bits of their own; `statistical` ones are distances, and add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from protocols.he.service import DEFAULT_BUDGET

Kind = Literal["computational", "statistical", "modelling"]
OT, HE = "oblivious transfer", "homomorphic encryption"


@dataclass(frozen=True)
class Assumption:
    """where: the functionality whose replacement by a protocol needs it. source: a tag of the bibliography.

    distance: of a statistical one, per session.
    """

    name: str
    kind: Kind
    where: str
    source: str
    distance: float = 0.0


OF_OT = (
    Assumption("computational Diffie-Hellman on edwards25519's prime-order group", "computational", OT, "CO15"),
    Assumption("tweakable correlation robustness of fixed-key AES (ideal permutation)", "modelling", OT, "GKWY20"),
    Assumption("OT extension by SoftSpoken, semi-honest", "computational", OT, "Roy22"),
    Assumption("regular LPN with a local code, 131 bits (many OTs: Ferret)", "computational", OT, "Ferret"),
    Assumption("circular correlation robustness of fixed-key AES (ideal permutation)", "modelling", OT, "HalfTree"),
    Assumption("SHAKE as a random oracle (tapes, base OT keys)", "modelling", OT, "CO15"),
)
OF_HE = (
    Assumption("ring LWE, ternary secret, at the 128-bit caps of the standard", "computational", HE, "HES18"),
    Assumption("circular security of the evaluation keys", "computational", HE, "FV12"),
    Assumption("flooding of all responses of a session", "statistical", HE, "Cheetah", DEFAULT_BUDGET),
    Assumption("Gaussian heuristic of the noise bounds (8 standard deviations)", "modelling", HE, "KPZ21"),
)


def assumed(with_he: bool) -> tuple[Assumption, ...]:
    """The assumptions of a protocol that calls OT and, if `with_he`, homomorphic encryption."""
    return OF_OT + (OF_HE if with_he else ())


def total_bits(assumptions: Sequence[Assumption]) -> int | None:
    """x such that all statistical distances together are at most 2^-x; None where there is none."""
    total = sum(a.distance for a in assumptions)
    return math.floor(-math.log2(total)) if total else None
