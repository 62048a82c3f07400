"""`secmoe prove` and `secmoe check-proof`: verdicts, exit statuses, certificates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secmoe.cli import main


def test_a_protocol_is_proved_and_its_certificates_are_rechecked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prove", "b2a", "--json", "--certificates", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["certificates"] == 4 == len(list(tmp_path.iterdir()))
    for row in found["rows"]:
        assert row["holds"] and row["correct"]["status"] == "PROVED"
        assert {v["status"] for v in row["private"].values()} == {"PROVED"}
        assert "semi-honest" in row["statements"][0] and "hybrid" in row["statements"][0]
        assert {a["where"] for a in row["assumptions"]} == {"oblivious transfer"}
        assert {v["status"] for v in row["refreshing"].values()} <= {"PROVED", "UNKNOWN"}
    for path in tmp_path.iterdir():
        assert main(["check-proof", str(path)]) == 0
        assert capsys.readouterr().out.startswith("ACCEPTED")
    assert main(["check-proof", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("ACCEPTED") == 4
    path.write_text(path.read_text()[:-40])
    assert main(["check-proof", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out.count("ACCEPTED") == 3 and "1 of 4 certificates refused" in told.err and told.err.count("\n") == 1
    (tmp_path / "none").mkdir()
    assert main(["check-proof", str(tmp_path / "none")]) == 2


def test_opening_is_declared_and_never_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "reveal", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert {v["status"] for v in row["private"].values()} == {"DECLARED"}


def test_a_planted_fault_is_a_leak_with_a_counterexample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "broken.route_to_server", "--json"]) == 1
    private = json.loads(capsys.readouterr().out)["private"]
    assert private["server"]["status"] == "LEAK" and private["server"]["detail"]


@pytest.mark.parametrize(
    "arguments",
    [["prove", "nothing"], ["prove", "broken.nothing"], ["prove", "b2a", "--width", "0"], ["prove", "--width", "x"]],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(str(stop.code))
    told = capsys.readouterr().err
    assert status == 2 and told.count("\n") == 1 and "expected" in told


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-40], lambda text: text.replace("add", "sub", 1), lambda text: ""]
)
def test_a_damaged_certificate_is_refused(damage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "mux", "--certificates", str(tmp_path)]) == 0
    path = sorted(tmp_path.iterdir())[0]
    assert callable(damage)
    path.write_text(damage(path.read_text()))
    capsys.readouterr()
    assert main(["check-proof", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["check-proof", str(tmp_path / "none.json")]) == 2


def test_the_mask_map(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", "mux", "--map", "--json"]) == 0
    maps = json.loads(capsys.readouterr().out)
    assert {m["corrupted"] for m in maps} == {"client", "server"}
    for message in (m for found in maps for m in found["messages"]):
        assert message["status"] == "masked" and message["masks"] and message["nbytes"] > 0
    assert main(["prove", "mux", "--map"]) == 0
    assert "hidden by" in capsys.readouterr().out
    assert main(["prove", "broken.mask_reused", "--map"]) == 1  # something is open
    assert "open" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".svg", ".dot"])
def test_a_graph_around_a_message(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"g{suffix}"
    assert main(["prove", "mux", "--graph", str(path), "--corrupted", "server", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["corrupted"] == "server" and told["message"] in path.read_text()
    assert path.read_text().startswith("<svg" if suffix == ".svg" else "digraph")


@pytest.mark.parametrize(
    "arguments",
    [
        ["prove", "mux", "--graph", "picture.png"],
        ["prove", "mux", "--graph", "nowhere/picture.svg"],
        ["prove", "mux", "--graph", "g.svg", "--message", "nothing"],
        ["prove", "moe_layer", "--width", "16"],
        ["prove", "mux", "--bounds"],
    ],
)
def test_odd_requests_are_one_line_and_exit_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and ("expected" in told or "receives" in told or "no folder" in told)
    assert not list(tmp_path.iterdir())
