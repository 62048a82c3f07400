"""Parameter sets that suit products without selection: shorter than those that multiply ciphertexts by ciphertexts.

A rival that is priced or run at SecMoE's own sets pays for room that it never uses. Both reach 128 bits.
"""

from __future__ import annotations

from protocols.he.params import ParamSet

# N = 8192 holds 218 bits: four primes and the special one of the packing keys.
PACKED = ParamSet("P64packed", 8192, 64, 18, (42,) * 4, 4, 50, (39, 39), 48, True)
# Without packing keys; a query of 128 experts of 768/3072 for 8 tokens, weights of rms 0.1, is within a session's
# budget.
UNPACKED = ParamSet("P64unpacked", 8192, 64, 18, (49, 49, 48), 3, 0, (38, 38), 40, False)
