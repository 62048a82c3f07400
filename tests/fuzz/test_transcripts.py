"""Transcripts of a stranger, and private sides: refused by name, or shown whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.role import CLIENT
from tests.fuzz.forge import Document, forge, honest
from tests.fuzz.mutations import damaged, dumped, mutated
from tests.fuzz.parsers import OK, SEAL, outcome, shown
from transcripts.private import MAGIC, PrivateSide, read_private, write_private

MANY = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transcripts")


@pytest.fixture(scope="module")
def document(folder: Path) -> Document:
    return honest(folder)


def test_the_forger_is_able(document: Document, folder: Path) -> None:
    """An honest document makes a transcript that is accepted: what is refused below is refused for what was changed."""
    path = folder / "able.secmoe"
    forge(document, path)
    assert shown(path) > 3000
    assert outcome("transcript", json.dumps(document).encode(), folder) == OK


@pytest.mark.parametrize("examples", [30, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_forged_transcripts(document: Document, folder: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        changed = data.draw(mutated(document))
        outcome("transcript", json.dumps(changed).encode(), folder)  # the forger spells out the words of RAW

    check()


@pytest.mark.parametrize("examples", [25, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_damaged_files(document: Document, folder: Path, examples: int) -> None:
    forge(document, folder / "whole.secmoe")
    whole = (folder / "whole.secmoe").read_bytes()

    @settings(max_examples=examples)
    @given(damaged(whole) | st.binary(max_size=300))
    def check(content: bytes) -> None:
        outcome("file", content, folder)

    check()


# -- private sides ---------------------------------------------------------------------------------------------------
def private_header() -> Document:
    return {
        "role": "client", "seal": SEAL.hex(), "key": bytes(32).hex(), "draws": {"r1/a": 8},
        "arrays": [["x", "<u8", [2, 3]], ["y", "|u1", [5]]],
    }  # fmt: skip


def private_file(header: Any, data: bytes = bytes(53)) -> bytes:
    """A private side with this header, checked and digested afresh."""
    text = dumped(header).encode("utf-8", "surrogatepass")
    body = MAGIC + len(text).to_bytes(8, "little") + text + data
    return body + hashlib.blake2b(body, digest_size=32).digest()


def test_the_private_file_is_the_one_that_is_written(folder: Path) -> None:
    arrays = {"x": np.zeros((2, 3), np.uint64), "y": np.zeros(5, np.uint8)}
    path = folder / "written.client"
    path.unlink(missing_ok=True)
    write_private(path, PrivateSide(CLIENT, bytes(32), arrays, {"r1/a": 8}), SEAL)
    found = read_private(path, CLIENT, SEAL)
    assert outcome("private", private_file(private_header()), folder) == OK
    assert {name: a.shape for name, a in found.arrays.items()} == {"x": (2, 3), "y": (5,)}


@pytest.mark.parametrize("examples", [60, pytest.param(10 * MANY, marks=pytest.mark.nightly)])
def test_private_sides(folder: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(mutated(private_header()).map(private_file) | damaged(private_file(private_header())))
    def check(content: bytes) -> None:
        outcome("private", content, folder)

    check()
