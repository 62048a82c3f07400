"""Every bibliography tag in the code resolves in the references of the README."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for package in ("sim", "protocols", "transcripts", "proofs", "secmoe")
    for path in (ROOT / package).rglob("*.py")
)
BRACKET = re.compile(r"\[([^\[\]]+)\]")
TAG = re.compile(r"[A-Z][A-Za-z]{2,}[0-9]*|[A-Z]{2,}[0-9]{2}")
REFERENCE = re.compile(r"^- \*\*\[([^\]]+)\]\*\* \S", re.MULTILINE)


def references(readme: str) -> list[str]:
    """The tags that the list of references defines."""
    return REFERENCE.findall(readme)


def tags_of(text: str, cited: bool) -> Iterator[str]:
    """Tags of the brackets in a text: [Tag], [Tag, Tag] and [Tag locator].

    In prose a bracket is a citation when it begins with what looks like a tag, a capitalised word of three letters or
    more; shapes and intervals do not. In a `cites` string every bracket is one.
    """
    for content in BRACKET.findall(text):
        parts = [part.split() for part in re.split("[,;]", content)]
        words = [part[0] if part else "" for part in parts]
        if cited or TAG.fullmatch(words[0]):
            yield from words


def cited(source: str) -> set[str]:
    """All tags of a module: those of docstrings, and of `cites=` arguments."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(tags_of(ast.get_docstring(node) or "", cited=False))
        if isinstance(node, ast.keyword) and node.arg == "cites":
            assert isinstance(node.value, ast.Constant) and isinstance(node.value.value, str), "cites= is a literal"
            found.update(tags_of(node.value.value, cited=True))
    return found


def unresolved(source: str, readme: str) -> set[str]:
    return cited(source) - set(references(readme))


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_tag_resolves(path: Path, readme: str) -> None:
    assert not unresolved(path.read_text(), readme)


def test_no_tag_is_defined_twice(readme: str) -> None:
    tags = references(readme)
    assert len(tags) == len(set(tags)) > 10


@pytest.mark.slow
def test_every_declared_protocol_of_the_literature_is_found(readme: str) -> None:
    """The reader is not blind: the sources that this code certainly cites are seen."""
    seen = {tag for path in SOURCES for tag in cited(path.read_text())}
    assert {"SecMoE", "CrypTFlow2", "Bea91", "Gilboa", "SIRNN", "Cheetah", "Switch", "CO15", "Roy22", "Iron"} <= seen


PLANTED = [
    ('"""Adds [NoSuch99]."""', {"NoSuch99"}),
    ('def f():\n    """By the method of [Bea91, Missing]."""', {"Missing"}),
    ('class A:\n    """[Bea91 Section 3; Missing 4]"""', {"Missing"}),
    ('@protocol(realises=F, cites="[Ghost] Algorithm 1")\nasync def f(p): ...', {"Ghost"}),
    ('@protocol(realises=F, cites="[bea91]")\nasync def f(p): ...', {"bea91"}),
    ('"""Shape [n, E], bits [N, limbs], [x >= 0], [0, 1), [[t]], [Bea91]."""', set()),
]


@pytest.mark.parametrize(("source", "want"), PLANTED)
def test_a_planted_tag_is_found(source: str, want: set[str]) -> None:
    assert unresolved(source, "## References\n\n- **[Bea91]** D. Beaver.\n") == want
