"""Reuse, exactly: bytes that come twice in a transcript, differences that stay the same, private draws on the wire.

Every message but a public constant should be fresh and uniform. Two equal 16-byte blocks, or two messages whose
difference repeats when the same inputs run again, are then no coincidence: the chance is below 2^-40 for a gigabyte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sim.message import Message
from sim.role import Role
from sim.tape import Tape
from transcripts.finding import Finding, exact

BLOCK = 16
SHORT = 8  # bytes: below it equal messages are ordinary
LONGEST = 1 << 14  # bits of a message in which a shorter one is looked for
PUBLIC_DRAW = re.compile(r"(/a\d+|/a_\w+|/nonce)$")  # seeds of a-parts, which are sent by design, and the nonce

Messages = Sequence[Message]


def repeated_blocks(messages: Messages) -> Finding:
    """Equal aligned 16-byte blocks anywhere in the transcript, and whole messages of 8 bytes or more that are equal."""
    where: dict[bytes, str] = {}
    hits, n = [], 0
    for message in messages:
        data = message.payload or b""
        pieces = [data[i : i + BLOCK] for i in range(0, len(data) - BLOCK + 1, BLOCK)]
        if len(data) >= SHORT and len(data) % BLOCK:
            pieces.append(data)
        n += len(pieces)
        before = next((piece for piece in pieces if piece in where), None)
        if before is not None:
            hits.append(f"{where[before]} and {message.label}")
        elif len(set(pieces)) < len(pieces):
            hits.append(f"twice in {message.label}")
        where.update(dict.fromkeys(pieces, message.label))
    return exact(
        "repeated blocks",
        "a block of a message comes twice",
        n,
        hits,
        "values that are reused under fresh masks, and blocks at another alignment",
    )


def fixed_differences(runs: Sequence[Messages]) -> Finding:
    """Messages of one sender-receiver view whose xor is the same in two runs on the same inputs.

    runs: at least two runs of one protocol with the same inputs, shares included, and fresh tapes. A shorter message is
    compared with every place of a longer one.
    """
    claim, blind = "the difference of two messages depends on the inputs alone", "differences in other groups than bits"
    if len(runs) < 2:
        return exact("fixed differences", claim, 0, [], blind)
    one, two = ([_bits(m) for m in run] for run in runs[:2])
    labels = [m.label for m in runs[0]]
    # x ^ y is the same in both runs exactly where x changes between them as y does
    changes = [(a ^ b).tobytes() for a, b in zip(one, two, strict=True)]
    chosen = [i for i, change in enumerate(changes) if len(change) >= 8 * SHORT]
    hits, n = [], len(chosen)
    for i, j in combinations(chosen, 2):
        short, long = sorted((changes[i], changes[j]), key=len)
        n += len(long) - len(short) + 1
        if short in long:
            hits.append(f"{labels[i]} and {labels[j]}")
    hits += [f"{labels[i]} in two runs" for i in chosen if not any(changes[i])]
    return exact("fixed differences", claim, n, hits, blind)


def _bits(message: Message) -> NDArray[np.uint8]:
    data = message.payload or b""
    if len(data) * 8 > LONGEST:
        return np.zeros(0, np.uint8)
    size = getattr(message.spec, "bits", 8 * len(data))
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:size]


def shown_draws(messages: Messages, tapes: Mapping[Role, Tape]) -> Finding:
    """Draws of a party that occur in what it sends: private seeds in clear. Seeds of a-parts and nonces are public."""
    hits, n = [], 0
    for role, tape in tapes.items():
        fresh = Tape(tape.key, tape.owner)
        sent = [(m.label, m.payload or b"") for m in messages if m.sender is role]
        for label, size in tape.draws.items():
            if size < BLOCK or PUBLIC_DRAW.search(label):
                continue
            n += 1
            head = fresh.bytes(label, size)[:BLOCK]
            hits += [f"{label} in {place}" for place, data in sent if head in data]
    return exact("shown draws", "a private draw is on the wire", n, hits, "draws that are sent in another form")


def same_in_two_sessions(one: Messages, two: Messages, sender: Role) -> Finding:
    """Blocks of 16 bytes that one party sends in two sessions with independent tapes of its own.

    The peer may have the same tape in both.
    """
    blocks = [
        {
            data[i : i + BLOCK]
            for m in messages
            if m.sender is sender and (data := m.payload or b"")
            for i in range(0, len(data) - BLOCK + 1, BLOCK)
        }
        for messages in (one, two)
    ]
    hits = [block.hex() for block in sorted(blocks[0] & blocks[1])[:4]]
    return exact(
        "two sessions",
        f"the {sender.value} sends the same block in two sessions",
        len(blocks[0]),
        hits,
        "values that repeat under masks or keys of the session",
    )


def same_secrets(one: Mapping[str, bytes], two: Mapping[str, bytes]) -> Finding:
    """Private values that two independent sessions have in common, by name."""
    hits = [name for name in one if one[name] == two.get(name)]
    return exact(
        "two sessions",
        "a private value is the same in two independent sessions",
        len(one),
        hits,
        "values that are related without being equal",
    )
