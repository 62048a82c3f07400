"""What both parties need to know of a product with the server's weights: counts, positions and bytes of its answers.
[SecMoE, Iron]

A plan is public: it depends on parameters and shapes only. Notation of the layouts: exponents of X below N; G
`spacing` between outputs; S2 `stride` between the columns of x (expert i sits i above them); chunks of columns are
told apart by oblivious expansion (a levels); blocks of outputs are merged by packing (b levels), those of one
upload first.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from protocols.he.layouts import Chunk, Layout, next_pow2
from protocols.he.ntt import Ints, bit_reverse
from protocols.he.params import ParamSet


def _parts(total: int, most: int) -> list[tuple[int, int]]:
    """total in parts of at most `most`: (size, number of parts)."""
    full, rest = divmod(total, most)
    return [(most, full)] * bool(full) + [(rest, 1)] * bool(rest)


class Plan(ABC):
    """What both parties need to know of a product with the server's weights [experts, f, d].

    One response ciphertext carries at most N outputs: more blocks than the spacing allows are merged in several groups.
    Without Galois keys every block is a response of its own.
    """

    params: ParamSet
    n: int
    d: int
    f: int
    experts: int
    order: str

    @property
    @abstractmethod
    def spacing(self) -> int:
        """G: distance of neighbouring outputs of a block."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """S2: distance of neighbouring columns."""

    @property
    @abstractmethod
    def n_out(self) -> int:
        """Outputs per block and token."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[int, ...]:
        """Shape of the result."""

    @property
    @abstractmethod
    def places(self) -> tuple[int, ...]:
        """Exponents of the outputs' windows, one for each token of a ciphertext."""

    @cached_property
    def response_positions(self) -> tuple[Ints, ...]:
        """Exponents of the outputs, one array for each response ciphertext: upload by upload, token by token."""
        places, leaves = np.array(self.places)[:, None], self._leaf_positions()
        return tuple(
            np.concatenate([(places[: held.size] + leaves[k][rows]).reshape(-1) for k, held in enumerate(uploads)])
            for uploads in self._answered() for rows in self._rows_answered())

    @cached_property
    def response_outputs(self) -> tuple[Ints, ...]:
        """Which outputs those are, as places in the flattened result: rows of the tokens that the uploads hold."""
        return tuple(
            np.concatenate([(held[:, None] * self.f + np.arange(rows.start, rows.stop)).reshape(-1)
                            for held in uploads])
            for uploads in self._answered() for rows in self._rows_answered())

    def _answered(self) -> list[list[Ints]]:
        """The tokens of each upload, for the uploads that are answered together."""
        each = len(self.places)
        held = [np.arange(low, min(low + each, self.n)) for low in range(0, self.n, each)]
        return [held[low: low + self.together] for low in range(0, len(held), self.together)]

    def _rows_answered(self) -> list[slice]:
        """The rows of the weights whose outputs one response holds."""
        most = self.group * self.n_out
        return [slice(low, min(low + most, self.f)) for low in range(0, self.f, most)]

    @abstractmethod
    def operand(self, word: str) -> Layout:
        """Layout of an upload."""

    @abstractmethod
    def chunks(self) -> list[Chunk]:
        """The weight chunks in the order of the operand ciphertexts."""

    @property
    def columns(self) -> int:
        """Columns of the weights."""
        return self.d

    @property
    def a(self) -> int:
        """Levels of oblivious expansion."""
        return 0

    @property
    def expansion_levels(self) -> int:
        """Levels of oblivious expansion of the operand that is expanded, those that tell tokens apart included."""
        return self.a

    @property
    def units(self) -> int:
        """What meets the weights: the ciphertexts of as many tokens as outputs have windows."""
        return -(-self.n // len(self.places))

    @property
    def expansion_elements(self) -> tuple[int, ...]:
        """Automorphisms of the expansion levels, in order of use."""
        return ()

    @property
    def blocks(self) -> int:
        """M: blocks of n_out output rows."""
        return -(-self.f // self.n_out)

    @property
    def group(self) -> int:
        """Blocks merged into one response."""
        if not self.params.galois:
            return 1
        return -(-self.blocks // -(-self.blocks // self.spacing))

    @property
    def together(self) -> int:
        """Uploads whose outputs one response holds."""
        return 1

    @property
    def most_together(self) -> int:
        """As many as find room, about as many each; one where nothing is merged, or not all blocks into one."""
        if not self.params.galois or self.group < self.blocks:
            return 1
        room = self.spacing // next_pow2(self.blocks)
        return -(-self.units // -(-self.units // room))

    @property
    def lift(self) -> int:
        """Powers of two by which the server multiplies the upload before the weights meet it."""
        return 0

    @property
    def placed(self) -> int:
        """Coefficients of weight polynomials that are written."""
        return self.experts * self.f * self.columns

    @property
    def upload_levels(self) -> int:
        """Levels of packing that merge the blocks of several uploads: the outermost."""
        return (self.together - 1).bit_length()

    @property
    def b(self) -> int:
        """Levels of packing."""
        return self.upload_levels + (self.group - 1).bit_length()

    @property
    def h(self) -> int:
        """Distance of the outputs of neighbouring blocks after packing."""
        return self.spacing >> self.b

    @property
    def packing_elements(self) -> tuple[int, ...]:
        """Automorphisms of the packing levels, the outermost first."""
        return tuple(self.params.n // (self.h << level) + 1 for level in range(self.b))

    @property
    def responses(self) -> int:
        """Number of response ciphertexts."""
        return sum(count for _, count in self._response_sizes())

    @cached_property
    def response_nbytes(self) -> int:
        """Bytes of the answer for all n tokens."""
        return sum(self.params.response_nbytes(size) * count for size, count in self._response_sizes())

    def _response_sizes(self) -> list[tuple[int, int]]:
        """How many outputs the responses carry: (outputs, responses), without their positions."""
        uploads, answers = _parts(self.n, len(self.places) * self.together), _parts(self.f, self.group * self.n_out)
        return [(held * rows, many * count) for held, many in uploads for rows, count in answers]

    def _leaf_positions(self) -> list[Ints]:
        """Exponents of the outputs, in order of their rows, for each upload of a response.

        Blocks are leaves of the packing tree from left to right (bit-reversed residues), so that absent blocks, and
        uploads, are whole subtrees.
        """
        rows, places = np.arange(self.f), bit_reverse(1 << self.b).reshape(1 << self.upload_levels, -1) * self.h
        blocks = rows // self.n_out % self.group
        return [rows % self.n_out * self.spacing + places[upload, blocks] for upload in range(self.together)]
