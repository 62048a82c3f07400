"""The plan of a plain product of vectors that go up for a selection anyway. [SecMoE, Iron]"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.he.layouts import Layout, ShapeDoesNotFit
from protocols.he.packing import LinearPlan
from protocols.he.selection import SelectPlan


@dataclass(frozen=True)
class ReadPlan(LinearPlan):
    """x W^T for the upload of x that a selection of [rows, d] matrices makes: nothing goes up for it.

    source: the selection. Columns sit where it has placed them, below its spacing G, so W_o,j at o G - (place of j)
    makes row o at o G. The server multiplies its copy by 2^lift, which the selection scales x lower by for its
    expansion, and switches it to q1.
    """

    source: SelectPlan = field(kw_only=True)

    @classmethod
    def of(cls, source: SelectPlan, f: int) -> "ReadPlan":
        """For a matrix [f, d]. Raises ShapeDoesNotFit where vectors of several tokens are interleaved."""
        return cls(source.params, source.n, source.d, f, source=source)

    def __post_init__(self) -> None:
        own = self.params, self.n, self.d, self.tokens, self.digits, self.parts, self.split, self.packed
        if own != (self.source.params, self.source.n, self.source.d, 0, 1, 1, 0, True) or self.f < 1:
            raise ShapeDoesNotFit("reading plan: expected the parameters and sizes of its selection and at least one "
                                  f"row, came n={self.n}, d={self.d}, f={self.f}")
        if self.source.shared > 1:
            raise ShapeDoesNotFit("reading plan: expected a vector of its own for every token, came "
                                  f"{self.source.shared} in one upload: take a plan with an upload of its own")

    @property
    def stride(self) -> int:
        """S2: distance of neighbouring columns."""
        return self.source.stride

    @property
    def spacing(self) -> int:
        """G: distance of neighbouring outputs."""
        return self.source.spacing

    @property
    def n_out(self) -> int:
        """Outputs per block and token."""
        return self.source.n_out

    @property
    def per_ciphertext(self) -> int:
        """Tokens in one ciphertext."""
        return self.source.tokens

    @property
    def places(self) -> tuple[int, ...]:
        """Exponents of the outputs' windows, one for each token of a ciphertext: where their columns begin."""
        return self.source.offsets

    @property
    def together(self) -> int:
        """Uploads whose outputs one response holds."""
        return self.most_together

    @property
    def lift(self) -> int:
        """Levels by which x is scaled lower than a product without expansion needs."""
        return self.operand("x").scale - self.params.ring_bits

    @property
    def nbytes(self) -> int:
        """Bytes of the responses: of the upload none is its own."""
        return self.response_nbytes

    @property
    def placed(self) -> int:
        """Coefficients of weight polynomials that are written."""
        return self.f * self._runs * self.operand("x").chunk

    def operand(self, word: str) -> Layout:
        """Layout of the upload "x", the selection's."""
        return self.source.operand("x") if word == "x" else super().operand(word)

    @property
    def _runs(self) -> int:
        """Exponents from the first chunk of columns to the last, both included."""
        layout = self.operand("x")
        return (-(-self.d // layout.chunk) - 1) * layout.step + 1

    def arranged(self, rows: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
        """Rows [1, r, d] as [exponent above a column of the first chunk, r, columns of a chunk], zero between chunks:
        as weights of a selection are, its experts."""
        layout, count = self.operand("x"), rows.shape[1]
        out = np.zeros((self._runs, count, layout.chunk), rows.dtype)
        for i, low in enumerate(range(0, self.d, layout.chunk)):
            part = rows[0, :, low : low + layout.chunk]
            out[i * layout.step, :, : part.shape[1]] = part
        return out
