"""`secmoe run --layer I` on shipped models: keys, verdicts, reproducibility, and the kept run that comes out of it."""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import secmoe.run
from protocols.model.oracle import LayerTrace, sparse_moe_layer
from secmoe.cli import main
from secmoe.layer_protocols import PROTOCOLS
from secmoe.progress import Blocks, Progress
from sim.message import Message
from sim.role import CLIENT, SERVER, Role
from sim.wire import BlobSpec
from sim.world import Execution
from transcripts.private import private_path, read_private
from transcripts.record import Recorder
from transcripts.store import Transcript

TEXT = "Free entry in a weekly competition, text WIN now"
KEYS = [
    *("model", "protocol", "order", "layer", "tokens", "experts", "top_k", "ring_bits", "frac_bits", "params"),
    *("truncation", "exact_match", "within_bound", "max_error_ulp", "max_error_float", "route_agreement_float"),
    *("bytes", "messages", "rounds", "cpu_s", "lan_s", "wan_s", "epsilon_bits", "declared_leakage", "checked_by"),
    *("transcript", "transcript_digest", "seeded", "activation", "seal"),
]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *options: str, status: int = 0) -> dict[str, Any]:
    """Of layer 0 and at the quickest set of the ring, unless the options say otherwise."""
    usual = {"--layer": "0", "--params": "P64tiny"}
    more = [word for name, value in usual.items() if name not in options for word in (name, value)]
    assert main(["run", "--json", *more, *options]) == status
    told = capsys.readouterr()
    assert told.err == ""
    found: dict[str, Any] = json.loads(told.out)
    return found


@pytest.mark.slow
def test_json_keys_and_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", TEXT, "--layer", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == KEYS
    assert (found["exact_match"], found["within_bound"], found["max_error_ulp"]) == (True, True, 0)
    assert found["max_error_float"] < 0.05
    assert (found["model"], found["tokens"], found["experts"], found["top_k"]) == ("sms", 9, 8, 1)
    assert found["params"] == "P64s"
    assert (found["seeded"], found["activation"]) == (False, "gelu-minimax")
    with Transcript(found["transcript"]) as transcript:
        assert (found["seal"], found["transcript_digest"]) == (transcript.seal.hex(), transcript.chain.hex())
        assert "insecure_test" not in transcript.public["params"]
    traffic = found["bytes"]
    assert list(traffic) == ["client_to_server", "server_to_client", "setup", "online"]
    assert traffic["client_to_server"] + traffic["server_to_client"] == traffic["setup"] + traffic["online"]
    leaks = PROTOCOLS["secmoe"].text.realises
    assert found["declared_leakage"] == {"client": list(leaks.leaks_client), "server": list(leaks.leaks_server)}
    assert found["epsilon_bits"] > 30 and found["checked_by"] == []
    assert found["wan_s"] > found["lan_s"] > 0
    with Transcript(found["transcript"]) as transcript:
        assert transcript.chain.hex() == found["transcript_digest"]
        assert len(transcript.headers) == found["messages"]
        assert sum(h.nbytes for h in transcript.headers) == traffic["setup"] + traffic["online"]
        assert sum(h.nbytes for h in transcript.phase("setup")) == traffic["setup"]
        assert not transcript.seeded
        depths = {phase.name: max(h.depth for h in transcript.phase(phase.name)) for phase in transcript.phases}
        assert sum(depths.values()) == found["rounds"]
    assert [p.name for p in Path("runs").iterdir()] == [Path(found["transcript"]).name]


@pytest.mark.slow
def test_a_seed_fixes_the_digest_and_keeps_the_private_sides(capsys: pytest.CaptureFixture[str]) -> None:
    digests = [run(capsys, "hi", "--seed", seed, "--out", f"{i}.secmoe") for i, seed in enumerate("778")]
    fresh = [run(capsys, "hi", "--out", f"{i}.secmoe") for i in (3, 4)]
    seeded, again, other, *free = (found["transcript_digest"] for found in [*digests, *fresh])
    assert seeded == again
    assert len({seeded, other, *free}) == 4
    names = sorted(p.name for p in Path().iterdir())
    assert names == [
        *(f"{i}.{end}" for i in range(3) for end in ("client", "secmoe", "server")),
        "3.secmoe",
        "4.secmoe",
    ]
    assert all(stat.S_IMODE(Path(f"0.{end}").stat().st_mode) == 0o600 for end in ("client", "server"))


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--truncation", "one-ulp"], ["--order", "literal"], ["--gelu", "published"]])
def test_options_that_change_the_protocol(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    found = run(capsys, "see you at five", *options, "--layer", "1")
    assert found["within_bound"] and found["layer"] == 1
    assert found["exact_match"] is (None if "one-ulp" in options else True)


@pytest.mark.slow
def test_the_table_changes_the_error_against_float(capsys: pytest.CaptureFixture[str]) -> None:
    ours, published = (run(capsys, "see you at five", "--gelu", table) for table in ("minimax", "published"))
    assert ours["exact_match"] and published["exact_match"]
    assert ours["max_error_float"] != published["max_error_float"]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "params"), [("sms", "P32"), ("digits", "P32tiny")])
def test_other_parameter_sets(capsys: pytest.CaptureFixture[str], model: str, params: str) -> None:
    found = run(capsys, "--model", model, "--input", "0", "--params", params)
    assert found["exact_match"] and found["params"] == params
    assert found["ring_bits"] == int(params[1:3])


@pytest.mark.slow
def test_padding_hides_the_length(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = (run(capsys, text, "--pad", "8") for text in ("hi", "see you at five then ok"))
    assert short["tokens"] == long["tokens"] == 8
    assert short["exact_match"] and long["exact_match"]
    assert [short[key] for key in ("bytes", "messages", "rounds")] == [
        long[key] for key in ("bytes", "messages", "rounds")
    ]
    views = []
    for found in (short, long):
        with Transcript(found["transcript"]) as transcript:
            views.append([(h.label, h.depth, h.spec) for h in transcript.headers])
    assert views[0] == views[1]


@pytest.mark.slow
def test_files_as_input(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    assert run(capsys, "--input", "text.txt")["tokens"] == 9
    image = np.random.default_rng(1).integers(0, 17, (8, 8))
    np.save("image.npy", image)
    np.savetxt("image.txt", image, fmt="%d")
    found = [run(capsys, "--model", "digits", "--input", name, "--seed", "1") for name in ("image.npy", "image.txt")]
    assert found[0]["transcript_digest"] == found[1]["transcript_digest"]


@pytest.mark.slow
def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", TEXT, "--layer", "0", "--params", "P64tiny", "--network", "wan", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    for line in (
        "sms, layer 0: 9 tokens",
        "EXACT: all 288 output words equal the fixed-point oracle; largest error 0 ulp",
        "routes agree for",
        "select_then_compute",
        "wan s",
        "the client learns by design",
        "the server learns by design",
        "privacy NOT CHECKED at this commit and shape",
        "epsilon 2^-",
        "in the clear, in neither cost nor views",
        "SEEDED",
        "transcript runs/sms-",
    ):
        assert line in told
    assert "lan s" not in told


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    messages = [Message(CLIENT, f"r1/a/{i}", "r1/a", 1, BlobSpec("x", 5), bytes(5)) for i in range(3)]
    for enabled in (None, False, True):
        progress = Progress("three", enabled)
        with progress:
            for message in messages:
                progress.on_send(message)
            progress.on_scope(SERVER, "r1/a/b/c/d")
            assert progress.line == "three  3 messages, 15 bytes  server r1/a/b"
        told = capsys.readouterr()
        assert told.out == "" and (enabled or told.err == "")


def test_progress_of_a_whole_model_tells_its_layer() -> None:
    progress = Progress("sms", False, layers=2)
    seen = []
    for scope in ("r1/encoder/embed", "r1/encoder/layer0/attention", "r1/encoder/layer1/moe_layer/top_k", "r1/encoder"):
        progress.on_scope(CLIENT, scope)
        seen.append(progress.line)
    assert ["layer" in line for line in seen] == [False, True, True, True]
    assert "layer 1 of 2" in seen[1] and "layer 2 of 2" in seen[2] and "layer 2 of 2" in seen[3]


def test_blocks_are_bars_on_a_terminal_and_nothing_elsewhere() -> None:
    for enabled in (False, True):
        shown = io.StringIO()
        with Blocks(enabled, Console(file=shown, force_terminal=True, width=100)) as progress:
            told = progress.told("audit")
            told(0, 8)
            told(5, 8)
            progress.told("power")(1, 3)
        text = shown.getvalue()
        assert ("audit" in text and "5/8" in text and "power" in text and "1/3" in text) is enabled
        assert enabled or not text


@pytest.mark.slow
def test_a_wrong_result_is_exit_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: against an oracle that is one ulp off in one word, it does."""

    def off_by_one(*args: Any) -> LayerTrace:
        trace = sparse_moe_layer(*args)
        output = trace.output.copy()
        output[0:1, 5] += np.uint64(1)
        return replace(trace, output=output)

    monkeypatch.setattr(secmoe.run, "sparse_moe_layer", off_by_one)
    found = run(capsys, "hi", status=1)
    assert (found["exact_match"], found["within_bound"], found["max_error_ulp"]) == (False, False, 1)
    assert main(["run", "hi", "--layer", "0", "--params", "P64tiny"]) == 1
    assert "MISMATCH" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["full", "taken"])
def test_the_place_of_the_transcript_is_tried_before_the_session(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreached(*args: Any, **options: Any) -> None:
        raise AssertionError("the session started")

    def full(*args: Any, **options: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(secmoe.run, "Session", unreached)
    if place == "full":
        monkeypatch.setattr(sqlite3, "connect", full)
    else:
        Path("runs").write_text("no folder")
    assert main(["run", "hi", "--layer", "0"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("secmoe: ") and told.err.count("\n") == 1
    assert [str(p) for p in Path().rglob("*")] == (["runs"] if place == "taken" else [])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(secmoe.run, "Session", fail)
    assert main(["run", "hi", "--layer", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path().rglob("*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_a_broken_run_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interrupt: type[BaseException]
) -> None:
    def stop(*args: Any, **options: Any) -> None:
        raise interrupt

    monkeypatch.setattr(secmoe.run, "private_sides", stop)
    Path("runs").mkdir()
    if interrupt is KeyboardInterrupt:
        assert main(["run", "hi", "--layer", "0", "--params", "P64tiny", "--seed", "1"]) == 130
        assert capsys.readouterr().err == "secmoe: interrupted; no transcript was kept\n"
    else:
        with pytest.raises(RuntimeError):
            main(["run", "hi", "--layer", "0", "--params", "P64tiny", "--seed", "1"])
    assert list(Path("runs").iterdir()) == []


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of one token with its private sides."""
    path = str(tmp_path_factory.mktemp("kept") / "kept.secmoe")
    options = ["--params", "P64tiny", "--record-private", "--out", path]
    assert main(["run", "hi", "--layer", "0", *options]) == 0
    return path


@pytest.mark.slow
def test_replay_and_inspect_of_a_kept_run(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["replay", kept]) == 0
    assert "CONFIRMED" in capsys.readouterr().out
    assert main(["replay", kept, "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    assert main(["inspect", kept, "--json", "--list"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert replayed["confirmed"] and replayed["first_difference"] is None
    assert sum(party["messages"] for party in replayed["parties"].values()) == len(shown["messages"])
    assert sum(party["bytes"] for party in replayed["parties"].values()) == sum(m["nbytes"] for m in shown["messages"])


@pytest.mark.slow
@pytest.mark.parametrize(("model", "item"), [("sms", 3), ("digits", 4)])
def test_held_out_items_are_exact(capsys: pytest.CaptureFixture[str], model: str, item: int) -> None:
    """One of each model, on either layer."""
    found = run(capsys, "--model", model, "--input", str(item), "--layer", str(item % 2))
    assert found["exact_match"] and found["max_error_ulp"] == 0


@pytest.mark.nightly
@pytest.mark.parametrize("model", ["sms", "digits"])
def test_a_hundred_held_out_items_are_exact(capsys: pytest.CaptureFixture[str], model: str) -> None:
    for item in range(100):
        found = run(capsys, "--model", model, "--input", str(item), "--layer", str(item % 2))
        assert found["exact_match"], f"{model} {item}"
        Path(found["transcript"]).unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", ["he/keys", "top_k/maximum/drelu/less_than/choose/masked", "select_then_compute/h2a/ct"]
)
def test_replay_finds_an_alteration_that_was_sealed(
    kept: str, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    """One bit of one message of a real run is changed and all is sealed afresh: digests agree, replay does not."""
    capsys.readouterr()
    with Transcript(kept) as good, Recorder("forged.secmoe", good.public, seeded=False) as recorder:
        (altered,) = (h for h in good.headers if h.label.endswith(f"/{word}"))
        for phase in good.phases:
            messages = []
            for header in good.phase(phase.name):
                message = good.message(header)
                if header is altered:
                    assert message.payload is not None
                    content = bytearray(message.payload)
                    content[len(content) // 2] ^= 1
                    message = replace(message, payload=bytes(content))
                messages.append(message)
            recorder.add(Execution({}, tuple(messages), {}, {}, dict(phase.reserved), phase.name))
        recorder.seal([read_private(private_path(good.path, role), role, good.seal) for role in Role])
    assert main(["replay", "forged.secmoe", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["confirmed"]
    first = told["first_difference"]
    assert (first["role"], first["seq"], first["label"]) == (altered.sender.value, altered.seq, altered.label)
    assert main(["replay", "forged.secmoe"]) == 1
    assert f"DIFFERENT: {altered.sender.value}: message {altered.seq}, {altered.label}" in capsys.readouterr().out
