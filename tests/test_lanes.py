"""Real runs side by side against ordinary ones: with one lane byte for byte the same, with several all right."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from secmoe.examples import Example, wrong
from sim.functionality import Functionality
from sim.party import Party, protocol
from sim.ring import Ring, RingArray
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape
from sim.wire import Blob, WireMismatch, encode
from sim.world import Execution, Session
from transcripts import sampling
from transcripts.classes import FIRST, QUARTERS, RANDOM, Inputs, arguments, choose_classes, draw_inputs, generator
from transcripts.lanes import FORMS, LaneEngine, Lanes, LaneWeights, by_lane, prepared
from transcripts.ordinary import REAL, runs, services_of
from transcripts.sampling import Sampler, lanes_of
from transcripts.targets import Target, targets
from transcripts.views import leaves

OT = [target for name in ("choose", "correlate_wide", "correlate_ragged", "conjoin") for target in targets(name)]
PRODUCT = Target("select_product", "order R")
EMBED = Target("embed", "one-hot")  # its weights have an addend
WHOLE = [target for name in ("attention", "cross_attention", "next_token", "encoder") for target in targets(name)]
ROUTED = Target("plaintext_routing", "gated GeLU, top-1")  # every lane chooses other weights
HEAVY = [Target("select_product", "order L"), *targets("select_then_compute"), ROUTED, *WHOLE]
QUICK = [*OT, *targets("matmul"), *targets("crossing"), Target("mul", "64"), PRODUCT, EMBED]
NIGHTLY = Target("encoder", "logits")  # the lines of the other answer, but for its opening
TARGETS = [
    *QUICK,
    *(pytest.param(t, marks=pytest.mark.nightly if t == NIGHTLY else pytest.mark.slow) for t in HEAVY),
]
CLASSES = [*QUARTERS, RANDOM]


def side_by_side(target: Target, names: list[str]) -> tuple[Inputs, Lanes, Execution]:
    """Runs of these classes, for a corrupted client."""
    entry, case = target.resolve()
    inputs = draw_inputs(case, choose_classes(entry, case, CLIENT, "lanes"), names, CLIENT, generator("lanes"))
    services, lanes = services_of(case.plans, REAL), Lanes(len(names))
    session = Session(services, seed=b"lanes")
    session.widen(lanes, len(names), FORMS)
    for endpoint in session.endpoints.values():
        if "he" in endpoint.states:
            endpoint.states["he"] = LaneEngine(endpoint.states["he"], lanes)
    client, server, _ = arguments(case, inputs, lanes.lift, partial(prepared, services[-1], lanes), None)
    return inputs, lanes, by_lane(session.run(entry.proto, client, server, **case.public), lanes)


def strings(execution: Execution, lanes: Lanes, lane: int) -> list[bytes]:
    """The bytes of one lane's messages."""
    each: list[bytes] = []
    for m in execution.messages:
        content: Any = m.content
        each.append(content.data[lane] if isinstance(content, Blob) else encode(lanes.split(content)[lane]))
    assert [len(data) for data in each] == [m.nbytes for m in execution.messages]
    return each


def outputs(execution: Execution, lanes: Lanes, lane: int) -> dict[Role, Any]:
    def of_lane(value: Any) -> Any:
        if isinstance(value, RingArray):
            return lanes.split(value)[lane]
        return [of_lane(part) for part in value] if isinstance(value, list | tuple) else value

    return {role: of_lane(value) for role, value in execution.outputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_one_lane_is_an_ordinary_run_byte_for_byte(target: Target) -> None:
    inputs, lanes, execution = side_by_side(target, [FIRST])
    (run,) = runs(*target.resolve(), inputs, b"lanes", REAL, CLIENT)
    alone = run.execution
    header = [(m.sender, m.label, m.depth, m.spec) for m in execution.messages]
    assert header == [(m.sender, m.label, m.depth, m.spec) for m in alone.messages]
    assert strings(execution, lanes, 0) == [m.payload for m in alone.messages]
    for role in Role:
        pairs = zip(leaves(outputs(execution, lanes, 0)[role]), leaves(alone.outputs[role]), strict=True)
        assert all(a.spec == b.spec and np.array_equal(a.value, b.value) for a, b in pairs)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_every_lane_is_right_and_has_randomness_of_its_own(target: Target) -> None:
    entry, case = target.resolve()
    inputs, lanes, execution = side_by_side(target, CLASSES)
    for lane in range(len(CLASSES)):
        of_lane = replace(execution, outputs=outputs(execution, lanes, lane))
        example = Example(*(tuple(x[lane] for x in part) for part in (inputs.values, inputs.masks)))
        assert wrong(entry, case, example, of_lane) is None
    assert bool(lanes.draws) == bool(case.plans)
    for _, label, spec, words in lanes.draws:
        if spec.bits >= 64:
            assert len(np.unique(words.reshape(len(CLASSES), -1), axis=0)) == len(CLASSES), label
    each = [strings(execution, lanes, lane) for lane in range(len(CLASSES))]
    for i, message in enumerate(execution.messages):
        if message.nbytes >= 16:
            assert len({row[i] for row in each}) == len(CLASSES), message.label


@pytest.mark.slow
@pytest.mark.parametrize("target", [PRODUCT, Target("mux", "64"), *OT[:1]], ids=str)
@pytest.mark.parametrize("role", Role)
def test_views_side_by_side_have_the_columns_of_ordinary_ones(
    target: Target, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = Sampler(target, role, REAL, "columns")
    wide = sampler.block(0, 8)
    monkeypatch.setattr(sampling, "is_batchable", lambda target: False)
    alone = sampler.block(0, 8)
    for name in QUARTERS:
        a, b = wide[name], alone[name]
        assert a.n == b.n and a.kinds == b.kinds and a.histograms.keys() == b.histograms.keys()
        drawn = [[s for s in v.layout.sources if s.kind != "draw"] for v in (a, b)]
        assert drawn[0] == drawn[1]
        own = [v.words[:, : v.layout.starts[sum(s.kind == "input" for s in v.layout.sources)]] for v in (a, b)]
        assert np.array_equal(own[0], own[1])  # the inputs are the same runs' inputs


def test_as_many_runs_go_side_by_side_as_their_messages_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lanes_of(PRODUCT) == sampling.LANES
    lanes_of.cache_clear()
    monkeypatch.setattr(sampling, "HELD", 3 << 20)
    few = lanes_of(PRODUCT)
    lanes_of.cache_clear()
    assert 1 <= few < sampling.LANES
    monkeypatch.setattr(sampling, "lanes_of", lambda target: 3)
    views = Sampler(Target("mux", "64"), SERVER, REAL, "odd").block(0, 8)
    assert sum(v.n for v in views.values()) == 8  # in groups of 3, 3 and 2


def test_a_lane_draws_its_own_part_of_what_is_drawn_once() -> None:
    lanes, tape = Lanes(3), Tape(bytes(32), "client")
    parts = [lanes.bytes(tape, "seed", 16, lane) for lane in range(3)]
    assert b"".join(parts) == Tape(bytes(32), "client").bytes("seed", 48)
    assert [tuple(row) for row in lanes.draws[0][3].tolist()] == [
        tuple(np.frombuffer(part, "<u8").tolist()) for part in parts
    ]
    odd = [lanes.bytes(tape, "odd", 3, lane) for lane in range(3)]
    assert [bytes(row) for row in lanes.draws[1][3].astype(np.uint8)] == odd


def test_equal_weights_are_prepared_once() -> None:
    class Counting:
        calls = 0

        def prepare(self, plan: Any, weights: Any) -> int:
            self.calls += 1
            return int(weights[0])

    service = Counting()
    found = prepared(service, Lanes(4), None, np.array([[1], [2], [1], [1]]))  # type: ignore[arg-type]  # no plan is looked at
    assert isinstance(found, LaneWeights)
    assert service.calls == 2 and found.groups == ((1, (0, 2, 3)), (2, (1,)))


def test_a_lane_chooses_among_its_own_weights() -> None:
    lanes = Lanes(3)
    weights = [LaneWeights((("a", (0, 2)), ("b", (1,)))), LaneWeights((("c", (0, 1, 2)),))]
    hot = np.eye(2, dtype=np.uint64)[[[0, 1], [0, 1], [1, 1]]]  # of each lane, the places that two rows name
    first, second = LaneEngine(None, lanes).choose(weights, lanes.join(Ring(1), (2, 2), hot))
    assert first.groups == (("a", (0,)), ("b", (1,)), ("c", (2,))) and second.groups == (("c", (0, 1, 2)),)


def test_ciphertexts_of_a_wrong_length_are_refused() -> None:
    class Short:
        def respond(self, *args: Any) -> bytes:
            return bytes(3)

    class Plan:
        response_nbytes = 4

    lanes = Lanes(2)

    async def answer(p: Party, x: RingArray) -> Any:
        return LaneEngine(Short(), lanes).respond(p, [[0, 0]], x, Plan())  # type: ignore[arg-type]  # its size alone

    declared = protocol(realises=Functionality("nothing", lambda x: x))(answer)
    x = lanes.lift(Ring(64), np.zeros((2, 1), np.int64))
    with pytest.raises(WireMismatch, match="expected 4 bytes in every lane, got 3"):
        Session(backend=lanes).run(declared, [x], [x])
