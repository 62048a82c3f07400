"""The command on any arguments, up to where its long work would begin; and what it may do there."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proofs.certificate import certificate, encode, find
from protocols.model.store import save_model
from secmoe.cli import main
from secmoe.options import command_line
from tests.fuzz.guard import limited
from tests.small_runs import keep_small
from tests.spu_traces import line
from tests.test_model_store import small_model

# Where the work of a command begins, once every option was read: nothing beyond is run here.
WORK = (
    "secmoe.running.private_layer", "secmoe.running.private_model", "secmoe.checkpointed.private_layer",
    "secmoe.auditing.audit", "secmoe.auditing.audit_below", "secmoe.auditing._cluster",
    "secmoe.attacking.run", "secmoe.evaluating.evaluate",
    "secmoe.proving.ledger", "secmoe.proving.limits", "secmoe.proving.judge", "secmoe.mapping.trace_case",
    "secmoe.listing.entry_row", "secmoe.checking.outcomes", "secmoe.remote_commands.LayerServer",
    "secmoe.remote_commands.query",
    "secmoe.benching.measure", "secmoe.benching.measured", "secmoe.benching.extension_rows",
)  # fmt: skip
LONGEST = 1200  # characters of a refusal


class Reached(BaseException):
    """The options were read, and the command sets to work."""


def _work(*arguments: Any, **named: Any) -> Any:
    raise Reached


@contextmanager
def idle() -> Iterator[None]:
    """Commands end with Reached where their work would begin."""
    with pytest.MonkeyPatch.context() as patch:
        for name in WORK:
            patch.setattr(name, _work)
        yield


def subcommands() -> Mapping[str, argparse.ArgumentParser]:
    (action,) = (a for a in command_line()._actions if isinstance(a, argparse._SubParsersAction))
    found: Mapping[str, argparse.ArgumentParser] = action.choices
    return found


def prepare(folder: Path) -> None:
    """Files of every kind, good and bad, that arguments may name."""
    os.chdir(folder)
    keep_small(folder / "run.secmoe")
    made = certificate(*find({"protocol": "conjoin", "case": "two groups", "corrupted": "client"}))
    (folder / "good.json").write_text(encode(made))
    save_model(small_model(), folder)
    for rank in (0, 1):
        (folder / f"{rank}.log").write_bytes(line("root:1:ALLGATHER", "b", bytes([rank])))
    (folder / "key").write_bytes(bytes(32))
    (folder / "key").chmod(0o600)
    (folder / "folder").mkdir()
    shutil.copytree(Path(__file__).parents[1] / "data" / "transformers" / "switch", folder / "checkpoint")
    (folder / "empty").touch()
    (folder / "long.json").write_text("1" * 5000)
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "latin.json").write_bytes(b"caf\xe9")
    (folder / "text.txt").write_text("free entry")
    (folder / "entity.txt").write_text("&#" + "9" * 5000 + ";")
    os.mkfifo(folder / "fifo.json")
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    keep_small(folder / "a\udcff.secmoe", private=False)


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A prepared folder as the working directory, and commands that do no long work."""
    before = Path.cwd()
    prepare(folder)
    try:
        with idle():
            yield folder
    finally:
        os.chdir(before)


def told(arguments: Sequence[str]) -> str:
    """What becomes of a command line: `0`, `1`, `2` or `reached`. Anything else fails.

    A refusal is one printable line on standard error; standard output is a stream that takes UTF-8 only.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=e) for e in ("strict", "backslashreplace")]
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams
    try:
        with limited():
            status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else -1
    except Reached:
        return "reached"
    finally:
        sys.stdout, sys.stderr = before
    for stream in streams:
        stream.flush()
    error = streams[1].buffer.getvalue().decode()  # type: ignore[attr-defined]  # the BytesIO given above
    if status == 2:
        assert error.startswith("secmoe") and error.endswith("\n") and error[:-1].isprintable(), error
        assert len(error) <= LONGEST, f"a refusal of {len(error)} characters"
    else:
        assert status in (0, 1) and not error, (status, error)
    return str(status)
