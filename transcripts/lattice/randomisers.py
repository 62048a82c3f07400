"""The a-part of responses: whether it is re-randomised, freshly, and what it gives away when it is not.

c1 of a response is the result's c1, which the client can compute from weights it guesses, plus the c1 of an encryption
of zero. The difference to the one of the true weights must look uniform and never come twice.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from protocols.he.ntt import Floats
from protocols.he.packing import LinearPlan
from protocols.he.ring_q import Basis
from transcripts.finding import Finding, exact, statistical
from transcripts.lattice.evidence import Evidence, centred, modular
from transcripts.lattice.reduction import reduced

SMALL = 4.0  # rounding of two switches, and an error of the encryption of zero at the response modulus
BINS = 256
COEFFICIENTS = 5  # equations taken for one recovery
MOST_UNKNOWNS = 12


@lru_cache(maxsize=8)
def randomisers(evidence: Evidence) -> tuple[Floats, ...]:
    """Per response: c1 minus the c1 of the plain result, over the response modulus."""
    basis = evidence.ring.response
    return tuple(
        modular(response.c1 - evidence.switched(part[1]), basis)
        for response, part in zip(evidence.responses, evidence.plain_results, strict=True)
    )


def _small(x: Floats, evidence: Evidence) -> bool:
    """Few coefficients decide first: random ones are never small."""
    basis = evidence.ring.response
    return bool((np.abs(centred(x[:, :8], basis)) <= SMALL).all() and (np.abs(centred(x, basis)) <= SMALL).all())


def omitted(evidence: Evidence) -> Finding:
    """Responses whose a-part is a function of the weights alone."""
    hits = [
        response.place
        for response, r in zip(evidence.responses, randomisers(evidence), strict=True)
        if _small(r, evidence)
    ]
    return exact(
        "a-part",
        "the a-part of a response is the known one times the weights",
        len(evidence.responses),
        hits,
        "encryptions of zero that are weak without being absent",
    )


def reused(evidence: Evidence) -> Finding:
    """Pairs of responses with the same encryption of zero."""
    found, basis = randomisers(evidence), evidence.ring.response
    keys = [centred(x[:, :4], basis) for x in found]
    hits, n = [], 0
    for i in range(len(found)):
        for j in range(i):
            n += 1
            near = np.abs(keys[i] - keys[j]) <= 2 * SMALL
            if near.all() and _small(modular(found[i] - found[j], basis), evidence):
                hits.append(f"{evidence.responses[j].place} and {evidence.responses[i].place}")
    return exact(
        "zero reuse",
        "two responses carry one encryption of zero",
        n,
        hits,
        "encryptions of zero that are related without being equal",
    )


def guessable(evidence: Evidence) -> Finding:
    """Encryptions of zero whose randomness is a number: the public key itself, or its negative."""
    key = evidence.server_keys.encryption
    a = evidence.ring.inverse(key[1], evidence.ring.q1)
    guesses = [evidence.switched(a), evidence.switched(modular(-a, evidence.ring.q1))]
    basis = evidence.ring.response
    hits = [
        response.place
        for response, r in zip(evidence.responses, randomisers(evidence), strict=True)
        if any(_small(modular(r - guess, basis), evidence) for guess in guesses)
    ]
    return exact(
        "zero guess",
        "an encryption of zero has one ternary number as its randomness",
        2 * len(evidence.responses),
        hits,
        "randomness of larger support",
    )


def uniform(evidence: Evidence) -> Finding:
    """Chi-square of the randomisers' residues modulo the first prime."""
    from scipy.stats import chi2

    found = randomisers(evidence)
    values = np.concatenate([r[0] for r in found]) if found else np.zeros(0)
    counts = np.bincount((values * (BINS / evidence.ring.response.primes[0])).astype(np.int64), minlength=BINS)
    mean = values.size / BINS
    p = float(chi2.sf(((counts - mean) ** 2 / mean).sum(), BINS - 1)) if values.size else 1.0
    return statistical(
        "a-part law",
        "the randomised a-part is not uniform",
        values.size,
        p,
        "all responses",
        "structure that 256 bins of single coefficients do not show: the assumption is RLWE",
    )


def recovered(evidence: Evidence) -> list[Finding]:
    """The weights by lattice reduction: from one response, and from the difference of two, without a secret of the
    server's.

    Taken on where one upload meets at most MOST_UNKNOWNS weights of one block: a larger layer asks for a larger
    reduction of the same kind.
    """
    plan, blind = evidence.plan, "more weights than this reduction is run on; harder instances need more of the same"
    small = isinstance(plan, LinearPlan) and plan.f * plan.columns <= MOST_UNKNOWNS and not plan.b
    small = small and plan.responses == 1 and evidence.weights is not None
    found = []
    for claim, responses, needed in (
        ("the weights follow from one response", (0,), 1),
        ("the weights follow from the difference of two responses", (0, 1), 2),
    ):
        if not small or len(evidence.responses) < needed:
            found.append(exact("a-part recovery", claim, 0, [], blind))
            continue
        guess = weights_from(evidence, responses)
        true = np.asarray(evidence.weights).reshape(-1)
        hits = [evidence.responses[0].place] if guess is not None and np.array_equal(guess, true) else []
        found.append(exact("a-part recovery", claim, 1, hits, blind))
    return found


def weights_from(evidence: Evidence, responses: tuple[int, ...] = (0,)) -> np.ndarray | None:
    """The f d weights of a small linear plan that explain the a-part of a response, or of the difference of two.

    c1 = round(q_r / q1 (a w)) + c1 of an encryption of zero: where that is missing, or cancels, w is the short solution
    of a few modular equations with small errors, found by embedding them in a lattice. None where there is none.
    """
    plan, ring = evidence.plan, evidence.ring
    q1, response = ring.q1, ring.response
    signs = (1, -1)[: len(responses)]
    a = _integers(_combined([_a_part(evidence, i) for i in responses], signs, q1), q1.primes)
    sent = _combined([evidence.responses[i].c1[:, :COEFFICIENTS] for i in responses], signs, response)
    target = _integers(sent, response.primes)
    unknowns = [o * plan.spacing - j for o in range(plan.f) for j in range(plan.d)]
    step = q1.modulus // response.modulus
    weight = step >> 20
    rows = []
    for k, exponent in enumerate(unknowns):
        shifted = [_shifted(a, at, exponent, ring.n) for at in range(COEFFICIENTS)]
        rows.append([weight * int(k == i) for i in range(len(unknowns))] + shifted + [0])
    for i in range(COEFFICIENTS):
        rows.append([0] * len(unknowns) + [q1.modulus * int(i == j) for j in range(COEFFICIENTS)] + [0])
    raised = [int(v) * q1.modulus // response.modulus for v in target]
    rows.append([0] * len(unknowns) + raised + [step])
    for row in reduced(rows):
        if abs(row[-1]) == step:
            sign = -1 if row[-1] > 0 else 1
            return np.array([sign * v // weight for v in row[: len(unknowns)]], dtype=np.int64)
    return None


def _combined(parts: list[Floats], signs: tuple[int, ...], basis: Basis) -> Floats:
    total = np.zeros_like(parts[0])
    for sign, part in zip(signs, parts, strict=False):
        total = modular(total + sign * part, basis)
    return total


def _a_part(evidence: Evidence, upload: int) -> Floats:
    """The a-part of an upload at q1, in coefficients."""
    ring, found = evidence.ring, evidence.uploads[upload]
    a = evidence.a_part(found.seed, found.basis)
    if found.basis is ring.q1:
        return a
    return ring.inverse(ring.drop(ring.forward(a, ring.q0), ring.q0, ring.q1), ring.q1)


def _integers(residues: Floats, primes: tuple[int, ...]) -> list[int]:
    modulus = 1
    for p in primes:
        modulus *= p
    total = np.zeros(residues.shape[1], dtype=object)
    for row, p in zip(residues, primes, strict=True):
        rest = modulus // p
        total = total + row.astype(np.int64).astype(object) * (rest * pow(rest, -1, p))
    return [int(v) % modulus for v in total]


def _shifted(a: list[int], at: int, exponent: int, n: int) -> int:
    """Coefficient `at` of a(X) X^exponent modulo X^n + 1."""
    source = at - exponent
    return a[source] if 0 <= source < n else -a[source % n]


def shared(one: Evidence, two: Evidence) -> Finding:
    """Responses of two sessions, with the same client and independent servers, that carry one encryption of zero."""
    basis, hits, n = one.ring.response, [], 0
    for response, x in zip(one.responses, randomisers(one), strict=True):
        for y in randomisers(two):
            n += 1
            if _small(modular(x - y, basis), one):
                hits.append(response.place)
    return exact(
        "two sessions",
        "two servers' responses carry one encryption of zero",
        n,
        hits,
        "a generator that is stepped on between the sessions",
    )


def analyse(evidence: Evidence) -> list[Finding]:
    """Every analysis of the responses' a-parts; none without the weights and the server's shares."""
    if not evidence.complete:
        return []
    return [omitted(evidence), *recovered(evidence), reused(evidence), guessable(evidence), uniform(evidence)]
