"""The catalog: every protocol with its functionality, example cases and honest status.

One row gives tests (property, cost, isolation), a price, and a line of `secmoe catalog`.
"""

from __future__ import annotations

from protocols.catalog.baselines import BASELINES, INTERFACES
from protocols.catalog.layers import HOMOMORPHIC
from protocols.catalog.models import MODELS
from protocols.catalog.norms import NORMS
from protocols.catalog.shares import SHARES
from protocols.catalog.transfers import OBLIVIOUS_TRANSFER
from protocols.entry import Entry

CATALOG: tuple[Entry, ...] = SHARES + NORMS + OBLIVIOUS_TRANSFER + HOMOMORPHIC + MODELS + BASELINES + INTERFACES
