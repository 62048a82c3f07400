"""The ring kernels against python-flint, against Python integers, and engine against engine."""

import math
import platform
import threading
from collections.abc import Sequence

import flint
import llvmlite.binding
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.he import engine as engines
from protocols.he.buffers import copied, empty
from protocols.he.compiled import FmaEngine, IntegerEngine
from protocols.he.engine import engine_for
from protocols.he.integers import PRIME_BITS, TERMS
from protocols.he.ntt import Floats, Ints, Tables, mulmod, primitive_root, reference_forward, reference_inverse
from protocols.he.operations import ConversionTables, DivisionTables, Engine, SwitchTables
from protocols.he.params import INSECURE_TEST, PARAM_SETS, ntt_primes
from protocols.he.portable import NumpyEngine
from protocols.he.ring_q import ring_for

LENGTHS = (50, 50, 45, 42, 39, 22)
TABLES = {n: Tables(n, ntt_primes(n, LENGTHS)) for n in (128, 256, 512, 1024)}
LIMBS = np.arange(len(LENGTHS))


def rows(tables: Tables, seed: int, kind: str) -> Floats:
    """Canonical rows of one kind: uniform, all largest, or largest and zero mixed."""
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        return np.stack([rng.integers(0, p, tables.n) for p in tables.primes]).astype(np.float64)
    top = tables.modulus[:, None] - 1.0
    return top * (np.ones(tables.n) if kind == "largest" else rng.integers(0, 2, (len(tables.primes), tables.n)))


needs_integers = pytest.mark.skipif(not engines._integers_are_usable(), reason="this processor has no AVX-512 IFMA")
kinds = st.sampled_from(["uniform", "largest", "mixed"])
seeds = st.integers(0, 2**32 - 1)


@given(st.integers(2, 2**50 - 1), st.data())
def test_integer_mulmod(p: int, data: st.DataObject) -> None:
    a, b = (data.draw(st.one_of(st.just(p - 1), st.integers(0, p - 1))) for _ in range(2))
    assert int(mulmod(np.array([a]), np.array([b]), p)[0]) == a * b % p


@pytest.mark.slow
@given(st.sampled_from([128, 256, 512, 1024]), seeds, kinds)
@settings(max_examples=60)
def test_forward_values_and_round_trip(n: int, seed: int, kind: str) -> None:
    """Slot k holds the value at psi^exponents[k] (flint evaluates); the inverse undoes it; the reference agrees."""
    tables = TABLES[n]
    x = rows(tables, seed, kind)
    y = copied(x)
    FmaEngine(tables).forward(y, LIMBS)
    for row, p in enumerate(tables.primes):
        values = x[row].astype(np.int64)
        polynomial = flint.nmod_poly([int(v) for v in values], p)
        psi = primitive_root(n, p)
        for slot in (0, 1, 7, 8, 63, 64, n // 2 + 3, n - 1):
            assert int(polynomial(pow(psi, int(tables.exponents[slot]), p))) == int(y[row, slot])
        assert np.array_equal(reference_forward(values, tables.plain[row], p), y[row])
        assert np.array_equal(reference_inverse(y[row].astype(np.int64), tables.inverse_plain[row], p), values)
    FmaEngine(tables).inverse(y, LIMBS)
    assert np.array_equal(x, y)


@given(st.sampled_from([128, 512]), seeds, kinds, kinds)
@settings(max_examples=30)
def test_products_are_negacyclic(n: int, seed: int, left: str, right: str) -> None:
    tables = TABLES[n]
    fma = FmaEngine(tables)
    x, y = rows(tables, seed, left), rows(tables, seed + 1, right)
    a, b = copied(x), copied(y)
    fma.forward(a, LIMBS)
    fma.forward(b, LIMBS)
    product = fma.multiply(a, b, LIMBS)
    fma.inverse(product, LIMBS)
    for row, p in enumerate(tables.primes):
        modulus = flint.nmod_poly([1] + [0] * (n - 1) + [1], p)
        want = (flint.nmod_poly([int(v) for v in x[row]], p) * flint.nmod_poly([int(v) for v in y[row]], p)) % modulus
        assert [int(want[j]) for j in range(n)] == product[row].astype(np.int64).tolist()


@pytest.mark.parametrize("name", ["P64s", "P64tiny"])
def test_real_degrees_match_the_reference(name: str) -> None:
    params = PARAM_SETS[name]
    tables = Tables(params.n, params.primes[-3:])
    limbs = np.arange(3)
    for kind in ("uniform", "largest", "mixed"):
        x = rows(tables, 7, kind)
        y = copied(x)
        FmaEngine(tables).forward(y, limbs)
        assert all(
            np.array_equal(reference_forward(x[k].astype(np.int64), tables.plain[k], p), y[k])
            for k, p in enumerate(tables.primes)
        )
        FmaEngine(tables).inverse(y, limbs)
        assert np.array_equal(x, y)


@given(seeds, kinds, kinds)
@settings(max_examples=25)
def test_engines_give_identical_residues(seed: int, left: str, right: str) -> None:
    tables = TABLES[128]
    x, y = rows(tables, seed, left), rows(tables, seed + 1, right)
    assert engines._same(FmaEngine(tables), NumpyEngine(tables), x, y, LIMBS)
    assert not engines._integers_are_usable() or engines._same(IntegerEngine(tables), NumpyEngine(tables), x, y, LIMBS)


class _Contracted(FmaEngine):
    """An engine whose products lose their last bit on one slot, as a contracted multiply-add would."""

    def multiply(self, a: Floats, b: Floats, limbs: Ints) -> Floats:
        out = super().multiply(a, b, limbs)
        out[0, 5] = math.fmod(out[0, 5] + 1, self.tables.modulus[0])
        return out


def test_the_self_test_sees_an_inexact_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.engines_agree()
    assert isinstance(engine_for(TABLES[128]), FmaEngine)
    monkeypatch.setattr(engines, "FmaEngine", _Contracted)
    assert not engines.engines_agree()
    engines._fma_is_usable.cache_clear()
    assert isinstance(engine_for(TABLES[128]), NumpyEngine)
    monkeypatch.undo()
    engines._fma_is_usable.cache_clear()


class _Carried(IntegerEngine):
    """An engine whose sums of products lose a carry on one slot."""

    def weight_products(
        self, out: Floats, polynomials: Floats, operands: Sequence[Floats], limbs: Ints
    ) -> None:
        super().weight_products(out, polynomials, operands, limbs)
        if limbs.size == 1:
            out[-1, -1, 1, 0, 77] = math.fmod(out[-1, -1, 1, 0, 77] + 1, self.tables.modulus[limbs[0]])


@needs_integers
def test_the_self_test_sees_wrong_integers() -> None:
    assert engines.engines_agree(IntegerEngine)
    assert not engines.engines_agree(_Carried)


@needs_integers
@given(st.integers(1, 5), st.integers(1, TERMS + 1), st.integers(1, 2), seeds, kinds, st.sampled_from([128, 512]))
@settings(max_examples=20)
def test_products_of_weights_on_integers(blocks: int, terms: int, units: int, seed: int, kind: str, n: int) -> None:
    """Every size of a batch, the largest residues and weights among them, against the reference."""
    tables = TABLES[n]
    limbs = np.array([k for k, p in enumerate(tables.primes) if p.bit_length() <= PRIME_BITS])
    x, rng = rows(tables, seed, kind)[limbs], np.random.default_rng(seed)
    operands = [np.stack([np.stack([np.roll(x, i, -1), x])] * terms) for i in range(units)]
    polynomials = rng.choice([-1.0, 0.0, 1.0], (blocks, terms, n)) * (min(tables.primes) - 1)
    sums = [np.broadcast_to(x, (blocks, units, 2, *x.shape)).copy() for _ in range(2)]
    for engine, out in zip((IntegerEngine(tables), NumpyEngine(tables)), sums, strict=True):
        engine.weight_products(out, polynomials, operands, limbs)
    assert np.array_equal(*sums)


@needs_integers
def test_a_machine_without_52_bit_products_multiplies_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    features = dict(llvmlite.binding.get_host_cpu_features()) | {"avx512ifma": False}
    assert type(engine_for(TABLES[128])) is IntegerEngine
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: features)
    engines._integers_are_usable.cache_clear()
    assert type(engine_for(TABLES[128])) is FmaEngine
    monkeypatch.undo()
    engines._integers_are_usable.cache_clear()


@pytest.mark.parametrize(("experts", "chunks", "width"), [(8, 2, 8), (16, 4, 4), (8, 3, 8), (6, 2, 8), (8, 1, 3)])
def test_weights_land_where_the_plan_says(experts: int, chunks: int, width: int) -> None:
    """Eight by eight or one by one, from a whole array or a view of one: the same polynomials as the reference."""
    rng, stride, n = np.random.default_rng(experts), 16, 512
    weights = rng.integers(-(1 << 30), 1 << 30, (experts, 9, chunks * width + 16))[:, 2:5, 8 : 8 + chunks * width]
    for chosen in (weights, weights.copy(), weights.astype(np.int32)):
        found = [np.full((chunks, n), 7.0) for _ in range(2)]
        for engine, out in zip((FmaEngine(TABLES[n]), NumpyEngine(TABLES[n])), found, strict=True):
            engine.place_weights(out, chosen, width, stride, 128)
        assert np.array_equal(*found)
        assert np.count_nonzero(found[0]) == np.count_nonzero(chosen)


def test_a_machine_without_fma_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    engines._fma_is_usable.cache_clear()
    assert isinstance(engine_for(TABLES[128]), NumpyEngine)
    monkeypatch.undo()
    engines._fma_is_usable.cache_clear()


@given(st.integers(0, 1023), seeds)
@settings(max_examples=30)
def test_automorphism_permutes_slots(half: int, seed: int) -> None:
    """X -> X^g on coefficients, by definition, against the slot permutation of the transform."""
    n, element = 512, 2 * half + 1
    tables = TABLES[n]
    fma, x = FmaEngine(tables), rows(tables, seed, "uniform")
    moved = np.zeros_like(x)
    for j in range(n):
        place, turn = j * element % n, j * element // n % 2
        moved[:, place] = np.where(turn, np.mod(-x[:, j], tables.modulus), x[:, j])
    a, b = copied(x), copied(moved)
    fma.forward(a, LIMBS)
    fma.forward(b, LIMBS)
    assert np.array_equal(fma.permute(a, tables.automorphism(element)), b)


def integers(x: Floats, primes: tuple[int, ...]) -> list[int]:
    """Centred integers of the columns of residues."""
    modulus = math.prod(primes)
    units = [modulus // p * pow(modulus // p, -1, p) for p in primes]
    values = [sum(int(v) * u for v, u in zip(column, units, strict=True)) % modulus for column in x.T]
    return [v - modulus if 2 * v > modulus else v for v in values]


both = pytest.mark.parametrize("engine", [FmaEngine, NumpyEngine])


@both
@given(seed=seeds, kind=kinds)
@settings(max_examples=20)
def test_base_conversion_is_exact(engine: type[FmaEngine] | type[NumpyEngine], seed: int, kind: str) -> None:
    tables = TABLES[128]
    x = rows(tables, seed, kind)
    for count in (1, 2, 3):
        source, target = tables.primes[:count], tables.primes[count:]
        out = engine(tables).convert(x[:count], ConversionTables(source, target))
        want = integers(x[:count], source)
        assert [[v % p for v in want] for p in target] == out.astype(np.int64).tolist()


@both
@given(seed=seeds, kind=kinds, count=st.integers(1, 4), step=st.integers(1, 4))
@settings(max_examples=20)
def test_digits_are_small_and_congruent(
    engine: type[FmaEngine] | type[NumpyEngine], seed: int, kind: str, count: int, step: int
) -> None:
    """A key of one row of ones and zeros elsewhere leaves one digit; both components of the key are met."""
    tables = TABLES[128]
    unit: Engine = engine(tables)
    x = rows(tables, seed, kind)[:count]
    transformed = copied(x)
    unit.forward(transformed, LIMBS[:count])
    digits = [range(first, min(first + step, count)) for first in range(0, count, step)]
    constants = SwitchTables(tables.n, tables.primes, LIMBS[:count], LIMBS, digits)
    for row, digit in enumerate(digits):
        key = np.zeros((2, len(digits), len(LIMBS), tables.n))
        key[seed % 2, row] = 1.0
        out = unit.switch_products(transformed, key, constants)
        unit.inverse(out, LIMBS)
        own = tables.primes[digit.start : digit.stop]
        product = math.prod(own)
        units = [pow(product // p, -1, p) for p in own]
        parts = [integers(x[k : k + 1], (p,)) for k, p in zip(digit, own, strict=True)]
        centred = [[(v * u + p // 2) % p - p // 2 for v in part] for part, u, p in zip(parts, units, own, strict=True)]
        columns = zip(*centred, strict=True)
        want = [sum(v * (product // p) for v, p in zip(column, own, strict=True)) for column in columns]
        assert integers(out[seed % 2], tables.primes) == want and not out[1 - seed % 2].any()
        assert all(2 * abs(v) <= len(own) * product for v in want)
        assert [[v % p for v in want] for p in own] == x[digit.start : digit.stop].astype(np.int64).tolist()


@both
@given(seed=seeds, kind=kinds)
@settings(max_examples=20)
def test_division_rounds_exactly(engine: type[FmaEngine] | type[NumpyEngine], seed: int, kind: str) -> None:
    tables = TABLES[128]
    unit: Engine = engine(tables)
    x = rows(tables, seed, kind)
    y = copied(x)
    unit.forward(y, LIMBS)
    for count in (1, 3, 5):
        target = tables.primes[:count]
        divisor = math.prod(tables.primes[count:])
        out = unit.divide(y, LIMBS, DivisionTables(tables.primes, target))
        unit.inverse(out, LIMBS[:count])
        want = [(v + divisor // 2) // divisor for v in integers(x, tables.primes)]
        assert [[v % p for v in want] for p in target] == out.astype(np.int64).tolist()


@given(seeds)
@settings(max_examples=10)
def test_rescaling_to_fresh_primes_rounds_exactly(seed: int) -> None:
    ring, rng = ring_for(INSECURE_TEST), np.random.default_rng(seed)
    for source, target in ((ring.q1, ring.response), (ring.q0, ring.aux)):
        x = np.stack([rng.integers(0, p, ring.n) for p in source.primes]).astype(np.float64)
        values = integers(x, source.primes)
        want = [(2 * v * target.modulus + source.modulus) // (2 * source.modulus) for v in values]
        out = ring.rescale(x, source, target)
        assert [[v % p for v in want] for p in target.primes] == out.astype(np.int64).tolist()


def test_monomials_multiply_by_powers_of_x() -> None:
    ring = ring_for(INSECURE_TEST)
    n, basis = ring.n, ring.q1
    for exponent in (0, 1, n - 1, n, n + 72, -1, -n):
        x = np.zeros((basis.size, n))
        x[:, 3] = 5.0
        product = ring.engine.multiply(ring.forward(x, basis), ring.monomial(exponent, basis), basis.limbs)
        place, turn = (3 + exponent) % n, (3 + exponent) // n % 2
        want = np.zeros((basis.size, n))
        want[:, place] = [p - 5.0 if turn else 5.0 for p in basis.primes]
        assert np.array_equal(ring.inverse(product, basis), want)


def test_buffers_are_reused_only_when_nothing_refers_to_them() -> None:
    first = empty(3, 77)
    view, address = first[1], first.ctypes.data
    assert address % 64 == 0
    view[:] = 1.0
    del first
    second = empty(3, 77)
    assert second.ctypes.data != address and np.all(view == 1.0)
    del view
    third = empty(3, 77)
    assert third.ctypes.data == address


def test_buffers_under_threads() -> None:
    failures: list[int] = []

    def work(mark: int) -> None:
        for _ in range(200):
            held = [empty(64) for _ in range(4)]
            for k, x in enumerate(held):
                x[:] = mark * 10 + k
            failures.extend(k for k, x in enumerate(held) if not np.all(x == mark * 10 + k))

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
