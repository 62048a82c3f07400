"""`secmoe run` on whole models: keys, what is opened, reproducibility, and the kept run that comes out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secmoe.whole_run
from protocols.he.params import PARAM_SETS
from protocols.model.encoder import EncoderTrace, encoder
from protocols.model.store import load_model
from secmoe.cli import main
from secmoe.layer import LayerRun, UnreadableRun
from secmoe.whole import ModelRun, run_of
from sim.role import CLIENT, SERVER
from tests.test_evaluate import save_tiny
from transcripts.store import Transcript

TEXT = "win a prize now"
KEYS = [
    *("model", "protocol", "order", "layers", "tokens", "experts", "top_k", "ring_bits", "frac_bits", "params"),
    *("answer", "class", "probability", "logits", "exact_match", "plaintext_class", "agrees_with_plaintext"),
    *("max_error_ulp", "max_error_float", "route_agreement_float"),
    *("layers_cost", "operators_cost"),
    *("bytes", "messages", "rounds", "cpu_s", "lan_s", "wan_s", "epsilon_bits", "declared_leakage", "checked_by"),
    *("transcript", "transcript_digest", "seeded", "activation", "seal"),
]
SMS = ModelRun.of(load_model("sms").config, 7, "class", PARAM_SETS["P64s"], "gelu-minimax", "reassociated")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """Options for a model of one block, and the quickest set of the ring."""
    return ["--model", str(save_tiny(tmp_path)), "--params", "P64tiny"]


def run(capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> dict[str, Any]:
    assert main(["run", "--json", *options]) == status
    told = capsys.readouterr()
    assert told.err == ""
    found: dict[str, Any] = json.loads(told.out)
    return found


@pytest.mark.slow
def test_logits_are_the_oracles_and_nothing_else_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, TEXT, "--answer", "logits", "--record-private", "--out", "kept.secmoe")
    assert list(found) == KEYS
    assert (found["exact_match"], found["max_error_ulp"], found["agrees_with_plaintext"]) == (True, 0, True)
    assert found["class"] == found["plaintext_class"] == "ham" and found["max_error_float"] < 0.1
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-abs(np.subtract(*found["logits"])))))
    assert found["declared_leakage"] == {"client": ["the answer"], "server": []}
    assert found["epsilon_bits"] > 30 and found["bytes"]["online"] < 150e6
    with Transcript("kept.secmoe") as transcript:
        opened = [h for h in transcript.headers if "/reveal" in h.label]
        assert [(h.sender, h.nbytes) for h in opened] == [(SERVER, 16)]
        assert opened[0].label.endswith("encoder/reveal_to/share")
    assert main(["replay", "kept.secmoe"]) == 0
    assert "CONFIRMED" in capsys.readouterr().out
    assert main(["report", "kept.secmoe"]) == 1
    assert "no certificate; run: secmoe prove --run kept.secmoe" in capsys.readouterr().out
    layers, operators = found["layers_cost"], found["operators_cost"]
    assert [row["scope"].split("/")[-1] for row in layers] == [
        *("embed", "layer0", "layer1", "pool", "linear", "truncate", "reveal_to"),
    ]
    assert {row["scope"]: row["calls"] for row in operators} == {
        **{"embed": 1, "layer_norm": 5, "attention": 2, "moe_layer": 2, "cross_matmul": 1, "linear": 1, "truncate": 2},
        "reveal_to": 1,
    }
    for name in ("client_to_server", "server_to_client", "messages"):
        assert sum(row[name] for row in layers) == sum(row[name] for row in operators)
    assert operators[0]["scope"] == "moe_layer" and operators[0]["cpu_s"]["server"] > 0
    online = sum(row[name] for row in layers for name in ("client_to_server", "server_to_client"))
    assert 0.8 * found["bytes"]["online"] < online < found["bytes"]["online"]


@pytest.mark.slow
def test_padding_hides_the_length_and_changes_no_answer(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Two texts of different lengths have one shape of view; the answer is bit for bit that of the padded oracle."""
    found, views = [], []
    for text in ("w", "x y z"):
        found.append(run(capsys, text, *tiny, "--pad", "4"))
        with Transcript(found[-1]["transcript"]) as transcript:
            views.append([(h.label, h.depth, h.spec) for h in transcript.headers])
    assert views[0] == views[1]
    assert all(f["exact_match"] and f["tokens"] == 4 and f["logits"] is None for f in found)


@pytest.mark.slow
def test_an_image_and_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input", "0", "--seed", "3", "--network", "lan", "--params", "P64tiny"]
    assert main(["run", "--model", "digits", *words]) == 0
    told = capsys.readouterr().out
    for line in (
        "digits: 16 tokens, 2 layers, 4 heads, top-1 of 8 gated",
        "CLASS 8",
        "EXACT: the class equals the fixed-point oracle of the whole model",
        "the float model agrees",
        "the client learns by design (Mixture-of-Experts encoder): the answer",
        "the server learns by design (Mixture-of-Experts encoder): nothing beyond its shares",
        "layer1",
        "attention",
        "moe_layer",
        "by operator, over all layers:",
        "privacy NOT CHECKED at this commit and shape: no certificate; run: secmoe prove --run",
        "SEEDED",
    ):
        assert line in told
    assert "probability" not in told


@pytest.mark.slow
def test_a_wrong_answer_is_exit_1(
    tiny: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: against an oracle that is one ulp off in one logit, it does."""

    def off_by_one(*args: Any) -> EncoderTrace:
        trace = encoder(*args)
        return replace(trace, logits=trace.logits + np.array([0, 1], np.uint64))

    monkeypatch.setattr(secmoe.whole_run, "encoder", off_by_one)
    found = run(capsys, "x y", *tiny, "--answer", "logits", status=1)
    assert (found["exact_match"], found["max_error_ulp"]) == (False, 1)


def test_public_parameters_come_back() -> None:
    public = SMS.to_public()
    assert json.loads(json.dumps(public)) == json.loads(json.dumps(run_of(public).to_public()))
    assert run_of(public) == SMS
    for name, value in (("tokens", 0), ("layers", "2"), ("classes", True), ("model", 3), ("shape", None)):
        with pytest.raises(UnreadableRun, match="expected"):
            run_of({**public, name: value})
    for name in ("heads", "embedding", "params"):
        with pytest.raises(UnreadableRun, match=name):
            run_of({key: value for key, value in public.items() if key != name})


def test_a_layers_parameters_are_not_a_models() -> None:
    shape, params = SMS.shape, SMS.params
    layer = LayerRun("secmoe", "sms", 1, 7, shape, params, "gelu-minimax", "reassociated", "faithful")
    assert run_of(layer.to_public()) == layer


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--truncation", "one-ulp"], "expected --layer beside it"),
        (["--layer", "0", "--answer", "class"], "a layer has no answer"),
        (["--protocol", "plaintext-routing", "--answer", "class"], "a layer has no answer"),
        (["--answer", "words"], "invalid choice"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["run", "hi", *options]) == 2
    except SystemExit as end:
        assert end.code == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_the_client_gives_no_weights_and_the_server_no_tokens() -> None:
    """Inputs of a party that is elsewhere name nothing of it."""
    assert SMS.absent() == [None] * 4
    assert SMS.label(np.array([1, 1], np.uint64)) == 3
    assert replace(SMS, answer="logits").label(np.array([5, 2**64 - 1, 7], np.uint64)) == 2
    assert [role.value for role in (CLIENT, SERVER)] == ["client", "server"]
