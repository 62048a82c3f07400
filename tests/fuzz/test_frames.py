"""What a peer sends over a socket, once it is decrypted: frames of messages, and the terms of a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sim.remote.frames import DONE, TERMS, message_frame
from tests.fuzz.mutations import damaged, dumped, mutated
from tests.fuzz.parsers import OK, due, outcome

HONEST = message_frame(next(iter(due().values())))
TOLD = {"program": "secmoe", "shape.d": 32, "params.name": "P64s", "tokens": 9}
HERE = Path()  # no file is written


def framed(header: Any, content: bytes) -> bytes:
    """A message's frame with this header."""
    text = dumped(header, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"M" + (len(text) % 65536).to_bytes(2, "little") + text + content


def parted(frame: bytes) -> tuple[Any, bytes]:
    end = 3 + int.from_bytes(frame[1:3], "little")
    return json.loads(frame[3:end]), frame[end:]


def test_honest_frames_are_read() -> None:
    assert framed(*parted(HONEST)) == HONEST
    assert outcome("frame", HONEST, HERE) == outcome("frame", DONE, HERE) == OK
    assert outcome("terms", TERMS + json.dumps(TOLD).encode(), HERE) == OK


@given(
    mutated(parted(HONEST)[0]).map(lambda h: framed(h, parted(HONEST)[1])) | damaged(HONEST) | st.binary(max_size=60)
)
def test_frames(content: bytes) -> None:
    """What is read is the end, or a frame of the expected header and size; its content may be any bytes."""
    held = len(parted(HONEST)[1])
    expected = len(content) == len(HONEST) and content[:-held] == HONEST[:-held]
    assert outcome("frame", content, HERE) != OK or expected or content == DONE


@given(mutated(TOLD).map(lambda t: TERMS + dumped(t).encode("utf-8", "surrogatepass")) | st.binary(max_size=60))
def test_terms(content: bytes) -> None:
    outcome("terms", content, HERE)
