"""Bad input: one clear line, exit status 2, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from protocols.he.params import INSECURE_TEST, PARAM_SETS
from protocols.model.store import SHIPPED, load_model, save_model
from secmoe.cli import main
from secmoe.names import LAYER_PROTOCOLS
from sim.role import Role
from tests.small_runs import keep_small
from transcripts.private import PrivateSide
from transcripts.record import Recorder

FIELDS = ("name", "n", "ring_bits", "frac_bits", "q_bits", "kept", "special_bits", "response_bits", "kappa", "galois")


def params_file(path: str, **changes: object) -> None:
    """P64tiny as a file, with some fields changed."""
    fields = {name: getattr(PARAM_SETS["P64tiny"], name) for name in FIELDS}
    Path(path).write_text(json.dumps({**fields, **changes}), encoding="utf-8")


def model_file(path: str, **changes: float) -> None:
    """The sms model with some of its parameters scaled, in double precision."""
    with safe_open(SHIPPED / "sms.safetensors", framework="numpy") as file:
        names = file.keys()
        tensors = {key: file.get_tensor(key).astype(np.float64) for key in names}
        header = file.metadata()
    save_file({key: t * changes.get(key.rpartition(".")[2], 1.0) for key, t in tensors.items()}, path, header)


def npy_header(shape: object) -> bytes:
    """The first bytes of an .npy file that claims this shape, and no content."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


# file -> what it changes of P64tiny, and what is said of it
BAD_PARAMETERS: dict[str, tuple[dict[str, object], str]] = {
    "none_kept": ({"name": "a", "kept": 0}, "kept"),
    "all_kept": ({"name": "a", "kept": 9}, "kept"),
    "no_primes": ({"name": "a", "q_bits": []}, "q_bits"),
    "negative_prime": ({"name": "a", "q_bits": [43, -43]}, "q_bits"),
    "text_of_primes": ({"name": "a", "q_bits": "43"}, "q_bits"),
    "float_degree": ({"name": "a", "n": 16384.0}, "n: expected a whole number"),
    "word_degree": ({"name": "a", "n": "big"}, "n: expected a whole number"),
    "large_degree": ({"name": "a", "n": 32768}, "1024, 2048, 4096, 8192, 16384"),
    "true_kappa": ({"name": "a", "kappa": True}, "kappa: expected a whole number"),
    "small_kappa": ({"name": "a", "kappa": 1}, "<= kappa <= 128"),
    "small_ring": ({"name": "a", "ring_bits": 8}, "ring_bits <= 64"),
    "one_galois": ({"name": "a", "galois": 1}, "galois: expected true or false"),
    "escape_name": ({"name": "\x1b[2J"}, "'\\x1b[2J'"),
    "number_name": ({"name": 7}, "name: expected"),
    "borrowed_name": ({"kappa": 41}, "P64tiny is a shipped parameter set"),
}


def prepare() -> None:
    """Files that the cases below name."""
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    Path("empty.txt").write_text("  \n")
    Path("kept.secmoe").write_text("mine")
    np.save("small.npy", np.zeros((3, 3), dtype=np.uint8))
    np.save("dark.npy", np.full((8, 8), 17))
    np.save("complex.npy", np.zeros((8, 8), dtype=complex))
    Path("broken.npy").write_bytes(b"\x93NUMPY")
    params_file("own.json", name="own", q_bits=[43, 43, 43, 43, 49])
    params_file("weak.json", n=4096)
    params_file("flag.json", n=256, insecure_test=True)
    for name, (changes, _) in BAD_PARAMETERS.items():
        params_file(f"{name}.json", **changes)
    fields = json.loads(Path("own.json").read_text())
    Path("missing.json").write_text(json.dumps({name: fields[name] for name in fields if name != "kappa"}))
    Path("deep.json").write_text("[" * 100_000)
    Path("vast.json").write_bytes(bytes(2 << 20))
    Path("nothing.npy").write_bytes(b"")
    Path("nothing_pixels.txt").write_text("")
    np.savez("zipped.npz", image=np.zeros((8, 8)))
    Path("zipped.npz").rename("zipped.npy")
    Path("shape.npy").write_bytes(npy_header((1 << 40, 1 << 20)))
    Path("large.npy").write_bytes(npy_header((1 << 34,)))
    Path("nested.npy").write_bytes(npy_header("(" * 5000))
    np.save("pickled.npy", np.array([{}]), allow_pickle=True)
    Path("vast.npy").write_bytes(npy_header((1 << 18,)) + bytes(2 << 20))
    Path("words.txt").write_text("no pixels")
    Path("nan.txt").write_text("\n".join(["nan " * 8] * 8))
    os.mkfifo("pipe.txt")
    os.mkfifo("pipe.secmoe")
    Path("taken.client").write_text("mine")
    Path(".cut.secmoe.recording").write_text("cut off")
    Path("list.json").write_text("[]")
    Path("half.json").write_text('{"name": "half"')
    params_file("few.json")
    Path("few.json").write_text('{"name": "few", "q_bits": [40], "response_bits": [40]}')
    shutil.copy(SHIPPED / "sms.safetensors", "cut.safetensors")
    os.truncate("cut.safetensors", 100_000)
    Path("text.safetensors").write_text("no model")
    model_file("heavy.safetensors", w1=2.0**24)
    model_file("routing.safetensors", router=2.0**30)
    model_file("huge.safetensors", w2=2.0**60)


LONG = " ".join(["word"] * 200)
MOST = load_model("sms").config.max_tokens

# command line -> what the line on standard error must contain
CASES: dict[str, tuple[Sequence[str], str]] = {
    "no command": ([], "required"),
    "unknown command": (["fly"], "invalid choice: 'fly'"),
    "unknown option": (["run", "hi", "--fast"], "unrecognized arguments: --fast"),
    "abbreviated option": (["run", "hi", "--lay", "1"], "unrecognized arguments: --lay"),
    "option without value": (["run", "hi", "--model"], "expected one argument"),
    "unknown protocol": (["run", "hi", "--protocol", "magic"], "invalid choice: 'magic'"),
    "unknown order": (["run", "hi", "--order", "random"], "invalid choice"),
    "unknown network": (["run", "hi", "--network", "moon"], "invalid choice"),
    "negative layer": (["run", "hi", "--layer", "-1"], "expected a whole number"),
    "seed of words": (["run", "hi", "--seed", "abc"], "expected a whole number from 0, got 'abc'"),
    "unknown model": (["run", "hi", "--model", "gpt"], "expected a model of digits, sms, topic or the path"),
    "damaged model": (["run", "hi", "--model", "cut.safetensors"], "cut.safetensors"),
    "no model": (["run", "hi", "--model", "text.safetensors"], "expected a safetensors file"),
    "no input": (["run"], "expected either a text or --input"),
    "two inputs": (["run", "hi", "--input", "3"], "expected either a text or --input"),
    "empty text": (["run", ""], "expected at least one word"),
    "text of spaces": (["run", " \t "], "expected at least one word"),
    "empty file": (["run", "--input", "empty.txt"], "expected at least one word"),
    "text too long": (["run", LONG], f"expected at most {MOST} tokens, got 200"),
    "text for images": (["run", "hi", "--model", "digits"], "expected an image"),
    "missing file": (["run", "--input", "nowhere.txt"], "there is no such file"),
    "not UTF-8": (["run", "--input", "latin.txt"], "expected UTF-8"),
    "item out of range": (["run", "--input", "100000"], "expected a held-out item from 0 to"),
    "layer out of range": (["run", "hi", "--layer", "2"], "expected a layer from 0 to 1, got 2"),
    "pad too short": (["run", "one two three", "--pad", "2"], "expected a padded length from 3"),
    "pad too long": (["run", "hi", "--pad", "99"], f"to {MOST}, the maximum, got 99"),
    "padded image": (["run", "--model", "digits", "--input", "0", "--pad", "20"], "leave the option out"),
    "image of another shape": (["run", "--model", "digits", "--input", "small.npy"], "8 x 8 pixels, got 9 values"),
    "image of other values": (["run", "--model", "digits", "--input", "dark.npy"], "grey values from 0 to 16"),
    "complex image": (["run", "--model", "digits", "--input", "complex.npy"], "grey values from 0 to 16"),
    "damaged image": (["run", "--model", "digits", "--input", "broken.npy"], "expected an image"),
    **{
        f"image in {name}": (["run", "--model", "digits", "--input", name], "expected an image as .npy")
        for name in ("nothing.npy", "zipped.npy", "shape.npy", "large.npy", "nested.npy", "pickled.npy", "words.txt")
    },
    "image of nothing": (["run", "--model", "digits", "--input", "nothing_pixels.txt"], "8 x 8 pixels, got 0 values"),
    "image of NaN": (["run", "--model", "digits", "--input", "nan.txt"], "grey values from 0 to 16"),
    "vast image": (["run", "--model", "digits", "--input", "vast.npy"], "expected at most 1,048,576 bytes"),
    "input of a pipe": (["run", "--input", "pipe.txt"], "not a regular file"),
    "vast item": (["run", "--input", "9" * 5000], "got one of 5000 digits"),
    "vast seed": (["run", "hi", "--seed", "9" * 19], "expected at most 18 digits, got 19"),
    "vast pad": (["run", "hi", "--pad", "9" * 5000], "expected at most 18 digits, got 5000"),
    "several words": (["run", "hi", "there"], "in quotes"),
    "unknown parameters": (["run", "hi", "--params", "P128"], "expected one of P64s"),
    "test parameters": (["run", "hi", "--params", INSECURE_TEST.name], "expected one of P64s"),
    "insecure parameters": (["run", "hi", "--params", "weak.json"], "128-bit secure"),
    "insecure by flag": (["run", "hi", "--params", "flag.json"], "expected a JSON object with exactly"),
    **{name: (["run", "hi", "--params", f"{name}.json"], told) for name, (_, told) in BAD_PARAMETERS.items()},
    "missing field": (["run", "hi", "--params", "missing.json"], "with exactly name, n"),
    "nested parameters": (["run", "hi", "--params", "deep.json"], "expected a JSON object with name, n"),
    "vast parameters": (["run", "hi", "--params", "vast.json"], "expected at most 1,048,576 bytes"),
    "parameters of a list": (["run", "hi", "--params", "list.json"], "expected a JSON object with exactly name, n"),
    "half a parameter file": (["run", "hi", "--params", "half.json"], "expected a JSON object with"),
    "few parameters": (["run", "hi", "--params", "few.json"], "expected a JSON object with exactly"),
    "no parameter file": (["run", "hi", "--params", "gone.json"], "gone.json"),
    "weight beyond the bound": (["run", "hi", "--model", "heavy.safetensors"], "weights: "),
    "router beyond the bound": (["run", "hi", "--model", "routing.safetensors"], "weights: "),
    "weight beyond the ring": (["run", "hi", "--model", "huge.safetensors"], "expected finite values in [-2^45"),
    "output without suffix": (["run", "hi", "--out", "here"], "ends in .secmoe"),
    "output that exists": (["run", "hi", "--out", "kept.secmoe"], "never overwritten"),
    "output nowhere": (["run", "hi", "--out", "no/where.secmoe"], "there is no folder no"),
    "output of a suffix": (["run", "hi", "--out", ".secmoe"], "such as run.secmoe"),
    "output of no name": (["run", "hi", "--out", ""], "such as run.secmoe"),
    "private side that exists": (["run", "hi", "--seed", "1", "--out", "taken.secmoe"], "never overwritten"),
    "recording cut off": (["run", "hi", "--out", "cut.secmoe"], "another run records here, or was cut off"),
    "inspect a pipe": (["inspect", "pipe.secmoe"], "not a regular file"),
    "inspect nothing": (["inspect"], "required"),
    "inspect a missing file": (["inspect", "gone.secmoe"], "no such file"),
    "inspect a text": (["inspect", "kept.secmoe"], "another kind"),
    "replay a text": (["replay", "kept.secmoe"], "another kind"),
    "replay a folder": (["replay", "."], "not a regular file"),
    "catalog of something": (["catalog", "mul"], "unrecognized arguments: mul"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input")
    before = Path.cwd()
    os.chdir(path)
    try:
        prepare()
    finally:
        os.chdir(before)
    return path


def refused(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], told: str) -> None:
    """Exit status 2, nothing on standard output, one line on standard error, the folder as it was."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    try:
        status = main(arguments)
    except SystemExit as stop:  # how argparse ends
        status = int(str(stop.code))
    out, error = capsys.readouterr()
    assert (status, out) == (2, "")
    assert error.startswith("secmoe") and error.endswith("\n") and error[:-1].isprintable(), error
    assert told in error
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_2(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    refused(capsys, *CASES[case])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(b"r1/twice/masked/word0")] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def newer(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[63] += 1
    path.write_bytes(content)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (flip, "message"),
    (cut, "take an undamaged copy"),
    (newer, "update secmoe"),
    (lambda path: path.with_suffix(".server").unlink(), "--record-private"),
    (lambda path: os.truncate(path.with_suffix(".client"), 100), "truncated or altered"),
    (lambda path: shutil.copy(path.with_suffix(".client"), path.with_suffix(".server")), "expected the server"),
    (lambda path: None, f"expected a run of {', '.join(LAYER_PROTOCOLS)}, got 'twice'"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGE)
def test_a_damaged_kept_run(
    damage: Callable[[Path], object],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    keep_small(tmp_path / "x.secmoe")
    damage(tmp_path / "x.secmoe")
    refused(capsys, ["replay", "x.secmoe"], told)


LAYER = {
    **{"protocol": "secmoe", "model": "sms", "layer": 0, "tokens": 3, "activation": "gelu-minimax"},
    **{"order": "reassociated", "truncation": "faithful", "version": "0"},
    "shape": {"d": 8, "f": 8, "E": 4, "k": 1, "gated": True, "activation": "gelu", "renormalise": False},
    "params": {name: getattr(PARAM_SETS["P64tiny"], name) for name in FIELDS},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokens": 1 << 60}, "tokens: expected a whole number from 0 to"),
        ({"tokens": "3"}, "tokens: expected a whole number from 0 to"),
        ({"order": ["x"]}, "order: expected a text"),
        ({"shape": []}, "expected the parameters of a layer run"),
        ({"shape": {"d": 8}}, "expected the parameters of a layer run"),
        ({"params": {**LAYER["params"], "insecure_test": True}}, "with exactly name, n"),
        ({"params": {**LAYER["params"], "name": "x\x1b[2J"}}, "name: expected up to 64 letters"),
        ({"params": {**LAYER["params"], "name": "x", "q_bits": [300]}}, "20 to 50 bits"),
        ({"params": {**LAYER["params"], "name": "x", "n": 4096}}, "128-bit secure"),
        ({"protocol": "\x1b[2J\n"}, "expected a run of secmoe"),
    ],
)
def test_replay_of_a_strangers_parameters(
    changes: dict[str, object],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with Recorder("x.secmoe", {**LAYER, **changes}, seeded=True) as recorder:
        recorder.seal([PrivateSide(role, bytes(32), {}, {}) for role in Role])
    refused(capsys, ["replay", "x.secmoe"], told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--message", "999"], "expected a message from 0 to 11, got 999"),
        (["--scope", "r9"], "expected a scope with messages, got 'r9'"),
        (["--view", "eve"], "invalid choice: 'eve'"),
    ],
)
def test_inspect_of_what_is_not_there(
    options: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    keep_small(tmp_path / "x.secmoe")
    refused(capsys, ["inspect", "x.secmoe", *options], told)


def test_an_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(capsys, ["run", "hi", "--out", "x.secmoe"], "not writable")


def test_own_parameters_are_accepted_when_they_are_secure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secmoe.inputs import read_params

    monkeypatch.chdir(folder)
    params_file("copy.json")
    assert read_params("copy.json") == PARAM_SETS["P64tiny"]
    Path("copy.json").unlink()


@pytest.mark.slow
def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("secmoe")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("secmoe ")
    wrong = subprocess.run([command, "run", ""], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "secmoe: expected at least one word, got a text without any: type a message\n"
    left = subprocess.run(f"{command} catalog --json | head -c 1", shell=True, capture_output=True, check=False)
    assert (left.stdout, left.stderr) == (b"[", b"")


def test_a_model_that_may_overflow_is_refused_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the second layer's gate that are too large for the ring; the first layer is as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("secmoe.run.Session", None)
    model = load_model("sms")
    spoilt = ("layers.1.w1", "layers.1.v")
    large = {name: w * 2**14 if name in spoilt else w for name, w in model.parameters.items()}
    save_model(replace(model, config=replace(model.config, name="large"), parameters=large, held_out=None), tmp_path)
    assert main(["run", "hi", "--model", "large.safetensors", "--layer", "1"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("secmoe: --model large, layer 1: ") and "Z_2^64" in told
    assert "the probability times expert may reach 2^" in told
    assert main(["run", "hi", "--model", "large.safetensors"]) == 2  # the whole model: every layer is looked at
    assert capsys.readouterr().err.splitlines() == [told]
    assert not Path("runs").exists()
    with pytest.raises(TypeError, match="not callable"):  # the first layer is let through, to the session
        main(["run", "hi", "--model", "large.safetensors", "--layer", "0"])
