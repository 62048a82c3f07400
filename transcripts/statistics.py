"""Tests of whether two samples have one law: vectorised over many features, on sums that add up over blocks.

Every function takes counts or power sums, never the samples, so that a campaign can keep and merge them. p-values are
two-sided. A feature that does not vary at all has nothing to say and gets p = 1, unless it is constant in each sample
with different constants: then p = 0 (an infinite t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
RARE = 20  # bins with fewer observations in both samples together are one bin
CANCELLED = 1e-13  # a variance this small beside the mean square is rounding


@dataclass(frozen=True)
class Test:
    """p and effect per feature. tested: features that could differ at all (the others cannot be rejected)."""

    __test__ = False  # not a test case

    p: Floats
    effect: Floats
    tested: NDArray[np.bool_]


def chi2(a: Counts, b: Counts) -> Test:
    """Homogeneity of two histograms per row: counts (features, bins). effect: total variation distance.

    Rare bins are pooled. In the far tail of a rare cell the limit is conservative for samples of one size, and too
    small by a factor of less than three for sizes 2 : 1 (a rejection is confirmed on fresh runs besides).
    """
    from scipy.special import chdtrc

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    pooled = a + b
    rare = pooled < RARE
    a, b = (np.concatenate([np.where(rare, 0, v), np.where(rare, v, 0).sum(-1, keepdims=True)], -1) for v in (a, b))
    na, nb = a.sum(-1, keepdims=True), b.sum(-1, keepdims=True)
    total, pooled = na + nb, a + b
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(pooled > 0, (a * nb - b * na) ** 2 / (na * nb * pooled), 0).sum(-1)
        distance = np.abs(a / na - b / nb).sum(-1) / 2
    free = (pooled > 0).sum(-1) - 1
    fit = (free > 0) & (total[..., 0] > 0)
    p = np.where(fit, chdtrc(np.maximum(free, 1), np.nan_to_num(statistic)), 1.0)
    return Test(p, np.nan_to_num(distance), fit)


def power_sums(x: Floats) -> Floats:
    """Sums of x, x^2, x^3, x^4 and the number of rows, over axis 0: (5, features). Values should lie in [-1, 1]."""
    square = x * x
    return np.stack(
        [np.full(x.shape[1:], float(len(x))), x.sum(0), square.sum(0), (square * x).sum(0), (square**2).sum(0)]
    )


def welch(a: Floats, b: Floats, order: int = 1) -> Test:
    """Welch's t of the means (order 1) or of the centred squares (order 2), from power sums (5, features).

    effect: the difference in units of the pooled standard deviation of what is compared.
    """
    (na, ma, va, fa), (nb, mb, vb, fb) = (_central(v) for v in (a, b))
    if order == 1:
        gap, sa, sb = ma - mb, va, vb
        lost = (va <= CANCELLED * (va + ma**2)) | (vb <= CANCELLED * (vb + mb**2))
        # one sample may be constant and the other not; both constant is decided by exact counts elsewhere
        lost &= np.abs(gap) <= 1e-9 * (np.abs(ma) + np.abs(mb))
    else:
        gap, sa, sb = va - vb, np.maximum(fa - va**2, 0), np.maximum(fb - vb**2, 0)
        lost = np.maximum(va, vb) <= CANCELLED * (ma**2 + mb**2)
        lost |= np.abs(gap) <= 1e-9 * (va + vb)
    return _t_test(gap, sa, sb, na, nb, lost)


def _central(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """n, mean, variance and fourth central moment (divisor n)."""
    n, s1, s2, s3, s4 = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        m = s1 / n
        variance = np.maximum(s2 / n - m**2, 0)
        fourth = np.maximum(s4 / n - 4 * m * s3 / n + 6 * m**2 * s2 / n - 3 * m**4, 0)
    return n, m, variance, fourth


def _t_test(gap: Floats, sa: Floats, sb: Floats, na: Floats, nb: Floats, lost: NDArray[np.bool_]) -> Test:
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        ea, eb = sa / (na - 1), sb / (nb - 1)
        error = ea + eb
        t = gap / np.sqrt(error)
        free = error**2 / (ea**2 / (na - 1) + eb**2 / (nb - 1))
        effect = np.abs(gap) / np.sqrt((sa * na + sb * nb) / (na + nb))
    p = np.where(error > 0, 2 * stdtr(np.maximum(np.nan_to_num(free, nan=1.0), 1.0), -np.abs(np.nan_to_num(t))), 0.0)
    untested = lost | ((error <= 0) & (gap == 0)) | (na < 2) | (nb < 2)
    p = np.where(untested, 1.0, p)
    return Test(p, np.where(untested, 0.0, np.where(error > 0, effect, np.inf)), ~untested)


def holm(p: Sequence[float], level: float, family: int) -> int:
    """How many of the hypotheses are rejected, smallest p first, in a family that has `family` members.

    p: the smallest p-values of the family, sorted (all of them, or the first ones).
    """
    for i, value in enumerate(p):
        if value > level / (family - i):
            return i
    return len(p)


def threshold(level: float, family: int) -> float:
    """The p-value that the first of `family` hypotheses must reach."""
    return level / max(family, 1)


def detectable(first: int, second: int, level: float, family: int, power: float = 0.95) -> float:
    """Smallest shift of a mean, in standard deviations, that is found with this probability at the corrected level."""
    from scipy.special import ndtri

    z = -ndtri(threshold(level, family) / 2) + ndtri(power)
    return float(z * math.sqrt(1 / max(first, 1) + 1 / max(second, 1)))


def runs_for(shift: float, level: float, family: int, power: float = 0.95) -> int:
    """Runs of an audit (half, a quarter, a quarter) that find such a shift: see `detectable`."""
    return 4 * math.ceil((detectable(2, 1, level, family, power) / shift) ** 2)


def power_of(shift: float, first: int, second: int, level: float, family: int) -> float:
    """Probability that a shift of so many standard deviations is found at the corrected level."""
    from scipy.special import ndtr, ndtri

    z = -ndtri(threshold(level, family) / 2)
    drift = shift / math.sqrt(1 / first + 1 / second)
    return float(ndtr(drift - z) + ndtr(-drift - z))


def fisher(table: Any) -> float:
    """One-sided exact p of a 2 x 2 table [[a, b], [c, d]]: a at least this large, given the margins.

    This is the permutation distribution of the number of right answers among held-out labels, in closed form.
    """
    from scipy.stats import hypergeom

    (a, b), (c, d) = table
    if a + b + c + d == 0:
        return 1.0
    return float(hypergeom.sf(a - 1, a + b + c + d, a + b, a + c))


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson: the exact interval of a rate."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high
