"""What fuzzing has found, and what a careful stranger would try first: every input ends as its file's name says.

`tests/corpus/PARSER/OUTCOME.what-it-is.suffix`: OUTCOME is the name of an error, or `ok`. Command lines (`options`) are
JSON lists of words, their outcome an exit status.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.model.store import save_model
from tests.fuzz.command import told, workshop
from tests.fuzz.parsers import PARSERS, outcome
from tests.test_model_store import small_model

CORPUS = Path(__file__).parents[1] / "corpus"
INPUTS = sorted(path for name in PARSERS for path in (CORPUS / name).iterdir())
OPTIONS = sorted((CORPUS / "options").iterdir())


def expected(path: Path) -> str:
    return path.name.partition(".")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with files of every kind, which is where the commands run."""
    with workshop(tmp_path_factory.mktemp("corpus")) as folder:
        yield folder


@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}/{path.name}" for path in INPUTS])
def test_inputs(path: Path, tmp_path: Path) -> None:
    if path.parent.name == "held_out":
        save_model(small_model(), tmp_path)
    assert outcome(path.parent.name, path.read_bytes(), tmp_path) == expected(path)


@pytest.mark.parametrize("path", OPTIONS, ids=[path.name for path in OPTIONS])
def test_command_lines(path: Path, folder: Path) -> None:
    assert told(json.loads(path.read_bytes())) == expected(path)


def test_the_corpus_is_sorted() -> None:
    """Every file lies below a parser, names an error of it, and has its suffix."""
    assert {path.name for path in CORPUS.iterdir()} == {*PARSERS, "options"}
    for path in INPUTS:
        parser = PARSERS[path.parent.name]
        assert expected(path) in {"ok", *(error.__name__ for error in _below(parser.errors))}
        assert path.suffix == parser.suffix
    assert all(expected(path) in ("0", "1", "2", "reached") for path in OPTIONS)


def _below(errors: tuple[type[Exception], ...]) -> Iterator[type[Exception]]:
    for error in errors:
        yield error
        yield from _below(tuple(error.__subclasses__()))
