"""Read a kept run. A file is checked whole when it is opened; what then comes out of it is what was sealed.

A transcript may come from anywhere: it is opened read-only and immutable, with untrusted schema, after those fields of
its header that identify it were checked. Whatever is wrong is refused with what and where; nothing is repaired. Checked
is the content: bytes of the file that hold none (free space in pages, SQLite's own counters) are outside every digest,
and changing them changes nothing that is read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from sim.message import Message
from sim.ring import Spec
from sim.role import Role
from sim.wire import AnySpec, WireMismatch, is_padded, quoted, spec_from_json
from transcripts.layout import (
    APPLICATION_ID,
    MINIMUM_SQLITE,
    SCHEMA_VERSION,
    TABLES,
    AlteredTranscript,
    ForeignFile,
    MissingTranscript,
    NewerSchema,
    TruncatedTranscript,
    UnsealedTranscript,
    UnsupportedSqlite,
    checksum_of,
    from_json,
    link,
    seal_of,
)
from transcripts.phases import read_phases

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
SHOWN_REASON = 240  # characters

# What SQLite must give for a row of each table; a damaged cell may carry another type.
ROLES = {role.value: role for role in Role}
RUN_TYPES = [str, str, str, str, int, int, bytes, bytes, bytes]
MESSAGE_TYPES = [int, str, str, str, str, int, str, str, str, int, bytes, bytes]


@dataclass(frozen=True)
class Header:
    """The public header of one recorded message. `payload`: row of its content, None where it has no bytes."""

    seq: int
    phase: str
    sender: Role
    label: str
    scope: str
    depth: int
    spec: AnySpec
    digest: bytes
    chain: bytes
    payload: int | None

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    @property
    def order(self) -> tuple[int, str, str]:
        return self.depth, self.sender.value, self.label


class Transcript:
    """An open, verified transcript. Use as a context manager.

    public: the public parameters of the run. seeded: whoever has the seed learns everything. chain: the digest of the
    wire. seal: chain and public parameters.
    """

    def __init__(self, path: str | Path) -> None:
        """Open and verify; raises a TranscriptError that says what is wrong and where."""
        self.path = Path(path)
        require_sqlite()
        _check_header(self.path)
        self._connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            self._load()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            raise AlteredTranscript(
                f"{self.path}: damaged database ({str(error).splitlines()[0]}); take an undamaged copy"
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- content -------------------------------------------------------------------------------------------------
    def phase(self, name: str) -> tuple[Header, ...]:
        """The headers of one phase, in canonical order."""
        return tuple(h for h in self.headers if h.phase == name)

    def message(self, header: Header) -> Message:
        """The message with its content."""
        return Message(header.sender, header.label, header.scope, header.depth, header.spec, self._content(header))

    def messages(self, phase: str | None = None) -> Iterator[Message]:
        """All messages, or those of one phase, in canonical order."""
        return (self.message(h) for h in self.headers if phase in (None, h.phase))

    def _content(self, header: Header) -> bytes | None:
        if header.payload is None:
            return None
        row = self._connection.execute("SELECT content FROM payload WHERE id = ?", (header.payload,)).fetchone()
        if row is None:
            self._refuse(f"message {header.seq} ({header.label}): its content, row {header.payload}, is missing")
        return bytes(row[0])

    # -- verification --------------------------------------------------------------------------------------------
    def _refuse(self, what: str) -> NoReturn:
        told = what if len(what) <= SHOWN_REASON else f"{what[:SHOWN_REASON]}..."  # it may quote the file
        raise AlteredTranscript(f"{self.path}: {told}; take an undamaged copy")

    def _load(self) -> None:
        query = self._connection.execute
        query("PRAGMA trusted_schema = OFF")
        query("PRAGMA cell_size_check = ON")
        found = [row[0] for row in query("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            self._refuse(f"damaged database ({found[0].splitlines()[-1]})")
        schema = {name: sql for name, sql in query("SELECT name, sql FROM sqlite_schema")}
        if schema != TABLES:
            odd = sorted(name for name in schema.keys() | TABLES.keys() if schema.get(name) != TABLES.get(name))
            self._refuse(f"the definition of table {odd[0]!r} is not the one of this format")
        rows = query("SELECT created, public, phases, measured, seeded, messages, chain, seal, checksum FROM run")
        run = rows.fetchall()
        if len(run) != 1:
            self._refuse(f"expected one row in table run, got {len(run)}")
        if [type(value) for value in run[0]] != RUN_TYPES:
            self._refuse("a value in table run has the wrong type")
        created, public, phases, measured, seeded, count, self.chain, self.seal, checksum = run[0]
        if self.seal != seal_of(public, phases, bool(seeded), count, self.chain):
            self._refuse("the public parameters in table run do not match the seal")
        if checksum != checksum_of(self.seal, created, measured):
            self._refuse("the measured times in table run do not match their checksum")
        if not created.isprintable():
            self._refuse("the time in table run is not printable")
        self.created: str = created
        self.seeded = bool(seeded)
        try:
            self.public = _object(from_json(public))
            self.phases = read_phases(from_json(phases), from_json(measured))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            self._refuse(f"the parameters in table run do not read ({type(error).__name__}: {error})")
        self.headers = self._verify(count)

    def _verify(self, count: int) -> tuple[Header, ...]:
        """Every header and every byte of content against digests, chain and canonical order."""
        order = {phase.name: place for place, phase in enumerate(self.phases)}
        headers: list[Header] = []
        state = bytes(32)
        previous: tuple[int, int, str, str] = (-1, 0, "", "")
        labels: set[tuple[str, Role, str]] = set()
        contents: set[int | None] = set()
        columns = "seq, phase, sender, label, scope, depth, kind, dtype, shape, nbytes, digest, chain, payload"
        for row in self._connection.execute(f"SELECT {columns} FROM message ORDER BY seq"):
            header = self._header(len(headers), row)
            what = f"message {header.seq} ({header.label})"
            place = (order.get(header.phase, -1), *header.order)
            if place <= previous or (header.phase, header.sender, header.label) in labels:
                self._refuse(f"{what} is out of canonical order or doubled")
            message = self.message(header)
            if message.digest() != header.digest:
                self._refuse(f"{what}: content or header do not match the digest")
            content, spec = message.payload, header.spec
            if content is not None and isinstance(spec, Spec) and not is_padded(content, spec):
                self._refuse(f"{what}: its content has bits beyond its last element")
            state = link(state, header.digest)
            if state != header.chain:
                self._refuse(f"{what}: the chain is broken here")
            labels.add((header.phase, header.sender, header.label))
            contents.add(header.payload)
            previous = place
            headers.append(header)
        if len(headers) != count or state != self.chain:
            self._refuse(f"expected {count} messages up to the sealed chain, got {len(headers)}")
        stored = {row[0] for row in self._connection.execute("SELECT id FROM payload")}
        if stored != contents - {None}:
            self._refuse("table payload and table message do not belong together")
        return tuple(headers)

    def _header(self, seq: int, row: tuple[Any, ...]) -> Header:
        found, phase, sender, label, scope, depth, kind, dtype, shape, nbytes, digest, chain, payload = row
        what = f"message {seq}"
        if found != seq:
            self._refuse(f"{what} is missing")
        if [type(value) for value in row[:12]] != MESSAGE_TYPES or type(payload) not in (int, type(None)):
            self._refuse(f"{what}: a value has the wrong type")
        if sender not in ROLES:
            self._refuse(f"{what} ({label}): expected the sender client or server, got {sender!r}")
        if not (label + kind).isprintable() or label.rpartition("/")[0] != scope or scope.split("/")[0] != phase:
            self._refuse(f"{what}: expected a printable label inside its scope and phase, got {label!r}, {scope!r}")
        try:
            sizes = json.loads(shape)
            if not all(isinstance(size, int) and size >= 0 for size in sizes):
                raise ValueError(f"expected a shape, got {shape}")
            spec = spec_from_json(kind, dtype, sizes)
        except (WireMismatch, ValueError, TypeError, RecursionError) as error:
            self._refuse(f"{what} ({label}): {error}")
        if spec.nbytes != nbytes:
            self._refuse(f"{what} ({label}): {nbytes} bytes recorded, its shape makes {spec.nbytes}")
        header = Header(seq, phase, ROLES[sender], label, scope, depth, spec, digest, chain, payload)
        if payload is not None:
            (size,) = self._connection.execute(
                "SELECT coalesce(max(length(content)), -1) FROM payload WHERE id = ?", (payload,)
            ).fetchone()
            if size != nbytes:
                self._refuse(f"{what} ({label}): expected {nbytes} bytes of content, got {max(size, 0)}")
        return header


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object of public parameters, got {quoted(value)}")
    return value


def require_sqlite() -> None:
    """Raise UnsupportedSqlite where STRICT tables are missing."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        wanted = ".".join(map(str, MINIMUM_SQLITE))
        raise UnsupportedSqlite(f"expected SQLite {wanted} or newer, got {sqlite3.sqlite_version}; update Python")


def _check_header(path: Path) -> None:
    """What can be known before SQLite reads the file: magic, application, version, sealed, whole."""
    if path.exists() and not path.is_file():
        raise ForeignFile(f"{path}: expected a transcript, got something that is not a regular file; give RUN.secmoe")
    if not path.is_file():
        raise MissingTranscript(f"{path}: expected a transcript, there is no such file; `secmoe run` writes one")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if not head.startswith(MAGIC[: max(len(head), 1)]):
        raise ForeignFile(f"{path}: expected a transcript written by `secmoe run`, got a file of another kind")
    if len(head) < HEADER_BYTES:
        raise TruncatedTranscript(f"{path}: cut off after {size} bytes, inside the file header; take an undamaged copy")
    application, version = int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")
    if application != APPLICATION_ID:
        raise ForeignFile(
            f"{path}: expected a transcript (application id {APPLICATION_ID:#x}), "
            f"got another SQLite database (application id {application:#x})"
        )
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"{path}: written in schema {version}, this program reads up to {SCHEMA_VERSION}; update secmoe"
        )
    if version != SCHEMA_VERSION:
        raise AlteredTranscript(f"{path}: expected schema {SCHEMA_VERSION} in the file header, got {version}")
    if head[18:20] != b"\x01\x01" or path.with_name(path.name + "-wal").exists():
        raise UnsealedTranscript(f"{path}: the recording was never sealed, or the header is damaged; run it again")
    page = int.from_bytes(head[16:18], "big")
    expected = int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
    if size != expected:
        raise TruncatedTranscript(f"{path}: expected {expected} bytes, got {size}; take an undamaged copy")
