"""One result as a file: canonical JSON under a digest, named by what it is about, written whole, read with distrust."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proofs.checker import canonical, digest
from sim.role import Role
from sim.wire import quoted

FORMAT, VERSION = "secmoe-checked", 1
CERTIFICATE, AUDIT = "certificate", "audit"
FIELDS = ("format", "version", "kind", "protocol", "case", "corrupted", "command", "source", "result", "digest")
TEXTS = ("kind", "protocol", "case", "corrupted", "command", "source", "digest")
LARGEST = 1 << 27  # bytes of a file
SUFFIX = ".json"

Json = dict[str, Any]


class StoreError(ValueError):
    """A result cannot be kept, or is not believed."""


def prefix_of(protocol: str, case: str) -> str:
    """What the names of all results about one protocol and case begin with."""
    return hashlib.sha256(canonical([protocol, case]).encode()).hexdigest()[:24]


def name_of(document: Mapping[str, Any]) -> str:
    """The file name of a result: its protocol and case, its kind, and all that it is about."""
    about = [document[name] for name in ("source", "kind", "protocol", "case", "corrupted", "command")]
    rest = hashlib.sha256(canonical(about).encode()).hexdigest()[:24]
    return f"{prefix_of(document['protocol'], document['case'])}-{document['kind']}-{rest}{SUFFIX}"


def write_whole(path: Path, text: str) -> None:
    """Write a file under a name of its own, then rename it: a reader sees all of it or what was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def finite(value: Any) -> Any:
    """JSON values without infinities, which JSON does not have: those become words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


def read(path: Path) -> Json:
    """A file of the folder, whole and unaltered, under the name it was written; raises StoreError with the reason."""
    document, text = _object(path)
    if document.get("format") != FORMAT:
        raise StoreError("a foreign file: it does not have the format of a result")
    if type(document.get("version")) is not int or document["version"] != VERSION:
        raise StoreError(f"expected version {VERSION}, got {quoted(document.get('version'))}")
    if document.keys() != set(FIELDS) or any(type(document[name]) is not str for name in TEXTS):
        raise StoreError(f"expected exactly {', '.join(FIELDS)}, each of its type")
    body = {key: value for key, value in document.items() if key != "digest"}
    if document["digest"] != digest(body) or canonical(document) + "\n" != text:
        raise StoreError("it was altered: its digest or its encoding differs")
    if document["kind"] not in (CERTIFICATE, AUDIT) or document["corrupted"] not in [role.value for role in Role]:
        raise StoreError(f"expected a certificate or an audit against a party, got {quoted(document['kind'])}")
    if path.name != name_of(document):
        raise StoreError("it was renamed: its name says something else than its content")
    return document


def _object(path: Path) -> tuple[Json, str]:
    """A JSON object and its text."""
    if path.is_symlink() or not path.is_file():
        raise StoreError("expected a regular file")
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise StoreError(f"at most {LARGEST:,} bytes, got {size:,}")
        text = path.read_text(encoding="utf-8")
        document = json.loads(text, parse_constant=_no_number)
        canonical(document)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"expected a JSON file of this program: {error}") from error
    if not isinstance(document, dict):
        raise StoreError("a foreign file: it holds no object")
    return document, text


def _no_number(text: str) -> Any:
    raise StoreError(f"expected finite numbers, got {text}")
