"""128-bit security of a parameter set, from the primes that are used and not from their nominal lengths.

The table is that of the homomorphic encryption standard: the largest log2 of the whole modulus at ring degree N for a
uniform ternary secret, an error of standard deviation at least 8 / sqrt(2 pi), and 128 bits against classical attacks.
[HES18]
"""

from __future__ import annotations

import time
from fractions import Fraction
from math import prod

from proofs.limits.row import Bound, decided
from protocols.he.params import ParamSet
from protocols.he.sampling import ERROR_VARIANCE

CLASSICAL_128 = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
ERROR_VARIANCE_AT_LEAST = Fraction(32 * 10**5, 314159)  # above (8 / sqrt(2 pi))^2 = 32 / pi
ASSUMPTION = "RLWE at the standard's parameters; circular security of the switching keys"


def security(params: ParamSet) -> Bound:
    """Whether the largest modulus under which anything is encrypted, special primes included, is below the table's."""
    start = time.perf_counter()
    count = len(params.q_bits) + len(params.special_bits)
    largest = prod(params.primes[:count])
    cap = CLASSICAL_128.get(params.n)
    wide = Fraction(ERROR_VARIANCE) >= ERROR_VARIANCE_AT_LEAST
    within = cap is not None and largest < 1 << cap
    limit = f"the table's {cap} bits" if cap is not None else "no entry in the table"
    return Bound(
        "security",
        params.name,
        decided(within and wide),
        f"N = {params.n}: {'q P' if params.special_bits else 'q'} = product of {count} primes has "
        f"{largest.bit_length()} bits, {limit}; error variance {ERROR_VARIANCE} against 32/pi = 10.186",
        "table of the homomorphic encryption standard [HES18], exact product of the primes",
        time.perf_counter() - start,
        (ASSUMPTION,),
    )
