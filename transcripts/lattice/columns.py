"""What a corrupted client computes from the ciphertexts of a run, as arrays for its view: decrypted noise and residues.

An audit that compares classes of secrets looks at these beside the messages: the noise is where the weights would show,
the a-part where a missing encryption of zero would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from protocols.he.interface import Plan
from protocols.he.ntt import Ints
from sim.concrete import from_words
from sim.message import Message
from sim.ring import Ring, RingArray
from transcripts.lattice.evidence import Evidence, Run
from transcripts.lattice.noise import measured, scales

NOISE_BITS = 32
SHOWN_RESIDUES = 64  # of one a-part, evenly spread


def client_columns(
    plan: Plan, setup: Sequence[Message], messages: Sequence[Message], secret: Ints, plans: tuple[Plan, ...] = ()
) -> Iterator[tuple[str, RingArray]]:
    """(label, array) for every response of a plan in one run.

    Noise: Z_{2^32}, so scaled that flooding of the public amplitude fills the ring. A-part: residues modulo the first
    response prime at SHOWN_RESIDUES places, over the ring of the prime's length.
    """
    evidence = Evidence(plan, setup, [Run(messages)], secret, plans=plans)
    flood, rounding = scales(evidence)
    room = flood + 8 * rounding
    width = evidence.ring.response.primes[0].bit_length()
    places = np.linspace(0, evidence.ring.n - 1, SHOWN_RESIDUES).astype(np.int64)
    for response in evidence.responses:
        share = np.clip((measured(evidence, response) / room + 1) / 2, 0, 1 - 2.0**-NOISE_BITS)
        yield f"noise of {response.place}", from_words(Ring(NOISE_BITS), (share * 2.0**NOISE_BITS).astype(np.uint64))
        yield f"a-part of {response.place}", from_words(Ring(width), response.c1[0, places].astype(np.uint64))
