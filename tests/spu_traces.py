"""Traces of SPU for tests: the recorded ones, and lines and files made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transcripts.importers import ForeignMessage
from transcripts.importers.spu import SpuImporter

DATA = Path(__file__).parent / "data" / "spu"
WHOLE = 1 << 24


def recorded(name: str) -> list[Path]:
    return [DATA / f"{name}.rank{rank}.log" for rank in (0, 1)]


def lines_of(name: str) -> list[list[bytes]]:
    return [path.read_bytes().splitlines(keepends=True) for path in recorded(name)]


def line(key: str | bytes, tag: str | bytes = "t", content: bytes = b"") -> bytes:
    key, tag = (v.encode() if isinstance(v, str) else v for v in (key, tag))
    return b"[2026-01-02 03:04:05.678] [trace] [info] [logging.cc:40] [spu link] key=%b, tag=%b, value=%b\n" % (
        key,
        tag,
        content.hex().encode(),
    )


def written(folder: Path, traces: Sequence[Sequence[bytes]]) -> list[Path]:
    paths = [folder / f"{rank}.log" for rank in range(len(traces))]
    for path, trace in zip(paths, traces, strict=True):
        path.write_bytes(b"".join(trace))
    return paths


def read(folder: Path, traces: Sequence[Sequence[bytes]], **options: Any) -> list[ForeignMessage]:
    return list(SpuImporter(**{"content_length": WHOLE, **options}).messages(written(folder, traces)))
