"""Tapes: one key per owner, one use per label, uniform words, frozen values."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.ring import Ring, Spec
from sim.tape import KEY_BYTES, Tape, TapeReuse, derive_key, draw_nbytes, words_from_bytes

SEEDS = st.binary(max_size=40)
OWNERS = st.sampled_from(["client", "server", "", "c", "clien", "common"])
LABELS = st.text(max_size=20)


@given(SEEDS, OWNERS, LABELS)
def test_a_draw_is_a_pure_function_of_seed_owner_and_label(seed: bytes, owner: str, label: str) -> None:
    draws = [Tape(derive_key(seed, owner), owner).bytes(label, 40) for _ in range(2)]
    assert draws[0] == draws[1]
    assert Tape(derive_key(seed, owner), owner).bytes(label, 16) == draws[0][:16]


@given(st.lists(st.tuples(SEEDS, OWNERS, LABELS), min_size=2, max_size=8, unique=True))
def test_different_seeds_owners_or_labels_give_different_draws(sources: list[tuple[bytes, str, str]]) -> None:
    draws = [Tape(derive_key(seed, owner), owner).bytes(label, 16) for seed, owner, label in sources]
    assert len(set(draws)) == len(sources)


def test_seed_and_owner_do_not_run_together() -> None:
    assert derive_key(b"seedc", "lient") != derive_key(b"seed", "client")
    assert derive_key(b"", "client") != derive_key(None, "client")


def test_without_a_seed_the_key_comes_from_the_system() -> None:
    keys = {derive_key(None, "client") for _ in range(4)}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_a_label_serves_once() -> None:
    tape = Tape(derive_key(b"s", "client"), "client")
    tape.bytes("r1/mul/r", 8)
    tape.bytes("r1/mul/s", 0)
    for label in ("r1/mul/r", "r1/mul/s"):
        with pytest.raises(TapeReuse, match=f"client's tape: label '{label}'"):
            tape.bytes(label, 8)
    assert tape.draws == {"r1/mul/r": 8, "r1/mul/s": 0}
    tape.bytes("r2/mul/r", 8)


@pytest.mark.parametrize("n", [0, 31, 33])
def test_a_key_of_another_length_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"client: expected 32 bytes, got {n}"):
        Tape(bytes(n), "client")


def test_frozen_values() -> None:
    """The tape format: a change of it changes every seeded transcript."""
    key = derive_key(b"seed", "client")
    assert key.hex() == "837a548c899feff87e463be48921a5d3251695dc9ab15d5ad3a896a195f3fc8e"
    data = Tape(key, "client").bytes("r1/mask", 16)
    assert data.hex() == "60f496948e71fbf89e7b2875cb154860"
    assert data == hashlib.shake_128(key + b"r1/mask").digest(16)
    assert key == hashlib.shake_128(b"secmoe tape" + bytes([4, 0, 0, 0, 0, 0, 0, 0]) + b"seed" + b"client").digest(32)
    assert words_from_bytes(data, Spec(Ring(64), (2,))).tolist() == [17941058397752718432, 6937819189552380830]
    assert words_from_bytes(data[:4], Spec(Ring(13), (2,))).tolist() == [5216, 5270]
    assert words_from_bytes(data[:1], Spec(Ring(1), (2, 3))).tolist() == [[0, 0, 0], [0, 0, 1]]


@given(st.integers(1, 64), st.lists(st.integers(0, 5), max_size=3).map(tuple))
def test_words_stay_in_the_ring_and_use_what_is_announced(l: int, shape: tuple[int, ...]) -> None:
    spec = Spec(Ring(l), shape)
    n = draw_nbytes(spec.ring, shape)
    for data in (bytes(n), b"\xff" * n):
        words = words_from_bytes(data, spec)
        assert words.shape == shape
        assert set(words.reshape(-1).tolist()) <= {0, spec.ring.mask}
        assert words.dtype == (np.uint8 if l == 1 else np.uint64)


@pytest.mark.parametrize("l", [*range(2, 9), 12, 16])
def test_every_width_maps_uniform_bytes_onto_uniform_words(l: int) -> None:
    """Exactly: over all strings of the draw's length, every ring element comes up equally often."""
    n = draw_nbytes(Ring(l), (1,))
    strings = np.arange(256**n, dtype="<u2" if n == 2 else "u1").tobytes()
    words = words_from_bytes(strings, Spec(Ring(l), (256**n,)))
    assert (np.bincount(words.astype(np.int64), minlength=2**l) == 256**n // 2**l).all()


@pytest.mark.parametrize("l", [1, 2, 7, 8, 9, 17, 24, 31, 32, 33, 48, 63, 64])
def test_drawn_bits_are_balanced(l: int) -> None:
    """Each of the l bits over 4096 draws of a fixed tape: within 6 standard deviations of one half."""
    size = 4096
    data = Tape(derive_key(b"balance", "client"), "client").bytes(f"{l}", draw_nbytes(Ring(l), (size,)))
    words = words_from_bytes(data, Spec(Ring(l), (size,))).astype(np.uint64)
    ones = np.array([int((words >> np.uint64(i) & np.uint64(1)).sum()) for i in range(l)])
    assert (abs(ones - size / 2) < 6 * (size**0.5) / 2).all()
    assert len(np.unique(words)) > min(2**l, size) * 0.6
