"""One party's private side of a kept run, in a file of its own: `NAME.client`, `NAME.server`, mode 0600.

It holds the tape key, the inputs and the ledger of draws: with it the party's whole execution can be repeated, so it is
as secret as the inputs. It is written on request only, and never lies inside the transcript.

Layout: magic, length of the header (8 bytes, little-endian), header (JSON), the arrays one after the other (raw,
little-endian), BLAKE2b-256 of everything before. `seal` in the header names the transcript it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.role import Role
from sim.tape import KEY_BYTES
from sim.wire import is_shape, quoted
from transcripts.layout import to_json

MAGIC = b"secmoe private 1"
DTYPES = ("<u8", "<i8", "<f8", "|u1")


class PrivateFileError(ValueError):
    """A private side is missing, damaged, or belongs to something else."""


class PrivateExists(ValueError):
    """A private file lies where a new one should be written."""


@dataclass(frozen=True)
class PrivateSide:
    """What one party alone knows of a session.

    key: its tape key. arrays: its inputs by name (uint64, int64, float64 or uint8). draws: bytes taken from the tape
    under each label, the ledger that a replay must reproduce.
    """

    role: Role
    key: bytes = field(repr=False)
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    draws: Mapping[str, int] = field(repr=False)


def private_path(transcript: Path, role: Role) -> Path:
    """Where the private side of a party lies: beside the transcript."""
    return transcript.with_suffix(f".{role.value}")


def require_absent(path: Path) -> None:
    """Raise PrivateExists where a file lies in the place of a private side."""
    if path.exists():
        raise PrivateExists(f"{path}: the file exists and a private side is never overwritten; choose another name")


def write_private(path: Path, side: PrivateSide, seal: bytes) -> Path:
    """Write a new file of mode 0600, whole or not at all. Raises PrivateExists."""
    if len(side.key) != KEY_BYTES:
        raise PrivateFileError(f"{path}: expected a tape key of {KEY_BYTES} bytes, got {len(side.key)}")
    arrays = {name: _little(name, array) for name, array in side.arrays.items()}
    header = to_json(
        {
            "role": side.role.value,
            "seal": seal.hex(),
            "key": side.key.hex(),
            "draws": dict(side.draws),
            "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
        }
    ).encode()
    parts = [MAGIC, len(header).to_bytes(8, "little"), header, *(array.tobytes() for array in arrays.values())]
    check = hashlib.blake2b(digest_size=32)
    temporary = path.with_name(f".{path.name}.part")
    require_absent(path)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        try:
            os.fchmod(file.fileno(), 0o600)
            for part in parts:
                check.update(part)
                file.write(part)
            file.write(check.digest())
            file.flush()
            os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


def read_private(path: Path, role: Role, seal: bytes) -> PrivateSide:
    """The private side of `role` for the transcript of this seal. Raises PrivateFileError."""
    if not path.is_file():
        raise PrivateFileError(
            f"{path}: replay repeats each party from its own inputs and tape, and the private side of the {role.value} "
            "is missing; record the run with --record-private or --seed"
        )
    data = path.read_bytes()
    body = data[:-32]
    if not data.startswith(MAGIC):
        raise PrivateFileError(f"{path}: expected the private side of a run, got a file of another kind")
    if hashlib.blake2b(body, digest_size=32).digest() != data[-32:]:
        raise PrivateFileError(f"{path}: truncated or altered ({len(data)} bytes); take an undamaged copy")
    start = len(MAGIC) + 8
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    try:
        return _parsed(path, role, seal, json.loads(body[start:end]), body[end:])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, PrivateFileError):
            raise
        raise PrivateFileError(f"{path}: its header does not read ({error}); take an undamaged copy") from error


def _parsed(path: Path, role: Role, seal: bytes, header: dict[str, Any], data: bytes) -> PrivateSide:
    if header["role"] != role.value or header["seal"] != seal.hex():
        raise PrivateFileError(
            f"{path}: expected the {role.value} of the run with seal {seal.hex()[:16]}, "
            f"got the {_told(header['role'])} of {_told(header['seal'])}; take the file recorded with this transcript"
        )
    key, draws = bytes.fromhex(header["key"]), header["draws"]
    if len(key) != KEY_BYTES or any(type(taken) is not int or taken < 0 for taken in draws.values()):
        raise ValueError(f"expected a tape key of {KEY_BYTES} bytes and the bytes taken under each label")
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for name, dtype, shape in header["arrays"]:
        if dtype not in DTYPES:
            raise ValueError(f"array {quoted(name)}: expected one of {', '.join(DTYPES)}, got {quoted(dtype)}")
        if name in arrays or not is_shape(shape):
            raise ValueError(
                f"array {quoted(name)}: expected one array under a name, with a shape, got {quoted(shape)}"
            )
        size = math.prod(shape) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(data[start : start + size], dtype).reshape(shape)
        start += size
    if start != len(data):
        raise ValueError(f"expected {start} bytes of arrays, got {len(data)}")
    return PrivateSide(role, key, arrays, draws)


def _told(value: Any) -> str:
    """A foreign text in an error: its first characters."""
    return value[:16] if isinstance(value, str) and value.isprintable() else quoted(value)


def _little(name: str, array: NDArray[Any]) -> NDArray[Any]:
    converted = np.asarray(array, order="C").astype(array.dtype.newbyteorder("<"))
    if converted.dtype.str not in DTYPES:
        raise PrivateFileError(f"array {name!r}: expected one of {', '.join(DTYPES)}, got {converted.dtype.str}")
    return converted
