"""`secmoe new`: what it writes is sound as it stands, and it overwrites nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from secmoe.cli import main
from secmoe.starting import FILES, start

NAME = "my_product"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["new", *(str(a) for a in arguments)])
    return status, *capsys.readouterr()


def test_a_package_with_a_protocol_and_its_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, NAME, "--into", tmp_path)
    folder = tmp_path / NAME
    assert status == 0 and sorted(os.listdir(tmp_path)) == [NAME]
    assert sorted(os.listdir(folder)) == ["__init__.py", f"{NAME}.py", f"test_{NAME}.py"]
    assert out.splitlines()[-1] == f"next: cd {tmp_path} && secmoe check {NAME}.{NAME}:{NAME}"
    text = (folder / f"{NAME}.py").read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 36 and "NAME" not in text.replace("FUNCTIONALITY", "")
    assert f'test_{NAME} = checks("{NAME}.{NAME}:{NAME}")' in (folder / f"test_{NAME}.py").read_text("utf-8")


def test_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(capsys, NAME, "--json")
    assert json.loads(out) == {
        "files": [f"{NAME}/{file.replace('NAME', NAME)}" for file in FILES],
        "next": f"secmoe check {NAME}.{NAME}:{NAME}",
    }


NO_NAMES = ["", "a-b", "a b", "1a", "a.b", "../a", "lambda", "_x", "größe", "a\nb", f"{'x' * 300}-"]
TAKEN = ["numpy", "secmoe", "json", "mul", "Case", "p", "product", "closed_form"]


@pytest.mark.parametrize("name", [*NO_NAMES, *TAKEN])
def test_a_name_that_cannot_be_had(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--into", tmp_path, "--", name)
    assert (status, out, err.count("\n"), os.listdir(tmp_path)) == (2, "", 1, [])
    assert "expected a name" in err or "choose another" in err


def test_a_name_too_long_for_the_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "x" * 300, "--into", tmp_path)
    assert (status, err.count("\n"), os.listdir(tmp_path)) == (2, 1, [])


@pytest.mark.parametrize("taken", [NAME, f"{NAME}.py"])
def test_nothing_is_overwritten(taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / taken).write_text("mine")
    status, _, err = run(capsys, NAME, "--into", tmp_path)
    assert (status, err.count("\n")) == (2, 1) and "nothing is overwritten" in err
    assert os.listdir(tmp_path) == [taken] and (tmp_path / taken).read_text() == "mine"


@pytest.mark.parametrize("into", ["nowhere", "a_file"])
def test_a_place_that_is_no_folder(into: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a_file").touch()
    status, _, err = run(capsys, NAME, "--into", tmp_path / into)
    assert (status, err.count("\n")) == (2, 1) and "there is no folder" in err


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        start(NAME, tmp_path)
    assert os.listdir(tmp_path) == []


def tool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_what_is_written_is_tidy(tmp_path: Path) -> None:
    start(NAME, tmp_path)
    for file in FILES:
        ast.parse((tmp_path / NAME / file.replace("NAME", NAME)).read_text(encoding="utf-8"))
    config = str(Path(__file__).parents[1] / "pyproject.toml")
    checks: Sequence[tuple[str, ...]] = (("check",), ("format", "--check"))
    for check in checks:
        done = tool(tmp_path, "ruff", *check, "--no-cache", "--config", config, NAME)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_starter_is_typed(tmp_path: Path) -> None:
    start(NAME, tmp_path)
    done = tool(tmp_path, "mypy", "--strict", "--cache-dir", str(tmp_path / ".mypy"), f"{NAME}/{NAME}.py")
    assert done.returncode == 0, done.stdout
