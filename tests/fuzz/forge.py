"""Transcripts as a stranger makes them: any value in any cell, digests, chain, seal and checksum worked out afresh.

The document of a forgery is plain JSON: `run` (public, phases and measured as values, or as a text that is taken as it
stands), `messages` (every column but digest and chain; `content` in hexadecimal, or null).
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sim.wire import spec_to_json
from tests.fuzz.mutations import dumped
from tests.small_runs import keep_small
from transcripts.layout import APPLICATION_ID, SCHEMA_VERSION, TABLES, checksum_of, digest_of, link, seal_of
from transcripts.store import Transcript

COLUMNS = ("seq", "phase", "sender", "label", "scope", "kind", "depth", "dtype", "shape", "nbytes")
Document = dict[str, Any]


def honest(folder: Path) -> Document:
    """The document of a small run."""
    path = folder / "honest.secmoe"
    keep_small(path, private=False)
    with Transcript(path) as transcript, closing(sqlite3.connect(path)) as connection:
        created, phases, measured = connection.execute("SELECT created, phases, measured FROM run").fetchone()
        run = {"created": created, "public": transcript.public, "phases": json.loads(phases), "seeded": 1}
        run["measured"] = json.loads(measured)
        rows = []
        for header in transcript.headers:
            content = transcript.message(header).payload
            spec = spec_to_json(header.spec)
            values = (header.seq, header.phase, header.sender.value, header.label, header.scope, spec["kind"])
            told = (header.depth, spec["dtype"], spec["shape"], header.nbytes)
            row = dict(zip(COLUMNS, (*values, *told), strict=True))
            rows.append({**row, "content": None if content is None else content.hex()})
    return {"run": run, "messages": rows}


def forge(document: Any, path: Path) -> None:
    """Write the transcript of a document; cells of a type that SQLite cannot hold become their JSON text."""
    run = document.get("run") if isinstance(document, dict) else None
    rows = document.get("messages") if isinstance(document, dict) else None
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        query = connection.execute
        query(f"PRAGMA application_id = {APPLICATION_ID}")
        query(f"PRAGMA user_version = {SCHEMA_VERSION}")
        query("BEGIN")
        for _, sql in sorted(TABLES.items()):
            body = sql.removesuffix(" STRICT").replace("CHECK (sender IN ('client', 'server'))", "")
            query(body.replace("CHECK (seeded IN (0, 1))", "").replace("NOT NULL", ""))
        chain = bytes(32)
        listed = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        for place, row in enumerate(listed):
            digest = _digest(row)
            chain = link(chain, digest)
            seq = row.get("seq") if _fits(row.get("seq")) else place  # the key of the table: SQLite takes no other type
            cells = [seq, *(row.get(name) for name in COLUMNS[1:-2]), _text(row.get("shape")), row.get("nbytes")]
            content = _unhex(row.get("content"))
            if content is not None:
                query("INSERT INTO payload VALUES (?, ?)", (place + 1, content))
            marks = ", ".join(_mark(cell) for cell in cells)
            own = (digest, chain, None if content is None else place + 1)
            query(f"INSERT OR IGNORE INTO message VALUES ({marks}, ?, ?, ?)", (*map(_cell, cells), *own))
        if isinstance(run, dict):
            _write_run(connection, run, len(listed), chain)
        query("PRAGMA writable_schema = ON")
        for name, sql in TABLES.items():
            query("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
        query("COMMIT")


def _write_run(connection: sqlite3.Connection, run: Document, count: int, chain: bytes) -> None:
    created, public, phases, measured = (_text(run.get(name)) for name in ("created", "public", "phases", "measured"))
    if isinstance(run.get("created"), str):
        created = run["created"]
    seeded = run.get("seeded")
    head = [b"secmoe transcript", str(SCHEMA_VERSION).encode(), b"seeded" if seeded else b"fresh"]
    try:
        seal = seal_of(public, phases, bool(seeded), count, chain)
        checksum = checksum_of(seal, created, measured)
    except UnicodeEncodeError:  # no text of a file reads so
        seal = checksum = digest_of(head)
    cells = (1, created, public, phases, measured, seeded, count, chain, seal, checksum)
    marks = ", ".join(map(_mark, cells))
    connection.execute(f"INSERT INTO run VALUES ({marks})", tuple(map(_cell, cells)))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else dumped(value, sort_keys=True, separators=(",", ":"))


def _digest(row: Document) -> bytes:
    """As `sim.message.Message.digest`, of fields that may be anything."""
    shape = row.get("shape")
    fields = [row.get("sender"), row.get("label"), row.get("depth"), row.get("kind"), row.get("dtype"), shape]
    parts = [dumped(f).encode() if isinstance(f, dict) else str(f).encode("utf-8", "surrogatepass") for f in fields]
    return digest_of([*parts, _unhex(row.get("content")) or b""])


def _unhex(value: Any) -> bytes | None:
    try:
        return None if value is None else bytes.fromhex(value)
    except (TypeError, ValueError):
        return b""


def _mark(cell: Any) -> str:
    return "?" if cell is None or isinstance(cell, bytes | float) or _fits(cell) else "CAST(? AS TEXT)"


def _fits(cell: Any) -> bool:
    return isinstance(cell, int) and -(1 << 63) <= cell < 1 << 63


def _cell(cell: Any) -> Any:
    """A value that SQLite binds; texts as bytes, so that they need not be UTF-8."""
    return cell if _mark(cell) == "?" else _text(cell).encode("utf-8", "surrogatepass")
