"""One row of the ledger of bounds, and exact arithmetic for what it prints."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

PROVED = "PROVED"
REFUTED = "REFUTED"
LOG2_E = Fraction(14426, 10000)  # below log2(e) = 1.442695...
LARGEST_EXPONENT = 1 << 16


@dataclass(frozen=True)
class Bound:
    """name: the kind of bound; subject: what it is about; verdict: PROVED, BOUNDED(2^-x) or REFUTED.

    statement: the inequality in words and numbers; method: how it is decided; assumptions: what it rests on.
    """

    name: str
    subject: str
    verdict: str
    statement: str
    method: str
    seconds: float = 0.0
    assumptions: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Anything but REFUTED."""
        return self.verdict != REFUTED


def decided(good: bool) -> str:
    """PROVED or REFUTED."""
    return PROVED if good else REFUTED


def bounded(probability: Fraction) -> str:
    """BOUNDED(2^-x) with the largest x, in tenths of a bit, for which probability <= 2^-x; PROVED for zero."""
    if probability == 0:
        return PROVED
    return f"BOUNDED(2^-{_tenths(security_tenths(probability))})" if probability < 1 else REFUTED


def security_tenths(probability: Fraction) -> int:
    """The largest integer k with probability^10 2^k <= 1, by exact comparison; 0 < probability <= 1."""
    p, q = probability.numerator**10, probability.denominator**10
    k = q.bit_length() - p.bit_length()
    return k if p << k <= q else k - 1


def bits(value: Fraction | int) -> str:
    """2^x for a positive number, x rounded up to a tenth; 0 for zero."""
    if value == 0:
        return "0"
    exact = Fraction(value)
    if exact <= 1:
        return f"2^-{_tenths(security_tenths(exact))}"
    p, q = exact.numerator**10, exact.denominator**10
    k = p.bit_length() - q.bit_length()
    return f"2^{_tenths(k if p <= q << k else k + 1)}"


def _tenths(k: int) -> str:
    return f"{k // 10}.{k % 10}"


def power_of_half(exponent: Fraction) -> Fraction:
    """An upper bound on 2^-exponent for exponent >= 0, within a factor 2^(1/16) of it and of few digits."""
    sixteenths = min(int(exponent * 16), 16 * LARGEST_EXPONENT)
    whole, part = divmod(-sixteenths, 16)
    root = root_up((1 << 64) << part, 16)  # 2^4 2^(part / 16), rounded up
    return Fraction(root, 16) * Fraction(1, 1 << -whole) if whole < 0 else Fraction(root, 16)


def root_up(value: int, degree: int) -> int:
    """The smallest r with r^degree >= value."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < value else (low, middle)
    return low


def sqrt_up(value: Fraction | int) -> Fraction:
    """An upper bound on the square root, within 2^-20 of it (or relatively as close)."""
    exact = Fraction(value)
    scaled = (exact.numerator << 40) // exact.denominator
    return Fraction(isqrt(scaled) + 1, 1 << 20)


def decimal(value: Fraction, digits: int = 3) -> str:
    """A non-negative number rounded up to so many significant digits, as m.mme-x."""
    if value == 0:
        return "0"
    exponent = 0
    while value * 10 ** (-exponent) < 1:
        exponent -= 1
    while value * Fraction(10) ** (-exponent) >= 10:
        exponent += 1
    scaled = value * Fraction(10) ** (-exponent) * 10 ** (digits - 1)
    mantissa = -(-scaled.numerator // scaled.denominator)
    if mantissa >= 10**digits:
        mantissa, exponent = mantissa // 10, exponent + 1
    text = str(mantissa)
    head = text[0] + ("." + text[1:] if digits > 1 else "")
    return head if exponent == 0 else f"{head}e{exponent}"
