"""Ferret: the correlation for every COT, public amounts that cost least, reserves and leftovers used once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.ot import aesni, ferret
from protocols.ot.aes import Permutation
from protocols.ot.amounts import Making, making
from protocols.ot.ferret import Iteration, mark, mark_delta, marks
from protocols.ot.functionalities import COT
from protocols.ot.kernels import U64, Bits
from protocols.ot.lpn import B10, B12, PRESETS, InsecureLpn, Preset, attack_bits, gauss_bits, hybrid_bits, secure
from protocols.ot.softspoken import KernelMismatch, extension_bits
from protocols.ot.trees import CODE_WORDS, LOCALITY, PLACE_BITS, grow, mix

DIRECTION = b"a direction 0123"
SMALL = (Preset("small", 3, 4, 2), Preset("deep", 2, 5, 6), Preset("one", 1, 3, 3), Preset("wide", 21, 7, 10))
ODD = np.uint64(1)


COMPILED = pytest.param(True, marks=pytest.mark.skipif(not aesni.AVAILABLE, reason="no AES instructions"))


def reserve_of(preset: Preset, rng: np.random.Generator) -> tuple[U64, U64, U64]:
    """Marked Delta, q and t."""
    delta = mark_delta(rng.integers(0, 2**64, 2, np.uint64))
    q, u = rng.integers(0, 2**64, (preset.reserve, 2), np.uint64), rng.integers(0, 2, preset.reserve, np.uint8)
    t = COT.compute(u, q, delta)
    mark(q, None)
    mark(t, u)
    return delta, q, t


def iterate(preset: Preset, seed: int, number: int = 0) -> tuple[U64, U64, U64, U64, bytes]:
    """Marked Delta, the sender's reserve, what both make of it, y and z, and the message."""
    delta, q, t = reserve_of(preset, np.random.default_rng(seed))
    y, z = np.empty((preset.outputs, 2), np.uint64), np.empty((preset.outputs, 2), np.uint64)
    message = Iteration(DIRECTION, number, preset).sender(delta, q, y)
    Iteration(DIRECTION, number, preset).receiver(t, message, z)
    return delta, q, y, z, message


def correlated(choices: Bits, y: U64, z: U64, delta: U64) -> bool:
    return np.array_equal(z, COT.compute(choices, y, delta))


# -- one iteration ------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.sampled_from(SMALL), st.integers(0, 2**32), st.integers(0, 5))
def test_every_cot_is_correlated(preset: Preset, seed: int, number: int) -> None:
    delta, _, y, z, message = iterate(preset, seed, number)
    assert len(message) == preset.nbytes
    assert not (y[:, 0] & ODD).any()
    assert correlated(marks(z), y, z, delta)


def test_every_cot_of_a_real_iteration_is_correlated_and_uniform() -> None:
    from scipy.stats import chi2

    delta, q, y, z, message = iterate(B10, 7)
    assert correlated(marks(z), y, z, delta)
    for data in (np.packbits(marks(z)), y.view(np.uint8)[:, 1:], z.view(np.uint8)[:, 1:], np.frombuffer(message, "u1")):
        counts = np.bincount(data.reshape(-1), minlength=256)
        statistic = float(((counts - data.size / 256) ** 2).sum() / (data.size / 256))
        assert chi2.isf(1 - 1e-6, 255) < statistic < chi2.isf(1e-6, 255)
    assert len(np.unique(np.concatenate([q, y])[:, 1])) == len(q) + len(y)


def slow_hash(pi: Permutation, x: int) -> int:
    """H(x) = pi(s(x)) ^ s(x) on integers below 2^128."""
    high, low = x >> 64, x & (2**64 - 1)
    mixed = ((high ^ low) << 64) | high
    block = np.frombuffer(mixed.to_bytes(16, "little"), np.uint64).copy().reshape(1, 2)
    return int.from_bytes(pi(block).tobytes(), "little") ^ mixed


def slow_samples(iteration: Iteration, preset: Preset, delta: int, q: list[int]) -> list[int]:
    """The sender's outputs by their definition, without kernels: leaves, and the code of the LPN secret."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    k, leaves = 1 << preset.log_k, []
    for tree in range(preset.trees):
        first = q[k + tree * preset.depth]
        nodes = [first, first ^ delta]
        for _ in range(1, preset.depth):
            nodes = [child for x in nodes for left in [slow_hash(iteration.pi, x)] for child in (left, left ^ x)]
        assert np.bitwise_xor.reduce(np.array(nodes, object)) == delta
        leaves += [node & ~1 for node in nodes]
    stream = Cipher(algorithms.AES(iteration._code_key), modes.CTR(bytes(16))).encryptor()
    words = np.frombuffer(stream.update(bytes(8 * CODE_WORDS * len(leaves))), np.uint64).reshape(-1, CODE_WORDS)
    for j, row in enumerate(words):
        places = [(int(word) >> (PLACE_BITS * i)) % k for word in row for i in range(3)]
        places.append((int(row[0]) >> 54 | (int(row[1]) >> 54) << 10) % k)
        assert len(places) == LOCALITY
        for place in places:
            leaves[j] ^= q[place]
    return leaves


@pytest.mark.parametrize("compiled", [False, COMPILED])
@pytest.mark.parametrize("preset", (*SMALL[:3], Preset("compiled", 3, 4, 8)), ids=lambda preset: preset.name)
def test_the_samples_are_their_definition(preset: Preset, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aesni, "AVAILABLE", compiled)
    monkeypatch.setattr(ferret, "BATCH", 5)
    monkeypatch.setattr(ferret, "GROUP", 2 << preset.depth)
    delta, q, y, _, _ = iterate(preset, 3)

    def words(x: U64) -> list[int]:
        return [int.from_bytes(row.tobytes(), "little") for row in x]

    assert words(y) == slow_samples(Iteration(DIRECTION, 0, preset), preset, words(delta[None])[0], words(q))


def test_the_portable_path_gives_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def words() -> list[bytes]:
        return [bytes(x) for x in iterate(SMALL[3], 9)]

    fast = words()
    monkeypatch.setattr(aesni, "AVAILABLE", False)
    assert words() == fast


def test_a_broken_kernel_is_found_when_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(schedule: U64, nodes: U64, trees: int, out: U64, lefts: U64) -> None:
        out[:], lefts[:] = 0, 0

    ferret._self_tested.cache_clear()
    monkeypatch.setattr(aesni, "grow_level", broken)
    with pytest.raises(KernelMismatch, match="Ferret: the AES instructions give other trees"):
        ferret._self_tested()
    monkeypatch.undo()
    assert not aesni.AVAILABLE or ferret._self_tested()


def test_the_receiver_lacks_one_leaf_per_tree() -> None:
    """Before the code is added, w = v ^ e Delta with one error in each tree, where the reserve's choices say."""
    preset = SMALL[3]
    delta, q, t = reserve_of(preset, np.random.default_rng(5))
    k = 1 << preset.log_k
    q[:k], t[:k] = 0, 0
    v, w = np.empty((preset.outputs, 2), np.uint64), np.empty((preset.outputs, 2), np.uint64)
    message = Iteration(DIRECTION, 0, preset).sender(delta, q, v)
    Iteration(DIRECTION, 0, preset).receiver(t, message, w)
    errors = marks(w).reshape(preset.trees, -1)
    sides = (t[k:, 0] & ODD).reshape(preset.trees, preset.depth).astype(np.int64)
    holes = ((1 - sides) << np.arange(preset.depth - 1, -1, -1)).sum(axis=1)
    assert np.array_equal(errors.argmax(axis=1), holes)
    assert (errors.sum(axis=1) == 1).all()
    assert len(set(holes)) > 10
    assert correlated(errors.reshape(-1), v, w, delta)


def test_iterations_have_trees_and_a_code_of_their_own() -> None:
    preset = SMALL[1]
    delta, q, _ = reserve_of(preset, np.random.default_rng(6))
    made = []
    for direction, number in product((DIRECTION, b"another one 4567"), range(3)):
        y = np.empty((preset.outputs, 2), np.uint64)
        made.append((Iteration(direction, number, preset).sender(delta, q, y), y.tobytes()))
    assert all(len(set(column)) == 6 for column in zip(*made, strict=True))


def test_a_level_is_circular_for_no_known_word() -> None:
    """s and s(x) ^ x are permutations: what a right child shows of its parent is hashed, not the parent itself."""
    basis = np.zeros((1, 128, 2), np.uint64)
    basis[0, np.arange(128), np.arange(128) // 64] = ODD << (np.arange(128, dtype=np.uint64) % np.uint64(64))
    mixed = np.empty_like(basis)
    mix(basis, mixed)
    for matrix in (mixed, mixed ^ basis):
        rows = [int.from_bytes(row.tobytes(), "little") for row in matrix[0]]
        rank = 0
        while rows:
            pivot = rows.pop()
            if pivot:
                rank, top = rank + 1, 1 << (pivot.bit_length() - 1)
                rows = [row ^ pivot if row & top else row for row in rows]
        assert rank == 128
    out, lefts = np.empty((1, 256, 2), np.uint64), np.empty((1, 2), np.uint64)
    hashed = np.random.default_rng(0).integers(0, 2**64, (1, 128, 2), np.uint64)
    grow(basis, hashed, out, lefts)
    assert np.array_equal(out[:, ::2], hashed ^ mixed)
    assert np.array_equal(out[:, ::2] ^ out[:, 1::2], basis)


# -- amounts ------------------------------------------------------------------------------------------------------


def test_the_presets_are_the_published_ones() -> None:
    assert [(p.trees, p.log_k, p.depth) for p in PRESETS] == [(850, 16, 10), (1170, 17, 11), (1520, 18, 12)]
    assert [p.outputs for p in PRESETS] == [870_400, 2_396_160, 6_225_920]
    assert [p.net for p in PRESETS] == [796_364, 2_252_218, 5_945_536]
    assert [p.nbytes for p in PRESETS] == [122_400, 187_200, 267_520]
    assert all(p.log_k <= PLACE_BITS for p in PRESETS)


def test_the_presets_have_128_bits_and_others_are_refused() -> None:
    assert [round(attack_bits(p), 1) for p in PRESETS] == [132.6, 131.3, 131.0]
    assert all(128 < hybrid_bits(p) < gauss_bits(p) for p in PRESETS)
    for weak in (Preset("short", 850, 15, 10), Preset("long", 1700, 16, 10), Preset("few", 64, 16, 14)):
        with pytest.raises(InsecureLpn, match=f"LPN preset {weak.name}: expected 128 bits"):
            secure(weak)


EDGES = (1, 7, 8, 74_036, 139_320, 139_321, 155_000, 796_364, 796_365, 870_400, 2_252_218, 5_945_537, 11_800_000)
AMOUNTS = st.sampled_from(EDGES) | st.integers(1, 300_000) | st.integers(1, 40_000_000)
STOCKS = st.sampled_from((0, 0, 1, 74_035, 74_036, 143_942)) | st.integers(0, 3_000_000)


@settings(max_examples=300)
@given(AMOUNTS, STOCKS)
def test_a_plan_can_be_carried_out_and_suffices(n: int, start: int) -> None:
    plan = making(n, start)
    size = start + plan.soft
    for preset in plan.iterations:
        assert size >= preset.reserve
        size += preset.outputs - preset.reserve
    assert size == plan.total == n + plan.left
    assert plan.left >= 0
    assert plan.nbytes <= extension_bits(max(n - start, 0)) // 8
    assert plan.plain is (plan == Making(n, 0, n, ()))


@settings(max_examples=60)
@given(AMOUNTS, STOCKS)
def test_no_plan_sends_fewer_bytes(n: int, start: int) -> None:
    """Against a search over all numbers of iterations that could pay, in every order that can be carried out."""
    best = extension_bits(max(n - start, 0)) // 8
    for counts in product(range(5), range(6), range(n // B12.net + 3)):
        chosen = list(zip(PRESETS, counts, strict=True))
        first = min((preset.reserve for preset, times in chosen if times), default=0)
        soft = max(n - start - sum(times * preset.net for preset, times in chosen), first - start, 0)
        best = min(best, extension_bits(soft) // 8 + sum(times * preset.nbytes for preset, times in chosen))
    assert making(n, start).nbytes == best


def test_ferret_begins_where_it_sends_less() -> None:
    few, many = making(139_320), making(139_321)
    assert few == Making(139_320, 0, 139_320, ())
    assert many == Making(139_321, 0, B10.reserve, (B10,))
    assert few.nbytes == many.nbytes == 261_225 == extension_bits(B10.reserve) // 8 + 122_400
    assert making(400_000, 500_000) == Making(400_000, 500_000, 0, ())
    assert 0.045 < making(40_000_000).nbytes / 40_000_000 < 0.055
