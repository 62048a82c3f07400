"""Parameters of Ferret's learning parity with noise, and what the known attacks on them cost.

The noise is regular: every block of samples has one error. The parameters are those of [EmpOT], chosen there by an
estimator of the published attacks [LWYY22, BO23] as the least secure that still have 128 bits. `attack_bits` is a model
of our own, simpler than that estimator, of the two kinds of attack that come closest. It takes the code, ten random
places per sample, to be as good as a random one, as all of these do. The secret of b12, 4 MiB of keys, falls out of the
second-level cache: about twice the time of b10 for a third of its bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NODE_BYTES = 16
SECURITY = 128
OMEGA = 2.8  # exponent of linear algebra, as in these attacks' own estimates


class InsecureLpn(ValueError):
    """LPN parameters that a known attack breaks with less than 2^128 operations."""


@dataclass(frozen=True)
class Preset:
    """Regular LPN over F_2: `trees` blocks of 2^depth samples with one error each, a secret of 2^log_k bits."""

    name: str
    trees: int
    log_k: int
    depth: int

    @property
    def outputs(self) -> int:
        """COTs that an iteration makes: LPN samples."""
        return self.trees << self.depth

    @property
    def reserve(self) -> int:
        """COTs that an iteration consumes: the LPN secret, and one per level of every tree."""
        return (1 << self.log_k) + self.trees * self.depth

    @property
    def net(self) -> int:
        return self.outputs - self.reserve

    @property
    def nbytes(self) -> int:
        """Bytes of the message: a node for every tree and level but the first, where the COT is the node."""
        return self.trees * (self.depth - 1) * NODE_BYTES

    @property
    def unknowns(self) -> int:
        """Bits of the secret that are left once every block is known to have errors that add up to one."""
        return (1 << self.log_k) - self.trees


def gauss_bits(preset: Preset) -> float:
    """Guess as many samples without error as there are unknowns, evenly over the blocks, and solve for the secret."""
    guess = -preset.trees * math.log2(1 - preset.unknowns / preset.outputs)
    return guess + OMEGA * math.log2(preset.unknowns)


def hybrid_bits(preset: Preset) -> float:
    """Guess samples without error, as many in every block, until linear algebra gives the secret [BO23]: two samples of
    a block have the product zero, and there must be as many such equations as monomials of degree two.

    To guess in some of the blocks only gains less than one bit at the parameters below.
    """
    size = 1 << preset.depth
    for some in range(size):
        left = max(preset.unknowns - preset.trees * some, 2)
        if left**2 <= preset.trees * (size - some) ** 2:
            return -preset.trees * math.log2(1 - some / size) + OMEGA * math.log2(left**2 / 2)
    return math.inf


def attack_bits(preset: Preset) -> float:
    """log2 of the operations of the cheaper attack."""
    return min(gauss_bits(preset), hybrid_bits(preset))


def secure(preset: Preset) -> Preset:
    """The preset itself. Raises InsecureLpn."""
    bits = attack_bits(preset)
    if bits < SECURITY:
        raise InsecureLpn(
            f"LPN preset {preset.name}: expected {SECURITY} bits against the known attacks, got {bits:.1f}; take a "
            "longer secret or more blocks"
        )
    return preset


B10, B11, B12 = map(secure, (Preset("b10", 850, 16, 10), Preset("b11", 1170, 17, 11), Preset("b12", 1520, 18, 12)))
PRESETS = (B10, B11, B12)  # smallest first
