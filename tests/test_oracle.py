"""The exact oracle against a second writing of the same arithmetic: one scalar at a time, in plain Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.model import oracle
from protocols.model.config import ConfigError, MoeConfig, MoeWeights, WeightShapeError
from protocols.model.fixed_point import FixedPoint, FormatError, RangeError, dequantise, quantise
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, TABLES, Table

RINGS = (FixedPoint(64, 18), FixedPoint(32, 12), FixedPoint(24, 6), FixedPoint(16, 4))
CUBIC = Table(
    "cubic", "test", (-1.5, 0.25), ((0.5, -0.25, 1.0, 0.125), (1.0, 2.0, -3.0, 0.5), (0.0, 1.0, 0.0, -0.75)), 1.0
)


class Slow:
    """Every step on Python integers; a word is an int in [0, 2^l)."""

    def __init__(self, fp: FixedPoint) -> None:
        self.l, self.s = fp.l, fp.s
        self.F = min(fp.s + 6, (fp.l - 4) // 2)

    def signed(self, v: int) -> int:
        v %= 2**self.l
        return v - 2**self.l if v >= 2 ** (self.l - 1) else v

    def trunc(self, v: int, bits: int) -> int:
        return (self.signed(v) // 2**bits) % 2**self.l

    def bit(self, a: int, b: int) -> int:
        return int(self.signed(a - b) >= 0)

    def dot(self, row: list[int], x: list[int]) -> int:
        return self.trunc(sum(a * b for a, b in zip(row, x, strict=True)), self.s)

    def maximum(self, values: list[int]) -> int:
        alive = list(range(len(values)))
        while len(alive) > 1:
            winners = []
            for i in range(0, len(alive) - 1, 2):
                a, b = alive[i], alive[i + 1]
                winners.append(a if self.bit(values[a], values[b]) else b)
            alive = winners + ([alive[-1]] if len(alive) % 2 else [])
        return alive[0]

    def top_k(self, values: list[int], k: int) -> list[int]:
        left, chosen = list(values), []
        for _ in range(k):
            chosen.append(self.maximum(left))
            left[chosen[-1]] = -(2 ** (self.l - 2))
        return chosen

    def exponential(self, z: int) -> int:
        T = -13 * 2**self.s
        b = self.bit(z, T + 1)
        clipped = T + b * (z - T)
        shift = 6 - (self.F - self.s)
        u = self.trunc(clipped, shift) if shift >= 0 else clipped << -shift
        v = 2**self.F + u + self.trunc(u * u, self.F + 1)
        for _ in range(6):
            v = self.trunc(v * v, self.F)
        return b * v % 2**self.l

    def reciprocal(self, D: int, terms: int) -> int:
        F = self.F
        J = 1
        while terms > 2**J:
            J += 1
        bits = {i: self.bit(D, 2 ** (F + i)) for i in range(1, J + 1)}
        cn = 2**J * D - sum(bits[i] * 2 ** (J - i) * D for i in bits)
        c = self.trunc(cn, J + 1)
        w0 = round(2.9142 * 2**F) - 2 * c
        e0 = 2**F - self.trunc(c * w0, F)
        w1 = self.trunc(w0 * (2**F + e0), F)
        e1 = self.trunc(e0 * e0, F)
        w2 = self.trunc(w1 * (2**F + e1), F)
        return self.trunc(2**J * w2 - sum(bits[i] * 2 ** (J - i) * w2 for i in bits), J + 1)

    def piecewise(self, x: int, table: Table) -> int:
        unit = 2**self.s
        rows = [[round(c * unit) for c in row] for row in table.coefficients]
        row = rows[0]
        for j, b in enumerate(table.breakpoints):
            passed = self.bit(x, round(b * unit) + 1)
            row = [r + passed * (new - old) for r, new, old in zip(row, rows[j + 1], rows[j], strict=True)]
        total, power = row[0] << self.s, 1
        for i, c in enumerate(row[1:], start=1):
            power = x if i == 1 else self.trunc(power * x, self.s)
            total += c * power
        return self.trunc(total, self.s)

    def layer(self, x: list[int], residual: list[int], w: dict, config: MoeConfig, table: Table) -> dict:
        logits = [self.dot(row, x) for row in w["router"]]
        routes = self.top_k(logits, config.k)
        e = [self.exponential(logit - logits[routes[0]]) for logit in logits]
        terms = [e[j] for j in routes] if config.renormalise else e
        D = sum(terms) % 2**self.l
        r = self.reciprocal(D, len(terms))
        p = [self.trunc(e[j] * r, 2 * self.F - self.s) for j in routes]
        mixed = [0] * config.d
        for j, pj in zip(routes, p, strict=True):
            h = [self.dot(row, x) for row in w["w1"][j]]
            if config.activation == "relu":
                g = [hi if self.signed(hi) >= 0 else 0 for hi in h]
            else:
                g = [self.piecewise(hi, table) for hi in h]
            if config.gated:
                v = [self.dot(row, x) for row in w["v"][j]]
                g = [self.trunc(a * b, self.s) for a, b in zip(g, v, strict=True)]
            y = [self.dot(row, g) for row in w["w2"][j]]
            mixed = [m + pj * yi for m, yi in zip(mixed, y, strict=True)]
        out = [(a + self.trunc(m, self.s)) % 2**self.l for a, m in zip(residual, mixed, strict=True)]
        return {
            "logits": logits,
            "routes": routes,
            "exponentials": e,
            "denominators": D,
            "probabilities": p,
            "output": out,
        }


def words(fp: FixedPoint, edge: bool = True) -> st.SearchStrategy[int]:
    """Words of the ring: small signed ones, all of them, and the edges."""
    small = st.integers(-(1 << (fp.s + 3)), 1 << (fp.s + 3)).map(lambda v: v % (1 << fp.l))
    top = 1 << (fp.l - 1)
    edges = st.sampled_from(
        [0, 1, (1 << fp.l) - 1, top - 1, top, top + 1, 1 << fp.s, top >> 1, (1 << fp.l) - (top >> 1)]
    )
    return st.one_of(small, st.integers(0, (1 << fp.l) - 1), edges) if edge else small


def array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


rings = st.sampled_from(RINGS)


@given(data=st.data(), fp=rings)
def test_every_scalar_step_equals_plain_integers(data: st.DataObject, fp: FixedPoint) -> None:
    slow = Slow(fp)
    v = data.draw(st.lists(words(fp), min_size=1, max_size=8))
    bits = data.draw(st.integers(0, fp.l - 2))
    terms = data.draw(st.integers(2, 128))
    table = data.draw(st.sampled_from([*TABLES.values(), CUBIC]))
    assert fp.signed(array(v)).tolist() == [slow.signed(i) for i in v]
    assert fp.trunc(array(v), bits).tolist() == [slow.trunc(i, bits) for i in v]
    assert oracle.exponential(array(v), fp).tolist() == [slow.exponential(i) for i in v]
    assert oracle.reciprocal(array(v), terms, fp).tolist() == [slow.reciprocal(i, terms) for i in v]
    assert oracle.piecewise(array(v), table, fp).tolist() == [slow.piecewise(i, table) for i in v]
    assert oracle.relu(array(v), fp).tolist() == [i if slow.signed(i) >= 0 else 0 for i in v]


@pytest.mark.slow
@given(data=st.data(), fp=rings, E=st.one_of(st.integers(2, 17), st.sampled_from([31, 32, 33, 127, 128])))
def test_top_k_equals_plain_integers_on_any_words(data: st.DataObject, fp: FixedPoint, E: int) -> None:
    values = data.draw(st.lists(words(fp), min_size=E, max_size=E))
    k = data.draw(st.integers(1, min(E, 3)))
    assert oracle.top_k(array(values)[None], k, fp)[0].tolist() == Slow(fp).top_k(values, k)


@given(data=st.data(), fp=rings, E=st.integers(2, 40))
def test_top_k_in_range_is_a_stable_sort(data: st.DataObject, fp: FixedPoint, E: int) -> None:
    """Few distinct values, so that ties are the rule: the lower index wins."""
    quarter = 1 << (fp.l - 2)
    near = st.one_of(st.integers(-2, 2), st.sampled_from([quarter - 1, 1 - quarter]))
    values = data.draw(st.lists(near, min_size=E, max_size=E))
    k = data.draw(st.integers(1, min(E, 3)))
    got = oracle.top_k(array([v % (1 << fp.l) for v in values])[None], k, fp)[0].tolist()
    assert got == sorted(range(E), key=lambda i: (-values[i], i))[:k]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), fp=rings)
def test_layer_equals_plain_integers(data: st.DataObject, fp: FixedPoint) -> None:
    E = data.draw(st.integers(2, 9))
    k = data.draw(st.integers(1, min(E, 3)))
    d, f, n = (data.draw(st.integers(1, 3)) for _ in range(3))
    activation = data.draw(st.sampled_from(["gelu", "relu", "silu"]))
    renormalise = k > 1 and data.draw(st.booleans())
    config = MoeConfig(d, f, E, k, data.draw(st.booleans()), activation, renormalise)
    table = data.draw(st.sampled_from([GELU_PUBLISHED, GELU_MINIMAX, CUBIC]))
    word = words(fp, edge=data.draw(st.booleans()))

    def draw(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return array(data.draw(st.lists(word, min_size=size, max_size=size))).reshape(shape)

    weights = MoeWeights(draw(E, d), draw(E, f, d), draw(E, f, d) if config.gated else None, draw(E, d, f))
    x, residual = draw(n, d), draw(n, d)
    trace = oracle.sparse_moe_layer(x, residual, weights, config, fp, table)
    plain = {name: value.tolist() for name, value in vars(weights).items() if value is not None}
    for token in range(n):
        wanted = Slow(fp).layer(x[token].tolist(), residual[token].tolist(), plain, config, table)
        for name, value in wanted.items():
            assert getattr(trace, name)[token].tolist() == value, name


@pytest.mark.parametrize("fp", RINGS[:2])
def test_reciprocal_at_both_ends_of_its_range(fp: FixedPoint) -> None:
    """1 gives 1 and 2^J gives 2^-J, within the iteration's 6e-5 and one ulp of the guard scale at the upper end."""
    F = fp.guard
    for terms in (2, 3, 8, 100, 128):
        J = oracle.reciprocal_steps(terms)
        low, high = fp.signed(oracle.reciprocal(array([1 << F, 1 << (F + J)]), terms, fp)).tolist()
        assert abs(low - (1 << F)) <= (1 << F) * 6e-5 + 4
        assert abs(high - (1 << (F - J))) <= (1 << (F - J)) * 6e-5 + 1


def test_the_exponential_of_zero_is_one_exactly() -> None:
    for fp in RINGS:
        assert oracle.exponential(array([0]), fp).tolist() == [1 << fp.guard]


@given(fp=rings, value=st.floats(allow_nan=True, allow_infinity=True))
def test_quantise_rounds_half_to_even_or_refuses(fp: FixedPoint, value: float) -> None:
    inside = np.isfinite(value) and abs(value) < 2.0**1000
    scaled = round(value * 2.0**fp.s) if inside else None
    if scaled is not None and -(1 << (fp.l - 1)) <= scaled < 1 << (fp.l - 1):
        assert quantise([value], fp).tolist() == [scaled % (1 << fp.l)]
        assert dequantise(quantise([value], fp), fp)[0] == float(scaled) / 2.0**fp.s
    else:
        with pytest.raises(RangeError, match="expected finite values"):
            quantise([value], fp)


def test_bad_input_is_refused_in_one_line() -> None:
    fp, config = FixedPoint(), MoeConfig(2, 3, 4)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.uint64)

    good = MoeWeights(zeros(4, 2), zeros(4, 3, 2), zeros(4, 3, 2), zeros(4, 2, 3))
    states = zeros(5, 2)
    with pytest.raises(oracle.InputShapeError, match=r"expected x of shape \(5, 2\)"):
        oracle.sparse_moe_layer(zeros(5, 3), states, good, config, fp)
    with pytest.raises(oracle.InputShapeError, match="expected residual"):
        oracle.sparse_moe_layer(states, zeros(4, 2), good, config, fp)
    with pytest.raises(oracle.InputShapeError, match="uint64"):
        oracle.sparse_moe_layer(np.zeros((5, 2)), states, good, config, fp)  # type: ignore[arg-type]
    for bad in (
        MoeWeights(zeros(4, 3), good.w1, good.v, good.w2),
        MoeWeights(good.router, good.w1, None, good.w2),
        MoeWeights(good.router, good.w1, good.v, zeros(4, 3, 2)),
    ):
        with pytest.raises(WeightShapeError, match="expected"):
            oracle.sparse_moe_layer(states, states, bad, config, fp)
    for fields in (dict(E=1), dict(k=5), dict(k=0), dict(renormalise=True), dict(activation="tanh")):
        with pytest.raises(ConfigError, match="expected"):
            MoeConfig(**{"d": 2, "f": 3, "E": 4, **fields})  # type: ignore[arg-type]
    for l, s in ((65, 18), (4, 1), (64, 0), (64, 31), (32, 15)):
        with pytest.raises(FormatError, match="expected"):
            FixedPoint(l, s)
