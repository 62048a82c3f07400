"""The attack: its statistics against an independent library, its extractor against the true routes, its verdicts on
planted and on empty columns, and the whole of it on a model small enough to run here."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from protocols.model.architecture import HeldOut, Model, parameter_shapes
from protocols.model.config import ModelConfig
from protocols.model.store import save_model
from secmoe.cli import main
from transcripts import attack_runs
from transcripts.attack import (
    FOLDS,
    Answered,
    Moments,
    Question,
    Score,
    attack,
    best,
    fold_of,
    label_question,
    majority,
    public_only,
    token_question,
    transferred,
)
from transcripts.attack_plot import plot
from transcripts.attack_runs import Bench, Plan, Report, Row, blocks, confirmed, judged, pack, run, unpack, work
from transcripts.campaign import Store
from transcripts.extraction import METADATA, Columns, Key, Table, columns
from transcripts.ordinary import HYBRID, REAL
from transcripts.subjects import Items, Name, Subject, items_of, model_of

CLASSES = ("dark", "bright")
CONFIG = ModelConfig(
    d=4, f=4, E=4, name="tiny", task="image", layers=1, heads=1, max_tokens=4, side=4, patch=2, classes=CLASSES
)
ITEMS = 60
ONE: Key = ("received", "layer/word", "bits")
TWO: Key = ("received", "layer/more", "bits")


# -- statistics --------------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.data())
def test_the_interval_is_wilsons(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    want = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert Score(right, n).interval == pytest.approx((want.low, want.high), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(range(FOLDS)), min_size=2, max_size=FOLDS, unique=True))
def test_f_is_that_of_the_training_folds(seed: int, training: list[int]) -> None:
    rng = np.random.default_rng(seed)
    truth, fold = rng.integers(0, 3, 80), rng.permutation(80) % FOLDS
    small = rng.integers(-128, 128, (80, 3)).astype(np.int8)
    large = rng.normal(1e6, 2.0, (80, 2))
    found = Moments({ONE: small, (METADATA, "", ""): large}, truth, fold).f(training)
    kept = np.isin(fold, training)
    groups = [np.concatenate([small, large], axis=1)[kept & (truth == c)] for c in range(3)]
    want = stats.f_oneway(*groups).statistic
    assert np.concatenate([found[ONE], found[METADATA, "", ""]]) == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_constant_and_repeated_columns_are_not_chosen() -> None:
    truth = np.arange(40) % 2
    noise = np.random.default_rng(0).integers(-1, 2, 40)
    part = np.stack([np.full(40, 7), truth, truth, noise], axis=1).astype(np.int8)
    found = Moments({ONE: part}, truth, np.arange(40) % FOLDS).f(range(FOLDS))
    assert found[ONE][0] == 0
    assert best(found, {ONE: part}, np.ones(40, bool), 4) == [(ONE, 1), (ONE, 3)]


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
    assert judged("secmoe", "label", score, majority(asked)) == ("at chance", True)
    assert not judged("planted", "label", score, majority(asked))[1]


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
    assert judged("plaintext-routing", "label", Score(400, 500), control) == ("beats chance", True)
    assert not judged("planted", "label", Score(60, 500), control)[1]
    assert judged("secmoe", "label", Score(60, 500), control) == ("at chance", True)
    assert not judged("secmoe", "label", Score(100, 500), control)[1]
    assert not judged("secmoe", "token", Score(100, 500), control)[1]
    assert judged("planted", "token", Score(60, 500), control) == ("no claim", True)
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
    items = items_of(model, ITEMS)
    views = Subject(name, model, 0, world, "s").seen(items.tokens[:count], "b")
    return unpack(pack([columns(view, 4) for view in views]))


@pytest.mark.parametrize(
    ("name", "where"),
    [
        pytest.param("plaintext-routing", "plaintext_routing/experts/reveal/share", marks=pytest.mark.slow),
        ("planted", "moe_layer_route_told/log"),
        pytest.param("secmoe", "", marks=pytest.mark.slow),
    ],
)
def test_the_extractor_holds_the_true_route_where_it_leaks_and_only_there(name: Name, where: str, tiny: str) -> None:
    """In the planted leak no single array is the route: the message and the server's own share are, together."""
    found = seen(name, tiny, HYBRID, 8)
    want = routes(tiny, items_of(tiny, ITEMS), range(8))
    assert len(np.unique(want, axis=0)) > 4
    same = [key for key, part in found.parts.items() if part.shape == want.shape and np.array_equal(part, want)]
    assert any(kind == "sum" and label.startswith(where) for kind, label, _ in same) if where else not same
    if name == "planted":
        assert all(kind == "sum" for kind, _, _ in same)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "leaks"), [("plaintext-routing", True), ("planted", True), ("secmoe", False)])
def test_real_runs_show_the_same_columns(name: Name, leaks: bool, tiny: str) -> None:
    found = seen(name, tiny, REAL, 3)
    want = routes(tiny, items_of(tiny, ITEMS), range(3))
    held = [key for key, part in found.parts.items() if part.shape == want.shape and np.array_equal(part, want)]
    assert bool(held) == leaks
    assert {key[0] for key in found.sizes} == {METADATA}


@pytest.mark.slow
def test_blocks_are_a_function_of_their_seed(tiny: str) -> None:
    (block, *_) = blocks(Subject("plaintext-routing", tiny, 0, HYBRID, "s"), items_of(tiny, 4), 4, 4)
    first, again = unpack(work(block)), unpack(work(block))
    other = unpack(work(replace(block, subject=replace(block.subject, seed="t"))))
    assert all(np.array_equal(first.parts[key], again.parts[key]) for key in first.parts)
    assert any(not np.array_equal(first.parts[key], other.parts[key]) for key in first.parts)


def test_finished_blocks_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, ...]] = []

    def fake(block: attack_runs.Block) -> bytes:
        if block.rows[0] == 25 and len(done) == 1:
            raise KeyboardInterrupt
        done.append(block.rows)
        return b"content"

    monkeypatch.setattr(attack_runs, "work", fake)
    some = Items(tuple(np.zeros((4, 4)) for _ in range(60)), np.zeros(60, np.int64), 60, ())
    wanted = blocks(Subject("secmoe", "m", 0, HYBRID, "s"), some, 60, 60)
    assert [len(block.rows) for block in wanted] == [25, 25, 10]
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
    items = Items(tuple(np.zeros((len(i), 4)) for i in identities), np.array([1, 0, 1]), 3, identities)
    asked = token_question(items, "s")
    assert asked.places is not None
    asked_of = sorted(zip(asked.rows.tolist(), asked.places.tolist(), strict=True))
    assert asked_of == [(0, 0), (0, 2), (2, 0), (2, 1)]
    assert label_question(items).truth.tolist() == [1, 0, 1]
    assert public_only(label_question(items), np.array([0, 1, 2])).n == 3


@pytest.fixture(scope="module")
def report(tiny: str) -> Iterator[Report]:
    yield run(Plan(tiny, 0, ITEMS, 4, "1"), Bench())


@pytest.mark.slow
def test_the_whole_attack_on_the_small_model(report: Report) -> None:
    rows = {(row.protocol, row.question, row.world): row for row in report.rows}
    assert len(rows) == 12
    for name in ("plaintext-routing", "planted"):
        assert rows[name, "label", HYBRID].holds
    assert rows["secmoe", "label", HYBRID].holds and rows["secmoe", "token", HYBRID].holds
    assert report.constant["label"].accuracy < 0.7


# -- command and picture -----------------------------------------------------------------------------------------


def small_report(model: str = "digits") -> Report:
    leak, chance = Score(450, 500), Score(50, 500)
    rows = [
        Row(name, q, HYBRID, Answered(chance if name == "secmoe" else leak, (("sum a + b, bits", 4),)), "", True)
        for name in ("plaintext-routing", "secmoe", "planted")
        for q in ("label", "token")
    ]
    controls = {"label": chance, "token": chance}
    return Report(Plan(model, 1, 500, 0, "1"), 359, controls, dict(controls), tuple(rows))


@pytest.mark.parametrize("model", ["digits", '<script>alert("&")</script>'])
def test_the_plot_is_one_document_with_every_figure(model: str) -> None:
    root = ElementTree.fromstring(plot(small_report(model)))
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert len(titles) == 10 and sum("0.900" in title for title in titles) == 4
    assert model in (root.get("aria-label") or "") and not list(root.iter(f"{space}script"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs", "10"], "--runs: expected at least 40, got 10"),
        (["--runs", "1798"], "--runs: expected at most 1797"),
        (["--real", "301"], "--real: expected at most 300"),
        (["--plot", "picture.png"], "expected a file name that ends in .svg"),
        (["--plot", "/nowhere/at/all/a.svg"], "there is no folder"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize("holds", [True, False])
def test_the_exit_status_says_whether_it_came_as_claimed(
    holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = small_report()
    said = replace(said, rows=(replace(said.rows[0], holds=holds), *said.rows[1:]))
    monkeypatch.setattr("secmoe.attacking.run", lambda plan, bench: said)
    assert main(["attack", "--workers", "1", "--plot", str(tmp_path / "a.svg")]) == (0 if holds else 1)
    assert ("NOT AS CLAIMED" in capsys.readouterr().out) == (not holds) and (tmp_path / "a.svg").is_file()
    assert main(["attack", "--workers", "1", "--json"]) == (0 if holds else 1)
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] == holds and len(told["rows"]) == 6 and told["rows"][0]["model"] == HYBRID
