"""The client's side: errors of uploads and keys, the law of the secret, and keys that a division opens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from protocols.he.ntt import Floats, Ints
from protocols.he.ring_q import Basis
from protocols.he.sampling import ERROR_ETA, error
from transcripts.finding import FEWEST, Finding, exact, statistical
from transcripts.lattice.evidence import Evidence, KeyRow, centred, modular

LARGEST = 1 << 20  # above it a coefficient of an upload's phase carries a word; an error never gets near it


@lru_cache(maxsize=8)
def upload_errors(evidence: Evidence) -> tuple[Floats, ...]:
    """The phase c0 + a s of every upload: the error where no word sits, large elsewhere."""
    return tuple(
        centred(modular(u.c0 + evidence.times_secret(evidence.a_part(u.seed, u.basis), u.basis), u.basis), u.basis)
        for u in evidence.uploads
    )


@lru_cache(maxsize=8)
def key_errors(evidence: Evidence) -> tuple[Floats, ...]:
    """The error of every key row, read on a limb without payload."""
    found = []
    for row in evidence.key_rows:
        limb = _free(row)
        basis = _one(evidence, row.basis, limb)
        a = evidence.ring.inverse(evidence.a_part(row.seed, row.basis)[limb : limb + 1].copy(), basis)
        b = evidence.ring.inverse(row.b[limb : limb + 1].copy(), basis)
        found.append(centred(modular(b + evidence.times_secret(a, basis), basis), basis))
    return tuple(found)


def _free(row: KeyRow) -> int:
    return next(limb for limb in range(row.basis.size) if limb not in row.digit)


def _one(evidence: Evidence, basis: Basis, limb: int) -> Basis:
    """One prime of a basis as a basis."""
    return Basis(evidence.plan.params.primes, (int(basis.limbs[limb]),))


def _chi2(observed: dict[int, int], law: dict[int, float], n: int) -> float:
    """p of counts against a law; rare values are one bin, impossible ones give p = 0."""
    from scipy.stats import chi2

    if n == 0:
        return 1.0
    if any(value not in law for value in observed):
        return 0.0
    common = [v for v, share in law.items() if share * n > FEWEST]
    seen = [observed.get(v, 0) for v in common]
    want = [law[v] * n for v in common]
    rest = n - sum(want)
    statistic = sum((s - w) ** 2 / w for s, w in zip(seen, want, strict=True))
    free = len(common) - 1
    if rest > FEWEST:
        statistic, free = statistic + (n - sum(seen) - rest) ** 2 / rest, free + 1
    return float(chi2.sf(statistic, free))


def _counts(values: Floats) -> dict[int, int]:
    found, times = np.unique(values.astype(np.int64), return_counts=True)
    return {int(v): int(c) for v, c in zip(found, times, strict=True)}


def _binomial() -> dict[int, float]:
    whole = 2 * ERROR_ETA
    return {k - ERROR_ETA: math.comb(whole, k) / 2.0**whole for k in range(whole + 1)}


def error_law(evidence: Evidence) -> list[Finding]:
    """Chi-square of the errors of uploads and of keys against the centred binomial law."""
    findings = []
    for what, errors in (("uploads", upload_errors(evidence)), ("public keys", key_errors(evidence))):
        pooled = np.concatenate(errors) if errors else np.zeros(0)
        if what == "uploads":
            pooled = pooled[np.abs(pooled) < LARGEST]
        p = _chi2(_counts(pooled), _binomial(), pooled.size)
        findings.append(
            statistical(
                "error law",
                f"errors of {what} are not centred binomial",
                pooled.size,
                p,
                what,
                f"a deviation of less than about {8 / math.sqrt(max(pooled.size, 1)):.1%}",
            )
        )
    return findings


def secret_law(evidence: Evidence) -> Finding:
    """Chi-square of the secret's coefficients against uniform ternary ones."""
    values = np.zeros(0) if evidence.secret is None else evidence.secret.astype(np.float64)
    p = _chi2(_counts(values), {-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}, values.size)
    return statistical(
        "secret law",
        "the secret is not uniform ternary",
        values.size,
        p,
        "secret key",
        f"a bias of less than about {8 / math.sqrt(max(values.size, 1)):.1%}",
    )


def public_errors(evidence: Evidence) -> list[Finding]:
    """Errors that someone without the key knows: expanded from a seed on the wire, or equal in two places."""
    n = evidence.ring.n
    errors, uploads = upload_errors(evidence), evidence.uploads
    seeds = {u.seed: error(u.seed, n).astype(np.float64) for u in uploads}
    seeded = [
        u.place for u, e in zip(uploads, errors, strict=True) if any(_agree(e, known) for known in seeds.values())
    ]
    twice = [
        f"{uploads[j].place} and {uploads[i].place}"
        for i in range(len(uploads))
        for j in range(i)
        if _agree(errors[i], errors[j])
    ]
    pairs = len(uploads) * (len(uploads) - 1) // 2
    rows = [
        row.place
        for row, e in zip(evidence.key_rows, key_errors(evidence), strict=True)
        if np.array_equal(e, error(row.seed, n).astype(np.float64))
    ]
    blind = "errors expanded from the seed in another way"
    return [
        exact("public errors", "the error of an upload follows from a seed on the wire", len(uploads), seeded, blind),
        exact("public errors", "two uploads have the same error", pairs, twice, "errors that are related, not equal"),
        exact("public errors", "the error of a key follows from its seed", len(evidence.key_rows), rows, blind),
    ]


def _agree(x: Floats, y: Floats) -> bool:
    empty = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)
    return bool(empty.any() and np.array_equal(x[empty], y[empty]))


def divided(evidence: Evidence) -> Finding:
    """Keys that give the secret to the server: -b / a, or -(b - e) / a with e from the seed, is ternary."""
    hits = [row.place for row in evidence.key_rows if next(_secrets(evidence, row), None) is not None]
    return exact(
        "key division",
        "the secret is a quotient of two parts of a public key",
        len(evidence.key_rows),
        hits,
        "keys with a small error, which a lattice reduction would open",
    )


def _secrets(evidence: Evidence, row: KeyRow) -> Iterator[Ints]:
    """Ternary polynomials that a key row is a multiple of. No private side is used."""
    ring, limb = evidence.ring, _free(row)
    basis = _one(evidence, row.basis, limb)
    p = basis.primes[0]
    a = evidence.a_part(row.seed, row.basis)[limb].astype(np.int64)
    if not a.all():
        return
    inverse = np.array([[pow(int(v), -1, p) for v in a]], dtype=np.float64)
    known = ring.forward(ring.small(error(row.seed, ring.n), basis), basis)
    for noise in (np.zeros_like(known), known):
        b = modular(noise - row.b[limb : limb + 1], basis)
        quotient = centred(ring.inverse(ring.engine.multiply(b, inverse, basis.limbs), basis), basis)
        if (np.abs(quotient) <= 1).all():
            yield quotient.astype(np.int64)


def analyse(evidence: Evidence) -> list[Finding]:
    """Every analysis of the client's randomness. All but `divided` need the client's key."""
    if not evidence.uploads:
        return []
    return [*error_law(evidence), secret_law(evidence), *public_errors(evidence), divided(evidence)]
