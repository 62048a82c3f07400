"""The exact oracle: it computes what the concrete interpretation does, and every small row of the catalog passes it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.composed import CALLEES, Composed
from proofs.enumerate import Joint, TooManyLanes, arrays
from proofs.exhaustive import Exhaustive, digits
from proofs.runs import Runs
from proofs.tiny import COMPOSED, ENUMERATED, NOT_ENUMERATED
from protocols.broken import FAULTS, HARD, LEAK
from protocols.catalog import CATALOG
from protocols.compare import less_than
from protocols.entry import Case, Entry, Secret
from protocols.sharing import reveal
from protocols.truncate import ONE_ULP, truncate
from sim.concrete import CONCRETE
from sim.party import Party, protocol
from sim.ring import Z2, Ring, RingArray, Spec
from sim.role import CLIENT, SERVER, Role

ROWS = [pytest.param(entry, case, id=f"{entry.name}, {case.name}") for entry in ENUMERATED for case in entry.cases]
SMALL = [
    *((entry, case) for entry in ENUMERATED for case in entry.cases),
    *((fault.entry, fault.tiny) for fault in FAULTS if fault.kind == LEAK and fault.tiny is not None),
    *((entry, entry.cases[-1]) for entry in HARD),
]
CHECKED_BITS = 7


def test_every_row_of_the_catalog_is_enumerated_or_listed_with_a_reason() -> None:
    names = {entry.name for entry in CATALOG}
    enumerated = {entry.name for entry in ENUMERATED}
    assert enumerated | set(NOT_ENUMERATED) == names
    assert not enumerated & set(NOT_ENUMERATED)


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), ROWS)
def test_no_view_of_a_catalog_row_depends_on_the_peers_inputs(entry: Entry, case: Case) -> None:
    joint = Joint(entry.proto, case)
    for role in Role:
        law = joint.law(role)
        assert law.distance == (1 if entry.opened else 0), law.leak


@pytest.mark.slow
def test_lane_by_lane_and_run_by_run_give_one_distance() -> None:
    checked = 0
    for entry, case in SMALL:
        joint = Joint(entry.proto, case)
        if joint.bits <= CHECKED_BITS:
            runs = Runs(entry.proto, case)
            assert [joint.distance(role) for role in Role] == [runs.law(role).distance for role in Role], entry.name
            checked += 1
    assert checked > 30


COMPOSED_ROWS = [
    pytest.param(entry, case, id=f"{entry.name}, {case.name}") for entry in COMPOSED for case in entry.cases
]
SMALL_COMPOSED = [row for row in COMPOSED_ROWS if "E = 3" not in str(row.id) and "mul" not in str(row.id)]


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), COMPOSED_ROWS)
def test_no_view_around_functionalities_depends_on_the_peers_inputs(entry: Entry, case: Case) -> None:
    joint = Composed(entry.proto, case)
    assert [joint.distance(role) for role in Role] == [0, 0]


def test_callees_are_restored_and_enumerated_themselves() -> None:
    before = [proto.ideal for proto, _ in CALLEES]
    Composed(COMPOSED[0].proto, COMPOSED[0].cases[0])
    assert [proto.ideal for proto, _ in CALLEES] == before
    assert {proto.name for proto, _ in CALLEES} <= {entry.name for entry in ENUMERATED}


def test_a_leak_around_functionalities_is_seen() -> None:
    fault = next(f for f in FAULTS if f.name == "comparison_opened")
    assert fault.tiny is not None
    joint = Composed(fault.entry.proto, fault.tiny)
    assert [joint.distance(role) for role in Role] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), SMALL_COMPOSED)
def test_replaced_callees_compute_what_the_real_ones_do(entry: Entry, case: Case) -> None:
    """The reconstructed outputs of both worlds, as functions of the inputs."""
    outputs = []
    for joint in (Composed(entry.proto, case), Joint(entry.proto, case)):
        leaves = sorted(leaf for leaf in joint.leaves if leaf[0] == "input")
        inputs = np.stack([joint.lane >> joint.offsets[leaf] & (1 << joint.leaves[leaf].bits) - 1 for leaf in leaves])
        first, second = ([x.value for x in arrays(joint.execution.outputs[role])] for role in (CLIENT, SERVER))
        rings = [x.ring for x in arrays(joint.execution.outputs[CLIENT])]
        wholes = [a + b & np.uint8(ring.mask) for a, b, ring in zip(first, second, rings, strict=True)]
        _, at, back = np.unique(inputs, axis=1, return_index=True, return_inverse=True)
        assert all(
            np.array_equal(whole[..., at][..., back.reshape(-1)], whole) for whole in wholes
        )  # whatever the tapes
        outputs.append([whole[..., at] for whole in wholes])
    assert all(np.array_equal(a, b) for a, b in zip(*outputs, strict=True))


def test_a_witness_has_the_probabilities_it_states() -> None:
    case = Case("tiny", (Secret(Ring(2), (1,)),))
    leak = Joint(reveal, case).law(CLIENT).leak
    assert leak is not None
    (_, own), (_, other) = leak.own[0], leak.view[0]
    assert leak.probabilities == (1, 0)
    assert leak.secrets[0][0][1] == other and leak.secrets[1][0][1] != other
    assert len(own) == 1 and "has probability 1 if x0 = " in str(leak)


def test_partial_leaks_are_fractions() -> None:
    @protocol(realises=reveal.realises)
    async def biased(p: Party, x: RingArray | None, *, spec: Spec) -> RingArray:
        if x is None:
            got: RingArray = await p.recv("x", spec)
            return got
        r, s, t = (p.draw(word, spec.ring, spec.shape) for word in "rst")
        mask = r & s & t  # one with probability 1/8
        p.send("x", x ^ mask)
        return mask

    joint = Joint(biased, Case("bits", (Secret(Z2, (1,), CLIENT),), {"spec": Spec(Z2, (1,))}))
    assert joint.distance(SERVER) == Fraction(3, 4)
    assert joint.distance(CLIENT) == 0


def test_the_error_of_a_randomised_result_is_judged_jointly_with_the_view() -> None:
    """One-ulp truncation: a view tells nothing of the peer, but (view, error) does: the error is the shares' carry."""
    joint = Joint(truncate, Case("one-ulp", (Secret(Ring(3), (1,)),), {"f": 1, "mode": ONE_ULP, "w": 2}))
    shares = {role: digits(joint.lane, joint.offsets["input", role.value, "x0"], Spec(Ring(3), (1,))) for role in Role}
    whole = shares[CLIENT] + shares[SERVER] & np.uint8(7)
    floor = (((whole ^ 4) >> 1) + 6) & np.uint8(7)
    outputs = joint.execution.outputs
    result = outputs[CLIENT] + outputs[SERVER]
    error = RingArray(result.backend, Ring(3), (1,), result.value - floor & np.uint8(7))
    assert np.array_equal(error.value, -(shares[CLIENT] & shares[SERVER] & 1) & np.uint8(7))
    assert joint.distance(CLIENT) == 0
    assert joint.law(CLIENT, also=[error]).distance == 1


def test_too_many_lanes_are_refused() -> None:
    secrets = (Secret(Ring(30), (1,), CLIENT), Secret(Ring(30), (1, 1), SERVER))
    with pytest.raises(TooManyLanes, match="expected at most 22 bits"):
        Joint(less_than, Case("30", secrets, {"shape": (1,), "bits": 30}))


_RINGS = st.sampled_from([Z2, Ring(2), Ring(3), Ring(8), Ring(9), Ring(64)])
_TWO = ("add", "sub", "mul")


@settings(max_examples=60, deadline=None)
@given(ring=_RINGS, seed=st.integers(0, 2**32 - 1), op=st.sampled_from([*_TWO, "neg", "shl", "shr", "cast", "equals"]))
def test_every_lane_of_an_operation_is_the_concrete_operation(ring: Ring, seed: int, op: str) -> None:
    rng = np.random.default_rng(seed)
    shape, count = (2, 3), 5
    words = rng.integers(0, ring.mask, (2, *shape, count), np.uint64, endpoint=True)
    other, k = Ring(int(rng.integers(1, 65))), int(rng.integers(0, ring.l))

    def call(backend: CONCRETE.__class__ | Exhaustive, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if op in _TWO:
            return getattr(backend, op)(ring, a, b)
        if op in ("shl", "shr"):
            return getattr(backend, op)(ring, a, k)
        if op == "cast":
            return backend.cast(ring, other, a)
        return backend.equals(ring, a, k) if op == "equals" else backend.neg(ring, a)

    narrow = words.astype(np.uint8 if ring.l <= 8 else np.uint64)
    got = call(Exhaustive(), narrow[0], narrow[1])
    for lane in range(count):
        a, b = (CONCRETE.const(ring, shape, words[i, ..., lane]) for i in range(2))
        assert np.array_equal(got[..., lane], call(CONCRETE, a, b))


@settings(max_examples=30, deadline=None)
@given(ring=_RINGS, seed=st.integers(0, 2**32 - 1))
def test_every_lane_of_the_structure_is_the_concrete_structure(ring: Ring, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, ring.mask, (2, 3, 4, 5), np.uint64, endpoint=True)

    def text(backend: CONCRETE.__class__ | Exhaustive, a: np.ndarray) -> list[np.ndarray]:
        matrix = backend.index(a, (0,))
        return [
            backend.reshape(a, (4, 6)),
            backend.transpose(a, (2, 0, 1)),
            backend.index(a, (Ellipsis, slice(0, 2), 1)),
            backend.index(a, (slice(None), None, 2)),
            backend.index(a, slice(None, None, -1)),
            backend.broadcast(backend.index(a, (slice(0, 1),)), (5, 3, 4)),
            backend.concat([a, backend.const(ring, (2, 1, 4), np.uint64(1))], 1),
            backend.sum(ring, a, 1),
            backend.matmul(ring, matrix, backend.transpose(matrix, (1, 0))),
        ]

    got = text(Exhaustive(), words.astype(np.uint8 if ring.l <= 8 else np.uint64))
    for lane in range(5):
        want = text(CONCRETE, CONCRETE.const(ring, (2, 3, 4), words[..., lane]))
        for a, b in zip(got, want, strict=True):
            assert np.array_equal(np.broadcast_to(a, (*a.shape[:-1], 5))[..., lane], b)
