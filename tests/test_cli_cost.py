"""`secmoe cost`, `secmoe bench --calibrate` and `secmoe reproduce`: keys, pictures, times, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import secmoe.benching
from protocols.he.params import PARAM_SETS
from protocols.he.work import KERNELS
from protocols.ot.lpn import PRESETS
from protocols.ot.work_kinds import KINDS, iteration
from secmoe import calibration
from secmoe.benchmarks import SUBJECTS, Layer
from secmoe.calibration import Calibration, NotCalibrated, waiting
from secmoe.cli import main
from secmoe.figures.kept import Figure
from secmoe.names import LAYER_PROTOCOLS
from secmoe.timing_ot import BYTE, MESSAGE
from sim.cost import Cost, computed
from sim.network import LAN
from sim.work import Work

NAMES = [MESSAGE, BYTE, *KINDS, *(iteration(preset.name) for preset in PRESETS)]
RATES = {name: 1000.0 for name in [*NAMES, *(f"{p} {k}" for p in PARAM_SETS for k in KERNELS)]}
KNOWN = Calibration("2026-01-01 00:00", "a machine", {"python": "3.11"}, RATES)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_every_protocol_is_priced_at_full_size(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "cost", "--experts", "16,128", "--protocol", "all")
    assert {run["protocol"] for run in found["runs"]} == {*LAYER_PROTOCOLS, "secmoe-literal"}
    assert [run["experts"] for run in found["runs"]] == [16, 128] * (len(LAYER_PROTOCOLS) + 1)
    for run in found["runs"]:
        online = run["online"]
        assert online["bytes"] == online["client_to_server"] + online["server_to_client"]
        assert sum(group["bytes"] for group in run["by_operator"]) == online["bytes"]
        assert len(run["by_layer"]) == 1 + 12 + 1 + 12 + 1
        assert run["predicted"] == {"cpu_s": None, "seconds": None} and run["waiting_s"] > 0
    assert found["calibration"] is None and (found["tokens"], found["params"]) == (8, "P64s")


def test_times_are_counts_times_rates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every kernel takes a microsecond: CPU time is the number of all of them."""
    (tmp_path / "calibration.json").write_text(json.dumps(KNOWN.to_json()))
    found = told(capsys, "cost", "--model", "moe-small", "--experts", "8", "--network", "wan")
    (run,) = found["runs"]
    rest = run["predicted"]["seconds"] - run["predicted"]["cpu_s"]
    assert rest == pytest.approx(run["waiting_s"]) == pytest.approx(
        run["online"]["rounds"] * 4e-3 + run["online"]["bytes"] * 8 / 400e6
    )
    work = Work({"P64s merge": 7, "bit triple": 5})
    cost = Cost(c2s=100, messages=3) + computed(work)
    assert KNOWN.cpu(cost) == pytest.approx(115e-6)
    assert waiting(cost, LAN) == pytest.approx(800 / 1e9)
    with pytest.raises(NotCalibrated, match="rate of 'own merge'"):
        KNOWN.cpu(computed(Work({"own merge": 1})))
    assert found["calibration"] == KNOWN.to_json()


def test_without_a_calibration_the_way_to_one_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--model", "moe-small", "--experts", "8"]) == 0
    text = capsys.readouterr().out
    assert "no calibration: run secmoe bench --calibrate" in text and "encoder 5" in text and "CPU s" not in text


def test_pictures_and_pages_hold_every_bar(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = told(capsys, "cost", "--experts", "16,128", "--protocol", "secmoe,evaluate-all", "--plot", "c.svg",
                 "--html", "c.html")  # fmt: skip
    picture = (tmp_path / "c.svg").read_text()
    titles = [node.text or "" for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 2 * sum(len(run["by_operator"]) for run in found["runs"])  # bytes, and seconds
    run = found["runs"][-1]
    experts = next(group for group in run["by_operator"] if group["name"] == "selection and experts")
    amount, total = (f"{n / 1e6:,.3f}" for n in (experts["bytes"], run["online"]["bytes"]))
    assert f"evaluate-all, 128 experts, selection and experts: {amount} of {total} MB" in titles
    page = (tmp_path / "c.html").read_text()
    assert "default-src &#39;none&#39;" in page and f"{run['online']['bytes']:,}" in page
    assert main(["cost", "--plot", "c.svg"]) == 2 and "never overwritten" in capsys.readouterr().err


NETWORK = {"name": "mine", "latency_s": 0.01, "bandwidth": 1e8}
BAD: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "gpt"], "expected switch-base, moe-small, mixtral-8x7b, olmoe, deepseekmoe, or a checkpoint"),
    "zero experts": (["--experts", "0"], "--experts 0: expected whole numbers from 1"),
    "experts twice": (["--experts", "8,8"], "each once"),
    "experts": (["--experts", "8,,16"], "--experts 8,,16"),
    "one expert": (["--experts", "1"], "E >= 2, got d=768, f=3072, k=1, E=1"),
    "fewer than k": (["--model", "olmoe", "--experts", "4"], "expected k <= E"),
    "tokens": (["--tokens", "0"], "--tokens 0: expected whole numbers from 1"),
    "protocol": (["--protocol", "magic"], "--protocol magic: expected secmoe"),
    "params": (["--params", "P1"], "expected one of P64s"),
    "small set": (["--params", "P64tiny"], "take a set with Galois keys"),
    "no network": (["--network", "moon"], "expected lan, wan or a file"),
    "no calibration": (["--calibration", "none.json"], "run secmoe bench --calibrate"),
    "plot": (["--plot", "a.png"], "ends in .svg"),
}


@pytest.mark.parametrize(("options", "said"), BAD.values(), ids=list(BAD))
def test_bad_input_is_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *options]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and said in error


BAD_NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "negative latency": ({"latency_s": -0.001}, "expected latency_s from 0 to 3600 seconds, got -0.001"),
    "endless latency": ({"latency_s": 1e999}, "latency_s from 0"),
    "latency in words": ({"latency_s": "fast"}, "latency_s from 0"),
    "no bandwidth": ({"bandwidth": 0}, "expected a bandwidth above 0"),
    "true": ({"bandwidth": True}, "expected a bandwidth above 0"),
    "name": ({"name": ""}, "expected a name"),
    "another field": ({"jitter": 1}, "exactly name, latency_s, bandwidth"),
}


@pytest.mark.parametrize(("change", "said"), BAD_NETWORKS.values(), ids=list(BAD_NETWORKS))
def test_bad_networks_are_one_line(
    change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "net.json").write_text(json.dumps({**NETWORK, **change}))
    assert main(["cost", "--network", "net.json"]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and said in error


def test_a_network_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(json.dumps(NETWORK))
    found = told(capsys, "cost", "--model", "moe-small", "--experts", "8", "--network", "net.json")
    assert found["network"] == NETWORK


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"made": 1}'])
def test_files_that_are_no_calibration_are_refused(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text(text)
    assert main(["cost", "--calibration", "bad.json"]) == 2
    assert "run secmoe bench --calibrate" in capsys.readouterr().err
    wrong = KNOWN.to_json() | {"nanoseconds": {"byte": -1.0}}
    (tmp_path / "bad.json").write_text(json.dumps(wrong))
    assert main(["bench", "--calibration", "bad.json"]) == 2


@pytest.mark.slow
def test_a_calibration_has_a_rate_of_every_kernel(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured for real, for a set with Galois keys and one without."""
    monkeypatch.setattr(calibration, "PARAM_SETS", {name: PARAM_SETS[name] for name in ("P32", "P64tiny")})
    found = told(capsys, "bench", "--calibrate")
    rates = found["nanoseconds"]
    absent = {f"P64tiny {kernel}" for kernel in ("expand", "pair", "merge", "lower")}
    wanted = {f"{name} {kernel}" for name in ("P32", "P64tiny") for kernel in KERNELS} - absent
    assert {*NAMES, *wanted} == set(rates) and all(rate >= 0 for rate in rates.values())
    assert calibration.read_calibration(Path(found["file"])).to_json() == {k: found[k] for k in found if k != "file"}


def test_predictions_stand_beside_real_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "calibration.json").write_text(json.dumps(KNOWN.to_json()))
    monkeypatch.setattr(secmoe.benching, "SUBJECTS", (Layer(16, 24, 4, 1, params="P64tiny", relu=True),))
    monkeypatch.setattr(secmoe.benching, "RUNS", 1)
    (row,) = told(capsys, "bench", "--calibration", "calibration.json")["runs"]
    assert row["bytes"] == row["priced_bytes"] and row["cpu_s"] > 0 < row["predicted_cpu_s"]
    assert row["error"] == pytest.approx(row["predicted_cpu_s"] / row["cpu_s"] - 1)


def test_enough_subjects_and_all_different() -> None:
    names = [subject.name for subject in SUBJECTS]
    assert len(set(names)) == len(names) >= 8


def test_rates_in_turns_are_told_by_their_median() -> None:
    """Rates of several calibrations: the median, of those that have the kernel."""
    one, two, three = (replace(KNOWN, nanoseconds=rates) for rates in ({"a": 1.0}, {"a": 5.0, "b": 3.0}, {"a": 2.0}))
    assert calibration.middle([one, two, three]).nanoseconds == {"a": 2.0, "b": 3.0}


@pytest.mark.slow
def test_the_page_is_written_to_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = {"name": "some layer", "cpu_s": 2.0, "predicted_cpu_s": 2.2, "error": 0.1, "lan_error": -0.05}
    (tmp_path / "figures").mkdir()
    figure = Figure("bench", ("secmoe bench",), "a machine", "now", None, ())
    replace(figure, results=({"calibration": KNOWN.to_json(), "runs": [run]},)).write(tmp_path / "figures")
    (tmp_path / "R.md").write_text("<!-- table layers -->\n<!-- end -->\n")
    written = told(capsys, "reproduce", str(tmp_path), "--readme", str(tmp_path / "R.md"))["written"]
    names = ["reproduction.md", "reproduction.svg", "reproduction-time.svg", "R.md"]
    assert [Path(name).name for name in written] == names
    page = (tmp_path / "reproduction.md").read_text()
    assert "a machine" in page and "| some layer | 2.00 | 2.20 | +10% | -5% |" in page
    assert "Not measured yet" in (tmp_path / "R.md").read_text()
    assert main(["reproduce", "nowhere"]) == main(["reproduce", str(tmp_path), "--readme", "nowhere"]) == 2
    for result in ({"runs": [{}]}, {"runs": [], "calibration": {}}, 1):
        replace(figure, results=(result,)).write(tmp_path / "figures")
        assert main(["reproduce", str(tmp_path)]) == 2
