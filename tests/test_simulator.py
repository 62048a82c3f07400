"""Extracted simulators against real hybrid runs: labels, order, sizes, ranges; and exact laws where they are small."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from proofs.certificate import certificate, find, masking_of, ranges, rebuilt, restore, step_json, trace_case
from proofs.checker import Rejected
from proofs.private import prove_private
from proofs.simulator import MissingInput, Simulator
from proofs.symbolic import DRAW, INPUT, Dag, cone, evaluate
from protocols.boolean import conjoin
from protocols.broken import HARD
from protocols.broken.secure import BOUNDED
from protocols.catalog import CATALOG
from protocols.convert import b2a, mux
from protocols.entry import DECLARED, Case, Entry, Secret
from protocols.he.client import ClientKeys
from protocols.he.packing import key_set
from sim.concrete import from_words
from sim.party import ProtocolDecl
from sim.ring import Z2, Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape, derive_key, draw_nbytes, words_from_bytes
from sim.wire import AnySpec, Blob, decode
from sim.world import Execution, Session
from tests.harness import adjusted, inputs, leads, row_marks, services

QUICK = ("conjoin", "b2a", "mux", "mux_public", "one_hot", "choose", "correlate", "bit_triples", "linear", "relu")
ROWS = [
    pytest.param(entry, case, id=f"{entry.name}: {case.name}", marks=marks)
    for entry in CATALOG
    for case in entry.cases
    for marks in [() if entry.name in QUICK else row_marks(entry, case) if leads(entry, case) else pytest.mark.nightly]
    if entry.status != DECLARED
]
SEED = b"simulator test"
JOINTLY = (
    "disjoint_slices",
    "disjoint_fields",
    "odd_determinant",
    "odd_secret_factor",
    "spread_mask",
    "masks_in_secret_order",
)


def hybrid_run(entry: Entry, case: Case) -> tuple[Execution, dict[Role, dict[str, RingArray]]]:
    """A concrete hybrid run, and each party's own input arrays under the names of the trace."""
    rng = np.random.default_rng(1)
    values = adjusted(case, [rng.integers(*s.range, s.shape, endpoint=True) for s in case.secrets])
    masks = [rng.integers(0, s.ring.mask, s.shape, np.uint64, endpoint=True) for s in case.secrets]
    named: dict[Role, dict[str, RingArray]] = {role: {} for role in Role}
    for i, (secret, value, mask) in enumerate(zip(case.secrets, values, masks, strict=True)):
        whole_, mine = from_words(secret.ring, value), from_words(secret.ring, mask)
        for role in Role:
            share = (mine if role is CLIENT else whole_ - mine) if secret.owner is None else whole_
            named[role][f"{'w' if secret.weight else 'x'}{i}"] = share
    session = Session(services(case.plans, True), seed=SEED, hybrid=True)
    client, server = inputs(case, values, masks, ideal=True)
    return session.run(entry.proto, client, server, **case.public), named


def own_draws(simulator: Simulator, role: Role) -> dict[str, RingArray]:
    """The corrupted party's own tape, as in the run."""
    tape = Tape(derive_key(SEED, role.value), role.value)
    return {
        label: from_words(spec.ring, words_from_bytes(tape.bytes(label, draw_nbytes(spec.ring, spec.shape)), spec))
        for label, spec in simulator.own_draws.items()
    }


@pytest.mark.parametrize(("entry", "case"), ROWS)
def test_simulated_views_have_the_labels_order_sizes_and_ranges_of_a_run(entry: Entry, case: Case) -> None:
    execution, named = hybrid_run(entry, case)
    run = trace_case(entry, case)
    for role in Role:
        simulator = Simulator(certificate(entry, case, role, run))
        view = simulator.sample(named[role], own_draws(simulator, role), Tape(derive_key(None, "s"), "simulator"))
        messages = [entry_ for entry_ in view if entry_.is_message]
        real = execution.view(role)
        assert [(m.label, m.depth, m.spec) for m in messages] == [(m.label, m.depth, m.spec) for m in real]
        for ours, theirs in zip(messages, real, strict=True):
            sealed = isinstance(theirs.content, Blob) and theirs.content.sealed
            assert (ours.array is None) == sealed
            if ours.payload is not None:
                assert len(ours.payload) == theirs.nbytes
            if isinstance(theirs.content, RingArray):
                assert ours.payload is not None and ours.array is not None
                back = decode(ours.payload, theirs.content.spec)  # raises on anything outside the ring
                assert np.array_equal(back.value, ours.array.value)
        delivered = [x.spec for label, outputs in execution.ideals for x in arrays(outputs[role])]
        assert [e.spec for e in view if not e.is_message] == delivered
        assert all((e.array.value <= e.array.ring.mask).all() for e in view if e.array is not None)


def arrays(value: Any) -> list[RingArray]:
    if isinstance(value, RingArray):
        return [value]
    return [x for part in value for x in arrays(part)] if isinstance(value, list | tuple) else []


def test_the_simulator_has_no_input_of_its_peer() -> None:
    for name, case, role in (("mux", "8", "client"), ("linear", "8 to 5", "client"), ("drelu", "8", "server")):
        entry, found, party = find({"protocol": name, "case": case, "corrupted": role})
        document = certificate(entry, found, party)
        simulator = Simulator(document)
        owners = {node.owner for node in simulator._dag.nodes if node.op == INPUT}
        reached = {
            n.label
            for n in (
                simulator._dag.nodes[i]
                for i in cone(simulator._dag, [row[-1] for row in document["view"] if row[-1] is not None])
            )
            if n.op == INPUT
        }
        assert reached <= set(simulator.inputs) and owners
        honest = {name for owner, name, _, _ in document["claim"]["inputs"] if owner != role}
        own = {name for owner, name, _, _ in document["claim"]["inputs"] if owner == role}
        assert set(simulator.inputs) <= own and honest


def test_a_view_differs_between_samples_and_is_reproduced_by_its_tape() -> None:
    entry, case, role = find({"protocol": "mux", "case": "64", "corrupted": "client"})
    _, named = hybrid_run(entry, case)
    simulator = Simulator(certificate(entry, case, role))
    own = own_draws(simulator, role)

    def view(seed: bytes) -> list[bytes]:
        sampled = simulator.sample(named[role], own, Tape(derive_key(seed, "s"), "simulator"))
        return [e.payload if e.array is None else e.array.value.tobytes() for e in sampled]

    assert view(b"1") == view(b"1")
    assert all(a != b for a, b in zip(view(b"1"), view(b"2"), strict=True))


def test_errors() -> None:
    entry, case, role = find({"protocol": "conjoin", "case": "two groups", "corrupted": "client"})
    document = certificate(entry, case, role)
    simulator = Simulator(document)
    tape = Tape(derive_key(None, "s"), "simulator")
    simulator.inputs["x0"] = case.secrets[0].spec
    with pytest.raises(MissingInput, match="input 'x0' of the client: expected"):
        simulator.sample({}, {}, tape)
    with pytest.raises(Rejected):
        Simulator({**document, "steps": document["steps"][1:]})


Law = dict[tuple[int, ...], Fraction]


def law(dag: Dag, roots: list[int], values: dict[tuple[str, str], int]) -> Law:
    """The exact law of these nodes, leaves over Z_2: some (of one entry) given, the other draws uniform."""
    draws = [n for n in (dag.nodes[i] for i in cone(dag, roots)) if n.op == DRAW and n.params not in values]
    sizes = [math.prod(n.shape) for n in draws]
    found: Counter[tuple[int, ...]] = Counter()
    for words in itertools.product((0, 1), repeat=sum(sizes)):
        parts = np.split(np.array(words, dtype=np.uint64), np.cumsum(sizes)[:-1])
        given = {n.params: part.reshape(n.shape) for n, part in zip(draws, parts, strict=True)}
        out = evaluate(dag, roots, lambda n, given=given: given.get(n.params, np.full(n.shape, values.get(n.params))))
        found[tuple(int(word) for r in roots for word in out[r].reshape(-1))] += 1
    return {outcome: Fraction(count, 2 ** sum(sizes)) for outcome, count in found.items()}


BIT, BIT2 = Secret(Z2, (1,)), Secret(Z2, (1, 1))
TINY = [
    (b2a, Case("tiny", (BIT,), {"ring": Ring(2)})),
    (mux, Case("tiny", (BIT, BIT))),
    (conjoin, Case("tiny", (BIT, BIT2))),
]


@pytest.mark.parametrize(("proto", "case"), TINY, ids=[proto.name for proto, _ in TINY])
@pytest.mark.parametrize("role", list(Role))
def test_simulated_law_is_the_law_of_every_run(proto: ProtocolDecl[Any], case: Case, role: Role) -> None:
    """For every input of both parties and every own tape: the sampled view has exactly the law of the hybrid view."""
    document = certificate(Entry(proto, (case,)), case, role)
    dag, simulator = restore(document), Simulator(document)
    roots = [row[-1] for row in document["view"] if row[-1] is not None]
    inputs_ = [(owner, name) for owner, name, _, _ in document["claim"]["inputs"]]
    known = [*inputs_, *((role.value, label) for label in simulator.own_draws)]
    for words in itertools.product((0, 1), repeat=len(known)):
        values = dict(zip(known, words, strict=True))
        own = {key: word for key, word in values.items() if key[0] == role.value}
        assert law(simulator._dag, roots, own) == law(dag, roots, values)


def test_ciphertexts_at_the_server_are_encryptions_of_zero() -> None:
    entry, case, role = find({"protocol": "linear", "case": "8 to 5", "corrupted": "server"})
    (plan,) = case.plans
    layout, tape = plan.operand("x"), Tape(derive_key(None, "client"), "client")
    keys = ClientKeys.generate(key_set(plan.params, case.plans), tape.bytes)
    zero = np.zeros(layout.shape, dtype=np.uint64)

    def seal(label: str, spec: AnySpec) -> bytes:
        rows = spec.nbytes // layout.nbytes
        return b"".join(
            keys.encrypt(layout, zero, lambda word, n, i=i: tape.bytes(f"{label}/{i}/{word}", n)) for i in range(rows)
        )

    execution, named = hybrid_run(entry, case)
    (entry_,) = Simulator(certificate(entry, case, role)).sample(named[role], {}, tape, seal)
    (message,) = execution.view(role)
    assert entry_.label == message.label and entry_.array is None
    assert entry_.payload is not None and len(entry_.payload) == message.nbytes == layout.nbytes


@pytest.mark.parametrize("entry", BOUNDED, ids=lambda entry: entry.name)
def test_what_a_short_mask_hides_is_sampled_within_the_distance(entry: Entry) -> None:
    """The sampled word is the least secret minus a mask, each mask equally likely: the law at that secret."""
    case = entry.cases[-1]
    run = trace_case(entry, case)
    peeled = prove_private(run.dag, run.view(SERVER), SERVER, ranges(case), Fraction(1))
    body = rebuilt(entry, case, run, SERVER, masking_of(peeled.distance))
    place = {number: i for i, number in enumerate(cone(run.dag, [seen.node for seen in run.view(SERVER)]))}
    body["steps"] = [step_json(step, place) for step in peeled.steps]
    simulator = Simulator({**body, "digest": ""})
    assert not simulator.inputs
    found = Counter[int]()
    for i in range(400):
        (sampled,) = simulator.sample({}, {}, Tape(derive_key(bytes([i % 256, i // 256]), "s"), "simulator"))
        assert sampled.array is not None
        found[int(sampled.array.value[0])] += 1
    least = case.secrets[0].range[0]
    assert set(found) == {(least - mask) % 8 for mask in range(4)}
    assert min(found.values()) > 60


@pytest.mark.parametrize("entry", [e for e in HARD if e.name in JOINTLY], ids=lambda entry: entry.name)
def test_simulated_law_of_joint_steps_is_the_law_of_every_run(entry: Entry) -> None:
    case = entry.cases[-1]
    for role in Role:
        document = certificate(entry, case, role)
        dag, simulator = restore(document), Simulator(document)
        roots = [row[-1] for row in document["view"] if row[-1] is not None]
        assert not simulator.inputs
        inputs_ = [n for n in dag.nodes if n.op == INPUT]
        for words in itertools.product(*(range(n.ring.modulus) for n in inputs_)):
            values = {n.params: word for n, word in zip(inputs_, words, strict=True)}
            assert law_of_words(simulator._dag, roots, {}) == law_of_words(dag, roots, values)


def law_of_words(dag: Dag, roots: list[int], values: dict[tuple[Any, ...], int]) -> Law:
    """The exact law of these nodes, inputs of one entry given, the draws uniform."""
    draws = [n for n in (dag.nodes[i] for i in cone(dag, roots)) if n.op == DRAW]
    lists = [itertools.product(range(n.ring.modulus), repeat=math.prod(n.shape)) for n in draws]
    found: Counter[tuple[int, ...]] = Counter()
    for words in itertools.product(*lists):
        given = {n.params: np.array(w, dtype=np.uint64).reshape(n.shape) for n, w in zip(draws, words, strict=True)}
        out = evaluate(
            dag, roots, lambda n, given=given: given.get(n.params, np.full(n.shape, values.get(n.params, 0)))
        )
        found[tuple(int(word) for r in roots for word in out[r].reshape(-1))] += 1
    total = found.total()
    return {outcome: Fraction(count, total) for outcome, count in found.items()}
