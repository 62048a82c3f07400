"""The scalar kernels, the expansion of seeds and the reused buffers, against plain Python integers."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from protocols.he.bits import pack, unpack
from protocols.he.buffers import empty
from protocols.he.params import PARAM_SETS, ntt_primes
from protocols.he.ring_q import Basis, ring_for
from protocols.he.sampling import flooding, flooding_bound, stream, uniform_residues
from protocols.he.scalars import modular, weighted_residues

PRIMES = ntt_primes(128, (50, 42, 22))
BASIS = Basis(PRIMES, (0, 1, 2))
SEEDS = st.binary(min_size=32, max_size=32)


@given(st.data(), st.sampled_from(PRIMES))
def test_modular_products_are_exact(data: st.DataObject, p: int) -> None:
    edge = st.sampled_from([0, 1, p - 1, p // 2]) | st.integers(0, p - 1)
    a, b = data.draw(edge), data.draw(edge)
    assert modular(a, b, p) == a * b % p


@given(st.integers(0, 2**17), st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), st.integers(0, 2**112))
def test_weighted_residues_are_those_of_the_integer(top: int, words: list[int], offset: int) -> None:
    out = np.empty((3, 1))
    powers = np.array([[pow(2, 32 * k, p) for k in range(3)] for p in PRIMES], dtype=np.int64)
    weight, minus = (np.array([value % p for p in PRIMES], dtype=np.int64) for value in (1 << 96, offset))
    columns = np.array(words, dtype=np.int64)[:, None]
    weighted_residues(out, np.array([top]), columns, weight, powers, minus, np.array(PRIMES, dtype=np.int64))
    value = (top << 96) + sum(word << (32 * k) for k, word in enumerate(words)) - offset
    assert [int(x) for x in out[:, 0]] == [value % p for p in PRIMES]


@given(SEEDS, st.integers(0, 5), st.integers(0, 100))
def test_a_stream_is_aes_256_in_counter_mode(seed: bytes, lane: int, nbytes: int) -> None:
    cipher = Cipher(algorithms.AES256(seed), modes.CTR(lane.to_bytes(8, "big") + bytes(8)))
    assert stream(seed, lane, nbytes) == cipher.encryptor().update(bytes(nbytes))


@given(SEEDS)
def test_uniform_residues_are_the_first_words_that_fit(seed: bytes) -> None:
    out = np.empty((3, 64))
    assert uniform_residues(seed, BASIS, 64, out) is out
    for lane, (row, p) in enumerate(zip(out, PRIMES, strict=True)):
        words = np.frombuffer(stream(seed, lane, 8 * 136), "<u8").astype(object) % (1 << p.bit_length())
        assert [int(x) for x in row] == [w for w in words if w < p][:64]


@given(SEEDS, st.integers(1 << 30, 1 << 110))
def test_flooding_is_one_integer_in_every_residue(seed: bytes, target: int) -> None:
    bound = flooding_bound(target)[0]
    rows = flooding(seed, 5, target, BASIS)
    modulus = PRIMES[0] * PRIMES[1] * PRIMES[2]
    for column in rows.T:
        value = sum(int(x) * (m := modulus // p) * pow(m, -1, p) for x, p in zip(column, PRIMES, strict=True)) % modulus
        assert value < bound or modulus - value <= bound


@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.data())
def test_packed_rows_come_back(lengths: list[int], data: st.DataObject) -> None:
    primes = [data.draw(st.sampled_from(PRIMES)) for _ in lengths]
    rows = [
        np.array(data.draw(st.lists(st.integers(0, p - 1), min_size=n, max_size=n)), dtype=np.float64)
        for p, n in zip(primes, lengths, strict=True)
    ]
    widths = tuple(p.bit_length() for p in primes)
    bits = "".join(format(int(x), f"0{w}b")[::-1] for row, w in zip(rows, widths, strict=True) for x in row)
    sent = pack(rows, widths)
    assert int.from_bytes(sent, "little") == int(bits[::-1], 2)
    out = [np.empty(n) for n in lengths]
    found = unpack(sent, tuple(primes), tuple(lengths), out)
    for a, b, c in zip(found, out, rows, strict=True):
        assert a is b and np.array_equal(b, c)


def test_a_buffer_is_reused_only_when_nothing_refers_to_it() -> None:
    first = empty(3, 5, 24)
    where = first.ctypes.data
    assert where % 64 == 0 and first.flags.writeable and first.shape == (3, 5, 24)
    view = first[1:, 2]
    del first
    second = empty(3, 5, 24)
    assert second.ctypes.data != where
    view[:] = 7.0
    second[:] = 0.0
    assert (view == 7.0).all()
    del view
    assert empty(3, 5, 24).ctypes.data == where


def test_small_residues_are_canonical() -> None:
    ring = ring_for(PARAM_SETS["P32tiny"])
    x = np.arange(-4, 4)
    rows = ring.small(x, ring.q1)
    assert [[int(v) for v in row] for row in rows] == [[int(v) % p for v in x] for p in ring.q1.primes]
