"""The attack: its statistics against an independent library, its extractor against the true routes, its verdicts on
planted and on empty columns, and the whole of it on a model small enough to run here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import ModelConfig
from protocols.model.store import save_model
from transcripts import attack_runs
from transcripts.attack import (
    Question,
    Score,
    attack,
    fold_of,
    label_question,
    majority,
    public_only,
    token_question,
    transferred,
)
from transcripts.attack_runs import (
    Bench,
    Plan,
    Report,
    blocks,
    choose,
    confirmed,
    judged,
    pack,
    run,
    unpack,
    work,
)
from transcripts.campaign import Store
from transcripts.extraction import METADATA, Columns, Key, Table, columns
from transcripts.ordinary import HYBRID, REAL
from transcripts.subjects import Items, Name, Subject, items_of, model_of

CLASSES = ("dark", "bright")
CONFIG = ModelConfig(
    d=4, f=4, E=4, name="tiny", task="image", layers=1, heads=1, max_tokens=4, side=4, patch=2, classes=CLASSES
)
ITEMS = 120
ONE: Key = ("received", "layer/word", "bits")
TWO: Key = ("received", "layer/more", "bits")


# -- statistics --------------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.data())
def test_the_interval_is_wilsons(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    want = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert Score(right, n).interval == pytest.approx((want.low, want.high), abs=1e-9)


@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 2**32))
def test_the_design_effect_is_that_of_clusters(items: int, each: int, seed: int) -> None:
    """Rows of an item that agree are worth one; independent rows cost nothing."""
    answers = np.random.default_rng(seed).random(items) < 0.5
    answers[:2] = [True, False]
    score = Score.of(np.repeat(answers, each), np.repeat(np.arange(items), each))
    alone = Score.of(answers, np.arange(items))
    assert score.design == pytest.approx(each) and score.n == each * items
    assert alone.design == pytest.approx(1) and score.interval == pytest.approx(alone.interval)


def test_a_score_without_variance_has_no_design_effect() -> None:
    assert Score.of(np.ones(8, bool), np.arange(8) // 4) == Score(8, 8)


# -- learning ----------------------------------------------------------------------------------------------------


def question(truth: NDArray[Any], per_item: int = 1) -> Question:
    rows = np.repeat(np.arange(len(truth) // per_item), per_item)
    empty = np.zeros((len(truth), 0))
    return Question("label", rows, None, np.asarray(truth, np.int64), empty, empty)


def noise(rows: int, width: int, seed: int = 0) -> NDArray[np.int8]:
    return np.random.default_rng(seed).choice([-1, 1], (rows, width)).astype(np.int8)


@pytest.mark.slow
def test_a_leak_among_thousands_of_columns_is_found() -> None:
    truth = np.random.default_rng(1).integers(0, 4, 400)
    part = noise(400, 5000)
    part[:, 77], part[:, 4001] = 2 * (truth & 1) - 1, 2 * (truth >> 1) - 1
    found = attack({ONE: part}, question(truth), fold_of(400, "seed"))
    assert found.score.accuracy > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_columns_without_a_leak_are_worth_no_more_than_chance(seed: int) -> None:
    """Screening happens inside the training folds: thousands of columns that fit by chance do not help."""
    truth = np.random.default_rng(seed).integers(0, 10, 400)
    asked, fold = question(truth), fold_of(400, "seed")
    score = attack({ONE: noise(400, 5000, seed)}, asked, fold).score
    assert judged("secmoe", score, majority(asked)) == ("at chance", True)
    assert not judged("planted", score, majority(asked))[1]


def placed(told: bool) -> tuple[Question, NDArray[np.int8], NDArray[np.int64]]:
    """Tokens whose class goes with their place, and a bit that tells the rest, with another sign at each place."""
    rng = np.random.default_rng(4)
    place, odd = np.tile(np.arange(4), 250), rng.integers(0, 2, 1000)
    truth = np.where(place < 2, 0, 2) + odd
    part = noise(1000, 600, 5)
    part[:, 3] = 2 * (place < 2) - 1  # tells the place again
    if told:
        part[:, 9] = (2 * odd - 1) * np.where(place % 2, 1, -1)
    hot = (place[:, None] == np.arange(4)).astype(np.float64)
    return Question("token", np.repeat(np.arange(250), 4), place, truth, hot, hot), part, fold_of(250, "seed")


@pytest.mark.parametrize("told", [True, False])
def test_tokens_are_found_within_their_places_beyond_what_the_place_tells(told: bool) -> None:
    asked, part, fold = placed(told)
    control, score = public_only(asked, fold), attack({ONE: part}, asked, fold).score
    assert 0.4 < control.accuracy < 0.6 and judged("planted", score, control)[1] == told
    assert judged("secmoe", score, control)[1] != told and (not told or score.accuracy > 0.95)


def test_items_that_teach_never_judge() -> None:
    """Five rows per item with the item's own number in the columns: only a split by row could learn from that."""
    truth = np.repeat(np.random.default_rng(2).integers(0, 2, 100), 5)
    numbers = np.repeat(noise(100, 64), 5, axis=0)
    score = attack({ONE: numbers}, question(truth, 5), fold_of(100, "seed")).score
    assert score.accuracy < 0.65


def test_what_is_learnt_in_one_world_is_asked_in_another() -> None:
    rng = np.random.default_rng(3)
    truth, other = rng.integers(0, 2, 200), rng.integers(0, 2, 50)
    told, more = noise(200, 300), noise(50, 200, 9)
    told[:, 5], more[:, 5] = 2 * truth - 1, 2 * other - 1
    learnt = {ONE: told, ("draw", "mine", "bits"): np.stack([2 * truth - 1], 1).astype(np.int8)}
    found = transferred(learnt, question(truth), fold_of(200, "seed"), {ONE: more}, question(other))
    assert found.score == Score(50, 50) and found.used[0][0] == "received layer/word, bits"


def test_a_leaky_view_must_beat_the_control_beyond_both_intervals() -> None:
    control = Score(50, 500)
    assert judged("plaintext-routing", Score(400, 500), control) == ("beats chance", True)
    assert not judged("planted", Score(60, 500), control)[1]
    assert judged("secmoe", Score(60, 500), control) == ("at chance", True)
    assert not judged("secmoe", Score(100, 500), control)[1]
    assert judged("planted", Score(100, 500), control)[1] and not judged("planted", Score(100, 500, 9.0), control)[1]
    assert confirmed(Score(18, 20), Score(440, 500))[1] and not confirmed(Score(4, 20), Score(440, 500))[1]


# -- a model small enough ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four patches, dark or bright; a bright one takes another expert. The label is whether the first is."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(CONFIG)
    parameters = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    parameters |= {name: np.ones(shape) for name, shape in shapes.items() if name.endswith(".weight")}
    parameters["head.weight"] = np.zeros(shapes["head.weight"])
    parameters["embedding"] = np.outer(np.ones(4), [3.0, -3.0, 0.0, 0.0])
    parameters["position"] = np.tile([-6.0, 6.0, 1.0, -1.0], (4, 1)) / 2
    parameters["layers.0.attention.output"] = np.zeros((4, 4))
    parameters["layers.0.router"] = np.array([[1.0, -1, 0, 0], [-1.0, 1, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 0.1]])
    bright = rng.integers(0, 2, (ITEMS, 2, 2))
    images = np.kron(bright, np.ones((1, 2, 2))).reshape(ITEMS, 16) * 16
    labels = bright[:, 0, 0]
    held = HeldOut(images.astype(np.uint8), labels, np.zeros((2, 16)), np.zeros(2))
    folder = tmp_path_factory.mktemp("model")
    save_model(Model(CONFIG, parameters, None, held), folder)
    return str(folder / "tiny.safetensors")


def routes(name: str, items: Items, rows: range) -> NDArray[np.int8]:
    """The true routes as columns of +-1, from the float model: no router of it comes near a tie."""
    taken = [model_of(name).forward(items.tokens[row]).routes[0, :, 0] for row in rows]
    return np.stack([(2 * np.eye(CONFIG.E)[r] - 1).reshape(-1) for r in taken]).astype(np.int8)


def seen(name: Name, model: str, world: Any, count: int) -> Columns:
    items = items_of(model)
    views = Subject(name, model, 0, world, "s").seen(items.tokens[:count], "b")
    return unpack(pack([columns(view, 4) for view in views]))


@pytest.mark.parametrize(
    ("name", "where"),
    [
        pytest.param("plaintext-routing", {"plaintext_routing/experts/reveal#1"}, marks=pytest.mark.slow),
        ("planted", {"moe_layer_route_told/log#1"}),
        pytest.param("secmoe", set(), marks=pytest.mark.slow),
    ],
)
def test_the_extractor_holds_the_true_route_where_it_leaks_and_only_there(
    name: Name, where: set[str], tiny: str
) -> None:
    """What the server receives alone is uniform: the route is what it makes of that and of its own share."""
    found = seen(name, tiny, HYBRID, 8)
    want = routes(tiny, items_of(tiny), range(8))
    assert len(np.unique(want, axis=0)) > 4
    same = [key for key, part in found.parts.items() if part.shape == want.shape and np.array_equal(part, want)]
    assert {label for kind, label, _ in same if kind == "result"} == where
    assert bool(same) == bool(where) and not [key for key in same if key[0] == "received"]


@pytest.mark.parametrize(
    ("name", "leaks"),
    [
        pytest.param("plaintext-routing", True, marks=pytest.mark.slow),
        pytest.param("planted", True, marks=pytest.mark.nightly),
        pytest.param("secmoe", False, marks=pytest.mark.slow),
    ],
)
def test_real_runs_show_the_same_columns(name: Name, leaks: bool, tiny: str) -> None:
    found = seen(name, tiny, REAL, 3)
    want = routes(tiny, items_of(tiny), range(3))
    held = [key for key, part in found.parts.items() if part.shape == want.shape and np.array_equal(part, want)]
    assert bool(held) == leaks
    assert {key[0] for key in found.sizes} == {METADATA}


@pytest.mark.slow
def test_blocks_are_a_function_of_their_seed(tiny: str) -> None:
    (block, *_) = blocks(Subject("plaintext-routing", tiny, 0, HYBRID, "s"), items_of(tiny).lengths, np.arange(4))
    first, again = unpack(work(block)), unpack(work(block))
    other = unpack(work(replace(block, subject=replace(block.subject, seed="t"))))
    assert all(np.array_equal(first.parts[key], again.parts[key]) for key in first.parts)
    assert any(not np.array_equal(first.parts[key], other.parts[key]) for key in first.parts)


def test_runs_of_a_block_are_packed_key_by_key() -> None:
    """Two runs that hold their arrays in another order, and one of them a message that the other has not."""
    sizes = {(METADATA, "", ""): np.ones((1, 2), np.float32)}
    first = Columns({ONE: np.full((1, 3), 1, np.int8), TWO: np.full((1, 2), 2, np.int8)}, sizes, 1)
    more: Key = ("received", "layer/refill", "bits")
    other = Columns(
        {TWO: np.full((1, 2), 5, np.int8), more: np.full((1, 1), 6, np.int8), ONE: -first.parts[ONE]}, sizes, 1
    )
    found = unpack(pack([first, other]))
    assert found.tokens == 1 and found.sizes[METADATA, "", ""].tolist() == [[1, 1], [1, 1]]
    assert {key: part.tolist() for key, part in found.parts.items()} == {
        ONE: [[1, 1, 1], [-1, -1, -1]],
        TWO: [[2, 2], [5, 5]],
        more: [[0], [6]],
    }


def test_finished_blocks_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, ...]] = []

    def fake(block: attack_runs.Block) -> bytes:
        if block.items[0] == 25 and len(done) == 1:
            raise KeyboardInterrupt
        done.append(block.items)
        return b"content"

    monkeypatch.setattr(attack_runs, "work", fake)
    wanted = blocks(Subject("secmoe", "m", 0, HYBRID, "s"), np.full(60, 4), np.arange(60))
    assert [len(block.items) for block in wanted] == [25, 25, 10]
    with pytest.raises(KeyboardInterrupt):
        Bench(store=Store(tmp_path / "blocks")).compute(wanted)
    done.append(())  # the second attempt goes through
    told: list[tuple[int, int]] = []
    Bench(store=Store(tmp_path / "blocks"), told=lambda *at: told.append(at)).compute(wanted)
    assert [rows[0] for rows in done if rows] == [0, 25, 50] and told == [(2, 3), (3, 3)]


def test_runs_of_several_lengths_stand_token_under_token() -> None:
    def block(runs: int, tokens: int, value: int) -> Columns:
        return Columns(
            {ONE: np.full((runs, 2 * tokens), value, np.int8)},
            {(METADATA, "", ""): np.ones((runs, 2), np.float32)},
            tokens,
        )

    table = Table({(0, 2): block(2, 3, 5), (1,): block(1, 1, 7)}, 3)
    assert table.of_runs()[ONE].tolist() == [[5] * 6, [7, 7, 0, 0, 0, 0], [5] * 6]
    short = Columns({TWO: np.full((1, 2), 9, np.int8)}, {}, 1)
    table = Table(
        {(0, 2): block(2, 3, 5), (1,): replace(block(1, 1, 7), parts={**block(1, 1, 7).parts, **short.parts})}, 3
    )
    asked = table.of_tokens(np.array([0, 1, 2]), np.array([2, 0, 1]))
    assert asked.pop(TWO).tolist() == [[0, 0], [9, 9], [0, 0]]
    assert asked[ONE].tolist() == [[5, 5], [7, 7], [5, 5]] and list(asked) == [ONE]


def test_questions_split_by_item_and_ask_known_tokens_only() -> None:
    identities = (np.array([0, -1, 2]), np.array([-1]), np.array([1, 1]))
    tokens = tuple(np.zeros((len(i), 4)) for i in identities)
    items = Items(tokens, np.array([1, 0, 1]), np.array([True, True, False]), identities)
    assert items.of(np.array([2, 0])).unseen.tolist() == [False, True]
    asked = token_question(items, "s")
    assert asked.places is not None
    asked_of = sorted(zip(asked.rows.tolist(), asked.places.tolist(), strict=True))
    assert asked_of == [(0, 0), (0, 2), (2, 0), (2, 1)]
    assert label_question(items).truth.tolist() == [1, 0, 1]
    assert public_only(label_question(items), np.array([0, 1, 2])).n == 3


@pytest.fixture(scope="module")
def report(tiny: str) -> Iterator[Report]:
    yield run(Plan(tiny, 20, 20, 60, 2, "1"), Bench())


@pytest.mark.slow
def test_the_whole_attack_on_the_small_model(report: Report) -> None:
    rows = {(row.protocol, row.question, row.world): row for row in report.rows}
    assert len(rows) == 12
    for name in ("plaintext-routing", "planted"):
        assert rows[name, "label", HYBRID].holds and rows[name, "token", HYBRID].holds
    assert rows["secmoe", "label", HYBRID].holds and rows["secmoe", "token", HYBRID].holds
    assert report.constant["label"].accuracy < 0.75 and report.unseen == report.plan.runs == 60


def test_what_is_scored_chose_nothing_and_goes_by_the_seed() -> None:
    one, other = (Plan("digits", 120, 600, 480, 0, seed).scored() for seed in "12")
    assert one.min() >= 600 and len(set(one.tolist())) == 480 and one.max() < len(items_of("digits"))
    assert set(one.tolist()) != set(other.tolist())
    assert items_of("digits").unseen.sum() == 359 and not items_of("digits").unseen[359:].any()


def test_the_layer_that_tells_most_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layers the views of the second hold the label."""
    labels = items_of("digits").labels
    asked: set[int] = set()

    def fake(block: attack_runs.Block) -> bytes:
        asked.update(block.items)
        told = noise(len(block.items), 20, block.items[0])
        if block.subject.layer == 1:
            told[:, :10] = 2 * (labels[list(block.items), None] == np.arange(10)) - 1
        return pack([Columns({ONE: told}, {(METADATA, "", ""): np.ones((len(told), 2), np.float32)}, 16)])

    monkeypatch.setattr(attack_runs, "work", fake)
    choice = choose(Plan("digits", 80, 600, 480, 0, "1"), Bench())
    assert choice.layer == 1 and choice.scores[1].accuracy > 0.9 > choice.scores[0].accuracy + 0.5
    assert asked == set(range(80))
