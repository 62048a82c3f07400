"""Views: what is in them and what is not; a lane of a batched run is an ordinary run; blocks are pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.concrete import CONCRETE, from_words
from sim.ring import Ring, Spec
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape
from sim.world import Session
from tests.harness import services
from transcripts.batch import Batch
from transcripts.classes import FIRST, QUARTERS, RANDOM, SECOND, arguments, choose_classes, draw_inputs, generator
from transcripts.sampling import HYBRID, REAL, RunFailed, Sampler, is_batchable
from transcripts.targets import Target, UnknownProtocol, audited_roles, honest_secrets, targets
from transcripts.views import MOST_COLUMNS, Layout, Source, Views, bare, raw_view, tabulate, thinned

SAMPLES = [
    Target("mux", "8"),
    Target("drelu", "8"),
    Target("less_than", "8 bits, w = 2"),
    Target("truncate", "8 by 3"),
    Target("top_k", "E = 2, k = 1"),
    Target("linear", "8 to 5"),
    Target("select_product", "order R"),
    Target("correlate_ragged", "8, 7 and 6 bits"),
]


@pytest.mark.parametrize("target", SAMPLES, ids=str)
def test_a_lane_of_a_batched_run_is_an_ordinary_run_with_its_draws(target: Target) -> None:
    entry, case = target.resolve()
    role, lanes = SERVER, 3
    classes = choose_classes(entry, case, role, "lanes")
    inputs = draw_inputs(case, classes, [FIRST, SECOND, RANDOM], role, generator("lanes"))
    batch = Batch(lanes)
    wide = Session(services(case.plans, True), seed=b"lanes", backend=batch, hybrid=True)
    client, server, _ = arguments(
        case, inputs, batch.lift, lambda plan, w: batch.lift(Ring(plan.params.ring_bits), w), None
    )
    together = wide.run(entry.proto, client, server, **case.public)
    drawn = {(owner, bare(label)): words for owner, label, _, words in batch.draws}
    for lane in range(lanes):

        def draw(spec: Spec, tape: Tape, label: str, lane: int = lane) -> NDArray[Any]:
            return drawn[tape.owner, bare(label)][lane]

        session = Session(services(case.plans, True), seed=b"one", hybrid=True)
        engine: Any = session.services[-1]
        client, server, _ = arguments(case, inputs, from_words, getattr(engine, "prepare", None), lane)
        with patch.object(CONCRETE, "draw", draw):
            alone = session.run(entry.proto, client, server, **case.public)
        for party in Role:
            one = tabulate([raw_view(alone, party, [])], _layout(together, party, batch), party)
            assert np.array_equal(one.words[0], _views(together, party, batch).words[lane])
            assert one.kinds == _views(together, party, batch).kinds


def _views(execution: Any, party: Role, batch: Batch) -> Views:
    from transcripts.views import batch_views

    return batch_views(execution, party, [], batch)


def _layout(execution: Any, party: Role, batch: Batch) -> Any:
    return _views(execution, party, batch).layout


def test_a_view_has_the_partys_side_and_nothing_of_the_peers() -> None:
    views = Sampler(Target("mux", "64"), SERVER, HYBRID, "v").block(0, 8)[FIRST]
    kinds = {source.kind for source in views.layout.sources}
    assert {"input", "functionality", "output", "result"} <= kinds
    assert all(f[0] in ("sent", "received") for f in views.kinds[0])
    received = [s for s in views.layout.sources if s.kind == "received"]
    assert not received  # transfers are sealed in the hybrid world: what they deliver is the functionality's
    real = Sampler(Target("mux", "64"), SERVER, REAL, "v").block(0, 8)[FIRST]
    assert any(s.kind == "received" for s in real.layout.sources)


def test_the_server_does_not_see_into_ciphertexts_nor_into_its_own_responses() -> None:
    for role in Role:
        views = Sampler(Target("select_product", "order R"), role, HYBRID, "v").block(0, 8)[FIRST]
        seen = {(s.kind, s.label.split("/")[-1].split("#")[0]) for s in views.layout.sources}
        assert ("received", "ct") in seen if role is CLIENT else not {("received", "ct"), ("sent", "ct")} & seen
        assert ("result", "a2h") not in seen


@pytest.mark.slow
@pytest.mark.parametrize("model", [HYBRID, REAL])
def test_a_block_is_a_pure_function_of_its_seed_and_number(model: Any) -> None:
    sampler = Sampler(Target("b2a", "64"), CLIENT, model, "p")
    one, again, other = (sampler.block(number, 8) for number in (3, 3, 4))
    for name in QUARTERS:
        assert np.array_equal(one[name].words, again[name].words)
        assert not np.array_equal(one[name].words, other[name].words)
    fresh = Sampler(Target("b2a", "64"), CLIENT, model, "p", phase="confirm").block(3, 8)
    assert not np.array_equal(one[FIRST].words, fresh[FIRST].words)


def test_classes_differ_in_the_honest_secrets_and_in_nothing_else() -> None:
    for target in targets(None):
        entry, case = target.resolve()
        for role in audited_roles(case):
            classes = choose_classes(entry, case, role, "c")
            varied = honest_secrets(case, role)
            for i, (a, b) in enumerate(zip(classes.first, classes.second, strict=True)):
                assert np.array_equal(a, b) or i in varied
            assert any(not np.array_equal(classes.first[i], classes.second[i]) for i in varied)
            if entry.name in ("top_k", "select_then_compute", "moe_layer"):
                assert classes.routed or entry.name != "select_then_compute"


def test_values_obey_their_declared_range_and_joint_precondition() -> None:
    for name in ("exp", "reciprocal", "probabilities", "select_then_compute"):
        for target in targets(name):
            entry, case = target.resolve()
            classes = choose_classes(entry, case, CLIENT, "r")
            inputs = draw_inputs(case, classes, list(QUARTERS) * 8, CLIENT, generator("r"))
            for secret, values in zip(case.secrets, inputs.values, strict=True):
                low, high = secret.range
                assert (values.min() >= low and values.max() <= high) or case.adjust is not None
            if name == "probabilities":
                k = inputs.values[1].shape[-1]
                assert np.array_equal(inputs.values[1], -np.sort(-inputs.values[0], axis=-1)[..., :k])


def test_random_values_tie_and_vanish_often_enough() -> None:
    target = Target("top_k", "E = 5, k = 2")
    entry, case = target.resolve()
    classes = choose_classes(entry, case, CLIENT, "t")
    values = draw_inputs(case, classes, [RANDOM] * 200, CLIENT, generator("t")).values[0]
    tied = (values == values[:, :1, :1]).all((1, 2))
    assert 60 < tied.sum() < 140
    assert (values == 0).all((1, 2)).sum() > 8


def test_a_text_that_looks_at_words_is_run_one_by_one() -> None:
    (target,) = targets("broken.secret_count")
    assert not is_batchable(target)
    views = Sampler(target, SERVER, HYBRID, "s").block(0, 16)
    assert sum(len(v.kinds) for v in views.values()) > len(views)


def test_a_failing_run_names_seed_and_block() -> None:
    (target,) = targets("broken.branch_on_truth")
    with pytest.raises(RunFailed, match=r"block 2 of 8 runs, seed 'f': SecretControlFlow"):
        Sampler(target, SERVER, HYBRID, "f").block(2, 8)


@pytest.mark.parametrize("name", ["no_such", "broken.no_such", "hard.no_such", "tests.nowhere:X", "math:pi", "extend"])
def test_unknown_protocols_are_refused(name: str) -> None:
    with pytest.raises(UnknownProtocol, match=r"expected|no case"):
        targets(name)


def test_a_view_of_very_many_words_keeps_a_share_of_every_array() -> None:
    sizes = [1, 5, 64, 1000, 4096, 40_000, 3_000, 900, 20_000]
    sources = [Source("received", f"m{i}", 64, size) for i, size in enumerate(sizes * 40)]
    kept = thinned(sources)
    widths = [len(source.places) for source in kept]
    most = kept[0].most
    assert MOST_COLUMNS - len(sources) < sum(widths) <= MOST_COLUMNS
    assert widths == [min(size, most) for size in sizes * 40]
    for source in kept[:9]:
        places = source.places
        assert len(set(places.tolist())) == len(places) and places.min() >= 0 and places.max() < source.size
        assert np.array_equal(places, replace(source).places)  # of the array alone
    gaps = np.diff(kept[5].places)
    assert gaps.min() < gaps.mean() / 4 < 4 * gaps.mean() < gaps.max() * 2  # without a period
    assert Layout(kept).words == sum(sizes) * 40 and Layout(kept).width == sum(widths)
    assert thinned(sources[:4]) == sources[:4]
