"""SQL over a kept run: read-only, bounded in time and in the size of its answer.

The file was verified and is opened a second time, immutable, with an authorizer that admits SELECT, reading the tables
and functions, and nothing else: no PRAGMA, no ATTACH, no recursion, no writing of any kind. A selection (a scope, a
view) is answered from a database in memory that holds nothing but the selected messages, so that no query can reach
the others.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sim.wire import spec_to_json
from transcripts.facts import Selection
from transcripts.layout import MESSAGE, PAYLOAD, TABLES, to_json

SECONDS = 10.0
ROWS = 1000
BYTES = 1 << 28  # of one value, and of the whole answer
STEPS = 10_000  # virtual-machine instructions between two looks at the clock
READABLE = {*TABLES, "sqlite_schema", "sqlite_master", "json_each", "json_tree"}
UNSAFE = {"load_extension", "fts3_tokenizer"}  # not in every build of SQLite

# A selection's own tables: no digest and no time of the whole.
SELECTED_RUN = "CREATE TABLE run (id INTEGER PRIMARY KEY, created TEXT, public TEXT, seeded INTEGER, messages INTEGER)"
SELECTED_MESSAGE = MESSAGE.replace("  chain BLOB NOT NULL,\n", "")


class SqlRefused(ValueError):
    """The query is not one SELECT over the transcript, is wrong, or does not end within its limits."""


@dataclass(frozen=True)
class Answer:
    """Columns and rows; values are None, int, float or str (blobs as hexadecimal). more: rows beyond the limit."""

    columns: list[str]
    rows: list[list[Any]]
    more: bool

    def to_json(self) -> dict[str, Any]:
        return {"columns": self.columns, "rows": self.rows, "more": self.more}


def query(selection: Selection, text: str, *, rows: int = ROWS, seconds: float = SECONDS) -> Answer:
    """The answer to one SELECT over tables run, message and payload. Raises SqlRefused."""
    whole = selection.view is None and not selection.scope
    with closing(_whole(selection) if whole else _selected(selection)) as connection:
        _limit(connection, time.monotonic() + seconds)
        try:
            cursor = connection.execute(text)
            found = [[_value(v) for v in row] for row in _bounded(cursor, rows + 1)]
        except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError) as error:  # ValueError: no text for SQLite
            if isinstance(error, SqlRefused):
                raise
            if isinstance(error, sqlite3.OperationalError) and str(error) == "interrupted":
                raise SqlRefused(f"--sql: expected an answer within {seconds:g} s; select less") from error
            reason = str(error) or type(error).__name__
            raise SqlRefused(f"--sql: {reason}; expected one SELECT over run, message and payload") from error
        if cursor.description is None:
            raise SqlRefused("--sql: expected one SELECT over run, message and payload, got no query")
        return Answer([name for name, *_ in cursor.description], found[:rows], len(found) > rows)


def _bounded(cursor: sqlite3.Cursor, rows: int) -> Iterator[tuple[Any, ...]]:
    size = 0
    for row in islice(cursor, rows):
        size += sum(len(v) for v in row if isinstance(v, str | bytes))
        if size > BYTES:
            raise SqlRefused(f"--sql: expected an answer of at most {BYTES >> 20} MiB; select less")
        yield row


def _value(value: Any) -> Any:
    """As JSON has it: infinities as text, blobs as hexadecimal."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.hex() if isinstance(value, bytes) else value


def _whole(selection: Selection) -> sqlite3.Connection:
    path = selection.transcript.path.absolute().as_uri()
    return sqlite3.connect(f"{path}?mode=ro&immutable=1", uri=True)


def _selected(selection: Selection) -> sqlite3.Connection:
    transcript = selection.transcript
    connection = sqlite3.connect(":memory:")
    for statement in (SELECTED_RUN, SELECTED_MESSAGE, PAYLOAD):
        connection.execute(statement)
    told = (transcript.created, to_json(transcript.public), int(transcript.seeded), len(selection.headers))
    connection.execute("INSERT INTO run VALUES (1, ?, ?, ?, ?)", told)
    for h in selection.headers:
        spec = spec_to_json(h.spec)
        payload = transcript.message(h).payload
        if payload is not None:
            connection.execute("INSERT OR IGNORE INTO payload VALUES (?, ?)", (h.payload, payload))
        place = (h.seq, h.phase, h.sender.value, h.label, h.scope, spec["kind"], h.depth, spec["dtype"])
        values = (*place, to_json(spec["shape"]), h.nbytes, h.digest, h.payload)
        connection.execute(f"INSERT INTO message VALUES ({', '.join('?' * len(values))})", values)
    connection.commit()
    return connection


def _limit(connection: sqlite3.Connection, deadline: float) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("SELECT 1 FROM json_each('0'), json_tree('0')")  # their first use needs what is denied below
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, BYTES)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    connection.set_authorizer(_authorise)


def _authorise(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    """SELECT, reads of the transcript's tables, and functions; everything else is denied."""
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and first in READABLE)
        or (action == sqlite3.SQLITE_FUNCTION and second not in UNSAFE)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
