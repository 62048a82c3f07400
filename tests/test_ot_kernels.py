"""AES, the tweakable hash, bit matrices and folds against published vectors and slow obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from protocols.ot import aesni
from protocols.ot.aes import Permutation, TweakableHash, derive
from protocols.ot.kernels import fold_leaves, spread_counters, stream_fields, transpose_planes, tweak_blocks

FIPS_KEY = bytes(range(16))


def _aes(key: bytes, block: int) -> int:
    out = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block.to_bytes(16, "little"))
    return int.from_bytes(out, "little")


def _ints(words: np.ndarray) -> list[int]:
    return [int(lo) | int(hi) << 64 for lo, hi in words.reshape(-1, 2)]


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


def test_the_permutation_is_aes_128_of_fips_197() -> None:
    plain = np.frombuffer(bytes.fromhex("00112233445566778899aabbccddeeff"), np.uint64).reshape(1, 2)
    assert Permutation(FIPS_KEY)(plain).tobytes().hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_the_expanded_key_is_that_of_fips_197_appendix_a() -> None:
    schedule = aesni.expand_key(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")).tobytes()
    assert schedule[:16].hex() == "2b7e151628aed2a6abf7158809cf4f3c"
    assert schedule[16:32].hex() == "a0fafe1788542cb123a339392a6c7605"
    assert schedule[-16:].hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_the_permutation_encrypts_every_word_also_in_place(n: int) -> None:
    x = _random(n, n, 2)
    want = [_aes(FIPS_KEY, v) for v in _ints(x)]
    pi = Permutation(FIPS_KEY)
    assert _ints(pi(x)) == want
    assert _ints(pi(x, x)) == want


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 16 bytes, got 24"):
        Permutation(bytes(24))


@pytest.mark.parametrize(("first", "blocks"), [(0, 1), ((1 << 40) + 3, 3)])
def test_the_hash_is_its_definition(first: int, blocks: int) -> None:
    x = _random(5, 7, 2)
    got = TweakableHash(FIPS_KEY)(x, first, blocks).reshape(7, blocks, 2)
    for i, value in enumerate(_ints(x)):
        inner = _aes(FIPS_KEY, value)
        for block in range(blocks):
            want = _aes(FIPS_KEY, inner ^ (first + i) ^ (block << 64)) ^ inner
            assert _ints(got[i, block]) == [want]


def test_derived_keys_differ_by_every_word() -> None:
    words = [("client", "pads"), ("server", "pads"), ("client", "trees"), ("clientpads",), ("clientp", "ads")]
    assert len({derive(bytes(32), *w) for w in words} | {derive(bytes(31), *words[0])}) == len(words) + 1


@given(st.integers(1, 20), st.integers(0, 2**32))
def test_transposition(w: int, seed: int) -> None:
    planes, out = _random(seed, 128, w), np.zeros((64 * w, 2), np.uint64)
    transpose_planes(planes, out)
    bits = np.unpackbits(planes.view(np.uint8), axis=1, bitorder="little")
    assert np.array_equal(np.unpackbits(out.view(np.uint8), axis=1, bitorder="little"), bits.T)


@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 2**32))
def test_folds(k: int, w: int, seed: int) -> None:
    rows = _random(seed, 1 << k, w)
    planes, total = np.zeros((k, w), np.uint64), np.zeros(w, np.uint64)
    fold_leaves(rows.copy(), planes, total)
    index = np.arange(1 << k)
    for b in range(k):
        assert np.array_equal(planes[b], np.bitwise_xor.reduce(rows[(index >> b) & 1 == 1], axis=0))
    assert np.array_equal(total, np.bitwise_xor.reduce(rows, axis=0))


@pytest.mark.skipif(not aesni.AVAILABLE, reason="this CPU has no AES instructions: the portable path is in use")
@pytest.mark.parametrize("blocks", [1, 3, 4, 5, 64])
@pytest.mark.parametrize("first", [0, (1 << 32) - 2])
def test_compiled_streams_are_aes_in_counter_mode(first: int, blocks: int) -> None:
    base, pi = _random(3, 256, 2), Permutation(FIPS_KEY)
    rows = np.empty((256, blocks, 2), np.uint64)
    spread_counters(base, first, rows)
    assert _ints(rows[255, blocks - 1]) == [_ints(base[255])[0] ^ (first + blocks - 1) << 64]
    want, whole = np.empty((8, 2 * blocks), np.uint64), np.empty(2 * blocks, np.uint64)
    fold_leaves(pi(rows).reshape(256, -1), want, whole)
    planes, total = np.empty_like(want), np.empty_like(whole)
    aesni.fold_streams(aesni.expand_key(FIPS_KEY), base.reshape(-1), first, planes, total)
    assert np.array_equal(planes, want)
    assert np.array_equal(total, whole)


@given(st.integers(0, 191), st.integers(1, 64), st.integers(0, 2**32))
def test_fields_of_streams(offset: int, length: int, seed: int) -> None:
    streams = _random(seed, 2, 3, 4)
    which, out = np.array([0, 1, 1], np.uint8), np.zeros(3, np.uint64)
    stream_fields(streams, which, offset, length, out)
    for i, variant in enumerate(which):
        whole = sum(int(word) << (64 * k) for k, word in enumerate(streams[variant, i]))
        assert int(out[i]) == (whole >> offset) % (1 << length)


def test_tweaks_are_index_and_block() -> None:
    x, out = _random(1, 4, 2), np.zeros((4, 2), np.uint64)
    tweak_blocks(x, 1 << 33, 5, out)
    assert _ints(out) == [v ^ ((1 << 33) + i) ^ (5 << 64) for i, v in enumerate(_ints(x))]
