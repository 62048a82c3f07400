"""The scheme below the plans: encoding, sampling, packing of bits, encryption, products, automorphisms."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.he import sampling
from protocols.he.bfv import Multiplier, SecretKey, Shares, automorphism, decode, encode
from protocols.he.bits import MalformedMessage, pack, packed_nbytes, unpack
from protocols.he.client import ClientKeys
from protocols.he.ntt import Floats
from protocols.he.packing import LinearPlan, SelectPlan, key_set
from protocols.he.params import INSECURE_TEST, PARAM_SETS, ParamSet
from protocols.he.ring_q import Basis, ring_for
from protocols.he.server import ServerKeys
from tests.he_support import Session, fresh_draw, session

RING = ring_for(INSECURE_TEST)
EDGES = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]
words = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1))
PLAN = SelectPlan(INSECURE_TEST, "R", 4, 64, 200)


def rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


@given(st.lists(words, min_size=1, max_size=20), st.integers(32, 90), st.sampled_from(["q0", "q1", "response"]))
def test_encoding_is_the_rounded_quotient(values: list[int], scale: int, name: str) -> None:
    basis: Basis = getattr(RING, name)
    out = encode(np.array(values, dtype=np.uint64), scale, basis).astype(np.int64)
    want = [rounded(basis.modulus * v, 1 << scale) for v in values]
    assert [[v % p for v in want] for p in basis.primes] == out.tolist()


@pytest.mark.slow
@given(st.sampled_from(list(PARAM_SETS.values())), st.lists(words, min_size=1, max_size=20), st.data())
def test_decoding_undoes_encoding_under_noise(params: ParamSet, values: list[int], data: st.DataObject) -> None:
    basis = ring_for(params).response
    words_in = np.array(values, dtype=np.uint64) & np.uint64((1 << params.ring_bits) - 1)
    room = basis.modulus // (1 << (params.ring_bits + 1)) - 2
    noise = [data.draw(st.one_of(st.sampled_from([-room, 0, room]), st.integers(-room, room))) for _ in values]
    encoded = encode(words_in, params.ring_bits, basis).astype(np.int64)
    noisy = np.stack(
        [(row + np.array([e % p for e in noise])) % p for row, p in zip(encoded, basis.primes, strict=True)]
    ).astype(np.float64)
    assert np.array_equal(decode(noisy, params.ring_bits, basis), words_in)


@given(st.data())
def test_decoding_is_rounding(data: st.DataObject) -> None:
    basis = RING.response
    value = data.draw(st.integers(0, basis.modulus - 1))
    fraction = Fraction(value << 64, basis.modulus)
    if abs(fraction - math.floor(fraction) - Fraction(1, 2)) < Fraction(1, 2**40):
        return
    residues = np.array([[float(value % p)] for p in basis.primes])
    assert int(decode(residues, 64, basis)[0]) == rounded(value << 64, basis.modulus) % 2**64


@given(st.lists(st.tuples(st.integers(2, 50), st.integers(0, 30)), min_size=1, max_size=6), st.integers(0, 2**32))
def test_bits_round_trip(layout: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    primes = tuple((1 << width) - 1 for width, _ in layout)
    rows = [rng.integers(0, p, length).astype(np.float64) for p, (_, length) in zip(primes, layout, strict=True)]
    widths, lengths = tuple(w for w, _ in layout), tuple(n for _, n in layout)
    data = pack(rows, widths)
    assert len(data) == packed_nbytes(widths, lengths) == -(-sum(w * n for w, n in layout) // 8)
    total = sum(int(v) << shift for shift, v in _bit_stream(rows, widths))
    assert int.from_bytes(data, "little") == total
    assert all(np.array_equal(a, b) for a, b in zip(unpack(data, primes, lengths), rows, strict=True))


def _bit_stream(rows: list[Floats], widths: tuple[int, ...]) -> list[tuple[int, float]]:
    out, position = [], 0
    for row, width in zip(rows, widths, strict=True):
        for value in row:
            out.append((position, value))
            position += width
    return out


def test_malformed_residues_are_refused() -> None:
    primes, row = (97,), np.array([5.0, 96.0, 0.0])
    data = pack([row], (7,))
    with pytest.raises(MalformedMessage, match="expected 3 bytes, came 2"):
        unpack(data[:-1], primes, (3,))
    with pytest.raises(MalformedMessage, match="values below 97, came 97"):
        unpack(pack([np.array([5.0, 97.0, 0.0])], (7,)), primes, (3,))
    with pytest.raises(MalformedMessage, match="zero padding"):
        unpack(data[:-1] + bytes([data[-1] | 0x80]), primes, (3,))


def test_streams_of_a_seed_are_separate_and_reproducible() -> None:
    seed = bytes(range(32))
    assert sampling.stream(seed, 0, 100) == sampling.stream(seed, 0, 200)[:100]
    assert sampling.stream(seed, 0, 1 << 16)[-64:] not in sampling.stream(seed, 1, 1 << 17)
    assert np.array_equal(sampling.uniform_residues(seed, RING.q0, 256), sampling.uniform_residues(seed, RING.q0, 256))
    other = sampling.uniform_residues(bytes(32), RING.q0, 256)
    assert np.mean(sampling.uniform_residues(seed, RING.q0, 256) == other) < 0.01


def test_samplers_have_their_distributions() -> None:
    """Exact supports; frequencies within 5 standard deviations, on fixed seeds."""
    n = 1 << 18
    trits = Counter(sampling.ternary(b"t" * 32, n).tolist())
    assert set(trits) == {-1, 0, 1}
    assert all(abs(count - n / 3) < 5 * math.sqrt(n * 2 / 9) for count in trits.values())
    errors = sampling.error(b"e" * 32, n)
    counts = Counter(errors.tolist())
    for value in range(-8, 9):
        probability = math.comb(42, 21 + value) / 2**42
        assert abs(counts[value] - n * probability) < 5 * math.sqrt(n * probability)
    assert abs(errors).max() <= 21
    basis = Basis((97, 193, 257), (0, 1, 2))
    rows = sampling.uniform_residues(b"u" * 32, basis, n)
    for row, p in zip(rows, basis.primes, strict=True):
        bins = np.bincount(row.astype(np.int64), minlength=p)
        assert bins.size == p and np.all(abs(bins - n / p) < 5 * math.sqrt(n / p))
    pairs = np.bincount((rows[0] % 7 * 7 + rows[1] % 7).astype(np.int64), minlength=49)
    assert pairs.min() > 0.8 * n / 49


@pytest.mark.parametrize("target", [40_000, 1 << 20, 13 * 10**9, 7**40])
def test_flooding_is_uniform_on_its_interval(target: int) -> None:
    bound, high, low = sampling.flooding_bound(target)
    assert bound == high << low <= target and bound > target * (1 - 2**-15)
    primes = PARAM_SETS["P64tiny"].primes
    basis = Basis(primes, tuple(range(4)))
    n = 1 << 14
    rows = sampling.flooding(b"f" * 32, n, target, basis)
    units = [basis.modulus // p * pow(basis.modulus // p, -1, p) for p in basis.primes]
    values = [sum(int(v) * u for v, u in zip(column, units, strict=True)) % basis.modulus for column in rows.T]
    values = [v - basis.modulus if 2 * v > basis.modulus else v for v in values]
    assert -bound <= min(values) and max(values) < bound
    bins = Counter((v + bound) * 16 // (2 * bound) for v in values)
    assert all(abs(bins[k] - n / 16) < 5 * math.sqrt(n / 16) for k in range(16))
    low_bits = Counter(v % 8 for v in values)
    assert all(abs(low_bits[k] - n / 8) < 5 * math.sqrt(n / 8) for k in range(8))


def phase(s: Session, ciphertext: Floats, basis: Basis, scale: int) -> list[int]:
    """Decryption of every coefficient of a coefficient-form ciphertext, mod 2^scale, by exact integers."""
    residues = s.client.secret.phase(ciphertext, basis).astype(np.int64)
    units = [basis.modulus // p * pow(basis.modulus // p, -1, p) for p in basis.primes]
    values = [sum(int(v) * u for v, u in zip(column, units, strict=True)) % basis.modulus for column in residues.T]
    return [rounded(v << scale, basis.modulus) % (1 << scale) for v in values]


def encrypted(s: Session, message: Shares, scale: int) -> Floats:
    ring, draw = RING, fresh_draw()
    seed = draw("a", 32)
    c0 = s.client.secret.encrypt(encode(message, scale, ring.q0), seed, draw("e", 32), ring.q0)
    return np.stack([c0, sampling.uniform_residues(seed, ring.q0, ring.n)])


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_encryption_decrypts(seed: int) -> None:
    s, rng = session(PLAN), np.random.default_rng(seed)
    message = rng.integers(0, 1 << 64, RING.n, dtype=np.uint64)
    assert phase(s, encrypted(s, message, 72), RING.q0, 72) == message.tolist()


@given(st.integers(0, 2**32), st.sampled_from([64, 66, 72]))
@settings(max_examples=15)
def test_the_product_of_ciphertexts_is_exact(seed: int, scale: int) -> None:
    """Against the integer negacyclic product mod 2^scale; every coefficient in use."""
    s, rng, n = session(PLAN), np.random.default_rng(seed), RING.n
    assert s.server.relinearisation is not None
    multiplier = Multiplier(RING, scale, s.server.relinearisation)
    left, right = (rng.integers(0, 1 << 64, n, dtype=np.uint64) for _ in range(2))
    product = multiplier.product(
        multiplier.lifted(encrypted(s, left, scale)), multiplier.rescaled(encrypted(s, right, scale))
    )
    full = np.convolve(left.astype(object), right.astype(object))
    want = [(int(full[k]) - (int(full[k + n]) if k + n < full.size else 0)) % (1 << scale) for k in range(n)]
    assert phase(s, RING.inverse(product, RING.q1), RING.q1, scale) == want


def test_automorphisms_map_the_message() -> None:
    s, rng, n = session(PLAN), np.random.default_rng(5), RING.n
    message = rng.integers(0, 1 << 64, n, dtype=np.uint64)
    ciphertext = RING.forward(encrypted(s, message, 72), RING.q0)
    keys = [(g, key, RING.q0, RING.q0p) for g, key in s.server.expansion.items()]
    keys += [(g, key, RING.q1, RING.q1p) for g, key in s.server.packing.items()]
    assert len(keys) == len({*PLAN.expansion_elements}) + PLAN.b > PLAN.a + PLAN.b
    for element, key, basis, special in keys:
        moved = automorphism(RING, RING.drop(ciphertext, RING.q0, basis), element, key, basis, special)
        want = [0] * n
        for j, v in enumerate(message.tolist()):
            want[j * element % n] = v if j * element // n % 2 == 0 else -v % (1 << 72)
        assert phase(s, RING.inverse(moved, basis), basis, 72) == want


def test_keys_have_the_promised_size_and_are_validated() -> None:
    for keys in (
        key_set(INSECURE_TEST, [PLAN]),
        key_set(INSECURE_TEST, [LinearPlan(INSECURE_TEST, 2, 8, 8)]),
        key_set(PARAM_SETS["P32tiny"], [SelectPlan(PARAM_SETS["P32tiny"], "R", 4, 8, 8)]),
    ):
        data = ClientKeys.generate(keys, fresh_draw()).public_bytes
        assert len(data) == keys.nbytes
        ServerKeys.from_bytes(keys, data)
        for wrong in (data[:-1], data + b"\0", b""):
            with pytest.raises(MalformedMessage, match=f"public keys: expected {keys.nbytes} bytes"):
                ServerKeys.from_bytes(keys, wrong)
        broken = data[:32] + b"\xff" * 16 + data[48:]
        with pytest.raises(MalformedMessage, match="expected values below"):
            ServerKeys.from_bytes(keys, broken)


def test_key_generation_uses_fresh_labels_and_seeds() -> None:
    drawn: list[str] = []
    keys = key_set(INSECURE_TEST, [PLAN])

    def draw(label: str, nbytes: int) -> bytes:
        assert nbytes == 32
        drawn.append(label)
        return fresh_draw()(label, nbytes)

    data = ClientKeys.generate(keys, draw).public_bytes
    rows = 1 + 3 * (1 + len(keys.expansion)) + 2 * len(keys.packing)
    assert len(drawn) == len(set(drawn)) == 1 + 2 * rows
    assert len({data[k : k + 32] for k in range(0, len(data) - 32, 8)}) > rows


def test_secrets_are_ternary_and_independent_of_the_basis() -> None:
    secret = SecretKey(RING, b"s" * 32)
    assert set(secret.coefficients.tolist()) == {-1, 0, 1}
    for basis in (RING.q0, RING.q1, RING.response):
        back = RING.inverse(secret.transformed(basis), basis)
        want = [np.mod(secret.coefficients, p) for p in basis.primes]
        assert np.array_equal(back, np.stack(want))
