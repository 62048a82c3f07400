"""The plan of a product with selected weights, of one token or of several to a ciphertext. [SecMoE Protocol 1]"""

from dataclasses import dataclass
from functools import cached_property

from protocols.he.layouts import Chunk, Layout, ShapeDoesNotFit, expansion_elements, next_pow2
from protocols.he.params import ParamSet
from protocols.he.plan import Plan

_GAP = 16  # one coefficient of so many is sent where selectors go up alone: few bytes, and a key switch for each
_CHUNK_COST = 5  # time to expand and multiply one chunk, in merges of two blocks


def spread(tokens: int) -> tuple[int, ...]:
    """The numbers 0, 1, 3, 4, 9, .. whose digits to base 3 are 0 and 1: of a_i + a_j = 2 a_k the right side has digits
    0 and 2, so no digit of the left one carries, a_i and a_j agree in each, and i = j = k.
    """
    return tuple(int(f"{k:b}", 3) for k in range(tokens))


@dataclass(frozen=True)
class SelectPlan(Plan):
    """sum_i t_i W_i x for each of n tokens: t one-hot of length experts, W_i of shape [f, d], both operands shared.
    [SecMoE Protocol 1]

    order "R": z = t x first, then the plaintext weights. order "L": the selected weights first, then x.
    n tokens of one ciphertext each have all their selectors in one upload (order R, as far as these are not too many
    and key switches are quiet: see `Layout.levels`), of which one coefficient in 16 goes up, the same for every number
    of experts; and as many as find room have their outputs in one response.
    compact: only the coefficients of the first component that carry selectors go up: fewer bytes, for more key switches
    and keys, log2 N in all.
    tokens: how many to a ciphertext. One product of ciphertexts multiplies every selector in one with every vector in
    the other: token k's own product is found in window 2 a_k, and all others elsewhere, because no three a are in
    arithmetic progression (see `spread`). Only the coefficients of own products leave.
    stacked: W_i is so many matrices above each other, of f / stacked rows each, answered together.
    """

    params: ParamSet
    order: str
    experts: int
    d: int
    f: int
    n: int = 1
    tokens: int = 1
    compact: bool = False
    stacked: int = 1

    def __post_init__(self) -> None:
        if min(self.experts, self.d, self.f, self.stacked) < 1 or self.order not in ("R", "L"):
            raise ShapeDoesNotFit(f"select plan: expected order R or L and positive sizes, came {self.order!r}, "
                                  f"E={self.experts}, d={self.d}, f={self.f}")
        if self.f % self.stacked:
            raise ShapeDoesNotFit(f"select plan: expected as many rows in each of {self.stacked} stacked matrices, "
                                  f"came f={self.f}: give a multiple")
        if not 1 <= self.tokens <= self.n or (self.tokens > 1 and not self.window):
            raise ShapeDoesNotFit(f"select plan: expected 1 to {self.n} tokens in a ciphertext, and room for as many "
                                  f"windows of E={self.experts} times {max(self.d, self.f)} words as they take, came "
                                  f"tokens={self.tokens}: take fewer")
        if self.compact and not (self.order == "R" and self.params.quiet):
            raise ShapeDoesNotFit(f"compact uploads: expected the re-associated order and a set with Galois keys whose "
                                  f"special prime is its longest, came {self.params.name} in order {self.order}: take "
                                  "P64s, or leave compact uploads out")
        if self.spacing > self.params.n:
            advice = "a larger parameter set" if self.params.galois else "a set with Galois keys, such as P64s or P32"
            raise ShapeDoesNotFit(f"{self.params.name}: N = {self.params.n} is too small for E={self.experts}, "
                                  f"d={self.d} (needs {self.spacing}): take {advice}")

    @cached_property
    def small(self) -> bool:
        """One chunk and no expansion; for one token no packing either: the layout without Galois keys."""
        whole = next_pow2(self.experts) * next_pow2(self.d)
        alone = whole <= self.params.n and self.params.n // whole >= self.f
        return not self.params.galois or self.tokens > 1 or alone

    @property
    def window(self) -> int:
        """Exponents that each product of a selector with a vector has to itself. The same for [f, d], however many
        are stacked, and [d, f], so that one upload of t serves all."""
        room = next_pow2(self.experts) * next_pow2(max(self.d, -(-self.f // self.stacked)))
        return self.params.n // (2 * spread(self.tokens)[-1] + 1) // room * room

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Exponents at which the tokens of a ciphertext begin."""
        return tuple(a * self.window for a in spread(self.tokens)) if self.tokens > 1 else (0,)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Exponents of the outputs' windows, one for each token of a ciphertext."""
        return tuple(2 * offset for offset in self.offsets)

    @cached_property
    def stride(self) -> int:
        """S2: distance of neighbouring columns."""
        return next_pow2(self.experts) if self.small or self.order == "R" else 1

    @cached_property
    def spacing(self) -> int:
        """G: distance of neighbouring outputs of a block. Twice as much of it means half as many chunks, each with a
        product of ciphertexts, and twice as many blocks, each with a merge: the cheapest. Of equals the least. With
        compact uploads the greatest of those that are cheapest for one of the stacked matrices: fewer chunks leave room
        for the vectors of others, see `shared`.
        """
        if self.small:
            return self.stride * next_pow2(self.d)
        least, n = next_pow2(max(self.d, self.stride)), self.params.n
        if self.order == "L" or least > n:
            return least
        sizes = [least << k for k in range((n // least).bit_length())]
        rows = self.f
        if self.compact:
            sizes.reverse()
            rows //= self.stacked
        return min(sizes, key=lambda size: _CHUNK_COST * -(-self.d * self.stride // size) + -(-rows * size // n))

    @cached_property
    def shared(self) -> int:
        """Vectors of one compact upload, a power of two: where chunks leave room between them, those of several tokens,
        which the expansion tells apart like chunks."""
        return min(self.step, next_pow2(self.n)) if self.compact and not self.small else 1

    @property
    def expansion_levels(self) -> int:
        """Levels of oblivious expansion of the operand that is expanded, those that tell tokens apart included."""
        return self.a + self.shared.bit_length() - 1

    @property
    def n_out(self) -> int:
        """Outputs per block and token."""
        return (self.window if self.tokens > 1 else self.params.n) // self.spacing

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
    def outputs(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self._rows(self.f)

    def _rows(self, width: int) -> tuple[int, ...]:
        """The shape of n tokens' words: a vector for one token."""
        return (self.n, width) if self.n > 1 else (width,)

    @property
    def step(self) -> int:
        """Exponent distance of the chunks (of x in order R, of t in order L) before the expansion."""
        return self.stride >> self.a if self.order == "R" else 1

    @property
    def expansion_elements(self) -> tuple[int, ...]:
        """Automorphisms of the expansion levels, of chunks and of selectors."""
        first = expansion_elements(self.params.n, self.step // self.shared, self.expansion_levels)
        return first + self.operand("t").expansion_elements

    @property
    def together(self) -> int:
        """Uploads whose outputs one response holds."""
        return self.most_together

    def _selectors(self) -> Layout:
        """Uploads of the selectors alone, which the server takes apart."""
        words, n = next_pow2(self.experts), self.params.n
        most = max(1, n // _GAP // words)
        each = -(-self.n // -(-self.n // most))
        room = words * next_pow2(each)
        stride = n // room if self.compact else min(_GAP, n // room)
        levels = (room * stride - 1).bit_length()
        offsets = tuple(k * words * stride for k in range(each))
        scale, homes = self.params.ring_bits + levels, self.offsets
        return Layout(self.params, self._rows(self.experts), scale, self.experts, stride, 0, offsets, levels=levels,
                      homes=homes)

    def operand(self, word: str) -> Layout:
        """Layout of the upload "t" (share of shape [n, experts]) or "x" ([n, d]), vectors for n = 1; the expanded one
        is scaled 2^a lower.
        """
        scale = self.params.ring_bits
        if word == "t":
            if self.compact or (self.order == "R" and self.tokens == 1 and self.params.quiet):
                return self._selectors()
            scale += self.a if self.order == "L" else 0
            return Layout(self.params, self._rows(self.experts), scale, self.experts, 1, 0, self.offsets)
        if word != "x":
            raise ValueError(f"operand of a select plan: expected 't' or 'x', came {word!r}")
        if self.order == "L":
            return Layout(self.params, self._rows(self.d), scale, self.d, self.stride, 0, self.offsets)
        step = self.step if self.a else 0
        chunk, offsets = min(self.chunk, self.d), self.offsets
        if self.shared > 1:
            offsets = tuple(k * (self.step // self.shared) for k in range(min(self.shared, self.n)))
        scale += self.expansion_levels
        return Layout(self.params, self._rows(self.d), scale, chunk, self.stride, step, offsets)

    def chunks(self) -> list[Chunk]:
        """The weight chunks in the order of the operand ciphertexts."""
        everything = slice(0, self.experts)
        if self.small:
            return [Chunk(everything, slice(0, self.d))]
        if self.order == "L":
            return [Chunk(slice(i, i + 1), slice(0, self.d)) for i in range(self.experts)]
        return [Chunk(everything, slice(low, min(low + self.chunk, self.d))) for low in range(0, self.d, self.chunk)]


def selection(
    params: ParamSet, order: str, experts: int, d: int, f: int, n: int, compact: bool = False, stacked: int = 1
) -> SelectPlan:
    """The plan for n tokens and [f, d] matrices, so many of them stacked, whose upload of t serves a plan for [d, f]
    matrices too.

    As many tokens to a ciphertext as there is room for, in ciphertexts that hold about as many each. Without Galois
    keys no more than leave all outputs of a matrix in one response.
    """
    def both(tokens: int) -> tuple[SelectPlan, SelectPlan]:
        first = SelectPlan(params, order, experts, d, f * stacked, n, tokens, compact, stacked)
        return first, SelectPlan(params, order, experts, f, d, n, tokens, compact)

    def fits(tokens: int) -> bool:
        try:
            plans = both(tokens)
        except ShapeDoesNotFit:
            return False
        return params.galois or all(plan.blocks <= plan.stacked for plan in plans)

    most = next((tokens for tokens in range(n, 1, -1) if fits(tokens)), 1)
    return both(-(-n // -(-n // most)))[0]
