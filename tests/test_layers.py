"""The arrows between packages, read from the syntax trees: who may import whom, and which library where."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sim", "protocols", "transcripts", "proofs", "secmoe")
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text()
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of everything a module imports, at any depth, by statement or by importlib."""
    package = PurePosixPath(path).parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def _in(*folders: str) -> Callable[[str], bool]:
    return lambda path: any(_within(path.replace("/", "."), folder.replace("/", ".")) for folder in folders)


NOT_TEXT = ("protocols/functionalities.py", "protocols/entry.py", "protocols/__init__.py")


def is_text(path: str) -> bool:
    """Protocol text: the modules directly in protocols/, and the message level of homomorphic encryption."""
    direct = PurePosixPath(path).parent == PurePosixPath("protocols") and path not in NOT_TEXT
    return direct or path == "protocols/he/interface.py"


def is_functionality(path: str) -> bool:
    """Functionalities: what protocols are held against."""
    return path.endswith("functionalities.py") or _within(path.replace("/", "."), "protocols.cleartext")


def is_oracle(path: str) -> bool:
    """The exact model: a second opinion, of functionalities too."""
    return path in (
        "protocols/model/oracle.py",
        "protocols/model/normalising.py",
        "protocols/model/encoder.py",
        "protocols/model/blocks.py",
        "protocols/model/folded.py",
        "protocols/model/fixed_point.py",
        "protocols/model/tables.py",
        "protocols/model/config.py",
    )


# Loaded by those who test a protocol, and by nothing else that is shipped.
FOR_TESTS = ("secmoe/strategies.py", "secmoe/pytest_plugin.py", "secmoe/checks/tested.py")

ORACLE = ("config", "fixed_point", "tables", "oracle", "normalising", "folded", "architecture", "tokens", "blocks")
# (rule, the files it binds, what they may not import, exceptions to that)
RULES: tuple[tuple[str, Callable[[str], bool], tuple[str, ...], tuple[str, ...]], ...] = (
    ("sim stands alone", _in("sim"), ("protocols", "transcripts", "proofs", "secmoe", "tests"), ()),
    ("protocols use sim only", _in("protocols"), ("transcripts", "proofs", "secmoe", "tests"), ()),
    ("transcripts do not know proofs", _in("transcripts"), ("proofs", "secmoe", "tests"), ()),
    ("proofs do not know transcripts", _in("proofs"), ("transcripts", "secmoe", "tests"), ()),
    ("nothing shipped needs the tests", _in("secmoe"), ("tests",), ()),
    ("z3 and networkx in proofs", lambda path: not _in("proofs")(path), ("z3", "networkx"), ()),
    (
        "statistics in transcripts and training",
        lambda path: not _in("transcripts", "protocols/model/training")(path),
        ("scipy", "sklearn"),
        (),
    ),
    ("torch in training", lambda path: not _in("protocols/model/training")(path), ("torch",), ()),
    (
        "kernels below the OT and HE interfaces, and the cipher of the wire",
        lambda path: not _in("protocols/ot", "protocols/he")(path) and path != "sim/remote/cipher.py",
        ("numba", "llvmlite", "cryptography", "nacl"),
        (),
    ),
    ("test oracles are not shipped", lambda path: True, ("flint", "seal"), ()),
    ("tools of tests in what tests use", lambda path: path not in FOR_TESTS, ("pytest", "hypothesis"), ()),
    ("protocol text computes with rings", is_text, ("numpy", "z3", "numba", "sim.concrete", "sim.tape"), ()),
    (
        "a functionality imports no protocol and no kernel",
        is_functionality,
        ("sim", "protocols", "numba"),
        (
            *("sim.functionality", "protocols.functionalities", "protocols.cleartext"),
            *("protocols.model.config", "protocols.model.fixed_point", "protocols.model.tables"),
        ),
    ),
    (
        "the oracle imports no protocol, no kernel and no functionality",
        is_oracle,
        ("sim", "protocols", "numba"),
        tuple(f"protocols.model.{name}" for name in ORACLE),
    ),
)


def violations(path: str, source: str) -> list[str]:
    found = list(imports(path, source))
    return [
        f"{path}:{line}: {name} ({rule})"
        for rule, binds, banned, allowed in RULES
        if binds(path)
        for line, name in found
        if any(_within(name, module) for module in banned) and not any(_within(name, module) for module in allowed)
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_imports_follow_the_arrows(path: str) -> None:
    assert violations(path, SOURCES[path]) == []


def test_every_rule_binds_some_module() -> None:
    for rule, binds, _, _ in RULES:
        assert sum(map(binds, SOURCES)) >= 2, rule
    texts = [path for path in SOURCES if is_text(path)]
    assert len(texts) >= 12
    assert sum(map(is_functionality, SOURCES)) >= 4 and sum(map(is_oracle, SOURCES)) >= 5


PLANTED = [
    ("sim/ring.py", "from protocols.moe import moe_layer", "sim stands alone"),
    ("sim/driver.py", "def f():\n    import protocols", "sim stands alone"),
    (
        "sim/world.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import transcripts.store",
        "stands alone",
    ),
    ("sim/tape.py", "import importlib\nimportlib.import_module('proofs.verdict')", "sim stands alone"),
    ("sim/tape.py", "x = __import__('proofs')", "sim stands alone"),
    ("sim/fixed.py", "import z3", "z3 and networkx"),
    ("sim/fixed.py", "from scipy import stats", "statistics"),
    ("protocols/he/noise.py", "from transcripts import store", "protocols use sim only"),
    ("protocols/ot/base.py", "from ...proofs import verdict", "protocols use sim only"),
    ("protocols/moe.py", "import numpy as np", "computes with rings"),
    ("protocols/compare.py", "def f():\n    from numpy import array", "computes with rings"),
    ("protocols/he/interface.py", "from sim.concrete import to_words", "computes with rings"),
    ("protocols/convert.py", "from numba import njit", "kernels"),
    ("protocols/entry.py", "import nacl.bindings", "kernels"),
    ("protocols/model/architecture.py", "import torch", "torch"),
    ("protocols/functionalities.py", "from protocols.truncate import truncate", "no protocol and no kernel"),
    ("protocols/functionalities.py", "from . import truncate", "no protocol and no kernel"),
    ("protocols/ot/functionalities.py", "from .kernels import U64", "no protocol and no kernel"),
    ("protocols/cleartext/norms.py", "from protocols.norms import rsqrt", "no protocol and no kernel"),
    ("protocols/model/oracle.py", "from sim.ring import Ring", "no kernel and no functionality"),
    ("protocols/model/oracle.py", "from protocols.functionalities import exp_fixed", "no kernel and no functionality"),
    ("protocols/model/normalising.py", "from protocols.cleartext import norms", "no kernel and no functionality"),
    ("transcripts/audit.py", "from proofs.simulator import run", "transcripts do not know proofs"),
    ("proofs/correct.py", "import transcripts", "proofs do not know transcripts"),
    ("secmoe/cli.py", "from tests.harness import session", "needs the tests"),
    ("protocols/he/ntt.py", "import flint", "not shipped"),
    ("secmoe/checking.py", "from hypothesis import given", "tools of tests"),
    ("secmoe/api.py", "import pytest", "tools of tests"),
    ("sim/remote/channel.py", "from cryptography.hazmat.primitives import hashes", "cipher of the wire"),
    ("secmoe/serving.py", "import nacl.secret", "cipher of the wire"),
]


@pytest.mark.parametrize(("path", "source", "rule"), PLANTED)
def test_a_planted_violation_is_found(path: str, source: str, rule: str) -> None:
    assert any(rule in found for found in violations(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("proofs/correct.py", "import z3\nimport networkx\nfrom protocols.catalog import CATALOG"),
        ("transcripts/statistics.py", "import scipy.stats\nfrom sklearn import metrics\nfrom sim.world import Session"),
        ("protocols/ot/aes.py", "from cryptography.hazmat import primitives\nimport numba\nimport numpy"),
        ("protocols/functionalities.py", "import numpy\nfrom sim.functionality import Functionality"),
        ("protocols/moe.py", "from sim.ring import Ring\nfrom protocols.linear import linear\nimport math"),
        ("sim/network.py", "from .role import Role\nimport similar, z3x, protocols_of_others"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert violations(path, source) == []


def touched(source: str) -> set[str]:
    """Attributes through which text could look into an array."""
    return {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)} & {"value", "tape"}


@pytest.mark.parametrize("path", [path for path in SOURCES if is_text(path)])
def test_protocol_text_never_looks_into_an_array(path: str) -> None:
    assert touched(SOURCES[path]) == set()


def test_looking_into_an_array_is_noticed() -> None:
    assert touched("async def f(p, x):\n    return x.value") == {"value"}
    assert touched("async def f(p, x):\n    return p.endpoint.tape") == {"tape"}
