"""Shared test helpers: give a catalog case concrete secrets, run it, and compare with its functionality."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.catalog import CATALOG
from protocols.entry import Case, Entry, Secret
from protocols.he.ideal import IdealHeService
from protocols.he.interface import Plan
from protocols.he.service import HeService
from protocols.ot.ideal import IdealOtService
from protocols.ot.service import OtService
from sim.concrete import from_words, to_signed, to_words
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.world import Execution, Service, Session

# A run of these takes a second or more.
HEAVY = {
    "encoder",
    "moe_layer",
    "plaintext_routing",
    "select_then_compute",
    "probabilities",
    "softmax",
    "layer_norm",
    "rms_norm",
}
# `make check` runs the first case of these; `make test` every case of every protocol.
QUICK = {"b2a", "drelu", "linear", "mul", "mux", "one_hot", "reveal", "truncate"}
Ints = NDArray[np.int64]


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


def words(secret: Secret) -> st.SearchStrategy[Ints]:
    """Signed values of a secret with the edge words of its declared range forced in."""
    low, high = secret.range
    edges = sorted({v for v in (low, low + 1, -1, 0, 1, high - 1, high) if low <= v <= high})
    element = st.one_of(st.sampled_from(edges), st.integers(low, high))
    size = int(np.prod(secret.shape))
    return st.lists(element, min_size=size, max_size=size).map(
        lambda vs: np.array(vs, dtype=np.int64).reshape(secret.shape)
    )


def shares(ring: Ring, shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[np.uint64]]:
    """The client's share of a secret: edge shares forced in."""
    edges = sorted({0, 1, ring.mask, ring.modulus >> 1, (ring.modulus >> 1) - 1})
    element = st.one_of(st.sampled_from(edges), st.integers(0, ring.mask))
    size = int(np.prod(shape))
    return st.lists(element, min_size=size, max_size=size).map(lambda vs: np.array(vs, dtype=np.uint64).reshape(shape))


def inputs(
    case: Case, values: Sequence[Ints], masks: Sequence[NDArray[np.uint64]], ideal: bool = False
) -> tuple[list[Any], list[Any]]:
    """Both parties' positional arguments."""
    client: list[Any] = []
    server: list[Any] = []
    for secret, value, mask in zip(case.secrets, values, masks, strict=True):
        if secret.weight:
            continue
        whole = from_words(secret.ring, value)
        if secret.owner is None:
            mine = from_words(secret.ring, mask)
            client.append(mine)
            server.append(whole - mine)
        else:
            client.append(whole if secret.owner is CLIENT else None)
            server.append(whole if secret.owner is SERVER else None)
    if case.arrange is not None:
        client, server = case.arrange(client), case.arrange(server)
    if case.prepare is not None:
        engine: Any = services(case.plans, ideal)[1]
        weights = [value for secret, value in zip(case.secrets, values, strict=True) if secret.weight]
        client.append(None)
        server.append(case.prepare(engine.prepare, weights))
    return [*case.leading, *client], [*case.leading, *server]


def adjusted(case: Case, values: Sequence[Ints]) -> Sequence[Ints]:
    """The values, made to satisfy the case's joint precondition."""
    return values if case.adjust is None else case.adjust(values)


def flatten(output: Any) -> list[Any]:
    """Arrays of a nested output, in order."""
    if isinstance(output, list | tuple):
        return [leaf for part in output for leaf in flatten(part)]
    return [] if output is None else [output]


def plain(x: RingArray) -> Ints:
    """Signed values, bits as 0 and 1: the form functionalities use."""
    return to_words(x).astype(np.int64) if x.ring.l == 1 else to_signed(x)


def opened(entry: Entry, case: Case, execution: Execution) -> list[RingArray]:
    """The reconstructed outputs of an execution."""
    ours, theirs = (flatten(execution.outputs[role]) for role in (CLIENT, SERVER))
    if entry.opened:
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(to_words(a), to_words(b))
        return ours
    if entry.difference:
        receiver: Role = case.leading[0]
        return [a - b if receiver is CLIENT else b - a for a, b in zip(ours, theirs, strict=True)]
    return [a + b for a, b in zip(ours, theirs, strict=True)]


def expected(entry: Entry, case: Case, values: Sequence[Ints], masks: Sequence[NDArray[np.uint64]]) -> list[Ints]:
    """The functionality's outputs."""
    args: list[Ints] = list(values)
    if entry.share_level:
        args = []
        for secret, value, mask in zip(case.secrets, values, masks, strict=True):
            mine = from_words(secret.ring, mask)
            args += [plain(mine), plain(from_words(secret.ring, value) - mine)]
    return [np.asarray(v) for v in flatten(entry.realises.compute(*args, **case.public))]


def agree(
    entry: Entry, case: Case, values: Sequence[Ints], masks: Sequence[NDArray[np.uint64]], ideal: bool = False
) -> Execution:
    """Run the case and assert that the reconstructed outputs equal the functionality, bit for bit."""
    client, server = inputs(case, values, masks, ideal)
    execution = session(case.plans, ideal).run(entry.proto, client, server, **case.public)
    got = opened(entry, case, execution)
    if entry.relation is not None:
        assert entry.relation([plain(x) for x in got]), f"{entry.name}, {case.name}"
        return execution
    want = expected(entry, case, values, masks)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert np.array_equal(to_words(a), to_words(from_words(a.ring, b))), f"{entry.name}, {case.name}"
    return execution


def row_marks(entry: Entry, case: Case, *, all_quick: bool = False) -> list[Any]:
    """Slow, but for the first case of a few protocols."""
    return [] if all_quick or (entry.name in QUICK and case is entry.cases[0]) else [pytest.mark.slow]


def rows(*, all_quick: bool = False) -> list[Any]:
    """Every (entry, case) of the catalog as a pytest parameter."""
    return [
        pytest.param(entry, case, id=f"{entry.name}: {case.name}", marks=row_marks(entry, case, all_quick=all_quick))
        for entry in CATALOG
        for case in entry.cases
    ]
