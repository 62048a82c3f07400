"""What a corrupted client computes from the ciphertexts of a run, as arrays for its view: decrypted noise and residues.

An audit that compares classes of secrets looks at these beside the messages: the noise is where the weights would show,
the a-part where a missing encryption of zero would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from protocols.he.ntt import Floats
from sim.concrete import from_words, to_words
from sim.ring import Ring, RingArray
from transcripts.finding import Finding, bins_for, statistical
from transcripts.lattice.evidence import Evidence
from transcripts.lattice.noise import measured, scales
from transcripts.statistics import chi2

NOISE_BITS = 32
BINS = 64
SHOWN_RESIDUES = 64  # of one a-part, evenly spread


def client_columns(evidence: Evidence) -> Iterator[tuple[str, RingArray]]:
    """(label, array) for every response, noise and a-part in turn.

    Noise: Z_{2^32}, so scaled that flooding of the public amplitude fills the ring. A-part: residues modulo the first
    response prime at SHOWN_RESIDUES places, over the ring of the prime's length.
    """
    flood, rounding = scales(evidence)
    room = flood + 8 * rounding
    width = evidence.ring.response.primes[0].bit_length()
    places = np.linspace(0, evidence.ring.n - 1, SHOWN_RESIDUES).astype(np.int64)
    for response in evidence.responses:
        share = np.clip((measured(evidence, response) / room + 1) / 2, 0, 1 - 2.0**-NOISE_BITS)
        yield f"noise of {response.place}", from_words(Ring(NOISE_BITS), (share * 2.0**NOISE_BITS).astype(np.uint64))
        yield f"a-part of {response.place}", from_words(Ring(width), response.c1[0, places].astype(np.uint64))


def compared(first: Sequence[Evidence], second: Sequence[Evidence]) -> list[Finding]:
    """The columns of a session's answers on some inputs and on others, pooled: one law, whatever the secrets are."""
    found = []
    for kind in ("noise", "a-part"):
        a, b = (_pooled(evidences, kind) for evidences in (first, second))
        bins = bins_for(min(a.size, b.size), BINS)
        rows = [np.bincount((x * bins).astype(np.int64), minlength=bins)[None] for x in (a, b)]
        found.append(
            statistical(
                "other inputs",
                f"the {kind} of responses has another law on other inputs",
                a.size + b.size if bins > 1 else 0,
                float(chi2(*rows).p[0]) if bins > 1 else 1.0,
                "all responses",
                f"a deviation below about {math.sqrt(2 * BINS / max(min(a.size, b.size), 1)):.1%} of the law",
            )
        )
    return found


def _pooled(evidences: Sequence[Evidence], kind: str) -> Floats:
    """All columns of a kind as parts of their ring, in [0, 1)."""
    columns = [(label, x) for evidence in evidences for label, x in client_columns(evidence)]
    found = [to_words(x).reshape(-1) / 2.0**x.ring.l for label, x in columns if label.startswith(kind)]
    return np.concatenate(found) if found else np.zeros(0)
