"""Translation validation: the array DAG of a protocol, evaluated on the tapes of a concrete run, is that run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from proofs.certificate import trace_case
from proofs.exhaustive import Exhaustive
from proofs.symbolic import DRAW, INPUT, Dag, Node, evaluate
from proofs.trace import Trace, arrays
from protocols.catalog import CATALOG
from protocols.entry import Case, Entry
from sim.concrete import from_words
from sim.ring import Ring, RingArray, Spec, concat
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape, derive_key, draw_nbytes, words_from_bytes
from sim.wire import Blob
from sim.world import FUNCTIONALITY, Execution, Session
from tests.harness import HEAVY, adjusted, inputs, leads, row_marks, services

SEED = b"translation validation"
Words = NDArray[Any]
ROWS = [
    pytest.param(entry, case, id=f"{entry.name}: {case.name}", marks=marks)
    for entry in CATALOG
    for case in entry.cases
    for heavy in [row_marks(entry, case) if leads(entry, case) else pytest.mark.nightly]
    for marks in [heavy if entry.name in HEAVY else []]
    if entry.has_theorem
]


def content(value: Any) -> RingArray | None:
    """What a message carries in the hybrid world, sealed or not."""
    held = value.data if isinstance(value, Blob) else value
    return held if isinstance(held, RingArray) else None


def concrete_run(entry: Entry, case: Case) -> tuple[Execution, dict[tuple[str, str], Words]]:
    """A hybrid run on random secrets and shares, and the words of every input leaf of the DAG."""
    rng = np.random.default_rng(17)
    values = [rng.integers(*s.range, s.shape, np.int64, endpoint=True) for s in case.secrets]
    values = list(adjusted(case, values))
    masks = [rng.integers(0, s.ring.mask, s.shape, np.uint64, endpoint=True) for s in case.secrets]
    session = Session(services(case.plans, ideal=True), seed=SEED, hybrid=True)
    execution = session.run(entry.proto, *inputs(case, values, masks, ideal=True), **case.public)
    leaves: dict[tuple[str, str], Words] = {}
    for i, (secret, value, mask) in enumerate(zip(case.secrets, values, masks, strict=True)):
        whole, mine = from_words(secret.ring, value), from_words(secret.ring, mask)
        if secret.weight:
            leaves[SERVER.value, f"w{i}"] = whole.value
        for role, share in ((CLIENT, mine), (SERVER, whole - mine)):
            leaves[role.value, f"x{i}"] = share.value if secret.owner is None else whole.value
    return execution, leaves


def values_of(run: Trace, roots: list[int], leaves: dict[tuple[str, str], Words]) -> dict[int, Words]:
    """The DAG on these inputs, and on the tapes of the seed: a draw's label gives its words again."""
    tapes = {owner: Tape(derive_key(SEED, owner), owner) for owner in (CLIENT.value, SERVER.value, FUNCTIONALITY)}

    def leaf(node: Node) -> Words:
        if node.op == INPUT:
            return leaves[node.owner, node.label]
        drawn = tapes[node.owner].bytes(node.label, draw_nbytes(node.ring, node.shape))
        return words_from_bytes(drawn, Spec(node.ring, node.shape))

    return evaluate(run.dag, roots, leaf)


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "case"), ROWS)
def test_the_dag_is_the_run(entry: Entry, case: Case) -> None:
    """Every message, ciphertext content, functionality output and protocol output, bit for bit."""
    execution, leaves = concrete_run(entry, case)
    run = trace_case(entry, case)
    pairs: list[tuple[RingArray, RingArray]] = []
    assert len(run.execution.messages) == len(execution.messages)
    for ours, theirs in zip(run.execution.messages, execution.messages, strict=True):
        assert (ours.order, ours.scope, ours.spec) == (theirs.order, theirs.scope, theirs.spec)
        symbol, words = content(ours.content), content(theirs.content)
        assert (symbol is None) == (words is None)
        if symbol is not None and words is not None:
            pairs.append((symbol, words))
    assert [label for label, _ in run.execution.ideals] == [label for label, _ in execution.ideals]
    for (_, symbols), (_, outputs) in zip(run.execution.ideals, execution.ideals, strict=True):
        pairs += [pair for role in Role for pair in zip(arrays(symbols[role]), arrays(outputs[role]), strict=True)]
    for role in Role:
        symbols, words_ = arrays(run.execution.outputs[role]), arrays(execution.outputs[role])
        assert [x.value for x in symbols] == run.outputs[role]
        pairs += zip(symbols, words_, strict=True)
    assert pairs
    computed = values_of(run, [x.value for x, _ in pairs], leaves)
    for symbol, words in pairs:
        assert symbol.spec == words.spec
        assert np.array_equal(computed[symbol.value], words.value)


def test_a_dag_with_another_operation_is_not_the_run() -> None:
    """The comparison above sees one wrong node."""
    entry = next(e for e in CATALOG if e.name == "mux")
    case = entry.cases[1]
    execution, leaves = concrete_run(entry, case)
    run = trace_case(entry, case)
    (root,) = run.outputs[CLIENT]
    (words,) = arrays(execution.outputs[CLIENT])
    assert np.array_equal(values_of(run, [root], leaves)[root], words.value)
    node = run.dag.nodes[root]
    assert node.op == "add"
    run.dag.nodes[root] = node._replace(op="sub")
    assert not np.array_equal(values_of(run, [root], leaves)[root], words.value)


def program(x: RingArray, y: RingArray) -> list[RingArray]:
    """Every operation of the closed set."""
    bits = x.bit(2)
    return [
        x + y, x - y, x * y, -x, x @ y.transpose(), x << 3, x >> 2, x.cast(Ring(7)), x.cast(Ring(40)), x.equals(5),
        x.reshape(6), x.transpose(), x[1], x[..., 0], x[:, ::2], x[None, 1:], concat(x, y, axis=1), x.sum(0),
        bits ^ y.bit(0), bits & y.bit(1), ~bits, bits.sum(1), x[0:1].broadcast(4, 3), x + 5,
        x * x.const([1, 2, 3], x.shape),
    ]  # fmt: skip


@pytest.mark.parametrize("l", [4, 8, 9, 64])
def test_lanes_compute_what_single_runs_do(l: int) -> None:
    """One evaluation with a hidden axis of lanes, against as many without."""
    dag = Dag()
    x, y = (dag.leaf("client", name, Spec(Ring(l), (2, 3))) for name in "xy")
    roots = [out.value for out in program(x, y)]
    rng = np.random.default_rng(l)
    words = {name: rng.integers(0, x.ring.mask, (2, 3, 5), np.uint64, endpoint=True) for name in "xy"}
    narrow = np.uint8 if x.ring.l <= 8 else np.uint64
    lanes = evaluate(dag, roots, lambda node: words[node.label].astype(narrow), Exhaustive())
    for lane in range(5):
        single = evaluate(dag, roots, lambda node, lane=lane: words[node.label][..., lane])
        for root in roots:
            wide = np.broadcast_to(lanes[root], (*single[root].shape, 5))
            assert np.array_equal(wide[..., lane], single[root]), dag.nodes[root].op


def test_a_node_is_made_once_and_knows_its_line() -> None:
    dag = Dag()
    x = dag.leaf("client", "x", Spec(Ring(8), (2,)))
    a, b = x + 1, x + 1
    assert a.value == b.value and len(dag.nodes) == 3
    assert dag.nodes[a.value].line.startswith("tests.test_symbolic:")
    assert [dag.nodes[n].label for n in range(3)] == ["x", "", ""]
    with pytest.raises(ValueError, match="was made twice"):
        for _ in range(2):
            dag.draw(Spec(Ring(8), (2,)), Tape(bytes(32), "client"), "r")
    assert dag.nodes[-1].op == DRAW
