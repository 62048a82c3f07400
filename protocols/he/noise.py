"""The noise of a product as variances, the load-time check, and the statistical distance that responses add up to.

The model follows the error coefficient by coefficient as a sum of many independent terms. The bound 8 sqrt(V) is a
tail bound under the usual Gaussian heuristic, not a theorem; tests compare it with the noise that the secret key
measures.
"""

import math
from dataclasses import dataclass

from protocols.he.packing import Plan, SelectPlan
from protocols.he.params import ParamSet
from protocols.he.sampling import ERROR_VARIANCE, flooding_bound

TAIL = 8.0  # standard deviations
FLOOD_SHARE = (4, 5)  # the flooding takes 0.8 of the room around a message


class WeightsOutOfBound(ValueError):
    """Weights for which decryption could fail or the flooding would not hide the noise."""


class EpsilonExhausted(RuntimeError):
    """A response that would take the session over its statistical-distance budget."""


@dataclass(frozen=True)
class NoiseReport:
    """Noise of one product. stages: (name, log2 of the standard deviation). bound, flood: B and F at q1, as log2.

    room: log2 of q1 / 2^(l+1). epsilon: statistical distance of all outputs of the plan.
    hides: F >= 2^kappa B. decrypts: (F + B) and the rounding of the response stay below half a message step.
    """

    stages: tuple[tuple[str, float], ...]
    bound: float
    flood: float
    room: float
    epsilon: float
    hides: bool
    decrypts: bool


def flood_target(params: ParamSet) -> int:
    """Largest flooding amplitude: 0.8 q1 / 2^(l+1)."""
    q1 = math.prod(params.primes[: params.kept])
    return FLOOD_SHARE[0] * q1 // (FLOOD_SHARE[1] << (params.ring_bits + 1))


def switch_variance(params: ParamSet, count: int) -> float:
    """What a key switch modulo the first `count` primes adds: the division by P rounds, and every digit, a sum of as
    many uniform numbers as it has primes, meets an error.
    """
    first, n = len(params.q_bits), params.n
    special = math.prod(params.primes[first: first + len(params.special_bits)])
    divided = n / 18 + 1 / 12 if params.special_bits else 0.0
    sizes = ((len(digit), math.prod(params.primes[k] for k in digit)) for digit in params.digits(count))
    return divided + sum(primes * (modulus / special) ** 2 for primes, modulus in sizes) * n * ERROR_VARIANCE / 12


def _variances(plan: Plan, norm: float) -> list[tuple[str, float]]:
    """Variance after each stage; norm is the largest squared weight norm of an output block."""
    params, n = plan.params, plan.params.n
    q0, q1 = (float(math.prod(params.primes[:count])) for count in (len(params.q_bits), params.kept))
    aux = float(math.prod(params.primes[-len(params.auxiliary_bits):]))
    rounding = n / 18 + 1 / 12
    switch0, switch1 = (switch_variance(params, count) for count in (len(params.q_bits), params.kept))
    dropped = rounding if params.kept < len(params.q_bits) else 0.0
    fresh = ERROR_VARIANCE + 2 / 12
    stages = [("fresh", fresh)]
    expanded = fresh
    for _ in range(plan.expansion_levels):
        expanded = 4 * expanded + switch0
    stages.append(("expansion", expanded))
    variance = fresh
    if plan.order == "linear":
        if not plan.operand("x").switched:
            variance = variance * 4**plan.lift * (q1 / q0) ** 2 + dropped
            stages.append(("switch", variance))
        variance *= norm
        stages.append(("weights", variance))
    else:
        if plan.order == "L":
            expanded *= norm
            stages.append(("selection", expanded))
        modulus, selector, levels = 2.0**params.ring_bits, fresh, plan.operand("t").levels
        for _ in range(levels):  # the mean over the coefficients: a product meets each with a quotient of its own
            selector = 2 * selector + switch0
        selector *= plan.experts * len(plan.places) if levels else 1
        stages.append(("selectors", selector))
        both = expanded + (fresh if plan.order == "L" else selector)
        phase = rounding + plan.d * len(plan.places) / 12  # quotient of the phase by q, and the message itself
        variance = modulus**2 * n * phase * (both + rounding * (q0 / aux) ** 2) + switch0
        stages.append(("product", variance))
        variance = variance * (q1 / q0) ** 2 + dropped
        stages.append(("switch", variance))
        if plan.order == "R":
            variance *= norm
            stages.append(("weights", variance))
    merging = 0.0
    for _ in range(plan.b):
        merging = 4 * merging + switch1
    variance += merging  # the outputs come out of the levels as they went in: see `merging`
    stages.append(("packing", variance))
    variance += ERROR_VARIANCE * (1 + 4 * n / 3) + 1 / 12
    stages.append(("fresh zero", variance))
    return stages


def noise_report(plan: Plan, norm: float) -> NoiseReport:
    """Noise, flooding and statistical distance of a plan whose largest squared block norm of weights is `norm`."""
    params = plan.params
    stages = _variances(plan, norm)
    bound = TAIL * math.sqrt(stages[-1][1])
    rounded = 2.0 ** math.ceil(math.log2(bound))  # see `epsilon`
    flood = float(flooding_bound(flood_target(params))[0])
    room = math.prod(params.primes[: params.kept]) / 2 ** (params.ring_bits + 1)
    response_room = 2.0 ** (params.response_total_bits - params.ring_bits - 1)
    tail = TAIL * math.sqrt(params.n / 18 + 1 / 12)
    return NoiseReport(
        tuple((name, math.log2(variance) / 2 if variance else -math.inf) for name, variance in stages),
        math.log2(bound), math.log2(flood), math.log2(room), epsilon(rounded, flood, math.prod(plan.outputs)),
        flood >= 2.0**params.kappa * bound, (flood + bound) / room + tail / response_room < 1)


def epsilon(bound: float, flood: float, outputs: int) -> float:
    """Statistical distance between the flooding and the flooding shifted by noise up to `bound`: bound / (2 flood)
    for each output.

    Uniform on an interval of 2F integers against itself shifted by v: |v| / (2F). Conditioned on the client's
    randomness the noise is fixed, so the joint distance is the mean of |v| / (2F), below bound / (2F); union over the
    coefficients that leave. Callers round the bound up to whole bits: it depends on the norm of the weights, and the
    figure is printed.
    """
    return min(1.0, outputs * bound / (2 * flood))


def largest_norm(plan: Plan) -> float:
    """The largest squared block norm of weights that the plan admits; 0 when it admits none."""
    flood = float(flooding_bound(flood_target(plan.params))[0])
    allowed = (flood / 2.0**plan.params.kappa / TAIL) ** 2
    base = _variances(plan, 0.0)[-1][1]
    slope = (_variances(plan, 2.0**100)[-1][1] - base) / 2.0**100
    return max(0.0, (allowed - base) / slope)


def has_room(params: ParamSet) -> bool:
    """Whether products of ciphertexts fit a set: whether the smallest selection admits a weight of one."""
    plan = SelectPlan(params, "R", 2, 1, 1)
    norm = largest_norm(plan)
    return norm >= 4.0**params.frac_bits and noise_report(plan, norm).decrypts


def check_weights(plan: Plan, norm: float, largest: int) -> NoiseReport:
    """The load-time check. norm: largest squared block norm; largest: largest absolute weight. Raises
    WeightsOutOfBound.
    """
    limit = min(plan.params.primes[: len(plan.params.q_bits)]) // 2
    if largest > limit:
        raise WeightsOutOfBound(f"weights: expected absolute values up to {limit}, came {largest}: "
                                "rescale the layer or use fewer fractional bits")
    report = noise_report(plan, norm)
    if not (report.hides and report.decrypts):
        raise WeightsOutOfBound(
            f"weights: {plan.params.name} in order {plan.order} admits an output block of norm "
            f"2^{math.log2(max(largest_norm(plan), 1)) / 2:.1f}, came 2^{math.log2(norm) / 2:.1f} (noise bound "
            f"2^{report.bound:.1f}, flooding 2^{report.flood:.1f}, kappa {plan.params.kappa}): scale the weights down "
            "or take parameters with a larger modulus")
    return report


class EpsilonBudget:
    """Sum of the statistical distances of a session's responses, with a ceiling."""

    def __init__(self, limit: float = 2.0**-30) -> None:
        self.limit, self.total = limit, 0.0

    @property
    def remaining(self) -> float:
        """What may still be spent."""
        return max(0.0, self.limit - self.total)

    @property
    def bits(self) -> float:
        """-log2 of what has been spent; infinite while nothing has."""
        return math.inf if self.total == 0 else -math.log2(self.total)

    def admit(self, amount: float) -> None:
        """Raise EpsilonExhausted if `amount` would not fit; spend nothing. For a whole query before its first
        response.
        """
        if self.total + amount > self.limit:
            raise EpsilonExhausted(
                f"statistical distance: the session's budget is 2^{math.log2(self.limit):.1f}, spent {self.total:.3g}, "
                f"asked for {amount:.3g} more: it adds up over all answers from these weights, new keys or not")

    def charge(self, amount: float) -> None:
        """Spend `amount`, or raise EpsilonExhausted and spend nothing."""
        self.admit(amount)
        self.total += amount
