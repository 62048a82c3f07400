"""Shared test helpers: give a catalog case concrete secrets, run it, and compare with its functionality."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from protocols.he.ideal import IdealHeService
from protocols.he.interface import Plan
from protocols.he.service import HeService
from protocols.ot.ideal import IdealOtService
from protocols.ot.service import OtService
from secmoe.examples import Example, Ints, adjusted, both, flatten, wrong
from secmoe.strategies import shares
from secmoe.strategies import values as words
from sim.world import Execution, Service, Session

__all__ = [
    "HEAVY",
    "NIGHTLY",
    "Ints",
    "adjusted",
    "agree",
    "flatten",
    "inputs",
    "leads",
    "nightly",
    "rows",
    "services",
    "session",
    "shares",
    "words",
]
# A run of these takes a second or more.
HEAVY = {
    "encoder",
    "block",
    "decoder_block",
    "moe_layer",
    "plaintext_routing",
    "evaluate_all",
    "evaluate_concatenated",
    "scatter",
    "cryptomoe",
    "select_then_compute",
    "probabilities",
    "softmax",
    "layer_norm",
    "rms_norm",
    "attention",
    "cross_attention",
}
# What these are made of has rows of its own, and tests/test_blocks.py, tests/test_evaluate_all.py and
# tests/test_rivals.py hold them against the oracle: their property, isolation and certificate are nightly work.
NIGHTLY = {"block", "decoder_block", "evaluate_all", "evaluate_concatenated", "scatter", "cryptomoe"}
# So are these cases: another case of the same protocol runs the same lines of text (in the same ring, or with the same
# sizes in another). What they cost is checked by `make test` all the same.
NIGHTLY_CASES = {
    ("exp", "32"),  # 34 into 64, and 64
    ("exp", "64 into 52"),  # 34 into 64
    ("reciprocal", "32, to 128"),  # 64, to 8
    ("piecewise", "gelu-published, mux"),  # gelu-published, cheapest; gelu-minimax, mux
    ("piecewise", "gelu-minimax, cheapest"),  # the same two
    ("top_k", "E = 8, k = 1"),  # E = 13: a tournament with byes, too
    ("probabilities", "E = 4, k = 2"),  # E = 4, k = 2, renormalised; E = 5, k = 1
    ("softmax", "64, 3 of them"),  # 64, causal
    ("softmax", "34 into 64, 2 of them"),  # 64, causal; exp: 34 into 64
    ("layer_norm", "32, 3 words"),  # 64, 4 words; rsqrt: 36
    ("rms_norm", "32, 3 words"),  # 64, 4 words
    ("attention", "two heads"),  # rotary, grouped: two heads, too; cross_attention: no mask, either
    ("encoder", "logits"),  # class
    ("plaintext_routing", "ReLU, top-2 renormalised"),  # the layer of moe_layer's second case
    ("moe_layer", "ReLU, top-1, compact uploads"),  # the first case; tests/test_he_select.py: such plans
}
# `make check` runs the first case of these; `make test` every case of every protocol.
QUICK = {"b2a", "drelu", "linear", "mul", "mux", "one_hot", "reveal", "truncate"}

TEST_BUDGET = 2.0**-16  # a test session answers far more often than one that is meant to protect weights


@cache
def services(plans: tuple[Plan, ...], ideal: bool = False) -> tuple[Service, ...]:
    """What a case needs: oblivious transfer, and the homomorphic layer for its plans; both ideal in a hybrid world."""
    transfer: Service = IdealOtService() if ideal else OtService()
    if not plans:
        return (transfer,)
    return transfer, IdealHeService(plans) if ideal else HeService(plans, TEST_BUDGET)


@cache
def session(plans: tuple[Plan, ...] = (), ideal: bool = False) -> Session:
    """One session per set of plans for a whole test process; randomness from the operating system."""
    return Session(services(plans, ideal), hybrid=ideal)


def inputs(
    case: Case, values: Sequence[Ints], masks: Sequence[NDArray[np.uint64]], ideal: bool = False
) -> tuple[list[Any], list[Any]]:
    """Both parties' positional arguments."""
    engine: Any = services(case.plans, ideal)[-1]
    return both(case, Example(tuple(values), tuple(masks)), getattr(engine, "prepare", None))


def agree(
    entry: Entry, case: Case, values: Sequence[Ints], masks: Sequence[NDArray[np.uint64]], ideal: bool = False
) -> Execution:
    """Run the case and assert that the reconstructed outputs equal the functionality, bit for bit."""
    client, server = inputs(case, values, masks, ideal)
    execution = session(case.plans, ideal).run(entry.proto, client, server, **case.public)
    problem = wrong(entry, case, Example(tuple(values), tuple(masks)), execution)
    assert problem is None, f"{entry.name}, {case.name}: {problem}"
    return execution


def nightly(entry: Entry, case: Case) -> bool:
    """Whether what this row shows is shown by others, in less time."""
    return entry.name in NIGHTLY or (entry.name, case.name) in NIGHTLY_CASES


def leads(entry: Entry, case: Case) -> bool:
    """Whether the case stands for its protocol in proofs of privacy and in views: the first that is not nightly, where
    a run takes seconds."""
    return entry.name not in HEAVY or case is next(c for c in entry.cases if (entry.name, c.name) not in NIGHTLY_CASES)


def row_marks(entry: Entry, case: Case, *, all_quick: bool = False) -> list[Any]:
    """Slow, but for the first case of a few protocols; nightly where a run takes seconds and the parts have rows."""
    if nightly(entry, case) and not all_quick:
        return [pytest.mark.nightly]
    return [] if all_quick or (entry.name in QUICK and case is entry.cases[0]) else [pytest.mark.slow]


def rows(*, all_quick: bool = False) -> list[Any]:
    """Every (entry, case) of the catalog as a pytest parameter."""
    return [
        pytest.param(entry, case, id=f"{entry.name}: {case.name}", marks=row_marks(entry, case, all_quick=all_quick))
        for entry in CATALOG
        for case in entry.cases
    ]
