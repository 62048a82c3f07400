"""Certificates and kept results: accepted as they were written, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.certificate import certificate, encode, find
from proofs.checker import canonical, digest
from secmoe.result_file import FORMAT, VERSION
from tests.fuzz.mutations import damaged, dumped, mutated
from tests.fuzz.parsers import OK, outcome

MANY = 3000
MADE = certificate(*find({"protocol": "conjoin", "case": "two groups", "corrupted": "client"}))
RESULT = {
    "format": FORMAT, "version": VERSION, "kind": "audit", "protocol": "mul", "case": "64", "corrupted": "client",
    "command": "secmoe audit mul", "source": "0" * 64, "result": {"verdict": "LEAK", "runs": 80, "power": None},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


def signed(document: Any) -> bytes:
    """The text of a document, digested afresh as a stranger can."""
    if isinstance(document, dict):
        body = {key: value for key, value in document.items() if key != "digest"}
        text = dumped(body, sort_keys=True, separators=(",", ":"))
        try:
            own = digest(json.loads(text))
        except (ValueError, RecursionError):
            own = "0" * 64
        document = {**body, "digest": own}
    return (dumped(document, sort_keys=True, separators=(",", ":")) + "\n").encode("utf-8", "surrogatepass")


def test_an_honest_certificate_is_accepted(folder: Path) -> None:
    assert signed(MADE) == encode(MADE).encode()
    assert outcome("certificate", signed(MADE), folder) == OK


def test_another_claim_or_step_and_an_odd_field_is_refused(folder: Path) -> None:
    """The forger's digest is right: what refuses is the comparison with the source, the replay of the steps, and the
    list of fields."""
    steps, claim = {"steps": MADE["steps"][:1]}, {"claim": {**MADE["claim"], "corrupted": "server"}}
    for changed in ({**MADE, **steps}, {**MADE, **claim}, {**MADE, "a": None}):
        assert outcome("certificate", signed(changed), folder) == "Rejected"


SMALL = {key: value for key, value in MADE.items() if key not in ("sources", "dag")}


@pytest.mark.parametrize("examples", [40, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_certificates(folder: Path, examples: int) -> None:
    """Where the source's own parts stay as they are, the mutations reach the claim, the view and the steps."""
    rest = {key: MADE[key] for key in ("sources", "dag")}
    whole = mutated(SMALL).map(lambda part: {**rest, **part} if isinstance(part, dict) else part)

    @settings(max_examples=examples)
    @given(whole.map(signed) | mutated(MADE).map(signed) | damaged(encode(MADE).encode()))
    def check(content: bytes) -> None:
        assert outcome("certificate", content, folder) != OK or content == signed(MADE)

    check()


@pytest.mark.parametrize("examples", [40, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_results(folder: Path, examples: int) -> None:
    honest = {**RESULT, "digest": digest(RESULT)}

    @settings(max_examples=examples)
    @given(mutated(honest).map(signed) | damaged((canonical(honest) + "\n").encode()) | st.binary(max_size=40))
    def check(content: bytes) -> None:
        assert outcome("result", content, folder) == "StoreError"  # it does not bear the name of its content

    check()
