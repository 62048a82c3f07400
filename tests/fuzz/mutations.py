"""Hypothesis strategies: a valid input, then damage that knows its structure, or damage that does not.

A JSON value may hold words that `dumped` turns into what no Python value dumps to: numbers of thousands of digits, NaN,
values nested deeper than any stack, keys that stand twice.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

LONG, NAN, HUGE, DEEP, OBJECTS = "@long@", "@nan@", "@huge@", "@deep@", "@objects@"
RAW = {
    LONG: "1" * 5000,
    NAN: "NaN",
    HUGE: "-1e999",
    DEEP: "[" * 3000 + "]" * 3000,
    OBJECTS: '{"a":' * 900 + "1" + "}" * 900,
}
TWICE = "@twice@"  # a key that becomes its neighbour's
TEXTS = (
    "", "\0", "a\nb", "\x1b[2J", "\ud800", "\udcff", "\u202eabc", "٣", "²", "𝟘", "x" * 5000, "../../x", "client",
    "server",
    "</script><script>alert(1)</script>", "%s%n", "{0}", "--help", "-1", "1e3", "0x10", "nan", "inf", "true", "null",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 31, 63, 64, 65, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**9, 10**18, 10**30,
    10**4000,
    0.5, -0.0, 1e300,
)  # fmt: skip
VALUES: Sequence[Any] = (
    None, True, False, *NUMBERS, *TEXTS, *RAW, [], {}, [[]], [None], [1, "a"], [["a", 1]], [[None, 1], ["a", 2]],
    {"a": 1},
    {"": None}, [0, 2**63], [1] * 65, [10**4000, 10**4000], [2**40, 2**40],
)  # fmt: skip

hostile = st.sampled_from(VALUES).map(copy.deepcopy)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def dumped(value: Any, **options: Any) -> str:
    """JSON text, with the words of RAW spelled out."""
    text = json.dumps(value, **options)
    for word, raw in RAW.items():
        text = text.replace(f'"{word}"', raw)
    return text.replace(TWICE, "")


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a JSON value, the whole first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


@st.composite
def mutated(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """A copy of a JSON value after one to `most` changes: parts replaced, taken out, doubled, moved, added."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(changed)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                changed = draw(hostile)
            continue
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        _change(draw, holder, path[-1])
    return changed


def _change(draw: st.DrawFn, holder: Any, key: Any) -> None:
    kind = draw(st.sampled_from(("replace", "replace", "replace", "json", "nudge", "remove", "double", "add")))
    if kind == "replace":
        holder[key] = draw(hostile)
    elif kind == "json":
        holder[key] = draw(json_values)
    elif kind == "nudge" and type(holder[key]) is int:
        holder[key] += draw(st.sampled_from((-1, 1, 256)))
    elif kind == "remove":
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(
            draw(st.integers(0, len(holder))), copy.deepcopy(holder[key]) if kind == "double" else draw(hostile)
        )
    elif kind == "double":
        holder[f"{TWICE}{key}"] = draw(hostile)
    else:
        holder[draw(st.sampled_from(("a", "", "\0", "digest", "__metadata__", "insecure_test")))] = draw(hostile)


@st.composite
def damaged(draw: st.DrawFn, data: bytes, most: int = 4) -> bytes:
    """Bytes after one to `most` edits: cut, flipped, repeated, overwritten with extremes, spliced."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(found)))
        end = min(len(found), at + draw(st.sampled_from((1, 2, 8, 64, 4096))))
        kind = draw(st.sampled_from(("cut", "drop", "flip", "repeat", "extreme", "insert")))
        if kind == "cut":
            del found[at:]
        elif kind == "drop":
            del found[at:end]
        elif kind == "flip" and at < len(found):
            found[at] ^= draw(st.integers(1, 255))
        elif kind == "repeat":
            found[at:at] = found[at:end]
        elif kind == "extreme":
            width = draw(st.sampled_from((1, 2, 4, 8)))
            found[at : at + width] = bytes([draw(st.sampled_from((0, 0x7F, 0x80, 0xFF)))]) * width
        else:
            found[at:at] = draw(st.binary(max_size=16))
    return bytes(found)
