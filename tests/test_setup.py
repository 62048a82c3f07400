"""What a fresh clone relies on: the lock, the Makefile, the gate, the licence, and a README that resolves."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest

import protocols.he.jit
import protocols.ot.kernels
from protocols.he.params import PARAM_SETS
from secmoe.layer import params_from_fields
from secmoe.options import PROVE, PROVE_RUN, Later, command_line
from tests.test_cli_model import KEYS as WHOLE_KEYS
from tests.test_cli_run import KEYS

ROOT = Path(__file__).parent.parent
PACKAGES = ("sim", "protocols", "proofs", "transcripts", "secmoe")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
EXTRAS = (ROOT / "requirements-extras.lock").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

# A tag of the bibliography, not a shape such as [E, d] or [N].
TAG = re.compile(r"^[A-Z][A-Za-z0-9]{3,}$")


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in requirements}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL = PROJECT["project"]["optional-dependencies"]
LOCKED = [
    (LOCK, PROJECT["project"]["dependencies"] + OPTIONAL["test"] + PROJECT["build-system"]["requires"]),
    (EXTRAS, OPTIONAL["cluster"] + OPTIONAL["pages"]),
]


@pytest.mark.parametrize(("lock", "wanted"), LOCKED, ids=["lock", "extras"])
def test_every_requirement_is_pinned_with_hashes(lock: str, wanted: list[str]) -> None:
    blocks = re.findall(r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock, re.MULTILINE)
    pinned = {name: version for name, version, _ in blocks}
    stated = {line.split("==")[0] for line in lock.splitlines() if re.match(r"^[A-Za-z]", line)}
    assert set(pinned) == stated and len(pinned) > 20
    assert names(wanted) <= set(pinned)
    assert all(f"{name}=={version} " in LOCK for name, version in pinned.items() if f"\n{name}==" in LOCK)


@pytest.mark.parametrize("lock", [LOCK, EXTRAS], ids=["lock", "extras"])
def test_the_lock_names_no_host(lock: str) -> None:
    assert not re.search(r"://|^\s*-(?!-hash)|index|find-links|trusted|@ ", lock, re.MULTILINE)
    assert "/" not in re.sub(r"# via.*", "", lock)


def test_the_gate_runs_the_tests() -> None:
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    assert re.search(r"^exec make test$", gate.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_target_of_the_makefile_is_listed_and_exists() -> None:
    told = set(re.findall(r'@echo "make (\w+)', MAKEFILE))
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
    assert {"run", "test", "check", "nightly", "bench", "clean", "lock"} <= told <= targets
    assert set(re.findall(r"`make (\w+)", README)) <= targets
    assert {"run", "test", "check"} <= set(re.findall(r"`?make (\w+)", README))


def test_the_text_of_make_run_is_not_read_by_the_shell(tmp_path: Path) -> None:
    """The recipe itself, with another program in the place of the command."""
    command = tmp_path / "secmoe"
    command.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    command.chmod(0o700)
    stamps = [f"{name}={tmp_path / name}" for name in ("READY", "COMPILED")]
    for stamp in stamps:
        Path(stamp.partition("=")[2]).touch()
    text = "5\" `touch x` $(touch y) it's; touch z"
    told = text.replace("$", "$$")
    arguments = ["make", "--silent", "--file", str(ROOT / "Makefile"), "run", f"BIN={tmp_path}", *stamps]
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "pyproject.toml").touch()
    os.utime(tmp_path / "READY")
    os.utime(tmp_path / "COMPILED")
    done = subprocess.run([*arguments, f"TEXT={told}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"run|{text}|"), done.stderr
    assert not {"x", "y", "z"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("module", [protocols.he.jit, protocols.ot.kernels])
def test_kernels_compile_where_nothing_can_be_cached(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What numba does in a read-only checkout with a read-only home."""
    whole = numba.njit

    def no_locator(*functions: Any, **options: bool) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available for file")
        return whole(*functions, **options)

    monkeypatch.setattr(numba, "njit", no_locator)
    compiled = module.kernel(lambda a: a + 1)
    assert compiled(41) == 42 and compiled.targetoptions["nogil"]


def test_the_readme_tells_the_parameter_sets() -> None:
    rows = re.findall(r"^\| `(P\w+)` \| (\d+) \| Z_2\^(\d+) \| (\d+) \| (\d+) \| (yes|no) \|$", README, re.MULTILINE)
    assert [(n, *map(int, sizes), keys == "yes") for n, *sizes, keys in rows] == [
        (p.name, p.n, p.ring_bits, p.frac_bits, p.kappa, p.galois) for p in PARAM_SETS.values()
    ]
    (example,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    own = params_from_fields(json.loads(example))
    assert own == replace(PARAM_SETS["P64tiny"], name="mine", kappa=41)


def test_the_readme_names_the_keys_of_a_run() -> None:
    told = README[README.index("`--json` of `run` gives") : README.index("Statuses in `secmoe catalog`")]
    assert [key for key in re.findall(r"`(\w+)`", told) if key in KEYS] == KEYS
    whole = README[README.index("`--json` then gives `model`") : README.index("Of a layer, `--json`")]
    own = WHOLE_KEYS.index("bytes")
    assert [key for key in re.findall(r"`(\w+)`", whole) if key in WHOLE_KEYS] == WHOLE_KEYS[: own + 1]
    assert WHOLE_KEYS[own:] == KEYS[KEYS.index("bytes") :]


def test_the_licence_is_apache_2() -> None:
    words = (ROOT / "LICENSE").read_text(encoding="utf-8").split()
    digest = hashlib.sha256(" ".join(words).encode()).hexdigest()
    assert digest == "0ffddef9e48f8a09aed5caf2d44f7ba1c1be2d9b8e0a6f693b1635b2d5566645"


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Those of the sub-commands."""
    (action,) = (a for a in command_line()._actions if isinstance(a.choices, dict))
    assert isinstance(action.choices, dict)
    return action.choices


def commands() -> dict[str, set[str]]:
    """Sub-commands with their options."""
    return {
        name: {option for a in sub._actions for option in a.option_strings if option.startswith("--")}
        for name, sub in parsers().items()
    }


def test_every_command_has_its_function() -> None:
    functions = [sub.get_default("command") for sub in parsers().values()]
    later = [function for function in (*functions, PROVE, PROVE_RUN) if isinstance(function, Later)]
    assert len(later) > 20
    assert all(callable(function.resolved()) for function in later)


def test_the_readme_names_commands_and_options_that_exist() -> None:
    known = commands()
    found = set()
    for line in re.findall(r"secmoe ((?:run|inspect|replay|catalog|[a-z]+)\b[^\n`]*)", README):
        word, _, rest = line.partition(" ")
        if word in known:
            found.add(word)
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", rest)) <= known[word], line
    assert found == set(known)
    for option in set().union(*known.values()) - {"--help"}:
        assert option in README, f"README does not name {option}"


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CONTRIBUTING.md"])
def test_links_resolve(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), f"{name}: {target}"


def test_the_pytest_plugin_is_registered() -> None:
    assert PROJECT["project"]["entry-points"]["pytest11"] == {"secmoe": "secmoe.pytest_plugin"}
