"""Where the words of a shared operand sit in its uploads: pure arithmetic on exponents of X below N. [SecMoE, Iron]"""

from dataclasses import dataclass

import numpy as np

from protocols.he.ntt import Ints
from protocols.he.params import ParamSet


class ShapeDoesNotFit(ValueError):
    """A shape that the parameter set cannot hold."""


def next_pow2(x: int) -> int:
    """The smallest power of two >= x, for x >= 1."""
    return 1 << (x - 1).bit_length()


def expansion_elements(n: int, step: int, levels: int) -> tuple[int, ...]:
    """Automorphisms X -> X^g of the levels of an oblivious expansion, in order of use. Words sit at multiples of step;
    n: degree of the ring."""
    return tuple(n // (step << level) + 1 for level in range(levels))


@dataclass(frozen=True)
class Layout:
    """How one shared operand is uploaded; equal layouts can share an upload.

    shape: shape of the share. scale: words are encoded at q / 2^scale. Entry j of token k sits at exponent
    offsets[k mod per_ciphertext] + (j mod chunk) * stride + (j div chunk) * step of ciphertext k div per_ciphertext.
    digits: how often the words of a token go up, one after the other, each time multiplied by 2^digit_bits more.
    switched: q is q1 from the start, because no product of ciphertexts follows; else q0.
    split: so many columns to a ciphertext, 0 for all: a token's ciphertexts follow each other, column by column as
    above in each.
    levels: of a full oblivious expansion, after which the server puts the words of each token together again, word j of
    the k-th token of a resulting ciphertext at exponent homes[k] + j; 0: the ciphertexts stay as they are. Words sit at
    multiples of stride below 2^levels, and only coefficients of the first component at such multiples are sent: the
    levels kill whatever else is there, so the server takes zeros. What is sent is a projection of a fresh encryption.
    """

    params: ParamSet
    shape: tuple[int, ...]
    scale: int
    chunk: int
    stride: int
    step: int
    offsets: tuple[int, ...] = (0,)
    digits: int = 1
    digit_bits: int = 0
    switched: bool = False
    split: int = 0
    levels: int = 0
    homes: tuple[int, ...] = (0,)

    @property
    def period(self) -> int:
        """Exponents from a token to the next, a power of two, where the server takes them apart."""
        return self.stride * next_pow2(self.shape[-1])

    @property
    def results(self) -> int:
        """Ciphertexts of the operand, once the server has added its share."""
        return -(-self.tokens // len(self.homes)) if self.levels else self.count

    @property
    def sent(self) -> slice:
        """The coefficients of the first component that are sent."""
        return slice(0, None, self.stride if self.levels else 1)

    @property
    def sent_count(self) -> int:
        """How many they are."""
        return self.params.n // (self.stride if self.levels else 1)

    @property
    def expansion_elements(self) -> tuple[int, ...]:
        """Automorphisms by which the server takes the tokens apart."""
        return expansion_elements(self.params.n, 1, self.levels)

    @property
    def per_ciphertext(self) -> int:
        """Tokens in a full ciphertext."""
        return len(self.offsets)

    @property
    def tokens(self) -> int:
        """Rows of the share: one unless it is a matrix."""
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def count(self) -> int:
        """Number of ciphertexts."""
        return -(-self.tokens // self.per_ciphertext) * self.pieces

    @property
    def pieces(self) -> int:
        """Ciphertexts of one token."""
        return -(-self.shape[-1] // self.split) if self.split else 1

    @property
    def nbytes(self) -> int:
        """Bytes of the upload."""
        return self.count * self.each_nbytes

    @property
    def each_nbytes(self) -> int:
        """Bytes of one ciphertext."""
        return self.params.ciphertext_nbytes(self.switched, self.sent_count)

    def held(self, ciphertext: int) -> tuple[slice, slice]:
        """The tokens and the columns of the share that one ciphertext holds."""
        group, piece = divmod(ciphertext, self.pieces)
        first, low = group * self.per_ciphertext, piece * self.split
        return (
            slice(first, min(first + self.per_ciphertext, self.tokens)),
            slice(low, min(low + self.split, self.shape[-1]) if self.split else self.shape[-1]),
        )

    def positions(self, ciphertext: int) -> Ints:
        """Exponents [tokens held, digits * columns held] of the entries held by one ciphertext."""
        tokens, columns = self.held(ciphertext)
        width = (columns.stop - columns.start) * self.digits
        places, j = np.array(self.offsets[: tokens.stop - tokens.start])[:, None], np.arange(width)[None, :]
        exponents: Ints = places + j % self.chunk * self.stride + j // self.chunk * self.step
        return exponents


@dataclass(frozen=True)
class Chunk:
    """The weights that meet one operand ciphertext: experts [experts], columns [columns]."""

    experts: slice
    columns: slice
