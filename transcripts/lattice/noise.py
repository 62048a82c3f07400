"""The noise that a client decrypts: its law, its independence, and its regression on what the weights do to it.

What the client measures is the distance of a decrypted coefficient from the nearest message. At the response modulus
an honest response leaves uniform flooding plus the rounding of the switch, whatever the weights are.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from protocols.he.bfv import decode, encode
from protocols.he.noise import flood_target
from protocols.he.ntt import Floats
from protocols.he.sampling import flooding_bound
from transcripts.finding import Finding, bins_for, statistical
from transcripts.lattice.evidence import Evidence, Response, centred, modular

BINS = 32
MOST_PAIRS = 200


def measured(evidence: Evidence, response: Response) -> Floats:
    """The noise of the outputs of one response, at the response modulus."""
    ring, basis = evidence.ring, evidence.ring.response
    here = np.searchsorted(response.positions, response.outputs)
    c0 = response.c0[:, here] if response.positions.size != response.outputs.size else response.c0
    product = evidence.times_secret(response.c1, basis)[:, response.outputs]
    phase = modular(c0 + product, basis)
    bits = evidence.plan.params.ring_bits
    words = decode(np.ascontiguousarray(phase), bits, ring.response)
    return centred(modular(phase - encode(words, bits, basis), basis), basis)


@lru_cache(maxsize=8)
def noises(evidence: Evidence) -> tuple[Floats, ...]:
    """The noise of every response in order."""
    return tuple(measured(evidence, response) for response in evidence.responses)


def scales(evidence: Evidence) -> tuple[float, float]:
    """(amplitude of the flooding, standard deviation of the rounding) at the response modulus."""
    ring = evidence.ring
    ratio = ring.response.modulus / ring.q1.modulus
    return flooding_bound(flood_target(evidence.plan.params))[0] * ratio, math.sqrt(ring.n / 18 + 1 / 12)


def law(*parts: Evidence) -> Finding:
    """Chi-square of the pooled noise of a session's parts against uniform flooding plus Gaussian rounding."""
    from scipy.stats import chi2, norm

    pooled = np.concatenate([np.zeros(0), *(x for evidence in parts for x in noises(evidence))])
    flood, rounding = scales(parts[0])
    bins = bins_for(pooled.size, BINS)
    edges = np.linspace(-flood, flood, bins + 1)[1:-1]

    def below(x: Floats) -> Floats:
        """P(uniform + normal <= x): the mean of a normal distribution function over the interval."""

        def antiderivative(z: Floats) -> Floats:
            total: Floats = z * norm.cdf(z) + norm.pdf(z)
            return total

        high, low = (x + flood) / rounding, (x - flood) / rounding
        value: Floats = rounding / (2 * flood) * (antiderivative(high) - antiderivative(low))
        return value

    expected = np.diff(np.concatenate([[0.0], below(edges), [1.0]])) * pooled.size
    observed = np.bincount(np.searchsorted(edges, pooled), minlength=bins)
    p = float(chi2.sf(((observed - expected) ** 2 / expected).sum(), bins - 1)) if bins > 1 else 1.0
    return statistical(
        "noise law",
        "decrypted noise is not uniform flooding of the public amplitude",
        pooled.size if bins > 1 else 0,
        p,
        "all responses",
        f"a deviation of less than about {math.sqrt(2 * BINS / max(pooled.size, 1)):.1%} of the law",
    )


def _correlation_p(r: float, n: int) -> float:
    return math.erfc(abs(r) * math.sqrt(n) / math.sqrt(2)) if n else 1.0


def within(evidence: Evidence) -> Finding:
    """Correlation of neighbouring outputs of one response."""
    found = [x for x in noises(evidence) if x.size > 1]
    n = sum(x.size - 1 for x in found)
    flood, rounding = scales(evidence)
    variance = flood**2 / 3 + rounding**2
    r = sum(float((x[1:] * x[:-1]).sum()) for x in found) / (variance * n) if n else 0.0
    return statistical(
        "noise within",
        "neighbouring outputs have related noise",
        n,
        _correlation_p(r, n),
        "within responses",
        f"a correlation below {5 / math.sqrt(max(n, 1)):.3g}",
    )


def across(evidence: Evidence) -> Finding:
    """Correlation of the noise of two responses, coefficient by coefficient, for pairs of equal length."""
    found = noises(evidence)
    pairs = [(i, j) for i in range(len(found)) for j in range(i) if found[i].size == found[j].size > 1][:MOST_PAIRS]
    best, where, n = 1.0, "", 0
    for i, j in pairs:
        p = _pearson(found[i], found[j])
        n += found[i].size
        if p < best:
            best, where = p, f"{evidence.responses[i].place} and {evidence.responses[j].place}"
    return statistical(
        "noise across",
        "two responses have related noise",
        n,
        min(1.0, best * max(len(pairs), 1)),
        where,
        "relations other than linear ones at one coefficient",
    )


def _pearson(x: Floats, y: Floats) -> float:
    if x.std() == 0 or y.std() == 0:
        return 0.0 if np.array_equal(x, y) else 1.0
    return _correlation_p(float(np.corrcoef(x, y)[0, 1]), x.size)


def regression(evidence: Evidence) -> list[Finding]:
    """The measured noise on two functions of the weights: the noise of the product, and its rounding at the switch.

    Both are computed with the key from the response before it was randomised. A client that guesses weights can do the
    same.
    """
    found = noises(evidence)
    ring, params = evidence.ring, evidence.plan.params
    inherent, rounding = [], []
    for part, response in zip(evidence.plain_results, evidence.responses, strict=True):
        phase = modular(part[0] + evidence.times_secret(part[1], ring.q1), ring.q1)[:, response.outputs]
        phase = np.ascontiguousarray(phase)
        words = decode(phase, params.ring_bits, ring.q1)
        inherent.append(centred(modular(phase - encode(words, params.ring_bits, ring.q1), ring.q1), ring.q1))
        low = [evidence.switched(component) for component in part]
        after = modular(low[0] + evidence.times_secret(low[1], ring.response), ring.response)[:, response.outputs]
        target = encode(words, params.ring_bits, ring.response)
        rounding.append(centred(modular(after - target, ring.response), ring.response))
    y = np.concatenate(found) if found else np.zeros(0)
    return [
        statistical(
            "noise regression",
            f"decrypted noise follows {what}",
            y.size,
            _pearson(y, np.concatenate(x)) if x else 1.0,
            "all responses",
            f"a correlation below {5 / math.sqrt(max(y.size, 1)):.3g}",
        )
        for what, x in (
            ("the weights' product with the errors of the upload", inherent),
            ("the rounding of the weights' product", rounding),
        )
    ]


def shared(one: Evidence, two: Evidence) -> Finding:
    """The noise of the i-th response in two sessions with the same client and independent servers."""
    pairs = [(x, y) for x, y in zip(noises(one), noises(two), strict=False) if x.size == y.size > 1]
    best = min((_pearson(x, y) for x, y in pairs), default=1.0)
    return statistical(
        "two sessions",
        "two servers' responses have related noise",
        sum(x.size for x, _ in pairs),
        min(1.0, best * max(len(pairs), 1)),
        "responses of equal number",
        "a generator that is stepped on between the sessions",
    )


def analyse(evidence: Evidence) -> list[Finding]:
    """Every analysis of the noise. Needs the client's key; the regressions the weights and the server's shares too."""
    found = [law(evidence), within(evidence), across(evidence)]
    return [*found, *regression(evidence)] if evidence.complete else found
