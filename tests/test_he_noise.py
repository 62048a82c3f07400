"""The noise model against noise measured with the secret key, the load-time check, and the epsilon ledger."""

import math
from dataclasses import replace

import numpy as np
import pytest

from protocols.he.bfv import automorphism
from protocols.he.client import ClientKeys
from protocols.he.noise import (
    EpsilonBudget,
    EpsilonExhausted,
    WeightsOutOfBound,
    epsilon,
    flood_target,
    has_room,
    largest_norm,
    noise_report,
    switch_variance,
)
from protocols.he.ntt import Floats, Ints
from protocols.he.packing import KeySet, LinearPlan, Plan, SelectPlan
from protocols.he.params import INSECURE_TEST, PARAM_SETS
from protocols.he.reading import ReadPlan
from protocols.he.ring_q import Basis, ring_for
from protocols.he.sampling import flooding_bound
from protocols.he.server import Operand, ServerKeys
from protocols.he.weighing import Weighing
from protocols.he.weights import prepare
from tests.he_support import Session, errors, fresh_draw, largest_noise, words

SLACK = 3.0  # bits by which a bound may exceed the largest measured error
TAIL_BITS = 3.0  # 8 standard deviations


class Trace:
    """One request with the integers that the ciphertexts carry, and the error after each stage."""

    def __init__(self, plan: Plan, seed: int, bits: int = 20) -> None:
        self.plan, self.rng = plan, np.random.default_rng(seed)
        self.s = Session(plan)
        self.seed = seed
        self.w: Ints = self.rng.integers(-(1 << bits), 1 << bits, (plan.experts, plan.f, plan.d))
        self.report = prepare(plan, self.w).report
        self.measured: dict[str, float] = {}
        ring, server = self.s.server.ring, self.s.server
        self.q0, self.q1 = ring.q0, ring.q1
        self.x, x_operand = self._upload("x")
        if isinstance(plan, LinearPlan):
            product = server.linear(plan, x_operand)
        else:
            assert isinstance(plan, SelectPlan)
            self.t, t_operand = self._upload("t")
            product = server.tensor(plan, t_operand, x_operand)
        self._operands([np.asarray(piece) for piece in product.units[0]])
        weighing = Weighing(server, plan, prepare(plan, self.w), product.pairs)
        stage = {"R": "weights", "L": "switch", "linear": "weights"}[plan.order]
        scale = plan.params.ring_bits
        outputs = self._outputs()
        for block in range(min(plan.blocks, 8)):
            chosen = outputs[block * plan.n_out : (block + 1) * plan.n_out]
            ciphertext = weighing.multiplied(range(block, block + 1))[0][0]
            self._record(stage, ciphertext, self.q1, np.arange(len(chosen)) * plan.spacing, chosen, scale)
        result = server.apply(plan, prepare(plan, self.w), [product])[0]
        first = 0
        for part, places in zip(result.parts, plan.response_positions, strict=True):
            self._record("packing", part, self.q1, places, outputs[first : first + places.size], plan.params.ring_bits)
            first += places.size

    def _upload(self, word: str) -> tuple[list[int], Operand]:
        layout, ring = self.plan.operand(word), self.s.server.ring
        theirs, own = (words(self.rng, layout.shape, self.plan.params.ring_bits) for _ in range(2))
        operand = self.s.server.absorb(
            layout, self.s.client.encrypt(layout, theirs, fresh_draw(f"{word}{self.seed}")), own
        )
        total = [int(a) + int(b) for a, b in zip(theirs.reshape(-1), own.reshape(-1), strict=True)]
        if layout.levels:  # no longer fresh: measured below, on its own
            return total, operand
        self._everywhere(
            "fresh",
            ring.forward(operand.parts[0], ring.upload(layout)),
            ring.upload(layout),
            dict(zip(layout.positions(0).reshape(-1).tolist(), total, strict=True)),
            layout.scale,
        )
        return total, operand

    def _record(
        self, stage: str, ciphertext: Floats, basis: Basis, positions: Ints, messages: list[int], scale: int
    ) -> None:
        error = largest_noise(self.s, ciphertext, basis, positions, messages, scale)
        self.measured[stage] = max(error, self.measured.get(stage, 0.0))

    def _everywhere(self, stage: str, ciphertext: Floats, basis: Basis, message: dict[int, int], scale: int) -> None:
        n = self.plan.params.n
        self._record(stage, ciphertext, basis, np.arange(n), [message.get(place, 0) for place in range(n)], scale)

    def _operands(self, pieces: list[Floats]) -> None:
        plan = self.plan
        if plan.order == "linear":
            return
        if plan.order == "L":
            for i, piece in enumerate(pieces):
                if plan.a:
                    self._everywhere("expansion", piece, self.q0, {0: self.t[i] << plan.a}, plan.operand("t").scale)
        else:
            for chunk, piece in zip(plan.chunks(), pieces, strict=True):
                columns = range(plan.d)[chunk.columns]
                message = {
                    i + plan.stride * (j - columns[0]): self.t[i] * self.x[j]
                    for i in range(plan.experts)
                    for j in columns
                }
                self._everywhere("switch", piece, self.q1, message, plan.params.ring_bits)

    def _outputs(self) -> list[int]:
        w, x = self.w.astype(object), np.array(self.x, dtype=object)
        if self.plan.order == "linear":
            return [int(v) for v in w[0] @ x]
        return [int(v) for v in sum(t * matrix for t, matrix in zip(self.t, w, strict=True)) @ x]


PLANS = [
    SelectPlan(INSECURE_TEST, "R", 4, 64, 200),
    SelectPlan(INSECURE_TEST, "L", 4, 64, 200),
    SelectPlan(INSECURE_TEST, "R", 4, 8, 8),
    SelectPlan(INSECURE_TEST, "L", 4, 8, 8),
    LinearPlan(INSECURE_TEST, 1, 64, 128),
    ReadPlan.of(SelectPlan(INSECURE_TEST, "R", 4, 64, 200), 128),
    SelectPlan(PARAM_SETS["P64tiny"], "R", 8, 32, 64),
    SelectPlan(PARAM_SETS["P64tiny"], "L", 8, 32, 64),
    LinearPlan(PARAM_SETS["P64tiny"], 1, 32, 8),
]
WEIGHT_BITS = {"P64s": 20, "P64": 18, "P32": 11}
REAL = [SelectPlan(PARAM_SETS[name], order, 8, 768, 3072) for name in ("P64s", "P64", "P32") for order in ("R", "L")]


def check(traces: list[Trace]) -> None:
    """Every error within its bound; the largest of each stage within SLACK bits of it."""
    for stage in traces[0].measured:
        gaps = [dict(trace.report.stages)[stage] + TAIL_BITS - trace.measured[stage] for trace in traces]
        assert min(gaps) >= 0, (stage, gaps)
        assert min(gaps) <= SLACK, (stage, gaps)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_measured_noise_is_within_the_bound_and_near_it(plan: Plan) -> None:
    check([Trace(plan, seed) for seed in range(6)])


UPLOADS = 8
APART = [SelectPlan(INSECURE_TEST, "R", *shape) for shape in ((4, 40, 130, 3), (6, 16, 20), (1, 50, 9, 5))]
APART += [SelectPlan(INSECURE_TEST, "R", *shape, compact=True) for shape in ((4, 40, 130), (3, 16, 20, 4))]


@pytest.mark.parametrize("plan", APART, ids=str)
def test_the_mean_noise_of_selectors_taken_apart_is_the_models(plan: SelectPlan) -> None:
    """Every token's words from exponent 0 on, nothing elsewhere, and of the variance that the product stage takes."""
    s, rng, layout = Session(plan), np.random.default_rng(1), plan.operand("t")
    assert layout.count == 1 and layout.levels
    basis, found, places = s.server.ring.q0, list[int](), np.arange(plan.params.n)
    for _ in range(UPLOADS):  # few words have their errors from few coefficients of an upload: one alone tells little
        theirs, own = (words(rng, layout.shape, 64) for _ in range(2))
        data = s.client.encrypt(layout, theirs, fresh_draw())
        parts, total = s.server.absorb(layout, data, own).parts, theirs.astype(object) + own.astype(object)
        assert len(parts) == plan.n
        for part, row in zip(parts, total.reshape(plan.n, -1), strict=True):
            message = [int(row[place]) if place < plan.experts else 0 for place in places]
            found += errors(s, s.server.ring.forward(part, basis), basis, places, message, 64)
    deviation = dict(noise_report(plan, 0.0).stages)["selectors"]
    assert abs(math.log2(sum(error * error for error in found) / len(found)) / 2 - deviation) < 0.5


SWITCHES = [
    ((40,) * 6, 4, special) for special in ((), (38,), (50,), (38, 38), (40, 40), (38, 38, 38), (40,) * 4, (41,) * 6)
] + [((50, 45, 40), 2, (45, 45)), ((50, 50, 50), 1, (50,))]  # fmt: skip


@pytest.mark.parametrize(("q_bits", "kept", "special_bits"), SWITCHES, ids=str)
def test_key_switches_add_the_noise_of_the_model(
    q_bits: tuple[int, ...], kept: int, special_bits: tuple[int, ...]
) -> None:
    """Digits of one to six primes, the last one shorter: at q0 and at q1, where digits dominate and where rounding."""
    params = replace(INSECURE_TEST, name="own", q_bits=q_bits, kept=kept, special_bits=special_bits)
    ring, rng, element = ring_for(params), np.random.default_rng(3), params.n // 2 + 1
    keys = KeySet(params, True, (element,), (element,))
    client = ClientKeys.generate(keys, fresh_draw())
    server = ServerKeys.from_bytes(keys, client.public_bytes)
    switched = ((ring.q0, ring.q0p, server.expansion[element]), (ring.q1, ring.q1p, server.packing[element]))
    for basis, special, key in switched:
        units = [basis.modulus // p * pow(basis.modulus // p, -1, p) for p in basis.primes]
        order, squares = ring.permutation(element), list[int]()
        primes = np.array(basis.primes, dtype=np.float64)[:, None]
        for _ in range(8):
            x = np.floor(rng.random((2, basis.size, ring.n)) * primes)
            moved = automorphism(ring, x, element, key, basis, special)
            phase, theirs = (client.secret.phase(ring.inverse(y, basis), basis) for y in (x, moved))
            own = ring.inverse(ring.engine.permute(ring.forward(phase, basis), order), basis)
            gaps = ((theirs - own) % primes).astype(np.int64).T.tolist()
            values = (sum(v * unit for v, unit in zip(gap, units, strict=True)) % basis.modulus for gap in gaps)
            squares += [min(v, basis.modulus - v) ** 2 for v in values]
        deviation = math.log2(switch_variance(params, basis.size)) / 2
        assert abs(math.log2(sum(squares) / len(squares)) / 2 - deviation) < 0.25


@pytest.mark.nightly
@pytest.mark.parametrize("plan", REAL, ids=str)
def test_measured_noise_at_real_size(plan: Plan) -> None:
    check([Trace(plan, 0, WEIGHT_BITS[plan.params.name])])


@pytest.mark.parametrize("plan", [*PLANS, *REAL], ids=str)
def test_the_largest_admitted_norm_is_the_exact_edge(plan: Plan) -> None:
    edge = largest_norm(plan)
    assert edge > 0
    assert noise_report(plan, 0.999 * edge).hides and noise_report(plan, 0.999 * edge).decrypts
    assert not noise_report(plan, 1.001 * edge).hides


def test_weights_beyond_the_bound_are_refused_with_what_to_do() -> None:
    plan = SelectPlan(PARAM_SETS["P32tiny"], "R", 4, 8, 8)
    for order in ("R", "L"):
        plan = SelectPlan(PARAM_SETS["P32tiny"], order, 4, 8, 8)
        w = np.zeros((4, 8, 8), dtype=np.int64)
        assert prepare(plan, w).report.hides
        w[1, 2, 3] = int(math.sqrt(largest_norm(plan)) * 0.99)
        prepare(plan, w)
        w[1, 2, 3] = int(math.sqrt(largest_norm(plan)) * 1.01)
        with pytest.raises(WeightsOutOfBound, match=r"admits an output block of norm 2\^.*scale the weights down"):
            prepare(plan, w)
    w[1, 2, 3] = 1 << 40
    with pytest.raises(WeightsOutOfBound, match="expected absolute values up to"):
        prepare(plan, w)


def test_the_default_set_admits_every_21_bit_weight_up_to_128_experts_and_20_bit_ones_up_to_256() -> None:
    for order in ("R", "L"):
        for d, f in ((768, 3072), (3072, 768)):
            for experts, bits in ((2, 21), (8, 21), (32, 21), (128, 21), (256, 20)):
                for n in (1, 8):
                    plan = SelectPlan(PARAM_SETS["P64s"], order, experts, d, f, n)
                    norm = 2.0 ** (2 * bits) * experts * d * plan.n_out
                    report = noise_report(plan, norm)
                    assert report.hides and report.decrypts, plan


def test_sets_of_rivals_have_no_room_for_products_of_ciphertexts_and_refuse_them() -> None:
    assert {name for name, params in PARAM_SETS.items() if not has_room(params)} == {"P64packed", "P64unpacked"}
    plan = SelectPlan(PARAM_SETS["P64packed"], "R", 2, 4, 4)
    with pytest.raises(WeightsOutOfBound, match="P64packed in order R admits"):
        prepare(plan, np.full((2, 4, 4), 1 << 18))


def test_flooding_has_the_published_amplitude_and_epsilon_its_formula() -> None:
    for params in PARAM_SETS.values():
        q1 = math.prod(params.primes[: params.kept])
        flood = flooding_bound(flood_target(params))[0]
        assert flood * 5 << (params.ring_bits + 1) <= 4 * q1
        assert flood > 0.8 * q1 / 2 ** (params.ring_bits + 1) * (1 - 2**-15)
    assert epsilon(8.0, 2.0**20, 3) == 3 * 8.0 / 2.0**21
    assert epsilon(2.0**30, 2.0**20, 1) == 1.0


def test_epsilon_of_uniform_flooding_is_the_exact_distance() -> None:
    """Total variation between uniform on 2F integers and its shift by v, by enumeration."""
    flood = 50
    for shift in range(0, 60, 7):
        left = {u: 1 / (2 * flood) for u in range(-flood, flood)}
        right = {u + shift: 1 / (2 * flood) for u in range(-flood, flood)}
        distance = sum(abs(left.get(u, 0) - right.get(u, 0)) for u in left | right) / 2
        assert distance == pytest.approx(epsilon(shift, flood, 1), abs=1e-12)


def test_the_budget_refuses_the_response_that_would_exceed_it() -> None:
    budget = EpsilonBudget(2.0**-30)
    assert budget.bits == math.inf
    for _ in range(3):
        budget.charge(2.0**-32)
    assert budget.bits == pytest.approx(32 - math.log2(3))
    budget.admit(2.0**-32)
    with pytest.raises(EpsilonExhausted, match="adds up over all answers"):
        budget.charge(1.01 * 2.0**-32)
    assert budget.total == 3 * 2.0**-32
    budget.charge(2.0**-32)
    assert budget.remaining == 0
