"""The public names: what a protocol of your own needs, in one place.

Rings and arrays, parties and their declaration, the building blocks of the catalog, entries with example calls, and the
checks. Names listed in `__all__` are stable. Strategies for Hypothesis are in `secmoe.strategies`, tests in
`secmoe.pytest_plugin`.
"""

from __future__ import annotations

from proofs.contracts.words import below, floor_shift, non_negative, same, times
from protocols.boolean import conjoin
from protocols.catalog import CATALOG
from protocols.compare import drelu, greater_than, less_than
from protocols.convert import b2a, bit_times, mux, mux_public
from protocols.entry import DECLARED, PROVED, Case, Entry, Secret, declared_cost
from protocols.he.packing import LinearPlan, SelectPlan
from protocols.he.params import PARAM_SETS
from protocols.he.service import HeService
from protocols.linear import linear
from protocols.nonlinear import relu
from protocols.ot.chosen import bit_triples, choose, correlate
from protocols.ot.service import OtService
from protocols.products import cross, mul, square
from protocols.routing import one_hot, top_k
from protocols.select import select_product
from protocols.sharing import invert, own_share, plus, public_share, reveal
from protocols.truncate import truncate, truncate_bounded, truncate_known_sign
from secmoe.checking import Checked, check
from secmoe.checks.outcome import Outcome
from secmoe.costs import cost_table
from secmoe.declared import declaration
from sim.concrete import from_words, to_signed, to_words
from sim.cost import FREE, Cost, cots, message, sequence, swap, together
from sim.functionality import Functionality
from sim.network import LAN, WAN, Network
from sim.party import Party, ProtocolDecl, protocol
from sim.ring import Z2, Ring, RingArray, Shape, Spec, concat, stack
from sim.role import CLIENT, SERVER, Role
from sim.shapes import blank
from sim.world import Execution, Session
from transcripts.display import show

__all__ = [
    "CATALOG",
    "CLIENT",
    "DECLARED",
    "FREE",
    "LAN",
    "PARAM_SETS",
    "PROVED",
    "SERVER",
    "WAN",
    "Z2",
    "Case",
    "Checked",
    "Cost",
    "Entry",
    "Execution",
    "Functionality",
    "HeService",
    "LinearPlan",
    "Network",
    "OtService",
    "Outcome",
    "Party",
    "ProtocolDecl",
    "Ring",
    "RingArray",
    "Role",
    "Secret",
    "SelectPlan",
    "Session",
    "Shape",
    "Spec",
    "b2a",
    "below",
    "bit_times",
    "bit_triples",
    "blank",
    "check",
    "choose",
    "concat",
    "conjoin",
    "correlate",
    "cost_table",
    "cots",
    "cross",
    "declaration",
    "declared_cost",
    "drelu",
    "floor_shift",
    "from_words",
    "greater_than",
    "invert",
    "less_than",
    "linear",
    "message",
    "mul",
    "mux",
    "mux_public",
    "non_negative",
    "one_hot",
    "own_share",
    "plus",
    "protocol",
    "public_share",
    "relu",
    "reveal",
    "same",
    "select_product",
    "sequence",
    "show",
    "square",
    "stack",
    "swap",
    "times",
    "to_signed",
    "to_words",
    "together",
    "top_k",
    "truncate",
    "truncate_bounded",
    "truncate_known_sign",
]
