"""The file format of a kept run: tables, identifiers, digests, and the ways in which a file can be refused.

`NAME.secmoe` is one SQLite file with three STRICT tables. It holds the wire and public parameters only.

- run: one row. `public` and `phases` are canonical JSON and sealed; `created` and `measured` (CPU seconds) are
  metadata: outside chain and seal, covered by `checksum`.
- message: one row per message, `seq` in canonical order: phase, then (depth, sender, label).
- payload: the little-endian bytes of the wire encoding, in order of recording.

`chain` is the running BLAKE2b-256 of `sim.message` over the message digests, and the digest of the transcript. `seal`
binds it to the public parameters. Neither is keyed: they detect accidents, not forgery. Printed, they can be pinned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

APPLICATION_ID = 0x534D6F45  # "SMoE"
SCHEMA_VERSION = 1
PAGE_BYTES = 16384
SUFFIX = ".secmoe"
IMPORTED = "imported"  # the public parameter of a transcript that another program's trace was made into: which program
NESTING = 32  # of JSON values: what reads them may descend by recursion
MINIMUM_SQLITE = (3, 37, 0)  # STRICT tables

RUN = """CREATE TABLE run (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  created TEXT NOT NULL,
  public TEXT NOT NULL,
  phases TEXT NOT NULL,
  measured TEXT NOT NULL,
  seeded INTEGER NOT NULL CHECK (seeded IN (0, 1)),
  messages INTEGER NOT NULL,
  chain BLOB NOT NULL,
  seal BLOB NOT NULL,
  checksum BLOB NOT NULL
) STRICT"""

PAYLOAD = """CREATE TABLE payload (
  id INTEGER PRIMARY KEY,
  content BLOB NOT NULL
) STRICT"""

MESSAGE = """CREATE TABLE message (
  seq INTEGER PRIMARY KEY,
  phase TEXT NOT NULL,
  sender TEXT NOT NULL CHECK (sender IN ('client', 'server')),
  label TEXT NOT NULL,
  scope TEXT NOT NULL,
  kind TEXT NOT NULL,
  depth INTEGER NOT NULL,
  dtype TEXT NOT NULL,
  shape TEXT NOT NULL,
  nbytes INTEGER NOT NULL,
  digest BLOB NOT NULL,
  chain BLOB NOT NULL,
  payload INTEGER REFERENCES payload (id)
) STRICT"""

TABLES = {"message": MESSAGE, "payload": PAYLOAD, "run": RUN}


class TranscriptError(ValueError):
    """A transcript file cannot be used."""


class MissingTranscript(TranscriptError):
    """There is no such file."""


class ForeignFile(TranscriptError):
    """The file is something else."""


class NewerSchema(TranscriptError):
    """The file was written by a newer version of this format."""


class UnsealedTranscript(TranscriptError):
    """The file is still being recorded, or its recording was cut off."""


class TruncatedTranscript(TranscriptError):
    """The file has lost or gained bytes at its end."""


class AlteredTranscript(TranscriptError):
    """The content is not what was sealed."""


class UnsupportedSqlite(RuntimeError):
    """The SQLite library of this Python has no STRICT tables."""


def is_imported(public: Mapping[str, Any]) -> bool:
    """Whether a transcript of these public parameters was made of another program's trace."""
    return IMPORTED in public


def to_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Any:
    """Inverse of `to_json`. Raises ValueError or RecursionError on anything that `to_json` does not write, and on
    values nested more than `NESTING` deep.
    """
    value = json.loads(text)
    if to_json(value) != text:
        raise ValueError("expected JSON in canonical form")
    if _nesting(value) > NESTING:
        raise ValueError(f"expected values nested at most {NESTING} deep")
    return value


def _nesting(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_nesting, inner), default=0)


def digest_of(fields: Iterable[bytes]) -> bytes:
    """BLAKE2b-256 over fields, each with its length."""
    h = hashlib.blake2b(digest_size=32)
    for field in fields:
        h.update(len(field).to_bytes(8, "little") + field)
    return h.digest()


def link(state: bytes, digest: bytes) -> bytes:
    """One step of the running chain of `sim.message.chain`."""
    return hashlib.blake2b(state + digest, digest_size=32).digest()


def seal_of(public: str, phases: str, seeded: bool, messages: int, chain: bytes) -> bytes:
    """The seal of a transcript."""
    head = [b"secmoe transcript", str(SCHEMA_VERSION).encode(), b"seeded" if seeded else b"fresh"]
    return digest_of([*head, public.encode(), phases.encode(), str(messages).encode(), chain])


def checksum_of(seal: bytes, created: str, measured: str) -> bytes:
    """Guards the metadata that the seal leaves out."""
    return digest_of([seal, created.encode(), measured.encode()])
