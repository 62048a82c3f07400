"""The words that a client decrypts: masked outputs, and whatever else a response carries."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocols.he.bfv import decode
from protocols.he.ntt import Floats
from transcripts.finding import Finding, bins_for, exact, statistical
from transcripts.lattice.evidence import Evidence, modular

Words = NDArray[np.uint64]


@lru_cache(maxsize=8)
def decrypted(evidence: Evidence) -> tuple[Words, ...]:
    """The word at every coefficient that a response carries."""
    basis, found = evidence.ring.response, []
    for response in evidence.responses:
        product = evidence.times_secret(response.c1, basis)[:, response.positions]
        phase: Floats = np.ascontiguousarray(modular(response.c0 + product, basis))
        found.append(decode(phase, evidence.plan.params.ring_bits, basis))
    return tuple(found)


def repeated(evidence: Evidence) -> Finding:
    """Pairs of responses that agree in at least two words at the same places: no mask was there, or not a fresh one."""
    found = decrypted(evidence)
    hits, n = [], 0
    for i in range(len(found)):
        for j in range(i):
            if found[i].size == found[j].size:
                n += 1
                if int((found[i] == found[j]).sum()) >= 2:
                    hits.append(f"{evidence.responses[j].place} and {evidence.responses[i].place}")
    return exact(
        "decrypted words",
        "two responses decrypt to the same words",
        n,
        hits,
        "words that repeat only when the inputs do, where the runs had other inputs",
    )


def uniform(evidence: Evidence) -> Finding:
    """Chi-square of the high bits of the bytes of decrypted words, all bits where there are enough."""
    from scipy.stats import chi2

    found = decrypted(evidence)
    size = evidence.plan.params.ring_bits // 8
    pieces = [w.view(np.uint8).reshape(-1, 8)[:, :size].reshape(-1) for w in found]
    values = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
    bins = bins_for(values.size, 256)
    mean = values.size / bins
    counts = np.bincount(values.astype(np.int64) * bins // 256, minlength=bins)
    p = float(chi2.sf(((counts - mean) ** 2 / mean).sum(), bins - 1)) if bins > 1 else 1.0
    return statistical(
        "decrypted words",
        "decrypted words are not uniform",
        values.size if bins > 1 else 0,
        p,
        "all responses",
        "structure that single bytes do not show",
    )


def analyse(evidence: Evidence) -> list[Finding]:
    """Every analysis of decrypted words. Needs the client's key."""
    return [repeated(evidence), uniform(evidence)]
