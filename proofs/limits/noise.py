"""The noise of a product in exact rationals: its largest value for every key and tape, and its second moment.

Largest value: ternary secret |s| <= 1, errors |e| <= 21, a digit of k primes at most k halves of their product,
remainders at most a half; a product with s or with an error costs a factor N. Nothing probabilistic is used, so
decryption can only fail through the last rounding, to the response modulus, whose second component has N remainders.
Those are uniform and independent of the secret, because the server's fresh encryption of zero makes that component
uniform (RLWE); their sum against s is sub-Gaussian and has an explicit tail.

Along the packing tree an output meets no sum of two blocks: where the automorphism fixes its exponent, one operand is
doubled and the other cancels. All levels together undo the factor 2^-b that every block is given before, so that only
the key switches are left: each is doubled by the levels after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

from proofs.limits.row import LOG2_E, power_of_half, sqrt_up
from protocols.he.noise import flood_target
from protocols.he.packing import Plan
from protocols.he.params import ParamSet
from protocols.he.sampling import ERROR_ETA, flooding_bound

HALF = Fraction(1, 2)
# Exact base conversion may return the other representative within 2^-47 of a half; 2^-44 leaves room.
EDGE = Fraction(1, 1 << 44)
FLIPS = 16  # such remainders that the tail allows for
DECODE_GUARD = Fraction(1, 1 << 40)  # decoding rounds rightly but for this neighbourhood of one half


@dataclass(frozen=True)
class Moduli:
    """The exact moduli of a parameter set; special is 1 where there is none."""

    q0: int
    q1: int
    special: int
    aux: int
    response: int

    @classmethod
    def of(cls, params: ParamSet) -> Moduli:
        primes, count = params.primes, len(params.q_bits)
        first = count + len(params.special_bits)
        last = first + len(params.response_bits)
        return cls(prod(primes[:count]), prod(primes[: params.kept]), prod(primes[count:first]), prod(primes[last:]),
                   prod(primes[first:last]))


def flood(params: ParamSet) -> int:
    """F: the flooding of a response is uniform on [-F, F)."""
    return flooding_bound(flood_target(params))[0]


def largest_digits(params: ParamSet, count: int) -> list[int]:
    """Twice the largest absolute value of each digit of a key switch modulo the first `count` primes."""
    return [len(digit) * prod(params.primes[k] for k in digit) for digit in params.digits(count)]


def weights_l1(plan: Plan, norm: Fraction) -> Fraction:
    """The largest sum of absolute weights of an output block of squared norm `norm` (Cauchy-Schwarz)."""
    return sqrt_up(norm * plan.experts * plan.d * plan.n_out)


def worst_case(plan: Plan, l1: Fraction) -> list[tuple[str, Fraction]]:
    """The largest error after each stage, for any key, tape and message. l1: largest sum of absolute weights of an
    output block."""
    params, n, m = plan.params, plan.params.n, Moduli.of(plan.params)
    remainder = (HALF + EDGE) * (1 + n)  # of c0 and of c1 s
    divided = remainder if params.special_bits else Fraction(0)
    dropped = remainder if params.kept < len(params.q_bits) else Fraction(0)
    switch0, switch1 = (divided + Fraction(n * ERROR_ETA * sum(largest_digits(params, count)), 2 * m.special)
                        for count in (len(params.q_bits), params.kept))
    fresh = Fraction(ERROR_ETA + 1)  # two roundings of a half
    stages = [("fresh", fresh)]
    expanded = fresh
    for _ in range(plan.expansion_levels):
        expanded = 2 * expanded + switch0
    error = fresh
    if plan.order == "linear":
        if not plan.operand("x").switched:
            error = (error * 2**plan.lift) * m.q1 / m.q0 + dropped
            stages.append(("switch", error))
        error *= l1
        stages.append(("weights", error))
    else:
        stages.append(("expansion", expanded))
        if plan.order == "L":
            expanded *= l1
            stages.append(("selection", expanded))
        scale, levels, selector = params.ring_bits, plan.operand("t").levels, fresh
        for _ in range(levels):
            selector = 2 * selector + switch0
        selector = selector * plan.experts * len(plan.places) if levels else fresh
        stages.append(("selectors", selector))
        phase = (HALF + EDGE) * (1 + n) + 1  # (c0 + c1 s) / q0, and an error's share of it
        rescaling = remainder * m.q0 / m.aux
        error = (1 << scale) * n * phase * (expanded + selector + rescaling) + (HALF + EDGE) * (1 + n + n * n) + switch0
        stages.append(("product", error))
        error = error * m.q1 / m.q0 + dropped
        if plan.order == "R":
            error *= l1
        stages.append(("weights" if plan.order == "R" else "switch", error))
    merging = Fraction(0)
    for _ in range(plan.b):
        merging = 2 * merging + switch1
    error += merging
    stages.append(("packing", error))
    stages.append(("fresh zero", error + ERROR_ETA * (2 * n + 1) + HALF))  # and the rounding of the encoded mask
    return stages


def second_moment(plan: Plan, norm: Fraction) -> Fraction:
    """An upper bound on the mean square of an output's error before flooding. norm: largest squared norm of an output
    block.

    Digits, remainders and quotients are taken at their largest size; terms that different keys, errors or secrets
    multiply are taken as uncorrelated. Of selectors that were taken apart the mean over the coefficients counts, since
    a product meets each of them with another quotient: it doubles with each level.
    """
    params, n, m = plan.params, plan.params.n, Moduli.of(plan.params)
    error = Fraction(ERROR_ETA, 2)
    remainder = Fraction(n, 6) + 1
    divided = remainder if params.special_bits else Fraction(0)
    dropped = remainder if params.kept < len(params.q_bits) else Fraction(0)
    switch0, switch1 = (
        divided + Fraction(n * sum(x * x for x in largest_digits(params, count)), 4 * m.special**2) * error
        for count in (len(params.q_bits), params.kept))
    fresh = error + 1
    expanded = fresh
    for _ in range(plan.expansion_levels):
        expanded = 4 * expanded + switch0
    ratio = Fraction(m.q1, m.q0) ** 2
    if plan.order == "linear":
        read = fresh if plan.operand("x").switched else fresh * 4**plan.lift * ratio + dropped
        total = read * norm
    else:
        if plan.order == "L":
            expanded *= norm
        scale, levels, selector = params.ring_bits, plan.operand("t").levels, fresh
        for _ in range(levels):
            selector = 2 * selector + switch0
        selector = selector * plan.experts * len(plan.places) if levels else fresh
        total = (1 << 2 * scale) * n * remainder * (expanded + selector + remainder * Fraction(m.q0, m.aux) ** 2)
        total = (total + switch0) * ratio + dropped
        if plan.order == "R":
            total *= norm
    merging = Fraction(0)
    for _ in range(plan.b):
        merging = 4 * merging + switch1
    return total + merging + error * (1 + 2 * n) + 1


def margin(params: ParamSet, error: Fraction) -> Fraction:
    """What the rounding c1 s of a response may still take, when everything else is at its largest; negative: none."""
    m = Moduli.of(params)
    room = Fraction(m.response, 1 << (params.ring_bits + 1)) * (1 - 2 * DECODE_GUARD)
    return room - Fraction(m.response, m.q1) * (error + flood(params)) - HALF - EDGE


def tail(n: int, t: Fraction) -> Fraction:
    """An upper bound on the probability that |sum r_i s_i| > t for n remainders r_i uniform on [-1/2, 1/2] and ternary
    s_i, all independent; up to FLIPS remainders may come out with the other sign.

    E exp(a r s) <= 1/3 + 2/3 exp(a^2/24) <= exp(a^2/36 + a^4/5184), so Chernoff at a = 18 r t / n.
    """
    if t >= (HALF + EDGE) * n:
        return Fraction(0)
    if t <= FLIPS:
        return Fraction(1)
    return min(Fraction(1), chernoff(n, t - FLIPS) + (2 * n * EDGE) ** FLIPS)


def chernoff(n: int, t: Fraction) -> Fraction:
    """The tail of the sum without such flips, t > 0."""
    best = Fraction(0)
    for part in (Fraction(1, 4), HALF, Fraction(3, 4), Fraction(1)):
        a = 18 * part * t / n
        best = max(best, a * t - n * (a**2 / 36 + a**4 / 5184))
    return min(Fraction(1), 2 * power_of_half(best * LOG2_E))


def distance(params: ParamSet, outputs: int, moment: Fraction) -> Fraction:
    """Statistical distance of so many flooded outputs from noise-free ones: E|v| / (2F) each, E|v| <= sqrt(E v^2)."""
    return min(Fraction(1), outputs * sqrt_up(moment) / (2 * flood(params)))
