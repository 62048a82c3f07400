"""Write a kept run: record while it goes, seal to one file, all or nothing.

Messages are taken from finished executions, so that hashing and writing burden neither party's measured CPU time.
While a run is recorded, `.NAME.secmoe.recording` (WAL) lies beside the place of the file to come; sealing turns it into
one file and renames it. Whatever fails before leaves nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from sim.role import Role
from sim.wire import spec_to_json
from sim.world import Execution
from transcripts.layout import (
    APPLICATION_ID,
    PAGE_BYTES,
    SCHEMA_VERSION,
    SUFFIX,
    TABLES,
    checksum_of,
    link,
    seal_of,
    to_json,
)
from transcripts.place import new_place
from transcripts.private import PrivateSide, private_path, require_absent, write_private
from transcripts.store import require_sqlite


class OutputError(ValueError):
    """The place for a new transcript cannot be used."""


class RecorderMisuse(RuntimeError):
    """Something was recorded twice, out of order or after the seal."""


class Recorder:
    """Records the phases of one session into a new file.

    path: must end in `.secmoe` and not exist. public: parameters known to both parties, JSON values. seeded: the tapes
    come from a seed. private: the parties whose private sides are to lie beside it; their places must be free. Use as a
    context manager: leaving it without `seal` discards the recording. Raises OutputError and PrivateExists, before
    anything is recorded where that can be known.
    """

    def __init__(
        self, path: str | Path, public: Mapping[str, Any], *, seeded: bool, private: Collection[Role] = ()
    ) -> None:
        self.path = checked_output(path)
        for role in private:
            require_absent(private_path(self.path, role))
        self._temporary = self.path.with_name(f".{self.path.name}.recording")
        self._public, self._seeded = to_json(dict(public)), seeded
        self._phases: list[dict[str, Any]] = []
        self._measured: dict[str, Any] = {}
        self._count, self.chain = 0, bytes(32)
        self.seal_value: bytes | None = None
        require_sqlite()
        try:
            os.close(os.open(self._temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError as error:
            raise OutputError(
                f"{self._temporary}: another run records here, or was cut off; remove it or choose another name"
            ) from error
        except OSError as error:
            raise OutputError(f"{self._temporary}: cannot be made ({error.strerror}); choose another place") from error
        try:
            with self._writing():
                self._connection = sqlite3.connect(self._temporary, isolation_level=None)
        except OutputError:
            self._temporary.unlink()
            raise
        try:
            self._prepare()
        except BaseException:
            self.discard()
            raise

    def _prepare(self) -> None:
        with self._writing():
            for pragma in (
                f"page_size = {PAGE_BYTES}",
                f"application_id = {APPLICATION_ID}",
                f"user_version = {SCHEMA_VERSION}",
                "journal_mode = WAL",
                "synchronous = OFF",  # one fsync at the seal; an unsealed recording is worth nothing
            ):
                self._connection.execute(f"PRAGMA {pragma}")
            for name in sorted(TABLES):
                self._connection.execute(TABLES[name])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A full disk, a spent quota and the like, as OutputError."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise OutputError(f"{self.path}: cannot be written ({reason}); choose another place") from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.seal_value is None:
            self.discard()

    def add(self, execution: Execution) -> None:
        """Record the set-up of the session or a run in it; in the order in which they happened."""
        name = execution.prefix
        if self.seal_value is not None or name in self._measured:
            raise RecorderMisuse(f"phase {name!r} was recorded before, or after the seal; record each phase once")
        self._phases.append({"name": name, "reserved": dict(execution.reserved)})
        self._measured[name] = {
            "cpu_by_scope": [[r.value, scope or name, s] for (r, scope), s in sorted(execution.cpu_by_scope.items())],
            "cpu_by_depth": [[r.value, depth, s] for (r, depth), s in sorted(execution.cpu_by_depth.items())],
        }
        with self._writing():
            self._add(name, execution)

    def _add(self, name: str, execution: Execution) -> None:
        self._connection.execute("BEGIN")
        for message in execution.messages:
            digest = message.digest()
            self.chain = link(self.chain, digest)
            row = None
            if message.payload is not None:
                row = self._connection.execute(
                    "INSERT INTO payload (content) VALUES (?)", (memoryview(message.payload),)
                ).lastrowid
            header = spec_to_json(message.spec)
            kind, dtype, shape = header["kind"], header["dtype"], to_json(header["shape"])
            place = (self._count, name, message.sender.value, message.label, message.scope, kind, message.depth)
            self._connection.execute(
                f"INSERT INTO message VALUES ({', '.join('?' * 13)})",
                (*place, dtype, shape, message.nbytes, digest, self.chain, row),
            )
            self._count += 1
        self._connection.execute("COMMIT")

    def seal(self, sides: Iterable[PrivateSide] = ()) -> bytes:
        """Seal the recording to one file and put it in place, after the private sides given; returns the seal."""
        if self.seal_value is not None:
            raise RecorderMisuse("the recording was sealed before")
        phases, measured = to_json(self._phases), to_json(self._measured)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        seal = seal_of(self._public, phases, self._seeded, self._count, self.chain)
        told = (created, self._public, phases, measured, int(self._seeded), self._count)
        with self._writing():
            self._connection.execute(
                "INSERT INTO run VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*told, self.chain, seal, checksum_of(seal, created, measured)),
            )
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.close()
            self._put_in_place(sides, seal)
        self.seal_value = seal
        return seal

    def _put_in_place(self, sides: Iterable[PrivateSide], seal: bytes) -> None:
        written: list[Path] = []
        try:
            for side in sides:
                written.append(write_private(private_path(self.path, side.role), side, seal))
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            checked_output(self.path)
            self._temporary.rename(self.path)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Remove the recording; nothing is left."""
        self._connection.close()
        for tail in ("", "-wal", "-shm", "-journal"):
            self._temporary.with_name(self._temporary.name + tail).unlink(missing_ok=True)


def checked_output(path: str | Path) -> Path:
    """A place for a new transcript. Raises OutputError."""
    return new_place(path, (SUFFIX,), "run", "kept run", OutputError)
