"""Places for new files: every reason to refuse one, before anything is done for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transcripts.place import new_place


class Refused(ValueError):
    """The caller's own error."""


def place(path: str | Path) -> Path:
    return new_place(path, (".svg", ".dot"), "graph", "drawing", lambda text: Refused(f"--graph {text}"))


@pytest.mark.parametrize("name", ["x.svg", "x.dot", "a.b.svg"])
def test_a_free_place_is_given_back(name: str, tmp_path: Path) -> None:
    assert place(tmp_path / name) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x.png", "such as x.svg"),
        (".svg", "such as graph.svg"),
        ("", "such as graph.svg"),
        ("there.svg", "the file exists and a drawing is never overwritten"),
        ("folder.svg", "the file exists"),
        ("none/x.svg", "there is no folder none"),
        ("locked/x.svg", "the folder locked is not writable"),
    ],
)
def test_any_other_is_refused_with_the_callers_error(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    Path("there.svg").touch()
    for folder in ("folder.svg", "locked"):
        Path(folder).mkdir()
    with pytest.raises(Refused) as caught:
        place(name)
    assert str(caught.value).startswith("--graph ") and told in str(caught.value)
