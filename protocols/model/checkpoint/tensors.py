"""The tensors of a checkpoint folder: one safetensors file, or shards with an index, as Hugging Face writes them.

Files are memory-mapped: opening a folder reads headers only, a tensor is read when it is asked for. Formats that may
hold code (pickles) are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from protocols.model.config import SHOWN

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MOST_INDEX_BYTES = 1 << 26
FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 is the upper half of a float32


class NoCheckpoint(ValueError):
    """A path that holds no weights in safetensors."""


class PickledWeights(ValueError):
    """Weights in a format that may hold code."""


class BadShard(ValueError):
    """A safetensors file that does not read."""


class BadIndex(ValueError):
    """An index that does not say where every tensor is."""


class MissingTensor(ValueError):
    """A tensor that the configuration asks for and the checkpoint does not have."""


class ForeignDtype(ValueError):
    """A tensor of another type than float32, float16 and bfloat16."""


class NotFinite(ValueError):
    """A tensor with an infinity or a NaN."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: a file, and the byte in it where its values begin."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int


class Tensors:
    """The tensors of a checkpoint by name."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._stored = dict(stored)

    def __getitem__(self, name: str) -> Stored:
        if name not in self._stored:
            raise MissingTensor(f"expected a tensor {name} in the checkpoint, got none: take all of its files")
        return self._stored[name]

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, name: str) -> NDArray[np.float32]:
        """The values of a tensor, exactly, in float32. MissingTensor, ForeignDtype, NotFinite."""
        found = self[name]
        if found.dtype not in FLOATS:
            raise ForeignDtype(f"{name}: expected {', '.join(FLOATS)}, got {found.dtype}: convert the checkpoint")
        raw = np.memmap(found.path, FLOATS[found.dtype], "r", found.begin, found.shape)
        if found.dtype == "BF16":
            values = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            values = raw.astype(np.float32)
        if not np.isfinite(values).all():
            raise NotFinite(f"{name}: expected finite weights, got infinities or NaN: take an undamaged copy")
        return values


def open_tensors(folder: Path) -> Tensors:
    """The tensors of a folder: `model.safetensors` if it is there, otherwise the shards of its index.

    NoCheckpoint, PickledWeights, BadShard, BadIndex.
    """
    if folder.suffix in PICKLED:
        raise PickledWeights(_pickled(folder))
    if not folder.is_dir():
        raise NoCheckpoint(f"expected a folder with config.json and {SINGLE}, got {folder}: give a folder that exists")
    if (folder / SINGLE).is_file():
        return Tensors(_header(folder / SINGLE))
    if (folder / INDEX).is_file():
        return Tensors(_sharded(folder))
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLED)
    if pickles:
        raise PickledWeights(_pickled(pickles[0]))
    raise NoCheckpoint(f"expected {SINGLE} or {INDEX} in {folder}, got neither: take the checkpoint in safetensors")


def _pickled(path: Path) -> str:
    return f"expected weights in safetensors, got {path}, a pickle, which may run code: convert it where you trust it"


def _sharded(folder: Path) -> dict[str, Stored]:
    placed, found = _index(folder / INDEX), dict[str, Stored]()
    shards = sorted(set(placed.values()))
    for shard in shards:
        if not (folder / shard).is_file():
            raise BadIndex(f"expected the shard {shard} of {folder / INDEX}, got no such file: take all shards")
    for shard in shards:
        held = _header(folder / shard)
        strange = sorted(name for name in held if placed.get(name) != shard)
        if strange:
            told = placed.get(strange[0], "nowhere")
            raise BadIndex(f"expected {strange[0]} in {told} as {INDEX} says, got it in {shard}: take matching files")
        found |= held
    lost = sorted(placed.keys() - found.keys())
    if lost:
        raise BadIndex(f"expected {lost[0]} in {placed[lost[0]]} as {INDEX} says, got none there: take matching files")
    return found


def _index(path: Path) -> dict[str, str]:
    """Tensor name -> file name beside the index."""
    placed = read_json(path, BadIndex).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise BadIndex(f"expected a weight_map in {path}, got none: take an undamaged copy")
    for name, shard in placed.items():
        if not (isinstance(shard, str) and Path(shard).name == shard and shard.endswith(SHARD) and "\0" not in shard):
            told = repr(shard)[:SHOWN]
            raise BadIndex(f"expected {name[:SHOWN]!r} in a {SHARD} file beside {path}, got {told}: correct the index")
    return placed


def read_json(path: Path, error: type[ValueError]) -> dict[str, Any]:
    """The JSON object in a file; `error` where it holds none."""
    if not path.is_file() or path.stat().st_size > MOST_INDEX_BYTES:
        raise error(f"expected a file of at most {MOST_INDEX_BYTES:,} bytes at {path}, got none: take all files")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as fault:
        raise error(f"expected a JSON object in {path}, got another text: {fault}") from fault
    if not isinstance(found, dict):
        raise error(f"expected a JSON object in {path}, got {type(found).__name__}: take an undamaged copy")
    return found


def _header(path: Path) -> dict[str, Stored]:
    """What a file holds. The reader of the format checks that the tensors lie side by side and fill the file."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise BadShard(f"expected a safetensors file at {path}, got one that does not read: {error!s:.200}") from error
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    found = {}
    for name in names:
        entry = header[name]
        found[name] = Stored(path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
    return found
