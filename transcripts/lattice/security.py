"""Whether the parameters in use are 128-bit secure: the modulus against a table, from the primes themselves."""

from __future__ import annotations

import math
from types import MappingProxyType

from protocols.he.params import ParamSet
from transcripts.finding import Finding, exact

# Largest log2 of the whole modulus, uniform ternary secret, 128-bit classical. [HES18]
LARGEST_MODULUS = MappingProxyType({1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881})
MIN_KAPPA = 40


def parameters(params: ParamSet) -> Finding:
    """Exact: degree, product of the upload primes and the special ones, distinct NTT primes, kappa."""
    count = len(params.q_bits) + len(params.special_bits)
    primes = params.primes[:count]
    bits, cap = math.log2(math.prod(primes)), LARGEST_MODULUS.get(params.n, 0)
    hits = []
    if bits > cap:
        hits.append(f"N = {params.n}: a modulus of {bits:.1f} bits, at most {cap}")
    if len(set(primes)) < len(primes) or any(p % (2 * params.n) != 1 for p in primes):
        hits.append("the primes are not distinct and 1 modulo 2 N")
    if params.kappa < MIN_KAPPA:
        hits.append(f"kappa = {params.kappa}, at least {MIN_KAPPA}")
    return exact(
        "parameters",
        "the parameters are below 128-bit security",
        1,
        hits,
        "attacks that the table does not count; a secret or an error of another law",
    )
