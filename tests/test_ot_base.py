"""Base OT against its definition, with edwards25519 written out in plain Python; bad points refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp

from protocols.ot.base import InvalidPoint, base_cost, base_ot, check_point
from protocols.ot.functionalities import BASE_OT
from sim.message import Message
from sim.role import CLIENT, SERVER, Role
from sim.tape import Tape, derive_key
from sim.wire import BlobSpec
from sim.world import Execution, Session

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SID = bytes(range(32))
Point = tuple[int, int]


def _add(a: Point, b: Point) -> Point:
    t = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, P)
    return x % P, y % P


def _mul(k: int, a: Point) -> Point:
    out: Point = (0, 1)
    for bit in bin(k)[2:]:
        out = _add(out, out)
        out = _add(out, a) if bit == "1" else out
    return out


def _decode(data: bytes) -> Point:
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    x = x if x * x % P == xx else x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 != data[31] >> 7 else x), y


def _encode(a: Point) -> bytes:
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")


G = _decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def _run(seed: bytes, sender: Role, choices: list[int]) -> Execution:
    bits = np.array(choices, np.uint8)
    inputs = {role: [sender, None if role is sender else bits, SID] for role in Role}
    return Session(seed=seed).run(base_ot, inputs[CLIENT], inputs[SERVER], n=len(choices))


@settings(max_examples=20)
@given(st.binary(max_size=4), st.sampled_from(Role), st.lists(st.integers(0, 1), min_size=1, max_size=6))
def test_the_receiver_gets_the_chosen_key(seed: bytes, sender: Role, choices: list[int]) -> None:
    e = _run(seed, sender, choices)
    keys, got = e.outputs[sender], e.outputs[sender.peer]
    assert np.array_equal(got, BASE_OT.compute(np.array(choices), keys))
    assert len({row.tobytes() for row in keys.reshape(-1, 16)}) == 2 * len(choices)
    assert e.cost.row() == base_cost(sender, n=len(choices)).row()


def test_keys_and_messages_are_those_of_the_definition() -> None:
    choices = [0, 1, 1]
    e = _run(b"definition", SERVER, choices)
    tape = {role: Tape(derive_key(b"definition", role.value), role.value) for role in Role}
    (a,) = _scalars(tape[SERVER].bytes("r1/base_ot/scalar", 64))
    b = _scalars(tape[CLIENT].bytes("r1/base_ot/scalars", 64 * len(choices)))
    point = _mul(a, G)
    answers = [_add(_mul(s, G), point) if c else _mul(s, G) for s, c in zip(b, choices, strict=True)]
    sent = {m.sender: m.payload for m in e.messages}
    assert sent[SERVER] == _encode(point)
    assert sent[CLIENT] == b"".join(_encode(x) for x in answers)
    minus = (P - point[0], point[1])
    for i, answer in enumerate(answers):
        for value, base in enumerate((answer, _add(answer, minus))):
            h = hashlib.blake2b(digest_size=16, person=b"secmoe base ot")
            for part in (SID, b"r1/base_ot"):
                h.update(len(part).to_bytes(2, "little") + part)
            h.update(i.to_bytes(4, "little") + _encode(point) + _encode(answer) + _encode(_mul(a, base)))
            assert e.outputs[SERVER][i, value].tobytes() == h.digest()


def _scalars(seed: bytes) -> list[int]:
    return [int.from_bytes(seed[i : i + 64], "little") % ORDER for i in range(0, len(seed), 64)]


def test_128_base_ots_take_4128_bytes_in_two_flights() -> None:
    e = _run(b"", CLIENT, [0] * 64 + [1] * 64)
    assert e.cost.row() == (32, 4096, 2, 0, 0, 2)


SMALL = ["01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32, "00" * 31 + "80",
         "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
         "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"]  # fmt: skip
NOT_CANONICAL = "ee" + "ff" * 30 + "7f"
OFF_CURVE = "02" + "00" * 31


def _bad_points() -> dict[str, bytes]:
    good = crypto_scalarmult_ed25519_base_noclamp((5).to_bytes(32, "little"))
    named = {f"small order {i}": bytes.fromhex(h) for i, h in enumerate(SMALL)}
    mixed = crypto_core_ed25519_add(good, bytes.fromhex(SMALL[4]))
    other = {"mixed order": mixed, "not canonical": bytes.fromhex(NOT_CANONICAL)}
    return {**named, **other, "off the curve": bytes.fromhex(OFF_CURVE)}


@pytest.mark.parametrize("name", list(_bad_points()))
def test_a_bad_point_is_refused_by_both_sides(name: str) -> None:
    bad = _bad_points()[name]
    with pytest.raises(InvalidPoint, match=bad.hex()):
        check_point(bad, "A")
    good = crypto_scalarmult_ed25519_base_noclamp((7).to_bytes(32, "little"))
    with pytest.raises(InvalidPoint, match=r"B\[1\]"):
        _alone(SERVER, "B", BlobSpec("points", 64), good + bad)
    with pytest.raises(InvalidPoint, match="expected A"):
        _alone(CLIENT, "A", BlobSpec("point", 32), bad)


def test_a_good_point_is_accepted() -> None:
    good = crypto_scalarmult_ed25519_base_noclamp((7).to_bytes(32, "little"))
    assert check_point(good, "A") == good
    assert len(_alone(SERVER, "B", BlobSpec("points", 64), good + good).outputs[SERVER]) == 2


def _alone(role: Role, word: str, spec: BlobSpec, payload: bytes) -> Execution:
    """Run one party against a message made up by its peer; SERVER sends the base OTs."""
    label = f"r1/base_ot/{word}"
    message = Message(role.peer, label, "r1/base_ot", 1, spec, payload)
    session = Session(seed=b"", roles=[role], sources={role.peer: {label: message}.get})
    args = [SERVER, None if role is SERVER else np.zeros(2, np.uint8), SID]
    return session.run(base_ot, args, args, n=2)
