"""Protocols that must not pass: planted faults, each a small mutation of an honest text that stays correct and leaks.

`FAULTS` is the one list that proofs and audits work through; `HARD` holds secure texts that look like leaks.
"""

from __future__ import annotations

from protocols.broken.control import CONTROL
from protocols.broken.fault import BELOW_THE_INTERFACE, BRANCH, LEAK, PUBLISHED, SCHEDULE, Fault
from protocols.broken.homomorphic import HOMOMORPHIC
from protocols.broken.masks import MASKS
from protocols.broken.openings import OPENINGS
from protocols.broken.secure import HARD as _HARD
from protocols.broken.transfers import TRANSFERS
from protocols.catalog import Entry

__all__ = ["BELOW_THE_INTERFACE", "BRANCH", "FAULTS", "HARD", "LEAK", "PUBLISHED", "SCHEDULE", "Fault"]

FAULTS: tuple[Fault, ...] = (*MASKS, *OPENINGS, *TRANSFERS, *HOMOMORPHIC, *CONTROL)
HARD: tuple[Entry, ...] = tuple(_HARD)
