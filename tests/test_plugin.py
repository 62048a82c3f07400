"""The pytest plugin, in another directory: one line in a test module gives one test item per check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from secmoe.checking import CHECKS
from secmoe.starting import start

# As if installed, whether or not the entry point is registered in this environment.
LOADED = ("-p", "no:secmoe", "-p", "secmoe.pytest_plugin")
MINE = "my_own"


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *LOADED, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def package(tmp_path: Path) -> Path:
    start(MINE, tmp_path)
    return tmp_path


@pytest.mark.slow
def test_one_item_per_check(package: Path) -> None:
    status, told = run(package, "--collect-only", "-q", "-m", "secmoe", "--strict-markers", MINE)
    items = re.findall(rf"^{MINE}/test_{MINE}\.py::test_{MINE}\[(.*)\]$", told, re.MULTILINE)
    assert status == 0 and items == list(CHECKS), told


@pytest.mark.slow
def test_what_holds_passes_and_what_is_listed_is_skipped(package: Path) -> None:
    text = package / MINE / f"{MINE}.py"
    text.write_text(text.read_text().replace("mul.declared(x, y)", "FREE").replace("Cost,", "Cost, FREE,"))
    (package / MINE / "plain.py").write_text(
        "from secmoe.api import Functionality, Party, RingArray, protocol\n\n\n"
        "@protocol(realises=Functionality('same', lambda x: x))\n"
        "async def plain(p: Party, x: RingArray) -> RingArray:\n    return x\n"
    )
    (package / MINE / "test_plain.py").write_text(
        f"from secmoe.pytest_plugin import checks\n\ntest_plain = checks('{MINE}.plain:plain')\n"
    )
    status, told = run(package, "-v", "-rs", "-k", "cost or correct or (plain and real)", MINE)
    found = dict(re.findall(r"::test_(\w+\[.*?\]) (\w+)", told))
    assert status == 1 and found == {
        f"{MINE}[cost]": "FAILED",
        f"{MINE}[correct]": "PASSED",
        "plain[cost]": "PASSED",
        "plain[correct]": "PASSED",
        "plain[audit, real]": "SKIPPED",
    }
    assert "no kernel below the text" in told  # why it was skipped
    assert re.search(r"messages: declared 0, priced \d+", told) and "next: write the closed form" in told
    assert "Traceback" not in told and "pytest_plugin.py" not in told.split("short test summary")[0]


@pytest.mark.slow
def test_bad_input_fails_in_one_line(package: Path) -> None:
    (package / MINE / f"test_{MINE}.py").write_text(
        "from secmoe.pytest_plugin import checks\n\n"
        f"test_module = checks('no_such_module:x')\ntest_name = checks('{MINE}.{MINE}:nothing')\n"
    )
    status, told = run(package, "-k", "cost", MINE)
    assert status == 1 and "2 failed" in told and "Traceback" not in told
    assert "there is no module no_such_module" in told and "expected a protocol or an Entry" in told


@pytest.mark.slow
def test_the_runs_of_an_audit_are_an_option(package: Path) -> None:
    status, told = run(package, "-k", "cost", "--secmoe-runs", "3", MINE)
    assert status == 1 and "expected at least 80, got 3" in told


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param([name for name in CHECKS if not name.startswith("audit")], id="no audits", marks=pytest.mark.slow),
        pytest.param(list(CHECKS), id="all", marks=pytest.mark.nightly),
    ],
)
def test_the_starter_passes_as_it_stands(package: Path, chosen: list[str]) -> None:
    """A tutorial has audits of such a package: tests/test_tutorials.py."""
    status, told = run(package, "-v", *(["-k", "not audit"] if len(chosen) < len(CHECKS) else []), MINE)
    assert status == 0 and f"{len(chosen)} passed" in told, told
