"""Model files and parameter files: headers that lie about lengths, types, places and shapes; odd configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.he.params import PARAM_SETS
from protocols.model.store import HEADER_KEY, save_model
from secmoe.layer import PARAMETER_FIELDS
from tests.fuzz.mutations import damaged, dumped, mutated
from tests.fuzz.parsers import OK, outcome
from tests.test_model_store import small_model

MANY = 3000
DTYPES = (
    "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "I16", "U16", "F16", "BF16", "I32", "U32", "F32",
    "C64", "F64",
    "I64", "U64", "F128", "f16", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(small_model(), folder)
    return folder


def parted(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and content of a safetensors file; the model's own JSON text in the header as a value."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if "__metadata__" in header:
        header["__metadata__"][HEADER_KEY] = json.loads(header["__metadata__"][HEADER_KEY])
    return header, data[end:]


def joined(header: Any, content: bytes, claim: int | None = None) -> bytes:
    """A safetensors file. claim: what it says of the header's length."""
    if isinstance(header, dict) and isinstance(about := header.get("__metadata__"), dict) and HEADER_KEY in about:
        own = about[HEADER_KEY]
        header = {**header, "__metadata__": {**about, HEADER_KEY: own if isinstance(own, str) else dumped(own)}}
    text = dumped(header, separators=(",", ":")).encode("utf-8", "surrogatepass")
    length = len(text) if claim is None else claim
    return (length % (1 << 64)).to_bytes(8, "little") + text + content


@st.composite
def files(draw: st.DrawFn, whole: bytes) -> bytes:
    """A model file with a damaged header, another type of a tensor, another configuration, or damaged bytes."""
    header, content = parted(whole)
    kind = draw(st.sampled_from(("header", "dtype", "model", "claim", "bytes")))
    if kind == "bytes":
        return draw(damaged(whole))
    if kind == "claim":
        return joined(
            header, content, draw(st.sampled_from((0, 1, 7, 8, 100, 10**8, 2**32, 2**63, 2**64 - 1, 2**64 - 9)))
        )
    if kind == "dtype":
        name = draw(st.sampled_from([key for key in header if key != "__metadata__"]))
        tensor = header[name]
        tensor["dtype"] = draw(st.sampled_from(DTYPES))
        count = tensor["data_offsets"][1] - tensor["data_offsets"][0]
        tensor["shape"] = draw(st.sampled_from((tensor["shape"], [count], [count // 4], [count // 8], [0], [])))
        return joined(header, content)
    if kind == "model" and "__metadata__" in header:
        header["__metadata__"][HEADER_KEY] = draw(mutated(header["__metadata__"][HEADER_KEY]))
        return joined(header, content)
    return joined(draw(mutated(header)), content)


@pytest.mark.parametrize("examples", [70, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_model_files(folder: Path, examples: int) -> None:
    whole = (folder / "small.safetensors").read_bytes()
    assert outcome("model", joined(*parted(whole)), folder) == OK

    @settings(max_examples=examples)
    @given(files(whole))
    def check(content: bytes) -> None:
        outcome("model", content, folder)

    check()


@pytest.mark.parametrize("examples", [60, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_held_out_files(folder: Path, examples: int) -> None:
    whole = (folder / "small.heldout.safetensors").read_bytes()
    assert outcome("held_out", whole, folder) == OK

    @settings(max_examples=examples)
    @given(files(whole))
    def check(content: bytes) -> None:
        outcome("held_out", content, folder)

    try:
        check()
    finally:
        (folder / "small.heldout.safetensors").write_bytes(whole)


@pytest.mark.parametrize("examples", [60, pytest.param(10 * MANY, marks=pytest.mark.nightly)])
def test_parameter_files(folder: Path, examples: int) -> None:
    own = {name: getattr(PARAM_SETS["P64tiny"], name) for name in PARAMETER_FIELDS}
    honest = json.loads(json.dumps({**own, "name": "own"}))
    assert outcome("parameters", json.dumps(honest).encode(), folder) == OK

    @settings(max_examples=examples)
    @given(mutated(honest).map(lambda value: dumped(value).encode("utf-8", "surrogatepass")) | st.binary(max_size=40))
    def check(content: bytes) -> None:
        outcome("parameters", content, folder)

    check()
