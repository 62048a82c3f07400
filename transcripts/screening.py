"""Which columns of a view to learn from: F statistics within strata, and the best columns that are not repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcripts.extraction import Key

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = Mapping[Key, NDArray[Any]]
AT_ONCE = 1 << 22  # bytes of a view whose statistics are computed in one go
LOOKED_AT = 8  # times the wanted number: how far down the ranking repetitions are skipped


def f_statistics(columns: Rows, truth: Ints, stratum: Ints, training: Mask) -> dict[Key, Floats]:
    """F statistic of every column against the classes within each stratum, over the training rows; 0 for a constant.

    The model is a mean per stratum and class, against a mean per stratum: what the stratum alone says of a class does
    not count, and a column may mean another thing in each. With one stratum it is the one-way analysis of variance.
    """
    rows = np.flatnonzero(training)
    rows = rows[np.lexsort((truth[rows], stratum[rows]))]
    new_stratum = _starts(stratum[rows])
    new_cell = np.union1d(new_stratum, _starts(truth[rows]))
    count, strata = np.diff(new_cell, append=len(rows)), np.diff(new_stratum, append=len(rows))
    of_stratum = np.searchsorted(new_cell, new_stratum)
    between_freedom, within_freedom = max(len(count) - len(strata), 1), max(len(rows) - len(count), 1)
    found: dict[Key, Floats] = {}
    for keys in _together(columns):
        # Sums of bytes and of their squares are exact in integers; of sizes only the differences count.
        some = np.concatenate([columns[key][rows] for key in keys], axis=1)
        x: NDArray[Any] = some.astype(np.int32) if some.dtype == np.int8 else some.astype(np.float64) - some[0]
        sums = np.add.reduceat(x, new_cell, axis=0).astype(np.float64)
        level = (np.add.reduceat(sums, of_stratum, axis=0) ** 2 / strata[:, None]).sum(0)
        total = np.square(x).sum(0).astype(np.float64) - level
        between = (sums**2 / count[:, None]).sum(0) - level
        moving = total > 1e-9 * (level + 1)
        within = np.maximum(total - between, 1e-9 * np.maximum(total, 1e-9))
        values = np.where(moving, (between / between_freedom) / (within / within_freedom), 0.0)
        ends = np.cumsum([columns[key].shape[1] for key in keys])
        found |= zip(keys, np.split(values, ends[:-1]), strict=True)
    return {key: found[key] for key in columns}


def _together(columns: Rows) -> Iterator[list[Key]]:
    """Keys whose columns are bytes, as many as fit: most have a few columns, and thousands of calls would add up."""
    group: list[Key] = []
    size = 0
    for key, part in columns.items():
        if part.dtype != np.int8:
            yield [key]
            continue
        if group and size + part.size > AT_ONCE:
            yield group
            group, size = [], 0
        group.append(key)
        size += part.size
    if group:
        yield group


def _starts(values: Ints) -> Ints:
    """Where a run of equal values begins."""
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1))


def best(found: Mapping[Key, Floats], columns: Rows, training: Mask, most: int) -> list[tuple[Key, int]]:
    """The columns of the largest F, ties by key and place; of columns that are equal in training the first one."""
    keys = sorted(found)
    every = np.concatenate([found[key] for key in keys]) if keys else np.zeros(0)
    starts = np.cumsum([0, *(len(found[key]) for key in keys)])
    chosen: list[tuple[Key, int]] = []
    seen: set[bytes] = set()
    for i in np.argsort(-every, kind="stable")[: LOOKED_AT * most]:
        at = int(np.searchsorted(starts, i, side="right")) - 1
        key, place = keys[at], int(i - starts[at])
        content = columns[key][training, place].tobytes()
        if every[i] > 0 and content not in seen and len(chosen) < most:
            seen.add(content)
            chosen.append((key, place))
    return chosen
