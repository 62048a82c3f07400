"""Where messages sit in ciphertexts: the coefficient layouts, counts and bytes of one product, as pure arithmetic.
[SecMoE, Iron]

A plan is public: it depends on parameters and shapes only. Notation of the layouts: exponents of X below N; G
`spacing` between outputs; S2 `stride` between the columns of x (expert i sits i above them); chunks of columns are
told apart by oblivious expansion (a levels); blocks of outputs are merged by packing (b levels).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protocols.he.ntt import Ints, bit_reverse
from protocols.he.params import ParamSet


class ShapeDoesNotFit(ValueError):
    """A shape that the parameter set cannot hold."""


def next_pow2(x: int) -> int:
    """The smallest power of two >= x, for x >= 1."""
    return 1 << (x - 1).bit_length()


@dataclass(frozen=True)
class Layout:
    """How one shared operand is uploaded; equal layouts can share an upload.

    shape: shape of the share. scale: words are encoded at q0 / 2^scale. Entry j of token k sits at exponent (k mod
    per_ciphertext) * token_stride + (j mod chunk) * stride + (j div chunk) * step of ciphertext k div per_ciphertext.
    """

    params: ParamSet
    shape: tuple[int, ...]
    scale: int
    chunk: int
    stride: int
    step: int
    per_ciphertext: int = 1
    token_stride: int = 0

    @property
    def tokens(self) -> int:
        """Rows of the share: one unless it is a matrix."""
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def count(self) -> int:
        """Number of ciphertexts."""
        return -(-self.tokens // self.per_ciphertext)

    @property
    def nbytes(self) -> int:
        """Bytes of the upload."""
        return self.count * self.params.ciphertext_nbytes()

    def positions(self, ciphertext: int) -> Ints:
        """Exponents [tokens held, length] of the entries held by one ciphertext."""
        held = min(self.per_ciphertext, self.tokens - ciphertext * self.per_ciphertext)
        token, j = np.arange(held)[:, None], np.arange(self.shape[-1])[None, :]
        return token * self.token_stride + j % self.chunk * self.stride + j // self.chunk * self.step


@dataclass(frozen=True)
class Chunk:
    """The weights that meet one operand ciphertext: experts [experts], columns [columns]."""

    experts: slice
    columns: slice


class Plan(ABC):
    """What both parties need to know of a product with the server's weights [experts, f, d].

    One response ciphertext carries at most N outputs: more blocks than the spacing allows are merged in several groups.
    Without Galois keys every block is a response of its own.
    """

    params: ParamSet
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
    def response_positions(self) -> tuple[Ints, ...]:
        """Exponents of the outputs for each response ciphertext."""

    @cached_property
    def response_outputs(self) -> tuple[Ints, ...]:
        """Which outputs those are, as places in the flattened result: in order, unless a plan says otherwise."""
        sizes = [places.size for places in self.response_positions]
        starts = np.cumsum([0, *sizes])
        return tuple(np.arange(size) + start for size, start in zip(sizes, starts, strict=False))

    @abstractmethod
    def operand(self, word: str) -> Layout:
        """Layout of an upload."""

    @abstractmethod
    def chunks(self) -> list[Chunk]:
        """The weight chunks in the order of the operand ciphertexts."""

    @property
    def a(self) -> int:
        """Levels of oblivious expansion."""
        return 0

    @property
    def expansion_elements(self) -> tuple[int, ...]:
        """Automorphisms of the expansion levels, in order of use."""
        return ()

    @property
    def factor(self) -> int:
        """Factor on the weights: stands in for packing levels that are borrowed from a deeper plan."""
        return 1

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
    def b(self) -> int:
        """Levels of packing."""
        return (self.group - 1).bit_length()

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
        return len(self.response_positions)

    @property
    def response_nbytes(self) -> int:
        """Bytes of the answer: for one token of a select plan, for all tokens of a linear plan."""
        return sum(self.params.response_nbytes(places.size) for places in self.response_positions)

    def _row_positions(self) -> tuple[Ints, ...]:
        """Exponents of the outputs, in order of their rows, for each response ciphertext of one token.

        Blocks are leaves of the packing tree from left to right (bit-reversed residues), so that absent blocks are
        whole subtrees.
        """
        held, places = self.group * self.n_out, bit_reverse(1 << self.b) * self.h
        rows = [np.arange(min(held, self.f - low)) for low in range(0, self.f, held)]
        return tuple(row % self.n_out * self.spacing + places[row // self.n_out] for row in rows)


@dataclass(frozen=True)
class SelectPlan(Plan):
    """sum_i t_i W_i x for one token: t one-hot of length experts, W_i of shape [f, d], both operands shared. [SecMoE
    Protocol 1]

    order "R": z = t x first, then the plaintext weights. order "L": the selected weights first, then x.
    levels: scale t for at least that many packing levels, so that plans of different depth share its upload.
    """

    params: ParamSet
    order: str
    experts: int
    d: int
    f: int
    levels: int = 0

    def __post_init__(self) -> None:
        if min(self.experts, self.d, self.f) < 1 or self.order not in ("R", "L"):
            raise ShapeDoesNotFit(f"select plan: expected order R or L and positive sizes, came {self.order!r}, "
                                  f"E={self.experts}, d={self.d}, f={self.f}")
        if self.spacing > self.params.n:
            advice = "a larger parameter set" if self.params.galois else "a set with Galois keys, such as P64s or P32"
            raise ShapeDoesNotFit(f"{self.params.name}: N = {self.params.n} is too small for E={self.experts}, "
                                  f"d={self.d} (needs {self.spacing}): take {advice}")

    @cached_property
    def small(self) -> bool:
        """One chunk, no expansion and no packing: the layout without Galois keys."""
        whole = next_pow2(self.experts) * next_pow2(self.d)
        return not self.params.galois or (whole <= self.params.n and self.params.n // whole >= self.f)

    @cached_property
    def stride(self) -> int:
        """S2: distance of neighbouring columns."""
        return next_pow2(self.experts) if self.small or self.order == "R" else 1

    @cached_property
    def spacing(self) -> int:
        """G: distance of neighbouring outputs of a block."""
        if self.small:
            return self.stride * next_pow2(self.d)
        return next_pow2(max(self.d, self.stride))

    @property
    def n_out(self) -> int:
        """Outputs per block."""
        return self.params.n // self.spacing

    @property
    def chunk(self) -> int:
        """m: columns of x that fit between two outputs."""
        return self.spacing // self.stride

    @property
    def chunk_count(self) -> int:
        """c: chunks of columns (order R) or of experts (order L)."""
        if self.small:
            return 1
        return -(-self.d // self.chunk) if self.order == "R" else self.experts

    @property
    def a(self) -> int:
        """Levels of oblivious expansion."""
        return (self.chunk_count - 1).bit_length()

    @property
    def depth(self) -> int:
        """Powers of two that packing (real, or borrowed from a deeper plan) multiplies in."""
        return max(self.b, self.levels)

    @property
    def factor(self) -> int:
        """Factor on the weights that stands in for the borrowed levels."""
        return 1 << (self.depth - self.b)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (self.f,)

    @property
    def step(self) -> int:
        """Exponent distance of the chunks (of x in order R, of t in order L) before the expansion."""
        return self.stride >> self.a if self.order == "R" else 1

    @property
    def expansion_elements(self) -> tuple[int, ...]:
        """Automorphisms of the expansion levels, in order of use."""
        return tuple(self.params.n // (self.step << level) + 1 for level in range(self.a))

    @cached_property
    def response_positions(self) -> tuple[Ints, ...]:
        """Exponents of the outputs, one array for each response ciphertext."""
        return self._row_positions()

    def operand(self, word: str) -> Layout:
        """Layout of the upload "t" (share of shape [experts]) or "x" ([d]); the expanded one is scaled 2^a lower."""
        scale = self.params.ring_bits + self.depth
        if word == "t":
            scale += self.a if self.order == "L" else 0
            return Layout(self.params, (self.experts,), scale, self.experts, 1, 0)
        if word != "x":
            raise ValueError(f"operand of a select plan: expected 't' or 'x', came {word!r}")
        if self.order == "L":
            return Layout(self.params, (self.d,), scale, self.d, self.stride, 0)
        step = self.step if self.a else 0
        return Layout(self.params, (self.d,), scale + self.a, min(self.chunk, self.d), self.stride, step)

    def chunks(self) -> list[Chunk]:
        """The weight chunks in the order of the operand ciphertexts."""
        everything = slice(0, self.experts)
        if self.small:
            return [Chunk(everything, slice(0, self.d))]
        if self.order == "L":
            return [Chunk(slice(i, i + 1), slice(0, self.d)) for i in range(self.experts)]
        return [Chunk(everything, slice(low, min(low + self.chunk, self.d))) for low in range(0, self.d, self.chunk)]


@dataclass(frozen=True)
class LinearPlan(Plan):
    """x W^T for shared x of shape [n, d] and the server's W of shape [f, d]; several tokens to a ciphertext where
    they fit.

    tokens: how many to a ciphertext; 0: as many as fit with all their outputs, so that nothing need be packed. More of
    them leave room for fewer outputs of each, in more blocks: merged where there are Galois keys, else more responses.
    """

    params: ParamSet
    n: int
    d: int
    f: int
    tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.n, self.d, self.f) < 1:
            raise ShapeDoesNotFit(f"linear plan: expected positive sizes, came n={self.n}, d={self.d}, f={self.f}")
        if not 0 <= self.tokens <= min(self.n, max(1, self.params.n // self.spacing)):
            raise ShapeDoesNotFit(f"linear plan: {self.params.name} holds {self.params.n // self.spacing} of {self.n} "
                                  f"tokens of {self.d} words in a ciphertext, came tokens={self.tokens}")
        if self.spacing > self.params.n:
            raise ShapeDoesNotFit(f"{self.params.name}: N = {self.params.n} is too small for rows of {self.d} words: "
                                  "split the columns over several products or take a larger parameter set")

    experts = 1
    order = "linear"

    @property
    def stride(self) -> int:
        """S2: columns lie side by side."""
        return 1

    @property
    def spacing(self) -> int:
        """G: distance of neighbouring outputs."""
        return next_pow2(self.d)

    @classmethod
    def fewest_bytes(cls, params: ParamSet, n: int, d: int, f: int) -> "LinearPlan":
        """The plan whose uploads and responses are shortest; of equals the one with the fewest blocks."""
        most = min(n, max(1, params.n // next_pow2(d)))
        plans = [cls(params, n, d, f, tokens) for tokens in range(most + 1)]
        return min(plans, key=lambda plan: (plan.operand("x").nbytes + plan.response_nbytes, plan.blocks))

    @property
    def n_out(self) -> int:
        """Outputs per block and token."""
        room = self.params.n // (self.spacing * self.per_ciphertext)
        return min(room, self.f) if self.per_ciphertext > 1 else room

    @property
    def per_ciphertext(self) -> int:
        """Tokens in one ciphertext."""
        return self.tokens or max(1, min(self.n, self.params.n // (self.spacing * self.f)))

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (self.n, self.f)

    @cached_property
    def response_positions(self) -> tuple[Ints, ...]:
        """Exponents of the outputs, one array for each response ciphertext."""
        stride = self.n_out * self.spacing
        return tuple((np.arange(held.size)[:, None] * stride + rows).reshape(-1)
                     for held in self._held() for rows in self._row_positions())

    @cached_property
    def response_outputs(self) -> tuple[Ints, ...]:
        """The outputs of each response ciphertext: some rows of the tokens that one upload holds."""
        most = self.group * self.n_out
        rows = [np.arange(low, min(low + most, self.f)) for low in range(0, self.f, most)]
        return tuple((held[:, None] * self.f + chosen).reshape(-1) for held in self._held() for chosen in rows)

    def _held(self) -> list[Ints]:
        """The tokens of each upload."""
        each = self.per_ciphertext
        return [np.arange(low, min(low + each, self.n)) for low in range(0, self.n, each)]

    def operand(self, word: str) -> Layout:
        """Layout of the upload "x" (share of shape [n, d])."""
        if word != "x":
            raise ValueError(f"operand of a linear plan: expected 'x', came {word!r}")
        scale = self.params.ring_bits + self.b
        return Layout(self.params, (self.n, self.d), scale, self.d, 1, 0, self.per_ciphertext,
                      self.n_out * self.spacing)

    def chunks(self) -> list[Chunk]:
        """The one weight chunk."""
        return [Chunk(slice(0, 1), slice(0, self.d))]


@dataclass(frozen=True)
class KeySet:
    """Which public keys a session needs: relinearisation, expansion elements (at q0 P) and packing elements (at q1
    P).
    """

    params: ParamSet
    relinearise: bool
    expansion: tuple[int, ...]
    packing: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the public keys: the encryption key at q1, and D (32 + N log2(QP) / 8) for each key of D digits."""
        p, wide_keys = self.params, int(self.relinearise) + len(self.expansion)
        wide = len(p.q_bits) * (32 + p.n * (p.q0_bits + p.special_bits) // 8)
        narrow = p.kept * (32 + p.n * (p.q1_bits + p.special_bits) // 8)
        return 32 + p.n * p.q1_bits // 8 + wide_keys * wide + len(self.packing) * narrow


def key_set(params: ParamSet, plans: Iterable[Plan]) -> KeySet:
    """The union of the keys that the plans need."""
    chosen = list(plans)
    if any(plan.params != params for plan in chosen):
        raise ValueError(f"key set: every plan of a session must use {params.name}")
    return KeySet(params, any(plan.order != "linear" for plan in chosen),
                  tuple(sorted({g for plan in chosen for g in plan.expansion_elements})),
                  tuple(sorted({g for plan in chosen for g in plan.packing_elements})))
