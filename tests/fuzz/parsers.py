"""Every parser under one roof: bytes of an input in, an object out, or an error of the project in one line.

`outcome` is the property that all fuzzing tests hold a parser to: within its limits of memory and time it ends in a
valid value, or in one of the named errors of its own; what it makes of a valid value works or is refused by name, too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from proofs.certificate import Rebuilder, UnknownClaim, check_file
from proofs.checker import Rejected
from protocols.he.params import InsecureParameters, ParameterRange, UnknownParameters
from protocols.model.architecture import ItemError, TokenError
from protocols.model.store import BadModelFile, load_model, save_model
from protocols.model.tokens import EmptyText, ImageShapeError, PadError, TextTooLong
from secmoe.inputs import ParameterFileError, read_params
from secmoe.kept import reader
from secmoe.result_file import StoreError, read
from sim.message import Message
from sim.remote.frames import PeerFailed, UnexpectedMessage, UnreadableFrame, read_frame
from sim.remote.handshake import UnreadableTerms, answer_terms
from sim.ring import Ring, Spec
from sim.role import SERVER, Role
from sim.wire import BlobSpec, WireMismatch, spec_from_json
from tests.fuzz.forge import forge
from tests.fuzz.guard import limited
from transcripts.facts import Selection, detail
from transcripts.importers import TraceUnreadable, UnfitMessage, keep
from transcripts.importers.spu import OptionRefused, SpuImporter, TraceCount, TracesDisagree
from transcripts.importers.spu_lines import TraceLineRefused, TraceTooLarge, ValueTooLong
from transcripts.layout import TranscriptError
from transcripts.page import write_page
from transcripts.private import PrivateFileError, read_private
from transcripts.run_page import run_page
from transcripts.show import print_answer, print_costs, print_list, print_message, print_summary
from transcripts.sql import SqlRefused, query
from transcripts.store import Transcript

LONGEST = 1000  # characters of an error
SEAL = bytes(range(32))
OK = "ok"


@dataclass(frozen=True)
class Parser:
    """parse: the bytes of an input and a folder to work in. errors: what it may raise. suffix: of its corpus files."""

    parse: Callable[[bytes, Path], Any]
    errors: tuple[type[Exception], ...]
    suffix: str


def outcome(name: str, content: bytes, folder: Path) -> str:
    """The name of the error, or `ok`; anything but the parser's own errors goes through and fails the test."""
    parser = PARSERS[name]
    with limited():
        try:
            parser.parse(content, folder)
        except parser.errors as error:
            told = str(error)
            assert told and len(told) <= LONGEST, f"an error of {len(told)} characters"
            assert "Traceback" not in told
            return type(error).__name__
        return OK


def _wire(content: bytes, folder: Path) -> Any:
    header = json.loads(content)
    return spec_from_json(header["kind"], header["dtype"], header["shape"])


def due() -> dict[str, Message]:
    """The messages that may come, by label."""
    specs = {"r1/mul/eps": Spec(Ring(12), (2, 3)), "r1/ot/columns": BlobSpec("columns", 40)}
    return {
        label: Message(SERVER, label, label.rpartition("/")[0], 2, s, bytes(s.nbytes)) for label, s in specs.items()
    }


def _frame(content: bytes, folder: Path) -> Any:
    return read_frame(content, due())


class _Heard:
    """A channel on which one record comes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def receive(self, limit: int, what: str) -> bytes:
        return self.content

    def send(self, body: bytes) -> None:
        assert len(body) <= 2 * len(self.content) + 10


def _terms(content: bytes, folder: Path) -> Any:
    heard: Any = _Heard(content)
    return answer_terms(heard, lambda theirs: theirs)


def _transcript(content: bytes, folder: Path) -> Any:
    path = folder / "forged.secmoe"
    forge(json.loads(content), path)
    return shown(path)


def _file(content: bytes, folder: Path) -> Any:
    path = folder / "damaged.secmoe"
    path.write_bytes(content)
    return shown(path)


def shown(path: Path) -> int:
    """Everything that is ever read out of a transcript, told to a terminal that knows UTF-8 only."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    console = Console(file=stream, width=100)
    with Transcript(path) as transcript:
        read_layer = reader(transcript.public)
        for view in (None, *Role):
            selection = Selection(transcript, view=view)
            print_summary(console, selection)
            print_costs(console, selection.costs(4), times=view is None)
            print_list(console, selection.headers)
            for header in selection.headers[:4]:
                print_message(console, selection, header.seq, read_layer)
                json.dumps(detail(selection, header.seq, read_layer), allow_nan=False)
            print_answer(
                console, query(selection, "SELECT * FROM run, message LEFT JOIN payload ON payload.id = payload")
            )
            page = path.with_suffix(f".{view.value if view else 'all'}.html")
            page.unlink(missing_ok=True)
            write_page(page, run_page(selection, read_layer))
    stream.flush()
    return stream.buffer.tell()


def _private(content: bytes, folder: Path) -> Any:
    path = folder / "run.client"
    path.write_bytes(content)
    return read_private(path, Role("client"), SEAL)


@cache
def rebuilder() -> Rebuilder:
    return Rebuilder()


def _certificate(content: bytes, folder: Path) -> Any:
    path = folder / "certificate.json"
    path.write_bytes(content)
    return check_file(path, rebuilder())


def _result(content: bytes, folder: Path) -> Any:
    path = folder / "result.json"
    path.write_bytes(content)
    return read(path)


def _model(content: bytes, folder: Path) -> Any:
    path = folder / "x.safetensors"
    path.write_bytes(content)
    return _used(load_model(str(path)), folder)


def _held_out(content: bytes, folder: Path) -> Any:
    path = folder / "small.heldout.safetensors"
    path.write_bytes(content)
    return _used(load_model(str(folder / "small.safetensors")), folder)


def _used(model: Any, folder: Path) -> Any:
    """A model that was accepted, at work; and written again, as it was."""
    try:
        model.forward(model.tokens_from_item(0))
    except (ItemError, TokenError, PadError, ImageShapeError):
        assert model.held_out is None or not len(model.held_out) or model.config.task == "text"
    if model.vocabulary is not None:
        for text in ("x", "x ü x"):
            try:
                tokens = model.tokens_from_text(text)
            except (EmptyText, TextTooLong):
                assert model.config.max_tokens < 3
            else:
                assert model.forward(tokens).logits.shape == (len(model.config.classes),)
    again = folder / "again"
    again.mkdir(exist_ok=True)
    save_model(model, again)
    assert load_model(str(again / f"{model.config.name}.safetensors")).config == model.config
    return model


def _parameters(content: bytes, folder: Path) -> Any:
    path = folder / "own.json"
    path.write_bytes(content)
    params = read_params(str(path))
    assert len(set(params.primes)) == len(params.primes)
    return params


def _trace(content: bytes, folder: Path) -> Any:
    """The two traces of a run, parted by the byte 0xFF, which stands in no trace that is written by hand."""
    first, _, second = content.partition(b"\xff")
    paths = [folder / "0.log", folder / "1.log"]
    for path, text in zip(paths, (first, second), strict=True):
        path.write_bytes(text)
    out = folder / "imported.secmoe"
    out.unlink(missing_ok=True)
    keep(SpuImporter(content_length=1 << 24), paths, out)
    return shown(out)


TRACE_ERRORS = (
    TraceCount, TracesDisagree, OptionRefused, TraceTooLarge, TraceLineRefused, ValueTooLong, UnfitMessage,
    TraceUnreadable,
)  # fmt: skip
PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        "wire": Parser(_wire, (WireMismatch,), ".json"),
        "frame": Parser(_frame, (UnreadableFrame, UnexpectedMessage, PeerFailed), ".bin"),
        "terms": Parser(_terms, (UnreadableTerms, PeerFailed), ".bin"),
        "transcript": Parser(_transcript, (TranscriptError, SqlRefused), ".json"),
        "file": Parser(_file, (TranscriptError, SqlRefused), ".bin"),
        "private": Parser(_private, (PrivateFileError,), ".bin"),
        "certificate": Parser(_certificate, (Rejected, UnknownClaim), ".json"),
        "result": Parser(_result, (StoreError,), ".json"),
        "model": Parser(_model, (BadModelFile,), ".safetensors"),
        "held_out": Parser(_held_out, (BadModelFile,), ".safetensors"),
        "parameters": Parser(
            _parameters, (ParameterFileError, ParameterRange, InsecureParameters, UnknownParameters), ".json"
        ),
        "trace": Parser(_trace, TRACE_ERRORS, ".log"),
    }
)
