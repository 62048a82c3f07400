"""Protocols that must not pass: planted faults, each a small mutation of an honest text that stays correct and leaks.

`FAULTS` is the one list that proofs and audits work through; `HARD` holds secure texts that look like leaks. Faults of
kind REAL lie below the OT and HE interfaces: their texts are honest, and only the bytes of real runs tell.
"""

from __future__ import annotations

from protocols.broken.blocks import BLOCKS
from protocols.broken.control import CONTROL
from protocols.broken.correlations import CORRELATIONS
from protocols.broken.fault import BELOW_THE_INTERFACE, BRANCH, LEAK, PUBLISHED, REAL, SCHEDULE, Fault
from protocols.broken.homomorphic import HOMOMORPHIC
from protocols.broken.masks import MASKS
from protocols.broken.normalising import NORMALISING
from protocols.broken.openings import OPENINGS
from protocols.broken.parameters import PARAMETERS
from protocols.broken.responses import RESPONSES
from protocols.broken.routed import ROUTED
from protocols.broken.secure import HARD as _HARD
from protocols.broken.transfers import TRANSFERS
from protocols.broken.uploads import UPLOADS
from protocols.entry import Entry

__all__ = ["BELOW_THE_INTERFACE", "BRANCH", "FAULTS", "HARD", "LEAK", "PUBLISHED", "REAL", "SCHEDULE", "Fault"]

FAULTS: tuple[Fault, ...] = (
    *(*MASKS, *OPENINGS, *NORMALISING, *BLOCKS, *TRANSFERS, *HOMOMORPHIC, *CONTROL, *ROUTED),
    *(*RESPONSES, *UPLOADS, *CORRELATIONS, *PARAMETERS),
)
HARD: tuple[Entry, ...] = tuple(_HARD)
