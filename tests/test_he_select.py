"""Selected and plain products end to end: exact mod 2^l for random requests, fresh responses, refusals."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocols.he import client as client_module
from protocols.he import public_keys as public_keys_module
from protocols.he.bfv import Shares, encode
from protocols.he.bits import MalformedMessage, unpack
from protocols.he.client import ClientKeys, Draw, ShapeMismatch
from protocols.he.noise import WeightsOutOfBound, flood_target, largest_norm
from protocols.he.ntt import Ints, Tables
from protocols.he.packing import LinearPlan, Plan, SelectPlan, key_set
from protocols.he.params import INSECURE_TEST, PARAM_SETS, ParamSet
from protocols.he.portable import NumpyEngine
from protocols.he.public_keys import MissingKey
from protocols.he.ring_q import Ring, ring_for
from protocols.he.server import ServerKeys
from protocols.he.weights import prepare
from tests.he_support import Session, expected, fresh_draw, largest_noise, session, words

P64TINY, P32TINY = PARAM_SETS["P64tiny"], PARAM_SETS["P32tiny"]
EDGES = [0, 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]


def run(plan: Plan, seed: int, bits: int, edge: bool = False) -> None:
    """One request with random weights, a random (not one-hot) selector and random or edge words."""
    rng, s = np.random.default_rng(seed), session(plan)
    w = rng.integers(-(1 << bits), 1 << bits, (plan.experts, plan.f, plan.d), endpoint=True)
    shapes: list[tuple[int, ...]] = [plan.operand("x").shape, plan.outputs]
    if isinstance(plan, SelectPlan):
        shapes.append(plan.operand("t").shape)
    x, mask, *rest = (_choose(rng, shape, plan.params, edge) for shape in shapes)
    t = rest[0] if rest else None
    got = s.request(plan, w if rest else w[0], t, x, mask, rng)
    assert np.array_equal(got, expected(plan, w if rest else w[0], t, x, mask))


def _choose(rng: np.random.Generator, shape: tuple[int, ...], params: ParamSet, edge: bool) -> Shares:
    if edge:
        return rng.choice(np.array(EDGES, dtype=np.uint64), shape) & np.uint64((1 << params.ring_bits) - 1)
    return words(rng, shape, params.ring_bits)


SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (3, 8, 20),
    (4, 16, 4),
    (5, 7, 64),
    (8, 24, 90),
    (2, 100, 33),
    (7, 40, 300),
    (1, 256, 3),
    (16, 16, 16),
]
SELECT = [SelectPlan(INSECURE_TEST, order, *shape) for shape in SHAPES for order in ("R", "L")]
GROUPS = [  # E, d, f, n, tokens
    (2, 4, 6, 3, 2),
    (2, 4, 6, 9, 4),
    (2, 2, 3, 9, 8),
    (1, 5, 8, 7, 5),
    (3, 4, 2, 4, 4),
    (2, 1, 1, 2, 1),
    (3, 16, 20, 5, 1),
    (5, 30, 9, 3, 1),
    (1, 60, 7, 4, 1),
    (4, 40, 130, 3, 1),
    (6, 5, 300, 2, 1),
    (64, 7, 90, 5, 1),
    (16, 25, 9, 6, 1),
    (2, 4, 40, 3, 1),
    (8, 28, 40, 7, 1),
]
SELECT += [SelectPlan(INSECURE_TEST, order, *shape) for shape in GROUPS for order in ("R", "L")]
COMPACT = [SelectPlan(INSECURE_TEST, "R", *shape, compact=True) for shape in [*SHAPES, *GROUPS]]
LINEAR = [LinearPlan(INSECURE_TEST, *shape) for shape in [(1, 1, 1), (3, 8, 4), (5, 12, 30), (9, 3, 5), (2, 200, 300)]]
MORE_TOKENS = [(7, 12, 30, 7), (5, 30, 40, 3), (9, 60, 20, 4), (6, 8, 300, 5)]
LINEAR += [LinearPlan(INSECURE_TEST, *shape) for shape in MORE_TOKENS]
SPLIT = [(5, 30, 40, 3, 8, True), (4, 300, 20, 4, 64, True), (3, 20, 12, 2, 16, False), (2, 9, 5, 0, 1, False)]
LINEAR += [LinearPlan(INSECURE_TEST, *shape, split=split, packed=packed) for *shape, split, packed in SPLIT]
TINY = [
    SelectPlan(P64TINY, "R", 8, 32, 64),
    SelectPlan(P64TINY, "L", 3, 20, 10),
    SelectPlan(P64TINY, "R", 3, 4, 8, 9, 8),
    SelectPlan(P64TINY, "L", 8, 16, 40, 5, 4),
    SelectPlan(P32TINY, "R", 4, 32, 16),
    SelectPlan(P32TINY, "L", 4, 32, 16),
    LinearPlan(P64TINY, 5, 32, 8),
    LinearPlan(P64TINY, 9, 32, 96, 9),
    LinearPlan(P32TINY, 5, 32, 8),
]
seeds = st.integers(0, 2**32 - 1)


def admitted_bits(plan: Plan) -> int:
    """Weight magnitude that every shape here may use."""
    return 10 if plan.params is P32TINY else 20


@pytest.mark.parametrize("plan", [*SELECT[-2 * len(GROUPS) :], *COMPACT], ids=str)
def test_tokens_side_by_side_are_exact(plan: SelectPlan) -> None:
    run(plan, 1, 20)


@pytest.mark.parametrize("plan", [*SELECT[-2 * len(GROUPS) :], *COMPACT[-4:]], ids=str)
def test_noise_of_tokens_side_by_side_is_below_its_bound(plan: SelectPlan) -> None:
    rng, s = np.random.default_rng(5), session(plan)
    weights = prepare(plan, rng.integers(-(1 << 20), 1 << 20, (plan.experts, plan.f, plan.d)))
    t, x = (words(rng, plan.operand(word).shape, 64) for word in ("t", "x"))
    result = s.server.apply(plan, weights, [s.product(plan, t, x, rng)])[0]
    want = expected(plan, np.asarray(weights.values), t, x, np.zeros(plan.outputs, np.uint64)).reshape(-1)
    for part, places, outputs in zip(result.parts, plan.response_positions, plan.response_outputs, strict=True):
        messages = [int(v) for v in want[outputs]]
        assert largest_noise(s, part, s.server.ring.q1, places, messages, 64) <= weights.report.bound


@pytest.mark.slow
@given(st.sampled_from([*SELECT, *COMPACT, *LINEAR]), seeds, st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_requests_are_exact(plan: Plan, seed: int, edge: bool) -> None:
    run(plan, seed, admitted_bits(plan), edge)


@pytest.mark.slow
@given(st.sampled_from([*SELECT, *COMPACT, *LINEAR]), seeds, st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_many_requests_are_exact(plan: Plan, seed: int, edge: bool) -> None:
    run(plan, seed, admitted_bits(plan), edge)


@pytest.mark.nightly
@given(st.sampled_from([*SELECT, *COMPACT, *LINEAR]), seeds, st.booleans())
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
def test_very_many_requests_are_exact(plan: Plan, seed: int, edge: bool) -> None:
    run(plan, seed, admitted_bits(plan), edge)


@pytest.mark.slow
@given(st.sampled_from(TINY), seeds, st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_requests_at_real_degree_are_exact(plan: Plan, seed: int, edge: bool) -> None:
    run(plan, seed, admitted_bits(plan), edge)


@pytest.mark.slow
@given(st.sampled_from("RL"), st.integers(1, 12), st.integers(1, 60), st.integers(1, 320), seeds)
@example("R", 128, 2, 3, 0)
@example("L", 100, 5, 300, 0)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_shape_is_exact(order: str, experts: int, d: int, f: int, seed: int) -> None:
    run(SelectPlan(INSECURE_TEST, order, experts, d, f), seed, 8)


@pytest.mark.parametrize("plan", [SELECT[4], SELECT[5], SELECT[10], SELECT[11], *TINY[:4]], ids=str)
def test_weights_at_the_bound_are_exact_and_beyond_it_refused(plan: Plan) -> None:
    rng, s = np.random.default_rng(1), session(plan)
    largest = int(np.sqrt(largest_norm(plan) / (plan.experts * plan.d * min(plan.n_out, plan.f))))
    limit = min(min(plan.params.primes[: len(plan.params.q_bits)]) // 2, largest)
    w = np.where(rng.integers(0, 2, (plan.experts, plan.f, plan.d)) > 0, limit, -limit)
    shapes = (plan.operand("t").shape, plan.operand("x").shape, plan.outputs)
    t, x, mask = (words(rng, shape, plan.params.ring_bits) for shape in shapes)
    assert np.array_equal(s.request(plan, w, t, x, mask, rng), expected(plan, w, t, x, mask))
    with pytest.raises(WeightsOutOfBound):
        prepare(plan, w * 2 + 2)


@pytest.mark.parametrize("order", ["R", "L"])
def test_uploads_are_shared_between_matrices_and_tokens(order: str) -> None:
    """t serves W1, V and W2; x serves W1 and V; several tokens meet the weights in one call."""
    experts, d, f, tokens = 5, 24, 70, 3
    up, down = (SelectPlan(INSECURE_TEST, order, experts, *shape) for shape in ((d, f), (f, d)))
    s, rng = session(up, down), np.random.default_rng(3)
    w1, v, w2 = (rng.integers(-1000, 1000, (experts, *shape)) for shape in ((f, d), (f, d), (d, f)))
    ts, xs, gs = (words(rng, (tokens, size), 64) for size in (experts, d, f))
    first, second = [], []
    for t, x, g in zip(ts, xs, gs, strict=True):
        selector = s.upload(up, "t", t, words(rng, t.shape, 64))
        first.append(s.server.tensor(up, selector, s.upload(up, "x", x, words(rng, x.shape, 64))))
        second.append(s.server.tensor(down, selector, s.upload(down, "x", g, words(rng, g.shape, 64))))
    assert up.operand("t") == down.operand("t")
    for plan, w, products, inputs in ((up, w1, first, xs), (up, v, first, xs), (down, w2, second, gs)):
        for k, result in enumerate(s.server.apply(plan, prepare(plan, w), products)):
            mask = words(rng, plan.outputs, 64)
            got = s.client.decrypt(plan, s.server.respond(plan, result, mask, fresh_draw()))
            assert np.array_equal(got, expected(plan, w, ts[k], inputs[k], mask))


def _answer(plan: SelectPlan, rng: np.random.Generator) -> tuple[Session, Callable[[Shares, Draw], bytes]]:
    s = session(plan)
    product = s.product(plan, words(rng, (plan.experts,), 64), words(rng, (plan.d,), 64), rng)
    result = s.server.apply(plan, prepare(plan, rng.integers(-99, 99, (plan.experts, plan.f, plan.d))), [product])[0]
    return s, lambda mask, draw: s.server.respond(plan, result, mask, draw)


def _parts(plan: Plan, data: bytes) -> tuple[list[Ints], list[Ints]]:
    """c0 at the outputs and c1, of a response that fits one ciphertext."""
    basis = ring_for(plan.params).response
    count = plan.response_positions[0].size
    rows = unpack(data, basis.primes * 2, (count,) * basis.size + (plan.params.n,) * basis.size)
    return [r.astype(np.int64) for r in rows[: basis.size]], [r.astype(np.int64) for r in rows[basis.size :]]


def test_every_response_is_fresh() -> None:
    """The same result and mask answered twice: both parts change everywhere, the value does not."""
    plan = SelectPlan(INSECURE_TEST, "R", 4, 64, 200)
    s, respond = _answer(plan, np.random.default_rng(4))
    mask = np.arange(200, dtype=np.uint64)
    one, two = respond(mask, fresh_draw()), respond(mask, fresh_draw())
    assert np.array_equal(s.client.decrypt(plan, one), s.client.decrypt(plan, two))
    for left, right in zip(itertools.chain(*_parts(plan, one)), itertools.chain(*_parts(plan, two)), strict=True):
        assert np.mean(left == right) < 0.02
    gap = (_parts(plan, one)[1][0] - _parts(plan, two)[1][0]) % ring_for(INSECURE_TEST).response.primes[0]
    bins = np.bincount(gap * 4 // ring_for(INSECURE_TEST).response.primes[0], minlength=4)
    assert bins.min() > 256 / 4 - 5 * np.sqrt(48)


def test_only_output_coefficients_leave() -> None:
    for plan in (
        SelectPlan(INSECURE_TEST, "R", 4, 64, 200),
        SelectPlan(P64TINY, "R", 8, 32, 64),
        LinearPlan(INSECURE_TEST, 5, 8, 16),
    ):
        bits = plan.params.response_total_bits
        total = sum(-(-(plan.params.n + places.size) * bits // 8) for places in plan.response_positions)
        assert plan.response_nbytes == total
        assert sum(places.size for places in plan.response_positions) == np.prod(plan.outputs)


def test_the_response_is_flooded_to_the_public_amplitude() -> None:
    """Error of the response, measured with the secret key: uniform up to 0.8 of the room, far above the noise bound."""
    plan = SelectPlan(INSECURE_TEST, "R", 4, 64, 200)
    s, respond = _answer(plan, np.random.default_rng(5))
    basis = ring_for(INSECURE_TEST).response
    errors = []
    for _ in range(10):
        mask = words(np.random.default_rng(6), (200,), 64)
        data = respond(mask, fresh_draw())
        value = s.client.decrypt(plan, data)
        c0, c1 = (np.stack(part).astype(np.float64) for part in _parts(plan, data))
        whole = np.zeros((basis.size, plan.params.n))
        whole[:, plan.response_positions[0]] = c0
        phase = s.client.secret.phase(np.stack([whole, c1]), basis)[:, plan.response_positions[0]].astype(np.int64)
        gap = (phase - encode(value, 64, basis).astype(np.int64)) % np.array(basis.primes)[:, None]
        errors += [_centred([int(v) for v in column], basis.primes) for column in gap.T]
    room = basis.modulus / 2**65
    amplitude = flood_target(INSECURE_TEST) / (ring_for(INSECURE_TEST).q1.modulus / 2**65) * room
    sizes = np.abs(np.array(errors, dtype=np.float64))
    assert 0.98 * amplitude < sizes.max() < 1.02 * amplitude
    assert abs(np.mean(errors)) < 5 * amplitude / np.sqrt(3 * len(errors))
    assert abs(sizes.mean() - amplitude / 2) < 5 * amplitude / np.sqrt(12 * len(errors))


def _centred(residues: list[int], primes: tuple[int, ...]) -> int:
    p, q = primes
    value = (residues[0] * q * pow(q, -1, p) + residues[1] * p * pow(p, -1, q)) % (p * q)
    return value - p * q if 2 * value > p * q else value


def test_labels_of_the_draws_do_not_depend_on_the_data() -> None:
    plan = SelectPlan(INSECURE_TEST, "R", 4, 64, 300)
    logs = []
    for seed in (1, 2):
        rng, log = np.random.default_rng(seed), list[tuple[str, int]]()

        def draw(label: str, nbytes: int, log: list[tuple[str, int]] = log) -> bytes:
            log.append((label, nbytes))
            return fresh_draw()(label, nbytes)

        s, respond = _answer(plan, rng)
        s.client.encrypt(plan.operand("x"), words(rng, (64,), 64), draw)
        respond(words(rng, (300,), 64), draw)
        logs.append(log)
    assert logs[0] == logs[1] and len(set(logs[0])) == len(logs[0])


@pytest.mark.slow
@pytest.mark.parametrize("order", ["R", "L"])
def test_the_portable_engine_gives_identical_bytes(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, uploads and responses byte for byte, with the compiled kernels and with numpy integers."""
    plan = SelectPlan(INSECURE_TEST, order, 4, 40, 150)
    slow = Ring(INSECURE_TEST, NumpyEngine(Tables(INSECURE_TEST.n, INSECURE_TEST.primes)))

    def transcript() -> list[bytes]:
        def draw_of(scope: str) -> Draw:
            return lambda label, nbytes: np.random.default_rng(list(f"{scope}/{label}".encode())).bytes(nbytes)

        rng, keys = np.random.default_rng(9), key_set(INSECURE_TEST, [plan])
        client = ClientKeys.generate(keys, draw_of("keys"))
        server = ServerKeys.from_bytes(keys, client.public_bytes)
        uploads = {
            word: client.encrypt(plan.operand(word), words(rng, plan.operand(word).shape, 64), draw_of(word))
            for word in ("t", "x")
        }
        t, x = (
            server.absorb(plan.operand(word), uploads[word], words(rng, plan.operand(word).shape, 64))
            for word in ("t", "x")
        )
        w = rng.integers(-999, 999, (4, 150, 40))
        result = server.apply(plan, prepare(plan, w), [server.tensor(plan, t, x)])[0]
        response = server.respond(plan, result, words(rng, (150,), 64), draw_of("response"))
        return [client.public_bytes, *uploads.values(), response, client.decrypt(plan, response).tobytes()]

    fast = transcript()
    for module in (client_module, public_keys_module):
        monkeypatch.setattr(module, "ring_for", lambda params: slow)
    assert transcript() == fast


def test_damaged_messages_are_refused() -> None:
    plan = SelectPlan(INSECURE_TEST, "R", 4, 64, 200)
    s, respond = _answer(plan, np.random.default_rng(7))
    layout, own = plan.operand("x"), np.zeros(64, dtype=np.uint64)
    upload, answer = s.client.encrypt(layout, own, fresh_draw()), respond(np.zeros(200, dtype=np.uint64), fresh_draw())
    for cut in (b"", upload[:-1], upload + b"\0"):
        with pytest.raises(MalformedMessage, match=f"upload: expected {layout.nbytes} bytes, came {len(cut)}"):
            s.server.absorb(layout, cut, own)
    with pytest.raises(MalformedMessage, match="expected values below"):
        s.server.absorb(layout, upload[:40] + b"\xff" * 20 + upload[60:], own)
    for cut in (b"", answer[:-1], answer + b"\0"):
        with pytest.raises(MalformedMessage, match=f"response: expected {plan.response_nbytes} bytes, came {len(cut)}"):
            s.client.decrypt(plan, cut)
    with pytest.raises(MalformedMessage, match="expected values below"):
        s.client.decrypt(plan, b"\xff" * 20 + answer[20:])


def test_misuse_is_refused() -> None:
    plan, other = SelectPlan(INSECURE_TEST, "R", 4, 64, 200), SelectPlan(INSECURE_TEST, "R", 4, 64, 100)
    s, rng = session(plan), np.random.default_rng(8)
    with pytest.raises(ShapeMismatch, match=r"expected uint64 words of shape \(64,\), came int64"):
        s.client.encrypt(plan.operand("x"), np.zeros(64, dtype=np.int64), fresh_draw())
    with pytest.raises(ShapeMismatch, match=r"came uint64 of shape \(63,\)"):
        s.client.encrypt(plan.operand("x"), np.zeros(63, dtype=np.uint64), fresh_draw())
    with pytest.raises(ShapeMismatch, match="weights: expected signed integers"):
        prepare(plan, np.zeros((4, 200, 63), dtype=np.int64))
    with pytest.raises(ShapeMismatch, match="weights: expected signed integers"):
        prepare(plan, np.zeros((4, 200, 64)))  # type: ignore[arg-type]
    x = s.upload(plan, "x", words(rng, (64,), 64), words(rng, (64,), 64))
    with pytest.raises(ShapeMismatch, match="operand t: expected layout"):
        s.server.tensor(plan, x, x)
    product = s.product(plan, words(rng, (4,), 64), words(rng, (64,), 64), rng)
    with pytest.raises(ShapeMismatch, match="weights: prepared for"):
        s.server.apply(plan, prepare(other, np.zeros((4, 100, 64), dtype=np.int64)), [product])
    result = s.server.apply(plan, prepare(plan, np.zeros((4, 200, 64), dtype=np.int64)), [product])[0]
    with pytest.raises(ShapeMismatch, match="mask: expected"):
        s.server.respond(plan, result, np.zeros(100, dtype=np.uint64), fresh_draw())
    linear = session(LinearPlan(INSECURE_TEST, 1, 4, 4))
    for order, key in (("L", "a relinearisation key"), ("R", r"a key for X -> X\^257")):
        small = SelectPlan(INSECURE_TEST, order, 4, 8, 8)
        with pytest.raises(MissingKey, match=f"expected {key}"):
            linear.product(small, words(rng, (4,), 64), words(rng, (8,), 64), rng)


@pytest.mark.nightly
@pytest.mark.parametrize("experts", [2, 8, 32, 128])
def test_real_size_is_exact(experts: int) -> None:
    """One token at d = 768, f = 3072, both layers, weights of 21 bits."""
    for d, f in ((768, 3072), (3072, 768)):
        run_real(SelectPlan(PARAM_SETS["P64s"], "R", experts, d, f), 20)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "order", "bits"), [("P64s", "L", 20), ("P64", "R", 19), ("P32", "R", 11), ("P32", "L", 11)]
)
def test_other_sets_and_the_literal_order_at_real_size(name: str, order: str, bits: int) -> None:
    run_real(SelectPlan(PARAM_SETS[name], order, 8, 768, 3072), bits)


def run_real(plan: SelectPlan, bits: int) -> None:
    rng, s = np.random.default_rng(plan.experts), Session(plan)
    w = rng.integers(-(1 << bits), 1 << bits, (plan.experts, plan.f, plan.d), dtype=np.int32)
    x, mask = words(rng, (plan.d,), plan.params.ring_bits), words(rng, plan.outputs, plan.params.ring_bits)
    t, chosen = np.zeros(plan.experts, dtype=np.uint64), int(rng.integers(plan.experts))
    t[chosen] = 1
    product = s.product(plan, t, x, rng)
    result = s.server.apply(plan, prepare(plan, w), [product])[0]
    got = s.client.decrypt(plan, s.server.respond(plan, result, mask, fresh_draw()))
    assert np.array_equal(got, expected(plan, w[chosen : chosen + 1], np.ones(1, dtype=np.uint64), x, mask))
